//! Learning rates that change while a model is trained: PyTorch's schedules as closed forms of a count.
//!
//! A schedule knows whether it counts optimizer steps or epochs, so no interval needs to be set beside it. All that a run
//! remembers of it are counts, and for a plateau what it has seen: see [`ScheduleState`].

mod cosine;
mod decay;
mod one_cycle;
mod plateau;
mod sequential;

pub use cosine::{CosineAnnealingLR, CosineAnnealingWarmRestarts};
pub use decay::{ExponentialLR, LambdaLR, LinearLR, MultiStepLR, PolynomialLR, StepLR};
pub use one_cycle::OneCycleLR;
pub use plateau::{Mode as PlateauMode, PlateauState, ReduceLROnPlateau, ThresholdMode};
pub use sequential::SequentialLR;

use crate::error::{Error, Kind, Result};
use crate::optim::Algorithm;
use lightcell_events::run::Metrics;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::Arc;

/// What a schedule counts.
///
/// ```
/// use lightcell::prelude::*;
/// let monitor = LearningRateMonitor::new().logging_interval(Interval::Epoch);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    /// Optimizer steps.
    Step,
    /// Epochs.
    Epoch,
}

/// A learning rate as a function of a count.
pub(crate) trait Curve: Debug + Send + Sync {
    /// The learning rate after `t` counts, of a group that began with `base`. `total` is the length of the run.
    fn lr(&self, base: f64, t: u64, total: u64) -> f64;

    /// The momentum after `t` counts, when the schedule changes it.
    fn momentum(&self, _t: u64, _total: u64) -> Option<f64> {
        None
    }

    /// Whether it changes the momentum.
    fn cycles_momentum(&self) -> bool {
        false
    }

    /// Whether it spans the run, however long that is.
    fn spans_run(&self) -> bool {
        false
    }

    /// What it counts when nothing else is said.
    fn interval(&self) -> Interval {
        Interval::Epoch
    }

    /// Refuses numbers that mean nothing.
    fn check(&self) -> Result<()>;
}

#[derive(Debug, Clone)]
enum Form {
    Curve(Arc<dyn Curve>),
    Plateau(ReduceLROnPlateau),
}

/// A schedule of the learning rate, made from one of PyTorch's: [`StepLR`], [`MultiStepLR`], [`ExponentialLR`],
/// [`LinearLR`], [`PolynomialLR`], [`LambdaLR`], [`CosineAnnealingLR`], [`CosineAnnealingWarmRestarts`], [`OneCycleLR`],
/// [`SequentialLR`], [`ReduceLROnPlateau`]. [`Optim::schedule`](crate::Optim::schedule) takes it.
///
/// ```
/// use lightcell::prelude::*;
/// let schedule = Schedule::from(ExponentialLR::new(0.9)).per_step().frequency(100);
/// let optim = sgd(0.1, 0.0).schedule(schedule);
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    form: Form,
    interval: Interval,
    frequency: u64,
}

impl Schedule {
    fn curve(curve: impl Curve + 'static) -> Schedule {
        Schedule {
            interval: curve.interval(),
            form: Form::Curve(Arc::new(curve)),
            frequency: 1,
        }
    }

    /// Counts optimizer steps. A plateau goes on counting epochs.
    #[must_use]
    pub fn per_step(mut self) -> Schedule {
        if let Form::Curve(_) = self.form {
            self.interval = Interval::Step;
        }
        self
    }

    /// Counts epochs.
    #[must_use]
    pub fn per_epoch(mut self) -> Schedule {
        self.interval = Interval::Epoch;
        self
    }

    /// Counts only every n-th step or epoch.
    #[must_use]
    pub fn frequency(mut self, n: u64) -> Schedule {
        self.frequency = n.max(1);
        self
    }

    /// What it counts.
    pub fn interval(&self) -> Interval {
        self.interval
    }
}

/// Makes a curve's type a schedule, with a shorter way to say what it counts.
macro_rules! schedules {
    ($($name:ty),*) => {
        $(impl From<$name> for $crate::schedule::Schedule {
            fn from(curve: $name) -> $crate::schedule::Schedule {
                $crate::schedule::Schedule::curve(curve)
            }
        }

        impl $name {
            /// Counts optimizer steps.
            #[must_use]
            pub fn per_step(self) -> $crate::schedule::Schedule {
                $crate::schedule::Schedule::from(self).per_step()
            }

            /// Counts epochs.
            #[must_use]
            pub fn per_epoch(self) -> $crate::schedule::Schedule {
                $crate::schedule::Schedule::from(self).per_epoch()
            }
        })*
    };
}
use schedules;

impl From<ReduceLROnPlateau> for Schedule {
    fn from(plateau: ReduceLROnPlateau) -> Schedule {
        Schedule {
            form: Form::Plateau(plateau),
            interval: Interval::Epoch,
            frequency: 1,
        }
    }
}

/// Warm-up and schedule of an optimizer, as described.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub warmup: u64,
    pub schedule: Option<Schedule>,
}

impl Plan {
    pub fn check(&self, mut algorithm: Algorithm) -> Result<()> {
        match self.schedule.as_ref().map(|schedule| &schedule.form) {
            Some(Form::Curve(curve)) => {
                curve.check()?;
                if curve.cycles_momentum() && algorithm.momentum_mut().is_none() {
                    let name = algorithm.name();
                    return Err(Error::new(Kind::Option, format!("{name} has no momentum to cycle"))
                        .hint("OneCycleLR::new(…).cycle_momentum(false)"));
                }
                Ok(())
            }
            Some(Form::Plateau(plateau)) => plateau.check(),
            None => Ok(()),
        }
    }
}

