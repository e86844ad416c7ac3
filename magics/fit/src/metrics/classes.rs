//! Metrics of predicted classes: counts of hits, predictions and targets of each class.

use super::inputs::{Inputs, Task};
use super::{Metric, State, metric};
use crate::error::{Error, Kind, Result};
use tch::{Kind as TKind, Tensor};

/// How the classes' values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Average {
    /// All samples count alike: hits of all classes are summed first.
    Micro,
    /// All classes count alike. A class that neither targets nor predictions have counts for nothing.
    Macro,
    /// Classes count by their numbers of samples.
    Weighted,
}

/// Counts of each class, and how predictions become classes.
#[derive(Debug, Clone)]
struct Counts {
    inputs: Inputs,
    threshold: f64,
    top_k: i64,
    average: Average,
}

/// Of one class.
#[derive(Debug, Clone, Copy, Default)]
struct Class {
    hits: f64,
    predicted: f64,
    targets: f64,
}

fn ratio(part: f64, all: f64) -> f64 {
    if all == 0.0 { 0.0 } else { part / all }
}

impl Counts {
    fn new(task: Task, average: Average) -> Counts {
        Counts {
            inputs: Inputs::new(task),
            threshold: 0.5,
            top_k: 1,
            average,
        }
    }

    /// Predicted and true labels `[n]`. A prediction that has the target among its best is taken for the target.
    fn labels(&self, preds: &Tensor, target: &Tensor) -> Result<(Tensor, Tensor)> {
        if !preds.is_floating_point() {
            if self.top_k > 1 {
                return Err(Error::new(
                    Kind::Data,
                    "top_k wants the scores of all classes, not labels",
                ));
            }
            return self.inputs.predicted(preds, target);
        }
        let (scores, target) = self.inputs.scores(preds, target)?;
        let predicted = match self.inputs.task {
            Task::Binary => self
                .inputs
                .probabilities(&scores)?
                .f_gt(self.threshold)?
                .f_to_kind(TKind::Int64)?,
            Task::Multiclass(_) if self.top_k == 1 => scores.f_argmax(1, false)?,
            Task::Multiclass(classes) => {
                let (_, best) = scores.f_topk(self.top_k.min(classes), 1, true, true)?;
                let among = best.f_eq_tensor(&target.f_unsqueeze(1)?)?.f_any_dim(1, false)?;
                target.f_where_self(&among, &best.f_select(1, 0)?)?
            }
        };
        Ok((predicted, target))
    }

    /// Hits, predictions and targets as `[3, classes]` of `Kind::Double`.
    fn count(&self, preds: &Tensor, target: &Tensor) -> Result<Tensor> {
        let (preds, target) = self.labels(preds, target)?;
        let classes = self.inputs.task.classes();
        let count = |labels: &Tensor| labels.f_bincount(None::<Tensor>, classes);
        let hit = preds.f_eq_tensor(&target)?.f_nonzero()?.f_reshape([-1])?;
        let hits = count(&target.f_index_select(0, &hit)?)?;
        Ok(Tensor::f_stack(&[hits, count(&preds)?, count(&target)?], 0)?.f_to_kind(TKind::Double)?)
    }

    fn classes(&self, state: &State) -> Result<Option<Vec<Class>>> {
        let n = self.inputs.task.classes() as usize;
        Ok(state.numbers()?.map(|sums| {
            let class = |class: usize| Class {
                hits: sums[class],
                predicted: sums[n + class],
                targets: sums[2 * n + class],
            };
            (0..n).map(class).collect()
        }))
    }

