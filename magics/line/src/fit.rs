//! `%fit`, read.

use crate::call::Call;
use serde::Serialize;

/// A limit on batches: a whole number counts them, one with a point is a share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Limit {
    /// So many batches.
    Batches(u64),
    /// This share.
    Fraction(f64),
}

/// The settings of a run, in the form in which the training library reads them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FitOptions {
    /// Epochs to train.
    pub max_epochs: u64,
    /// Steps after which to end, or -1.
    pub max_steps: i64,
    /// Training batches in an epoch.
    pub limit_train_batches: Limit,
    /// Validation batches in an epoch.
    pub limit_val_batches: Limit,
    /// `auto`, `cpu`, `cuda:0`.
    pub accelerator: String,
    /// Seed, if one was given.
    pub seed: Option<u64>,
    /// Batches of a trial run.
    pub fast_dev_run: Option<u64>,
    /// Begin anew.
    pub restart: bool,
}

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
        let text = |name: &str| {
            let flag = call.magic().flags.iter().find(|flag| flag.name == name);
            call.value(name)
                .or(flag.map(|flag| flag.default))
                .unwrap_or_default()
                .to_owned()
        };
        let limit = |name: &str| {
            let text = text(name);
            text.parse()
                .map(Limit::Batches)
                .unwrap_or_else(|_| Limit::Fraction(text.parse().unwrap_or(1.0)))
        };
        let [model, data] = &call.arguments[..] else {
            return None;
        };
        Some(FitCall {
            model: model.clone(),
            data: data.clone(),
            options: FitOptions {
                max_epochs: text("--max-epochs").parse().unwrap_or(10),
                max_steps: text("--max-steps").parse().unwrap_or(-1),
                limit_train_batches: limit("--limit-train-batches"),
                limit_val_batches: limit("--limit-val-batches"),
                accelerator: text("--accelerator"),
                seed: text("--seed").parse().ok(),
                fast_dev_run: text("--fast-dev-run").parse().ok(),
                restart: call.switch("--restart"),
            },
            line: call.line,
            text: call.text.clone(),
        })
    }
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
            r#"{"max_epochs":10,"max_steps":-1,"limit_train_batches":1.0,"limit_val_batches":1.0,"accelerator":"auto","seed":null,"fast_dev_run":null,"restart":false}"#
        );
    }

    #[test]
    fn one_batch_is_not_all_batches() {
        let options =
            fit("%fit Net data --limit-train-batches 1 --limit-val-batches 1.0 --device cuda:1 --seed 7").options;
        assert_eq!(
            (options.limit_train_batches, options.limit_val_batches),
            (Limit::Batches(1), Limit::Fraction(1.0))
        );
        assert_eq!((options.accelerator.as_str(), options.seed), ("cuda:1", Some(7)));
    }
}
