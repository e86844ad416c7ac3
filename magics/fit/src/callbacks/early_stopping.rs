//! Ends a run whose metric gets no better.

use super::{Callback, MonitorMode, Run};
use crate::checkpoint::{from_number, number};
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Why [`EarlyStopping`] ended a run; Lightning's `EarlyStoppingReason`.
///
/// ```
/// use lightcell::{EarlyStopping, EarlyStoppingReason};
/// assert_eq!(EarlyStopping::new("val_loss").stopping_reason(), EarlyStoppingReason::NotStopped);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyStoppingReason {
    /// It did not.
    #[default]
    NotStopped,
    /// The metric was as good as asked for.
    StoppingThreshold,
    /// The metric was as bad as forbidden.
    DivergenceThreshold,
    /// No improvement for so many epochs.
    PatienceExhausted,
    /// The metric was no number.
    NonFiniteMetric,
}

/// Ends a run when a metric has got no better for some epochs, or reaches a threshold.
///
/// ```
/// use lightcell::prelude::*;
/// let stop = EarlyStopping::new("val_acc").mode(MonitorMode::Max).patience(5).stopping_threshold(0.99);
/// let trainer = Trainer::new().max_epochs(100).callback(stop);
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    monitor: String,
    #[serde(default)]
    min_delta: f64,
    #[serde(default = "patience")]
    patience: u64,
    #[serde(default)]
    mode: MonitorMode,
    #[serde(default = "check_finite")]
    check_finite: bool,
    #[serde(default)]
    stopping_threshold: Option<f64>,
    #[serde(default)]
    divergence_threshold: Option<f64>,
    #[serde(skip)]
    state: State,
}

fn patience() -> u64 {
    3
}

fn check_finite() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    best: Option<f64>,
    wait: u64,
    stopped_epoch: u64,
    reason: EarlyStoppingReason,
}

impl EarlyStopping {
    /// Watches this metric; less is better, three epochs of patience, ends at once when the metric is no number.
    pub fn new(monitor: &str) -> EarlyStopping {
        EarlyStopping {
            monitor: monitor.to_owned(),
            min_delta: 0.0,
            patience: patience(),
            mode: MonitorMode::Min,
            check_finite: check_finite(),
            stopping_threshold: None,
            divergence_threshold: None,
            state: State::default(),
        }
    }

    /// How much better a value must be, in the metric's unit, to count as an improvement; 0.
    #[must_use]
    pub fn min_delta(mut self, delta: f64) -> EarlyStopping {
        self.min_delta = delta;
        self
    }

    /// Epochs in a row without an improvement after which the run ends; 3.
    #[must_use]
    pub fn patience(mut self, epochs: u64) -> EarlyStopping {
        self.patience = epochs;
        self
    }

    /// Whether less or more is better; less.
    #[must_use]
    pub fn mode(mut self, mode: MonitorMode) -> EarlyStopping {
        self.mode = mode;
        self
    }

    /// Whether a metric that is no finite number ends the run; it does.
    #[must_use]
    pub fn check_finite(mut self, check: bool) -> EarlyStopping {
        self.check_finite = check;
        self
    }

    /// The run ends when the metric is better than this.
    #[must_use]
    pub fn stopping_threshold(mut self, threshold: f64) -> EarlyStopping {
        self.stopping_threshold = Some(threshold);
        self
    }

    /// The run ends when the metric is worse than this.
    #[must_use]
    pub fn divergence_threshold(mut self, threshold: f64) -> EarlyStopping {
        self.divergence_threshold = Some(threshold);
        self
    }

    /// The best value so far; `None` before the first.
    pub fn best_score(&self) -> Option<f64> {
        self.state.best
    }

    /// Epochs since the last improvement.
    pub fn wait_count(&self) -> u64 {
        self.state.wait
    }

    /// The 0-based epoch after which it ended the run; 0 when it did not.
    pub fn stopped_epoch(&self) -> u64 {
        self.state.stopped_epoch
    }

    /// Why it ended the run.
    pub fn stopping_reason(&self) -> EarlyStoppingReason {
        self.state.reason
    }

