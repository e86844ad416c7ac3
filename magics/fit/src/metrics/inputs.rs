//! What metrics are given, checked and brought into one form.

use crate::error::{Error, Kind, Result};
use tch::{Kind as TKind, Tensor};

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Task {
    /// Yes or no.
    Binary,
    /// One of so many classes.
    Multiclass(i64),
}

impl Task {
    pub fn classes(self) -> i64 {
        match self {
            Task::Binary => 2,
            Task::Multiclass(classes) => classes,
        }
    }
}

/// How a metric takes its inputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs {
    pub task: Task,
    /// Whether predictions are logits.
    pub logits: bool,
    pub ignore_index: Option<i64>,
}

impl Inputs {
    pub fn new(task: Task) -> Inputs {
        Inputs {
            task,
            logits: false,
            ignore_index: None,
        }
    }

    /// Scores `[n]` (binary) or `[n, classes]`, and labels `[n]`, without those that are to be ignored.
    ///
    /// # Errors
    /// When their shapes do not fit, or a label is no class.
    pub fn scores(&self, preds: &Tensor, target: &Tensor) -> Result<(Tensor, Tensor)> {
        let (given, wanted) = (preds.size(), target.size());
        let preds = match self.task {
            Task::Binary if given == wanted => preds.f_reshape([-1])?,
            // A model's last layer with one output.
            Task::Binary if given.split_last() == Some((&1, &wanted[..])) => preds.f_reshape([-1])?,
            Task::Multiclass(classes) if given.len() == wanted.len() + 1 && given.get(1) == Some(&classes) => {
                preds.f_movedim_int(1, -1)?.f_reshape([-1, classes])?
            }
            Task::Binary => {
                return Err(Error::new(
                    Kind::Shape,
                    format!("predictions of {given:?} do not fit targets of {wanted:?}: there is one for each target"),
                ));
            }
            Task::Multiclass(classes) => {
                return Err(Error::new(
                    Kind::Shape,
                    format!(
                        "predictions of {given:?} do not fit targets of {wanted:?}: they are [n, {classes}, …] for targets [n, …]"
                    ),
                ));
            }
        };
        let (preds, target) = self.kept(preds, target)?;
        Ok((preds.f_detach()?, target))
    }

    /// Predicted labels, of shape and form of the targets.
    ///
    /// # Errors
    /// When the shapes do not fit, or a label is no class.
    pub fn predicted(&self, preds: &Tensor, target: &Tensor) -> Result<(Tensor, Tensor)> {
        if preds.size() != target.size() {
            return Err(Error::new(
                Kind::Shape,
                format!(
                    "predicted labels of {:?} do not fit targets of {:?}",
                    preds.size(),
                    target.size()
                ),
            ));
        }
        let (preds, target) = self.kept(preds.f_reshape([-1])?, target)?;
        let preds = preds.f_to_kind(TKind::Int64)?;
        self.check(&preds, "predicted label")?;
        Ok((preds, target))
    }

    fn kept(&self, preds: Tensor, target: &Tensor) -> Result<(Tensor, Tensor)> {
        if target.is_floating_point() {
            return Err(Error::new(
                Kind::Label,
                format!("targets are labels, not of Kind::{:?}", target.kind()),
            )
            .hint("convert them: `y.to_kind(Kind::Int64)`"));
        }
        let target = target.f_reshape([-1])?.f_to_kind(TKind::Int64)?;
        let (preds, target) = match self.ignore_index {
            Some(ignored) => {
                let kept = target.f_ne(ignored)?.f_nonzero()?.f_reshape([-1])?;
                (preds.f_index_select(0, &kept)?, target.f_index_select(0, &kept)?)
            }
            None => (preds, target),
        };
        self.check(&target, "label")?;
        Ok((preds, target))
    }

    fn check(&self, labels: &Tensor, what: &str) -> Result<()> {
        let classes = self.task.classes();
        let wrong = labels.f_lt(0)?.f_logical_or(&labels.f_ge(classes)?)?;
        if labels.numel() > 0 && bool::try_from(wrong.f_any()?)? {
            let first = wrong.f_nonzero()?.f_int64_value(&[0, 0])?;
            let label = labels.f_int64_value(&[first])?;
            return Err(Error::new(
                Kind::Label,
                format!("{what} {label}, at {first}, is outside of 0 to {}", classes - 1),
            )
            .hint("labels count from 0"));
        }
        Ok(())
    }

    /// Scores as probabilities.
    ///
    /// # Errors
    /// When they are no probabilities and nobody said that they are logits.
    pub fn probabilities(&self, scores: &Tensor) -> Result<Tensor> {
        let scores = match scores.kind() {
            TKind::Float | TKind::Double => scores.shallow_clone(),
            _ => scores.f_to_kind(TKind::Float)?,
        };
        if self.logits {
            return Ok(match self.task {
                Task::Binary => scores.f_sigmoid()?,
                Task::Multiclass(_) => scores.f_softmax(-1, scores.kind())?,
            });
        }
        let outside = scores.f_lt(0.0)?.f_logical_or(&scores.f_gt(1.0)?)?;
        if scores.numel() > 0 && bool::try_from(outside.f_any()?)? {
            let first = outside.f_reshape([-1])?.f_nonzero()?.f_int64_value(&[0, 0])?;
            let score = scores.f_reshape([-1])?.f_double_value(&[first])?;
            return Err(Error::new(Kind::Data, format!("{score} is no probability"))
                .hint("are these the model's logits? Then say so when the metric is made: `.logits()`"));
        }
        Ok(scores)
    }
}
