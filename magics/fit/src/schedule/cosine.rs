//! Schedules along a cosine.

use super::{Curve, Interval, positive, schedules};
use crate::error::Result;
use std::f64::consts::PI;

schedules!(CosineAnnealingLR, CosineAnnealingWarmRestarts);

/// Lets the learning rate fall along half a cosine to `eta_min` (0), and rise again the same way after it
/// (`torch.optim.lr_scheduler.CosineAnnealingLR`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = adam(1e-3).schedule(CosineAnnealingLR::new(50).eta_min(1e-5));
/// // Over the run, however long it is, step by step: what `adam(1e-3).cosine()` is short for.
/// let optim = adam(1e-3).schedule(CosineAnnealingLR::whole_run());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosineAnnealingLR {
    t_max: Option<u64>,
    eta_min: f64,
}

impl CosineAnnealingLR {
    /// In so many epochs.
    pub fn new(t_max: u64) -> CosineAnnealingLR {
        CosineAnnealingLR {
            t_max: Some(t_max),
            eta_min: 0.0,
        }
    }

    /// In as many optimizer steps as the run has.
    pub fn whole_run() -> CosineAnnealingLR {
        CosineAnnealingLR {
            t_max: None,
            eta_min: 0.0,
        }
    }

    /// Sets the lowest learning rate.
    #[must_use]
    pub fn eta_min(mut self, lr: f64) -> CosineAnnealingLR {
        self.eta_min = lr;
        self
    }
}

impl Curve for CosineAnnealingLR {
    fn lr(&self, base: f64, t: u64, total: u64) -> f64 {
        let t_max = self.t_max.unwrap_or(total).max(1);
        along(base, self.eta_min, t as f64 / t_max as f64)
    }

    fn spans_run(&self) -> bool {
        self.t_max.is_none()
    }

    fn interval(&self) -> Interval {
        if self.t_max.is_none() {
            Interval::Step
        } else {
            Interval::Epoch
        }
    }

    fn check(&self) -> Result<()> {
        positive("the t_max of CosineAnnealingLR", self.t_max.unwrap_or(1))
    }
}

/// Lets the learning rate fall along half a cosine to `eta_min` (0) in `t_0` epochs and begins again, each time with
/// `t_mult` (1) times as many epochs (`torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(CosineAnnealingWarmRestarts::new(10).t_mult(2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosineAnnealingWarmRestarts {
    t_0: u64,
    t_mult: u64,
    eta_min: f64,
}

impl CosineAnnealingWarmRestarts {
    /// Epochs of the first cosine.
    pub fn new(t_0: u64) -> CosineAnnealingWarmRestarts {
        CosineAnnealingWarmRestarts {
            t_0,
            t_mult: 1,
            eta_min: 0.0,
        }
    }

    /// Sets by how much each cosine is longer than the one before.
    #[must_use]
    pub fn t_mult(mut self, factor: u64) -> CosineAnnealingWarmRestarts {
        self.t_mult = factor;
        self
    }

    /// Sets the lowest learning rate.
    #[must_use]
    pub fn eta_min(mut self, lr: f64) -> CosineAnnealingWarmRestarts {
        self.eta_min = lr;
        self
    }
}

impl Curve for CosineAnnealingWarmRestarts {
    fn lr(&self, base: f64, t: u64, _: u64) -> f64 {
        let (mut at, mut length) = (t, self.t_0.max(1));
        if self.t_mult <= 1 {
            at %= length;
        }
        while at >= length {
            at -= length;
            length = length.saturating_mul(self.t_mult);
        }
        along(base, self.eta_min, at as f64 / length as f64)
    }

    fn check(&self) -> Result<()> {
        positive("the t_0 of CosineAnnealingWarmRestarts", self.t_0)?;
        positive("the t_mult of CosineAnnealingWarmRestarts", self.t_mult)
    }
}

/// From `base` at 0 to `low` at 1.
fn along(base: f64, low: f64, share: f64) -> f64 {
    low + (base - low) * (1.0 + (PI * share).cos()) / 2.0
}
