//! `%fit`, read.

use crate::call::Call;
use crate::table::{Flag, Kind};
use serde_json::Value;

/// The settings of a run, in the form in which the training library reads them: flags by their names with `_` for `-`,
/// those that were given and those with a default.
pub type FitOptions = serde_json::Map<String, Value>;

/// MODEL and DATA of a magic's line.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// The magic, without its `%`.
    pub magic: String,
    /// Type or variable.
    pub model: String,
    /// An expression.
    pub data: String,
    /// Line in the cell.
    pub line: usize,
    /// The line as typed.
    pub text: String,
}

impl Subject {
    pub(crate) fn of(call: &Call) -> Option<Subject> {
        let [model, data] = &call.arguments[..] else {
            return None;
        };
        Some(Subject {
            magic: call.name.clone(),
            model: model.clone(),
            data: data.clone(),
            line: call.line,
            text: call.text.clone(),
        })
    }
}

/// `%fit MODEL DATA` with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct FitCall {
    /// What is trained, and on what.
    pub subject: Subject,
    /// The settings.
    pub options: FitOptions,
}

impl FitCall {
    /// From a call of `%fit`; its flags have been checked. `None` when it is another magic.
    pub fn from_call(call: &Call) -> Option<FitCall> {
        if call.name != "fit" {
            return None;
        }
        Some(FitCall {
            subject: Subject::of(call)?,
            options: options(call),
        })
    }
}

/// Flags that are settings of a callback: the flag, the callback and the setting (empty for a flag that only adds it).
/// A flag may be of two callbacks.
const CALLBACKS: &[(&str, &str, &str)] = &[
    ("early_stopping", "early_stopping", "monitor"),
    ("patience", "early_stopping", "patience"),
    ("min_delta", "early_stopping", "min_delta"),
    ("stopping_threshold", "early_stopping", "stopping_threshold"),
    ("divergence_threshold", "early_stopping", "divergence_threshold"),
    ("check_finite", "early_stopping", "check_finite"),
    ("model_checkpoint", "model_checkpoint", "monitor"),
    ("save_top_k", "model_checkpoint", "save_top_k"),
    ("save_last", "model_checkpoint", "save_last"),
    ("every_n_epochs", "model_checkpoint", "every_n_epochs"),
    ("every_n_train_steps", "model_checkpoint", "every_n_train_steps"),
    ("dirpath", "model_checkpoint", "dirpath"),
    ("filename", "model_checkpoint", "filename"),
    ("auto_insert_metric_name", "model_checkpoint", "auto_insert_metric_name"),
    ("ema", "ema_weight_averaging", ""),
    ("ema_decay", "ema_weight_averaging", "decay"),
    (
        "ema_update_every_n_steps",
        "ema_weight_averaging",
        "update_every_n_steps",
    ),
    (
        "ema_update_starting_at_step",
        "ema_weight_averaging",
        "update_starting_at_step",
    ),
    (
        "ema_update_starting_at_epoch",
        "ema_weight_averaging",
        "update_starting_at_epoch",
    ),
    ("swa_lrs", "stochastic_weight_averaging", "swa_lrs"),
    ("swa_epoch_start", "stochastic_weight_averaging", "swa_epoch_start"),
    (
        "swa_annealing_epochs",
        "stochastic_weight_averaging",
        "annealing_epochs",
    ),
    (
        "swa_annealing_strategy",
        "stochastic_weight_averaging",
        "annealing_strategy",
    ),
    ("lr_monitor", "learning_rate_monitor", ""),
    ("lr_monitor_interval", "learning_rate_monitor", "logging_interval"),
    ("lr_monitor_momentum", "learning_rate_monitor", "log_momentum"),
    ("lr_monitor_weight_decay", "learning_rate_monitor", "log_weight_decay"),
    ("lr_monitor_prefix", "learning_rate_monitor", "log_key_prefix"),
    ("device_stats", "device_stats_monitor", ""),
    ("device_stats_cpu", "device_stats_monitor", "cpu_stats"),
    ("model_summary", "model_summary", "max_depth"),
    ("timer", "timer", "duration"),
    ("timer_interval", "timer", "interval"),
    ("accumulation_schedule", "gradient_accumulation_scheduler", "scheduling"),
];

/// Callbacks that are settings of the trainer itself; the others stand together under `callbacks`.
const OWN: [&str; 2] = ["early_stopping", "model_checkpoint"];

