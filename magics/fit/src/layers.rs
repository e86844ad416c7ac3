//! Layers with PyTorch's initialisation, order of random draws and parameter names: the same seed gives the same weights
//! as `torch.manual_seed` does there, on every device, and a `state_dict` fits.
//!
//! tch's own layers draw from a range 2.4 times as wide and in another order. Each kind of layer has a short form,
//! `linear(p / "l1", 4, 3)`, and where more can be chosen before the weights are drawn, a long one,
//! `Linear::config(4, 3).bias(false).build(p / "l1")`. What changes no weight is set on the layer itself.

mod attention;
mod batch_norm;
mod conv;
mod conv_transpose;
mod dropout;
mod embedding;
mod group_norm;
pub(crate) mod init;
mod layer_norm;
mod linear;
mod pooling;
mod recurrent;
mod sequential;
mod transformer;

pub use attention::{AttentionConfig, AttentionMask, MultiheadAttention, multihead_attention};
pub use batch_norm::{
    BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, BatchNormConfig, batch_norm1d, batch_norm2d, batch_norm3d,
};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d, ConvConfig, Sizes, conv1d, conv2d, conv3d};
pub use conv_transpose::{
    ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTransposeConfig, conv_transpose1d, conv_transpose2d,
};
pub use dropout::{Dropout, dropout};
pub use embedding::{Embedding, EmbeddingConfig, embedding};
pub use group_norm::{GroupNorm, group_norm};
pub use layer_norm::{LayerNorm, LayerNormConfig, layer_norm};
pub use linear::{Linear, LinearConfig, linear};
pub use pooling::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d, adaptive_avg_pool1d,
    adaptive_avg_pool2d, avg_pool1d, avg_pool2d, max_pool1d, max_pool2d,
};
pub use recurrent::{GRU, LSTM, RNN, RecurrentConfig, gru, lstm, rnn};
pub use sequential::{Sequential, SequentialBuilder, sequential};
pub use transformer::{
    TransformerConfig, TransformerEncoder, TransformerEncoderLayer, transformer_encoder, transformer_encoder_layer,
};

/// Lets a layer be used where tch asks for one, in [`Sequential`] for example.
macro_rules! module {
    ($($layer:ty),*) => {
        $(impl tch::nn::Module for $layer {
            fn forward(&self, x: &tch::Tensor) -> tch::Tensor {
                <$layer>::forward(self, x)
            }
        })*
    };
}
use module;

#[cfg(test)]
mod tests;
