//! A run and what is left of it: the trained model, its history, and how to go on.

use crate::checkpoint;
use crate::data::{DataLoader, DataModule};
use crate::error::{Error, Result};
use crate::evaluation::Evaluation;
use crate::history::{EpochRecord, History};
use crate::looping::{self, Outcome, Progress};
use crate::making;
use crate::module::LightningModule;
use crate::optim::Optimizer;
use crate::path::Store;
use crate::precision::Precision;
use crate::progress::{Outside, Reporter, failed_before};
use crate::scaler::GradScaler;
use crate::steps::{Steps, guarded, load_saved, saved};
use crate::trainer::{Trainer, device_name, predictions};
use lightcell_events::run::{Stage, Status};
use std::fmt;
use tch::Tensor;

/// A model with all that belongs to it: what `%fit` leaves in the variable `fit`, and what
/// [`LightningModule::build`] makes.
///
/// ```
/// use lightcell::prelude::*;
/// # hparams! { Hp {} }
/// # struct Net(Linear);
/// # impl LightningModule for Net {
/// #     type HParams = Hp;
/// #     type Batch = (Tensor, Tensor);
/// #     fn new(p: &Path, _: &Hp) -> Net { Net(linear(p / "l1", 4, 2)) }
/// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
/// #     fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
/// #         let loss = self.forward(x).cross_entropy_for_logits(y);
/// #         cx.log("train_loss", &loss);
/// #         Ok(loss)
/// #     }
/// # }
/// # let x = Tensor::randn([32, 4], (Kind::Float, Device::Cpu));
/// # let y = Tensor::zeros([32], (Kind::Int64, Device::Cpu));
/// # let data = Data::new(TensorDataset::new(x, y)?).batch_size(8);
/// let mut fit = Trainer::new().max_epochs(2).seed(1).fit::<Net, _>(&Hp::default(), &data)?;
/// assert_eq!((fit.history.len(), fit.step_losses.len()), (2, 8));
/// Trainer::new().max_epochs(3).go_on(&mut fit, &data)?;
/// assert_eq!(fit.history[4].metrics.keys().collect::<Vec<_>>(), ["train_loss"]);
/// assert_eq!(fit.model.forward(&Tensor::ones([3, 4], (Kind::Float, Device::Cpu))).size(), [3, 2]);
/// # Ok::<(), Error>(())
/// ```
pub struct Fit<M: LightningModule> {
    /// The model, as far as it is trained.
    pub model: M,
    /// The hyperparameters it was made with.
    pub hparams: M::HParams,
    /// One record for each epoch that is done.
    pub history: History,
    /// The loss of each optimizer step.
    pub step_losses: Vec<f64>,
    pub(crate) store: Store,
    pub(crate) optimizer: Optimizer,
    pub(crate) progress: Progress,
    /// Whether weights were loaded or frozen by hand: they then stay when the model is made anew.
    given: bool,
}

impl<M: LightningModule> fmt::Debug for Fit<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.progress.status {
            Status::Completed => "completed",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
        };
        if self.progress.step == 0 {
            return write!(
                f,
                "{} on {}: not trained",
                type_name::<M>(),
                device_name(self.progress.device)
            );
        }
        write!(
            f,
            "{} on {}: {} epochs, {} steps, {status}",
            type_name::<M>(),
            device_name(self.progress.device),
            self.history.len(),
            self.progress.step
        )?;
        if let Some(last) = self.history.last() {
            for (name, value) in &last.metrics {
                write!(f, ", {name} {value:.4}")?;
            }
        }
        Ok(())
    }
}

/// A type's own name, without its path.
pub(crate) fn type_name<M>() -> &'static str {
    making::own_name(std::any::type_name::<M>())
}

impl<M: LightningModule> Fit<M> {
    /// Makes the model, not yet trained.
    pub(crate) fn build(hparams: M::HParams, trainer: &Trainer) -> Result<Fit<M>> {
        let (store, progress) = making::begin(trainer)?;
        let model = guarded(|| Ok(M::new(&store.root(), &hparams)));
        let model = model.map_err(|error| error.at("the model cannot be made"))?;
        making::check(&store, &progress, type_name::<M>())?;
        let optimizer = making::optimizer(guarded(|| Ok(model.configure_optimizers(&hparams))), &store)?;
        Ok(Fit {
            model,
            hparams,
            history: History::default(),
            step_losses: Vec::new(),
            store,
            optimizer,
            progress,
            given: false,
        })
    }

