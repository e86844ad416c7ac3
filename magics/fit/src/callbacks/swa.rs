//! Averages the weights of the last epochs, which a learning rate of their own keeps moving.

use super::averaging::Average;
use super::{Callback, Run};
use crate::checkpoint::{from_number, number};
use crate::error::{Error, Kind, Result};
use serde_json::{Value, json};
use tch::{Device, Tensor};

/// How [`StochasticWeightAveraging`] goes from one learning rate to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnealingStrategy {
    /// Along half a cosine.
    #[default]
    Cos,
    /// Along a line.
    Linear,
}

/// From which epoch on weights are averaged: a share of the run, or a number of epochs from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SwaStart {
    /// This share of the run's epochs.
    Fraction(f64),
    /// This epoch, counted from 1.
    Epoch(u64),
}

impl From<f64> for SwaStart {
    fn from(share: f64) -> SwaStart {
        SwaStart::Fraction(share)
    }
}

impl From<u64> for SwaStart {
    fn from(epoch: u64) -> SwaStart {
        SwaStart::Epoch(epoch)
    }
}

/// Stochastic weight averaging (P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization",
/// 2018; `lightning.pytorch.callbacks.StochasticWeightAveraging`): towards the end of a run the learning rate goes to
/// `swa_lrs` and stays there, whatever the schedule says, and at the beginning of each of these epochs the weights join an
/// average.
///
/// When the run has come to its end, by itself or by a callback, the average is the model, and the running statistics of batch
/// normalisations are computed anew in one pass over the training data. (Lightning does not average a run that ended
/// early.) Validation and checkpoints during the run have the weights that are trained. The average is kept on the CPU.
///
/// ```
/// use lightcell::prelude::*;
/// let swa = StochasticWeightAveraging::new(0.01).swa_epoch_start(0.75).annealing_epochs(5);
/// let trainer = Trainer::new().max_epochs(40).callback(swa);
/// ```
#[derive(Debug)]
pub struct StochasticWeightAveraging {
    swa_lrs: Vec<f64>,
    swa_epoch_start: SwaStart,
    annealing_epochs: u64,
    annealing_strategy: AnnealingStrategy,
    average: Average,
    latest_update_epoch: Option<u64>,
    /// The epoch and the learning rates at which it began.
    begun: Option<(u64, Vec<f64>)>,
    ended: bool,
}

impl StochasticWeightAveraging {
    /// With this learning rate, above 0, for all parameter groups; from 80 % of the run on, 10 epochs of cosine annealing.
    pub fn new(swa_lrs: f64) -> StochasticWeightAveraging {
        StochasticWeightAveraging {
            swa_lrs: vec![swa_lrs],
            swa_epoch_start: SwaStart::Fraction(0.8),
            annealing_epochs: 10,
            annealing_strategy: AnnealingStrategy::Cos,
            average: Average::default(),
            latest_update_epoch: None,
            begun: None,
            ended: false,
        }
    }

    /// A learning rate for each parameter group, in the order of [`Optimizer::lrs`](crate::Optimizer::lrs).
    #[must_use]
    pub fn swa_lrs(mut self, lrs: &[f64]) -> StochasticWeightAveraging {
        self.swa_lrs = lrs.to_vec();
        self
    }

    /// When it begins: a share between 0.0 and 1.0 of the epochs, or an epoch from 1; `0.8`.
    #[must_use]
    pub fn swa_epoch_start(mut self, start: impl Into<SwaStart>) -> StochasticWeightAveraging {
        self.swa_epoch_start = start.into();
        self
    }

    /// Epochs in which the learning rate goes to its new value; 10.
    #[must_use]
    pub fn annealing_epochs(mut self, epochs: u64) -> StochasticWeightAveraging {
        self.annealing_epochs = epochs;
        self
    }

    /// How it goes there; along half a cosine.
    #[must_use]
    pub fn annealing_strategy(mut self, strategy: AnnealingStrategy) -> StochasticWeightAveraging {
        self.annealing_strategy = strategy;
        self
    }

    /// How many weights are averaged so far.
    pub fn n_averaged(&self) -> u64 {
        self.average.count
    }

    fn check(&self) -> Result<()> {
        let fault = |text: String, hint: &str| Err(Error::new(Kind::Option, text).hint(hint));
        if self.swa_lrs.is_empty() || !self.swa_lrs.iter().all(|lr| *lr > 0.0 && lr.is_finite()) {
            return fault(
                format!(
                    "StochasticWeightAveraging: the learning rates cannot be {:?}",
                    self.swa_lrs
                ),
                "they are above 0",
            );
        }
        let good = match self.swa_epoch_start {
            SwaStart::Fraction(share) => (0.0..=1.0).contains(&share),
            SwaStart::Epoch(epoch) => epoch > 0,
        };
        if !good {
            return fault(
                format!("StochasticWeightAveraging cannot begin at {:?}", self.swa_epoch_start),
                "a whole number is an epoch from 1, a number between 0.0 and 1.0 is a share of the epochs",
            );
        }
        Ok(())
    }

    /// The 0-based epoch at which it begins.
    fn start(&self, max_epochs: u64) -> u64 {
        let epoch = match self.swa_epoch_start {
            SwaStart::Fraction(share) => (max_epochs as f64 * share) as u64,
            SwaStart::Epoch(epoch) => epoch,
        };
        epoch.saturating_sub(1)
    }

