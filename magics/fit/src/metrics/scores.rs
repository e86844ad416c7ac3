//! Metrics of how scores rank samples. They need all scores, so they keep them.

use super::inputs::{Inputs, Task};
use super::{Average, Metric, State, metric};
use crate::error::{Error, Kind, Result};
use tch::{Device, Kind as TKind, Tensor};

/// Scores of one class, the largest first, with whether the target is that class.
fn ranked(scores: &[f64], hits: impl Fn(usize) -> bool) -> Vec<(f64, bool)> {
    let mut ranked: Vec<(f64, bool)> = scores
        .iter()
        .enumerate()
        .map(|(at, score)| (*score, hits(at)))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked
}

/// Counts of hits and misses down to each threshold: samples of one score come together.
fn steps(ranked: &[(f64, bool)]) -> Vec<(f64, f64)> {
    let (mut hits, mut misses, mut steps) = (0.0, 0.0, Vec::new());
    for (at, (score, hit)) in ranked.iter().enumerate() {
        if *hit {
            hits += 1.0
        } else {
            misses += 1.0
        }
        if ranked.get(at + 1).is_none_or(|next| next.0 != *score) {
            steps.push((hits, misses));
        }
    }
    steps
}

/// The area under the ROC curve; NaN when one of the two sides has no sample.
fn auroc(ranked: &[(f64, bool)]) -> f64 {
    let steps = steps(ranked);
    let (hits, misses) = steps.last().copied().unwrap_or_default();
    let (mut before, mut area) = ((0.0, 0.0), 0.0);
    for step in steps {
        area += (step.1 - before.1) * (step.0 + before.0) / 2.0;
        before = step;
    }
    area / (hits * misses)
}

/// The ROC curve (share of misses, share of hits) and the area under it, which is NaN when one of the two sides has no sample.
pub(crate) fn roc_points(scores: &[f64], hits: impl Fn(usize) -> bool) -> (Vec<(f64, f64)>, f64) {
    let ranked = ranked(scores, hits);
    let steps = steps(&ranked);
    let (all_hits, all_misses) = steps.last().copied().unwrap_or_default();
    let share = |(hits, misses): &(f64, f64)| (misses / all_misses, hits / all_hits);
    let points = std::iter::once((0.0, 0.0)).chain(steps.iter().map(share)).collect();
    (points, auroc(&ranked))
}

/// The mean precision over all hits; NaN when there is none.
fn average_precision(ranked: &[(f64, bool)]) -> f64 {
    let steps = steps(ranked);
    let all = steps.last().copied().unwrap_or_default().0;
    let (mut before, mut sum) = (0.0, 0.0);
    for (hits, misses) in steps {
        sum += (hits - before) / all * (hits / (hits + misses));
        before = hits;
    }
    if all == 0.0 { f64::NAN } else { sum }
}

macro_rules! score_metric {
    ($(#[$meta:meta])* $name:ident, $of:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name {
            inputs: Inputs,
            average: Average,
            state: State,
        }

        impl $name {
            /// For yes and no: predictions `[n]`, or `[n, 1]`, are scores of yes, of any size.
            pub fn binary() -> $name {
                $name { inputs: Inputs::new(Task::Binary), average: Average::Macro, state: State::default() }
            }

            /// For one of so many classes, each against all others: predictions are scores `[n, classes, …]`. All classes
            /// that have samples count alike at first.
            pub fn multiclass(classes: i64) -> $name {
                $name { inputs: Inputs::new(Task::Multiclass(classes)), average: Average::Macro, state: State::default() }
            }

            /// How the classes' values become one: [`Average::Macro`] or [`Average::Weighted`].
            #[must_use]
            pub fn average(mut self, average: Average) -> $name {
                self.average = average;
                self
            }

            /// Predictions are logits: scores of different samples compare only as probabilities.
            #[must_use]
            pub fn logits(mut self) -> $name {
                self.inputs.logits = true;
                self
            }

            /// Targets of this label do not count.
            #[must_use]
            pub fn ignore_index(mut self, label: i64) -> $name {
                self.inputs.ignore_index = Some(label);
                self
            }

            /// The value over all that was added; NaN, when it has none.
            ///
            /// # Errors
            /// When classes are to be averaged in a way that there is not.
            pub fn compute(&self) -> Result<f64> {
                Metric::compute(self)
            }

            /// The value of each class; NaN for one without samples, or with nothing but samples.
            ///
            /// # Errors
            /// libtorch's own.
            pub fn compute_classes(&self) -> Result<Vec<f64>> {
                Ok(self.classes()?.into_iter().map(|(value, _)| value).collect())
            }

            fn added(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
                let (scores, target) = self.inputs.scores(preds, target)?;
                let scores = match self.inputs.task {
                    Task::Binary => scores,
                    Task::Multiclass(_) => self.inputs.probabilities(&scores)?,
                };
                self.state.extend(&[scores, target]);
                Ok(())
            }

            /// Values of the classes, and how many samples each has.
            fn classes(&self) -> Result<Vec<(f64, f64)>> {
                classes(&self.state, self.inputs.task, $of)
            }

            fn value(&self) -> Result<f64> {
                averaged(&self.classes()?, self.inputs.task, self.average)
            }
        }

        metric!($name, lists);
    };
}

