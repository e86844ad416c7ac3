//! What a callback sees of the model and its optimizer, and how it changes them.

use super::{Action, Run};
use crate::optim::Optimizer;
use tch::Tensor;

impl Run<'_> {
    /// The parameters that are trained, with their names, as in PyTorch's `named_parameters()`. They share their memory with
    /// the model.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.store.parameters()
    }

    /// Parameters and buffers, sorted by name. They share their memory with the model.
    pub fn state_dict(&self) -> Vec<(String, Tensor)> {
        self.store.state_dict()
    }

    /// The optimizer: its name, learning rates and state.
    pub fn optimizer(&self) -> &Optimizer {
        self.optimizer
    }

    /// Sets the learning rates of all parameter groups, in the order of [`Optimizer::lrs`], in place of what the schedule
    /// says, until it is called again. It must be called anew when a run begins.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// struct Halve;
    /// impl Callback for Halve {
    ///     fn on_train_epoch_start(&mut self, run: &mut Run) -> Result<()> {
    ///         let lrs: Vec<f64> = run.optimizer().lrs().iter().map(|(_, lr)| lr / 2.0).collect();
    ///         run.set_lrs(&lrs);
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn set_lrs(&mut self, lrs: &[f64]) {
        self.optimizer.fix_lrs(Some(lrs.to_vec()));
    }

    /// The loss of the newest optimizer step, the mean of its batches. On a GPU it may be that of an earlier step, unless
    /// [`Callback::reads_loss`](crate::Callback::reads_loss) says so.
    pub fn loss(&self) -> Option<f64> {
        self.losses.last().copied()
    }

    /// The epoch with which the run ends, should nothing end it before.
    pub fn max_epochs(&self) -> u64 {
        self.max_epochs
    }

    /// Gives a value to the loggers, for the step at hand: in a hook before a batch or epoch, the step that comes; after it,
    /// the one that was. Callbacks that monitor see it as well.
    pub fn log(&mut self, name: &str, value: f64) {
        self.logged.insert(name.to_owned(), value);
    }

    /// Says something to the user, when the hook has returned.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Whether the step at hand is one of those that the loggers write down: each `log_every_n_steps`-th.
    pub fn logs_step(&self) -> bool {
        self.logging && self.log_every_n_steps > 0 && (self.log_step + 1).is_multiple_of(self.log_every_n_steps)
    }

    /// Computes the running statistics of all batch normalisations anew, as their means over one pass of the training data,
    /// when the hook has returned (`torch.optim.swa_utils.update_bn`). For weights that were not trained as they are.
    pub fn update_batch_norm(&mut self) {
        self.actions.push(Action::UpdateBatchNorm);
    }
}
