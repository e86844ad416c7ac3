//! The transformer's encoder.

use super::attention::{AttentionMask, MultiheadAttention};
use super::dropout::Dropout;
use super::layer_norm::{LayerNorm, LayerNormConfig};
use super::linear::Linear;
use super::{dropout, module};
use crate::path::Path;
use tch::Tensor;

/// One layer of a transformer's encoder: attention to itself and two linear layers, each with a way around it.
#[derive(Debug)]
pub struct TransformerEncoderLayer {
    /// The attention.
    pub self_attn: MultiheadAttention,
    /// `d_model` to `dim_feedforward`.
    pub linear1: Linear,
    /// `dim_feedforward` to `d_model`.
    pub linear2: Linear,
    /// At the attention.
    pub norm1: LayerNorm,
    /// At the linear layers.
    pub norm2: LayerNorm,
    dropout: Dropout,
    config: TransformerConfig,
}

/// Several [`TransformerEncoderLayer`]s, one after another.
#[derive(Debug)]
pub struct TransformerEncoder {
    /// The layers.
    pub layers: Vec<TransformerEncoderLayer>,
    /// After the last one, if there is one.
    pub norm: Option<LayerNorm>,
}

/// Makes a [`TransformerEncoderLayer`] with PyTorch's defaults: 2048 numbers between the linear layers, dropout 0.1, relu,
/// normalised afterwards (`torch.nn.TransformerEncoderLayer`). Shape: `[time, n, d_model]` to the same.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = transformer_encoder_layer(store.root() / "t", 16, 4);
/// let x = Tensor::randn([5, 2, 16], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [5, 2, 16]);
/// ```
pub fn transformer_encoder_layer(path: Path, d_model: i64, nhead: i64) -> TransformerEncoderLayer {
    TransformerConfig::new(d_model, nhead).build(path)
}

/// Makes a [`TransformerEncoder`] of so many layers (`torch.nn.TransformerEncoder`). As there, all layers begin with the same
/// weights. Shape: `[time, n, d_model]` to the same.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let config = TransformerConfig::new(16, 4).dim_feedforward(32).batch_first().norm_first().gelu();
/// let encoder = transformer_encoder(store.root() / "t", config, 2);
/// let x = Tensor::randn([2, 5, 16], (Kind::Float, Device::Cpu));
/// assert_eq!(encoder.forward(&x).size(), [2, 5, 16]);
/// ```
pub fn transformer_encoder(path: Path, config: TransformerConfig, num_layers: usize) -> TransformerEncoder {
    path.module("TransformerEncoder");
    (&path / "layers").module("ModuleList");
    let mut layers: Vec<TransformerEncoderLayer> = Vec::new();
    for index in 0..num_layers {
        let path = &path / "layers" / index;
        let layer = match layers.first() {
            Some(first) => first.copied(&path),
            None => config.build(path),
        };
        layers.push(layer);
    }
    TransformerEncoder { layers, norm: None }
}

/// The settings of a transformer's layer that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct TransformerConfig {
    d_model: i64,
    nhead: i64,
    dim_feedforward: i64,
    dropout: f64,
    gelu: bool,
    layer_norm_eps: f64,
    batch_first: bool,
    norm_first: bool,
    bias: bool,
}

impl TransformerConfig {
    /// Vectors of `d_model` numbers, `nhead` heads.
    pub fn new(d_model: i64, nhead: i64) -> TransformerConfig {
        TransformerConfig {
            d_model,
            nhead,
            dim_feedforward: 2048,
            dropout: 0.1,
            gelu: false,
            layer_norm_eps: 1e-5,
            batch_first: false,
            norm_first: false,
            bias: true,
        }
    }

    /// Sets how many numbers are between the two linear layers.
    #[must_use]
    pub fn dim_feedforward(mut self, size: i64) -> TransformerConfig {
        self.dim_feedforward = size;
        self
    }

