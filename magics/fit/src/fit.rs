//! A run and what is left of it: the trained model, its history, and how to go on.

use crate::data::{Batch, Batches, DataLoader, DataModule};
use crate::error::{Error, Kind, Result};
use crate::layers;
use crate::looping::{self, Hook, Work};
use crate::module::{LightningModule, Step};
use crate::trainer::{Trainer, device_name};
use lightcell_events::run::{Metrics, Stage, Status};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::nn::{self, VarStore};
use tch::{Device, Tensor};

/// A trained model with all that belongs to it. `%fit` leaves one in the variable `fit`.
pub struct Fit<M: LightningModule> {
    /// The model.
    pub model: M,
    /// The hyperparameters it was made with.
    pub hparams: M::HParams,
    /// One record for each epoch.
    pub history: History,
    pub(crate) vars: VarStore,
    pub(crate) optimizer: nn::Optimizer,
    pub(crate) progress: Progress,
}

/// How far a run has come.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub device: Device,
    pub seed: u64,
    /// Epochs begun and ended.
    pub epoch: u64,
    /// Optimizer steps.
    pub step: u64,
    pub status: Status,
}

/// What an epoch gave.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRecord {
    /// 0-based epoch.
    pub epoch: u64,
    /// Optimizer steps by its end.
    pub step: u64,
    /// Means over the epoch, weighted by batch size.
    pub metrics: Metrics,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// The records of all epochs.
#[derive(Clone, PartialEq, Default)]
pub struct History(pub Vec<EpochRecord>);

impl std::ops::Deref for History {
    type Target = Vec<EpochRecord>;
    fn deref(&self) -> &Vec<EpochRecord> {
        &self.0
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&String> = self.0.iter().flat_map(|record| record.metrics.keys()).collect();
        names.sort();
        names.dedup();
        write!(f, "epoch")?;
        for name in &names {
            write!(f, "  {name:>10}")?;
        }
        write!(f, "    seconds")?;
        for record in &self.0 {
            write!(f, "\n{:>5}", record.epoch + 1)?;
            for name in &names {
                let width = name.len().max(10);
                match record.metrics.get(*name) {
                    Some(value) => write!(f, "  {value:>width$.4}")?,
                    None => write!(f, "  {:>width$}", "")?,
                }
            }
            write!(f, "  {:>9.2}", record.seconds)?;
        }
        Ok(())
    }
}

impl<M: LightningModule> fmt::Debug for Fit<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.progress.status {
            Status::Completed => "completed",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
        };
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
    let full = std::any::type_name::<M>();
    let plain = full.split('<').next().unwrap_or(full);
    plain.rsplit("::").next().unwrap_or(plain)
}

impl<M: LightningModule> Fit<M> {
    /// Makes the model, not yet trained.
    pub(crate) fn build(hparams: M::HParams, trainer: &Trainer) -> Result<Fit<M>> {
        let device = trainer.device()?;
        let seed = trainer.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        tch::manual_seed(seed as i64);
        let vars = VarStore::new(device);
        let model =
            guarded(|| Ok(M::new(&vars.root(), &hparams))).map_err(|error| error.at("the model cannot be made"))?;
        layers::check_names(&vars)?;
        if vars.trainable_variables().is_empty() {
            return Err(
                Error::new(Kind::Model, format!("{} has no parameters to train", type_name::<M>()))
                    .hint("make its layers on the path that `new` gets: `linear(p / \"l1\", …)`"),
            );
        }
        let optimizer = model.configure_optimizers(&hparams).build(&vars)?;
        let progress = Progress {
            device,
            seed,
            epoch: 0,
            step: 0,
            status: Status::Completed,
        };
        Ok(Fit {
            model,
            hparams,
            history: History::default(),
            vars,
            optimizer,
            progress,
        })
    }

    /// Trains, from where it stands. Whatever happens, model and history are as far as they came. The outcome is also
    /// reported as an event.
    pub(crate) fn run<D: DataModule<Batch = M::Batch>>(&mut self, trainer: &Trainer, data: &D) -> Option<Error> {
        let mut work = Steps {
            module: &mut self.model,
            device: self.progress.device,
            train: data.train_dataloader(),
            val: data.val_dataloader(),
            batches: None,
            batch: None,
        };
        let hparams = serde_json::to_value(&self.hparams).unwrap_or_default();
        let about = looping::About {
            model: type_name::<M>(),
            hparams,
            parameters: self.vars.trainable_variables().iter().map(|t| t.numel() as u64).sum(),
        };
        looping::run(
            &mut work,
            &mut self.optimizer,
            &mut self.progress,
            &mut self.history,
            trainer,
            about,
        )
    }

    /// The record with the lowest `val_loss`, or `train_loss` when there was no validation. `None` before the first epoch.
    pub fn best(&self) -> Option<&EpochRecord> {
        let value = |record: &EpochRecord| {
            record
                .metrics
                .get("val_loss")
                .or(record.metrics.get("train_loss"))
                .copied()
                .filter(|v| v.is_finite())
        };
        self.history
            .iter()
            .filter(|r| value(r).is_some())
            .min_by(|a, b| value(a).partial_cmp(&value(b)).unwrap_or(std::cmp::Ordering::Equal))
    }

