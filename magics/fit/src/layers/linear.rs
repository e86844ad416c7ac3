//! The fully connected layer.

use super::{init, module};
use crate::path::Path;
use crate::summarize::{product, ran};
use tch::Tensor;

/// A fully connected layer: `x · weightᵀ + bias`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

/// Makes a [`Linear`] layer with parameters `weight` and `bias` under `path`; both are drawn from ±1/√`inputs`, the weight
/// first (`torch.nn.Linear`). Shape: `[…, inputs]` to `[…, outputs]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = linear(store.root() / "l1", 4, 3);
/// let x = Tensor::zeros([2, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [2, 3]);
/// ```
pub fn linear(path: Path, inputs: i64, outputs: i64) -> Linear {
    Linear::config(inputs, outputs).build(path)
}

/// A [`Linear`] layer that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct LinearConfig {
    inputs: i64,
    outputs: i64,
    bias: bool,
}

impl LinearConfig {
    /// Whether it adds a bias; it does.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> LinearConfig {
        self.bias = bias;
        self
    }

    /// Makes the layer.
    pub fn build(self, path: Path) -> Linear {
        path.module("Linear");
        Linear {
            weight: path.trained("weight", &init::weight(&[self.outputs, self.inputs], self.inputs)),
            bias: self
                .bias
                .then(|| path.trained("bias", &init::bias(self.outputs, self.inputs))),
        }
    }
}

impl Linear {
    /// A layer from so many numbers to so many.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let layer = Linear::config(4, 3).bias(false).build(store.root() / "l1");
    /// assert!(layer.bias.is_none());
    /// ```
    pub fn config(inputs: i64, outputs: i64) -> LinearConfig {
        LinearConfig {
            inputs,
            outputs,
            bias: true,
        }
    }

    /// The same weights once more, under another path.
    pub(super) fn copied(&self, path: &Path) -> Linear {
        path.module("Linear");
        Linear {
            weight: path.copied("weight", &self.weight),
            bias: self.bias.as_ref().map(|bias| path.copied("bias", bias)),
        }
    }

    /// `[…, in]` to `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = x.linear(&self.weight, self.bias.as_ref());
        ran(&self.weight, &y, || product(&self.weight, &y));
        y
    }
}

module!(Linear);