    /// Looks at the metric, and ends the run when that is due.
    fn check(&mut self, run: &mut Run) -> Result<()> {
        let value = monitored("EarlyStopping", &self.monitor, run)?;
        if let Some(reason) = self.look(value, if run.within { "validations" } else { "epochs" }) {
            self.state.stopped_epoch = run.epoch();
            run.stop(format!("EarlyStopping: {reason}"));
        }
        Ok(())
    }

    /// Looks at a value, in Lightning's order; a sentence when the run is to end.
    fn look(&mut self, value: f64, checks: &str) -> Option<String> {
        use EarlyStoppingReason as Reason;
        let (name, best) = (&self.monitor, self.state.best.unwrap_or(self.mode.worst()));
        let worse = |value: f64, limit: f64| self.mode.better(-value, -limit);
        let delta = match self.mode {
            MonitorMode::Min => -self.min_delta,
            MonitorMode::Max => self.min_delta,
        };
        let (reason, text) = if self.check_finite && !value.is_finite() {
            (Reason::NonFiniteMetric, format!("{name} is {value}"))
        } else if let Some(limit) = self.stopping_threshold.filter(|limit| self.mode.better(value, *limit)) {
            (
                Reason::StoppingThreshold,
                format!("{name} is {value:.4}, better than {limit}"),
            )
        } else if let Some(limit) = self.divergence_threshold.filter(|limit| worse(value, *limit)) {
            (
                Reason::DivergenceThreshold,
                format!("{name} is {value:.4}, worse than {limit}"),
            )
        } else if self.mode.better(value - delta, best) {
            self.state.best = Some(value);
            self.state.wait = 0;
            return None;
        } else {
            self.state.wait += 1;
            if self.state.wait < self.patience {
                return None;
            }
            let wait = self.state.wait;
            (
                Reason::PatienceExhausted,
                format!("{name} has not improved for {wait} {checks}; the best was {best:.4}"),
            )
        };
        self.state.reason = reason;
        Some(text)
    }
}

impl Callback for EarlyStopping {
    fn setup(&mut self, _run: &mut Run) -> Result<()> {
        // A new run may go on for as long again.
        (self.state.reason, self.state.wait) = (EarlyStoppingReason::NotStopped, 0);
        let numbers = [Some(self.min_delta), self.stopping_threshold, self.divergence_threshold];
        if numbers.into_iter().flatten().any(f64::is_nan) {
            return Err(Error::new(
                Kind::Option,
                "EarlyStopping has a threshold that is no number",
            ));
        }
        Ok(())
    }

    fn on_train_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        if run.within { Ok(()) } else { self.check(run) }
    }

    fn on_validation_end(&mut self, run: &mut Run) -> Result<()> {
        if run.within { self.check(run) } else { Ok(()) }
    }

    fn monitors(&self) -> bool {
        true
    }

    fn state_key(&self) -> String {
        format!(
            "EarlyStopping{{'monitor': '{}', 'mode': '{}'}}",
            self.monitor,
            self.mode.name()
        )
    }

    fn state_dict(&self) -> Value {
        json!({
            "wait_count": self.state.wait,
            "stopped_epoch": self.state.stopped_epoch,
            "best_score": self.state.best.map(number),
            "patience": self.patience,
        })
    }

    fn load_state_dict(&mut self, state: &Value) -> Result<()> {
        self.state.best = from_number(&state["best_score"]);
        self.state.wait = state["wait_count"].as_u64().unwrap_or(0);
        self.state.stopped_epoch = state["stopped_epoch"].as_u64().unwrap_or(0);
        Ok(())
    }
}

/// The value of the metric that a callback looks at.
///
/// # Errors
/// When it is not logged.
pub(super) fn monitored(callback: &str, name: &str, run: &Run) -> Result<f64> {
    run.metrics().get(name).copied().ok_or_else(|| {
        let logged: Vec<&str> = run.metrics().keys().map(String::as_str).collect();
        let logged = if logged.is_empty() {
            "nothing".to_owned()
        } else {
            logged.join(", ")
        };
        Error::new(
            Kind::Option,
            format!("{callback} monitors `{name}`, which is not logged"),
        )
        .hint(format!("logged is {logged}; `cx.log(\"{name}\", &value)` logs it"))
    })
}
