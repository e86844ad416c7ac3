//! The training loop. It knows the user's module only through [`Work`], so it is compiled once.

mod training;

use crate::data::Order;
use crate::error::{Error, Kind, Result};
use crate::history::{EpochRecord, History};
use crate::means::Means;
use crate::module::Step;
use crate::optim::Optimizer;
use crate::path::Mode;
use crate::progress::Reporter;
use crate::trainer::{Compat, Trainer, device_name};
use lightcell_events::run::{self, Metrics, RunEvent, Stage, Status};
use std::time::Instant;
use tch::{Device, Tensor};

/// What the loop asks of a module and its data.
pub(crate) trait Work {
    /// Number of batches in one pass.
    fn batches(&self, stage: Stage) -> u64;
    /// Begins a pass.
    fn begin(&mut self, stage: Stage, order: Order) -> Result<()>;
    /// Loads the next batch and says how many samples it has.
    fn load(&mut self) -> Option<Result<i64>>;
    /// Runs the step of this stage on the batch; in training, gives the loss.
    fn step(&mut self, cx: &mut Step) -> Result<Option<Tensor>>;
    /// Computes the loss of the batch once more, for an optimizer that asks for it; no hook is called.
    fn again(&mut self, cx: &mut Step) -> Result<Option<Tensor>>;
    /// Shapes of the batch, in brackets, for messages.
    fn shapes(&self) -> String;
    /// Calls a hook.
    fn hook(&mut self, hook: Hook, cx: &mut Step) -> Result<()>;
}

/// The module's hooks that the loop calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook {
    FitStart,
    FitEnd,
    TrainEpochStart,
    TrainEpochEnd,
    TrainBatchEnd,
    ValidationEpochStart,
    ValidationEpochEnd,
}

impl Hook {
    pub fn name(self) -> &'static str {
        match self {
            Hook::FitStart => "on_fit_start",
            Hook::FitEnd => "on_fit_end",
            Hook::TrainEpochStart => "on_train_epoch_start",
            Hook::TrainEpochEnd => "on_train_epoch_end",
            Hook::TrainBatchEnd => "on_train_batch_end",
            Hook::ValidationEpochStart => "on_validation_epoch_start",
            Hook::ValidationEpochEnd => "on_validation_epoch_end",
        }
    }
}

/// What is reported of the model.
pub(crate) struct About {
    pub model: &'static str,
    pub hparams: serde_json::Value,
    pub parameters: u64,
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

/// What the loop changes, beside the module itself.
pub(crate) struct State<'a> {
    pub optimizer: &'a mut Optimizer,
    pub mode: &'a Mode,
    pub progress: &'a mut Progress,
    pub history: &'a mut History,
    pub losses: &'a mut Vec<f64>,
}

/// Trains from where `state` stands.
pub(crate) fn run(
    work: &mut dyn Work,
    state: State,
    trainer: &Trainer,
    about: About,
    mut reporter: Reporter,
) -> Option<Error> {
    let begun = Instant::now();
    let first_epoch = state.progress.epoch;
    let epochs = if trainer.fast_dev_run.is_some() {
        1
    } else {
        trainer.max_epochs
    };
    let cap = |limit: crate::trainer::Limit, all: u64| trainer.fast_dev_run.map_or(limit.of(all), |n| n.min(all));
    let all_batches = work.batches(Stage::Train);
    let mut pass = Loop {
        last_epoch: first_epoch.saturating_add(epochs),
        train_batches: cap(trainer.limit_train_batches, all_batches),
        all_batches,
        val_batches: cap(trainer.limit_val_batches, work.batches(Stage::Validate)),
        last_step: u64::try_from(trainer.max_steps)
            .ok()
            .map(|steps| state.progress.step.saturating_add(steps)),
        last_loss: None,
        trainer,
        work,
        state,
        reporter: &mut reporter,
    };
    pass.reporter.send(&RunEvent::Started {
        version: run::VERSION,
        run: pass.reporter.run().to_owned(),
        model: about.model.to_owned(),
        device: device_name(pass.state.progress.device),
        first_epoch,
        max_epochs: pass.last_epoch,
        train_batches: pass.train_batches,
        val_batches: pass.val_batches,
        parameters: about.parameters,
        hparams: about.hparams,
    });
    let outcome = pass.all();
    pass.state.mode.set_training(false);
    let ended = pass.fit_hook(Hook::FitEnd);
    let outcome = outcome.and_then(|status| ended.map(|()| status));
    let (status, error) = match outcome {
        Ok(status) => (status, None),
        Err(error) => (Status::Failed, Some(error)),
    };
    pass.state.progress.status = status;
    let progress = pass.state.progress.clone();
    reporter.finished(status, &progress, begun.elapsed().as_secs_f64(), error.as_ref());
    error
}

/// Whether a pass over the data came to its end.
#[derive(PartialEq)]
enum Pass {
    Whole,
    /// The user stopped it.
    Cut,
}

struct Loop<'a> {
    work: &'a mut dyn Work,
    state: State<'a>,
    reporter: &'a mut Reporter,
    last_epoch: u64,
    train_batches: u64,
    all_batches: u64,
    val_batches: u64,
    last_step: Option<u64>,
    last_loss: Option<(u64, f64)>,
    trainer: &'a Trainer,
}

