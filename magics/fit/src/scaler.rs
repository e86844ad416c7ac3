//! Scaling of the loss, so that small gradients are not 0 in float16.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind as TKind, Tensor};

/// Multiplies the loss by a large number before the backward pass and divides the gradients by it after
/// (`torch.amp.GradScaler`, with its names, defaults and arithmetic). A step whose gradients hold an infinite number or none is
/// left out, the scale falls, and the schedule of the learning rate stays where it is; after many good steps the scale
/// rises. [`Precision::F16Mixed`](crate::Precision::F16Mixed) brings one; [`Trainer::grad_scaler`](crate::Trainer::grad_scaler)
/// sets another.
///
/// Whether a step is left out is known when its gradients are: each optimizer step waits for the device once, as in PyTorch.
///
/// ```
/// use lightcell::prelude::*;
/// let scaler = GradScaler::new().init_scale(1024.0).growth_interval(100);
/// assert_eq!(scaler.scale(), 1024.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradScaler {
    scale: f32,
    growth_factor: f64,
    backoff_factor: f64,
    growth_interval: u64,
    /// Good steps since the scale last changed.
    #[serde(rename = "_growth_tracker")]
    growth_tracker: u64,
    skipped_steps: u64,
}

impl Default for GradScaler {
    fn default() -> GradScaler {
        GradScaler {
            scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            growth_tracker: 0,
            skipped_steps: 0,
        }
    }
}

impl GradScaler {
    /// All defaults.
    pub fn new() -> GradScaler {
        GradScaler::default()
    }

    /// The first scale, above 0; 65536.
    #[must_use]
    pub fn init_scale(mut self, scale: f32) -> GradScaler {
        self.scale = scale;
        self
    }

    /// By what the scale is multiplied after many good steps, above 1; 2.
    #[must_use]
    pub fn growth_factor(mut self, factor: f64) -> GradScaler {
        self.growth_factor = factor;
        self
    }

    /// By what the scale is multiplied after a step that was left out, between 0 and 1; 0.5.
    #[must_use]
    pub fn backoff_factor(mut self, factor: f64) -> GradScaler {
        self.backoff_factor = factor;
        self
    }

    /// Good steps in a row after which the scale rises, at least 1; 2000.
    #[must_use]
    pub fn growth_interval(mut self, steps: u64) -> GradScaler {
        self.growth_interval = steps;
        self
    }

    /// The scale of the next loss.
    pub fn scale(&self) -> f64 {
        self.scale.into()
    }

    /// Steps that were left out.
    pub fn skipped_steps(&self) -> u64 {
        self.skipped_steps
    }

