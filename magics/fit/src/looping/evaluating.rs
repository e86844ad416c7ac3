//! Passes over data that change no parameter: validation, its check before the first epoch, tests and predictions.

use super::streams::Generators;
use super::{Hook, Loop, Pass, Progress, Work, newest, place};
use crate::checkpoint;
use crate::data::Order;
use crate::error::{Error, Kind, Result};
use crate::evaluation::Evaluation;
use crate::means::Means;
use crate::module::Step;
use crate::path::Store;
use crate::progress::Reporter;
use crate::trainer::{Trainer, device_name, joined};
use lightcell_events::run::{Metrics, Stage, Task};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Instant;
use tch::Tensor;

/// Gets what a step logged, how many samples its batch has, and what it predicted; says whether to go on.
type Each<'a> = dyn FnMut(u64, &mut Step, i64, Option<Tensor>) -> Result<bool> + 'a;

/// Runs a stage's step on its batches. Whether none was left out.
fn steps(
    work: &mut dyn Work,
    batches: u64,
    cx: impl Fn(u64) -> Step,
    what: impl Fn(u64) -> String,
    each: &mut Each,
) -> Result<bool> {
    for batch in 0..batches {
        let mut cx = cx(batch);
        let Some(len) = work.load(cx.stage) else { break };
        let done = len.and_then(|len| {
            let predicted = work.step(&mut cx)?;
            cx.checked()?;
            Ok((len, predicted))
        });
        let done = done.and_then(|(len, predicted)| each(batch, &mut cx, len, predicted));
        let go_on = done.map_err(|error| error.at(&place(&what(batch + 1), &[work.shapes()])))?;
        if !go_on && batch + 1 < batches {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Loop<'_> {
    /// Validates; adds what was logged to `metrics`. Leaves the model as it is used, not as it is trained.
    pub(super) fn validate(&mut self, epoch: u64, metrics: &mut Metrics) -> Result<Pass> {
        let _guard = tch::no_grad_guard();
        self.state.store.mode.set_training(false);
        let mut logged = Metrics::new();
        self.watch(None, 0, |callback, run| callback.on_validation_start(run))?;
        self.epoch_hook(Hook::Start(Stage::Validate), Stage::Validate, &mut logged)?;
        self.watch(None, 0, |callback, run| callback.on_validation_epoch_start(run))?;
        self.epoch_hook(Hook::EpochStart(Stage::Validate), Stage::Validate, &mut logged)?;
        let order = self.order(epoch);
        self.work.begin(Stage::Validate, order, 0)?;
        let mut means = Means::new(self.state.progress.device);
        let begun = Instant::now();
        let (batches, step, lr) = (self.val_batches, self.state.progress.step, self.state.optimizer.lr());
        let at = self.state.progress.epoch;
        let reporter = &mut *self.reporter;
        let whole = steps(
            self.work,
            batches,
            |batch| Step::new(Stage::Validate, at, batch, step).with_lr(lr),
            |batch| format!("validation batch {batch} of epoch {}", epoch + 1),
            &mut |batch, cx, len, _| {
                means.take(cx, len)?;
                let stopped = reporter.stopped();
                if batch + 1 == batches || stopped || reporter.due() {
                    means.read()?;
                    let rate = (batch + 1) as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                    reporter.step(Stage::Validate, epoch, batch + 1, batches, step, means.newest(), rate);
                }
                Ok(!stopped)
            },
        )?;
        if !whole {
            // Means over a part of the data would look like those of the other epochs.
            return Ok(Pass::Cut);
        }
        logged.append(&mut means.means()?);
        self.epoch_hook(Hook::EpochEnd(Stage::Validate), Stage::Validate, &mut logged)?;
        self.log(&logged)?;
        metrics.append(&mut logged);
        self.metrics.extend(metrics.clone());
        self.watch(None, 0, |callback, run| callback.on_validation_epoch_end(run))?;
        self.bare_hook(Hook::End(Stage::Validate), Stage::Validate)?;
        // Those that monitor come when the epoch or the batch is counted.
        self.watch(Some(false), 0, |callback, run| callback.on_validation_end(run))?;
        Ok(Pass::Whole)
    }

    /// Runs the validation step on a few batches before the first epoch, so that its faults show now and not after an hour.
    /// What it logs is thrown away.
    pub(super) fn sanity_check(&mut self) -> Result<Pass> {
        let wanted = u64::try_from(self.trainer.num_sanity_val_steps).unwrap_or(u64::MAX);
        let batches = wanted.min(self.val_batches);
        self.watch(None, 0, |callback, run| callback.on_sanity_check_start(run))?;
        let generators = Generators::of(self.state.progress.device)?;
        let whole = {
            let _guard = tch::no_grad_guard();
            self.state.store.mode.set_training(false);
            let sane = |batch: u64, lr: f64| {
                let mut cx = Step::new(Stage::Validate, 0, batch, 0).with_lr(lr);
                cx.sanity = true;
                cx
            };
            let lr = self.state.optimizer.lr();
            for hook in [Hook::Start(Stage::Validate), Hook::EpochStart(Stage::Validate)] {
                self.work.hook(hook, &mut sane(0, lr))?;
            }
            self.work.begin(Stage::Validate, Order::Sequential, 0)?;
            let reporter = &mut *self.reporter;
            // Metrics that saw these batches begin anew when it goes.
            let mut thrown_away = Means::new(self.state.progress.device);
            let whole = steps(
                self.work,
                batches,
                |batch| sane(batch, lr),
                |batch| format!("batch {batch} of the sanity check"),
                &mut |_, cx, len, _| {
                    thrown_away.take(cx, len)?;
                    Ok(!reporter.stopped())
                },
            )?;
            for hook in [Hook::EpochEnd(Stage::Validate), Hook::End(Stage::Validate)] {
                self.work.hook(hook, &mut sane(0, lr))?;
            }
            whole
        };
        generators.set_back()?;
        self.state.store.mode.set_training(true);
        self.watch(None, 0, |callback, run| callback.on_sanity_check_end(run))?;
        Ok(if whole { Pass::Whole } else { Pass::Cut })
    }
}

/// A model outside of a run.
pub(crate) struct Judged<'a> {
    pub model: &'static str,
    pub store: &'a Store,
    pub progress: &'a Progress,
    pub lr: f64,
}

/// What a pass over data gave.
#[derive(Debug)]
pub(crate) enum Outcome {
    Metrics(Evaluation),
    Predictions(Tensor),
}

impl Outcome {
    /// As rows for a table, the head first.
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        match self {
            Outcome::Metrics(evaluation) => evaluation.rows(),
            Outcome::Predictions(tensor) => vec![
                row("Predict", "DataLoader 0".to_owned()),
                row("predictions", format!("{:?} {:?}", tensor.size(), tensor.kind())),
            ],
        }
    }
}

