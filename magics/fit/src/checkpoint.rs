//! A run in a file: parameters, what the optimizer remembers, how far loops, schedule and data have come, callbacks. A run
//! that is read back goes on as if it had never stopped, bit by bit.
//!
//! One safetensors file. Tensors: `model.*` under PyTorch's names, `optim.<parameter>.<slot>`, `history.step_losses`,
//! `callback.<state key>/<name>`, `grad.*` when it was written amid a window of accumulation, `current.*` when a callback
//! averages the weights (those that are trained; `model.*` is their average then), `rng.cpu` and `rng.cuda`, the states of
//! libtorch's random generators. Texts in JSON in its metadata: `lightcell` (versions), `model`, `hyper_parameters`, `loops`,
//! `sampler`, `lr_schedulers`, `scaler`, `callbacks`, `module`, `history`. Of the random state, `sampler` is all that our own order
//! needs: that of the samples is a function of seed and epoch, and the generator is seeded from seed, epoch and batch before
//! each batch. Lightning's order goes on from the generator's state.

pub(crate) mod file;

use crate::callbacks::Kept;
use crate::error::{Error, Kind, Result};
use crate::history::{EpochRecord, History};
use crate::interchange::{lightning, torch_file};
use crate::looping::{Partial, Progress, State};
use crate::optim::Optimizer;
use crate::path::Store;
use crate::state_dict::{self, StateDict};
use file::Metadata;
use lightcell_events::run::Metrics;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Tensor};

/// Version of the file's layout.
const FORMAT: u64 = 1;

/// What is written of a run.
pub(crate) struct Parts<'a> {
    pub store: &'a Store,
    pub optimizer: &'a Optimizer,
    pub progress: &'a Progress,
    pub history: &'a History,
    pub losses: &'a [f64],
    pub model: &'a str,
    pub hparams: &'a Value,
    /// What the module keeps beside its parameters.
    pub module: &'a Value,
}

/// Writes the run.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save(path: &Path, parts: &Parts, kept: &Kept) -> Result<()> {
    let progress = parts.progress;
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    let named = |part: &str, list: Vec<(String, Tensor)>| -> Vec<(String, Tensor)> {
        list.into_iter()
            .map(|(name, tensor)| (format!("{part}.{name}"), tensor))
            .collect()
    };
    match &kept.weights {
        None => tensors.extend(named("model", parts.store.state_dict())),
        Some(averaged) => {
            let copies = averaged
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
            tensors.extend(named("model", copies.collect()));
            tensors.extend(named("current", parts.store.state_dict()));
        }
    }
    let beside = kept
        .tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    tensors.extend(named("callback", beside.collect()));
    tensors.extend(named("optim", parts.optimizer.state()));
    tensors.push(("history.step_losses".to_owned(), Tensor::from_slice(parts.losses)));
    if progress.partial.as_ref().is_some_and(Partial::amid_window) {
        let grads = parts
            .store
            .parameters()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.grad()));
        tensors.extend(named("grad", grads.filter(|(_, grad)| grad.defined()).collect()));
    }
    tensors.extend(named("rng", generators(progress)?));
    let records: Vec<Value> = parts.history.iter().map(record).collect();
    let partial = progress.partial.as_ref();
    let offset = partial.map_or(0, |partial| partial.batch);
    let texts = [
        (
            "lightcell",
            json!({ "format": FORMAT, "version": env!("CARGO_PKG_VERSION") }),
        ),
        ("model", json!(parts.model)),
        ("hyper_parameters", parts.hparams.clone()),
        (
            "loops",
            json!({ "epoch": progress.epoch, "global_step": progress.step, "partial": partial.map(Partial::to_json) }),
        ),
        (
            "sampler",
            json!({ "seed": progress.seed, "epoch": progress.epoch, "offset": offset }),
        ),
        ("lr_schedulers", json!([parts.optimizer.schedule_state()])),
        ("scaler", json!(progress.scaler)),
        ("callbacks", kept.states.clone()),
        ("module", parts.module.clone()),
        ("history", json!(records)),
    ];
    let texts: Metadata = texts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .collect();
    file::write(path, &tensors, &texts)
}

/// What a file holds for the callbacks.
pub(crate) struct ForCallbacks {
    pub states: Value,
    /// Named `state key/name`; averaged weights have an empty key.
    pub tensors: Vec<(String, Tensor)>,
    pub averaged: bool,
}

