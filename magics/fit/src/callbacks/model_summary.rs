//! Says what a model is made of, before a run.

use super::{Callback, Run};
use crate::error::Result;

/// Shows the model's layers and numbers of parameters when a run begins (`lightning.pytorch.callbacks.ModelSummary`); the text
/// of [`Fit::summary`](crate::Fit::summary).
///
/// ```
/// use lightcell::prelude::*;
/// let trainer = Trainer::new().callback(ModelSummary::new().max_depth(2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    max_depth: i64,
}

impl Default for ModelSummary {
    fn default() -> ModelSummary {
        ModelSummary { max_depth: 1 }
    }
}

impl ModelSummary {
    /// Of the layers that the model itself has.
    pub fn new() -> ModelSummary {
        ModelSummary::default()
    }

    /// How deep layers may lie within others to be shown; 1. -1 shows all, 0 none.
    #[must_use]
    pub fn max_depth(mut self, depth: i64) -> ModelSummary {
        self.max_depth = depth;
        self
    }
}

impl Callback for ModelSummary {
    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        if self.max_depth != 0 {
            run.note(crate::summary::text(run.store, self.max_depth));
        }
        Ok(())
    }
}
