//! Averages the weights of all steps, the newest counting most.

use super::averaging::Average;
use super::{Callback, Run};
use crate::error::{Error, Kind, Result};
use serde_json::{Value, json};
use tch::Tensor;

/// Keeps an exponential moving average of the weights, which often does better than the weights themselves
/// (`lightning.pytorch.callbacks.EMAWeightAveraging`): after a step, `average = decay·average + (1 - decay)·weights`, of
/// parameters and buffers.
///
/// Validation looks at the average, a checkpoint has it as the model's weights (those that are trained lie beside), and when
/// the run has ended it is the model. Before the first update there is no average, and all is as without it.
///
/// ```
/// use lightcell::prelude::*;
/// let trainer = Trainer::new().callback(EMAWeightAveraging::new().decay(0.99).update_every_n_steps(10));
/// ```
#[derive(Debug)]
pub struct EMAWeightAveraging {
    decay: f64,
    update_every_n_steps: u64,
    update_starting_at_step: u64,
    update_starting_at_epoch: Option<u64>,
    average: Average,
    latest_update_step: u64,
    latest_update_epoch: Option<u64>,
    /// Whether model and average have changed places, for a validation.
    swapped: bool,
    /// Whether a run has ended with it: the next one begins anew.
    ended: bool,
}

impl Default for EMAWeightAveraging {
    fn default() -> EMAWeightAveraging {
        EMAWeightAveraging {
            decay: 0.999,
            update_every_n_steps: 1,
            update_starting_at_step: 0,
            update_starting_at_epoch: None,
            average: Average::default(),
            latest_update_step: 0,
            latest_update_epoch: None,
            swapped: false,
            ended: false,
        }
    }
}

impl EMAWeightAveraging {
    /// With a decay of 0.999, after each step.
    pub fn new() -> EMAWeightAveraging {
        EMAWeightAveraging::default()
    }

    /// How much of the old average stays, from 0 to 1; 0.999.
    #[must_use]
    pub fn decay(mut self, decay: f64) -> EMAWeightAveraging {
        self.decay = decay;
        self
    }

    /// Optimizer steps from one update to the next, the first among them; 1. 0 updates after no step.
    #[must_use]
    pub fn update_every_n_steps(mut self, steps: u64) -> EMAWeightAveraging {
        self.update_every_n_steps = steps;
        self
    }

    /// The 0-based step of the first update; 0.
    #[must_use]
    pub fn update_starting_at_step(mut self, step: u64) -> EMAWeightAveraging {
        self.update_starting_at_step = step;
        self
    }

    /// The 0-based epoch from which on there is an update at each epoch's end too; none.
    #[must_use]
    pub fn update_starting_at_epoch(mut self, epoch: u64) -> EMAWeightAveraging {
        self.update_starting_at_epoch = Some(epoch);
        self
    }

    fn update(&mut self, run: &Run) -> Result<()> {
        let decay = self.decay;
        self.average.update(run.state_dict(), None, |old, new| {
            let (old, new) = (old.f_mul_scalar(decay)?, new.f_mul_scalar(1.0 - decay)?);
            Ok(old.f_add(&new)?)
        })
    }

    /// Gives the model its own weights back, if it has the average.
    fn unswap(&mut self, run: &Run) -> Result<()> {
        if std::mem::take(&mut self.swapped) {
            self.average.swap(run.state_dict())?;
        }
        Ok(())
    }
}

impl Callback for EMAWeightAveraging {
    fn setup(&mut self, _: &mut Run) -> Result<()> {
        if !(0.0..=1.0).contains(&self.decay) {
            return Err(Error::new(
                Kind::Option,
                format!("EMAWeightAveraging: the decay cannot be {}", self.decay),
            )
            .hint("it is between 0 and 1, usually 0.999"));
        }
        if std::mem::take(&mut self.ended) {
            self.average = Average::default();
            (self.latest_update_step, self.latest_update_epoch) = (0, None);
        }
        Ok(())
    }

    fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
        let (steps, every) = (run.global_step(), self.update_every_n_steps);
        if steps > self.latest_update_step
            && steps > self.update_starting_at_step
            && every > 0
            && (steps - 1).is_multiple_of(every)
        {
            self.update(run)?;
            self.latest_update_step = steps;
        }
        Ok(())
    }

    fn on_validation_epoch_start(&mut self, run: &mut Run) -> Result<()> {
        if self.average.count > 0 && !self.swapped {
            self.average.swap(run.state_dict())?;
            self.swapped = true;
        }
        Ok(())
    }

    fn on_validation_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        self.unswap(run)
    }

    fn on_train_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        // A validation that the user has stopped has no end.
        self.unswap(run)?;
        let epoch = run.epoch();
        let late = self.latest_update_epoch.is_none_or(|latest| epoch > latest);
        if late && self.update_starting_at_epoch.is_some_and(|first| epoch >= first) {
            self.update(run)?;
            self.latest_update_epoch = Some(epoch);
        }
        Ok(())
    }

    fn on_fit_end(&mut self, run: &mut Run) -> Result<()> {
        self.unswap(run)?;
        // A run that the user has stopped goes on with its own weights.
        if run.completed && self.average.count > 0 {
            self.average.copy_to(run.state_dict())?;
            self.ended = true;
        }
        Ok(())
    }

    fn on_exception(&mut self, run: &mut Run, _: &Error) -> Result<()> {
        self.unswap(run)
    }

    fn state_key(&self) -> String {
        "EMAWeightAveraging".to_owned()
    }

    fn state_dict(&self) -> Value {
        if self.ended {
            return Value::Null;
        }
        json!({
            "latest_update_step": self.latest_update_step,
            "latest_update_epoch": self.latest_update_epoch,
            "n_averaged": self.average.count,
        })
    }

    fn load_state_dict(&mut self, state: &Value) -> Result<()> {
        self.latest_update_step = state["latest_update_step"].as_u64().unwrap_or(0);
        self.latest_update_epoch = state["latest_update_epoch"].as_u64();
        // Its tensors come after it, if there are any.
        self.average = Average {
            tensors: Vec::new(),
            count: state["n_averaged"].as_u64().unwrap_or(0),
        };
        Ok(())
    }

    fn load_tensors(&mut self, tensors: Vec<(String, Tensor)>, run: &mut Run) -> Result<()> {
        self.average.load(&tensors, &run.state_dict(), None);
        Ok(())
    }

    fn weights(&self) -> Option<Vec<(String, Tensor)>> {
        // After a run that ended, the model is the average.
        (!self.average.tensors.is_empty() && !self.ended && !self.swapped).then(|| self.average.shared())
    }

    fn averages(&self) -> bool {
        true
    }
}
