//! One pass over the training data: batches, the windows of them that make an optimizer step, and their losses.

use super::numbers::{backward, unscale};
use super::streams::stream;
use super::windows::Window;
use super::{Hook, Loop, Partial, Pass, place};
use crate::callbacks::Action;
use crate::error::{Error, Kind, Result};
use crate::means::{self, Means};
use crate::module::{Step, Value, number};
use crate::optim::Optimizer;
use crate::steps::guarded;
use crate::trainer::{ClipAlgorithm, Compat, Trainer};
use lightcell_events::run::{Metrics, Stage};
use std::time::Instant;
use tch::{Device, Kind as TKind, Tensor};

/// On a device with a queue of its own, losses are read at most so many at a time.
const PENDING: usize = 256;

/// The loss of the window so far.
#[derive(Default)]
struct Sum {
    number: f64,
    tensor: Option<Tensor>,
}

/// What a pass knows while it runs.
pub(super) struct Pace {
    means: Means,
    /// Of steps that are done, not yet read.
    losses: Vec<Tensor>,
    sum: Sum,
    /// Batches done.
    batch: u64,
    /// What was logged before the first batch.
    metrics: Metrics,
    /// What the last batch logged, when it is to be written down.
    row: Vec<(String, Value)>,
    /// Whether a validation is due.
    validate: bool,
    /// What validations within the epoch gave.
    validated: Metrics,
}

impl Pace {
    /// Whether a validation is due.
    pub(super) fn validates(&self) -> bool {
        self.validate
    }
}

