//! Dropout.

use super::module;
use crate::path::{Mode, Path};
use tch::Tensor;

/// Sets numbers to zero at random while the model is trained, and scales the others so that the sum stays the same; in
/// validation, test and afterwards it does nothing.
#[derive(Debug)]
pub struct Dropout {
    probability: f64,
    mode: Mode,
}

/// Makes a [`Dropout`] layer that drops a number with this probability, between 0 and 1 (`torch.nn.Dropout`). It has no
/// parameters: `path` is the model's, which knows whether it is trained.
///
/// ```
/// # use lightcell::prelude::*;
/// # struct Net { l1: Linear, drop: Dropout }
/// # fn new(p: &Path) -> Net {
/// Net { l1: linear(p / "l1", 64, 10), drop: dropout(p, 0.5) }
/// # }
/// # fn forward(net: &Net, x: &Tensor) -> Tensor {
/// // in `forward`:
/// net.drop.forward(&net.l1.forward(x).relu())
/// # }
/// ```
pub fn dropout(path: &Path, probability: f64) -> Dropout {
    Dropout {
        probability,
        mode: path.mode(),
    }
}

impl Dropout {
    /// Any shape to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.dropout(self.probability, self.mode.training())
    }
}

module!(Dropout);
