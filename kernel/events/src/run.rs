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
pub const VERSION: u32 = 2;

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

/// What is done with a model outside of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A pass over the validation data.
    Validate,
    /// A pass over the test data.
    Test,
    /// Predictions for data without an answer.
    Predict,
    /// The search for a learning rate.
    LrFind,
    /// The search for the largest batch size.
    ScaleBatchSize,
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
        /// The folder in which the run's loggers write, if it has any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log_dir: Option<String>,
    },
    /// A pass over data or a search begins, outside of a run. It ends with [`RunEvent::Finished`], as a run does.
    TaskStarted {
        /// [`VERSION`] of the sender.
        version: u32,
        /// Name of the task, unique in this worker as a run's.
        run: String,
        /// What it is.
        task: Task,
        /// Whether its result is to be shown. Where it is not, its progress is, should it take long.
        shown: bool,
        /// Type name of the model, without its path.
        model: String,
        /// `cpu`, `cuda:0`, …
        device: String,
        /// Batches or steps that are to be made; 0 when nobody knows.
        batches: u64,
    },
    /// What came of a task so far, in place of what was said before.
    Table {
        /// Name of the task.
        run: String,
        /// The head, then the rows.
        rows: Vec<Vec<String>>,
    },
    /// The losses that a search for a learning rate has seen.
    LrCurve {
        /// Name of the task.
        run: String,
        /// Learning rate and mean loss of each step; numbers all.
        points: Vec<(f64, f64)>,
        /// The point that is suggested.
        suggestion: Option<(f64, f64)>,
        /// The hyperparameter that is set to it.
        attr_name: Option<String>,
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

impl RunEvent {
    /// The run or task that it is about; empty for one that failed before it began.
    pub fn run(&self) -> &str {
        match self {
            RunEvent::Started { run, .. }
            | RunEvent::TaskStarted { run, .. }
            | RunEvent::Table { run, .. }
            | RunEvent::LrCurve { run, .. }
            | RunEvent::Step { run, .. }
            | RunEvent::Epoch { run, .. }
            | RunEvent::Checkpoint { run, .. }
            | RunEvent::Note { run, .. }
            | RunEvent::Finished { run, .. } => run,
        }
    }
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
    fn events_of_tasks_come_back_as_they_were() {
        let run = "r".to_owned();
        for event in [
            RunEvent::TaskStarted {
                version: VERSION,
                run: run.clone(),
                task: Task::ScaleBatchSize,
                shown: true,
                model: "Net".into(),
                device: "cpu".into(),
                batches: 0,
            },
            RunEvent::Table {
                run: run.clone(),
                rows: vec![
                    vec!["Test metric".into(), "DataLoader 0".into()],
                    vec!["test_loss".into(), "NaN".into()],
                ],
            },
            RunEvent::LrCurve {
                run: run.clone(),
                points: vec![(1e-8, 2.3), (1.0, 9.0)],
                suggestion: Some((0.02, 1.0)),
                attr_name: Some("lr".into()),
            },
        ] {
            assert_eq!(event.run(), "r");
            assert_eq!(decode(&encode(&event)).unwrap(), event);
        }
    }

    #[test]
    fn unknown_event_is_an_error() {
        assert!(decode(br#"{"event":"teleported"}"#).is_err());
    }
}
