//! Schedules that fall (or rise) by a rule: in steps, exponentially, along a line or a power, or as the user says.

use super::{Curve, positive, schedules};
use crate::error::{Error, Kind, Result};
use std::fmt;
use std::sync::Arc;

schedules!(StepLR, MultiStepLR, ExponentialLR, LinearLR, PolynomialLR, LambdaLR);

/// Multiplies the learning rate by `gamma` (0.1) every `step_size` epochs (`torch.optim.lr_scheduler.StepLR`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(StepLR::new(30).gamma(0.5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepLR {
    step_size: u64,
    gamma: f64,
}

impl StepLR {
    /// Epochs between two changes, at least 1.
    pub fn new(step_size: u64) -> StepLR {
        StepLR { step_size, gamma: 0.1 }
    }

    /// Sets the factor.
    #[must_use]
    pub fn gamma(mut self, gamma: f64) -> StepLR {
        self.gamma = gamma;
        self
    }
}

impl Curve for StepLR {
    fn lr(&self, base: f64, t: u64, _: u64) -> f64 {
        base * power(self.gamma, t / self.step_size.max(1))
    }

    fn check(&self) -> Result<()> {
        positive("the step_size of StepLR", self.step_size)
    }
}

/// Multiplies the learning rate by `gamma` (0.1) at each of these epochs (`torch.optim.lr_scheduler.MultiStepLR`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(MultiStepLR::new([30, 80]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MultiStepLR {
    milestones: Vec<u64>,
    gamma: f64,
}

impl MultiStepLR {
    /// The epochs, in any order; one that is named twice counts twice.
    pub fn new(milestones: impl Into<Vec<u64>>) -> MultiStepLR {
        MultiStepLR {
            milestones: milestones.into(),
            gamma: 0.1,
        }
    }

    /// Sets the factor.
    #[must_use]
    pub fn gamma(mut self, gamma: f64) -> MultiStepLR {
        self.gamma = gamma;
        self
    }
}

impl Curve for MultiStepLR {
    fn lr(&self, base: f64, t: u64, _: u64) -> f64 {
        let passed = self.milestones.iter().filter(|milestone| **milestone <= t).count();
        base * power(self.gamma, passed as u64)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Multiplies the learning rate by `gamma` every epoch (`torch.optim.lr_scheduler.ExponentialLR`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(ExponentialLR::new(0.95));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExponentialLR {
    gamma: f64,
}

impl ExponentialLR {
    /// The factor.
    pub fn new(gamma: f64) -> ExponentialLR {
        ExponentialLR { gamma }
    }
}

impl Curve for ExponentialLR {
    fn lr(&self, base: f64, t: u64, _: u64) -> f64 {
        base * power(self.gamma, t)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Moves a factor of the learning rate along a line, from `start_factor` (1/3) to `end_factor` (1) over `total_iters` (5)
/// epochs, and keeps it then (`torch.optim.lr_scheduler.LinearLR`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(LinearLR::new().start_factor(1.0).end_factor(0.0).total_iters(100));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearLR {
    start_factor: f64,
    end_factor: f64,
    total_iters: u64,
}

impl Default for LinearLR {
    fn default() -> LinearLR {
        LinearLR::new()
    }
}

impl LinearLR {
    /// From a third of the learning rate to all of it, in 5 epochs.
    pub fn new() -> LinearLR {
        LinearLR {
            start_factor: 1.0 / 3.0,
            end_factor: 1.0,
            total_iters: 5,
        }
    }

    /// Sets the first factor, above 0 and at most 1.
    #[must_use]
    pub fn start_factor(mut self, factor: f64) -> LinearLR {
        self.start_factor = factor;
        self
    }

    /// Sets the last factor, from 0 to 1.
    #[must_use]
    pub fn end_factor(mut self, factor: f64) -> LinearLR {
        self.end_factor = factor;
        self
    }

    /// Sets after how many epochs the last factor is reached.
    #[must_use]
    pub fn total_iters(mut self, count: u64) -> LinearLR {
        self.total_iters = count;
        self
    }
}

impl Curve for LinearLR {
    fn lr(&self, base: f64, t: u64, _: u64) -> f64 {
        let share = t.min(self.total_iters) as f64 / self.total_iters.max(1) as f64;
        base * (self.start_factor + (self.end_factor - self.start_factor) * share)
    }

    fn check(&self) -> Result<()> {
        positive("the total_iters of LinearLR", self.total_iters)?;
        let fits = self.start_factor > 0.0 && self.start_factor <= 1.0 && (0.0..=1.0).contains(&self.end_factor);
        if !fits {
            let error = format!(
                "LinearLR cannot go from factor {} to {}",
                self.start_factor, self.end_factor
            );
            return Err(Error::new(Kind::Option, error).hint("factors are between 0 and 1, the first is not 0"));
        }
        Ok(())
    }
}

/// Lets the learning rate fall to 0 in `total_iters` epochs, along a line or, with a `power`, a power of it
/// (`torch.optim.lr_scheduler.PolynomialLR`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(PolynomialLR::new(100).power(0.9));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolynomialLR {
    total_iters: u64,
    power: f64,
}

impl PolynomialLR {
    /// After how many epochs the learning rate is 0; a line.
    pub fn new(total_iters: u64) -> PolynomialLR {
        PolynomialLR {
            total_iters,
            power: 1.0,
        }
    }

    /// Sets the power.
    #[must_use]
    pub fn power(mut self, power: f64) -> PolynomialLR {
        self.power = power;
        self
    }
}

impl Curve for PolynomialLR {
    fn lr(&self, base: f64, t: u64, _: u64) -> f64 {
        let done = t.min(self.total_iters) as f64 / self.total_iters.max(1) as f64;
        base * (1.0 - done).powf(self.power)
    }

    fn check(&self) -> Result<()> {
        positive("the total_iters of PolynomialLR", self.total_iters)
    }
}

/// Multiplies the first learning rate by what a function gives for the number of epochs done
/// (`torch.optim.lr_scheduler.LambdaLR`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(LambdaLR::new(|epoch| 1.0 / (epoch + 1) as f64));
/// ```
#[derive(Clone)]
pub struct LambdaLR {
    factor: Arc<dyn Fn(u64) -> f64 + Send + Sync>,
}

impl fmt::Debug for LambdaLR {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LambdaLR")
    }
}

impl LambdaLR {
    /// The function.
    pub fn new(factor: impl Fn(u64) -> f64 + Send + Sync + 'static) -> LambdaLR {
        LambdaLR {
            factor: Arc::new(factor),
        }
    }
}

impl Curve for LambdaLR {
    fn lr(&self, base: f64, t: u64, _: u64) -> f64 {
        base * (self.factor)(t)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

fn power(base: f64, exponent: u64) -> f64 {
    base.powi(i32::try_from(exponent).unwrap_or(i32::MAX))
}