    /// Sets the learning rates of an epoch, once it has begun.
    fn set_lrs(&self, epoch: u64, run: &mut Run) {
        let Some((start, from)) = &self.begun else { return };
        let after = epoch.saturating_sub(*start);
        let t = match self.annealing_epochs {
            0 => 1.0,
            epochs => (after as f64 / epochs as f64).min(1.0),
        };
        let alpha = match self.annealing_strategy {
            AnnealingStrategy::Cos => (1.0 - (std::f64::consts::PI * t).cos()) / 2.0,
            AnnealingStrategy::Linear => t,
        };
        let to = |group: usize| {
            self.swa_lrs
                .get(group)
                .or(self.swa_lrs.last())
                .copied()
                .unwrap_or_default()
        };
        let lrs: Vec<f64> = from
            .iter()
            .enumerate()
            .map(|(group, lr)| to(group) * alpha + lr * (1.0 - alpha))
            .collect();
        run.set_lrs(&lrs);
    }
}

impl Callback for StochasticWeightAveraging {
    fn setup(&mut self, run: &mut Run) -> Result<()> {
        self.check()?;
        let groups = run.optimizer().lrs().len();
        if self.swa_lrs.len() != 1 && self.swa_lrs.len() != groups {
            let given = self.swa_lrs.len();
            return Err(Error::new(
                Kind::Option,
                format!(
                    "StochasticWeightAveraging has {given} learning rates, the optimizer {groups} parameter groups"
                ),
            )
            .hint("give one for all, or one for each; the first is that of the parameters in no group"));
        }
        if std::mem::take(&mut self.ended) {
            self.average = Average::default();
            (self.latest_update_epoch, self.begun) = (None, None);
        }
        Ok(())
    }

    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        // A run that goes on amid an epoch begins none.
        self.set_lrs(run.epoch(), run);
        Ok(())
    }

    fn on_train_epoch_start(&mut self, run: &mut Run) -> Result<()> {
        let epoch = run.epoch();
        if epoch < self.start(run.max_epochs()) {
            return Ok(());
        }
        if self.begun.is_none() {
            let lrs = run.optimizer().lrs().into_iter().map(|(_, lr)| lr);
            self.begun = Some((epoch, lrs.collect()));
        }
        self.set_lrs(epoch, run);
        if self.latest_update_epoch.is_none_or(|latest| epoch > latest) {
            let count = (self.average.count + 1) as f64;
            self.average.update(run.parameters(), Some(Device::Cpu), |old, new| {
                let step = new.f_sub(old)?.f_div_scalar(count)?;
                Ok(old.f_add(&step)?)
            })?;
            self.latest_update_epoch = Some(epoch);
        }
        Ok(())
    }

    fn on_fit_end(&mut self, run: &mut Run) -> Result<()> {
        if run.completed && self.average.count > 0 {
            self.average.copy_to(run.parameters())?;
            run.update_batch_norm();
            self.ended = true;
        }
        Ok(())
    }

    fn state_key(&self) -> String {
        "StochasticWeightAveraging".to_owned()
    }

    fn state_dict(&self) -> Value {
        if self.ended {
            return Value::Null;
        }
        let lrs = self.begun.as_ref().map(|(epoch, lrs)| {
            let lrs: Vec<Value> = lrs.iter().map(|lr| number(*lr)).collect();
            json!({ "epoch": epoch, "lrs": lrs })
        });
        json!({
            "n_averaged": self.average.count,
            "latest_update_epoch": self.latest_update_epoch,
            "begun": lrs,
        })
    }

    fn load_state_dict(&mut self, state: &Value) -> Result<()> {
        self.average = Average {
            tensors: Vec::new(),
            count: state["n_averaged"].as_u64().unwrap_or(0),
        };
        self.latest_update_epoch = state["latest_update_epoch"].as_u64();
        let lrs = state["begun"]["lrs"].as_array();
        let lrs = lrs.and_then(|lrs| lrs.iter().map(from_number).collect::<Option<Vec<f64>>>());
        self.begun = state["begun"]["epoch"].as_u64().zip(lrs);
        if self.average.count == 0 {
            (self.latest_update_epoch, self.begun) = (None, None);
        }
        Ok(())
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        if self.ended { Vec::new() } else { self.average.shared() }
    }

    fn load_tensors(&mut self, tensors: Vec<(String, Tensor)>, run: &mut Run) -> Result<()> {
        self.average.load(&tensors, &run.parameters(), Some(Device::Cpu));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let error = |swa: StochasticWeightAveraging| swa.check().unwrap_err().to_string();
        assert_eq!(
            error(StochasticWeightAveraging::new(0.0)),
            "StochasticWeightAveraging: the learning rates cannot be [0.0]\nhint: they are above 0"
        );
        assert_eq!(
            error(StochasticWeightAveraging::new(0.1).swa_epoch_start(0)),
            "StochasticWeightAveraging cannot begin at Epoch(0)\nhint: a whole number is an epoch from 1, a number between 0.0 and 1.0 is a share of the epochs"
        );
        let swa = StochasticWeightAveraging::new(0.1);
        assert_eq!(
            (swa.start(10), swa.start(1), swa.swa_epoch_start(3).start(10)),
            (7, 0, 2)
        );
    }
}
