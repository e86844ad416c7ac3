//! Dropout.

use super::{init, module};
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
/// use lightcell::prelude::*;
/// # hparams! { Hp { p: f64 = 0.5 } }
/// struct Net { l1: Linear, drop: Dropout }
/// # impl LightningModule for Net {
/// #     type HParams = Hp;
/// #     type Batch = (Tensor, Tensor);
/// fn new(p: &Path, hp: &Hp) -> Net {
///     Net { l1: linear(p / "l1", 4, 2), drop: dropout(p, hp.p) }
/// }
/// fn forward(&self, x: &Tensor) -> Tensor {
///     self.drop.forward(&self.l1.forward(x).relu())
/// }
/// #     fn training_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<Tensor> { Ok(self.forward(x).mean(Kind::Float)) }
/// # }
/// let net = Net::build(Hp::default())?;
/// let x = Tensor::ones([3, 4], (Kind::Float, Device::Cpu)).to_device(net.model.l1.weight.device())?;
/// // Nothing is dropped: the model is not being trained.
/// assert_eq!(net.model.forward(&x), net.model.l1.forward(&x).relu());
/// # Ok::<(), Error>(())
/// ```
pub fn dropout(path: &Path, probability: f64) -> Dropout {
    path.module("Dropout");
    Dropout {
        probability: init::probability(path, probability),
        mode: path.mode(),
    }
}

impl Dropout {
    /// The probability with which it drops now.
    pub(crate) fn now(&self) -> f64 {
        if self.mode.training() { self.probability } else { 0.0 }
    }

    /// Any shape to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.dropout(self.probability, self.mode.training())
    }
}

module!(Dropout);
