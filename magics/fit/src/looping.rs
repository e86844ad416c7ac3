//! The training loop. It knows the user's module only through [`Work`], so it is compiled once.

mod evaluating;
mod faults;
mod numbers;
mod partial;
mod streams;
mod training;
mod watching;
mod windows;
mod work;

pub(crate) use evaluating::{Judged, Outcome, checkpoint_of, evaluate, load};
pub(crate) use faults::is_finite;
pub(crate) use partial::Partial;
pub(crate) use watching::{best_of, newest};
pub(crate) use work::{Hook, Work, word};

use crate::callbacks::{Callbacks, Kept};
use crate::data::Order;
use crate::error::{Error, Kind, Result};
use crate::history::{EpochRecord, History};
use crate::module::Step;
use crate::optim::Optimizer;
use crate::path::Store;
use crate::precision::Precision;
use crate::progress::Reporter;
use crate::scaler::GradScaler;
use crate::trainer::{Compat, Limit, Trainer, device_name};
use lightcell_events::run::{self, Metrics, RunEvent, Stage, Status};
use serde_json::Value;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;
use tch::Device;

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
    /// How far the epoch at hand came, when the run was left amid it.
    pub partial: Option<Partial>,
    /// The callbacks' states when the run ended.
    pub callbacks: Value,
    /// What else a checkpoint keeps of them; their states stand above.
    pub kept: Rc<Kept>,
    pub precision: Precision,
    /// Of a run with 16-mixed.
    pub scaler: Option<GradScaler>,
}

/// What the loop changes, beside the module itself.
pub(crate) struct State<'a> {
    pub optimizer: &'a mut Optimizer,
    pub store: &'a Store,
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
    let cap = |limit: Limit, all: u64| {
        let limit = trainer.overfit().unwrap_or(limit);
        trainer.fast_dev_run.map_or(limit.of(all), |n| n.min(all))
    };
    let all_batches = work.batches(Stage::Train);
    let mut pass = Loop {
        last_epoch: 0,
        train_batches: cap(trainer.limit_train_batches, all_batches),
        all_batches,
        val_batches: cap(trainer.limit_val_batches, work.batches(Stage::Validate)),
        val_every: u64::MAX,
        resumed: false,
        last_step: None,
        last_loss: None,
        before: false,
        completed: false,
        reads_loss: false,
        callbacks: trainer.all_callbacks(),
        metrics: Metrics::new(),
        root: watching::root(trainer),
        stop: None,
        begun,
        about: &about,
        trainer,
        work,
        state,
        reporter: &mut reporter,
    };
    // For the length of the run.
    let switches = trainer.set_switches();
    let prepared = pass.prepare();
    let first_epoch = pass.state.progress.epoch;
    pass.reporter.send(&RunEvent::Started {
        version: run::VERSION,
        run: pass.reporter.run().to_owned(),
        model: about.model.to_owned(),
        device: device_name(pass.state.progress.device),
        first_epoch,
        max_epochs: pass.expected_epochs(),
        train_batches: pass.train_batches,
        val_batches: pass.val_batches,
        parameters: about.parameters,
        hparams: about.hparams.clone(),
        log_dir: pass.callbacks.log_dir().map(|dir| dir.display().to_string()),
    });
    let outcome = switches.and_then(|_switches| prepared.and_then(|()| pass.whole()));
    let (status, error) = match outcome {
        Ok(status) => (status, None),
        Err(error) => (Status::Failed, Some(error)),
    };
    pass.state.progress.status = status;
    pass.state.optimizer.fix_lrs(None);
    let kept = pass.callbacks.kept();
    pass.state.progress.callbacks = kept.states.clone();
    pass.state.progress.kept = Rc::new(kept);
    let progress = pass.state.progress.clone();
    reporter.finished(status, &progress, begun.elapsed().as_secs_f64(), error.as_ref());
    error
}

/// Whether a pass over the data came to its end.
#[derive(PartialEq)]
enum Pass {
    Whole,
    /// The run's last step came before its last batch.
    Short,
    /// The user, or a callback, stopped it.
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
    /// Training batches from one validation to the next.
    val_every: u64,
    /// Whether a checkpoint was taken back.
    resumed: bool,
    last_step: Option<u64>,
    last_loss: Option<(u64, f64)>,
    /// Whether a hook comes before its batch or epoch: what callbacks log then belongs to the next step.
    before: bool,
    /// Whether the run came to its end, by itself or by a callback.
    completed: bool,
    /// Whether a callback looks at each loss.
    reads_loss: bool,
    trainer: &'a Trainer,
    callbacks: Callbacks,
    /// What callbacks see: the newest means of all that was logged.
    metrics: Metrics,
    /// Where the run's files go.
    root: PathBuf,
    /// Why a callback ends the run.
    stop: Option<String>,
    begun: Instant,
    about: &'a About,
}

