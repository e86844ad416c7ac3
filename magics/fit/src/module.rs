//! The trait that a user's model implements.

mod step;

pub use step::{Loggable, Step, ValueBox};
pub(crate) use step::{Value, number};

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
    /// trains it when `net` holds it; a run with a seed of its own makes its weights anew from that seed, unless some were
    /// loaded or frozen.
    ///
    /// # Errors
    /// When it cannot be made.
    fn build(hparams: Self::HParams) -> Result<Fit<Self>> {
        Fit::build(hparams, &crate::Trainer::new())
    }

    /// The model of a checkpoint, ours or Lightning's, with the hyperparameters that it was made with; those that the file
    /// does not name have their defaults.
    ///
    /// ```no_run
    /// # use lightcell::prelude::*;
    /// # fn load<Net: LightningModule>() -> Result<()> {
    /// let fit = Net::load_from_checkpoint("epoch=2-step=48.ckpt")?;
    /// println!("{:?}", fit.hparams);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the file cannot be read, or its hyperparameters or parameters are not those of this model.
    fn load_from_checkpoint(path: impl AsRef<std::path::Path>) -> Result<Fit<Self>> {
        let path = path.as_ref();
        let hparams = match crate::checkpoint::hyper_parameters(path)? {
            serde_json::Value::Null => Self::HParams::default(),
            saved => serde_json::from_value(saved).map_err(|error| {
                let error = format!("the hyperparameters in {} do not fit: {error}", path.display());
                Error::new(Kind::Data, error)
            })?,
        };
        let mut fit = Self::build(hparams)?;
        fit.load_weights(path)?;
        Ok(fit)
    }

    /// Before all else of a run, the check of the validation step included.
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
    /// Before the first epoch of a run.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_train_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the last epoch of a run that did not fail.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_train_end(&mut self, _cx: &mut Step) -> Result<()> {
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
    /// Before the training step, with its batch. [`Step::skip_epoch`] leaves out this batch and the rest of the epoch.
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
    /// Before the gradients of the last optimizer step are set to zero, which is after the training step, as in
    /// Lightning.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_before_zero_grad(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before the backward pass, with the loss; of a window of accumulated batches, its share.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_before_backward(&mut self, _loss: &Tensor, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the backward pass: the gradients of the batch are there, added to those of its window.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_after_backward(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before an optimizer step, and before gradients are clipped. LBFGS, which computes the loss several times in a
    /// step, calls it once.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_before_optimizer_step(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before a validation; also before the check ahead of the first epoch ([`Step::sanity_checking`]).
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_validation_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After a validation.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_validation_end(&mut self, _cx: &mut Step) -> Result<()> {
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
    /// Before the validation step, with its batch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_validation_batch_start(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the validation step.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_validation_batch_end(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before a test.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_test_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After a test.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_test_end(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before the first test batch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_test_epoch_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the last test batch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_test_epoch_end(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before the test step, with its batch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_test_batch_start(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the test step.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_test_batch_end(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before predictions.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_predict_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After predictions.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_predict_end(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before the first prediction batch. Nothing is logged in predictions.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_predict_epoch_start(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the last prediction batch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_predict_epoch_end(&mut self, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Before the prediction step, with its batch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_predict_batch_start(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// After the prediction step.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_predict_batch_end(&mut self, _batch: &Self::Batch, _cx: &mut Step) -> Result<()> {
        Ok(())
    }
    /// Changes a batch before it goes to the device.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_before_batch_transfer(&mut self, batch: Self::Batch, _stage: Stage) -> Result<Self::Batch> {
        Ok(batch)
    }
    /// Changes a batch on the device, before the step: noise, flips, normalisation. In training, random numbers drawn here
    /// are a function of seed, epoch and batch.
    ///
    /// # Errors
    /// See [`on_fit_start`](LightningModule::on_fit_start).
    fn on_after_batch_transfer(&mut self, batch: Self::Batch, _stage: Stage) -> Result<Self::Batch> {
        Ok(batch)
    }
    /// Adds what a checkpoint is to keep of the model beside its parameters: `state["seen"] = self.seen.into()`.
    ///
    /// # Errors
    /// The checkpoint is not written.
    fn on_save_checkpoint(&self, _state: &mut serde_json::Value) -> Result<()> {
        Ok(())
    }
    /// Takes back what [`on_save_checkpoint`](LightningModule::on_save_checkpoint) added, when a run goes on from a checkpoint
    /// or is judged by one; the parameters are loaded then. What is not there reads as `null`.
    ///
    /// # Errors
    /// The run does not begin.
    fn on_load_checkpoint(&mut self, _state: &serde_json::Value) -> Result<()> {
        Ok(())
    }
}
