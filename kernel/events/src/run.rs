//! What a training run reports while it runs. Versioned: a kernel that meets a newer [`VERSION`] says so instead of
//! guessing.
//!
//! ```
//! use lightcell_events::run::{RunEvent, decode, encode};
//! let event = RunEvent::Note { run: "r1".into(), level: lightcell_events::run::Level::Warning, text: "slow disk".into() };
//! assert_eq!(decode(&encode(&event)).unwrap(), event);
//! ```

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the messages in this module.
pub const VERSION: u32 = 1;

/// Metric name to value, as logged by the user's steps (`train_loss`, `val_acc`, …).
pub type Metrics = BTreeMap<String, f64>;

/// Which loop a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The training loop.
    Train,
    /// The validation loop at the end of an epoch.
    Validate,
    /// A run over the test data.
    Test,
    /// Predictions for data without an answer.
    Predict,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All epochs or steps that were asked for are done.
    Completed,
    /// The user pressed stop; the batch at hand was finished.
    Stopped,
    /// An error ended it.
    Failed,
}

/// Weight of a [`RunEvent::Note`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For information.
    Info,
    /// Something the user should look at.
    Warning,
}

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run begins.
    Started {
        /// [`VERSION`] of the sender.
        version: u32,
        /// Name of the run, unique in this worker.
        run: String,
        /// Type name of the model, without its path.
        model: String,
        /// `cpu`, `cuda:0`, …
        device: String,
        /// Index of the first epoch of this run (more than 0 when a run goes on).
        first_epoch: u64,
        /// Index after the last epoch; `u64::MAX` when the run has no such limit.
        max_epochs: u64,
        /// Batches in one training epoch.
        train_batches: u64,
        /// Batches in one validation pass; 0 when there is none.
        val_batches: u64,
        /// Number of parameters that are trained.
        parameters: u64,
        /// Hyperparameters of the model, as a JSON object.
        hparams: serde_json::Value,
    },
    /// A batch is done. Sent at most about 20 times a second, and always for the last batch of a loop.
    Step {
        /// Name of the run.
        run: String,
        /// The loop it belongs to.
        stage: Stage,
        /// 0-based epoch.
        epoch: u64,
        /// Batches done in this loop (1-based count).
        batch: u64,
        /// Batches in this loop.
        batches: u64,
        /// Optimizer steps since the beginning.
        step: u64,
        /// Newest value of each metric logged in this loop.
        metrics: Metrics,
        /// Batches per second in this loop.
        rate: f64,
    },
    /// An epoch is done, validation included.
    Epoch {
        /// Name of the run.
        run: String,
        /// 0-based epoch.
        epoch: u64,
        /// Optimizer steps since the beginning.
        step: u64,
        /// Means over the epoch, weighted by batch size, of all loops.
        metrics: Metrics,
        /// Wall time of the epoch in seconds.
        seconds: f64,
    },
    /// A checkpoint is complete on disk.
    Checkpoint {
        /// Name of the run.
        run: String,
        /// Where it lies.
        path: String,
    },
    /// A sentence for the user.
    Note {
        /// Name of the run.
        run: String,
        /// Its weight.
        level: Level,
        /// One line.
        text: String,
    },
    /// The run is over. The last event of a run, whatever happened.
    Finished {
        /// Name of the run; empty when it failed before it began.
        run: String,
        /// How it ended.
        status: Status,
        /// Epochs done since the beginning.
        epochs: u64,
        /// Optimizer steps since the beginning.
        step: u64,
        /// Wall time of this run in seconds.
        seconds: f64,
        /// For [`Status::Failed`]: what went wrong, one or two lines in plain words.
        error: Option<String>,
        /// For [`Status::Failed`]: what to do about it.
        hint: Option<String>,
    },
}

/// The JSON form of an event.
pub fn encode(event: &RunEvent) -> Vec<u8> {
    // Cannot fail: no map with keys other than text, no type of ours that refuses.
    serde_json::to_vec(event).unwrap_or_default()
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// When the bytes are not JSON or no message of this version.
pub fn decode(bytes: &[u8]) -> Result<RunEvent, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_metrics_survive_as_null_or_fail_loudly() {
        // JSON has no NaN: the sender must not put one into metrics. This pins what happens when it does.
        let event = RunEvent::Epoch {
            run: "r".into(),
            epoch: 0,
            step: 1,
            metrics: [("loss".to_owned(), f64::NAN)].into(),
            seconds: 1.0,
        };
        assert!(decode(&encode(&event)).is_err());
    }

    #[test]
    fn unknown_event_is_an_error() {
        assert!(decode(br#"{"event":"teleported"}"#).is_err());
    }
}
