//! Metrics over whole datasets, under torchmetrics' names. Each keeps sums (or all scores, where no sum will do), so that a
//! mean over an epoch is that of all its samples, whatever the batches' sizes; states of several processes merge to that of
//! all their samples.
//!
//! A metric is a field of the model; the validation step feeds it and logs it. Its value over the epoch is computed once, at
//! the epoch's end, and it begins anew:
//!
//! ```
//! use lightcell::prelude::*;
//!
//! lightcell::hparams! { Hp { classes: i64 = 3 } }
//! struct Net { layer: Linear, f1: metrics::F1Score }
//!
//! impl LightningModule for Net {
//!     type HParams = Hp;
//!     type Batch = (Tensor, Tensor);
//!     fn new(p: &Path, hp: &Hp) -> Net {
//!         let f1 = metrics::F1Score::multiclass(hp.classes).average(metrics::Average::Macro);
//!         Net { layer: linear(p / "layer", 4, hp.classes), f1 }
//!     }
//!     fn forward(&self, x: &Tensor) -> Tensor { self.layer.forward(x) }
//!     fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
//!         Ok(self.forward(x).cross_entropy_for_logits(y))
//!     }
//!     fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
//!         self.f1.update(&self.forward(x), y)?;
//!         cx.log("val_f1", &self.f1);
//!         Ok(())
//!     }
//! }
//!
//! let x = Tensor::randn([50, 4], (Kind::Float, Device::Cpu));
//! let y = x.narrow(1, 0, 3).argmax(1, false);
//! let (train, val) = TensorDataset::new(x, y)?.split(0.5)?;
//! let fit = Trainer::new().max_epochs(2).fit::<Net, _>(&Hp::default(), &Data::new(train).val(val).batch_size(7))?;
//! assert!(fit.history[1].metrics["val_f1"] <= 1.0);
//! # Ok::<(), Error>(())
//! ```

mod calibration;
mod classes;
mod inputs;
mod perplexity;
mod regression;
mod scores;

pub use calibration::{CalibrationError, Norm};
pub use classes::{Accuracy, Average, ConfusionMatrix, F1Score, Normalize, Precision, Recall};
pub use perplexity::Perplexity;
pub use regression::{MeanAbsoluteError, MeanSquaredError, R2Score};
pub(crate) use scores::roc_points;
pub use scores::{AUROC, AveragePrecision};

use crate::error::{Error, Kind, Result};
use std::cell::RefCell;
use std::rc::Rc;
use tch::{Device, Tensor};

/// What all metrics can do. A clone of a metric is the same metric: it shares its state.
pub trait Metric: std::fmt::Debug {
    /// Adds a batch of predictions and targets.
    ///
    /// # Errors
    /// When they are not what the metric is made for.
    fn update(&self, preds: &Tensor, target: &Tensor) -> Result<()>;

    /// The value over all that was added; NaN, when it has none.
    ///
    /// # Errors
    /// libtorch's own.
    fn compute(&self) -> Result<f64>;

    /// Begins anew.
    fn reset(&self);

    /// The sums, or scores, so far.
    fn state(&self) -> Vec<Tensor>;

    /// Adds the state of another metric of the same settings: of another process, or of an earlier part of the epoch.
    ///
    /// # Errors
    /// When it is that of a metric with other settings.
    fn merge_state(&self, other: &[Tensor]) -> Result<()>;
}

/// What a metric has seen. Clones share it.
#[derive(Debug, Clone, Default)]
struct State(Rc<RefCell<Vec<Tensor>>>);

impl State {
    /// Adds to sums.
    fn add(&self, sums: &Tensor) -> Result<()> {
        let mut state = self.0.borrow_mut();
        match state.first() {
            None => state.push(sums.shallow_clone()),
            Some(before) if before.size() == sums.size() => {
                let sums = sums.f_to_device(before.device())?;
                state[0] = before.f_add(&sums)?;
            }
            Some(before) => {
                return Err(Error::new(
                    Kind::Shape,
                    format!(
                        "states of {:?} and {:?} numbers do not merge: the metrics have other settings",
                        before.size(),
                        sums.size()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Merges another state of sums.
    fn add_all(&self, other: &[Tensor]) -> Result<()> {
        other.iter().try_for_each(|sums| self.add(sums))
    }

    /// Keeps more tensors.
    fn extend(&self, tensors: &[Tensor]) {
        let copies = tensors.iter().map(Tensor::shallow_clone);
        self.0.borrow_mut().extend(copies);
    }

    fn all(&self) -> Vec<Tensor> {
        self.0.borrow().iter().map(Tensor::shallow_clone).collect()
    }

    fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// The sums as numbers; none, when nothing was added.
    fn numbers(&self) -> Result<Option<Vec<f64>>> {
        match self.0.borrow().first() {
            Some(sums) => {
                let flat = sums
                    .f_to_device(Device::Cpu)?
                    .f_to_kind(tch::Kind::Double)?
                    .f_reshape([-1])?;
                Ok(Some(Vec::try_from(&flat)?))
            }
            None => Ok(None),
        }
    }
}

/// Gives a metric with a field `state` its trait and lets a step log it. What it updates and computes are functions of its
/// own, `added` and `value`.
macro_rules! metric {
    ($name:ident, $merge:ident) => {
        impl $name {
            /// Adds a batch of predictions and targets.
            ///
            /// # Errors
            /// When they are not what the metric is made for.
            pub fn update(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
                let _guard = tch::no_grad_guard();
                self.added(preds, target).map_err(|error| error.at(stringify!($name)))
            }

            /// Begins anew.
            pub fn reset(&self) {
                self.state.clear();
            }
        }

        impl Metric for $name {
            fn update(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
                $name::update(self, preds, target)
            }

            fn compute(&self) -> Result<f64> {
                let _guard = tch::no_grad_guard();
                self.value().map_err(|error| error.at(stringify!($name)))
            }

            fn reset(&self) {
                self.state.clear();
            }

            fn state(&self) -> Vec<Tensor> {
                self.state.all()
            }

            fn merge_state(&self, other: &[Tensor]) -> Result<()> {
                metric!(@$merge self, other)
            }
        }

        impl crate::module::Loggable for $name {
            fn value(&self) -> crate::module::ValueBox {
                crate::module::ValueBox(crate::module::Value::Metric(std::rc::Rc::new(self.clone())))
            }
        }
    };
    (@sums $self:ident, $other:ident) => { $self.state.add_all($other) };
    (@lists $self:ident, $other:ident) => {{
        $self.state.extend($other);
        Ok(())
    }};
}
pub(crate) use metric;

#[cfg(test)]
mod tests;
