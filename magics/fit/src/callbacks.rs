//! What watches a run and acts on it, from outside of the model.

mod accumulation;
mod acting;
mod all;
mod averaging;
mod device_stats;
mod early_stopping;
mod ema;
mod lr_monitor;
mod model_checkpoint;
mod model_summary;
mod swa;
mod timer;

pub use accumulation::GradientAccumulationScheduler;
pub(crate) use all::{Callbacks, Kept};
pub use device_stats::DeviceStatsMonitor;
pub use early_stopping::{EarlyStopping, EarlyStoppingReason};
pub use ema::EMAWeightAveraging;
pub use lr_monitor::LearningRateMonitor;
pub use model_checkpoint::ModelCheckpoint;
pub use model_summary::ModelSummary;
pub use swa::{AnnealingStrategy, StochasticWeightAveraging, SwaStart};
pub use timer::Timer;

use crate::error::{Error, Result};
use crate::optim::Optimizer;
use crate::path::Store;
use lightcell_events::run::Metrics;
use serde::Deserialize;
use serde_json::Value;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tch::Tensor;

/// Whether less or more is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MonitorMode {
    /// Less is better: a loss.
    #[default]
    Min,
    /// More is better: an accuracy.
    Max,
}

impl MonitorMode {
    /// Whether `a` is better than `b`; never, when one of them is no number.
    pub(crate) fn better(self, a: f64, b: f64) -> bool {
        match self {
            MonitorMode::Min => a < b,
            MonitorMode::Max => a > b,
        }
    }

    /// What everything is better than.
    pub(crate) fn worst(self) -> f64 {
        match self {
            MonitorMode::Min => f64::INFINITY,
            MonitorMode::Max => f64::NEG_INFINITY,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            MonitorMode::Min => "min",
            MonitorMode::Max => "max",
        }
    }
}

/// What a callback may do to the run's files; done in this order when its hook has returned.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Save(PathBuf),
    Remove(PathBuf),
    /// One pass over the training data for the statistics of batch normalisation.
    UpdateBatchNorm,
}

/// What a [`Callback`] sees of a run, and how it acts on it.
#[derive(Debug)]
pub struct Run<'a> {
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) step: u64,
    pub(crate) lr: f64,
    pub(crate) metrics: &'a Metrics,
    pub(crate) root: &'a Path,
    pub(crate) hparams: &'a Value,
    /// Whether validations come elsewhere than at the ends of epochs: what monitors then looks after each of them.
    pub(crate) within: bool,
    pub(crate) stop: Option<String>,
    pub(crate) actions: Vec<Action>,
    pub(crate) store: &'a Store,
    pub(crate) optimizer: &'a mut Optimizer,
    /// Losses of the optimizer steps that were read.
    pub(crate) losses: &'a [f64],
    /// The epoch at which the run ends.
    pub(crate) max_epochs: u64,
    /// The 0-based step of what is logged now, and how many lie between two rows.
    pub(crate) log_step: u64,
    pub(crate) log_every_n_steps: u64,
    pub(crate) logging: bool,
    pub(crate) logged: Metrics,
    pub(crate) notes: Vec<String>,
    /// Whether the run came to its end, and was not stopped by the user.
    pub(crate) completed: bool,
}

impl Run<'_> {
    /// 0-based epoch; at an epoch's end, the one that ends.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// 0-based batch in the epoch.
    pub fn batch_idx(&self) -> u64 {
        self.batch
    }

    /// Optimizer steps since the beginning.
    pub fn global_step(&self) -> u64 {
        self.step
    }

    /// Learning rate of the next optimizer step.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// What was logged, as means over the newest epoch that has them: Lightning's `callback_metrics`.
    pub fn metrics(&self) -> &Metrics {
        self.metrics
    }

    /// The folder for files of this run: the logger's, or the trainer's `default_root_dir`.
    pub fn dir(&self) -> &Path {
        self.root
    }

    /// The model's hyperparameters as a JSON object.
    pub fn hparams(&self) -> &Value {
        self.hparams
    }

    /// Ends the run after the batch or epoch at hand. The reason is a sentence for the user.
    pub fn stop(&mut self, reason: impl Into<String>) {
        self.stop.get_or_insert(reason.into());
    }

    /// Writes a checkpoint when the hook has returned; folders are made. A failure ends the run.
    pub fn save_checkpoint(&mut self, path: impl Into<PathBuf>) {
        self.actions.push(Action::Save(path.into()));
    }

    /// Removes a checkpoint after those before it are written.
    pub fn remove_checkpoint(&mut self, path: impl Into<PathBuf>) {
        self.actions.push(Action::Remove(path.into()));
    }
}

