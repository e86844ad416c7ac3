//! `%fit`, read.

use crate::call::Call;
use crate::table::{Flag, Kind};
use serde_json::Value;

/// The settings of a run, in the form in which the training library reads them: flags by their names with `_` for `-`,
/// those that were given and those with a default.
pub type FitOptions = serde_json::Map<String, Value>;

/// `%fit MODEL DATA` with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct FitCall {
    /// Type or variable.
    pub model: String,
    /// An expression.
    pub data: String,
    /// The settings.
    pub options: FitOptions,
    /// Line in the cell.
    pub line: usize,
    /// The line as typed.
    pub text: String,
}

impl FitCall {
    /// From a call of `%fit`; its flags have been checked. `None` when it is another magic.
    pub fn from_call(call: &Call) -> Option<FitCall> {
        if call.name != "fit" {
            return None;
        }
        let [model, data] = &call.arguments[..] else {
            return None;
        };
        Some(FitCall {
            model: model.clone(),
            data: data.clone(),
            options: options(call),
            line: call.line,
            text: call.text.clone(),
        })
    }
}

fn options(call: &Call) -> FitOptions {
    let mut all: FitOptions = call
        .magic()
        .flags
        .iter()
        .filter_map(|flag| option(call, flag))
        .collect();
    // Callbacks have settings of their own.
    let (patience, mode) = (all.remove("patience"), all.remove("mode"));
    for (name, patience) in [("early_stopping", patience), ("model_checkpoint", None)] {
        if let Some(monitor) = all.remove(name) {
            let mut callback = serde_json::Map::from_iter([("monitor".to_owned(), monitor)]);
            callback.extend(patience.map(|patience| ("patience".to_owned(), patience)));
            callback.extend(mode.clone().map(|mode| ("mode".to_owned(), mode)));
            all.insert(name.to_owned(), Value::Object(callback));
        }
    }
    all
}

/// Flags that end a run by themselves: the default of `--max-epochs` is not for runs with one of them.
const ENDS: [&str; 2] = ["--max-steps", "--max-time"];

fn option(call: &Call, flag: &Flag) -> Option<(String, Value)> {
    let given = call.value(flag.name);
    let ends = flag.name == "--max-epochs" && ENDS.iter().any(|name| call.value(name).is_some());
    let text = given.or((!flag.default.is_empty() && !ends).then_some(flag.default))?;
    let value = match flag.kind {
        Kind::Switch => Value::Bool(true),
        Kind::Text => Value::String(text.to_owned()),
        Kind::CountOrNone if text == "none" => Value::Null,
        // As typed: 1 is a count, 1.0 a share.
        Kind::Count | Kind::CountOrNone | Kind::Int | Kind::Number | Kind::Limit => {
            let whole = text.parse::<i64>().map(Value::from);
            whole.or_else(|_| text.parse::<f64>().map(Value::from)).ok()?
        }
    };
    Some((flag.name.trim_start_matches("--").replace('-', "_"), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Piece, split};

    fn fit(line: &str) -> FitCall {
        match &split(line).unwrap()[..] {
            [Piece::Magic(call)] => FitCall::from_call(call).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_the_tables() {
        let json = serde_json::to_string(&fit("%fit Net data").options).unwrap();
        assert_eq!(
            json,
            r#"{"accelerator":"auto","limit_train_batches":1.0,"limit_val_batches":1.0,"max_epochs":10,"max_steps":-1}"#
        );
    }

    #[test]
    fn epochs_have_no_default_where_steps_or_time_end_the_run() {
        for line in ["%fit Net data --max-steps 7", "%fit Net data --max-time 00:00:01:00"] {
            assert!(!fit(line).options.contains_key("max_epochs"), "{line}");
        }
        let options = fit("%fit Net data --max-steps 7 --epochs -1").options;
        assert_eq!(
            (&options["max_epochs"], &options["max_steps"]),
            (&Value::from(-1), &Value::from(7))
        );
    }

    #[test]
    fn flags_become_settings_with_their_types() {
        let line = "%fit Net data --limit-train-batches 1 --limit-val-batches 1.0 --device cuda:1 --seed 7 --restart \
                    --gradient-clip-val 0.5 --accumulate-grad-batches 4 --precision bf16-mixed";
        let options = fit(line).options;
        assert_eq!(options["limit_train_batches"], Value::from(1));
        assert_eq!(options["limit_val_batches"].to_string(), "1.0");
        assert_eq!(options["accelerator"], Value::from("cuda:1"));
        assert_eq!(
            (&options["seed"], &options["restart"]),
            (&Value::from(7), &Value::from(true))
        );
        let watched =
            fit("%fit Net data --early-stopping val_acc --patience 5 --mode max --model-checkpoint val_acc").options;
        let callback = |name: &str| watched[name].to_string();
        assert_eq!(
            callback("early_stopping"),
            r#"{"mode":"max","monitor":"val_acc","patience":5}"#
        );
        assert_eq!(callback("model_checkpoint"), r#"{"mode":"max","monitor":"val_acc"}"#);
        assert!(!watched.contains_key("mode") && !watched.contains_key("patience"));
        let line = "%fit Net data --check-val-every-n-epoch none --val-check-interval 500 --deterministic --num-sanity-val-steps -1";
        let validating = serde_json::to_string(&fit(line).options).unwrap();
        for part in [
            r#""check_val_every_n_epoch":null"#,
            r#""val_check_interval":500"#,
            r#""deterministic":true"#,
            r#""num_sanity_val_steps":-1"#,
        ] {
            assert!(validating.contains(part), "{part}: {validating}");
        }
        assert_eq!(
            fit("%fit Net data --check-val-every-n-epoch 2").options["check_val_every_n_epoch"],
            Value::from(2)
        );
        assert_eq!(options["gradient_clip_val"], Value::from(0.5));
        assert_eq!(options["accumulate_grad_batches"], Value::from(4));
        assert_eq!(options["precision"], Value::from("bf16-mixed"));
    }
}