    /// Makes a trainer's seed, device and precision hold for a model that is there already.
    pub(crate) fn adjust(&mut self, trainer: &Trainer) -> Result<()> {
        if let Some(trainer) = making::adjust(&mut self.progress, &self.store, trainer)? {
            let before = std::mem::replace(self, Fit::build(self.hparams.clone(), &trainer)?);
            if before.given {
                making::give(&before.store, &self.store)?;
                self.optimizer.follow()?;
                self.given = true;
            }
        }
        Ok(())
    }

    /// Trains, from where it stands. Whatever happens, model and history are as far as they came. The outcome is also
    /// reported as an event.
    pub(crate) fn run<D: DataModule<Batch = M::Batch>>(&mut self, trainer: &Trainer, data: &D) -> Option<Error> {
        self.run_within(trainer, data, Outside::here())
    }

    pub(crate) fn run_within<D: DataModule<Batch = M::Batch>>(
        &mut self,
        trainer: &Trainer,
        data: &D,
        outside: Outside,
    ) -> Option<Error> {
        let hparams = guarded(|| Ok(serde_json::to_string(&self.hparams).unwrap_or_default())).unwrap_or_default();
        let about = looping::About {
            model: type_name::<M>(),
            hparams: making::json(&hparams),
            parameters: self.store.trained(),
        };
        let Progress { device, precision, .. } = self.progress;
        let mut work = match Steps::new(&mut self.model, device, precision, data) {
            Ok(work) => work,
            Err(error) => {
                self.progress.status = Status::Failed;
                failed_before(&error);
                return Some(error);
            }
        };
        let state = looping::State {
            optimizer: &mut self.optimizer,
            store: &self.store,
            progress: &mut self.progress,
            history: &mut self.history,
            losses: &mut self.step_losses,
        };
        looping::run(&mut work, state, trainer, about, Reporter::new(outside))
    }

    /// The optimizer: its learning rates, and what it remembers of the parameters.
    ///
    /// ```
    /// use lightcell::prelude::*;
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
    /// #     fn configure_optimizers(&self, _: &Hp) -> Optim { adam(0.01) }
    /// # }
    /// # let zeros = |n| Tensor::zeros([8, n], (Kind::Float, Device::Cpu));
    /// # let data = Data::new(TensorDataset::new(zeros(3), zeros(2))?);
    /// let fit = Trainer::new().max_epochs(1).fit::<Net, _>(&Hp::default(), &data)?;
    /// assert_eq!(fit.optimizer().lr(), 0.01);
    /// let names: Vec<String> = fit.optimizer().state().into_iter().map(|(name, _)| name).collect();
    /// assert_eq!(names[..3], ["l.weight.step", "l.weight.exp_avg", "l.weight.exp_avg_sq"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The optimizer, to load its state or to change the parameters by hand.
    pub fn optimizer_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// The numbers that the model computes with.
    pub fn precision(&self) -> Precision {
        self.progress.precision
    }

    /// The scaler of a run with [`Precision::F16Mixed`]: its scale, and how many steps it has left out.
    pub fn grad_scaler(&self) -> Option<&GradScaler> {
        self.progress.scaler.as_ref()
    }