impl Loop<'_> {
    /// How far the epoch at hand came in an earlier run, when this run divides it as that one did.
    pub(super) fn fitting_partial(&self) -> Option<&Partial> {
        self.state.progress.partial.as_ref().filter(|partial| {
            let accumulate = self.accumulate(self.state.progress.epoch).unwrap_or_default();
            (partial.batches, partial.accumulate) == (self.train_batches, accumulate)
                && self.trainer.compat == Compat::None
        })
    }

    /// The pass as something to go on from.
    pub(super) fn partial(&mut self, pace: &mut Pace) -> Result<Partial> {
        self.check(&mut pace.losses)?;
        pace.means.read()?;
        let window = match &pace.sum.tensor {
            Some(tensor) => means::read_all(&[tensor])?.first().copied().unwrap_or_default(),
            None => pace.sum.number,
        };
        Ok(Partial {
            batch: pace.batch,
            batches: self.train_batches,
            accumulate: self.accumulate(self.state.progress.epoch)?,
            metrics: pace.metrics.clone(),
            sums: pace.means.sums().clone(),
            states: pace.means.states()?,
            window_loss: window,
            validate: pace.validate,
            validated: pace.validated.clone(),
        })
    }

    /// Begins an epoch, or goes on in one.
    fn pace(&mut self, epoch: u64) -> Result<Pace> {
        let partial = self.fitting_partial().cloned();
        self.state.progress.partial = None;
        let device = self.state.progress.device;
        let Some(partial) = partial else {
            if self.trainer.compat == Compat::None {
                tch::manual_seed(stream(self.state.progress.seed, epoch) as i64);
            }
            let mut metrics = Metrics::new();
            self.watch_before(0, |callback, run| callback.on_train_epoch_start(run))?;
            self.epoch_hook(Hook::EpochStart(Stage::Train), Stage::Train, &mut metrics)?;
            return Ok(Pace {
                means: Means::new(device),
                losses: Vec::new(),
                sum: Sum::default(),
                batch: 0,
                metrics,
                row: Vec::new(),
                validate: false,
                validated: Metrics::new(),
            });
        };
        // What was said of the part alone is said again of the whole.
        if self.state.history.last().is_some_and(|record| record.epoch == epoch) {
            self.state.history.0.pop();
        }
        let sum = if device == Device::Cpu || !partial.amid_window() {
            Sum {
                number: partial.window_loss,
                tensor: None,
            }
        } else {
            Sum {
                number: 0.0,
                tensor: Some(Tensor::from_slice(&[partial.window_loss as f32]).f_to_device(device)?),
            }
        };
        Ok(Pace {
            means: Means::with(device, partial.sums, partial.states),
            losses: Vec::new(),
            sum,
            batch: partial.batch,
            metrics: partial.metrics,
            row: Vec::new(),
            validate: partial.validate,
            validated: partial.validated,
        })
    }

    /// One pass over the training data. `logged` is what was logged before its first batch.
    pub(super) fn train(&mut self, epoch: u64, metrics: &mut Metrics, logged: &mut Metrics) -> Result<Pass> {
        self.state.store.mode.set_training(true);
        let mut pace = self.pace(epoch)?;
        let order = self.train_order(epoch);
        let (first, accumulate) = (pace.batch, self.accumulate(epoch)?);
        if pace.validate && first < self.train_batches && !self.validate_within(epoch, &mut pace, Vec::new())? {
            return Ok(Pass::Cut);
        }
        self.work.begin(Stage::Train, order, first)?;
        let begun = Instant::now();
        for batch in first..self.train_batches {
            if self.steps_done() {
                break;
            }
            if self.trainer.compat == Compat::None {
                // libtorch's own generator serves dropout and what a data set draws. Its stream, too, is a function of seed,
                // epoch and batch: neither validation nor a run in two parts, wherever it was cut, moves it.
                tch::manual_seed(stream(stream(self.state.progress.seed, epoch), batch) as i64);
            }
            let Some(len) = self.work.load(Stage::Train) else { break };
            self.watch_before(batch, |callback, run| callback.on_train_batch_start(run))?;
            let window = Window::of(batch, self.train_batches, accumulate, self.trainer.compat);
            let trained = len.and_then(|len| self.train_batch(batch, len, window, &mut pace));
            match trained {
                Ok(true) => {}
                Ok(false) => break,
                // A loss that is no number is no fault of this batch alone.
                Err(error) if error.kind() == Kind::NonFinite => return Err(error),
                Err(error) => {
                    let what = format!("batch {} of epoch {}", batch + 1, epoch + 1);
                    let step = format!("step {}", self.state.progress.step + 1);
                    return Err(error.at(&place(&what, &[step, self.work.shapes()])));
                }
            }
            if window.last {
                self.state.progress.step += 1;
                let sum = std::mem::take(&mut pace.sum);
                match sum.tensor {
                    Some(tensor) => pace.losses.push(tensor),
                    None => self.state.losses.push(sum.number),
                }
            }
            pace.batch = batch + 1;
            if self.reads_loss {
                self.check(&mut pace.losses)?;
            }
            self.log_row(&mut pace)?;
            self.watch_time();
            let last = batch + 1 == self.train_batches || self.steps_done();
            pace.validate = !last && self.validates(epoch) && self.validates_at(epoch, batch);
            let asked = self.watch_batch(batch, &mut pace)?;
            let stopped = self.reporter.stopped() || self.told_to_stop();
            let due = last || stopped || self.reporter.due();
            if due || pace.losses.len() >= PENDING {
                self.check(&mut pace.losses)?;
                pace.means.read()?;
            }
            if due {
                let rate = (batch + 1 - first) as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                self.reporter.step(
                    Stage::Train,
                    epoch,
                    batch + 1,
                    self.train_batches,
                    self.state.progress.step,
                    pace.means.newest(),
                    rate,
                );
            }
            if stopped && !last {
                self.act_within(&mut pace, asked)?;
                self.state.progress.partial = Some(self.partial(&mut pace)?);
                return Ok(Pass::Cut);
            }
            if pace.validate && !self.validate_within(epoch, &mut pace, asked)? {
                return Ok(Pass::Cut);
            }
        }
        let partial = self.partial(&mut pace)?;
        metrics.extend(pace.metrics.clone());
        metrics.append(&mut pace.validated);
        logged.append(&mut pace.metrics);
        metrics.append(&mut pace.means.means()?);
        if pace.batch < self.train_batches && self.steps_done() {
            // The run's last step: a later run goes on from here, so the schedule does not count the epoch yet.
            self.state.progress.partial = Some(partial);
            return Ok(Pass::Short);
        }
        // Before validation, as in Lightning.
        self.state.optimizer.after_epoch();
        Ok(Pass::Whole)
    }

    /// A validation amid an epoch, and then what was asked for after its batch, so that a checkpoint knows what it gave.
    /// Whether the epoch goes on; otherwise all is kept to go on with later.
    fn validate_within(&mut self, epoch: u64, pace: &mut Pace, asked: Vec<Action>) -> Result<bool> {
        let mut found = Metrics::new();
        let cut = self.validate(epoch, &mut found)? == Pass::Cut;
        self.state.store.mode.set_training(true);
        let mut actions = asked;
        if !cut {
            pace.validate = false;
            pace.validated.extend(found);
            let batch = pace.batch.saturating_sub(1);
            actions.extend(self.ask(Some(true), epoch, batch, |callback, run| {
                callback.on_validation_end(run)
            })?);
        }
        self.act_within(pace, actions)?;
        if cut || self.told_to_stop() {
            self.state.progress.partial = Some(self.partial(pace)?);
            return Ok(false);
        }
        Ok(true)
    }

    /// Trains on the batch that is loaded; adds its loss to its window's. Whether the epoch goes on with it.
    fn train_batch(&mut self, batch: u64, len: i64, window: Window, pace: &mut Pace) -> Result<bool> {
        let sum = &mut pace.sum;
        let mut cx = self.cx(Stage::Train, batch);
        let loss = self.work.step(&mut cx)?;
        cx.checked()?;
        if cx.skip {
            pace.means.take(&mut cx, len)?;
            return Ok(false);
        }
        let loss = loss.ok_or_else(|| Error::new(Kind::Model, "training_step gave no loss"))?;
        guarded(|| usable(&loss))?;
        // On the CPU a value is there when the step returns, and reading costs nothing.
        if self.state.progress.device == Device::Cpu {
            // Before the step: the parameters stay good.
            let value = number(&loss)?;
            self.good(self.state.progress.step + 1, value, true)?;
            sum.number += value / window.size as f64;
        } else {
            let kind = if loss.kind() == TKind::Double {
                TKind::Double
            } else {
                TKind::Float
            };
            let part = loss.f_detach()?.f_reshape([1])?.f_to_kind(kind)?;
            let part = part.f_div_scalar(window.size as f64)?;
            sum.tensor = Some(match sum.tensor.take() {
                Some(sum) => sum.f_add(&part)?,
                None => part,
            });
        }
        let mut scaler = self.scaler().cloned();
        let (trainer, optimizer, work) = (self.trainer, &mut *self.state.optimizer, &mut *self.work);
        let mut made = true;
        guarded(|| {
            if window.first {
                work.hook(Hook::BeforeZeroGrad, &mut cx)?;
                optimizer.zero_grad();
            }
            let share = match window.divisor {
                1 => None,
                divisor => Some(loss.f_div_scalar(divisor as f64)?),
            };
            let share = share.as_ref().unwrap_or(&loss);
            work.hook(Hook::BeforeBackward(share), &mut cx)?;
            backward(share, scaler.as_ref())?;
            work.hook(Hook::AfterBackward, &mut cx)?;
            Ok(())
        })?;
        let (optimizer, work) = (&mut *self.state.optimizer, &mut *self.work);
        if window.last {
            guarded(|| {
                made = unscale(optimizer, scaler.as_ref())?;
                work.hook(Hook::BeforeOptimizerStep, &mut cx)?;
                clip(trainer, optimizer)?;
                if made && !optimizer.is_lbfgs() {
                    match trainer.compat {
                        Compat::None => optimizer.step(),
                        Compat::Lightning => optimizer.step_unfused(),
                    }?;
                }
                if let Some(scaler) = &mut scaler {
                    scaler.update(made);
                }
                Ok(())
            })?;
            if scaler.is_some() {
                self.state.progress.scaler = scaler;
            }
            if self.state.optimizer.is_lbfgs() {
                self.step_again(batch, &loss)?;
            }
            if made {
                self.state.optimizer.after_step();
            } else {
                self.state.optimizer.after_skipped_step();
            }
        }
        self.work.hook(Hook::TrainBatchEnd, &mut cx)?;
        cx.checked()?;
        let (every, steps) = (self.trainer.log_every_n_steps, self.state.progress.step + 1);
        if self.callbacks.logging() && window.last && every > 0 && steps.is_multiple_of(every) {
            let of_step = |(_, value): &&(String, Value)| !matches!(value, Value::Metric(_));
            pace.row = cx
                .logged
                .iter()
                .filter(of_step)
                .map(|(name, value)| (name.clone(), value.copy()))
                .collect();
        }
        pace.means.take(&mut cx, len)?;
        Ok(true)
    }

    /// Gives the loggers what the last batch logged.
    fn log_row(&mut self, pace: &mut Pace) -> Result<()> {
        let row: Metrics = pace.row.drain(..).map(|(name, value)| (name, value.read())).collect();
        self.log(&row)
    }

    /// A step that computes the loss of the batch several times. What the step logs then is not kept.
    fn step_again(&mut self, batch: u64, loss: &Tensor) -> Result<()> {
        let first = number(loss)?;
        let at = (
            self.state.progress.epoch,
            self.state.progress.step,
            self.state.optimizer.lr(),
        );
        let (trainer, work) = (self.trainer, &mut *self.work);
        let mut again = |optimizer: &mut Optimizer| {
            let mut cx = Step::new(Stage::Train, at.0, batch, at.1).with_lr(at.2);
            let loss = work
                .again(&mut cx)?
                .ok_or_else(|| Error::new(Kind::Model, "training_step gave no loss"))?;
            guarded(|| {
                usable(&loss)?;
                optimizer.zero_grad();
                loss.f_backward()?;
                clip(trainer, optimizer)?;
                number(&loss)
            })
        };
        self.state.optimizer.step_again(first, &mut again)
    }

    /// Reads the losses of the newest steps; the first that is no number ends the run.
    fn check(&mut self, losses: &mut Vec<Tensor>) -> Result<()> {
        let first = self.state.progress.step + 1 - losses.len() as u64;
        let values = means::read_all(losses)?;
        losses.clear();
        values.into_iter().zip(first..).try_for_each(|(value, step)| {
            self.good(step, value, false)?;
            self.state.losses.push(value);
            Ok(())
        })
    }
}

