//! The search for a learning rate: it rises from step to step, and the losses say which one to take.
//!
//! Source: L. Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), and Lightning's `lr_find`, whose numbers
//! `Compat::Lightning` gives. Ours differs where Lightning's is known to mislead: the ladder is even, the mean is corrected
//! for its beginning, and the suggestion looks at the slope over the logarithm of the rate and at the lowest loss.

use super::{Listener, Snapshot, Tuner, as_json, set_field};
use crate::callbacks::{Callback, Run};
use crate::data::DataModule;
use crate::error::{Error, Kind, Result};
use crate::fit::{Fit, type_name};
use crate::making;
use crate::module::LightningModule;
use crate::progress::{Outside, Reporter};
use crate::steps::guarded;
use crate::trainer::{Compat, device_name};
use lightcell_events::run::{RunEvent, Task};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// How much of the mean loss is that of the steps before.
const BETA: f64 = 0.98;

/// How the learning rate rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrMode {
    /// By the same factor each step.
    #[default]
    Exponential,
    /// By the same amount each step.
    Linear,
}

/// Settings of [`Tuner::lr_find`], under Lightning's names and with its defaults.
///
/// ```
/// use lightcell::prelude::*;
/// let search = LrFind::new().min_lr(1e-6).num_training(200).update_attr(false);
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LrFind {
    min_lr: f64,
    max_lr: f64,
    num_training: u64,
    mode: LrMode,
    early_stop_threshold: Option<f64>,
    update_attr: bool,
    attr_name: String,
}

impl Default for LrFind {
    fn default() -> LrFind {
        LrFind {
            min_lr: 1e-8,
            max_lr: 1.0,
            num_training: 100,
            mode: LrMode::Exponential,
            early_stop_threshold: Some(4.0),
            update_attr: true,
            attr_name: String::new(),
        }
    }
}

impl LrFind {
    /// All defaults.
    pub fn new() -> LrFind {
        LrFind::default()
    }

    /// The smallest learning rate; 1e-8.
    #[must_use]
    pub fn min_lr(mut self, lr: f64) -> LrFind {
        self.min_lr = lr;
        self
    }

    /// The largest learning rate; 1.
    #[must_use]
    pub fn max_lr(mut self, lr: f64) -> LrFind {
        self.max_lr = lr;
        self
    }

    /// Optimizer steps, each with a rate of its own; 100. When an epoch has fewer, further epochs follow.
    #[must_use]
    pub fn num_training(mut self, steps: u64) -> LrFind {
        self.num_training = steps;
        self
    }

    /// How the rate rises; by a factor.
    #[must_use]
    pub fn mode(mut self, mode: LrMode) -> LrFind {
        self.mode = mode;
        self
    }

    /// The search ends when the mean loss is so many times the lowest; 4. `None` goes to the largest rate, or to a loss that
    /// is no number.
    #[must_use]
    pub fn early_stop_threshold(mut self, threshold: Option<f64>) -> LrFind {
        self.early_stop_threshold = threshold;
        self
    }

    /// Whether the suggestion is set in the hyperparameters and the optimizer is made with them; it is.
    #[must_use]
    pub fn update_attr(mut self, update: bool) -> LrFind {
        self.update_attr = update;
        self
    }

    /// The hyperparameter with the learning rate; `lr` or `learning_rate`, whichever is there.
    #[must_use]
    pub fn attr_name(mut self, name: &str) -> LrFind {
        self.attr_name = name.to_owned();
        self
    }

    fn check(&self) -> Result<()> {
        let fault = |text: String, hint: &str| Err(Error::new(Kind::Option, text).hint(hint));
        if !(self.min_lr > 0.0 && self.min_lr < self.max_lr && self.max_lr.is_finite()) {
            return fault(
                format!("lr-find cannot go from {:e} to {:e}", self.min_lr, self.max_lr),
                "min-lr is above 0 and below max-lr",
            );
        }
        if self.num_training < 2 {
            return fault(
                format!("lr-find cannot have {} steps", self.num_training),
                "num-training is usually 100",
            );
        }
        if self
            .early_stop_threshold
            .is_some_and(|threshold| threshold.is_nan() || threshold <= 1.0)
        {
            return fault(
                "early-stop-threshold must be above 1".to_owned(),
                "4 ends the search when the loss is four times the lowest",
            );
        }
        Ok(())
    }