/// Watches a run: PyTorch Lightning's `Callback`. Only the hooks that are needed are written;
/// [`Trainer::callback`](crate::Trainer::callback) takes it. To look at it after the run, give it as `Rc<RefCell<…>>`.
///
/// ```
/// use lightcell::prelude::*;
/// use std::{cell::RefCell, rc::Rc};
/// # hparams! { Hp { size: i64 = 2 } }
/// # struct Net(Linear);
/// # impl LightningModule for Net {
/// #     type HParams = Hp;
/// #     type Batch = (Tensor, Tensor);
/// #     fn new(p: &Path, hp: &Hp) -> Net { Net(linear(p / "l", 3, hp.size)) }
/// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
/// #     fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
/// #         Ok(self.forward(x).mse_loss(y, lightcell::tch::Reduction::Mean))
/// #     }
/// # }
/// # let zeros = |n| Tensor::zeros([8, n], (Kind::Float, Device::Cpu));
/// # let data = Data::new(TensorDataset::new(zeros(3), zeros(2))?);
/// #[derive(Default)]
/// struct Steps(Vec<u64>);
/// impl Callback for Steps {
///     fn on_train_epoch_end(&mut self, run: &mut Run) -> Result<()> {
///         self.0.push(run.global_step());
///         if run.epoch() == 1 {
///             run.stop("two epochs are enough");
///         }
///         Ok(())
///     }
/// }
/// let steps = Rc::new(RefCell::new(Steps::default()));
/// let trainer = Trainer::new().max_epochs(9).callback(steps.clone());
/// trainer.fit::<Net, _>(&Hp::default(), &data)?;
/// assert_eq!(steps.borrow().0, [1, 2]);
/// # Ok::<(), Error>(())
/// ```
#[expect(
    unused_variables,
    reason = "hooks do nothing unless written, and their parameters' names are documentation"
)]
pub trait Callback {
    /// Before the first batch of a run, and before a checkpoint's state is taken back.
    ///
    /// # Errors
    /// Those of all hooks end the run; history and model are kept.
    fn setup(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// Before the first batch of a run.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// After the last batch of a run that did not fail.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_fit_end(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// Before the validation step is checked ahead of the first epoch. The hooks of validation are not called then.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_sanity_check_start(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// After the validation step was checked.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_sanity_check_end(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// Before the first epoch of a run.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_train_start(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// After the last epoch of a run that did not fail.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_train_end(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// Before the first batch of an epoch.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_train_epoch_start(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// After an epoch and its validation.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_train_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// Before the training step of a batch.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_train_batch_start(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// After a batch, and the optimizer's step if it made one.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// Before a validation.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_validation_start(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// After a validation. Callbacks that monitor are called when the batch or epoch before it is counted.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_validation_end(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// Before the first validation batch.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_validation_epoch_start(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// After the last validation batch; its metrics are there.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn on_validation_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// When the run fails. What it asks for is done if it can be.
    ///
    /// # Errors
    /// None is heard: the run fails already.
    fn on_exception(&mut self, run: &mut Run, error: &Error) -> Result<()> {
        Ok(())
    }
    /// What is to be written down: every `log_every_n_steps` steps what the training step logged, and at an epoch's end what
    /// validation and hooks logged. Only a trainer with a [`logger`](crate::Trainer::logger) calls it.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn log_metrics(&mut self, metrics: &Metrics, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// The folder of this run, when this is a logger that has one; known after `setup`.
    fn log_dir(&self) -> Option<PathBuf> {
        None
    }
    /// Under which name a checkpoint keeps its state; empty when there is none to keep.
    fn state_key(&self) -> String {
        String::new()
    }
    /// What a checkpoint keeps.
    fn state_dict(&self) -> Value {
        Value::Null
    }
    /// Takes back what [`state_dict`](Callback::state_dict) gave.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn load_state_dict(&mut self, state: &Value) -> Result<()> {
        Ok(())
    }
    /// Tensors that a checkpoint keeps beside the state, by name.
    fn tensors(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
    /// Takes back what [`tensors`](Callback::tensors) or [`weights`](Callback::weights) gave. They may be kept.
    ///
    /// # Errors
    /// See [`setup`](Callback::setup).
    fn load_tensors(&mut self, tensors: Vec<(String, Tensor)>, run: &mut Run) -> Result<()> {
        Ok(())
    }
    /// Averaged parameters and buffers, by their names, that a checkpoint keeps as the model's in place of those that are
    /// trained; those are kept beside. For callbacks such as [`EMAWeightAveraging`](crate::EMAWeightAveraging).
    fn weights(&self) -> Option<Vec<(String, Tensor)>> {
        None
    }
    /// Whether [`weights`](Callback::weights) gives some, or will.
    fn averages(&self) -> bool {
        false
    }
    /// Batches whose mean gradient makes one optimizer step in this epoch; `None` leaves it to the trainer. It is asked of
    /// all epochs before the first.
    fn accumulate_grad_batches(&self, epoch: u64) -> Option<u64> {
        None
    }
    /// Whether it looks at [`Run::loss`] after each batch: on a GPU the run then waits for each.
    fn reads_loss(&self) -> bool {
        false
    }
    /// Whether it looks at metrics: such callbacks come last at an epoch's end, after the epoch is counted.
    fn monitors(&self) -> bool {
        false
    }
}

macro_rules! forward {
    ($($hook:ident),*) => {
        /// A callback that is looked at after the run.
        impl<C: Callback> Callback for Rc<RefCell<C>> {
            $(fn $hook(&mut self, run: &mut Run) -> Result<()> {
                self.borrow_mut().$hook(run)
            })*
            fn log_metrics(&mut self, metrics: &Metrics, run: &mut Run) -> Result<()> {
                self.borrow_mut().log_metrics(metrics, run)
            }
            fn log_dir(&self) -> Option<PathBuf> {
                self.borrow().log_dir()
            }
            fn on_exception(&mut self, run: &mut Run, error: &Error) -> Result<()> {
                self.borrow_mut().on_exception(run, error)
            }
            fn state_key(&self) -> String {
                self.borrow().state_key()
            }
            fn state_dict(&self) -> Value {
                self.borrow().state_dict()
            }
            fn load_state_dict(&mut self, state: &Value) -> Result<()> {
                self.borrow_mut().load_state_dict(state)
            }
            fn tensors(&self) -> Vec<(String, Tensor)> {
                self.borrow().tensors()
            }
            fn load_tensors(&mut self, tensors: Vec<(String, Tensor)>, run: &mut Run) -> Result<()> {
                self.borrow_mut().load_tensors(tensors, run)
            }
            fn weights(&self) -> Option<Vec<(String, Tensor)>> {
                self.borrow().weights()
            }
            fn averages(&self) -> bool {
                self.borrow().averages()
            }
            fn accumulate_grad_batches(&self, epoch: u64) -> Option<u64> {
                self.borrow().accumulate_grad_batches(epoch)
            }
            fn reads_loss(&self) -> bool {
                self.borrow().reads_loss()
            }
            fn monitors(&self) -> bool {
                self.borrow().monitors()
            }
        }
    };
}

forward!(
    setup,
    on_fit_start,
    on_fit_end,
    on_sanity_check_start,
    on_sanity_check_end,
    on_train_start,
    on_train_end,
    on_validation_start,
    on_validation_end,
    on_train_epoch_start,
    on_train_epoch_end,
    on_train_batch_start,
    on_train_batch_end,
    on_validation_epoch_start,
    on_validation_epoch_end
);