/// Runs a stage over its data, outside of a run, and reports it: the means of what was logged, or what was predicted.
///
/// # Errors
/// When there are no data, a step or hook fails, or the user stops it.
pub(crate) fn evaluate(
    work: &mut dyn Work,
    judged: &Judged,
    stage: Stage,
    trainer: &Trainer,
    reporter: &mut Reporter,
) -> Result<Outcome> {
    let all = work.batches(stage);
    let (task, limit, setting, data) = match stage {
        Stage::Test => (
            Task::Test,
            trainer.limit_test_batches,
            "limit-test-batches",
            "test data",
        ),
        Stage::Predict => (
            Task::Predict,
            trainer.limit_predict_batches,
            "limit-predict-batches",
            "data to predict from",
        ),
        _ => (
            Task::Validate,
            trainer.limit_val_batches,
            "limit-val-batches",
            "validation data",
        ),
    };
    if all == 0 {
        return Err(Error::new(
            Kind::Data,
            format!("there are no {data}: the data set is empty"),
        ));
    }
    let batches = trainer.fast_dev_run.map_or(limit.of(all), |n| n.min(all));
    if batches == 0 {
        return Err(Error::new(
            Kind::Option,
            format!("{setting} leaves none of the {all} batches"),
        ));
    }
    reporter.task(task, judged.model, device_name(judged.progress.device), batches);
    let _guard = tch::no_grad_guard();
    let training = judged.store.mode.training();
    judged.store.mode.set_training(false);
    let result = evaluate_batches(work, judged, stage, batches, reporter);
    judged.store.mode.set_training(training);
    let result = result.and_then(|(metrics, predicted)| match stage {
        Stage::Predict => joined(predicted).map(Outcome::Predictions),
        _ => Evaluation::new(stage, metrics).map(Outcome::Metrics),
    });
    if let Ok(outcome) = &result {
        reporter.table(outcome.rows());
    }
    reporter.task_over(judged.progress.step, result.as_ref().err());
    result
}

