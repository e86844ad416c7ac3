//! Models that are known by name, with the parameter names of torchvision for those that it has: a `state_dict` fits.
//!
//! | model | input | output | parameter names of |
//! |---|---|---|---|
//! | [`lenet`] | `[n, 1, 28, 28]` | `[n, classes]` | `conv1`, `conv2`, `fc1`, `fc2`, `fc3` |
//! | [`resnet18`], [`resnet34`], [`resnet50`] | `[n, 3, h, w]` | `[n, classes]` | torchvision |
//! | [`mobilenet_v2`] | `[n, 3, h, w]` | `[n, classes]` | torchvision |
//! | [`vit_b_16`] | `[n, 3, 224, 224]` | `[n, classes]` | torchvision |
//! | [`unet`] | `[n, channels, h, w]`, multiples of 8 | `[n, classes, h, w]` | `down.0.conv1`, … |
//! | [`lstm_tagger`] | `[n, time]`, whole numbers | `[n, time, tags]` | `word_embeddings`, `lstm`, `hidden2tag` |
//! | [`gpt`] | `[n, time]`, whole numbers | `[n, time, vocab]` | minGPT |
//!
//! Initial weights are those that the same seed gives in PyTorch. [`crate::StateDict`] reads weights from files, and
//! [`crate::onnx`] writes models for other programs.
//!
//! ```
//! use lightcell::prelude::*;
//! use lightcell::models::resnet18;
//! let store = Store::new(Device::Cpu);
//! let net = resnet18(store.root(), 10);
//! let x = Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu));
//! assert_eq!(net.forward(&x).size(), [1, 10]);
//! assert_eq!(store.parameters()[0].0, "conv1.weight");
//! ```

mod gpt;
mod lenet;
mod lstm_tagger;
mod mobilenet;
mod resnet;
mod unet;
mod vit;

pub use gpt::{Gpt, GptConfig, Sampling, gpt};
pub use lenet::{LeNet, lenet};
pub use lstm_tagger::{LstmTagger, lstm_tagger};
pub use mobilenet::{MobileNetV2, mobilenet_v2};
pub use resnet::{ResNet, resnet18, resnet34, resnet50};
pub use unet::{UNet, unet};
pub use vit::{VisionTransformer, VitConfig, vit_b_16};

use crate::flow::{Eager, FlowModule};
use tch::Tensor;

/// `forward`, and a model as a layer.
macro_rules! forward {
    ($($model:ty: $shapes:literal),* $(,)?) => {
        $(impl $model {
            #[doc = $shapes]
            pub fn forward(&self, x: &Tensor) -> Tensor {
                self.flow(&mut Eager, x)
            }
        }

        impl tch::nn::Module for $model {
            fn forward(&self, x: &Tensor) -> Tensor {
                <$model>::forward(self, x)
            }
        })*
    };
}

forward!(
    LeNet: "`[n, 1, 28, 28]` to `[n, classes]`.",
    ResNet: "`[n, 3, h, w]` to `[n, classes]`.",
    MobileNetV2: "`[n, 3, h, w]` to `[n, classes]`.",
    VisionTransformer: "`[n, 3, size, size]` to `[n, classes]`.",
    UNet: "`[n, channels, h, w]`, of sizes that are multiples of 8, to `[n, classes, h, w]`.",
    LstmTagger: "`[n, time]`, numbers of words, to `[n, time, tags]`.",
    Gpt: "`[n, time]`, numbers of tokens and at most `block_size` of them, to `[n, time, vocab]`: what comes next.",
);
