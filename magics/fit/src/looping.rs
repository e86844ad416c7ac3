//! The training loop. It knows the user's module only through [`Work`], so it is compiled once.

use crate::error::{Error, Kind, Result};
use crate::fit::{EpochRecord, History, Progress};
use crate::module::Step;
use crate::progress::Reporter;
use crate::trainer::{Trainer, device_name};
use lightcell_events::run::{self, Metrics, RunEvent, Stage, Status};
use std::collections::BTreeMap;
use std::time::Instant;
use tch::{Device, Tensor, nn};

/// What the loop asks of a module and its data.
pub(crate) trait Work {
    /// Number of batches in one pass.
    fn batches(&self, stage: Stage) -> u64;
    /// Begins a pass.
    fn begin(&mut self, stage: Stage, seed: u64, epoch: u64);
    /// Loads the next batch and says how many samples it has.
    fn load(&mut self) -> Option<Result<i64>>;
    /// Runs the step of this stage on the batch; in training, gives the loss.
    fn step(&mut self, cx: &mut Step) -> Result<Option<Tensor>>;
    /// Shapes of the batch, for messages.
    fn shapes(&self) -> String;
    /// Calls a hook.
    fn hook(&mut self, hook: Hook) -> Result<()>;
}

/// The module's hooks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook {
    FitStart,
    FitEnd,
    TrainEpochStart(u64),
    TrainEpochEnd(u64),
    ValidationEpochStart(u64),
    ValidationEpochEnd(u64),
}

/// What is reported of the model.
pub(crate) struct About {
    pub model: &'static str,
    pub hparams: serde_json::Value,
    pub parameters: u64,
}

/// Means of logged values, weighted by the size of their batches.
#[derive(Debug, Default)]
pub(crate) struct Means {
    sums: BTreeMap<String, (f64, f64)>,
    /// Logged and not yet read: reading waits for the device.
    pending: Vec<(String, crate::module::Value, i64)>,
    newest: Metrics,
}

/// On a device with a queue of its own, values are read so many at a time.
const PENDING: usize = 256;

impl Means {
    /// Takes what a step logged.
    pub fn take(&mut self, cx: &mut Step, len: i64) {
        for (name, value) in cx.logged.drain(..) {
            self.pending.push((name, value, len));
        }
    }

    /// Reads what is pending.
    pub fn read(&mut self) {
        for (name, value, len) in self.pending.drain(..) {
            let value = value.read();
            let (sum, weight) = self.sums.entry(name.clone()).or_default();
            *sum += value * len as f64;
            *weight += len as f64;
            self.newest.insert(name, value);
        }
    }

    /// The newest values. JSON knows no NaN: such values are left out.
    pub fn newest(&mut self) -> Metrics {
        self.read();
        self.newest
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(name, value)| (name.clone(), *value))
            .collect()
    }

    /// The means so far.
    pub fn means(&mut self) -> Metrics {
        self.read();
        self.sums
            .iter()
            .map(|(name, (sum, weight))| (name.clone(), sum / weight))
            .collect()
    }
}