    /// Runs `test_step` over the test data and gives the means of what it logged. Names that begin with `val_`, because a
    /// model without a test step is tested with its validation step, begin with `test_` here.
    ///
    /// # Errors
    /// When there are no test data, a step fails, or nothing is logged.
    pub fn test<D: DataModule<Batch = M::Batch>>(&mut self, data: &D) -> Result<Metrics> {
        let loader = data
            .test_dataloader()
            .ok_or_else(|| Error::new(Kind::Data, "there are no test data").hint("`data.test(…)` adds them"))?;
        let mut metrics = looping::Means::default();
        self.evaluate(
            &loader,
            Stage::Test,
            |module, batch, cx| module.test_step(batch, cx).map(drop),
            |cx, len| metrics.take(cx, len),
        )?;
        let means = metrics.means();
        if means.is_empty() {
            return Err(Error::new(Kind::Model, "the model logs nothing about test data")
                .hint("write a `test_step` or `validation_step` that calls `cx.log(\"test_loss\", &loss)`"));
        }
        Ok(means
            .into_iter()
            .map(|(name, value)| {
                (
                    name.strip_prefix("val_")
                        .map(|rest| format!("test_{rest}"))
                        .unwrap_or(name),
                    value,
                )
            })
            .collect())
    }

    /// Runs `predict_step` over a loader and joins the results along their first dimension.
    ///
    /// # Errors
    /// When there is no batch, or a step fails.
    pub fn predict(&mut self, loader: &DataLoader<M::Batch>) -> Result<Tensor> {
        let mut parts = Vec::new();
        self.evaluate(
            loader,
            Stage::Test,
            |module, batch, cx| module.predict_step(batch, cx).map(|part| parts.push(part)),
            |_, _| {},
        )?;
        if parts.is_empty() {
            return Err(Error::new(Kind::Data, "there is nothing to predict: no batch"));
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    fn evaluate(
        &mut self,
        loader: &DataLoader<M::Batch>,
        stage: Stage,
        mut step: impl FnMut(&mut M, &M::Batch, &mut Step) -> Result<()>,
        mut after: impl FnMut(&mut Step, i64),
    ) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (index, batch) in loader.epoch(self.progress.seed, 0).enumerate() {
            let batch = batch?.to_device(self.progress.device)?;
            let mut cx = Step::new(stage, self.progress.epoch, index as u64, self.progress.step);
            guarded(|| step(&mut self.model, &batch, &mut cx))
                .map_err(|error| error.at(&format!("batch {} (shapes {})", index + 1, batch.shapes())))?;
            after(&mut cx, batch.len());
        }
        Ok(())
    }

    /// Names and sizes of the parameters, as in PyTorch's `state_dict`, sorted by name.
    pub fn parameters(&self) -> Vec<(String, Vec<i64>)> {
        let mut list: Vec<_> = self
            .vars
            .variables()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.size()))
            .collect();
        list.sort();
        list
    }

    /// Writes the parameters to a safetensors file: beside its place first, then in it, so that no half-written file is
    /// left.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        let path = path.as_ref();
        let beside = path.with_extension(format!("{}.safetensors", std::process::id()));
        let written = self
            .vars
            .save(&beside)
            .map_err(Error::from)
            .and_then(|()| Ok(std::fs::rename(&beside, path)?));
        written.map_err(|error| {
            let _ = std::fs::remove_file(&beside);
            error.at(&format!("cannot write {}", path.display()))
        })
    }
}

/// The user's module and data behind the loop's own trait, so that the loop is compiled once, here, and not in each
/// cell.
struct Steps<'a, M: LightningModule> {
    module: &'a mut M,
    device: Device,
    train: DataLoader<M::Batch>,
    val: Option<DataLoader<M::Batch>>,
    batches: Option<Batches<M::Batch>>,
    batch: Option<M::Batch>,
}

impl<M: LightningModule> Work for Steps<'_, M> {
    fn batches(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Train => self.train.len() as u64,
            _ => self.val.as_ref().map_or(0, |val| val.len() as u64),
        }
    }

    fn begin(&mut self, stage: Stage, seed: u64, epoch: u64) {
        self.batches = match stage {
            Stage::Train => Some(self.train.epoch(seed, epoch)),
            _ => self.val.as_ref().map(|val| val.epoch(seed, epoch)),
        };
    }

    fn load(&mut self) -> Option<Result<i64>> {
        self.batch = None;
        let batch = self
            .batches
            .as_mut()?
            .next()?
            .and_then(|batch| batch.to_device(self.device));
        Some(batch.map(|batch| self.batch.insert(batch).len()))
    }

    fn step(&mut self, cx: &mut Step) -> Result<Option<Tensor>> {
        let Some(batch) = &self.batch else { return Ok(None) };
        guarded(|| match cx.stage {
            Stage::Train => self.module.training_step(batch, cx).map(Some),
            _ => self.module.validation_step(batch, cx).map(|()| None),
        })
    }

    fn shapes(&self) -> String {
        self.batch.as_ref().map(Batch::shapes).unwrap_or_default()
    }

    fn hook(&mut self, hook: Hook) -> Result<()> {
        guarded(|| {
            match hook {
                Hook::FitStart => self.module.on_fit_start(),
                Hook::FitEnd => self.module.on_fit_end(),
                Hook::TrainEpochStart(epoch) => self.module.on_train_epoch_start(epoch),
                Hook::TrainEpochEnd(epoch) => self.module.on_train_epoch_end(epoch),
                Hook::ValidationEpochStart(epoch) => self.module.on_validation_epoch_start(epoch),
                Hook::ValidationEpochEnd(epoch) => self.module.on_validation_epoch_end(epoch),
            }
            Ok(())
        })
    }
}

/// Runs the user's code; a panic in it (tch's own are libtorch's errors) becomes an error.
pub(crate) fn guarded<T>(code: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic".to_owned());
        let error = Error::from_torch(&text);
        Err(if error.kind() == Kind::Torch && !text.contains("Torch(") {
            Error::new(Kind::Model, format!("panic: {text}"))
        } else {
            error
        })
    })
}
