//! An epoch that was left amid its batches, and what is needed to go on in it as if nothing had been.

use crate::checkpoint::{from_metrics, from_number, metrics, number};
use crate::means::States;
use lightcell_events::run::Metrics;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Sums and weights of the means of what was logged.
pub(crate) type Sums = BTreeMap<String, (f64, f64)>;

/// How far an epoch has come.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Partial {
    /// Batches done.
    pub batch: u64,
    /// Batches in the epoch, and in a window of accumulation: with others, the place means nothing.
    pub batches: u64,
    pub accumulate: u64,
    /// What was logged before the first batch.
    pub metrics: Metrics,
    pub sums: Sums,
    /// What metrics had seen.
    pub states: States,
    /// The loss of the window so far.
    pub window_loss: f64,
    /// Whether a validation is due before the next batch.
    pub validate: bool,
    /// What validations within the epoch gave.
    pub validated: Metrics,
}

impl Partial {
    /// Whether gradients of earlier batches wait for a step.
    pub fn amid_window(&self) -> bool {
        self.batch < self.batches && !self.batch.is_multiple_of(self.accumulate.max(1))
    }

    pub fn to_json(&self) -> Value {
        let sums = self.sums.iter();
        let sums: Map<String, Value> = sums
            .map(|(name, (sum, weight))| (name.clone(), json!([number(*sum), number(*weight)])))
            .collect();
        let numbers = |values: &[f64]| values.iter().map(|value| number(*value)).collect::<Vec<_>>();
        let state = |state: &[(Vec<i64>, Vec<f64>)]| {
            let tensors = state.iter().map(|(size, values)| json!([size, numbers(values)]));
            tensors.collect::<Vec<_>>()
        };
        let states = self.states.iter();
        let states: Map<String, Value> = states
            .map(|(name, parts)| (name.clone(), json!(state(parts))))
            .collect();
        json!({
            "batch": self.batch,
            "batches": self.batches,
            "accumulate_grad_batches": self.accumulate,
            "metrics": metrics(&self.metrics),
            "sums": sums,
            "states": states,
            "window_loss": number(self.window_loss),
            "validate": self.validate,
            "validated": metrics(&self.validated),
        })
    }

    pub fn from_json(value: &Value) -> Option<Partial> {
        let sums = value["sums"].as_object()?.iter();
        Some(Partial {
            batch: value["batch"].as_u64()?,
            batches: value["batches"].as_u64()?,
            accumulate: value["accumulate_grad_batches"].as_u64()?,
            metrics: from_metrics(&value["metrics"])?,
            sums: sums
                .map(|(name, pair)| Some((name.clone(), (from_number(&pair[0])?, from_number(&pair[1])?))))
                .collect::<Option<_>>()?,
            window_loss: from_number(&value["window_loss"])?,
            // A checkpoint of an earlier version has none of these.
            states: value["states"].as_object().map_or(Some(States::new()), states)?,
            validate: value["validate"].as_bool().unwrap_or(false),
            validated: from_metrics(&value["validated"]).unwrap_or_default(),
        })
    }
}

fn states(states: &Map<String, Value>) -> Option<States> {
    let numbers = |value: &Value| value.as_array()?.iter().map(from_number).collect::<Option<Vec<f64>>>();
    let tensor = |value: &Value| {
        let size = value[0]
            .as_array()?
            .iter()
            .map(Value::as_i64)
            .collect::<Option<Vec<i64>>>();
        Some((size?, numbers(&value[1])?))
    };
    let state = |value: &Value| value.as_array()?.iter().map(tensor).collect::<Option<Vec<_>>>();
    states
        .iter()
        .map(|(name, value)| Some((name.clone(), state(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_an_epoch_survives_json_to_the_last_bit() {
        let partial = Partial {
            batch: 5,
            batches: 9,
            accumulate: 2,
            metrics: Metrics::from([("a".to_owned(), f64::INFINITY)]),
            sums: Sums::from([
                ("b".to_owned(), (0.1 + 0.2, 1.0 / 3.0)),
                ("c".to_owned(), (-1e-310, 64.0)),
            ]),
            states: States::from([(
                "f1".to_owned(),
                vec![(vec![2, 1], vec![0.1, f64::INFINITY]), (vec![], vec![1.0])],
            )]),
            window_loss: 2.0f64.sqrt(),
            validate: true,
            validated: Metrics::from([("val_loss".to_owned(), f64::NAN.max(0.3))]),
        };
        let text = partial.to_json().to_string();
        let back = Partial::from_json(&serde_json::from_str(&text).unwrap());
        assert_eq!(back, Some(partial.clone()));
        assert!(partial.amid_window());
        assert!(!Partial { batch: 9, ..partial }.amid_window());
    }
}