    /// The record with the lowest `val_loss`, or `train_loss` when there was no validation. `None` before the first epoch.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.history.best()
    }

    /// Runs `validation_step` over the validation data: [`Trainer::validate`] with all defaults.
    ///
    /// # Errors
    /// When there are no validation data, a step fails, or nothing is logged.
    pub fn validate<D: DataModule<Batch = M::Batch>>(&mut self, data: &D) -> Result<Evaluation> {
        Trainer::new().validate(self, data)
    }

    /// Runs `test_step` over the test data and gives the means of what it logged: [`Trainer::test`] with all defaults. Names
    /// that begin with `val_`, because a model without a test step is tested with its validation step, begin with `test_`
    /// here.
    ///
    /// # Errors
    /// When there are no test data, a step fails, or nothing is logged.
    pub fn test<D: DataModule<Batch = M::Batch>>(&mut self, data: &D) -> Result<Evaluation> {
        Trainer::new().test(self, data)
    }

    /// Runs `predict_step` over a loader, in the order of its data set, and joins the results along their first dimension.
    ///
    /// # Errors
    /// When there is no batch, or a step fails.
    pub fn predict(&mut self, loader: &DataLoader<M::Batch>) -> Result<Tensor> {
        let mut reporter = Reporter::new(Outside::here());
        let loader = Ok(Some(loader.clone()));
        predictions(self.judge(&Trainer::new(), Stage::Predict, loader, &mut reporter))
    }

    /// Runs a stage that is no training, with the parameters of the trainer's checkpoint if it names one.
    pub(crate) fn judge(
        &mut self,
        trainer: &Trainer,
        stage: Stage,
        loader: Result<Option<DataLoader<M::Batch>>>,
        reporter: &mut Reporter,
    ) -> Result<Outcome> {
        let loader = making::loader(loader, stage)?;
        trainer.check()?;
        let Some(path) = looping::checkpoint_of(trainer, &self.progress.callbacks)? else {
            return self.judge_as_it_is(trainer, stage, loader, reporter);
        };
        let (kept, state) = (making::kept(&self.store)?, saved(&self.model)?);
        let judged = looping::load(&path, &self.store)
            .and_then(|state| load_saved(&mut self.model, &state))
            .and_then(|()| self.judge_as_it_is(trainer, stage, loader, reporter));
        // The run goes on from where it is, whatever it was compared with.
        let back = checkpoint::copy(&self.store, &kept).and_then(|()| load_saved(&mut self.model, &state));
        judged.and_then(|judged| back.map(|()| judged))
    }

    fn judge_as_it_is(
        &mut self,
        trainer: &Trainer,
        stage: Stage,
        loader: DataLoader<M::Batch>,
        reporter: &mut Reporter,
    ) -> Result<Outcome> {
        let judged = looping::Judged {
            model: type_name::<M>(),
            store: &self.store,
            progress: &self.progress,
            lr: self.optimizer.lr(),
        };
        let mut work = Steps::over(
            &mut self.model,
            self.progress.device,
            self.progress.precision,
            Some(loader),
        );
        looping::evaluate(&mut work, &judged, stage, trainer, reporter)
    }

    /// The layers with their classes and numbers of parameters, as PyTorch Lightning shows them: those of the model itself for a
    /// `max_depth` of 1, with those within for more, all for -1, none for 0.
    ///
    /// Layers without parameters or a place in the tree, such as an activation that `forward` calls, are not known. Operations
    /// (`FLOPs`) are not counted.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// # hparams! { Hp { size: i64 = 2 } }
    /// # struct Net(Linear);
    /// # impl LightningModule for Net {
    /// #     type HParams = Hp;
    /// #     type Batch = (Tensor, Tensor);
    /// #     fn new(p: &Path, hp: &Hp) -> Net { Net(linear(p / "l1", 300, hp.size)) }
    /// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
    /// #     fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
    /// #         Ok(self.forward(x).mse_loss(y, lightcell::tch::Reduction::Mean))
    /// #     }
    /// # }
    /// let summary = Net::build(Hp::default())?.summary(1);
    /// assert!(summary.contains("0 | l1   | Linear | 602    | train"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn summary(&self, max_depth: i64) -> String {
        crate::summary::text(&self.store, max_depth)
    }

    /// Names and sizes of the parameters, as in PyTorch's `state_dict`, sorted by name.
    pub fn parameters(&self) -> Vec<(String, Vec<i64>)> {
        let mut list: Vec<_> = self
            .store
            .vars
            .variables()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.size()))
            .collect();
        list.sort();
        list
    }

    /// Writes the run to a safetensors file: parameters (`model.*`), optimizer (`optim.*`), schedule, history and how far it
    /// came. [`Trainer::ckpt_path`] goes on from it as if the run had never stopped. It is written beside its place first and
    /// then renamed, so that a file that was there stays whole whatever happens.
    ///
    /// ```
    /// use lightcell::prelude::*;
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
    /// # let path = std::env::temp_dir().join(format!("lightcell-doc-save-{}.safetensors", std::process::id()));
    /// let fit = Trainer::new().max_epochs(2).fit::<Net, _>(&Hp::default(), &data)?;
    /// fit.save(&path)?;
    /// // Epochs count from the beginning: one more.
    /// let longer = Trainer::new().max_epochs(3).ckpt_path(&path).fit::<Net, _>(&Hp::default(), &data)?;
    /// assert_eq!(longer.history.len(), 3);
    /// let mut other = Net::build(Hp::default())?;
    /// other.load_weights(&path)?;
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        let hparams = guarded(|| Ok(serde_json::to_string(&self.hparams).unwrap_or_default())).unwrap_or_default();
        let progress = &self.progress;
        let parts = checkpoint::Parts {
            store: &self.store,
            optimizer: &self.optimizer,
            progress,
            history: &self.history,
            losses: &self.step_losses,
            model: type_name::<M>(),
            hparams: &making::json(&hparams),
            module: &saved(&self.model)?,
        };
        checkpoint::save(path.as_ref(), &parts, &progress.kept)
    }

    /// Writes the parameters and buffers alone, under PyTorch's names: for `torch.load` in Python when the file's name ends in
    /// `.pt`, `.pth` or `.bin`, for `safetensors.torch.load_file` otherwise, and for [`load_weights`](Fit::load_weights).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_weights(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        self.store.save_weights(path)
    }

    /// Loads parameters and buffers from a checkpoint of ours or of Lightning's, or from a `state_dict` of PyTorch's in a
    /// safetensors file or one of `torch.save`. How far the run has come stays as it is.
    ///
    /// # Errors
    /// When the file cannot be read, or is that of another model: all tensors that do not fit are named, and none is
    /// loaded.
    pub fn load_weights(&mut self, path: impl AsRef<std::path::Path>) -> Result<()> {
        checkpoint::load_weights(path.as_ref(), &self.store, None)?;
        self.given = true;
        Ok(())
    }

    /// The same, but what fits the pattern keeps its values, whatever the file says of it: `fc.*` for a new last layer.
    ///
    /// # Errors
    /// As [`load_weights`](Fit::load_weights), for all others.
    pub fn load_weights_except(&mut self, path: impl AsRef<std::path::Path>, pattern: &str) -> Result<()> {
        checkpoint::load_weights(path.as_ref(), &self.store, Some(pattern))?;
        self.given = true;
        Ok(())
    }

    /// Writes the run as a checkpoint of PyTorch Lightning's, for `LitModel.load_from_checkpoint(path)` and
    /// `trainer.fit(model, ckpt_path=path)` in Python: parameters, optimizer, hyperparameters, epochs and steps. The model there
    /// must make the same parameters in the same order, with the same groups. Schedules and callbacks begin anew.
    ///
    /// ```no_run
    /// # use lightcell::prelude::*;
    /// # fn save<M: LightningModule>(fit: &Fit<M>) -> Result<()> {
    /// fit.save_as_lightning("model.ckpt")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the run stands amid an epoch, its optimizer is LBFGS, or the file cannot be written.
    pub fn save_as_lightning(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        let hparams = guarded(|| Ok(serde_json::to_string(&self.hparams).unwrap_or_default())).unwrap_or_default();
        let progress = &self.progress;
        let parts = checkpoint::Parts {
            store: &self.store,
            optimizer: &self.optimizer,
            progress,
            history: &self.history,
            losses: &self.step_losses,
            model: type_name::<M>(),
            hparams: &making::json(&hparams),
            module: &serde_json::Value::Null,
        };
        crate::interchange::lightning::save(path.as_ref(), &parts)
    }

    /// Freezes parameters whose names fit a pattern, in which `*` stands for any characters: they get no gradient, and no
    /// optimizer changes them. Batch normalisations among them use their running mean and variance in training too, and leave
    /// them as they are. How many parameters it were.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// # hparams! { Hp { size: i64 = 2 } }
    /// # struct Net(Linear, Linear);
    /// # impl LightningModule for Net {
    /// #     type HParams = Hp;
    /// #     type Batch = (Tensor, Tensor);
    /// #     fn new(p: &Path, hp: &Hp) -> Net { Net(linear(p / "body", 3, 3), linear(p / "head", 3, hp.size)) }
    /// #     fn forward(&self, x: &Tensor) -> Tensor { self.1.forward(&self.0.forward(x)) }
    /// #     fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
    /// #         Ok(self.forward(x).mse_loss(y, lightcell::tch::Reduction::Mean))
    /// #     }
    /// # }
    /// # let tensor = |n| Tensor::randn([8, n], (Kind::Float, Device::Cpu));
    /// # let data = Data::new(TensorDataset::new(tensor(3), tensor(2))?);
    /// let mut net = Net::build(Hp::default())?;
    /// assert_eq!(net.freeze("body.*")?, 2);
    /// let before = net.model.0.weight.copy();
    /// Trainer::new().max_epochs(1).go_on(&mut net, &data)?;
    /// assert_eq!(net.model.0.weight, before);
    /// net.unfreeze("*")?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// When the pattern fits nothing.
    pub fn freeze(&mut self, pattern: &str) -> Result<usize> {
        self.set_trained(pattern, false)
    }

    /// Lets parameters whose names fit a pattern be trained again. What the optimizer remembered of them stays.
    ///
    /// # Errors
    /// When the pattern fits nothing.
    pub fn unfreeze(&mut self, pattern: &str) -> Result<usize> {
        self.set_trained(pattern, true)
    }

    fn set_trained(&mut self, pattern: &str, trained: bool) -> Result<usize> {
        // A gradient that is left would move what is frozen.
        self.optimizer.zero_grad();
        let count = match trained {
            true => self.store.unfreeze(pattern),
            false => self.store.freeze(pattern),
        }?;
        self.optimizer.follow()?;
        self.given = true;
        Ok(count)
    }

    /// The best checkpoint that a [`ModelCheckpoint`](crate::ModelCheckpoint) of the run wrote, if it is still there.
    pub fn best_model_path(&self) -> Option<std::path::PathBuf> {
        looping::best_of(&self.progress.callbacks)
    }
}