/// How far a schedule has come: what a checkpoint keeps of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Optimizer steps since the schedule began.
    pub steps: u64,
    /// Epochs since the schedule began.
    pub epochs: u64,
    /// Optimizer steps that it spans.
    pub total_steps: u64,
    /// Epochs that it spans.
    pub total_epochs: u64,
    /// What a plateau has seen.
    pub plateau: PlateauState,
}

/// A schedule at work.
#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    plan: Plan,
    state: ScheduleState,
}

impl Scheduler {
    /// Whether anything changes the learning rate.
    pub fn scheduled(&self) -> bool {
        self.plan.schedule.is_some() || self.plan.warmup > 0
    }

    pub fn new(plan: Plan) -> Scheduler {
        Scheduler {
            plan,
            state: ScheduleState::default(),
        }
    }

    /// What the rate follows; steps, too, as long as a warm-up may be part of it.
    pub fn interval(&self) -> Option<Interval> {
        match &self.plan.schedule {
            _ if self.plan.warmup > 0 => Some(Interval::Step),
            schedule => schedule.as_ref().map(|schedule| schedule.interval),
        }
    }

    pub fn state(&self) -> &ScheduleState {
        &self.state
    }

    pub fn load_state(&mut self, state: ScheduleState) {
        self.state = state;
    }

    fn curve(&self) -> Option<(&dyn Curve, &Schedule)> {
        let schedule = self.plan.schedule.as_ref()?;
        match &schedule.form {
            Form::Curve(curve) => Some((&**curve, schedule)),
            Form::Plateau(_) => None,
        }
    }

    /// A run of so many steps and epochs begins. A schedule that spans its run begins anew when the last run came to its
    /// end; a run that was stopped goes on along the curve.
    pub fn begin_run(&mut self, steps: u64, epochs: u64) -> Result<()> {
        let state = &mut self.state;
        let over = match &self.plan.schedule {
            Some(schedule) if schedule.interval == Interval::Step => state.steps >= state.total_steps,
            _ => state.epochs >= state.total_epochs,
        };
        let spans = matches!(&self.plan.schedule, Some(Schedule { form: Form::Curve(curve), .. }) if curve.spans_run());
        if spans && (steps, epochs) == (u64::MAX, u64::MAX) {
            return Err(Error::new(
                Kind::Option,
                "the schedule spans the run, and nothing says how long the run is",
            )
            .hint("set max_epochs or max_steps, or the schedule's own length"));
        }
        if over && spans {
            (state.steps, state.epochs) = (0, 0);
        }
        state.total_steps = state.steps.saturating_add(steps);
        state.total_epochs = state.epochs.saturating_add(epochs);
        if spans && self.plan.warmup > 0 && self.plan.warmup >= state.total_steps {
            return Err(Error::new(
                Kind::Option,
                format!(
                    "a warm-up of {} steps leaves none of the run's {steps} to the schedule",
                    self.plan.warmup
                ),
            )
            .hint("use a shorter warm-up, or train longer"));
        }
        Ok(())
    }

    pub fn after_step(&mut self) {
        self.state.steps += 1;
    }

    /// A step of the run was left out: the schedule stays where it is, and one that spans its run has one step less to go.
    pub fn after_skipped_step(&mut self) {
        self.state.total_steps = self.state.total_steps.saturating_sub(1).max(self.state.steps);
    }

    pub fn after_epoch(&mut self) {
        self.state.epochs += 1;
    }

    /// Shows a plateau what the epoch gave.
    pub fn after_validation(&mut self, metrics: &Metrics, lrs: &[f64]) -> Result<()> {
        if let Some(schedule) = &self.plan.schedule
            && let Form::Plateau(plateau) = &schedule.form
            && self.state.epochs.is_multiple_of(schedule.frequency)
        {
            plateau.step(&mut self.state.plateau, metrics, lrs)?;
        }
        Ok(())
    }

    /// Where the curve stands: count and total.
    fn place(&self, schedule: &Schedule) -> (u64, u64) {
        let (t, total) = match schedule.interval {
            Interval::Step => {
                let after = |steps: u64| steps.saturating_sub(self.plan.warmup);
                (after(self.state.steps), after(self.state.total_steps))
            }
            Interval::Epoch => (self.state.epochs, self.state.total_epochs),
        };
        (t / schedule.frequency, total.div_ceil(schedule.frequency))
    }

    /// The learning rate of the next step, of the group of this number that began with `base`.
    pub fn lr(&self, base: f64, group: usize) -> f64 {
        let lr = match self.curve() {
            Some((curve, schedule)) => {
                let (t, total) = self.place(schedule);
                curve.lr(base, t, total)
            }
            None => self.state.plateau.lrs.get(group).copied().unwrap_or(base),
        };
        if self.state.steps < self.plan.warmup {
            return lr * (self.state.steps + 1) as f64 / self.plan.warmup as f64;
        }
        lr
    }

    /// The momentum of the next step, when the schedule changes it.
    pub fn momentum(&self) -> Option<f64> {
        let (curve, schedule) = self.curve()?;
        let (t, total) = self.place(schedule);
        curve.momentum(t, total)
    }
}

/// Refuses a count of 0.
fn positive(name: &str, count: u64) -> Result<()> {
    if count > 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Option, format!("{name} cannot be 0")).hint("it counts from 1"))
}

#[cfg(test)]
mod tests;
