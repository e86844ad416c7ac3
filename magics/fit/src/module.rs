//! The trait that a user's model implements, and what its steps get to see.

use crate::batch::Batch;
use crate::error::{Error, Kind, Result};
use crate::fit::Fit;
use crate::optim::Optim;
use crate::path::Path;
use lightcell_events::run::Stage;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::Tensor;

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

    /// A model that is not yet trained, with these hyperparameters, on the device that `auto` names. `%fit net data`
    /// trains it when `net` holds it; a run with a seed of its own makes its weights anew from that seed.
    ///
    /// # Errors
    /// When it cannot be made.
    fn build(hparams: Self::HParams) -> Result<Fit<Self>> {
        Fit::build(hparams, &crate::Trainer::new())
    }

    /// Before the first batch of a run.
    ///
    /// # Errors
    /// Those of all hooks end the run; history and model are kept.
    fn on_fit_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the last batch of a run, however it ended.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_fit_end(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before the first batch of an epoch. What this and the other hooks of an epoch log stands in the epoch's record.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_train_epoch_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// At the end of an epoch, after its validation, as in Lightning.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_train_epoch_end(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before the training step, with its batch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_train_batch_start(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the optimizer's step.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_train_batch_end(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before the first validation batch of an epoch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_validation_epoch_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the last validation batch of an epoch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_validation_epoch_end(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
}

/// Where in the run a step is, and its logbook.
#[derive(Debug)]
pub struct Step {
    pub(crate) stage: Stage,
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) step: u64,
    pub(crate) lr: f64,
    pub(crate) logged: Vec<(String, Value)>,
    /// The first thing that could not be logged.
    pub(crate) fault: Option<Error>,
}

/// A logged value. A tensor is not read here: reading waits for the device.
#[derive(Debug)]
pub(crate) enum Value {
    Tensor(Tensor),
    Number(f64),
}

impl Value {
    pub(crate) fn copy(&self) -> Value {
        match self {
            Value::Number(number) => Value::Number(*number),
            Value::Tensor(tensor) => Value::Tensor(tensor.shallow_clone()),
        }
    }

    pub(crate) fn read(&self) -> f64 {
        match self {
            Value::Number(number) => *number,
            // Its size was checked when it was logged.
            Value::Tensor(tensor) => f64::try_from(tensor.reshape([-1]).get(0)).unwrap_or(f64::NAN),
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

macro_rules! loggable_numbers {
    ($($number:ty),*) => {
        $(impl Loggable for $number {
            fn value(&self) -> ValueBox {
                ValueBox(Value::Number(*self as f64))
            }
        })*
    };
}

loggable_numbers!(f64, f32, i64, u64, i32, usize);

impl Step {
    pub(crate) fn new(stage: Stage, epoch: u64, batch: u64, step: u64) -> Step {
        Step {
            stage,
            epoch,
            batch,
            step,
            lr: f64::NAN,
            logged: Vec::new(),
            fault: None,
        }
    }

    /// With the learning rate of the next optimizer step.
    pub(crate) fn with_lr(mut self, lr: f64) -> Step {
        self.lr = lr;
        self
    }

    /// Logs a value under a name. Over an epoch its mean is taken, weighted by the batches' sizes. A tensor is read later,
    /// so that the device need not be waited for; one with several elements ends the run with an error.
    pub fn log(&mut self, name: &str, value: &impl Loggable) {
        self.take(name, value.value());
    }

    // Not generic, so that it is compiled here and not in each cell.
    fn take(&mut self, name: &str, ValueBox(value): ValueBox) {
        if let Value::Tensor(tensor) = &value
            && (!tensor.defined() || tensor.numel() != 1)
        {
            let size = if tensor.defined() { tensor.size() } else { vec![0] };
            self.fault.get_or_insert_with(|| {
                Error::new(
                    Kind::Shape,
                    format!("`{name}` cannot be logged: it must have one element, not the shape {size:?}"),
                )
                .hint(format!("log its mean: `cx.log(\"{name}\", &value.mean(Kind::Float))`"))
            });
            return;
        }
        self.logged.push((name.to_owned(), value));
    }

    /// What could not be logged, as an error.
    pub(crate) fn checked(&mut self) -> Result<()> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// 0-based epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// 0-based batch in this loop.
    pub fn batch_idx(&self) -> u64 {
        self.batch
    }

    /// Learning rate of the next optimizer step, of the parameters that are in no group. `cx.log("lr", &cx.lr())` puts it
    /// into the history.
    pub fn lr(&self) -> f64 {
        self.lr
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
