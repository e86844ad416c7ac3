//! What the loop asks of a user's module and its data. It knows them through this trait only, so it is compiled once.

use crate::data::Order;
use crate::error::Result;
use crate::module::Step;
use lightcell_events::run::Stage;
use serde_json::Value;
use tch::Tensor;

/// A module with its data.
pub(crate) trait Work {
    /// Number of batches in one pass.
    fn batches(&self, stage: Stage) -> u64;
    /// Begins a pass, after so many of its batches, which are not loaded. The pass over the training data that is under way
    /// stays where it is when another stage begins.
    fn begin(&mut self, stage: Stage, order: Order, skip: u64) -> Result<()>;
    /// Loads the next batch of a stage and says how many samples it has.
    fn load(&mut self, stage: Stage) -> Option<Result<i64>>;
    /// Runs the step of this stage on the batch, with the hooks around it (in training, with the one before it). Gives the
    /// loss in training (nothing when the rest of the epoch is to be left out), and what was predicted in predictions.
    fn step(&mut self, cx: &mut Step) -> Result<Option<Tensor>>;
    /// Computes the loss of the batch once more, for an optimizer that asks for it; no hook is called.
    fn again(&mut self, cx: &mut Step) -> Result<Option<Tensor>>;
    /// Shapes of the batch, for messages: `shapes [64, 4], [64]`.
    fn shapes(&self) -> String;
    /// Whether all numbers of the batch are numbers; for messages.
    fn is_finite(&self) -> bool;
    /// Calls a hook.
    fn hook(&mut self, hook: Hook, cx: &mut Step) -> Result<()>;
    /// What a checkpoint is to keep of the module.
    fn save(&self) -> Result<Value>;
    /// Gives the module back what a checkpoint kept.
    fn load_saved(&mut self, state: &Value) -> Result<()>;
}

/// The module's hooks that the loop calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook<'a> {
    FitStart,
    FitEnd,
    /// Of all epochs of a run.
    Start(Stage),
    End(Stage),
    EpochStart(Stage),
    EpochEnd(Stage),
    TrainBatchEnd,
    BeforeZeroGrad,
    BeforeBackward(&'a Tensor),
    AfterBackward,
    BeforeOptimizerStep,
}

impl Hook<'_> {
    /// Its name in the trait.
    pub fn name(self) -> String {
        match self {
            Hook::FitStart => "on_fit_start".to_owned(),
            Hook::FitEnd => "on_fit_end".to_owned(),
            Hook::Start(stage) => format!("on_{}_start", word(stage)),
            Hook::End(stage) => format!("on_{}_end", word(stage)),
            Hook::EpochStart(stage) => format!("on_{}_epoch_start", word(stage)),
            Hook::EpochEnd(stage) => format!("on_{}_epoch_end", word(stage)),
            Hook::TrainBatchEnd => "on_train_batch_end".to_owned(),
            Hook::BeforeZeroGrad => "on_before_zero_grad".to_owned(),
            Hook::BeforeBackward(_) => "on_before_backward".to_owned(),
            Hook::AfterBackward => "on_after_backward".to_owned(),
            Hook::BeforeOptimizerStep => "on_before_optimizer_step".to_owned(),
        }
    }
}

/// A stage as it is called in the names of hooks.
pub(crate) fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Train => "train",
        Stage::Validate => "validation",
        Stage::Test => "test",
        Stage::Predict => "predict",
    }
}
