//! `%validate`, `%test`, `%predict`, `%lr_find` and `%scale_batch_size`, read.

use crate::call::Call;
use crate::fit::{FitOptions, Subject, option};

/// What is done with a model outside of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The trainer's `validate`.
    Validate,
    /// The trainer's `test`.
    Test,
    /// The trainer's `predict`.
    Predict,
    /// The tuner's `lr_find`.
    LrFind,
    /// The tuner's `scale_batch_size`.
    ScaleBatchSize,
}

/// Such a magic with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCall {
    /// Which one.
    pub work: Work,
    /// MODEL and DATA.
    pub subject: Subject,
    /// The settings of the trainer, as `%fit` has them. Only those that were given.
    pub trainer: FitOptions,
    /// The settings of the search: the JSON of the library's `LrFind` or `ScaleBatchSize`. Only those that were given.
    pub search: FitOptions,
    /// The model is to be made anew.
    pub restart: bool,
}

/// Flags of the tuner's magics that are the search's, not the trainer's.
const SEARCH: &[&str] = &[
    "min_lr",
    "max_lr",
    "num_training",
    "mode",
    "early_stop_threshold",
    "update_attr",
    "attr_name",
    "steps_per_trial",
    "init_val",
    "max_trials",
    "max_val",
    "margin",
    "batch_arg_name",
];

impl ModelCall {
    /// From a call of one of them; its flags have been checked. `None` when it is another magic.
    ///
    /// ```
    /// use lightcell_magics::{ModelCall, Piece, Work, split};
    /// let pieces = split("%lr_find net data --num-training 50 --seed 1 --update-attr false").unwrap();
    /// let [Piece::Magic(call)] = &pieces[..] else { panic!() };
    /// let call = ModelCall::from_call(call).unwrap();
    /// assert_eq!((call.work, call.subject.model.as_str()), (Work::LrFind, "net"));
    /// assert_eq!(serde_json::to_string(&call.search).unwrap(), r#"{"num_training":50,"update_attr":false}"#);
    /// assert_eq!(serde_json::to_string(&call.trainer).unwrap(), r#"{"seed":1}"#);
    /// ```
    pub fn from_call(call: &Call) -> Option<ModelCall> {
        let work = match call.name.as_str() {
            "validate" => Work::Validate,
            "test" => Work::Test,
            "predict" => Work::Predict,
            "lr_find" => Work::LrFind,
            "scale_batch_size" => Work::ScaleBatchSize,
            _ => return None,
        };
        let all = call.magic().flags.iter().filter_map(|flag| option(call, flag));
        let (search, mut trainer): (FitOptions, FitOptions) =
            all.partition(|(name, _)| SEARCH.contains(&name.as_str()));
        let restart = trainer.remove("restart").is_some();
        Some(ModelCall {
            work,
            subject: Subject::of(call)?,
            trainer,
            search,
            restart,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Piece, split};
    use serde_json::Value;

    fn read(line: &str) -> ModelCall {
        match &split(line).unwrap()[..] {
            [Piece::Magic(call)] => ModelCall::from_call(call).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_go_to_the_trainer_or_to_the_search() {
        let call = read(
            "%lr_find Net data --min-lr 1e-6 --mode linear --compat lightning --early-stop-threshold 3 --attr-name rate \
             --gradient-clip-val 0.5 --restart",
        );
        assert_eq!(
            Value::Object(call.search).to_string(),
            r#"{"attr_name":"rate","early_stop_threshold":3,"min_lr":1e-6,"mode":"linear"}"#
        );
        assert_eq!(
            Value::Object(call.trainer).to_string(),
            r#"{"compat":"lightning","gradient_clip_val":0.5}"#
        );
        assert!(call.restart);
        let call = read("%scale_batch_size net data --mode binsearch --margin 0 --init-val 16 --accelerator cpu");
        assert_eq!(call.work, Work::ScaleBatchSize);
        assert_eq!(
            Value::Object(call.search).to_string(),
            r#"{"init_val":16,"margin":0,"mode":"binsearch"}"#
        );
        assert_eq!(Value::Object(call.trainer).to_string(), r#"{"accelerator":"cpu"}"#);
        let bare = read("%lr_find net data");
        assert!(bare.search.is_empty() && bare.trainer.is_empty() && !bare.restart);
    }

    #[test]
    fn a_pass_over_data_has_the_trainers_settings() {
        for (line, work, trainer) in [
            (
                "%validate fit data --limit-val-batches 2",
                Work::Validate,
                r#"{"limit_val_batches":2}"#,
            ),
            ("%test Net data --ckpt-path best", Work::Test, r#"{"ckpt_path":"best"}"#),
            (
                "%predict fit data --fast-dev-run 1",
                Work::Predict,
                r#"{"fast_dev_run":1}"#,
            ),
        ] {
            let call = read(line);
            assert_eq!(
                (call.work, Value::Object(call.trainer).to_string().as_str()),
                (work, trainer)
            );
            assert!(call.search.is_empty());
        }
        assert!(ModelCall::from_call(&only("%fit Net data")).is_none());
    }

    fn only(line: &str) -> Call {
        match &split(line).unwrap()[..] {
            [Piece::Magic(call)] => call.clone(),
            other => panic!("{other:?}"),
        }
    }
}