    /// The value over all classes of one that each has.
    fn value(&self, state: &State, of: impl Fn(Class) -> f64) -> Result<f64> {
        let Some(classes) = self.classes(state)? else {
            return Ok(f64::NAN);
        };
        if self.inputs.task == Task::Binary {
            return Ok(of(classes[1]));
        }
        let mean = |weight: &dyn Fn(&Class) -> f64| {
            let sum: f64 = classes.iter().map(|class| weight(class) * of(*class)).sum();
            ratio(sum, classes.iter().map(weight).sum())
        };
        Ok(match self.average {
            Average::Micro => of(classes.iter().fold(Class::default(), |all, class| Class {
                hits: all.hits + class.hits,
                predicted: all.predicted + class.predicted,
                targets: all.targets + class.targets,
            })),
            Average::Weighted => mean(&|class| class.targets),
            Average::Macro => mean(&|class| {
                let seen = if self.top_k > 1 {
                    class.targets
                } else {
                    class.targets + class.predicted
                };
                f64::from(u8::from(seen > 0.0))
            }),
        })
    }
}

macro_rules! class_metric {
    ($(#[$meta:meta])* $name:ident, $class:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name {
            counts: Counts,
            state: State,
        }

        impl $name {
            /// For yes and no: predictions `[n]`, or `[n, 1]`, are probabilities of yes, or labels 0 and 1.
            pub fn binary() -> $name {
                $name { counts: Counts::new(Task::Binary, Average::Micro), state: State::default() }
            }

            /// For one of so many classes: predictions are scores `[n, classes, …]` or labels `[n, …]`, targets labels
            /// `[n, …]`. Averaged over all samples at first ([`Average::Micro`]).
            pub fn multiclass(classes: i64) -> $name {
                $name { counts: Counts::new(Task::Multiclass(classes), Average::Micro), state: State::default() }
            }

            /// How the classes' values become one.
            #[must_use]
            pub fn average(mut self, average: Average) -> $name {
                self.counts.average = average;
                self
            }

            /// A prediction counts as a hit when the target is among its so many best classes; 1 at first.
            #[must_use]
            pub fn top_k(mut self, top_k: i64) -> $name {
                self.counts.top_k = top_k.max(1);
                self
            }

            /// Above which probability a binary prediction means yes; 0.5 at first.
            #[must_use]
            pub fn threshold(mut self, threshold: f64) -> $name {
                self.counts.threshold = threshold;
                self
            }

            /// Predictions are logits, of which the metric makes probabilities. Of classes, the largest is the same.
            #[must_use]
            pub fn logits(mut self) -> $name {
                self.counts.inputs.logits = true;
                self
            }

            /// Targets of this label do not count.
            #[must_use]
            pub fn ignore_index(mut self, label: i64) -> $name {
                self.counts.inputs.ignore_index = Some(label);
                self
            }

            /// The value over all that was added; NaN, when nothing was.
            ///
            /// # Errors
            /// libtorch's own.
            pub fn compute(&self) -> Result<f64> {
                Metric::compute(self)
            }

            /// The value of each class (of no and yes, for a binary metric).
            ///
            /// # Errors
            /// libtorch's own.
            pub fn compute_classes(&self) -> Result<Vec<f64>> {
                let of: fn(Class) -> f64 = $class;
                Ok(self.counts.classes(&self.state)?.unwrap_or_default().into_iter().map(of).collect())
            }

            fn added(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
                self.state.add(&self.counts.count(preds, target)?)
            }
        }

        metric!($name, sums);
    };
}

