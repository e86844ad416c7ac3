//! What the line of Rust calls that `%fit` becomes.

use crate::data::DataModule;
use crate::error::{Error, Result};
use crate::fit::Fit;
use crate::module::LightningModule;
use crate::progress;
use crate::steps::guarded;
use crate::trainer::Trainer;
use lightcell_events::run::Status;

/// Trains a model of this type, with its default hyperparameters, on the data. `options` is JSON with [`Trainer`]'s
/// settings; `previous`, a run of the same type, goes on (unless `restart` is set).
///
/// Once a model exists it is returned, whatever happened to the run: the kernel has heard of the failure by an event. A
/// run that could not begin leaves `previous` as it was.
///
/// # Errors
/// When there is nothing to return.
pub fn fit<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    data: &D,
    options: &str,
    previous: Option<Fit<M>>,
) -> Result<Fit<M>> {
    train(|| Ok(M::HParams::default()), data, options, previous)
}

/// Trains a model that a variable holds, made by [`LightningModule::build`] or left by an earlier run. With `restart`, it
/// is made anew with its own hyperparameters.
///
/// # Errors
/// None now; the form is [`fit`]'s.
pub fn go_on<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    run: Fit<M>,
    data: &D,
    options: &str,
) -> Result<Fit<M>> {
    let hparams = run.hparams.clone();
    train(|| Ok(hparams), data, options, Some(run))
}

fn train<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    hparams: impl FnOnce() -> Result<M::HParams>,
    data: &D,
    options: &str,
    previous: Option<Fit<M>>,
) -> Result<Fit<M>> {
    let trainer = match Trainer::from_json(options) {
        Ok(trainer) => trainer,
        Err(error) => return refused(error, previous),
    };
    // Errors of a run that has begun go out with its last event.
    match previous {
        Some(mut run) if !trainer.restart => match run.adjust(&trainer) {
            Ok(()) => {
                let _ = run.run(&trainer, data);
                Ok(run)
            }
            Err(error) => refused(error, Some(run)),
        },
        previous => match guarded(hparams).and_then(|hparams| Fit::build(hparams, &trainer)) {
            Ok(mut fresh) => {
                let _ = fresh.run(&trainer, data);
                // A run that failed before its first step is worth less than the one before it.
                let nothing = fresh.progress.step == 0 && fresh.progress.status == Status::Failed;
                Ok(previous.filter(|_| nothing).unwrap_or(fresh))
            }
            Err(error) => refused(error, previous),
        },
    }
}

/// Reports a run that cannot begin.
fn refused<M: LightningModule>(error: Error, previous: Option<Fit<M>>) -> Result<Fit<M>> {
    progress::failed_before(&error);
    previous.ok_or(error)
}