impl Loop<'_> {
    /// Running statistics of batch normalisation as means over the training data: one pass in the order of the epoch that
    /// would come next, in which no parameter changes.
    pub(super) fn update_batch_norm(&mut self) -> Result<()> {
        let statistics = self.state.store.batch_statistics();
        if statistics.is_empty() {
            return Ok(());
        }
        let _guard = tch::no_grad_guard();
        for (name, mut tensor) in statistics {
            if name.ends_with("running_var") {
                let _ = tensor.f_fill_(1.0)?;
            } else {
                let _ = tensor.f_zero_()?;
            }
        }
        let epoch = self.state.progress.epoch;
        let order = self.train_order(epoch);
        let mode = self.state.store.mode.clone();
        mode.set_training(true);
        let passed = self.work.begin(Stage::Train, order, 0).and_then(|()| {
            for batch in 0..self.train_batches {
                if self.trainer.compat == Compat::None {
                    tch::manual_seed(stream(stream(self.state.progress.seed, epoch), batch) as i64);
                }
                mode.average(batch + 1);
                let Some(len) = self.work.load(Stage::Train) else { break };
                len?;
                let mut cx = self.cx(Stage::Train, batch);
                self.work
                    .again(&mut cx)
                    .map_err(|error| error.at(&format!("update of batch normalisation, batch {}", batch + 1)))?;
            }
            Ok(())
        });
        mode.average(0);
        mode.set_training(false);
        passed
    }
}

/// Limits the gradients, when the trainer says so.
fn clip(trainer: &Trainer, optimizer: &Optimizer) -> Result<()> {
    let Some(limit) = trainer.gradient_clip_val.filter(|limit| *limit > 0.0) else {
        return Ok(());
    };
    match trainer.gradient_clip_algorithm {
        ClipAlgorithm::Norm => optimizer.clip_grad_norm(limit).map(drop),
        ClipAlgorithm::Value => optimizer.clip_grad_value(limit),
    }
}

/// Whether a loss can be trained on.
fn usable(loss: &Tensor) -> Result<()> {
    if !loss.defined() || loss.numel() != 1 {
        let size = if loss.defined() { loss.size() } else { vec![0] };
        return Err(Error::new(
            Kind::Shape,
            format!("the loss must have one element, not the shape {size:?}"),
        )
        .hint("take its mean: `loss.mean(Kind::Float)`"));
    }
    if !loss.requires_grad() {
        return Err(Error::new(Kind::Model, "the loss does not depend on the parameters")
            .hint("compute it from what `forward` gives, without `detach` or `no_grad`"));
    }
    Ok(())
}