fn classes(state: &State, task: Task, of: fn(&[(f64, bool)]) -> f64) -> Result<Vec<(f64, f64)>> {
    let (mut scores, mut targets) = (Vec::<f64>::new(), Vec::<i64>::new());
    for pair in state.all().chunks(2) {
        let [of, target] = pair else { continue };
        let flat = of.f_to_device(Device::Cpu)?.f_to_kind(TKind::Double)?.f_reshape([-1])?;
        scores.extend(Vec::<f64>::try_from(&flat)?);
        let target = target.f_to_device(Device::Cpu)?.f_to_kind(TKind::Int64)?;
        targets.extend(Vec::<i64>::try_from(&target)?);
    }
    if scores.iter().any(|score| score.is_nan()) {
        return Err(Error::new(Kind::NonFinite, "a score is no number (NaN)"));
    }
    let value = |class: i64, column: &[f64]| {
        let samples = targets.iter().filter(|target| **target == class).count() as f64;
        (of(&ranked(column, |at| targets[at] == class)), samples)
    };
    Ok(match task {
        Task::Binary => vec![value(1, &scores)],
        Task::Multiclass(classes) => {
            let column = |class: i64| -> Vec<f64> {
                scores
                    .iter()
                    .skip(class as usize)
                    .step_by(classes as usize)
                    .copied()
                    .collect()
            };
            (0..classes).map(|class| value(class, &column(class))).collect()
        }
    })
}

/// One value of those of the classes that have one.
fn averaged(classes: &[(f64, f64)], task: Task, average: Average) -> Result<f64> {
    if let (Task::Binary, Some((value, _))) = (task, classes.first()) {
        return Ok(*value);
    }
    let weight = |samples: f64| match average {
        Average::Weighted => samples,
        _ => 1.0,
    };
    if average == Average::Micro {
        return Err(Error::new(
            Kind::Option,
            "ranks of classes are averaged as Macro or Weighted, not as Micro",
        ));
    }
    let there = || classes.iter().filter(|(value, _)| !value.is_nan());
    let sum: f64 = there().map(|(value, samples)| value * weight(*samples)).sum();
    Ok(sum / there().map(|(_, samples)| weight(*samples)).sum::<f64>())
}

score_metric!(
    /// The area under the ROC curve: how likely a sample of a class has a higher score than one of another. Ties count half.
    ///
    /// Unlike torchmetrics, which counts a class without samples as 0, classes without a value are left out of the average.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let auroc = metrics::AUROC::binary();
    /// auroc.update(&Tensor::from_slice(&[0.1f32, 0.4, 0.35, 0.8]), &Tensor::from_slice(&[0i64, 0, 1, 1]))?;
    /// assert_eq!(auroc.compute()?, 0.75);
    /// # Ok::<(), Error>(())
    /// ```
    AUROC, auroc
);
score_metric!(
    /// The mean precision over all thresholds at which a target is found: the area under the precision-recall curve, as
    /// steps.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let precision = metrics::AveragePrecision::binary();
    /// precision.update(&Tensor::from_slice(&[0.1f32, 0.4, 0.35, 0.8]), &Tensor::from_slice(&[0i64, 0, 1, 1]))?;
    /// assert!((precision.compute()? - 5.0 / 6.0).abs() < 1e-12);
    /// # Ok::<(), Error>(())
    /// ```
    AveragePrecision, average_precision
);

impl AUROC {
    /// The ROC curve of all that was added, with the area under it; of several classes, each against the others.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let auroc = metrics::AUROC::binary();
    /// auroc.update(&Tensor::from_slice(&[0.1f32, 0.4, 0.35, 0.8]), &Tensor::from_slice(&[0i64, 0, 1, 1]))?;
    /// assert!(auroc.plot()?.text().starts_with("AUC 0.750"));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// When nothing was added.
    pub fn plot(&self) -> Result<lightcell_cell::Figure> {
        let kept = self.state.all();
        let (mut scores, mut targets) = (Vec::new(), Vec::new());
        for pair in kept.chunks(2) {
            let [score, target] = pair else { continue };
            scores.push(score.f_to_device(Device::Cpu)?);
            targets.push(target.f_to_device(Device::Cpu)?);
        }
        if scores.is_empty() {
            return Err(Error::new(Kind::Data, "AUROC: nothing was added, there is no curve"));
        }
        Ok(crate::figures::roc(
            &Tensor::f_cat(&scores, 0)?,
            &Tensor::f_cat(&targets, 0)?,
        ))
    }
}
