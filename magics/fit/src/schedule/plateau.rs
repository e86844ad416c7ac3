//! A learning rate that falls when a metric no longer improves.

use crate::error::{Error, Kind, Result};
use crate::optim::not_negative;
use lightcell_events::run::Metrics;
use serde::{Deserialize, Serialize};

/// Whether a metric is better when it is lower or higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Lower is better.
    Min,
    /// Higher is better.
    Max,
}

/// How an improvement is measured against the best value so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdMode {
    /// As a share of it.
    Rel,
    /// As a difference from it.
    Abs,
}

/// Multiplies the learning rate by `factor` (0.1) when a metric has not improved for more than `patience` (10) epochs
/// (`torch.optim.lr_scheduler.ReduceLROnPlateau`). It looks at the metric after the epoch's validation.
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).schedule(ReduceLROnPlateau::new("val_loss").factor(0.5).patience(3));
/// let optim = sgd(0.1, 0.9).schedule(ReduceLROnPlateau::new("val_acc").mode(PlateauMode::Max));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ReduceLROnPlateau {
    monitor: String,
    mode: Mode,
    factor: f64,
    patience: u64,
    threshold: f64,
    threshold_mode: ThresholdMode,
    cooldown: u64,
    min_lr: f64,
    eps: f64,
}

/// What a plateau has seen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PlateauState {
    /// The best value of the metric; `None` before the first.
    pub best: Option<f64>,
    /// Epochs without an improvement.
    pub num_bad_epochs: u64,
    /// Epochs that still do not count, after a change.
    pub cooldown_counter: u64,
    /// The learning rates of the groups; empty before the first epoch.
    pub lrs: Vec<f64>,
}

impl ReduceLROnPlateau {
    /// The name of the metric, as it is logged.
    pub fn new(monitor: &str) -> ReduceLROnPlateau {
        ReduceLROnPlateau {
            monitor: monitor.to_owned(),
            mode: Mode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }

    /// Sets whether lower or higher is better; lower.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> ReduceLROnPlateau {
        self.mode = mode;
        self
    }

    /// Sets the factor, below 1.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> ReduceLROnPlateau {
        self.factor = factor;
        self
    }

    /// Sets how many epochs without an improvement are let pass.
    #[must_use]
    pub fn patience(mut self, epochs: u64) -> ReduceLROnPlateau {
        self.patience = epochs;
        self
    }

    /// Sets what counts as an improvement: a share of the best value or a difference from it; a share of 1e-4.
    #[must_use]
    pub fn threshold(mut self, threshold: f64, mode: ThresholdMode) -> ReduceLROnPlateau {
        (self.threshold, self.threshold_mode) = (threshold, mode);
        self
    }

    /// Sets how many epochs after a change do not count; 0.
    #[must_use]
    pub fn cooldown(mut self, epochs: u64) -> ReduceLROnPlateau {
        self.cooldown = epochs;
        self
    }

    /// Sets the lowest learning rate; 0.
    #[must_use]
    pub fn min_lr(mut self, lr: f64) -> ReduceLROnPlateau {
        self.min_lr = lr;
        self
    }

    /// Sets the smallest change that is made; 1e-8.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> ReduceLROnPlateau {
        self.eps = eps;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.factor) {
            return Err(Error::new(
                Kind::Option,
                format!("the factor of ReduceLROnPlateau is below 1, not {}", self.factor),
            ));
        }
        not_negative("the min_lr of ReduceLROnPlateau", self.min_lr)
    }

    fn better(&self, value: f64, best: Option<f64>) -> bool {
        let Some(best) = best else { return value.is_finite() };
        match (self.mode, self.threshold_mode) {
            (Mode::Min, ThresholdMode::Rel) => value < best * (1.0 - self.threshold),
            (Mode::Min, ThresholdMode::Abs) => value < best - self.threshold,
            (Mode::Max, ThresholdMode::Rel) => value > best * (self.threshold + 1.0),
            (Mode::Max, ThresholdMode::Abs) => value > best + self.threshold,
        }
    }

    /// Takes an epoch's metrics. `lrs` are the groups' first learning rates.
    pub(super) fn step(&self, state: &mut PlateauState, metrics: &Metrics, lrs: &[f64]) -> Result<()> {
        let Some(&value) = metrics.get(&self.monitor) else {
            let names: Vec<&str> = metrics.keys().map(String::as_str).collect();
            let error = format!("ReduceLROnPlateau watches `{}`, which was not logged", self.monitor);
            return Err(Error::new(Kind::Option, error).hint(format!("logged were {}", names.join(", "))));
        };
        if state.lrs.is_empty() {
            state.lrs = lrs.to_vec();
        }
        if self.better(value, state.best) {
            state.best = Some(value);
            state.num_bad_epochs = 0;
        } else {
            state.num_bad_epochs += 1;
        }
        if state.cooldown_counter > 0 {
            state.cooldown_counter -= 1;
            state.num_bad_epochs = 0;
        }
        if state.num_bad_epochs > self.patience {
            for lr in &mut state.lrs {
                let lower = (*lr * self.factor).max(self.min_lr);
                if *lr - lower > self.eps {
                    *lr = lower;
                }
            }
            state.cooldown_counter = self.cooldown;
            state.num_bad_epochs = 0;
        }
        Ok(())
    }
}