/// Makes the run what it was when the file was written; gives what is the callbacks'. Averaged weights are when `averages`
/// says that a callback wants them; without one, they are the model's. Nothing is changed when something does not fit.
///
/// # Errors
/// When the file cannot be read, or is that of another model: all tensors that do not fit are named.
pub(crate) fn restore(path: &Path, state: &mut State, averages: bool) -> Result<ForCallbacks> {
    if torch_file::is_one(path)? {
        lightning::restore(path, state)?;
        return Ok(ForCallbacks {
            states: Value::Object(Map::new()),
            tensors: Vec::new(),
            averaged: false,
        });
    }
    let texts = Texts::read(path)?;
    let tensors = file::read_tensors(path)?;
    let progress = texts.progress(state.progress)?;
    let (history, schedule) = (texts.history()?, texts.get("lr_schedulers")?[0].clone());
    let schedule = serde_json::from_value(schedule).map_err(|_| texts.fault("lr_schedulers"))?;
    let mut parts: HashMap<&str, Vec<(String, Tensor)>> = HashMap::new();
    for (name, tensor) in &tensors {
        let (part, rest) = name.split_once('.').unwrap_or(("", name));
        parts
            .entry(part)
            .or_default()
            .push((rest.to_owned(), tensor.shallow_clone()));
    }
    let mut take = |part: &str| parts.remove(part).unwrap_or_default();
    let (mut model, optim, grads, generators) = (take("model"), take("optim"), take("grad"), take("rng"));
    let (current, mut beside) = (take("current"), take("callback"));
    let averaged = averages && !current.is_empty();
    if averaged {
        let average = std::mem::replace(&mut model, current);
        beside.extend(average.into_iter().map(|(name, tensor)| (format!("/{name}"), tensor)));
    }
    let losses = match take("history").into_iter().find(|(name, _)| name == "step_losses") {
        Some((_, losses)) => Vec::<f64>::try_from(&losses)?,
        None => Vec::new(),
    };
    let place = |error: Error| error.at(&format!("{} does not fit", path.display()));
    fits(state.store, &model).map_err(place)?;
    state.optimizer.load_state(&optim).map_err(place)?;
    copy(state.store, &model)?;
    load_grads(state, &grads)?;
    state.optimizer.load_schedule_state(schedule);
    (*state.progress, *state.history, *state.losses) = (progress, history, losses);
    load_generators(state.progress.device, &generators)?;
    Ok(ForCallbacks {
        states: texts.get("callbacks")?,
        tensors: beside,
        averaged,
    })
}

/// The states of the generators that the run draws from.
pub(crate) fn generators(progress: &Progress) -> Result<Vec<(String, Tensor)>> {
    let mut states = vec![("cpu".to_owned(), lightcell_torch::rng_state(Device::Cpu)?)];
    if matches!(progress.device, Device::Cuda(_)) {
        states.push(("cuda".to_owned(), lightcell_torch::rng_state(progress.device)?));
    }
    Ok(states)
}

/// Sets them, as far as they are those of the devices that are there.
pub(crate) fn load_generators(device: Device, states: &[(String, Tensor)]) -> Result<()> {
    for (name, state) in states {
        match name.as_str() {
            "cpu" => lightcell_torch::set_rng_state(Device::Cpu, state)?,
            "cuda" if matches!(device, Device::Cuda(_)) => lightcell_torch::set_rng_state(device, state)?,
            _ => {}
        }
    }
    Ok(())
}

/// The callbacks' states in a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn callbacks(path: &Path) -> Result<Value> {
    if torch_file::is_one(path)? {
        return Ok(Value::Object(Map::new()));
    }
    Texts::read(path)?.get("callbacks")
}

/// What the module keeps in a file beside its parameters; nothing in one without it.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn module(path: &Path) -> Result<Value> {
    if torch_file::is_one(path)? {
        return Ok(Value::Object(Map::new()));
    }
    let texts = file::read_metadata(path)?;
    match texts.contains_key("module") {
        true => Texts { path, texts }.get("module"),
        false => Ok(Value::Object(Map::new())),
    }
}

/// Loads the parameters and buffers of a checkpoint, or of a file with nothing else; not those whose names fit a pattern.
///
/// # Errors
/// When the file cannot be read, or is that of another model: all tensors that do not fit are named.
pub(crate) fn load_weights(path: &Path, store: &Store, except: Option<&str>) -> Result<()> {
    let weights = StateDict::load(path)?;
    state_dict::load(store, "", &weights.0, except).map_err(|error| state_dict::not_fitting(path, error))
}

/// Names all tensors that are missing, not expected, or of another shape.
fn fits(store: &Store, given: &[(String, Tensor)]) -> Result<()> {
    let theirs = given.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    state_dict::compare(&store.state_dict().into_iter().collect(), &theirs)
}

pub(crate) fn copy(store: &Store, given: &[(String, Tensor)]) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let mut ours: HashMap<String, Tensor> = store.state_dict().into_iter().collect();
    for (name, tensor) in given {
        if let Some(place) = ours.get_mut(name) {
            place.f_copy_(tensor)?;
        }
    }
    Ok(())
}