    /// Sets with which probability numbers are dropped while the model is trained.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> TransformerConfig {
        self.dropout = probability;
        self
    }

    /// `gelu` instead of `relu`.
    #[must_use]
    pub fn gelu(mut self) -> TransformerConfig {
        self.gelu = true;
        self
    }

    /// Sets what the normalisations add to the variance.
    #[must_use]
    pub fn layer_norm_eps(mut self, eps: f64) -> TransformerConfig {
        self.layer_norm_eps = eps;
        self
    }

    /// Takes and gives `[n, time, d_model]` instead of `[time, n, d_model]`.
    #[must_use]
    pub fn batch_first(mut self) -> TransformerConfig {
        self.batch_first = true;
        self
    }

    /// Normalises what goes into the attention and the linear layers, not what comes out.
    #[must_use]
    pub fn norm_first(mut self) -> TransformerConfig {
        self.norm_first = true;
        self
    }

    /// Whether layers add a bias; they do.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> TransformerConfig {
        self.bias = bias;
        self
    }

    /// Makes one layer.
    pub fn build(self, path: Path) -> TransformerEncoderLayer {
        named(&path);
        let norm = |name: &str| {
            let norm: LayerNormConfig = LayerNorm::config(&[self.d_model]).bias(self.bias);
            norm.build(&path / name).eps(self.layer_norm_eps)
        };
        let linear =
            |name: &str, inputs: i64, outputs: i64| Linear::config(inputs, outputs).bias(self.bias).build(&path / name);
        TransformerEncoderLayer {
            self_attn: MultiheadAttention::config(self.d_model, self.nhead)
                .dropout(self.dropout)
                .bias(self.bias)
                .batch_first(self.batch_first)
                .build(&path / "self_attn"),
            linear1: linear("linear1", self.d_model, self.dim_feedforward),
            linear2: linear("linear2", self.dim_feedforward, self.d_model),
            norm1: norm("norm1"),
            norm2: norm("norm2"),
            dropout: dropout(&path, self.dropout),
            config: self,
        }
    }
}

/// PyTorch's names of a layer's modules.
fn named(path: &Path) {
    path.module("TransformerEncoderLayer");
    (path / "self_attn").module("MultiheadAttention");
    (path / "self_attn" / "out_proj").module("NonDynamicallyQuantizableLinear");
    let rest = [
        ("linear1", "Linear"),
        ("dropout", "Dropout"),
        ("linear2", "Linear"),
        ("norm1", "LayerNorm"),
        ("norm2", "LayerNorm"),
        ("dropout1", "Dropout"),
        ("dropout2", "Dropout"),
    ];
    for (name, class) in rest {
        (path / name).module(class);
    }
}

impl TransformerEncoderLayer {
    /// The same weights once more, under another path and without a random draw.
    fn copied(&self, path: &Path) -> TransformerEncoderLayer {
        named(path);
        TransformerEncoderLayer {
            self_attn: self.self_attn.copied(&(path / "self_attn")),
            linear1: self.linear1.copied(&(path / "linear1")),
            linear2: self.linear2.copied(&(path / "linear2")),
            norm1: self.norm1.copied(&(path / "norm1")),
            norm2: self.norm2.copied(&(path / "norm2")),
            dropout: dropout(path, self.config.dropout),
            config: self.config,
        }
    }

    /// To the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_masked(x, AttentionMask::default())
    }

    /// To the same shape, attending to what the masks let it.
    pub fn forward_masked(&self, x: &Tensor, mask: AttentionMask) -> Tensor {
        let attend = |x: &Tensor| self.dropout.forward(&self.self_attn.forward_masked(x, x, x, mask));
        let feed = |x: &Tensor| {
            let inner = self.linear1.forward(x);
            let inner = if self.config.gelu {
                inner.gelu("none")
            } else {
                inner.relu()
            };
            let inner = self.dropout.forward(&inner);
            self.dropout.forward(&self.linear2.forward(&inner))
        };
        if self.config.norm_first {
            let x = x + attend(&self.norm1.forward(x));
            &x + feed(&self.norm2.forward(&x))
        } else {
            let x = self.norm1.forward(&(x + attend(x)));
            self.norm2.forward(&(&x + feed(&x)))
        }
    }
}

impl TransformerEncoder {
    /// Adds a normalisation after the last layer, under `path`, which is the encoder's.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let path = store.root() / "t";
    /// let encoder = transformer_encoder(path.clone(), TransformerConfig::new(8, 2), 1).norm(path);
    /// assert!(encoder.norm.is_some());
    /// ```
    #[must_use]
    pub fn norm(mut self, path: Path) -> TransformerEncoder {
        let size = self.layers.first().map_or(1, |layer| layer.config.d_model);
        self.norm = Some(super::layer_norm(path / "norm", &[size]));
        self
    }

    /// To the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_masked(x, AttentionMask::default())
    }

    /// To the same shape, attending to what the masks let it.
    pub fn forward_masked(&self, x: &Tensor, mask: AttentionMask) -> Tensor {
        let x = self
            .layers
            .iter()
            .fold(x.shallow_clone(), |x, layer| layer.forward_masked(&x, mask));
        self.norm.as_ref().map_or(x.shallow_clone(), |norm| norm.forward(&x))
    }
}

module!(TransformerEncoderLayer, TransformerEncoder);