fn options(call: &Call) -> FitOptions {
    let all = call.magic().flags.iter().filter_map(|flag| option(call, flag));
    let (of_callbacks, mut options): (FitOptions, FitOptions) =
        all.partition(|(name, _)| name == "mode" || CALLBACKS.iter().any(|(flag, ..)| flag == name));
    let mut callbacks = FitOptions::new();
    for (flag, callback, setting) in CALLBACKS {
        if let Some(value) = of_callbacks.get(*flag) {
            let settings = callbacks.entry(*callback).or_insert_with(|| FitOptions::new().into());
            if let (Value::Object(settings), false) = (settings, setting.is_empty()) {
                settings.insert((*setting).to_owned(), value.clone());
            }
        }
    }
    for name in OWN {
        let Some(Value::Object(mut settings)) = callbacks.remove(name) else {
            continue;
        };
        if let Some(mode) = of_callbacks.get("mode").filter(|_| settings.contains_key("monitor")) {
            settings.insert("mode".to_owned(), mode.clone());
        }
        // Steps are in place of epochs, unless both are asked for.
        if settings.contains_key("every_n_train_steps") {
            settings.entry("every_n_epochs").or_insert_with(|| 0.into());
        }
        options.insert(name.to_owned(), settings.into());
    }
    if !callbacks.is_empty() {
        options.insert("callbacks".to_owned(), callbacks.into());
    }
    options
}

/// Flags that end a run by themselves: the default of `--max-epochs` is not for runs with one of them.
const ENDS: [&str; 2] = ["--max-steps", "--max-time"];

pub(crate) fn option(call: &Call, flag: &Flag) -> Option<(String, Value)> {
    let name = flag.name.trim_start_matches("--").replace('-', "_");
    if flag.kind == Kind::Switch {
        return call.switch(flag.name).then_some((name, Value::Bool(true)));
    }
    let given = call.value(flag.name);
    let ends = flag.name == "--max-epochs" && ENDS.iter().any(|name| call.value(name).is_some());
    let text = given.or((!flag.default.is_empty() && !ends).then_some(flag.default))?;
    // As typed: 1 is a count, 1.0 a share.
    let number = |text: &str| {
        let whole = text.parse::<i64>().map(Value::from);
        whole.or_else(|_| text.parse::<f64>().map(Value::from)).ok()
    };
    let value = match flag.kind {
        Kind::Switch | Kind::Alone => return None,
        Kind::Text | Kind::OneOf(_) | Kind::SomeOf(_) | Kind::Time => Value::String(text.to_owned()),
        Kind::Bool => Value::Bool(text == "true"),
        Kind::CountOrNone if text == "none" => Value::Null,
        Kind::Count | Kind::CountOrNone | Kind::Int | Kind::Number | Kind::Real | Kind::Limit => number(text)?,
        Kind::Numbers => text.split(',').map(number).collect::<Option<Vec<Value>>>()?.into(),
        Kind::Schedule => {
            let pairs = crate::table::pairs(text)?.into_iter();
            let pairs: FitOptions = pairs
                .map(|(epoch, batches)| (epoch.to_string(), batches.into()))
                .collect();
            pairs.into()
        }
    };
    Some((name, value))
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
        let one = fit("%fit Net data --early-stopping val_acc --mode max --save-last --every-n-train-steps 5").options;
        assert_eq!(
            one["model_checkpoint"].to_string(),
            r#"{"every_n_epochs":0,"every_n_train_steps":5,"save_last":true}"#
        );
        assert_eq!(
            one["early_stopping"].to_string(),
            r#"{"mode":"max","monitor":"val_acc"}"#
        );
        let line = "%fit Net data --ema --swa-lrs 0.1,1e-2 --swa-epoch-start 3 --timer 00:00:01:00 --accumulation-schedule 0:8,4:1 \
                    --logger csv --lr-monitor --device-stats-cpu false --model-summary -1";
        assert_eq!(
            fit(line).options["callbacks"].to_string(),
            r#"{"device_stats_monitor":{"cpu_stats":false},"ema_weight_averaging":{},"gradient_accumulation_scheduler":{"scheduling":{"0":8,"4":1}},"learning_rate_monitor":{},"model_summary":{"max_depth":-1},"stochastic_weight_averaging":{"swa_epoch_start":3,"swa_lrs":[0.1,0.01]},"timer":{"duration":"00:00:01:00"}}"#
        );
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