impl Loop<'_> {
    /// Takes a checkpoint's state, if there is one, and says where the run ends: a run that goes on by itself trains for so
    /// many more epochs; with a checkpoint, epochs and steps count from the beginning, so that the same command goes on.
    fn prepare(&mut self) -> Result<()> {
        let resumed = self.set_up().and_then(|()| self.resume());
        self.resumed = matches!(resumed, Ok(true));
        let progress = &*self.state.progress;
        let (epoch, step) = if self.resumed {
            (0, 0)
        } else {
            (progress.epoch, progress.step)
        };
        self.last_epoch = match self.trainer.fast_dev_run {
            Some(_) => progress.epoch + 1,
            None => epoch.saturating_add(self.trainer.epochs()),
        };
        let steps = u64::try_from(self.trainer.max_steps).ok();
        self.last_step = steps.map(|steps| step.saturating_add(steps));
        if let Some(last) = self.state.history.last() {
            self.metrics = last.metrics.clone();
        }
        resumed.map(drop)
    }

    /// The run from its first hook to its last.
    fn whole(&mut self) -> Result<Status> {
        let outcome = self.all();
        if matches!(outcome, Ok(Status::Stopped)) && self.reporter.leaving() {
            self.write_before_the_end();
        }
        self.state.store.mode.set_training(false);
        let ended = self.bare_hook(Hook::FitEnd, Stage::Train);
        let outcome = outcome.and_then(|status| ended.map(|()| status));
        match outcome {
            Ok(status) => {
                self.completed = status == Status::Completed;
                self.watch(None, 0, |callback, run| callback.on_fit_end(run))?;
                Ok(status)
            }
            Err(error) => {
                // An epoch with a fault is trained anew.
                self.state.progress.partial = None;
                let _ = self.watch(None, 0, |callback, run| callback.on_exception(run, &error));
                Err(error)
            }
        }
    }

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
        if self.val_batches > 0 {
            self.val_every = self.trainer.val_every(self.train_batches)?;
        }
        let first = self.state.progress.epoch;
        let accumulate = self.accumulate(first)?;
        let steps = self.steps_of(first)?;
        let left = self
            .last_step
            .map_or(u64::MAX, |last| last.saturating_sub(self.state.progress.step));
        let done = match self.fitting_partial() {
            Some(partial) if partial.batch == partial.batches => partial.batch.div_ceil(accumulate),
            Some(partial) => partial.batch / accumulate,
            None => 0,
        };
        // A run that nobody knows the end of is of no length.
        let endless = self.last_step.is_none() && self.last_epoch == u64::MAX;
        let (steps, epochs) = if endless {
            (u64::MAX, u64::MAX)
        } else {
            let epochs = self.expected_epochs().saturating_sub(first);
            (steps.saturating_sub(done).min(left), epochs)
        };
        // The schedule of a trial is that of a long run: its beginning.
        let (steps, epochs) = if self.trainer.trial {
            (1 << 40, 1 << 20)
        } else {
            (steps, epochs)
        };
        // A run that is only to be finished, of which no step is left, leaves the schedule where it is.
        if steps > 0 || self.state.progress.step == 0 {
            let begun = self.state.optimizer.begin_run(steps, epochs);
            begun.map_err(|error| error.at("configure_optimizers"))?;
        }
        self.prepare_scaler()?;
        if self.state.optimizer.is_lbfgs() && accumulate > 1 {
            return Err(Error::new(
                Kind::Option,
                "LBFGS computes the loss of its batch several times a step: it cannot accumulate batches",
            )
            .hint("use a larger batch size in place of accumulate-grad-batches"));
        }
        self.reads_loss = self.callbacks.reads_loss();
        self.bare_hook(Hook::FitStart, Stage::Train)?;
        self.watch(None, 0, |callback, run| callback.on_fit_start(run))?;
        // A run that goes on has validated already.
        let fresh = !self.resumed && self.state.progress.step == 0 && self.trainer.fast_dev_run.is_none();
        let sane = fresh && self.val_batches > 0 && self.trainer.num_sanity_val_steps != 0;
        if sane && self.sanity_check()? == Pass::Cut {
            return Ok(Status::Stopped);
        }
        self.state.store.mode.set_training(true);
        self.begin_stream();
        self.bare_hook(Hook::Start(Stage::Train), Stage::Train)?;
        self.watch(None, 0, |callback, run| callback.on_train_start(run))?;
        let status = self.epochs()?;
        self.bare_hook(Hook::End(Stage::Train), Stage::Train)?;
        self.watch(None, 0, |callback, run| callback.on_train_end(run))?;
        Ok(status)
    }

    fn epochs(&mut self) -> Result<Status> {
        while self.state.progress.epoch < self.last_epoch && !self.steps_done() && !self.told_to_stop() {
            let epoch = self.state.progress.epoch;
            let begun = Instant::now();
            let mut metrics = Metrics::new();
            let mut logged = Metrics::new();
            let pass = self.train(epoch, &mut metrics, &mut logged)?;
            if pass == Pass::Cut {
                // The part of the epoch that was trained counts in the model and in the steps' losses, not in the history: the
                // next run goes on in it.
                self.say_why();
                return Ok(if self.told_to_stop() {
                    Status::Completed
                } else {
                    Status::Stopped
                });
            }
            let validates = self.validates_after(epoch);
            let stopped = self.reporter.stopped() || validates && self.validate(epoch, &mut metrics)? == Pass::Cut;
            // After validation: Lightning's order.
            self.state.store.mode.set_training(true);
            self.metrics.extend(metrics.clone());
            self.watch(Some(false), 0, |callback, run| callback.on_train_epoch_end(run))?;
            self.epoch_hook(Hook::EpochEnd(Stage::Train), Stage::Train, &mut logged)?;
            self.log(&logged)?;
            metrics.append(&mut logged);
            self.metrics.extend(metrics.clone());
            // The last of all, as in Lightning: a plateau looks at what validation logged.
            if !stopped && pass.whole() && !self.trainer.trial {
                self.state.optimizer.after_validation(&metrics)?;
            }
            let record = EpochRecord {
                epoch,
                step: self.state.progress.step,
                metrics,
                seconds: begun.elapsed().as_secs_f64(),
            };
            self.reporter.epoch(&record);
            self.state.history.0.push(record);
            if pass.whole() {
                self.state.progress.epoch += 1;
            }
            // A validation that was cut has nothing to compare.
            if !stopped {
                self.watch_epoch(epoch, validates)?;
            }
            if stopped {
                return Ok(Status::Stopped);
            }
        }
        self.say_why();
        Ok(Status::Completed)
    }

    /// Index after the last epoch; `u64::MAX` when nobody knows.
    fn expected_epochs(&self) -> u64 {
        // Beyond any callback's last change all epochs are alike.
        const COUNTED: u64 = 10_000;
        let Some(last) = self.last_step else {
            return self.last_epoch;
        };
        let (progress, first) = (&*self.state.progress, self.state.progress.epoch);
        let window = |epoch| self.accumulate(epoch).unwrap_or(1).max(1);
        let done = self
            .fitting_partial()
            .map_or(0, |partial| partial.batch / window(first));
        let mut left = last.saturating_sub(progress.step).saturating_add(done);
        let mut epoch = first;
        while left > 0 && epoch < first.saturating_add(COUNTED) {
            left = left.saturating_sub(self.train_batches.div_ceil(window(epoch)).max(1));
            epoch += 1;
        }
        let rest = left.div_ceil(self.train_batches.div_ceil(window(epoch)).max(1));
        self.last_epoch.min(epoch.saturating_add(rest))
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
            Compat::Lightning => Order::Pytorch { shuffle: true },
        }
    }

    /// The order of the training data, which `overfit_batches` does not shuffle.
    fn train_order(&self, epoch: u64) -> Order {
        match (self.trainer.overfit(), self.trainer.compat) {
            (None, _) => self.order(epoch),
            (Some(_), Compat::None) => Order::Sequential,
            (Some(_), Compat::Lightning) => Order::Pytorch { shuffle: false },
        }
    }

    /// Calls a hook that belongs to no step and no epoch.
    fn bare_hook(&mut self, hook: Hook, stage: Stage) -> Result<()> {
        let mut cx = self.cx(stage, 0);
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
        cx.checked().map_err(|error| error.at(&hook.name()))?;
        metrics.extend(cx.logged.into_iter().map(|(name, value)| (name, value.read())));
        Ok(())
    }
}

/// Where something happened, with more in brackets: `batch 3 of epoch 1 (step 3, shapes [32, 4], [32])`.
fn place(what: &str, more: &[String]) -> String {
    let more: Vec<&str> = more
        .iter()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
        .collect();
    if more.is_empty() {
        what.to_owned()
    } else {
        format!("{what} ({})", more.join(", "))
    }
}