impl Loop<'_> {
    fn all(&mut self) -> Result<Status> {
        if self.all_batches == 0 {
            return Err(
                Error::new(Kind::Data, "there are no training data: the data set is empty")
                    .hint("look at the shape of what you loaded: `data.train_dataloader().samples()`"),
            );
        }
        if self.train_batches == 0 {
            return Err(Error::new(
                Kind::Option,
                format!(
                    "limit-train-batches leaves none of the {} training batches",
                    self.all_batches
                ),
            )
            .hint(
                "a whole number counts batches, a number with a point is a share of them: 1 is one batch, 1.0 is all",
            ));
        }
        let epochs = self.last_epoch - self.state.progress.epoch;
        let steps = self.train_batches.div_ceil(self.trainer.accumulate_grad_batches);
        let left = self.last_step.map_or(u64::MAX, |last| last - self.state.progress.step);
        self.state
            .optimizer
            .begin_run(steps.saturating_mul(epochs).min(left), epochs)
            .map_err(|error| error.at("configure_optimizers"))?;
        if self.state.optimizer.is_lbfgs() && self.trainer.accumulate_grad_batches > 1 {
            return Err(Error::new(
                Kind::Option,
                "LBFGS computes the loss of its batch several times a step: it cannot accumulate batches",
            )
            .hint("use a larger batch size in place of accumulate-grad-batches"));
        }
        self.fit_hook(Hook::FitStart)?;
        while self.state.progress.epoch < self.last_epoch && !self.steps_done() {
            let epoch = self.state.progress.epoch;
            let begun = Instant::now();
            let mut metrics = Metrics::new();
            if self.train(epoch, &mut metrics)? == Pass::Cut {
                // The part of the epoch that was trained counts in the model and in the steps' losses, not in the history.
                return Ok(Status::Stopped);
            }
            let stopped =
                self.reporter.stopped() || self.val_batches > 0 && self.validate(epoch, &mut metrics)? == Pass::Cut;
            // After validation: Lightning's order.
            self.state.mode.set_training(true);
            self.epoch_hook(Hook::TrainEpochEnd, Stage::Train, &mut metrics)?;
            // The last of all, as in Lightning: a plateau looks at what validation logged.
            if !stopped {
                self.state.optimizer.after_validation(&metrics)?;
            }
            self.state.progress.epoch += 1;
            let record = EpochRecord {
                epoch,
                step: self.state.progress.step,
                metrics,
                seconds: begun.elapsed().as_secs_f64(),
            };
            self.reporter.epoch(&record);
            self.state.history.0.push(record);
            if stopped {
                return Ok(Status::Stopped);
            }
        }
        Ok(Status::Completed)
    }

    fn steps_done(&self) -> bool {
        self.last_step.is_some_and(|last| self.state.progress.step >= last)
    }

    fn cx(&self, stage: Stage, batch: u64) -> Step {
        Step::new(stage, self.state.progress.epoch, batch, self.state.progress.step).with_lr(self.state.optimizer.lr())
    }

    fn order(&self, epoch: u64) -> Order {
        match self.trainer.compat {
            Compat::None => Order::Own {
                seed: self.state.progress.seed,
                epoch,
            },
            Compat::Lightning => Order::Pytorch,
        }
    }

    fn fit_hook(&mut self, hook: Hook) -> Result<()> {
        let mut cx = self.cx(Stage::Train, 0);
        self.work.hook(hook, &mut cx)?;
        match cx.logged.first() {
            Some((name, _)) => Err(Error::new(
                Kind::Model,
                format!(
                    "{}: `{name}` cannot be logged here: it belongs to no step and no epoch",
                    hook.name()
                ),
            )),
            None => Ok(()),
        }
    }

    fn epoch_hook(&mut self, hook: Hook, stage: Stage, metrics: &mut Metrics) -> Result<()> {
        let mut cx = self.cx(stage, 0);
        self.work.hook(hook, &mut cx)?;
        cx.checked().map_err(|error| error.at(hook.name()))?;
        metrics.extend(cx.logged.into_iter().map(|(name, value)| (name, value.read())));
        Ok(())
    }

    fn validate(&mut self, epoch: u64, metrics: &mut Metrics) -> Result<Pass> {
        let _guard = tch::no_grad_guard();
        self.state.mode.set_training(false);
        self.epoch_hook(Hook::ValidationEpochStart, Stage::Validate, metrics)?;
        let order = self.order(epoch);
        self.work.begin(Stage::Validate, order)?;
        let mut means = Means::new(self.state.progress.device);
        let begun = Instant::now();
        for batch in 0..self.val_batches {
            let Some(len) = self.work.load() else { break };
            let mut cx = self.cx(Stage::Validate, batch);
            let done = len.and_then(|len| {
                self.work.step(&mut cx)?;
                cx.checked()?;
                means.take(&mut cx, len);
                Ok(())
            });
            done.map_err(|error| {
                error.at(&format!(
                    "validation batch {} of epoch {}{}",
                    batch + 1,
                    epoch + 1,
                    self.work.shapes()
                ))
            })?;
            let last = batch + 1 == self.val_batches;
            let stopped = self.reporter.stopped();
            if last || stopped || self.reporter.due() {
                means.read()?;
                let rate = (batch + 1) as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                self.reporter.step(
                    Stage::Validate,
                    epoch,
                    batch + 1,
                    self.val_batches,
                    self.state.progress.step,
                    means.newest(),
                    rate,
                );
            }
            if stopped && !last {
                // Means over a part of the data would look like those of the other epochs.
                return Ok(Pass::Cut);
            }
        }
        metrics.append(&mut means.means()?);
        self.epoch_hook(Hook::ValidationEpochEnd, Stage::Validate, metrics)?;
        Ok(Pass::Whole)
    }
}
