//! What a run remembers: a record for each epoch.

use lightcell_events::run::Metrics;
use std::fmt;

/// What an epoch gave.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRecord {
    /// 0-based epoch.
    pub epoch: u64,
    /// Optimizer steps by its end.
    pub step: u64,
    /// Means over the epoch, weighted by batch size.
    pub metrics: Metrics,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// The records of all epochs, a list of [`EpochRecord`]s that is shown as a table.
///
/// ```
/// use lightcell::{EpochRecord, History};
/// let epoch = |epoch: u64, loss: f64| EpochRecord {
///     epoch,
///     step: 10 * (epoch + 1),
///     metrics: [("val_loss".to_owned(), loss)].into(),
///     seconds: 1.5,
/// };
/// let history = History(vec![epoch(0, 0.7), epoch(1, 0.4), epoch(2, 0.5)]);
/// assert_eq!(history.best().unwrap().epoch, 1);
/// assert_eq!(history.last().unwrap().metrics["val_loss"], 0.5);
/// ```
#[derive(Clone, PartialEq, Default)]
pub struct History(pub Vec<EpochRecord>);

impl std::ops::Deref for History {
    type Target = Vec<EpochRecord>;
    fn deref(&self) -> &Vec<EpochRecord> {
        &self.0
    }
}

impl History {
    /// The record with the lowest `val_loss`, or `train_loss` when there was no validation. `None` before the first epoch.
    pub fn best(&self) -> Option<&EpochRecord> {
        let value = |record: &EpochRecord| {
            record
                .metrics
                .get("val_loss")
                .or(record.metrics.get("train_loss"))
                .copied()
                .filter(|v| v.is_finite())
        };
        let with_value = self.0.iter().filter_map(|record| Some((value(record)?, record)));
        with_value
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, record)| record)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&String> = self.0.iter().flat_map(|record| record.metrics.keys()).collect();
        names.sort();
        names.dedup();
        write!(f, "epoch")?;
        for name in &names {
            write!(f, "  {name:>10}")?;
        }
        write!(f, "    seconds")?;
        for record in &self.0 {
            write!(f, "\n{:>5}", record.epoch + 1)?;
            for name in &names {
                let width = name.len().max(10);
                match record.metrics.get(*name) {
                    Some(value) => write!(f, "  {value:>width$.4}")?,
                    None => write!(f, "  {:>width$}", "")?,
                }
            }
            write!(f, "  {:>9.2}", record.seconds)?;
        }
        Ok(())
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64, metrics: &[(&str, f64)]) -> EpochRecord {
        let metrics = metrics
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        EpochRecord {
            epoch,
            step: 5 * (epoch + 1),
            metrics,
            seconds: 0.5,
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_epoch_and_a_column_for_each_metric() {
        let history = History(vec![
            record(0, &[("train_loss", 1.0)]),
            record(1, &[("a_metric_with_a_long_name", 3.0), ("train_loss", 0.25)]),
        ]);
        let lines = [
            "epoch  a_metric_with_a_long_name  train_loss    seconds",
            "    1                                 1.0000       0.50",
            "    2                     3.0000      0.2500       0.50",
        ];
        assert_eq!(format!("{history}"), lines.join("\n"));
        assert_eq!(format!("{history:?}"), lines.join("\n"));
    }

    #[test]
    fn the_best_epoch_has_the_lowest_loss_that_is_a_number() {
        assert_eq!(History::default().best(), None);
        let train = History(vec![
            record(0, &[("train_loss", 0.3)]),
            record(1, &[("train_loss", 0.5)]),
        ]);
        assert_eq!(train.best().unwrap().epoch, 0);
        let losses = [0.9, f64::NAN, 0.4, 0.6, f64::INFINITY];
        let val = History(
            losses
                .iter()
                .zip(0..)
                .map(|(&loss, epoch)| record(epoch, &[("val_loss", loss), ("train_loss", -(epoch as f64))]))
                .collect(),
        );
        assert_eq!(val.best().unwrap().epoch, 2);
    }
}
