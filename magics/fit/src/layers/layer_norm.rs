//! Layer normalisation.

use super::{init, module};
use crate::path::Path;
use crate::summarize::ran;
use tch::Tensor;

/// Normalises over the last dimensions of each sample.
#[derive(Debug)]
pub struct LayerNorm {
    /// As the normalised dimensions.
    pub weight: Option<Tensor>,
    /// As the normalised dimensions.
    pub bias: Option<Tensor>,
    shape: Vec<i64>,
    pub(crate) eps: f64,
}

/// Makes a [`LayerNorm`] layer over the last dimensions: weight 1, bias 0, eps 1e-5 (`torch.nn.LayerNorm`). Shape:
/// `[…, shape]` to the same.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = layer_norm(store.root() / "ln", &[8]);
/// let y = layer.forward(&Tensor::randn([2, 5, 8], (Kind::Float, Device::Cpu)));
/// assert!(y.mean_dim(-1, false, Kind::Float).abs().max().double_value(&[]) < 1e-5);
/// ```
pub fn layer_norm(path: Path, shape: &[i64]) -> LayerNorm {
    LayerNorm::config(shape).build(path)
}

/// A [`LayerNorm`] that is yet to be made.
#[derive(Debug, Clone)]
pub struct LayerNormConfig {
    shape: Vec<i64>,
    weight: bool,
    bias: bool,
}

impl LayerNormConfig {
    /// Whether it has a weight and a bias (`elementwise_affine`); it has.
    #[must_use]
    pub fn affine(mut self, affine: bool) -> LayerNormConfig {
        (self.weight, self.bias) = (affine, affine);
        self
    }

    /// Whether it has a bias; it has.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> LayerNormConfig {
        self.bias = bias;
        self
    }

    /// Makes the layer.
    pub fn build(self, path: Path) -> LayerNorm {
        path.module("LayerNorm");
        LayerNorm {
            weight: self
                .weight
                .then(|| path.trained("weight", &init::constant(&self.shape, 1.0))),
            bias: self
                .bias
                .then(|| path.trained("bias", &init::constant(&self.shape, 0.0))),
            shape: self.shape,
            eps: 1e-5,
        }
    }
}

impl LayerNorm {
    /// A normalisation over the last dimensions.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let layer = LayerNorm::config(&[4, 4]).bias(false).build(store.root() / "ln").eps(1e-6);
    /// assert!(layer.bias.is_none());
    /// ```
    pub fn config(shape: &[i64]) -> LayerNormConfig {
        LayerNormConfig {
            shape: shape.to_vec(),
            weight: true,
            bias: true,
        }
    }

    /// Sets what is added to the variance.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> LayerNorm {
        self.eps = eps;
        self
    }

    /// The same weights once more, under another path.
    pub(super) fn copied(&self, path: &Path) -> LayerNorm {
        path.module("LayerNorm");
        LayerNorm {
            weight: self.weight.as_ref().map(|weight| path.copied("weight", weight)),
            bias: self.bias.as_ref().map(|bias| path.copied("bias", bias)),
            shape: self.shape.clone(),
            eps: self.eps,
        }
    }

    /// The dimensions that it normalises over.
    pub(crate) fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// To the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = x.layer_norm(&self.shape, self.weight.as_ref(), self.bias.as_ref(), self.eps, true);
        if let Some(weight) = &self.weight {
            ran(weight, &y, || 0);
        }
        y
    }
}

module!(LayerNorm);
