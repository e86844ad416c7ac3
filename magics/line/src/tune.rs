//! `%lr_find` and `%scale_batch_size`, read.

use crate::call::Call;
use crate::fit::{FitOptions, option};
use serde_json::Value;

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// A learning rate: `Tuner::lr_find`.
    LrFind,
    /// A batch size: `Tuner::scale_batch_size`.
    ScaleBatchSize,
}

/// `%lr_find MODEL DATA` or `%scale_batch_size MODEL DATA` with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct TuneCall {
    /// Which of the two.
    pub search: Search,
    /// Type or variable.
    pub model: String,
    /// An expression.
    pub data: String,
    /// The settings of the trainer, as `%fit` has them.
    pub trainer: FitOptions,
    /// The settings of the search: the JSON of the library's `LrFind` or `ScaleBatchSize`. Only those that were given.
    pub settings: FitOptions,
    /// Line in the cell.
    pub line: usize,
    /// The line as typed.
    pub text: String,
}

/// Flags that are the trainer's.
const TRAINER: [&str; 6] = [
    "accelerator",
    "seed",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "compat",
];

impl TuneCall {
    /// From a call of one of the two; its flags have been checked. `None` when it is another magic.
    ///
    /// ```
    /// use lightcell_magics::{Piece, Search, TuneCall, split};
    /// let pieces = split("%lr_find net data --num-training 50 --seed 1 --no-update-attr").unwrap();
    /// let [Piece::Magic(call)] = &pieces[..] else { panic!() };
    /// let tune = TuneCall::from_call(call).unwrap();
    /// assert_eq!((tune.search, tune.model.as_str()), (Search::LrFind, "net"));
    /// assert_eq!(serde_json::to_string(&tune.settings).unwrap(), r#"{"num_training":50,"update_attr":false}"#);
    /// assert_eq!(serde_json::to_string(&tune.trainer).unwrap(), r#"{"seed":1}"#);
    /// ```
    pub fn from_call(call: &Call) -> Option<TuneCall> {
        let search = match call.name.as_str() {
            "lr_find" => Search::LrFind,
            "scale_batch_size" => Search::ScaleBatchSize,
            _ => return None,
        };
        let [model, data] = &call.arguments[..] else {
            return None;
        };
        let all = call.magic().flags.iter().filter_map(|flag| match flag.kind {
            // A switch has no value to look at.
            crate::Kind::Switch if !call.switch(flag.name) => None,
            _ => option(call, flag),
        });
        let (trainer, mut settings): (FitOptions, FitOptions) =
            all.partition(|(name, _)| TRAINER.contains(&name.as_str()));
        if settings.remove("no_update_attr").is_some() {
            settings.insert("update_attr".to_owned(), Value::Bool(false));
        }
        Some(TuneCall {
            search,
            model: model.clone(),
            data: data.clone(),
            trainer,
            settings,
            line: call.line,
            text: call.text.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Piece, split};

    fn tune(line: &str) -> TuneCall {
        match &split(line).unwrap()[..] {
            [Piece::Magic(call)] => TuneCall::from_call(call).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_go_to_the_trainer_or_to_the_search() {
        let call = tune(
            "%lr_find Net data --min-lr 1e-6 --mode linear --compat lightning --early-stop-threshold 3 --attr-name rate \
             --gradient-clip-val 0.5",
        );
        assert_eq!(
            Value::Object(call.settings).to_string(),
            r#"{"attr_name":"rate","early_stop_threshold":3,"min_lr":1e-6,"mode":"linear"}"#
        );
        assert_eq!(
            Value::Object(call.trainer).to_string(),
            r#"{"compat":"lightning","gradient_clip_val":0.5}"#
        );
        let call = tune("%scale_batch_size net data --mode binsearch --margin 0 --init-val 16 --accelerator cpu");
        assert_eq!(
            (call.search, call.model.as_str(), call.data.as_str()),
            (Search::ScaleBatchSize, "net", "data")
        );
        assert_eq!(
            Value::Object(call.settings).to_string(),
            r#"{"init_val":16,"margin":0,"mode":"binsearch"}"#
        );
        assert_eq!(Value::Object(call.trainer).to_string(), r#"{"accelerator":"cpu"}"#);
        let bare = tune("%lr_find net data");
        assert!(bare.settings.is_empty() && bare.trainer.is_empty());
    }
}
