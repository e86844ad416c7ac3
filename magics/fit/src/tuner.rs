//! What is tried before a run: learning rates and batch sizes (`lightning.pytorch.tuner.Tuner`).
//!
//! A trial is a run of the trainer's own loop. Afterwards the model is what it was.

mod batch_size;
mod lr_finder;

pub use batch_size::{BatchSizeMode, ScaleBatchSize};
pub use lr_finder::{LrFind, LrFinder, LrMode};

use crate::callbacks::Callbacks;
use crate::checkpoint;
use crate::data::DataModule;
use crate::error::{Error, Kind, Result};
use crate::fit::Fit;
use crate::history::History;
use crate::looping::Progress;
use crate::making;
use crate::module::LightningModule;
use crate::optim::Optimizer;
use crate::path::Store;
use crate::progress::{Outside, Reporter};
use crate::schedule::ScheduleState;
use crate::steps::guarded;
use crate::trainer::{Limit, Loggers, Named, Trainer};
use lightcell_events::run::{RunEvent, Stage, Status};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tch::{Device, Tensor};

/// Tries learning rates and batch sizes with a trainer's settings.
///
/// Weights, optimizer, schedule, random state, history and counts of the model are afterwards what they were; what its own
/// fields hold beside tensors, such as a counter, is not. When a search fails, nothing has changed, and the error says why.
///
/// ```
/// use lightcell::prelude::*;
/// # hparams! { Hp { lr: f64 = 1e-3 } }
/// # struct Net(Linear);
/// # impl LightningModule for Net {
/// #     type HParams = Hp;
/// #     type Batch = (Tensor, Tensor);
/// #     fn new(p: &Path, _: &Hp) -> Net { Net(linear(p / "l", 3, 2)) }
/// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
/// #     fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
/// #         Ok(self.forward(x).mse_loss(y, lightcell::tch::Reduction::Mean))
/// #     }
/// #     fn configure_optimizers(&self, hp: &Hp) -> Optim { adam(hp.lr) }
/// # }
/// # let cpu = (Kind::Float, Device::Cpu);
/// # let data = Data::new(TensorDataset::new(Tensor::randn([256, 3], cpu), Tensor::ones([256, 2], cpu))?);
/// let mut net = Net::build(Hp::default())?;
/// let tuner = Tuner::new(&Trainer::new().seed(1));
/// let found = tuner.lr_find(&mut net, &data, &LrFind::new())?;
/// println!("{found}");
/// assert_eq!(Some(net.hparams.lr), found.suggestion());
/// let size = tuner.scale_batch_size(&mut net, |size| data.clone().batch_size(size), &ScaleBatchSize::new())?;
/// // No more than there are samples.
/// assert_eq!(size, 256);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tuner {
    trainer: Trainer,
}

impl Tuner {
    /// With this trainer's device, seed, accumulation, clipping and training batches. Its callbacks and loggers take no part.
    pub fn new(trainer: &Trainer) -> Tuner {
        Tuner {
            trainer: trainer.clone(),
        }
    }

    /// The trainer of a trial of so many optimizer steps.
    fn trial(&self, steps: u64, val_batches: u64) -> Trainer {
        Trainer {
            // Steps end it. Epochs are counted one by one, and each has one step at least.
            max_epochs: i64::try_from(steps).ok(),
            max_steps: i64::try_from(steps).unwrap_or(i64::MAX),
            min_epochs: 0,
            min_steps: 0,
            max_time: None,
            limit_val_batches: Limit::Batches(val_batches),
            check_val_every_n_epoch: Some(1),
            val_check_interval: Limit::Fraction(1.0),
            num_sanity_val_steps: 0,
            limit_train_batches: self.trainer.overfit().unwrap_or(self.trainer.limit_train_batches),
            overfit_batches: Limit::Fraction(0.0),
            ckpt_path: None,
            fast_dev_run: None,
            logger: Loggers::default(),
            early_stopping: None,
            model_checkpoint: None,
            named: Named::default(),
            callbacks: Callbacks::default(),
            trial: true,
            ..self.trainer.clone()
        }
    }

    /// Runs a trial. Of its events the search's listener gets the steps, if it is to (`steps`: the first, and how many there
    /// will be).
    ///
    /// # Errors
    /// Those of the run, and that it was stopped.
    fn run<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        trainer: &Trainer,
        data: &D,
        listener: &Listener,
        steps: Option<(u64, u64)>,
    ) -> Result<()> {
        match fit.run_within(trainer, data, overheard(listener, steps)) {
            Some(error) => Err(error),
            None if fit.progress.status == Status::Stopped => Err(stopped()),
            None => Ok(()),
        }
    }
}

