//! Callbacks that settings can name, beside `early_stopping` and `model_checkpoint`: under `callbacks`, each with its own
//! settings. Those of the type that is made are private to it, so each has a form of its own here.

use super::Duration;
use crate::callbacks::{
    AnnealingStrategy, Callbacks, DeviceStatsMonitor, EMAWeightAveraging, GradientAccumulationScheduler,
    LearningRateMonitor, ModelSummary, StochasticWeightAveraging, SwaStart, Timer,
};
use crate::schedule::Interval;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The settings of callbacks.
///
/// ```json
/// {"callbacks": {"ema_weight_averaging": {"decay": 0.99}, "learning_rate_monitor": {}}}
/// ```
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Named {
    learning_rate_monitor: Option<Rates>,
    device_stats_monitor: Option<Stats>,
    model_summary: Option<Summary>,
    timer: Option<Clock>,
    gradient_accumulation_scheduler: Option<Schedule>,
    ema_weight_averaging: Option<Ema>,
    stochastic_weight_averaging: Option<Swa>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rates {
    logging_interval: Option<Interval>,
    log_momentum: bool,
    log_weight_decay: bool,
    log_key_prefix: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Stats {
    cpu_stats: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Summary {
    max_depth: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Clock {
    duration: Option<Duration>,
    interval: Option<Interval>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Schedule {
    /// From epoch to batches a step.
    scheduling: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Ema {
    decay: Option<f64>,
    update_every_n_steps: Option<u64>,
    update_starting_at_step: Option<u64>,
    update_starting_at_epoch: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Swa {
    swa_lrs: Vec<f64>,
    swa_epoch_start: Option<super::Limit>,
    annealing_epochs: Option<u64>,
    annealing_strategy: Option<AnnealingStrategy>,
}

impl Named {
    /// Adds them to a run's callbacks.
    pub fn add_to(&self, all: &mut Callbacks) {
        if let Some(rates) = &self.learning_rate_monitor {
            all.push(rates.make());
        }
        if let Some(stats) = &self.device_stats_monitor {
            let monitor = DeviceStatsMonitor::new();
            all.push(set(monitor, stats.cpu_stats, DeviceStatsMonitor::cpu_stats));
        }
        if let Some(summary) = &self.model_summary {
            all.push(set(ModelSummary::new(), summary.max_depth, ModelSummary::max_depth));
        }
        if let Some(clock) = &self.timer {
            let timer = set(Timer::new(), clock.duration.map(|time| time.0), Timer::duration);
            all.push(set(timer, clock.interval, Timer::interval));
        }
        if let Some(schedule) = &self.gradient_accumulation_scheduler {
            all.push(GradientAccumulationScheduler::new(schedule.scheduling.clone()));
        }
        if let Some(ema) = &self.ema_weight_averaging {
            all.push(ema.make());
        }
        if let Some(swa) = &self.stochastic_weight_averaging {
            all.push(swa.make());
        }
    }
}

/// Sets what was given; the rest stays as it is by default.
fn set<T, V>(callback: T, value: Option<V>, setter: impl FnOnce(T, V) -> T) -> T {
    match value {
        Some(value) => setter(callback, value),
        None => callback,
    }
}

impl Rates {
    fn make(&self) -> LearningRateMonitor {
        let monitor = LearningRateMonitor::new()
            .log_momentum(self.log_momentum)
            .log_weight_decay(self.log_weight_decay)
            .log_key_prefix(&self.log_key_prefix);
        set(monitor, self.logging_interval, LearningRateMonitor::logging_interval)
    }
}

impl Ema {
    fn make(&self) -> EMAWeightAveraging {
        type This = EMAWeightAveraging;
        let ema = set(This::new(), self.decay, This::decay);
        let ema = set(ema, self.update_every_n_steps, This::update_every_n_steps);
        let ema = set(ema, self.update_starting_at_step, This::update_starting_at_step);
        set(ema, self.update_starting_at_epoch, This::update_starting_at_epoch)
    }
}

impl Swa {
    fn make(&self) -> StochasticWeightAveraging {
        type This = StochasticWeightAveraging;
        let swa = This::new(0.0).swa_lrs(&self.swa_lrs);
        let start = self.swa_epoch_start.map(|start| match start {
            super::Limit::Batches(epoch) => SwaStart::Epoch(epoch),
            super::Limit::Fraction(share) => SwaStart::Fraction(share),
        });
        let swa = set(swa, start, This::swa_epoch_start);
        let swa = set(swa, self.annealing_epochs, This::annealing_epochs);
        set(swa, self.annealing_strategy, This::annealing_strategy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::Trainer;

    fn named(json: &str) -> Named {
        Trainer::from_json(&format!(r#"{{"callbacks": {json}}}"#))
            .unwrap()
            .named
    }

    #[test]
    fn what_is_named_is_made_with_its_settings() {
        let rates =
            r#"{"logging_interval": "epoch", "log_momentum": true, "log_weight_decay": true, "log_key_prefix": "a/"}"#;
        let made = named(&format!(r#"{{"learning_rate_monitor": {rates}}}"#))
            .learning_rate_monitor
            .unwrap()
            .make();
        let wanted = LearningRateMonitor::new()
            .log_momentum(true)
            .log_weight_decay(true)
            .log_key_prefix("a/");
        assert_eq!(made, wanted.logging_interval(Interval::Epoch));

        let ema =
            r#"{"decay": 0.9, "update_every_n_steps": 2, "update_starting_at_step": 3, "update_starting_at_epoch": 4}"#;
        let made = named(&format!(r#"{{"ema_weight_averaging": {ema}}}"#))
            .ema_weight_averaging
            .unwrap()
            .make();
        let wanted = EMAWeightAveraging::new().decay(0.9).update_every_n_steps(2);
        let wanted = wanted.update_starting_at_step(3).update_starting_at_epoch(4);
        assert_eq!(format!("{made:?}"), format!("{wanted:?}"));
        let made = named(r#"{"ema_weight_averaging": {}}"#)
            .ema_weight_averaging
            .unwrap()
            .make();
        assert_eq!(format!("{made:?}"), format!("{:?}", EMAWeightAveraging::new()));

        let swa =
            r#"{"swa_lrs": [0.1, 0.2], "swa_epoch_start": 3, "annealing_epochs": 2, "annealing_strategy": "linear"}"#;
        let made = named(&format!(r#"{{"stochastic_weight_averaging": {swa}}}"#))
            .stochastic_weight_averaging
            .unwrap()
            .make();
        let wanted = StochasticWeightAveraging::new(0.1)
            .swa_lrs(&[0.1, 0.2])
            .swa_epoch_start(3u64);
        let wanted = wanted.annealing_epochs(2).annealing_strategy(AnnealingStrategy::Linear);
        assert_eq!(format!("{made:?}"), format!("{wanted:?}"));
        let share = r#"{"stochastic_weight_averaging": {"swa_lrs": [0.1], "swa_epoch_start": 0.5}}"#;
        let made = named(share).stochastic_weight_averaging.unwrap().make();
        let wanted = StochasticWeightAveraging::new(0.1).swa_epoch_start(0.5);
        assert_eq!(format!("{made:?}"), format!("{wanted:?}"));
    }

    #[test]
    fn each_of_them_joins_the_run() {
        for (json, state) in [
            (r#"{"learning_rate_monitor": {}}"#, "LearningRateMonitor"),
            (r#"{"device_stats_monitor": {"cpu_stats": true}}"#, "DeviceStatsMonitor"),
            (r#"{"model_summary": {"max_depth": 2}}"#, "ModelSummary"),
            (
                r#"{"timer": {"duration": "00:00:01:00", "interval": "epoch"}}"#,
                "Timer",
            ),
            (
                r#"{"gradient_accumulation_scheduler": {"scheduling": {"0": 8, "4": 1}}}"#,
                "GradientAccumulationScheduler",
            ),
            (r#"{"ema_weight_averaging": {}}"#, "EMAWeightAveraging"),
            (
                r#"{"stochastic_weight_averaging": {"swa_lrs": [0.1]}}"#,
                "StochasticWeightAveraging",
            ),
        ] {
            let mut all = Callbacks::default();
            named(json).add_to(&mut all);
            assert_eq!(format!("{all:?}"), "1 callbacks", "{state}");
        }
        let trainer =
            Trainer::from_json(r#"{"callbacks": {"timer": {}, "model_summary": {}}, "fast_dev_run": 0}"#).unwrap();
        assert_eq!(format!("{:?}", trainer.all_callbacks()), "2 callbacks");
        let error = Trainer::from_json(r#"{"callbacks": {"timmer": {}}}"#).unwrap_err();
        assert!(error.message().contains("timmer"), "{error}");
    }
}
