//! What the lines of Rust call that `%fit` and the other magics for models become.
//!
//! Settings come as JSON. An error is also reported as an event, so that the kernel tells the user of it in its own way.

pub use crate::gpu_free::{Held, gpu_free};

use crate::data::DataModule;
use crate::error::{Error, Kind, Result};
use crate::evaluation::Evaluation;
use crate::fit::Fit;
use crate::module::LightningModule;
use crate::progress::{self, Outside, Reporter};
use crate::steps::guarded;
use crate::trainer::Trainer;
use crate::tuner::{LrFind, LrFinder, ScaleBatchSize, Tuner};
use lightcell_events::run::Status;
use serde::de::DeserializeOwned;
use tch::Tensor;

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

/// `%validate`: the means of what `validation_step` logs.
///
/// # Errors
/// As for [`Trainer::validate`], and when the settings are wrong.
pub fn validate<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    run: &mut Fit<M>,
    data: &D,
    options: &str,
) -> Result<Evaluation> {
    told(Trainer::from_json(options).and_then(|trainer| trainer.validate_within(run, data, &mut showing())))
}

/// `%test`: the means of what `test_step` logs.
///
/// # Errors
/// As for [`Trainer::test`], and when the settings are wrong.
pub fn test<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    run: &mut Fit<M>,
    data: &D,
    options: &str,
) -> Result<Evaluation> {
    told(Trainer::from_json(options).and_then(|trainer| trainer.test_within(run, data, &mut showing())))
}

/// `%predict`: what `predict_step` gives, joined along the first dimension.
///
/// # Errors
/// As for [`Trainer::predict`], and when the settings are wrong.
pub fn predict<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    run: &mut Fit<M>,
    data: &D,
    options: &str,
) -> Result<Tensor> {
    told(Trainer::from_json(options).and_then(|trainer| trainer.predict_within(run, data, &mut showing())))
}

/// A model of this type with its default hyperparameters, not yet trained.
///
/// # Errors
/// When it cannot be made, or the settings are wrong.
pub fn build<M: LightningModule>(options: &str) -> Result<Fit<M>> {
    told(Trainer::from_json(options).and_then(|trainer| fresh(&trainer)))
}

/// `%lr_find`: a search with settings of [`LrFind`].
///
/// # Errors
/// As for [`Tuner::lr_find`], and when the settings are wrong.
pub fn lr_find<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    run: &mut Fit<M>,
    data: &D,
    options: &str,
    search: &str,
) -> Result<LrFinder> {
    told(
        tuner(options, search)
            .and_then(|(tuner, search): (_, LrFind)| tuner.lr_find_within(run, data, &search, showing())),
    )
}

/// `%scale_batch_size`: a search with settings of [`ScaleBatchSize`]; `data` makes the data with a batch size.
///
/// # Errors
/// As for [`Tuner::scale_batch_size`], and when the settings are wrong.
pub fn scale_batch_size<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    run: &mut Fit<M>,
    data: impl Fn(usize) -> D,
    options: &str,
    search: &str,
) -> Result<usize> {
    told(
        tuner(options, search).and_then(|(tuner, search): (_, ScaleBatchSize)| {
            tuner.scale_batch_size_within(run, data, &search, showing())
        }),
    )
}

fn fresh<M: LightningModule>(trainer: &Trainer) -> Result<Fit<M>> {
    guarded(|| Ok(M::HParams::default())).and_then(|hparams| Fit::build(hparams, trainer))
}

fn tuner<T: DeserializeOwned>(options: &str, search: &str) -> Result<(Tuner, T)> {
    let trainer = Trainer::from_json(options)?;
    let search = serde_json::from_str(search)
        .map_err(|error| Error::new(Kind::Option, format!("the search's settings cannot be read: {error}")))?;
    Ok((Tuner::new(&trainer), search))
}

fn showing() -> Reporter {
    Reporter::showing(Outside::here())
}

/// Reports an error, and gives it on.
fn told<T>(result: Result<T>) -> Result<T> {
    result.inspect_err(progress::failed_before)
}
