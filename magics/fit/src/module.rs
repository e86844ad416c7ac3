//! The trait that a user's model implements, and what its steps get to see.

use crate::data::Batch;
use crate::error::{Error, Kind, Result};
use crate::optim::Optim;
use lightcell_events::run::Stage;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::Tensor;
use tch::nn::Path;

/// Hyperparameters: one struct with defaults, which is logged with the run. The macro [`hparams!`](crate::hparams) makes
/// one.
pub trait HParams: Clone + Default + std::fmt::Debug + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Default + std::fmt::Debug + Serialize + DeserializeOwned + 'static> HParams for T {}

/// A model together with how it is trained: PyTorch Lightning's `LightningModule`.
///
/// Only `new`, `forward` and `training_step` must be written. A method whose name is misspelt is an error of the
/// compiler that names the right one.
///
/// ```
/// use lightcell::prelude::*;
///
/// hparams! { Hp { hidden: i64 = 16, lr: f64 = 1e-2 } }
///
/// struct Net { l1: Linear, l2: Linear }
///
/// impl LightningModule for Net {
///     type HParams = Hp;
///     type Batch = (Tensor, Tensor);
///
///     fn new(p: &Path, hp: &Hp) -> Net {
///         Net { l1: linear(p / "l1", 4, hp.hidden), l2: linear(p / "l2", hp.hidden, 2) }
///     }
///     fn forward(&self, x: &Tensor) -> Tensor {
///         self.l2.forward(&self.l1.forward(x).relu())
///     }
///     fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
///         let loss = self.forward(x).cross_entropy_for_logits(y);
///         cx.log("train_loss", &loss);
///         Ok(loss)
///     }
///     fn configure_optimizers(&self, hp: &Hp) -> Optim {
///         adam(hp.lr)
///     }
/// }
///
/// let x = Tensor::randn([64, 4], (Kind::Float, Device::Cpu));
/// let y = x.sum_dim_intlist(1, false, Kind::Float).gt(0.0).to_kind(Kind::Int64);
/// let data = Data::new(TensorDataset::new(x, y)?).batch_size(16);
/// let fit = Trainer::new().max_epochs(20).seed(1).fit::<Net, _>(&Hp::default(), &data)?;
/// assert_eq!(fit.history.len(), 20);
/// assert!(fit.history[19].metrics["train_loss"] < fit.history[0].metrics["train_loss"]);
/// # Ok::<(), Error>(())
/// ```
pub trait LightningModule: Sized + 'static {
    /// The model's hyperparameters.
    type HParams: HParams;
    /// What the data gives: usually `(Tensor, Tensor)`, inputs and targets.
    type Batch: Batch;

    /// Makes the layers. Their parameters are registered on `path`, on the device on which the model is trained.
    fn new(path: &Path, hparams: &Self::HParams) -> Self;

    /// The model's output for an input.
    fn forward(&self, x: &Tensor) -> Tensor;

    /// The loss of one batch, a tensor with one element. What it logs appears in the plot and the history.
    ///
    /// # Errors
    /// Ends the run; history and model are kept.
    fn training_step(&mut self, batch: &Self::Batch, cx: &mut Step) -> Result<Tensor>;

    /// Logs what the validation data say of the model. Gradients are off.
    ///
    /// # Errors
    /// Ends the run; history and model are kept.
    fn validation_step(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }

    /// Logs what the test data say of the model; the validation step, when it is not written. Gradients are off.
    ///
    /// # Errors
    /// Ends the test.
    fn test_step(&mut self, batch: &Self::Batch, cx: &mut Step) -> Result<()> {
        self.validation_step(batch, cx)
    }

    /// What `predict` collects for a batch. Gradients are off.
    ///
    /// # Errors
    /// When the model does not define it.
    fn predict_step(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<Tensor> {
        Err(Error::new(Kind::Model, "the model has no predict_step")
            .hint("write `fn predict_step(&mut self, batch: &Self::Batch, cx: &mut Step) -> Result<Tensor>`"))
    }

    /// How the parameters are changed; Adam with a learning rate of 0.001 when it is not written.
    fn configure_optimizers(&self, _hparams: &Self::HParams) -> Optim {
        crate::optim::adam(1e-3)
    }

    /// Before the first batch.
    fn on_fit_start(&mut self) {}
    /// After the last batch, however the run ended.
    fn on_fit_end(&mut self) {}
    /// Before the first batch of an epoch.
    fn on_train_epoch_start(&mut self, _epoch: u64) {}
    /// After the last training batch of an epoch.
    fn on_train_epoch_end(&mut self, _epoch: u64) {}
    /// Before the first validation batch of an epoch.
    fn on_validation_epoch_start(&mut self, _epoch: u64) {}
    /// After the last validation batch of an epoch.
    fn on_validation_epoch_end(&mut self, _epoch: u64) {}
}

/// Where in the run a step is, and its logbook.
#[derive(Debug)]
pub struct Step {
    pub(crate) stage: Stage,
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) step: u64,
    pub(crate) logged: Vec<(String, Value)>,
}

/// A logged value. A tensor is not read here: reading waits for the device.
#[derive(Debug)]
pub(crate) enum Value {
    Tensor(Tensor),
    Number(f64),
}

impl Value {
    pub(crate) fn read(&self) -> f64 {
        match self {
            Value::Number(number) => *number,
            Value::Tensor(tensor) => f64::try_from(tensor).unwrap_or(f64::NAN),
        }
    }
}

/// What [`Step::log`] takes: a tensor with one element, or a number.
pub trait Loggable {
    #[doc(hidden)]
    fn value(&self) -> ValueBox;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct ValueBox(pub(crate) Value);

impl Loggable for Tensor {
    fn value(&self) -> ValueBox {
        ValueBox(Value::Tensor(self.detach()))
    }
}

impl Loggable for f64 {
    fn value(&self) -> ValueBox {
        ValueBox(Value::Number(*self))
    }
}

impl Loggable for f32 {
    fn value(&self) -> ValueBox {
        ValueBox(Value::Number(f64::from(*self)))
    }
}

impl Step {
    pub(crate) fn new(stage: Stage, epoch: u64, batch: u64, step: u64) -> Step {
        Step {
            stage,
            epoch,
            batch,
            step,
            logged: Vec::new(),
        }
    }

    /// Logs a value under a name. Over an epoch its mean is taken, weighted by the batches' sizes.
    pub fn log(&mut self, name: &str, value: &impl Loggable) {
        self.logged.push((name.to_owned(), value.value().0));
    }

    /// 0-based epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// 0-based batch in this loop.
    pub fn batch_idx(&self) -> u64 {
        self.batch
    }

    /// Optimizer steps since the beginning.
    pub fn global_step(&self) -> u64 {
        self.step
    }

    /// The loop.
    pub fn stage(&self) -> Stage {
        self.stage
    }
}
