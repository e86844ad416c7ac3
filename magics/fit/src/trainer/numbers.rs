//! With which numbers a run computes.

use super::Trainer;
use crate::error::{Error, Kind, Result};
use crate::precision::Precision;
use crate::scaler::GradScaler;

impl Trainer {
    /// The numbers that the model computes with; what the run has had so far, [`Precision::F32True`] at first. A run whose
    /// model is trained goes on with parameters of the same type, mixed or not.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let trainer = Trainer::new().precision(Precision::Bf16Mixed);
    /// assert_eq!(Trainer::from_json(r#"{"precision": "bf16-mixed"}"#)?, trainer);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Trainer {
        self.precision = Some(precision);
        self
    }

    /// A scaler with settings of its own for [`Precision::F16Mixed`], which then computes in float16 on the CPU too. A run
    /// that goes on keeps its scale.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let trainer = Trainer::new().precision(Precision::F16Mixed).grad_scaler(GradScaler::new().init_scale(1024.0));
    /// ```
    #[must_use]
    pub fn grad_scaler(mut self, scaler: GradScaler) -> Trainer {
        self.grad_scaler = Some(scaler);
        self
    }

    /// Refuses a scaler that means nothing, or has nothing to do.
    pub(crate) fn check_scaler(&self) -> Result<()> {
        let Some(scaler) = &self.grad_scaler else { return Ok(()) };
        if let Some(precision) = self.precision.filter(|precision| *precision != Precision::F16Mixed) {
            return Err(
                Error::new(Kind::Option, format!("precision {precision} does not use a scaler"))
                    .hint("16-mixed does; the others need none"),
            );
        }
        scaler.check()
    }
}