/// Trains from where `progress` stands.
pub(crate) fn run(
    work: &mut dyn Work,
    optimizer: &mut nn::Optimizer,
    progress: &mut Progress,
    history: &mut History,
    trainer: &Trainer,
    about: About,
) -> Option<Error> {
    let begun = Instant::now();
    let mut reporter = Reporter::new();
    lightcell_cell::clear_stop();
    let first_epoch = progress.epoch;
    let epochs = if trainer.fast_dev_run.is_some() {
        1
    } else {
        trainer.max_epochs
    };
    let cap = |limit: crate::trainer::Limit, all: u64| trainer.fast_dev_run.map_or(limit.of(all), |n| n.min(all));
    let train_batches = cap(trainer.limit_train_batches, work.batches(Stage::Train));
    let val_batches = cap(trainer.limit_val_batches, work.batches(Stage::Validate));
    let mut pass = Loop {
        work,
        optimizer,
        progress,
        reporter: &mut reporter,
        last_epoch: first_epoch + epochs,
        train_batches,
        val_batches,
        last_step: u64::try_from(trainer.max_steps).ok(),
        last_loss: None,
    };
    pass.reporter.send(&RunEvent::Started {
        version: run::VERSION,
        run: pass.reporter.run().to_owned(),
        model: about.model.to_owned(),
        device: device_name(pass.progress.device),
        first_epoch,
        max_epochs: pass.last_epoch,
        train_batches,
        val_batches,
        parameters: about.parameters,
        hparams: about.hparams,
    });
    let outcome = pass.all(history);
    let ended = pass.work.hook(Hook::FitEnd);
    let outcome = outcome.and_then(|status| ended.map(|()| status));
    let (status, error) = match outcome {
        Ok(status) => (status, None),
        Err(error) => (Status::Failed, Some(error)),
    };
    progress.status = status;
    reporter.finished(status, progress, begun.elapsed().as_secs_f64(), error.as_ref());
    error
}

struct Loop<'a> {
    work: &'a mut dyn Work,
    optimizer: &'a mut nn::Optimizer,
    progress: &'a mut Progress,
    reporter: &'a mut Reporter,
    last_epoch: u64,
    train_batches: u64,
    val_batches: u64,
    last_step: Option<u64>,
    last_loss: Option<(u64, f64)>,
}