class_metric!(
    /// The share of targets that were predicted. With [`Average::Macro`], the mean of the classes' shares.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let accuracy = metrics::Accuracy::multiclass(3);
    /// let scores = Tensor::from_slice2(&[[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5]]);
    /// accuracy.update(&scores, &Tensor::from_slice(&[1i64, 0, 1]))?;
    /// assert_eq!(accuracy.compute()?, 2.0 / 3.0);
    /// let top = metrics::Accuracy::multiclass(3).top_k(2);
    /// top.update(&scores, &Tensor::from_slice(&[1i64, 0, 1]))?;
    /// assert_eq!(top.compute()?, 1.0);
    /// # Ok::<(), Error>(())
    /// ```
    Accuracy, |class| ratio(class.hits, class.targets)
);
class_metric!(
    /// The share of predictions of a class that are right.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let precision = metrics::Precision::binary();
    /// precision.update(&Tensor::from_slice(&[0.9f32, 0.8, 0.1]), &Tensor::from_slice(&[1i64, 0, 1]))?;
    /// assert_eq!(precision.compute()?, 0.5);
    /// # Ok::<(), Error>(())
    /// ```
    Precision, |class| ratio(class.hits, class.predicted)
);
class_metric!(
    /// The share of a class's targets that were predicted.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let recall = metrics::Recall::binary();
    /// recall.update(&Tensor::from_slice(&[0.9f32, 0.8, 0.1]), &Tensor::from_slice(&[1i64, 1, 1]))?;
    /// assert_eq!(recall.compute()?, 2.0 / 3.0);
    /// # Ok::<(), Error>(())
    /// ```
    Recall, |class| ratio(class.hits, class.targets)
);
class_metric!(
    /// The harmonic mean of precision and recall.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let f1 = metrics::F1Score::multiclass(2).average(metrics::Average::Macro);
    /// f1.update(&Tensor::from_slice(&[0i64, 1, 1]), &Tensor::from_slice(&[0i64, 1, 0]))?;
    /// assert_eq!(f1.compute()?, 2.0 / 3.0);
    /// # Ok::<(), Error>(())
    /// ```
    F1Score, |class| ratio(2.0 * class.hits, class.predicted + class.targets)
);

impl Accuracy {
    fn value(&self) -> Result<f64> {
        // Of yes and no, both count.
        if self.counts.inputs.task == Task::Binary {
            let Some(classes) = self.counts.classes(&self.state)? else {
                return Ok(f64::NAN);
            };
            let sum = |of: fn(&Class) -> f64| classes.iter().map(of).sum::<f64>();
            return Ok(ratio(sum(|class| class.hits), sum(|class| class.targets)));
        }
        self.counts.value(&self.state, |class| ratio(class.hits, class.targets))
    }
}

impl Precision {
    fn value(&self) -> Result<f64> {
        self.counts
            .value(&self.state, |class| ratio(class.hits, class.predicted))
    }
}

impl Recall {
    fn value(&self) -> Result<f64> {
        self.counts.value(&self.state, |class| ratio(class.hits, class.targets))
    }
}

impl F1Score {
    fn value(&self) -> Result<f64> {
        self.counts.value(&self.state, |class| {
            ratio(2.0 * class.hits, class.predicted + class.targets)
        })
    }
}

/// What a confusion matrix's numbers are shares of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalize {
    /// Of nothing: they are counts.
    None,
    /// Of a class's targets: rows sum to 1.
    True,
    /// Of a class's predictions: columns sum to 1.
    Pred,
    /// Of all samples.
    All,
}

/// How often a class (row) was predicted as which (column).
///
/// ```
/// use lightcell::prelude::*;
/// let confusion = metrics::ConfusionMatrix::multiclass(2);
/// confusion.update(&Tensor::from_slice(&[0i64, 1, 1]), &Tensor::from_slice(&[0i64, 1, 0]))?;
/// assert_eq!(Vec::<Vec<f64>>::try_from(&confusion.compute()?).unwrap(), [[1.0, 1.0], [0.0, 1.0]]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConfusionMatrix {
    counts: Counts,
    normalize: Normalize,
    state: State,
}

impl ConfusionMatrix {
    /// For yes and no: predictions `[n]`, or `[n, 1]`, are probabilities of yes, or labels 0 and 1.
    pub fn binary() -> ConfusionMatrix {
        ConfusionMatrix::of(Task::Binary)
    }

    /// For so many classes: predictions are scores `[n, classes, …]` or labels `[n, …]`.
    pub fn multiclass(classes: i64) -> ConfusionMatrix {
        ConfusionMatrix::of(Task::Multiclass(classes))
    }