/// Puts gradients back. tch cannot set one, but the gradient of a sum of products is the other factor, exactly.
fn load_grads(state: &mut State, grads: &[(String, Tensor)]) -> Result<()> {
    state.optimizer.zero_grad();
    let parameters: HashMap<String, Tensor> = state.store.parameters().into_iter().collect();
    for (name, grad) in grads {
        if let Some(parameter) = parameters.get(name) {
            let grad = grad.f_to_device(parameter.device())?;
            parameter.f_mul(&grad)?.f_sum(parameter.kind())?.f_backward()?;
        }
    }
    Ok(())
}

/// The hyperparameters of a model in a file; nothing when it has none.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn hyper_parameters(path: &Path) -> Result<Value> {
    if torch_file::is_one(path)? {
        return lightning::hyper_parameters(path);
    }
    let texts = file::read_metadata(path)?;
    match texts.contains_key("hyper_parameters") {
        true => Texts { path, texts }.get("hyper_parameters"),
        false => Ok(Value::Null),
    }
}

/// The texts of a checkpoint.
struct Texts<'a> {
    path: &'a Path,
    texts: Metadata,
}

impl<'a> Texts<'a> {
    fn read(path: &'a Path) -> Result<Texts<'a>> {
        let texts = file::read_metadata(path)?;
        if !texts.contains_key("loops") {
            let error = Error::new(Kind::Data, format!("{} holds no run, only tensors", path.display()));
            return Err(error.hint("`fit.load_weights(path)` loads the tensors"));
        }
        let texts = Texts { path, texts };
        let format = texts.get("lightcell")?["format"].as_u64();
        if format.is_none_or(|format| format > FORMAT) {
            let error = format!("{} was written by a newer lightcell", path.display());
            return Err(Error::new(Kind::Data, error).hint("update Lightcell, or take another checkpoint"));
        }
        Ok(texts)
    }

    fn fault(&self, name: &str) -> Error {
        Error::new(Kind::Data, format!("cannot read `{name}` in {}", self.path.display()))
            .hint("the file is damaged: take another checkpoint")
    }

    fn get(&self, name: &str) -> Result<Value> {
        let text = self.texts.get(name).ok_or_else(|| self.fault(name))?;
        serde_json::from_str(text).map_err(|_| self.fault(name))
    }

    /// How far it came; device and status stay those of now.
    fn progress(&self, now: &Progress) -> Result<Progress> {
        let (loops, sampler) = (self.get("loops")?, self.get("sampler")?);
        let number = |value: &Value| value.as_u64().ok_or_else(|| self.fault("loops"));
        let partial = match &loops["partial"] {
            Value::Null => None,
            partial => Some(Partial::from_json(partial).ok_or_else(|| self.fault("loops"))?),
        };
        // Files of before there were scalers have none.
        let scaler = match self.texts.contains_key("scaler") {
            true => serde_json::from_value(self.get("scaler")?).map_err(|_| self.fault("scaler"))?,
            false => None,
        };
        Ok(Progress {
            scaler,
            seed: number(&sampler["seed"])?,
            epoch: number(&loops["epoch"])?,
            step: number(&loops["global_step"])?,
            partial,
            callbacks: self.get("callbacks")?,
            ..now.clone()
        })
    }

    fn history(&self) -> Result<History> {
        let records = self.get("history")?;
        let records = records.as_array().ok_or_else(|| self.fault("history"))?.iter();
        let records: Option<Vec<EpochRecord>> = records.map(from_record).collect();
        Ok(History(records.ok_or_else(|| self.fault("history"))?))
    }
}

fn record(record: &EpochRecord) -> Value {
    json!({
        "epoch": record.epoch,
        "step": record.step,
        "seconds": record.seconds,
        "metrics": metrics(&record.metrics),
    })
}

fn from_record(value: &Value) -> Option<EpochRecord> {
    Some(EpochRecord {
        epoch: value["epoch"].as_u64()?,
        step: value["step"].as_u64()?,
        seconds: value["seconds"].as_f64()?,
        metrics: from_metrics(&value["metrics"])?,
    })
}

/// A number as JSON, which has no word for those that are none.
pub(crate) fn number(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else {
        json!(value.to_string())
    }
}

pub(crate) fn from_number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

pub(crate) fn metrics(metrics: &Metrics) -> Value {
    metrics
        .iter()
        .map(|(name, value)| (name.clone(), number(*value)))
        .collect::<Map<_, _>>()
        .into()
}

pub(crate) fn from_metrics(value: &Value) -> Option<Metrics> {
    let read = |(name, value): (&String, &Value)| Some((name.clone(), from_number(value)?));
    value.as_object()?.iter().map(read).collect()
}
