//! Logs learning rates as they change.

use super::{Callback, Run};
use crate::error::{Error, Kind, Result};
use crate::schedule::Interval;

/// Gives the learning rates to the loggers, as `lr-Adam`, with parameter groups `lr-Adam/pg1` and so on
/// (`lightning.pytorch.callbacks.LearningRateMonitor`). The first group are the parameters in no other, if there are some.
///
/// With a schedule that counts steps they are logged at the steps that the loggers write down, with one that counts epochs at
/// each epoch's beginning, without one at both; [`logging_interval`](LearningRateMonitor::logging_interval) chooses otherwise.
///
/// ```
/// use lightcell::prelude::*;
/// let trainer = Trainer::new().logger(CsvLogger::new("runs")).callback(LearningRateMonitor::new().log_momentum(true));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LearningRateMonitor {
    logging_interval: Option<Interval>,
    log_momentum: bool,
    log_weight_decay: bool,
    log_key_prefix: String,
    /// The step that was logged last: an accumulation window has several batches.
    logged: Option<u64>,
}

impl LearningRateMonitor {
    /// As the schedule counts, learning rates only.
    pub fn new() -> LearningRateMonitor {
        LearningRateMonitor::default()
    }

    /// When they are logged, whatever the schedule counts.
    #[must_use]
    pub fn logging_interval(mut self, interval: Interval) -> LearningRateMonitor {
        self.logging_interval = Some(interval);
        self
    }

    /// Whether the momentum is logged too, as `lr-SGD-momentum`, in Adam the first beta; no.
    #[must_use]
    pub fn log_momentum(mut self, log: bool) -> LearningRateMonitor {
        self.log_momentum = log;
        self
    }

    /// Whether the weight decay is logged too, as `lr-SGD-weight_decay`; no.
    #[must_use]
    pub fn log_weight_decay(mut self, log: bool) -> LearningRateMonitor {
        self.log_weight_decay = log;
        self
    }

    /// What stands before `lr-…`; nothing.
    #[must_use]
    pub fn log_key_prefix(mut self, prefix: &str) -> LearningRateMonitor {
        self.log_key_prefix = prefix.to_owned();
        self
    }

    /// Whether they are logged when this interval begins.
    fn wanted(&self, interval: Interval, run: &Run) -> bool {
        match self.logging_interval {
            Some(wanted) => wanted == interval,
            None => run.optimizer().interval().is_none_or(|counted| counted == interval),
        }
    }

    fn log(&self, run: &mut Run) {
        let optimizer = run.optimizer();
        let (lrs, decays) = (optimizer.lrs(), optimizer.weight_decays());
        let (groups, momentum) = (optimizer.used_groups(), optimizer.momentum().unwrap_or(0.0));
        let name = format!("{}lr-{}", self.log_key_prefix, optimizer.name());
        let several = groups.len() > 1;
        for (number, group) in groups.into_iter().enumerate() {
            let name = if several {
                format!("{name}/pg{}", number + 1)
            } else {
                name.clone()
            };
            run.log(&name, lrs[group].1);
            if self.log_momentum {
                run.log(&format!("{name}-momentum"), momentum);
            }
            if self.log_weight_decay {
                run.log(&format!("{name}-weight_decay"), decays[group]);
            }
        }
    }
}

impl Callback for LearningRateMonitor {
    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        self.logged = None;
        if !run.logging {
            return Err(
                Error::new(Kind::Option, "LearningRateMonitor has no logger to write to")
                    .hint("add one: `.logger(CsvLogger::new(\"runs\"))`, or `--logger csv`"),
            );
        }
        Ok(())
    }

    fn on_train_epoch_start(&mut self, run: &mut Run) -> Result<()> {
        if self.wanted(Interval::Epoch, run) {
            self.log(run);
        }
        Ok(())
    }

    fn on_train_batch_start(&mut self, run: &mut Run) -> Result<()> {
        let step = run.global_step();
        if run.logs_step() && self.logged != Some(step) && self.wanted(Interval::Step, run) {
            self.log(run);
            self.logged = Some(step);
        }
        Ok(())
    }
}