    fn of(task: Task) -> ConfusionMatrix {
        ConfusionMatrix {
            counts: Counts::new(task, Average::Micro),
            normalize: Normalize::None,
            state: State::default(),
        }
    }

    /// What its numbers are shares of; of nothing at first.
    #[must_use]
    pub fn normalize(mut self, normalize: Normalize) -> ConfusionMatrix {
        self.normalize = normalize;
        self
    }

    /// Above which probability a binary prediction means yes; 0.5 at first.
    #[must_use]
    pub fn threshold(mut self, threshold: f64) -> ConfusionMatrix {
        self.counts.threshold = threshold;
        self
    }

    /// Predictions are logits, of which the metric makes probabilities.
    #[must_use]
    pub fn logits(mut self) -> ConfusionMatrix {
        self.counts.inputs.logits = true;
        self
    }

    /// Targets of this label do not count.
    #[must_use]
    pub fn ignore_index(mut self, label: i64) -> ConfusionMatrix {
        self.counts.inputs.ignore_index = Some(label);
        self
    }

    /// Adds a batch of predictions and targets.
    ///
    /// # Errors
    /// When they are not what the metric is made for.
    pub fn update(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let added = || {
            let classes = self.counts.inputs.task.classes();
            let (preds, target) = self.counts.labels(preds, target)?;
            let cells = target.f_mul_scalar(classes)?.f_add(&preds)?;
            let counted = cells.f_bincount(None::<Tensor>, classes * classes)?;
            self.state
                .add(&counted.f_view([classes, classes])?.f_to_kind(TKind::Double)?)
        };
        added().map_err(|error: Error| error.at("ConfusionMatrix"))
    }

    /// The matrix `[classes, classes]` of `Kind::Double` over all that was added.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn compute(&self) -> Result<Tensor> {
        let classes = self.counts.inputs.task.classes();
        let numbers = self.state.numbers()?;
        let numbers = numbers.unwrap_or_else(|| vec![0.0; (classes * classes) as usize]);
        let matrix = Tensor::from_slice(&numbers).f_view([classes, classes])?;
        let sums = match self.normalize {
            Normalize::None => return Ok(matrix),
            Normalize::True => matrix.f_sum_dim_intlist(1, true, TKind::Double)?,
            Normalize::Pred => matrix.f_sum_dim_intlist(0, true, TKind::Double)?,
            Normalize::All => matrix.f_sum(TKind::Double)?,
        };
        // Shares of nothing are 0.
        Ok(matrix.f_div(&sums.f_clamp_min(1.0)?)?)
    }

    /// The matrix as a figure, with these names of the classes; those that are missing are numbers.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let confusion = metrics::ConfusionMatrix::binary();
    /// confusion.update(&Tensor::from_slice(&[0i64, 1, 1]), &Tensor::from_slice(&[0i64, 1, 0]))?;
    /// let text = confusion.plot(&["no", "yes"])?.text();
    /// let of_yes = text.lines().map(str::trim_start).find(|line| line.starts_with("yes")).unwrap_or_default();
    /// assert_eq!(of_yes.split_whitespace().collect::<Vec<_>>(), ["yes", "0", "1"]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// libtorch's own.
    pub fn plot<S: AsRef<str>>(&self, names: &[S]) -> Result<lightcell_cell::Figure> {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        crate::figures::of_matrix(&self.compute()?, &names)
    }

    /// Begins anew.
    pub fn reset(&self) {
        self.state.clear();
    }

    /// The counts so far, to be added to those of another process.
    pub fn state(&self) -> Vec<Tensor> {
        self.state.all()
    }

    /// Adds the counts of another matrix.
    ///
    /// # Errors
    /// When it is of another number of classes.
    pub fn merge_state(&self, other: &[Tensor]) -> Result<()> {
        self.state.add_all(other)
    }
}
