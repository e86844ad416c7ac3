//! How long a run takes, and that it does not take longer.

use super::{Callback, Run};
use crate::error::{Error, Result};
use crate::schedule::Interval;
use lightcell_events::run::Stage;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Measures how long training and validation take, and ends the run when its time is over
/// (`lightning.pytorch.callbacks.Timer`). The time of a run that goes on from a checkpoint counts from the beginning.
///
/// ```
/// use lightcell::prelude::*;
/// use std::{cell::RefCell, rc::Rc, time::Duration};
/// let timer = Rc::new(RefCell::new(Timer::new().duration(Duration::from_secs(3600))));
/// let trainer = Trainer::new().max_epochs(1000).callback(timer.clone());
/// // After the run:
/// let elapsed = timer.borrow().time_elapsed(Stage::Train);
/// ```
#[derive(Debug, Clone)]
pub struct Timer {
    duration: Option<Duration>,
    interval: Interval,
    train: Span,
    validate: Span,
    /// What earlier parts of the run took.
    offset: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: Option<Instant>,
    end: Option<Instant>,
}

impl Span {
    fn begin(&mut self) {
        *self = Span {
            start: Some(Instant::now()),
            end: None,
        };
    }

    fn elapsed(&self) -> Duration {
        match (self.start, self.end) {
            (Some(start), Some(end)) => end.duration_since(start),
            (Some(start), None) => start.elapsed(),
            _ => Duration::ZERO,
        }
    }
}

impl Default for Timer {
    fn default() -> Timer {
        Timer {
            duration: None,
            interval: Interval::Step,
            train: Span::default(),
            validate: Span::default(),
            offset: Duration::ZERO,
        }
    }
}

impl Timer {
    /// Measures, and ends nothing.
    pub fn new() -> Timer {
        Timer::default()
    }

    /// After which time the run ends; never.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Timer {
        self.duration = Some(duration);
        self
    }

    /// Whether it looks after each batch or after each epoch; after each batch.
    #[must_use]
    pub fn interval(mut self, interval: Interval) -> Timer {
        self.interval = interval;
        self
    }

    /// How long training took, or takes so far, earlier parts of the run included; or the newest validation.
    pub fn time_elapsed(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Train => self.offset + self.train.elapsed(),
            Stage::Validate => self.validate.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// What is left of the run's time; `None` when it has no end.
    pub fn time_remaining(&self) -> Option<Duration> {
        Some(self.duration?.saturating_sub(self.time_elapsed(Stage::Train)))
    }

    fn check(&self, run: &mut Run) {
        if let (Some(limit), Some(Duration::ZERO)) = (self.duration, self.time_remaining()) {
            run.stop(format!("Timer: {limit:?} are over"));
        }
    }

    fn end(&mut self) {
        for span in [&mut self.train, &mut self.validate] {
            if span.start.is_some() {
                span.end.get_or_insert_with(Instant::now);
            }
        }
    }
}

impl Callback for Timer {
    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        // One trainer may go on with its run: what was, counts.
        self.offset += self.train.elapsed();
        self.train.begin();
        self.check(run);
        Ok(())
    }

    fn on_fit_end(&mut self, _: &mut Run) -> Result<()> {
        self.end();
        Ok(())
    }

    fn on_exception(&mut self, _: &mut Run, _: &Error) -> Result<()> {
        self.end();
        Ok(())
    }

    fn on_validation_epoch_start(&mut self, _: &mut Run) -> Result<()> {
        self.validate.begin();
        Ok(())
    }

    fn on_validation_epoch_end(&mut self, _: &mut Run) -> Result<()> {
        self.validate.end = Some(Instant::now());
        Ok(())
    }

    fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
        if self.interval == Interval::Step {
            self.check(run);
        }
        Ok(())
    }

    fn on_train_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        if self.interval == Interval::Epoch {
            self.check(run);
        }
        Ok(())
    }

    fn state_key(&self) -> String {
        "Timer".to_owned()
    }

    fn state_dict(&self) -> Value {
        let seconds = |stage| self.time_elapsed(stage).as_secs_f64();
        json!({ "time_elapsed": { "train": seconds(Stage::Train), "validate": seconds(Stage::Validate) } })
    }

    fn load_state_dict(&mut self, state: &Value) -> Result<()> {
        let seconds = state["time_elapsed"]["train"].as_f64().unwrap_or(0.0);
        self.offset = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.train = Span::default();
        Ok(())
    }
}