    /// The rate of a step, counted from 0.
    fn lr(&self, step: u64, compat: Compat) -> f64 {
        let (min, max, n) = (self.min_lr, self.max_lr, self.num_training as f64);
        let part = match compat {
            Compat::None => step as f64 / (n - 1.0),
            Compat::Lightning if step == 0 => return min,
            Compat::Lightning => (step + 1) as f64 / n,
        };
        match self.mode {
            LrMode::Exponential => min * (max / min).powf(part),
            LrMode::Linear => min + part * (max - min),
        }
    }

    /// The hyperparameter that holds the rate.
    fn attribute(&self, hparams: &serde_json::Value) -> Result<String> {
        let names = if self.attr_name.is_empty() {
            vec!["lr", "learning_rate"]
        } else {
            vec![self.attr_name.as_str()]
        };
        let there = names
            .iter()
            .find(|name| hparams.get(**name).is_some_and(serde_json::Value::is_number));
        there.map(|name| (*name).to_owned()).ok_or_else(|| {
            let names = names.join("` or `");
            Error::new(Kind::Option, format!("the hyperparameters have no number `{names}`")).hint(
                "name the one with the learning rate (attr-name), or look at the suggestion alone (update-attr false)",
            )
        })
    }
}

/// Sets the rates and keeps the losses.
struct Probe {
    settings: LrFind,
    compat: Compat,
    first: u64,
    lrs: Vec<f64>,
    losses: Vec<f64>,
    mean: f64,
    best: f64,
    diverged: bool,
}

impl Probe {
    /// Takes the loss of a step.
    fn take(&mut self, loss: f64) {
        let count = self.losses.len() as i32 + 1;
        self.mean = BETA * self.mean + (1.0 - BETA) * loss;
        // Lightning corrects for one step more than there were, so that its means begin too low.
        let steps = match self.compat {
            Compat::None => count,
            Compat::Lightning => count + 1,
        };
        let smoothed = self.mean / (1.0 - BETA.powf(f64::from(steps)));
        if let Some(threshold) = self.settings.early_stop_threshold
            && count > 1
            && smoothed > threshold * self.best
        {
            self.diverged = true;
        }
        if smoothed < self.best || count == 1 {
            self.best = smoothed;
        }
        self.losses.push(smoothed);
    }
}

impl Callback for Probe {
    fn on_train_batch_start(&mut self, run: &mut Run) -> Result<()> {
        let step = run.global_step() - self.first;
        let lr = self.settings.lr(step, self.compat);
        if self.lrs.len() as u64 == step {
            self.lrs.push(lr);
        }
        let groups = run.optimizer().lrs().len();
        run.set_lrs(&vec![lr; groups]);
        Ok(())
    }

    fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
        if run.global_step() - self.first > self.losses.len() as u64
            && let Some(loss) = run.loss()
        {
            self.take(loss);
            if self.diverged {
                run.stop("the loss diverged");
            }
        }
        Ok(())
    }

    fn reads_loss(&self) -> bool {
        true
    }
}

/// What [`Tuner::lr_find`] found.
///
/// ```
/// use lightcell::prelude::*;
/// # hparams! { Hp { lr: f64 = 1e-3 } }
/// # struct Net(Linear);
/// # impl LightningModule for Net {
/// #     type HParams = Hp;
/// #     type Batch = (Tensor, Tensor);
/// #     fn new(p: &Path, _: &Hp) -> Net { Net(linear(p / "l1", 4, 2)) }
/// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
/// #     fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
/// #         let loss = self.forward(x).cross_entropy_for_logits(y);
/// #         cx.log("train_loss", &loss);
/// #         Ok(loss)
/// #     }
/// #     fn configure_optimizers(&self, hp: &Hp) -> Optim { adam(hp.lr) }
/// # }
/// # let x = Tensor::randn([32, 4], (Kind::Float, Device::Cpu));
/// # let y = Tensor::zeros([32], (Kind::Int64, Device::Cpu));
/// # let data = Data::new(TensorDataset::new(x, y)?).batch_size(8);
/// let mut net = Net::build(Hp::default())?;
/// let found = Tuner::new(&Trainer::new().seed(1)).lr_find(&mut net, &data, &LrFind::new().num_training(20))?;
/// assert_eq!(found.lrs.len(), found.losses.len());
/// assert!(found.suggestion().is_none_or(|lr| found.lrs.contains(&lr) || lr > 0.0));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LrFinder {
    /// The learning rate of each step.
    pub lrs: Vec<f64>,
    /// The loss of each step, as a mean that forgets.
    pub losses: Vec<f64>,
    /// Steps that were to be made. Fewer were, when the loss diverged.
    pub num_training: u64,
    /// How the rate rose.
    pub mode: LrMode,
    /// The hyperparameter that was set to the suggestion.
    pub attr_name: Option<String>,
    lightning: bool,
}

