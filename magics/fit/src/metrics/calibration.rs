//! Whether predictions are as sure as they are right.

use super::inputs::{Inputs, Task};
use super::{Metric, State, metric};
use crate::error::Result;
use tch::{Kind as TKind, Tensor};

/// How the bins' differences become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Their mean, weighted by samples: the expected calibration error.
    L1,
    /// The root of the mean of their squares.
    L2,
    /// The largest.
    Max,
}

/// The difference of how sure predictions are and how often they are right, over bins of confidence (Naeini and others,
/// 2015).
///
/// ```
/// use lightcell::prelude::*;
/// let error = metrics::CalibrationError::binary().n_bins(2);
/// error.update(&Tensor::from_slice(&[0.25f32, 0.25, 0.55, 0.75]), &Tensor::from_slice(&[0i64, 0, 1, 1]))?;
/// assert!((error.compute()? - 0.3).abs() < 1e-6);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CalibrationError {
    inputs: Inputs,
    n_bins: i64,
    norm: Norm,
    state: State,
}

impl CalibrationError {
    /// For probabilities of yes `[n]`.
    pub fn binary() -> CalibrationError {
        CalibrationError::of(Task::Binary)
    }

    /// For probabilities `[n, classes, …]`, of which the largest counts.
    pub fn multiclass(classes: i64) -> CalibrationError {
        CalibrationError::of(Task::Multiclass(classes))
    }

    fn of(task: Task) -> CalibrationError {
        CalibrationError {
            inputs: Inputs::new(task),
            n_bins: 15,
            norm: Norm::L1,
            state: State::default(),
        }
    }

    /// Into how many bins confidences are put; 15 at first.
    #[must_use]
    pub fn n_bins(mut self, n_bins: i64) -> CalibrationError {
        self.n_bins = n_bins.max(1);
        self
    }

    /// How the bins' differences become one number; their mean at first.
    #[must_use]
    pub fn norm(mut self, norm: Norm) -> CalibrationError {
        self.norm = norm;
        self
    }

    /// Predictions are logits, of which the metric makes probabilities.
    #[must_use]
    pub fn logits(mut self) -> CalibrationError {
        self.inputs.logits = true;
        self
    }

    /// Targets of this label do not count.
    #[must_use]
    pub fn ignore_index(mut self, label: i64) -> CalibrationError {
        self.inputs.ignore_index = Some(label);
        self
    }

    /// The value over all that was added; NaN, when nothing was.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn compute(&self) -> Result<f64> {
        Metric::compute(self)
    }

    fn added(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
        let (scores, target) = self.inputs.scores(preds, target)?;
        let scores = self.inputs.probabilities(&scores)?;
        let (sure, right) = match self.inputs.task {
            Task::Binary => (scores, target),
            Task::Multiclass(_) => {
                let (sure, predicted) = scores.f_max_dim(1, false)?;
                (sure, predicted.f_eq_tensor(&target)?)
            }
        };
        let sure = sure.f_to_kind(TKind::Float)?;
        let borders = Tensor::f_linspace(0.0, 1.0, self.n_bins + 1, (TKind::Float, sure.device()))?;
        // Bins have their lower border; the last one also has 1.
        let bins = sure
            .f_bucketize(&borders, false, true)?
            .f_sub_scalar(1)?
            .f_clamp(0, self.n_bins)?;
        let sum = |values: Tensor| bins.f_bincount(Some(values.f_to_kind(TKind::Double)?), self.n_bins + 1);
        let counts = sum(sure.f_ones_like()?)?;
        let sums = Tensor::f_stack(&[counts, sum(sure)?, sum(right)?], 0)?;
        self.state.add(&sums.f_to_kind(TKind::Double)?)
    }

    fn value(&self) -> Result<f64> {
        let Some(sums) = self.state.numbers()? else {
            return Ok(f64::NAN);
        };
        let bins = self.n_bins as usize + 1;
        let all: f64 = sums[..bins].iter().sum();
        let full = (0..bins).filter(|bin| sums[*bin] > 0.0);
        let differences = full.map(|bin| {
            let count = sums[bin];
            ((sums[bins + bin] - sums[2 * bins + bin]).abs() / count, count / all)
        });
        Ok(match self.norm {
            Norm::L1 => differences.map(|(difference, share)| difference * share).sum(),
            Norm::L2 => differences
                .map(|(difference, share)| difference * difference * share)
                .sum::<f64>()
                .sqrt(),
            Norm::Max => differences.map(|(difference, _)| difference).fold(0.0, f64::max),
        })
    }
}

metric!(CalibrationError, sums);
