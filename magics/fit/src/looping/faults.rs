//! Losses that are no numbers, and why that may be.

use super::{Loop, best_of};
use crate::error::{Error, Kind, Result};
use tch::Tensor;

impl Loop<'_> {
    /// Takes note of a step's loss. `now`: the step's batch is the one that is loaded, and its step is not made yet.
    ///
    /// # Errors
    /// When it is no number.
    pub(super) fn good(&mut self, step: u64, loss: f64, now: bool) -> Result<()> {
        if loss.is_finite() {
            self.last_loss = Some((step, loss));
            return Ok(());
        }
        let before = match self.last_loss {
            Some((step, loss)) => format!("the last good one was {loss:.4} at step {step}"),
            None => "it was so from the first step".to_owned(),
        };
        let kept = match self.kept() {
            Some(path) => format!("; the checkpoint {path} is kept"),
            None => String::new(),
        };
        let error = Error::new(
            Kind::NonFinite,
            format!("the loss is {loss} at step {step}; {before}{kept}"),
        );
        Err(error.hint(format!("{}{}", self.reasons(now), self.about_range())))
    }

    /// The newest checkpoint of this run, or else the best.
    fn kept(&self) -> Option<String> {
        let states = self.callbacks.states();
        let paths = states.as_object()?.values();
        let last = paths.filter_map(|state| state.get("last_model_path")?.as_str());
        let last = last.map(std::path::PathBuf::from).find(|path| path.exists());
        let path = last.or_else(|| best_of(&states))?;
        Some(path.display().to_string())
    }

    /// What the numbers at hand say of the reason.
    fn reasons(&self, now: bool) -> &'static str {
        if now && !self.work.is_finite() {
            return "the batch holds values that are no numbers: look for them with `x.isfinite().all()`, and replace or leave them out";
        }
        let finite = |(_, tensor): (String, Tensor)| is_finite(&tensor);
        if now && !self.state.store.state_dict().into_iter().all(finite) {
            return "parameters are no numbers any more, so an earlier step was too large: use a lower learning rate, or `gradient-clip-val 1`";
        }
        "a learning rate that is too high is the usual reason; then a division by zero, or a log of zero, in the loss; then data that are no numbers"
    }
}

/// Whether all numbers of a tensor are numbers. One that cannot be looked at is not blamed.
pub(crate) fn is_finite(tensor: &Tensor) -> bool {
    let all = tensor.f_isfinite().and_then(|each| each.f_all());
    all.and_then(|all| all.f_int64_value(&[])).is_ok_and(|all| all == 1) || !tensor.defined()
}
