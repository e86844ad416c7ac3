//! What making and adjusting a model needs that does not depend on its type: compiled once, here, and not in each cell.

use crate::error::{Error, Kind, Result};
use crate::looping::Progress;
use crate::optim::{Optim, Optimizer};
use crate::path::Store;
use crate::precision::Precision;
use crate::trainer::{Trainer, device_name};
use lightcell_events::run::{Stage, Status};
use tch::Tensor;

/// A device, a seed and a place for parameters: what a model is made on.
///
/// # Errors
/// When the trainer's settings mean nothing, or its device is not there.
pub(crate) fn begin(trainer: &Trainer) -> Result<(Store, Progress)> {
    trainer.check()?;
    let device = trainer.device()?;
    let seed = trainer.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    tch::manual_seed(seed as i64);
    let progress = Progress {
        device,
        seed,
        epoch: 0,
        step: 0,
        status: Status::Completed,
        partial: None,
        callbacks: serde_json::Value::Null,
        kept: Default::default(),
        precision: precision(trainer, Precision::default(), device),
        scaler: None,
    };
    Ok((Store::new(device), progress))
}

fn precision(trainer: &Trainer, now: Precision, device: tch::Device) -> Precision {
    let precision = trainer.precision.unwrap_or(now);
    precision.on(device, trainer.grad_scaler.is_some())
}

/// Checks the parameters that a model registered, and makes them of the type that the run computes with.
///
/// # Errors
/// When two have one name, or there are none.
pub(crate) fn check(store: &Store, progress: &Progress, model: &str) -> Result<()> {
    store.check()?;
    if store.vars.trainable_variables().is_empty() {
        return Err(Error::new(Kind::Model, format!("{model} has no parameters to train"))
            .hint("make its layers on the path that `new` gets: `linear(p / \"l1\", …)`"));
    }
    if store.trained() == 0 {
        return Err(Error::new(Kind::Model, format!("all parameters of {model} are frozen"))
            .hint("leave a part to train: `p.freeze(\"backbone.*\")`"));
    }
    progress.precision.convert(store)
}

/// The optimizer that the model asked for.
///
/// # Errors
/// When `configure_optimizers` failed, or its numbers mean nothing.
pub(crate) fn optimizer(optim: Result<Optim>, store: &Store) -> Result<Optimizer> {
    let built = optim.and_then(|optim| optim.build(store.parameters()));
    built.map_err(|error| error.at("configure_optimizers"))
}

/// Makes a trainer's seed, device and precision hold for a model that is there already; gives the trainer with which it must be
/// made anew, if it must.
///
/// # Errors
/// When the trainer's settings mean nothing, or a model that is trained would have to move.
pub(crate) fn adjust(progress: &mut Progress, store: &Store, trainer: &Trainer) -> Result<Option<Trainer>> {
    trainer.check()?;
    // `auto` stays where the model is.
    let device = if trainer.accelerator == "auto" {
        progress.device
    } else {
        trainer.device()?
    };
    let seed = trainer.seed.unwrap_or(progress.seed);
    if progress.step == 0 && (device != progress.device || seed != progress.seed) {
        let precision = trainer.precision.unwrap_or(progress.precision);
        let trainer = trainer.clone().seed(seed).accelerator(&device_name(device));
        let trainer = trainer.precision(precision);
        return Ok(Some(trainer));
    }
    if device != progress.device {
        let (here, there) = (device_name(progress.device), device_name(device));
        let error = Error::new(
            Kind::Device,
            format!("this run is on {here} and cannot go on on {there}"),
        );
        return Err(error.hint("`--restart` begins anew there"));
    }
    let (now, then) = (progress.precision, precision(trainer, progress.precision, device));
    if progress.step > 0 && now.weights() != then.weights() {
        let error = Error::new(
            Kind::Option,
            format!("this run's parameters are those of precision {now} and cannot go on with {then}"),
        );
        return Err(error.hint("`--restart` begins anew with it"));
    }
    then.convert(store)?;
    progress.precision = then;
    progress.seed = seed;
    Ok(None)
}

/// Gives a model's parameters and buffers to another of its kind, and freezes what is frozen of it.
///
/// # Errors
/// libtorch's own.
pub(crate) fn give(from: &Store, to: &Store) -> Result<()> {
    crate::checkpoint::copy(to, &from.state_dict())?;
    let frozen = from
        .parameters()
        .into_iter()
        .filter(|(_, tensor)| !tensor.requires_grad());
    let frozen: Vec<String> = frozen.map(|(name, _)| name).collect();
    for (name, tensor) in to.parameters() {
        let _ = tensor.set_requires_grad(!frozen.contains(&name));
    }
    Ok(())
}

/// A type's own name, without its path.
pub(crate) fn own_name(full: &'static str) -> &'static str {
    let plain = full.split('<').next().unwrap_or(full);
    plain.rsplit("::").next().unwrap_or(plain)
}

/// Text of the hyperparameters as JSON; nothing when they are none.
pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// The loader of a stage that is no training.
///
/// # Errors
/// When the data cannot be loaded, or are not there.
pub(crate) fn loader<L>(loader: Result<Option<L>>, stage: Stage) -> Result<L> {
    let loader = loader.map_err(|error| error.at("the data cannot be loaded"))?;
    let (data, hint) = match stage {
        Stage::Test => ("test data", "`data.test(…)` adds them"),
        Stage::Predict => (
            "data to predict from",
            "`data.test(…)` adds them, or a DataModule's `predict_dataloader`",
        ),
        _ => ("validation data", "`data.val(…)` adds them"),
    };
    loader.ok_or_else(|| Error::new(Kind::Data, format!("there are no {data}")).hint(hint))
}

/// A copy of all parameters and buffers.
///
/// # Errors
/// When the device has no memory for it.
pub(crate) fn kept(store: &Store) -> Result<Vec<(String, Tensor)>> {
    let copy = |(name, tensor): (String, Tensor)| Ok((name, tensor.f_detach()?.copy()));
    store.state_dict().into_iter().map(copy).collect()
}
