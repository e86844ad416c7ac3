//! The windows of batches that make one optimizer step each, and how many there are.

use super::Loop;
use crate::error::{Error, Kind, Result};
use crate::trainer::Compat;

/// Where a batch stands among those that make one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub first: bool,
    pub last: bool,
    /// Batches in the window. The last window of an epoch may have fewer than the others.
    pub size: u64,
    /// What the loss is divided by, so that the gradient is the window's mean.
    pub divisor: u64,
}

impl Window {
    pub fn of(batch: u64, batches: u64, accumulate: u64, compat: Compat) -> Window {
        let at = batch % accumulate;
        let size = accumulate.min(batches - (batch - at));
        Window {
            first: at == 0,
            last: at + 1 == size,
            size,
            // Lightning divides by the full size, so that what is left counts for less than it should.
            divisor: if compat == Compat::Lightning { accumulate } else { size },
        }
    }
}

impl Loop<'_> {
    /// Batches in a window of this epoch.
    ///
    /// # Errors
    /// When trainer and callback both say, or it is 0.
    pub(super) fn accumulate(&self, epoch: u64) -> Result<u64> {
        let own = self.trainer.accumulate_grad_batches;
        match self.callbacks.accumulate_grad_batches(epoch) {
            None => Ok(own),
            Some(_) if own != 1 => Err(Error::new(
                Kind::Option,
                "accumulate-grad-batches is set by the trainer and by a callback",
            )
            .hint("leave one of them out")),
            Some(0) => {
                Err(Error::new(Kind::Option, "accumulate-grad-batches cannot be 0")
                    .hint("1 makes a step of each batch"))
            }
            Some(batches) => Ok(batches),
        }
    }

    /// Optimizer steps of all epochs from this one to the last.
    pub(super) fn steps_of(&self, first: u64) -> Result<u64> {
        // Beyond any callback's last change all epochs are alike: a run of endless epochs need not be counted one by one.
        const COUNTED: u64 = 10_000;
        let of = |epoch| Ok::<u64, Error>(self.train_batches.div_ceil(self.accumulate(epoch)?));
        let until = self.last_epoch.min(first.saturating_add(COUNTED));
        let mut steps = 0u64;
        for epoch in first..until {
            steps = steps.saturating_add(of(epoch)?);
        }
        let rest = self.last_epoch.saturating_sub(until);
        Ok(steps.saturating_add(if rest > 0 { of(until)?.saturating_mul(rest) } else { 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_an_epoch_is_a_window_of_its_own_size() {
        let window = |batch, compat| {
            let window = Window::of(batch, 10, 4, compat);
            (window.first, window.last, window.size, window.divisor)
        };
        assert_eq!(window(0, Compat::None), (true, false, 4, 4));
        assert_eq!(window(3, Compat::None), (false, true, 4, 4));
        assert_eq!(window(8, Compat::None), (true, false, 2, 2));
        assert_eq!(window(9, Compat::None), (false, true, 2, 2));
        assert_eq!(window(9, Compat::Lightning), (false, true, 2, 4));
        assert_eq!(
            Window::of(4, 5, 1, Compat::None),
            Window {
                first: true,
                last: true,
                size: 1,
                divisor: 1
            }
        );
    }
}