    /// Refuses what means nothing.
    pub(crate) fn check(&self) -> Result<()> {
        let fault = |text: String, hint: &str| Err(Error::new(Kind::Option, text).hint(hint));
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return fault(
                format!("the scaler's init_scale cannot be {}", self.scale),
                "it is above 0, usually 65536",
            );
        }
        if !(self.growth_factor > 1.0 && self.growth_factor.is_finite()) {
            let factor = self.growth_factor;
            return fault(
                format!("the scaler's growth_factor cannot be {factor}"),
                "it is above 1, usually 2",
            );
        }
        if !(self.backoff_factor > 0.0 && self.backoff_factor < 1.0) {
            let factor = self.backoff_factor;
            let hint = "it is between 0 and 1, usually 0.5";
            return fault(format!("the scaler's backoff_factor cannot be {factor}"), hint);
        }
        if self.growth_interval == 0 {
            return fault(
                "the scaler's growth_interval cannot be 0".to_owned(),
                "it is at least 1, usually 2000",
            );
        }
        Ok(())
    }

    /// The settings of another one; the scale stays.
    pub(crate) fn adopt(&mut self, other: &GradScaler) {
        *self = GradScaler {
            scale: self.scale,
            growth_tracker: self.growth_tracker,
            skipped_steps: self.skipped_steps,
            ..other.clone()
        };
    }

    /// A loss to go backward from, in float32 at least.
    pub(crate) fn scaled(&self, loss: &Tensor) -> Result<Tensor> {
        let short = matches!(loss.kind(), TKind::Half | TKind::BFloat16);
        let loss = if short {
            loss.f_to_kind(TKind::Float)?
        } else {
            loss.shallow_clone()
        };
        Ok(loss.f_mul_scalar(self.scale())?)
    }

    /// Divides gradients by the scale, in place. Whether all are numbers.
    pub(crate) fn unscale(&self, grads: &[Tensor]) -> Result<bool> {
        let Some(first) = grads.first() else { return Ok(true) };
        let device = first.device();
        let found = Tensor::f_zeros([1], (TKind::Float, device))?;
        let factor = (1.0 / f64::from(self.scale)) as f32;
        let factor = Tensor::f_full([1], f64::from(factor), (TKind::Float, device))?;
        // Lists of one type each, usually one.
        let mut kinds: Vec<TKind> = Vec::new();
        for grad in grads {
            if !kinds.contains(&grad.kind()) {
                kinds.push(grad.kind());
            }
        }
        for kind in kinds {
            let list: Vec<Tensor> = grads
                .iter()
                .filter(|grad| grad.kind() == kind)
                .map(Tensor::shallow_clone)
                .collect();
            lightcell_torch::unscale(&list, &found, &factor)?;
        }
        Ok(f64::try_from(found.f_get(0)?)? == 0.0)
    }

    /// After a step that was made, or left out.
    pub(crate) fn update(&mut self, made: bool) {
        if !made {
            self.scale = (f64::from(self.scale) * self.backoff_factor) as f32;
            self.growth_tracker = 0;
            self.skipped_steps += 1;
            return;
        }
        self.growth_tracker += 1;
        if self.growth_tracker >= self.growth_interval {
            let grown = (f64::from(self.scale) * self.growth_factor) as f32;
            if grown.is_finite() {
                self.scale = grown;
            }
            self.growth_tracker = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_falls_at_once_and_rises_slowly() {
        let mut scaler = GradScaler::new().growth_interval(3);
        let trace: Vec<f64> = [true, true, false, true, true, true, true]
            .into_iter()
            .map(|made| {
                scaler.update(made);
                scaler.scale()
            })
            .collect();
        assert_eq!(trace, [65536.0, 65536.0, 32768.0, 32768.0, 32768.0, 65536.0, 65536.0]);
        assert_eq!((scaler.skipped_steps(), scaler.growth_tracker), (1, 1));
        // Not beyond float32.
        let mut large = GradScaler::new().init_scale(3e38).growth_interval(1);
        large.update(true);
        assert_eq!(large.scale(), f64::from(3e38f32));
    }

    #[test]
    fn gradients_come_back_and_what_is_infinite_is_found() {
        let scaler = GradScaler::new().init_scale(8.0);
        let x = Tensor::from_slice(&[2f32, -3.0]).set_requires_grad(true);
        let loss = (&x * &x).sum(TKind::Half);
        let scaled = scaler.scaled(&loss).unwrap();
        assert_eq!((scaled.kind(), scaled.double_value(&[])), (TKind::Float, 13.0 * 8.0));
        scaled.backward();
        assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [32.0, -48.0]);
        assert!(scaler.unscale(&[x.grad()]).unwrap());
        assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [4.0, -6.0]);
        let double = Tensor::from_slice(&[f64::NAN]);
        assert!(!scaler.unscale(&[x.grad(), double]).unwrap());
        assert!(scaler.unscale(&[]).unwrap());
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        let error = |scaler: GradScaler| scaler.check().unwrap_err().to_string();
        assert!(GradScaler::new().check().is_ok());
        assert_eq!(
            error(GradScaler::new().init_scale(0.0)),
            "the scaler's init_scale cannot be 0\nhint: it is above 0, usually 65536"
        );
        assert_eq!(
            error(GradScaler::new().growth_factor(1.0)),
            "the scaler's growth_factor cannot be 1\nhint: it is above 1, usually 2"
        );
        assert_eq!(
            error(GradScaler::new().backoff_factor(1.0)),
            "the scaler's backoff_factor cannot be 1\nhint: it is between 0 and 1, usually 0.5"
        );
        assert_eq!(
            error(GradScaler::new().growth_interval(0)),
            "the scaler's growth_interval cannot be 0\nhint: it is at least 1, usually 2000"
        );
    }
}
