//! The 1cycle policy: up to a large learning rate, and down to one far below the first, with the momentum against it.

use super::{Curve, Interval, schedules};
use crate::error::{Error, Kind, Result};
use std::f64::consts::PI;

schedules!(OneCycleLR);

/// Goes from `max_lr / div_factor` (25) up to `max_lr` in the first `pct_start` (0.3) of the run, and down to the first
/// learning rate divided by `final_div_factor` (10000) in the rest, along cosines. The momentum, or Adam's first beta, goes
/// from `max_momentum` (0.95) to `base_momentum` (0.85) and back (`torch.optim.lr_scheduler.OneCycleLR`).
///
/// It counts optimizer steps and spans the run, unless `total_steps` says otherwise. The optimizer's own learning rate and
/// those of its groups do not matter.
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(OneCycleLR::new(1.0).pct_start(0.2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycleLR {
    max_lr: f64,
    total_steps: Option<u64>,
    pct_start: f64,
    linear: bool,
    cycle_momentum: bool,
    base_momentum: f64,
    max_momentum: f64,
    div_factor: f64,
    final_div_factor: f64,
    three_phase: bool,
}

impl OneCycleLR {
    /// The largest learning rate.
    pub fn new(max_lr: f64) -> OneCycleLR {
        OneCycleLR {
            max_lr,
            total_steps: None,
            pct_start: 0.3,
            linear: false,
            cycle_momentum: true,
            base_momentum: 0.85,
            max_momentum: 0.95,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        }
    }

    /// Sets the length of the cycle; after it, the learning rate stays.
    #[must_use]
    pub fn total_steps(mut self, steps: u64) -> OneCycleLR {
        self.total_steps = Some(steps);
        self
    }

    /// Sets the share of the cycle in which the learning rate rises.
    #[must_use]
    pub fn pct_start(mut self, share: f64) -> OneCycleLR {
        self.pct_start = share;
        self
    }

    /// Goes along lines instead of cosines.
    #[must_use]
    pub fn linear(mut self) -> OneCycleLR {
        self.linear = true;
        self
    }

    /// Whether the momentum goes against the learning rate.
    #[must_use]
    pub fn cycle_momentum(mut self, cycle: bool) -> OneCycleLR {
        self.cycle_momentum = cycle;
        self
    }

    /// Sets the smallest and the largest momentum.
    #[must_use]
    pub fn momentum(mut self, base: f64, max: f64) -> OneCycleLR {
        (self.base_momentum, self.max_momentum) = (base, max);
        self
    }

    /// Sets by what `max_lr` is divided at the beginning.
    #[must_use]
    pub fn div_factor(mut self, factor: f64) -> OneCycleLR {
        self.div_factor = factor;
        self
    }

    /// Sets by what the first learning rate is divided at the end.
    #[must_use]
    pub fn final_div_factor(mut self, factor: f64) -> OneCycleLR {
        self.final_div_factor = factor;
        self
    }

    /// Goes down as long as up, and only then far down.
    #[must_use]
    pub fn three_phase(mut self) -> OneCycleLR {
        self.three_phase = true;
        self
    }

    /// The value at `t` of what goes through these corners.
    fn at(&self, t: u64, total: u64, corners: &[f64]) -> f64 {
        let total = self.total_steps.unwrap_or(total).max(1) as f64;
        let rise = self.pct_start * total;
        let ends: &[f64] = if self.three_phase {
            &[rise - 1.0, 2.0 * rise - 2.0, total - 1.0]
        } else {
            &[rise - 1.0, total - 1.0]
        };
        let (t, mut from) = ((t as f64).min(total - 1.0), 0.0);
        let last = ends.len() - 1;
        for (phase, &end) in ends.iter().enumerate() {
            if t <= end || phase == last {
                // A cycle so short that a phase has no length.
                let share = if end > from { (t - from) / (end - from) } else { 1.0 };
                return self.between(corners[phase], corners[phase + 1], share);
            }
            from = end;
        }
        corners[0]
    }

    fn between(&self, start: f64, end: f64, share: f64) -> f64 {
        if self.linear {
            (end - start) * share + start
        } else {
            end + (start - end) / 2.0 * ((PI * share).cos() + 1.0)
        }
    }
}

impl Curve for OneCycleLR {
    fn lr(&self, _: f64, t: u64, total: u64) -> f64 {
        let first = self.max_lr / self.div_factor;
        let last = first / self.final_div_factor;
        if self.three_phase {
            self.at(t, total, &[first, self.max_lr, first, last])
        } else {
            self.at(t, total, &[first, self.max_lr, last])
        }
    }

    fn momentum(&self, t: u64, total: u64) -> Option<f64> {
        let (low, high) = (self.base_momentum, self.max_momentum);
        let corners = if self.three_phase {
            vec![high, low, high, high]
        } else {
            vec![high, low, high]
        };
        self.cycle_momentum.then(|| self.at(t, total, &corners))
    }

    fn cycles_momentum(&self) -> bool {
        self.cycle_momentum
    }

    fn spans_run(&self) -> bool {
        self.total_steps.is_none()
    }

    fn interval(&self) -> Interval {
        Interval::Step
    }

    fn check(&self) -> Result<()> {
        super::positive("the total_steps of OneCycleLR", self.total_steps.unwrap_or(1))?;
        if !(0.0..=1.0).contains(&self.pct_start) {
            return Err(Error::new(
                Kind::Option,
                format!("the pct_start of OneCycleLR is between 0 and 1, not {}", self.pct_start),
            ));
        }
        for (name, value) in [
            ("max_lr", self.max_lr),
            ("div_factor", self.div_factor),
            ("final_div_factor", self.final_div_factor),
            ("base_momentum", self.base_momentum),
            ("max_momentum", self.max_momentum),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(
                    Error::new(Kind::Option, format!("the {name} of OneCycleLR cannot be {value}"))
                        .hint("it is above 0"),
                );
            }
        }
        Ok(())
    }
}
