//! What can be seen of an optimizer at work.

use super::Optimizer;
use crate::schedule::Interval;

impl Optimizer {
    /// PyTorch's name of its class.
    pub fn name(&self) -> &'static str {
        self.algorithm.name()
    }

    /// The momentum of the next step, in Adam the first beta; `None` when there is nothing of the kind.
    pub fn momentum(&self) -> Option<f64> {
        let mut algorithm = self.algorithm;
        algorithm.momentum_mut().copied()
    }

    /// What the learning rate follows: steps, epochs, or nothing.
    pub(crate) fn interval(&self) -> Option<Interval> {
        self.scheduler.interval()
    }

    /// The groups that have parameters: that of those in no other may have none.
    pub(crate) fn used_groups(&self) -> Vec<usize> {
        let used = |at: &usize| !self.groups[*at].members.is_empty();
        (0..self.groups.len()).filter(used).collect()
    }

    /// The weight decays of the groups, in the order of [`lrs`](Optimizer::lrs).
    pub fn weight_decays(&self) -> Vec<f64> {
        self.groups.iter().map(|group| group.weight_decay).collect()
    }
}