fn evaluate_batches(
    work: &mut dyn Work,
    judged: &Judged,
    stage: Stage,
    batches: u64,
    reporter: &mut Reporter,
) -> Result<(Metrics, Vec<Tensor>)> {
    let progress = judged.progress;
    let cx = |batch: u64| Step::new(stage, progress.epoch, batch, progress.step).with_lr(judged.lr);
    let mut metrics = Metrics::new();
    let logs = |cx: &Step| match cx.logged.first().filter(|_| stage == Stage::Predict) {
        Some((name, _)) => Err(Error::new(
            Kind::Model,
            format!("`{name}` cannot be logged here: predictions have no log"),
        )),
        None => Ok(()),
    };
    let hook = |work: &mut dyn Work, hook: Hook, metrics: &mut Metrics| -> Result<()> {
        let mut cx = cx(0);
        work.hook(hook, &mut cx)?;
        cx.checked()
            .and_then(|()| logs(&cx))
            .map_err(|error| error.at(&hook.name()))?;
        metrics.extend(cx.logged.into_iter().map(|(name, value)| (name, value.read())));
        Ok(())
    };
    hook(work, Hook::Start(stage), &mut metrics)?;
    hook(work, Hook::EpochStart(stage), &mut metrics)?;
    work.begin(stage, Order::Sequential, 0)?;
    let (mut means, mut predicted) = (Means::new(progress.device), Vec::new());
    let (name, what) = match stage {
        Stage::Test => ("test batch", "test"),
        Stage::Predict => ("prediction batch", "prediction"),
        _ => ("validation batch", "validation"),
    };
    let (begun, mut done) = (Instant::now(), 0);
    let whole = steps(
        work,
        batches,
        cx,
        |batch| format!("{name} {batch}"),
        &mut |batch, cx, len, tensor| {
            logs(cx)?;
            means.take(cx, len)?;
            predicted.extend(tensor);
            done = batch + 1;
            let stopped = reporter.stopped();
            if done == batches || stopped || reporter.due() {
                means.read()?;
                let rate = done as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                let (epoch, step) = (progress.epoch, progress.step);
                reporter.step(stage, epoch, done, batches, step, means.newest(), rate);
            }
            Ok(!stopped)
        },
    )?;
    if !whole {
        return Err(Error::new(
            Kind::Stopped,
            format!("the {what} was stopped after batch {done} of {batches}; a part of it is no result"),
        ));
    }
    metrics.append(&mut means.means()?);
    hook(work, Hook::EpochEnd(stage), &mut metrics)?;
    hook(work, Hook::End(stage), &mut metrics)?;
    Ok((metrics, predicted))
}

/// The file that a trainer's `ckpt_path` means for a model outside of a run; `states` are those of the callbacks of its run.
///
/// # Errors
/// When there is no `best` or `last`.
pub(crate) fn checkpoint_of(trainer: &Trainer, states: &Value) -> Result<Option<PathBuf>> {
    let Some(name) = &trainer.ckpt_path else {
        return Ok(None);
    };
    if name != "best" && name != "last" {
        return Ok(Some(PathBuf::from(name)));
    }
    let known = super::watching::folder_of(states);
    let folder = known.unwrap_or_else(|| super::watching::root(trainer).join("checkpoints"));
    let best = (name == "best").then(|| super::best_of(states)).flatten();
    match best.or_else(|| newest(&folder, name)) {
        Some(path) => Ok(Some(path)),
        None => Err(Error::new(
            Kind::Option,
            format!("there is no checkpoint `{name}` in {}", folder.display()),
        )
        .hint("train with a `ModelCheckpoint`, or leave ckpt-path out: the model is judged as it is now")),
    }
}

/// Loads a checkpoint's parameters, and gives what it keeps of the module.
///
/// # Errors
/// When it cannot be read, or is that of another model.
pub(crate) fn load(path: &std::path::Path, store: &Store) -> Result<Value> {
    checkpoint::load_weights(path, store, None)?;
    checkpoint::module(path)
}
