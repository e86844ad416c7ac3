//! When a run validates, and how it is tried on a few batches.

use super::{Limit, Trainer};
use crate::error::{Error, Kind, Result};

impl Trainer {
    /// Epochs from one validation to the next; 1. Callbacks that monitor a metric look after a validation only. With `None`,
    /// [`val_check_interval`](Trainer::val_check_interval) counts batches across the ends of epochs.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let each_500_batches = Trainer::new().check_val_every_n_epoch(None).val_check_interval(500);
    /// let each_third_epoch = Trainer::new().check_val_every_n_epoch(3);
    /// ```
    #[must_use]
    pub fn check_val_every_n_epoch(mut self, epochs: impl Into<Option<u64>>) -> Trainer {
        self.check_val_every_n_epoch = epochs.into();
        self
    }

    /// Training batches from one validation to the next: `100`, or a share of the epoch such as `0.25`; `1.0`. Batches that
    /// are left at an epoch's end are not followed by one. `EarlyStopping` and `ModelCheckpoint` then look after each
    /// validation.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let four_times_an_epoch = Trainer::new().val_check_interval(0.25);
    /// ```
    #[must_use]
    pub fn val_check_interval(mut self, interval: impl Into<Limit>) -> Trainer {
        self.val_check_interval = interval.into();
        self
    }

    /// Validation batches that are run before the first epoch, so that a fault of the validation step shows at once; 2. -1
    /// runs all, 0 none. Nothing is logged, and random streams do not move. A run that goes on is not checked again, nor is
    /// one in a [`fast_dev_run`](Trainer::fast_dev_run).
    #[must_use]
    pub fn num_sanity_val_steps(mut self, batches: i64) -> Trainer {
        self.num_sanity_val_steps = batches;
        self
    }

    /// Trains and validates on so few batches, always the same, to see whether the model can learn them by heart; 0, and
    /// without it, on all. It sets both limits of batches and turns shuffling off.
    #[must_use]
    pub fn overfit_batches(mut self, limit: impl Into<Limit>) -> Trainer {
        self.overfit_batches = limit.into();
        self
    }

    /// What `overfit_batches` says, if it says something.
    pub(crate) fn overfit(&self) -> Option<Limit> {
        let off = matches!(self.overfit_batches, Limit::Batches(0) | Limit::Fraction(0.0));
        (!off).then_some(self.overfit_batches)
    }

    /// Training batches from one validation to the next, of an epoch with so many.
    ///
    /// # Errors
    /// When there would never be one.
    pub(crate) fn val_every(&self, train_batches: u64) -> Result<u64> {
        if self.fast_dev_run.is_some() {
            return Ok(train_batches);
        }
        match self.val_check_interval {
            Limit::Fraction(_) => Ok(self.val_check_interval.of(train_batches).max(1)),
            Limit::Batches(0) => Err(Error::new(Kind::Option, "val-check-interval cannot be 0")
                .hint("`limit-val-batches 0` never validates")),
            Limit::Batches(every) if every > train_batches && self.check_val_every_n_epoch.is_some() => {
                Err(Error::new(
                    Kind::Option,
                    format!("val-check-interval is {every} batches, but an epoch has {train_batches}"),
                )
                .hint("use a smaller one, or count batches across epochs with `check-val-every-n-epoch none`"))
            }
            Limit::Batches(every) => Ok(every),
        }
    }
}