/// Who hears of a search, and has the stop button.
type Listener = Rc<RefCell<Reporter>>;

/// What is around a trial: the search's own listener, which is told of its steps only.
fn overheard(listener: &Listener, steps: Option<(u64, u64)>) -> Outside {
    let (told, asked) = (listener.clone(), listener.clone());
    let emit = move |event: &RunEvent| {
        if let (
            Some((first, all)),
            RunEvent::Step {
                stage: Stage::Train,
                step,
                metrics,
                rate,
                ..
            },
        ) = (steps, event)
        {
            let done = step.saturating_sub(first);
            told.borrow_mut()
                .step(Stage::Train, 0, done, all, done, metrics.clone(), *rate);
        }
        true
    };
    Outside {
        emit: Box::new(emit),
        stop: Box::new(move || asked.borrow_mut().stopped()),
        // Steps of a search are nothing to be kept.
        leave: Box::new(|| false),
    }
}

fn stopped() -> Error {
    Error::new(Kind::Stopped, "the search was stopped; nothing has changed")
}

/// What a search gives back: copies in main memory, so that the device has as much as it would have in a run.
struct Snapshot {
    weights: Vec<(String, Tensor)>,
    optimizer: Vec<(String, Tensor)>,
    schedule: ScheduleState,
    progress: Progress,
    history: History,
    losses: Vec<f64>,
    training: bool,
    /// Of libtorch's generators.
    random: Vec<(String, Tensor)>,
}

impl Snapshot {
    fn take<M: LightningModule>(fit: &Fit<M>) -> Result<Snapshot> {
        let copies = |list: Vec<(String, Tensor)>| -> Result<Vec<(String, Tensor)>> {
            let _guard = tch::no_grad_guard();
            let copy = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.detach().f_to_device(Device::Cpu)?.copy()) };
            list.iter()
                .map(|(name, tensor)| Ok((name.clone(), copy(tensor)?)))
                .collect()
        };
        Ok(Snapshot {
            weights: copies(fit.store.state_dict())?,
            optimizer: copies(fit.optimizer.state())?,
            schedule: fit.optimizer.schedule_state().clone(),
            progress: fit.progress.clone(),
            history: fit.history.clone(),
            losses: fit.step_losses.clone(),
            training: fit.store.mode.training(),
            random: checkpoint::generators(&fit.progress)?,
        })
    }

    fn restore<M: LightningModule>(&self, fit: &mut Fit<M>) -> Result<()> {
        self.restore_model(&fit.store, &mut fit.optimizer)?;
        fit.progress = self.progress.clone();
        fit.history = self.history.clone();
        fit.step_losses = self.losses.clone();
        checkpoint::load_generators(fit.progress.device, &self.random)
    }

    fn restore_model(&self, store: &Store, optimizer: &mut Optimizer) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let mut places: HashMap<String, Tensor> = store.state_dict().into_iter().collect();
        for (name, tensor) in &self.weights {
            if let Some(place) = places.get_mut(name) {
                place.f_copy_(tensor)?;
            }
        }
        optimizer.zero_grad();
        optimizer.fix_lrs(None);
        optimizer.load_state(&self.optimizer)?;
        optimizer.load_schedule_state(self.schedule.clone());
        store.mode.set_training(self.training);
        Ok(())
    }
}

/// The hyperparameters as a JSON object.
fn as_json<M: LightningModule>(hparams: &M::HParams) -> Value {
    making::json(&guarded(|| Ok(serde_json::to_string(hparams).unwrap_or_default())).unwrap_or_default())
}

/// Sets a field of the hyperparameters.
///
/// # Errors
/// When the field does not take the value.
fn set_field<M: LightningModule>(fit: &mut Fit<M>, name: &str, value: Value) -> Result<()> {
    let mut all = as_json::<M>(&fit.hparams);
    let fault = |why: String| {
        Error::new(
            Kind::Option,
            format!("the hyperparameter `{name}` cannot be {value}: {why}"),
        )
    };
    all[name] = value.clone();
    fit.hparams = guarded(|| serde_json::from_value(all).map_err(|error| fault(error.to_string())))?;
    Ok(())
}
