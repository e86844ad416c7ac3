//! What the loop does about the numbers that a model computes with: scaling, and what cannot be.

use super::Loop;
use crate::error::{Error, Kind, Result};
use crate::optim::Optimizer;
use crate::precision::Precision;
use crate::scaler::GradScaler;
use lightcell_events::run::Level;
use tch::Tensor;

impl Loop<'_> {
    /// Before the first batch: a scaler, where one is needed.
    pub(super) fn prepare_scaler(&mut self) -> Result<()> {
        let (trainer, precision) = (self.trainer, self.state.progress.precision);
        if trainer.precision == Some(Precision::F16Mixed) && precision == Precision::Bf16Mixed {
            let text = "precision 16-mixed is for GPUs: on the CPU, bf16-mixed takes its place";
            self.note(Level::Warning, text.to_owned());
        }
        if precision != Precision::F16Mixed {
            return Ok(());
        }
        if self.state.optimizer.is_lbfgs() {
            let error = "LBFGS computes the loss of its batch several times a step: it cannot be trained with 16-mixed";
            return Err(Error::new(Kind::Option, error).hint("bf16-mixed needs no scaler"));
        }
        let scaler = self.state.progress.scaler.get_or_insert_with(|| {
            let own = trainer.grad_scaler.clone();
            own.unwrap_or_default()
        });
        if let Some(own) = &trainer.grad_scaler {
            scaler.adopt(own);
        }
        Ok(())
    }

    /// The scaler, when the run has one at work.
    pub(super) fn scaler(&mut self) -> Option<&mut GradScaler> {
        let progress = &mut *self.state.progress;
        progress
            .scaler
            .as_mut()
            .filter(|_| progress.precision == Precision::F16Mixed)
    }

    /// Why a loss may be no number, beside the usual reasons.
    pub(super) fn about_range(&self) -> &'static str {
        match self.state.progress.precision {
            Precision::F16Mixed | Precision::F16True => {
                "; with float16, a number above 65504 is infinite: bf16-mixed has the range of float32"
            }
            _ => "",
        }
    }
}

/// The gradients of a loss, of a scaled one where there is a scaler.
pub(super) fn backward(loss: &Tensor, scaler: Option<&GradScaler>) -> Result<()> {
    match scaler {
        Some(scaler) => scaler.scaled(loss)?.f_backward()?,
        None => loss.f_backward()?,
    }
    Ok(())
}

/// Takes the scale out of the gradients. Whether they can be stepped along.
pub(super) fn unscale(optimizer: &Optimizer, scaler: Option<&GradScaler>) -> Result<bool> {
    scaler.map_or(Ok(true), |scaler| scaler.unscale(&optimizer.grads()))
}