impl LrFinder {
    /// The learning rate to begin with: of the steps but the first ten and the last, the smaller of the rate at which the loss
    /// falls most steeply over the logarithm of the rate, once it has done a tenth of its fall, and a tenth of the rate at which
    /// it is lowest. With
    /// `Compat::Lightning` the rate of the steepest fall over the rate itself, as there. `None` when too few steps were made.
    pub fn suggestion(&self) -> Option<f64> {
        self.suggestion_within(10, 1)
    }

    /// As [`suggestion`](LrFinder::suggestion), without so many steps at the beginning and the end.
    pub fn suggestion_within(&self, skip_begin: usize, skip_end: usize) -> Option<f64> {
        let points = self.points(skip_begin, skip_end);
        if self.lightning {
            return self.steepest(&points).map(|at| self.lrs[at]);
        }
        let (first, loss) = (*points.first()?, |at: usize| self.losses[at]);
        let lowest = points.iter().copied().min_by(|a, b| loss(*a).total_cmp(&loss(*b)))?;
        // Before the loss has begun to fall for good, slopes are those of noise.
        let level = loss(first) - 0.1 * (loss(first) - loss(lowest));
        let fall: Vec<usize> = points.iter().copied().filter(|at| *at <= lowest).collect();
        let begin = fall.iter().rposition(|at| loss(*at) >= level).unwrap_or(0);
        let steepest = self.steepest(&fall[begin..]).unwrap_or(lowest);
        (points.len() >= 2).then(|| self.lrs[steepest].min(self.lrs[lowest] / 10.0))
    }

    /// The step whose rate is nearest to the suggestion, to mark it in a plot.
    pub fn suggestion_idx(&self) -> Option<usize> {
        let suggestion = self.suggestion()?.ln();
        let far = |at: &usize| (self.lrs[*at].ln() - suggestion).abs();
        (0..self.losses.len()).min_by(|a, b| far(a).total_cmp(&far(b)))
    }

    /// The steps to look at.
    fn points(&self, skip_begin: usize, skip_end: usize) -> Vec<usize> {
        let end = self.losses.len().saturating_sub(skip_end);
        (skip_begin..end).filter(|at| self.losses[*at].is_finite()).collect()
    }

    /// The step at which the loss falls most steeply: central differences of uneven distances (`torch.gradient`).
    fn steepest(&self, points: &[usize]) -> Option<usize> {
        if points.len() < 2 {
            return None;
        }
        // In 32 bits, as PyTorch makes tensors of lists; over the logarithm by itself.
        let x = |at: usize| {
            let lr = self.lrs[points[at]];
            if self.lightning { lr as f32 } else { lr.ln() as f32 }
        };
        let y = |at: usize| self.losses[points[at]] as f32;
        let last = points.len() - 1;
        let slope = |at: usize| match at {
            0 => (y(1) - y(0)) / (x(1) - x(0)),
            at if at == last => (y(at) - y(at - 1)) / (x(at) - x(at - 1)),
            at => {
                let (left, right) = (x(at) - x(at - 1), x(at + 1) - x(at));
                let a = -right / (left * (left + right));
                let b = (right - left) / (left * right);
                let c = left / (right * (left + right));
                a * y(at - 1) + b * y(at) + c * y(at + 1)
            }
        };
        (0..=last)
            .min_by(|a, b| slope(*a).total_cmp(&slope(*b)))
            .map(|at| points[at])
    }
}

impl Reporter {
    /// A search is over: its curve, if it has one.
    fn lr_found(&mut self, found: &Result<LrFinder>) {
        if let Ok(found) = found {
            let points = std::iter::zip(&found.lrs, &found.losses).map(|(lr, loss)| (*lr, *loss));
            let marked = found.suggestion_idx().map(|at| (found.lrs[at], found.losses[at]));
            self.send(&RunEvent::LrCurve {
                run: self.run().to_owned(),
                points: points.filter(|(_, loss)| loss.is_finite()).collect(),
                suggestion: marked.zip(found.suggestion()).map(|((_, loss), lr)| (lr, loss)),
                attr_name: found.attr_name.clone(),
            });
        }
        let steps = found.as_ref().map_or(0, |found| found.losses.len() as u64);
        self.task_over(steps, found.as_ref().err());
    }
}

