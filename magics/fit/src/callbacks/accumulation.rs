//! Windows of gradient accumulation that change from epoch to epoch.

use super::Callback;
use std::collections::BTreeMap;

/// Changes how many batches make an optimizer step as epochs go by
/// (`lightning.pytorch.callbacks.GradientAccumulationScheduler`). The trainer's own `accumulate_grad_batches` must be 1 then.
///
/// ```
/// use lightcell::prelude::*;
/// // Eight batches a step in the first four epochs, then four, from the ninth on one.
/// let scheduler = GradientAccumulationScheduler::new([(0, 8), (4, 4), (8, 1)]);
/// let trainer = Trainer::new().max_epochs(20).callback(scheduler);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GradientAccumulationScheduler(BTreeMap<u64, u64>);

impl GradientAccumulationScheduler {
    /// From pairs of a 0-based epoch and the batches a step from then on. Before the first of them a step is one batch.
    pub fn new(scheduling: impl IntoIterator<Item = (u64, u64)>) -> GradientAccumulationScheduler {
        GradientAccumulationScheduler(scheduling.into_iter().collect())
    }
}

impl Callback for GradientAccumulationScheduler {
    fn accumulate_grad_batches(&self, epoch: u64) -> Option<u64> {
        let (_, batches) = self.0.range(..=epoch).next_back().unwrap_or((&0, &1));
        Some(*batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_change_holds() {
        let scheduler = GradientAccumulationScheduler::new([(4, 2), (2, 8)]);
        let batches: Vec<u64> = (0..6)
            .filter_map(|epoch| scheduler.accumulate_grad_batches(epoch))
            .collect();
        assert_eq!(batches, [1, 1, 8, 8, 2, 2]);
    }
}
