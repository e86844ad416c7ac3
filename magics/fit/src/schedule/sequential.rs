//! Several schedules, one after another.

use super::{Curve, Form, Interval, Schedule};
use crate::error::{Error, Kind, Result};

/// Follows one schedule until the first milestone, the next until the second, and so on
/// (`torch.optim.lr_scheduler.SequentialLR`). Each begins its count anew; what is counted is what the first one counts.
///
/// ```
/// use lightcell::prelude::*;
/// let warm = LinearLR::new().start_factor(0.1).total_iters(5);
/// let optim = sgd(0.1, 0.9).schedule(SequentialLR::new([warm.into(), ExponentialLR::new(0.9).into()], [5]));
/// ```
#[derive(Debug, Clone)]
pub struct SequentialLR {
    schedules: Vec<Schedule>,
    milestones: Vec<u64>,
}

super::schedules!(SequentialLR);

impl SequentialLR {
    /// The schedules, and the counts at which each but the first begins.
    pub fn new(schedules: impl Into<Vec<Schedule>>, milestones: impl Into<Vec<u64>>) -> SequentialLR {
        SequentialLR {
            schedules: schedules.into(),
            milestones: milestones.into(),
        }
    }

    /// The curve at `t`, with its own count and length.
    fn part(&self, t: u64, total: u64) -> Option<(&dyn Curve, u64, u64)> {
        let at = self.milestones.iter().filter(|milestone| **milestone <= t).count();
        let begin = if at == 0 { 0 } else { self.milestones[at - 1] };
        let end = self.milestones.get(at).copied().unwrap_or(total);
        match &self.schedules.get(at)?.form {
            Form::Curve(curve) => Some((&**curve, t - begin, end.saturating_sub(begin))),
            Form::Plateau(_) => None,
        }
    }
}

impl Curve for SequentialLR {
    fn lr(&self, base: f64, t: u64, total: u64) -> f64 {
        self.part(t, total)
            .map_or(base, |(curve, t, total)| curve.lr(base, t, total))
    }

    fn momentum(&self, t: u64, total: u64) -> Option<f64> {
        let (curve, t, total) = self.part(t, total)?;
        curve.momentum(t, total)
    }

    fn cycles_momentum(&self) -> bool {
        self.schedules
            .iter()
            .any(|schedule| matches!(&schedule.form, Form::Curve(curve) if curve.cycles_momentum()))
    }

    fn spans_run(&self) -> bool {
        matches!(self.schedules.last().map(|last| &last.form), Some(Form::Curve(curve)) if curve.spans_run())
    }

    fn interval(&self) -> Interval {
        self.schedules.first().map_or(Interval::Epoch, Schedule::interval)
    }

    fn check(&self) -> Result<()> {
        if self.schedules.len() != self.milestones.len() + 1 || !self.milestones.is_sorted() {
            return Err(Error::new(
                Kind::Option,
                format!(
                    "SequentialLR has {} schedules and the milestones {:?}",
                    self.schedules.len(),
                    self.milestones
                ),
            )
            .hint("there is one milestone less than schedules, in rising order"));
        }
        for schedule in &self.schedules {
            match &schedule.form {
                Form::Curve(curve) => curve.check()?,
                Form::Plateau(_) => {
                    return Err(Error::new(
                        Kind::Option,
                        "ReduceLROnPlateau cannot be a part of SequentialLR: it has no fixed curve",
                    ));
                }
            }
        }
        Ok(())
    }
}