impl fmt::Display for LrFinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.lrs.first().unwrap_or(&0.0), self.lrs.last().unwrap_or(&0.0));
        write!(f, "{} learning rates from {first:.1e} to {last:.1e}", self.lrs.len())?;
        if (self.lrs.len() as u64) < self.num_training {
            write!(f, ", then the loss diverged")?;
        }
        match self.suggestion() {
            Some(lr) => write!(f, "; suggestion: {lr:.2e}"),
            None => write!(f, "; too few for a suggestion"),
        }
    }
}

impl Tuner {
    /// Trains with a learning rate that rises from step to step, and suggests one to begin with. The suggestion is set in the
    /// hyperparameters, and the optimizer is made with them, unless `update_attr` is off.
    ///
    /// All parameter groups get the same rate in the search, and the schedule rests. On a GPU each step is waited for.
    ///
    /// # Errors
    /// When a setting means nothing, no hyperparameter holds a learning rate, a step fails, or too few losses are numbers.
    /// Nothing has changed then.
    pub fn lr_find<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
        settings: &LrFind,
    ) -> Result<LrFinder> {
        self.lr_find_within(fit, data, settings, Reporter::new(Outside::here()))
    }

    pub(crate) fn lr_find_within<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
        settings: &LrFind,
        reporter: Reporter,
    ) -> Result<LrFinder> {
        settings.check()?;
        let attribute = match settings.update_attr {
            true => Some(settings.attribute(&as_json::<M>(&fit.hparams))?),
            false => None,
        };
        fit.adjust(&self.trainer)?;
        let snapshot = Snapshot::take(fit)?;
        let listener = Rc::new(RefCell::new(reporter));
        let (device, steps) = (device_name(fit.progress.device), settings.num_training);
        listener
            .borrow_mut()
            .task(Task::LrFind, type_name::<M>(), device, steps);
        let found = self.searched(fit, data, settings, attribute, (snapshot, &listener));
        listener.borrow_mut().lr_found(&found);
        found
    }

    /// The search itself; `within`: what it gives back, and who hears of it.
    fn searched<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
        settings: &LrFind,
        attribute: Option<String>,
        (snapshot, listener): (Snapshot, &Listener),
    ) -> Result<LrFinder> {
        let probe = Rc::new(RefCell::new(Probe {
            settings: settings.clone(),
            compat: self.trainer.compat,
            first: fit.progress.step,
            lrs: Vec::new(),
            losses: Vec::new(),
            mean: 0.0,
            best: 0.0,
            diverged: false,
        }));
        let trainer = self.trial(settings.num_training, 0).callback(probe.clone());
        let steps = (fit.progress.step, settings.num_training);
        let ran = self.run(fit, &trainer, data, listener, Some(steps));
        snapshot.restore(fit)?;
        match ran {
            // A loss that is no number is what a rate that is too high gives.
            Err(error) if error.kind() == Kind::NonFinite && !probe.borrow().losses.is_empty() => {}
            ran => ran.map_err(|error| error.at("lr_find"))?,
        }
        let mut probe = probe.borrow_mut();
        let done = probe.losses.len();
        probe.lrs.truncate(done);
        let found = LrFinder {
            lrs: std::mem::take(&mut probe.lrs),
            losses: std::mem::take(&mut probe.losses),
            num_training: settings.num_training,
            mode: settings.mode,
            attr_name: attribute,
            lightning: self.trainer.compat == Compat::Lightning,
        };
        let Some(suggestion) = found.suggestion() else {
            return Err(Error::new(
                Kind::Option,
                format!("lr_find: {done} learning rates were tried, too few to suggest one; nothing has changed"),
            )
            .hint("begin lower (min-lr), end later (early-stop-threshold), or make more steps (num-training)"));
        };
        if let Some(attribute) = &found.attr_name {
            self.apply(fit, attribute, suggestion)?;
        }
        Ok(found)
    }

    /// Sets the rate, and makes the optimizer with it; what it remembers stays.
    fn apply<M: LightningModule>(&self, fit: &mut Fit<M>, attribute: &str, lr: f64) -> Result<()> {
        let before = fit.hparams.clone();
        let made = set_field(fit, attribute, serde_json::json!(lr)).and_then(|()| {
            let asked = guarded(|| Ok(fit.model.configure_optimizers(&fit.hparams)));
            let mut optimizer = making::optimizer(asked, &fit.store)?;
            optimizer.load_state(&fit.optimizer.state())?;
            optimizer.load_schedule_state(fit.optimizer.schedule_state().clone());
            Ok(optimizer)
        });
        match made {
            Ok(optimizer) => {
                fit.optimizer = optimizer;
                Ok(())
            }
            Err(error) => {
                fit.hparams = before;
                Err(error.at("lr_find"))
            }
        }
    }
}