impl Loop<'_> {
    fn all(&mut self, history: &mut History) -> Result<Status> {
        if self.train_batches == 0 {
            return Err(
                Error::new(Kind::Data, "there are no training data: the data set is empty")
                    .hint("look at the shape of what you loaded: `data.train_dataloader().samples()`"),
            );
        }
        self.work.hook(Hook::FitStart)?;
        while self.progress.epoch < self.last_epoch && !self.steps_done() {
            let epoch = self.progress.epoch;
            let begun = Instant::now();
            let mut metrics = Metrics::new();
            let stopped = self.train(epoch, &mut metrics)?;
            if stopped {
                // The part of the epoch that was trained counts in the model, not in the history.
                return Ok(Status::Stopped);
            }
            if self.val_batches > 0 {
                self.validate(epoch, &mut metrics)?;
            }
            self.progress.epoch += 1;
            let record = EpochRecord {
                epoch,
                step: self.progress.step,
                metrics,
                seconds: begun.elapsed().as_secs_f64(),
            };
            self.reporter.epoch(&record);
            history.0.push(record);
            if lightcell_cell::stop_requested() {
                return Ok(Status::Stopped);
            }
        }
        Ok(Status::Completed)
    }

    fn steps_done(&self) -> bool {
        self.last_step.is_some_and(|last| self.progress.step >= last)
    }

    /// One pass over the training data; `true` when the user stopped it.
    fn train(&mut self, epoch: u64, metrics: &mut Metrics) -> Result<bool> {
        self.work.hook(Hook::TrainEpochStart(epoch))?;
        self.work.begin(Stage::Train, self.progress.seed, epoch);
        let mut means = Means::default();
        let mut losses: Vec<(u64, Tensor)> = Vec::new();
        // On the CPU a value is there when the step returns, and reading costs nothing.
        let at_once = self.progress.device == Device::Cpu;
        let begun = Instant::now();
        for batch in 0..self.train_batches {
            if self.steps_done() {
                break;
            }
            let Some(len) = self.work.load() else { break };
            let mut cx = Step::new(Stage::Train, epoch, batch, self.progress.step);
            let loss = len.and_then(|len| {
                let loss = self.work.step(&mut cx)?;
                means.take(&mut cx, len);
                loss.ok_or_else(|| Error::new(Kind::Model, "training_step gave no loss"))
            });
            let loss = loss
                .and_then(|loss| self.improve(&loss).map(|()| loss))
                .map_err(|error| self.place(error, epoch, batch))?;
            self.progress.step += 1;
            losses.push((self.progress.step, loss.detach()));
            let last = batch + 1 == self.train_batches;
            let due = self.reporter.due() || last;
            if due || at_once || losses.len() >= PENDING {
                self.check(&mut losses)?;
                means.read();
            }
            if due {
                let rate = (batch + 1) as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                self.reporter.step(
                    Stage::Train,
                    epoch,
                    batch + 1,
                    self.train_batches,
                    self.progress.step,
                    means.newest(),
                    rate,
                );
            }
            if lightcell_cell::stop_requested() {
                self.check(&mut losses)?;
                return Ok(!last || self.val_batches > 0);
            }
        }
        self.check(&mut losses)?;
        metrics.append(&mut means.means());
        self.work.hook(Hook::TrainEpochEnd(epoch))?;
        Ok(false)
    }

    fn improve(&mut self, loss: &Tensor) -> Result<()> {
        if loss.numel() != 1 {
            return Err(Error::new(
                Kind::Shape,
                format!("the loss must have one element, not the shape {:?}", loss.size()),
            )
            .hint("take its mean: `loss.mean(Kind::Float)`"));
        }
        if !loss.requires_grad() {
            return Err(Error::new(Kind::Model, "the loss does not depend on the parameters")
                .hint("compute it from what `forward` gives, without `detach` or `no_grad`"));
        }
        self.optimizer.zero_grad();
        crate::fit::guarded(|| {
            loss.f_backward()?;
            self.optimizer.step();
            Ok(())
        })
    }

    /// Reads the losses; the first that is no number ends the run.
    fn check(&mut self, losses: &mut Vec<(u64, Tensor)>) -> Result<()> {
        for (step, loss) in losses.drain(..) {
            let value = f64::try_from(&loss)?;
            if !value.is_finite() {
                let before = match self.last_loss {
                    Some((step, loss)) => format!("the last good one was {loss:.4} at step {step}"),
                    None => "it was so from the first step".to_owned(),
                };
                return Err(Error::new(Kind::NonFinite, format!("the loss is {value} at step {step}; {before}"))
                    .hint("a learning rate that is too high is the usual reason; then a division by zero, or a log of zero, in the loss; then data that are no numbers"));
            }
            self.last_loss = Some((step, value));
        }
        Ok(())
    }

    fn validate(&mut self, epoch: u64, metrics: &mut Metrics) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.work.hook(Hook::ValidationEpochStart(epoch))?;
        self.work.begin(Stage::Validate, self.progress.seed, epoch);
        let mut means = Means::default();
        let begun = Instant::now();
        for batch in 0..self.val_batches {
            let Some(len) = self.work.load() else { break };
            let mut cx = Step::new(Stage::Validate, epoch, batch, self.progress.step);
            len.and_then(|len| {
                self.work.step(&mut cx)?;
                means.take(&mut cx, len);
                Ok(())
            })
            .map_err(|error| {
                error.at(&format!(
                    "validation batch {} of epoch {} (shapes {})",
                    batch + 1,
                    epoch + 1,
                    self.work.shapes()
                ))
            })?;
            if self.reporter.due() || batch + 1 == self.val_batches {
                let rate = (batch + 1) as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                self.reporter.step(
                    Stage::Validate,
                    epoch,
                    batch + 1,
                    self.val_batches,
                    self.progress.step,
                    means.newest(),
                    rate,
                );
            }
        }
        metrics.append(&mut means.means());
        self.work.hook(Hook::ValidationEpochEnd(epoch))
    }

    fn place(&self, error: Error, epoch: u64, batch: u64) -> Error {
        error.at(&format!(
            "batch {} of epoch {} (shapes {})",
            batch + 1,
            epoch + 1,
            self.work.shapes()
        ))
    }
}
