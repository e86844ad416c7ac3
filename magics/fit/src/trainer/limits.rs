//! How long a run lasts.

use super::Trainer;
use serde::{Deserialize, Deserializer};

/// A length of time in a setting: seconds, or Lightning's text `DD:HH:MM:SS`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Duration(pub std::time::Duration);

impl Duration {
    fn parse(text: &str) -> Option<Duration> {
        let parts: Vec<u64> = text.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [days, hours, minutes, seconds] = parts[..] else {
            return None;
        };
        let hours = days.checked_mul(24)?.checked_add(hours)?;
        let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
        let seconds = minutes.checked_mul(60)?.checked_add(seconds)?;
        Some(Duration(std::time::Duration::from_secs(seconds)))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Seconds(f64),
            Text(String),
        }
        let duration = match Form::deserialize(deserializer)? {
            Form::Seconds(seconds) => std::time::Duration::try_from_secs_f64(seconds).ok().map(Duration),
            Form::Text(text) => Duration::parse(&text),
        };
        duration.ok_or_else(|| serde::de::Error::custom("max_time is seconds, or text of the form DD:HH:MM:SS"))
    }
}

/// Epochs of a run that is given neither epochs nor another end.
const MAX_EPOCHS: u64 = 10;

impl Trainer {
    /// Epochs to train; -1 for no limit. Without it, a run with [`max_steps`](Trainer::max_steps) or
    /// [`max_time`](Trainer::max_time) has as many epochs as it takes, and any other run has 10.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let for_a_while = Trainer::new().max_steps(10_000);
    /// let until_stopped = Trainer::new().max_epochs(-1).callback(EarlyStopping::new("val_loss"));
    /// ```
    #[must_use]
    pub fn max_epochs(mut self, epochs: impl TryInto<i64>) -> Trainer {
        // A number that is too large for the type is as good as none.
        self.max_epochs = Some(epochs.try_into().unwrap_or(-1));
        self
    }

    /// Optimizer steps of this run after which to end, should its epochs not end before; -1, and without it, no limit.
    #[must_use]
    pub fn max_steps(mut self, steps: i64) -> Trainer {
        self.max_steps = steps;
        self
    }

    /// Epochs of a run; `u64::MAX` when something else ends it.
    pub(crate) fn epochs(&self) -> u64 {
        match self.max_epochs {
            Some(epochs) => u64::try_from(epochs).unwrap_or(u64::MAX),
            None if self.max_steps >= 0 || self.max_time.is_some() => u64::MAX,
            None => MAX_EPOCHS,
        }
    }

    /// Epochs that are trained at least, whatever callbacks or `max_time` say; 0.
    #[must_use]
    pub fn min_epochs(mut self, epochs: u64) -> Trainer {
        self.min_epochs = epochs;
        self
    }

    /// Optimizer steps that are made at least, whatever callbacks or `max_time` say; 0.
    #[must_use]
    pub fn min_steps(mut self, steps: u64) -> Trainer {
        self.min_steps = steps;
        self
    }

    /// How long the run may last; no limit. It ends after the batch in which the time is over, and a later run goes on there.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let trainer = Trainer::new().max_time(std::time::Duration::from_secs(3600));
    /// // As settings: seconds, or days, hours, minutes and seconds.
    /// assert_eq!(Trainer::from_json(r#"{"max_time": "00:01:00:00"}"#)?, trainer);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn max_time(mut self, time: std::time::Duration) -> Trainer {
        self.max_time = Some(Duration(time));
        self
    }
}
