//! Metrics of predicted numbers.

use super::{Metric, State, metric};
use crate::error::{Error, Kind, Result};
use tch::{Kind as TKind, Tensor};

/// Both in `Kind::Double`, of one shape.
fn pair(preds: &Tensor, target: &Tensor) -> Result<(Tensor, Tensor)> {
    let (given, wanted) = (preds.size(), target.size());
    if given != wanted {
        let error = Error::new(
            Kind::Shape,
            format!("predictions of {given:?} do not fit targets of {wanted:?}"),
        );
        let same = given.iter().product::<i64>() == wanted.iter().product::<i64>();
        return Err(match same {
            true => error.hint("bring one into the other's shape: `preds.view_as(target)`"),
            false => error,
        });
    }
    Ok((preds.f_to_kind(TKind::Double)?, target.f_to_kind(TKind::Double)?))
}

fn sums(values: &[Tensor]) -> Result<Tensor> {
    let flat: Result<Vec<Tensor>> = values.iter().map(|value| Ok(value.f_reshape([-1])?)).collect();
    Ok(Tensor::f_cat(&flat?, 0)?)
}

fn count(of: &Tensor, number: i64) -> Result<Tensor> {
    Ok(Tensor::f_full([1], number as f64, (TKind::Double, of.device()))?)
}

macro_rules! error_metric {
    ($(#[$meta:meta])* $name:ident, $difference:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default)]
        pub struct $name {
            root: bool,
            state: State,
        }

        impl $name {
            /// Over all numbers of predictions and targets, which have one shape.
            pub fn new() -> $name {
                $name::default()
            }

            /// The value over all that was added; NaN, when nothing was.
            ///
            /// # Errors
            /// libtorch's own.
            pub fn compute(&self) -> Result<f64> {
                Metric::compute(self)
            }

            fn added(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
                let (preds, target) = pair(preds, target)?;
                let difference = preds.f_sub(&target)?.$difference()?;
                let count = count(&target, target.numel() as i64)?;
                self.state.add(&sums(&[difference.f_sum(TKind::Double)?, count])?)
            }

            fn value(&self) -> Result<f64> {
                let mean = self.state.numbers()?.map_or(f64::NAN, |sums| sums[0] / sums[1]);
                Ok(if self.root { mean.sqrt() } else { mean })
            }
        }

        metric!($name, sums);
    };
}

error_metric!(
    /// The mean of the squares of predictions' errors.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let error = metrics::MeanSquaredError::new();
    /// error.update(&Tensor::from_slice(&[1.0f32, 2.0]), &Tensor::from_slice(&[1.0f32, 4.0]))?;
    /// assert_eq!(error.compute()?, 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    MeanSquaredError,
    f_square
);
error_metric!(
    /// The mean of the sizes of predictions' errors.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let error = metrics::MeanAbsoluteError::new();
    /// error.update(&Tensor::from_slice(&[1.0f32, 2.0]), &Tensor::from_slice(&[1.0f32, 4.0]))?;
    /// assert_eq!(error.compute()?, 1.0);
    /// # Ok::<(), Error>(())
    /// ```
    MeanAbsoluteError,
    f_abs
);

impl MeanSquaredError {
    /// Whether the value is the mean of the squares, as it is at first, or its root, in the unit of the targets.
    #[must_use]
    pub fn squared(mut self, squared: bool) -> MeanSquaredError {
        self.root = !squared;
        self
    }
}

/// The share of the targets' variance that predictions explain: 1 is all, 0 is what the mean explains. Over several outputs,
/// the mean of theirs.
///
/// ```
/// use lightcell::prelude::*;
/// let r2 = metrics::R2Score::new();
/// r2.update(&Tensor::from_slice(&[1.0f32, 2.0, 3.0]), &Tensor::from_slice(&[1.0f32, 2.0, 3.0]))?;
/// assert_eq!(r2.compute()?, 1.0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct R2Score {
    state: State,
}

impl R2Score {
    /// For predictions and targets `[n]` or `[n, outputs]`.
    pub fn new() -> R2Score {
        R2Score::default()
    }

    /// The value over all that was added; NaN, when there are fewer than two samples.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn compute(&self) -> Result<f64> {
        Metric::compute(self)
    }

    fn added(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
        let (preds, target) = pair(preds, target)?;
        let samples = target.size().first().copied().unwrap_or(1);
        let (preds, target) = (preds.f_reshape([samples, -1])?, target.f_reshape([samples, -1])?);
        let sum = |values: Tensor| values.f_sum_dim_intlist(0, false, TKind::Double);
        // Of the residuals' squares, of targets, and of their squares, for each output.
        let parts = [
            sum(target.f_sub(&preds)?.f_square()?)?,
            sum(target.f_square()?)?,
            sum(target.shallow_clone())?,
            count(&target, samples)?,
        ];
        self.state.add(&sums(&parts)?)
    }

    fn value(&self) -> Result<f64> {
        let Some(sums) = self.state.numbers()? else {
            return Ok(f64::NAN);
        };
        let (outputs, samples) = ((sums.len() - 1) / 3, sums[sums.len() - 1]);
        if samples < 2.0 {
            return Ok(f64::NAN);
        }
        let score = |output: usize| {
            let (residual, squares, sum) = (sums[output], sums[outputs + output], sums[2 * outputs + output]);
            let total = squares - sum * sum / samples;
            match total > 0.0 {
                true => 1.0 - residual / total,
                // Of targets that are all alike, everything or nothing is explained.
                false if residual == 0.0 => 1.0,
                false => 0.0,
            }
        };
        Ok((0..outputs).map(score).sum::<f64>() / outputs as f64)
    }
}

metric!(R2Score, sums);
