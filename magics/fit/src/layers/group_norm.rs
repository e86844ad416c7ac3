//! Group normalisation.

use super::{init, module};
use crate::error::{Error, Kind};
use crate::path::Path;
use crate::summarize::ran;
use tch::Tensor;

/// Normalises groups of channels of each sample.
#[derive(Debug)]
pub struct GroupNorm {
    /// `[channels]`
    pub weight: Tensor,
    /// `[channels]`
    pub bias: Tensor,
    groups: i64,
    eps: f64,
}

/// Makes a [`GroupNorm`] layer: weight 1, bias 0, eps 1e-5 (`torch.nn.GroupNorm`). The channels must be a multiple of the
/// groups. Shape: `[n, channels, …]` to the same.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = group_norm(store.root() / "gn", 2, 6);
/// let x = Tensor::ones([3, 6, 5], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [3, 6, 5]);
/// ```
pub fn group_norm(path: Path, groups: i64, channels: i64) -> GroupNorm {
    if groups < 1 || channels % groups != 0 {
        let error = format!("{channels} channels cannot be normalised in {groups} groups");
        path.fault(Error::new(Kind::Model, error).hint("the channels must be a multiple of the groups"));
    }
    path.module("GroupNorm");
    GroupNorm {
        weight: path.trained("weight", &init::constant(&[channels], 1.0)),
        bias: path.trained("bias", &init::constant(&[channels], 0.0)),
        groups,
        eps: 1e-5,
    }
}

impl GroupNorm {
    /// Sets what is added to the variance.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> GroupNorm {
        self.eps = eps;
        self
    }

    /// To the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = x.group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true);
        ran(&self.weight, &y, || 0);
        y
    }
}

module!(GroupNorm);
