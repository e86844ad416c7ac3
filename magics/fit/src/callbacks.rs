//! What watches a run and acts on it, from outside of the model.

mod early_stopping;
mod model_checkpoint;

pub use early_stopping::{EarlyStopping, EarlyStoppingReason};
pub use model_checkpoint::ModelCheckpoint;

use crate::error::{Error, Kind, Result};
use lightcell_events::run::Metrics;
use serde::Deserialize;
use serde_json::Value;
use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

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

/// A trainer's callbacks. Trainers that are clones share them.
#[derive(Clone, Default)]
pub(crate) struct Callbacks(Vec<Rc<RefCell<dyn Callback>>>, bool);

impl PartialEq for Callbacks {
    fn eq(&self, other: &Callbacks) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| Rc::ptr_eq(a, b))
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} callbacks", self.0.len())
    }
}

impl Callbacks {
    pub fn push(&mut self, callback: impl Callback + 'static) {
        self.0.push(Rc::new(RefCell::new(callback)));
    }

    /// A callback that writes metrics down: those of steps are read for it, which waits for the device.
    pub fn push_logger(&mut self, logger: impl Callback + 'static) {
        self.push(logger);
        self.1 = true;
    }

    /// Whether one of them is a logger.
    pub fn logging(&self) -> bool {
        self.1
    }

    /// The folder of the first logger that has one.
    pub fn log_dir(&self) -> Option<PathBuf> {
        self.0.iter().find_map(|callback| callback.try_borrow().ok()?.log_dir())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that monitor come last, as in Lightning, so that a checkpoint knows what the others have seen; among them,
    /// those that write checkpoints.
    pub fn sorted(mut self) -> Callbacks {
        let rank = |callback: &Rc<RefCell<dyn Callback>>| {
            let callback = callback.borrow();
            (
                callback.monitors(),
                callback.state_key().starts_with(model_checkpoint::KEY),
            )
        };
        self.0.sort_by_key(rank);
        self
    }

    /// Calls a hook of each, or of those that monitor, or of the others; stops at the first error.
    pub fn each(
        &self,
        monitors: Option<bool>,
        run: &mut Run,
        mut hook: impl FnMut(&mut dyn Callback, &mut Run) -> Result<()>,
    ) -> Result<()> {
        for callback in &self.0 {
            let mut callback = callback.try_borrow_mut().map_err(|_| {
                Error::new(
                    Kind::Model,
                    "a callback is in use: it cannot train with the trainer that it belongs to",
                )
            })?;
            if monitors.is_none_or(|monitors| monitors == callback.monitors()) {
                crate::steps::guarded(|| hook(&mut *callback, run))?;
            }
        }
        Ok(())
    }

    /// The states of those that have one.
    pub fn states(&self) -> Value {
        let states = self.0.iter().filter_map(|callback| callback.try_borrow().ok());
        let states = states.map(|callback| (callback.state_key(), callback.state_dict()));
        Value::Object(states.filter(|(key, _)| !key.is_empty()).collect())
    }

    /// Gives them their states back; those that were not there stay as they are.
    ///
    /// # Errors
    /// When one cannot take its state.
    pub fn load_states(&self, monitors: bool, states: &Value) -> Result<()> {
        for callback in &self.0 {
            let Ok(mut callback) = callback.try_borrow_mut() else {
                continue;
            };
            let key = callback.state_key();
            let wanted = callback.monitors() == monitors && !key.is_empty();
            if let Some(state) = states.get(&key).filter(|_| wanted) {
                callback.load_state_dict(state).map_err(|error| error.at(&key))?;
            }
        }
        Ok(())
    }
}
