//! Lightning's checkpoints: written so that its `load_from_checkpoint` and `fit(ckpt_path=…)` read them, and read so that a
//! run goes on here.
//!
//! Source: the checkpoints that PyTorch Lightning 2.6.1 writes.

use super::torch_file::{self, Reader, Writer, cannot_read};
use super::{json, optimizer_state};
use crate::checkpoint::Parts;
use crate::error::{Error, Kind, Result};
use crate::history::History;
use crate::looping::{Progress, State};
use crate::optim::Optimizer;
use crate::state_dict;
use lightcell_pickle::Value;
use std::path::Path;
use tch::Tensor;

/// Whose files these are: Lightning changes those of older versions when it reads them.
const VERSION: &str = "2.6.1";

fn count(list: &[(&str, u64)]) -> Value {
    Value::dict(list.iter().map(|(name, number)| (*name, Value::Int(*number as i64))))
}

/// Numbers of things begun and done, all of them the same: now, and since the run began.
fn progress(stages: &[&str], now: u64, total: u64) -> Vec<(&'static str, Value)> {
    let all = |number: u64| count(&stages.iter().map(|stage| (*stage, number)).collect::<Vec<_>>());
    vec![("total", all(total)), ("current", all(now))]
}

const STEP: [&str; 2] = ["ready", "completed"];
const BEGUN: [&str; 3] = ["ready", "started", "completed"];
const BATCH: [&str; 4] = ["ready", "started", "processed", "completed"];

fn none() -> Value {
    Value::Dict(Vec::new())
}

/// How far Lightning's loops are after so many whole epochs and steps.
fn loops(epochs: u64, steps: u64, batches: u64) -> Value {
    let batch_progress = |now: u64, total: u64, last: bool| {
        let mut progress = progress(&BATCH, now, total);
        progress.push(("is_last_batch", Value::Bool(last)));
        Value::dict(progress)
    };
    let judged = || Value::dict([("state_dict", none()), ("batch_progress", batch_progress(0, 0, false))]);
    let now = steps.checked_div(epochs).unwrap_or(0);
    let optimizer = Value::dict([
        ("step", Value::dict(progress(&STEP, now, steps))),
        ("zero_grad", Value::dict(progress(&BEGUN, now, steps))),
    ]);
    let within = |name: &str| format!("epoch_loop.{name}");
    let fit = [
        ("state_dict".to_owned(), none()),
        (
            within("state_dict"),
            Value::dict([("_batches_that_stepped", Value::Int(steps as i64))]),
        ),
        (
            within("batch_progress"),
            batch_progress(batches, batches * epochs, epochs > 0),
        ),
        (within("scheduler_progress"), Value::dict(progress(&STEP, 0, 0))),
        (within("automatic_optimization.state_dict"), none()),
        (
            within("automatic_optimization.optim_progress"),
            Value::dict([("optimizer", optimizer)]),
        ),
        (within("manual_optimization.state_dict"), none()),
        (
            within("manual_optimization.optim_step_progress"),
            Value::dict(progress(&STEP, 0, 0)),
        ),
        (within("val_loop.state_dict"), none()),
        (within("val_loop.batch_progress"), batch_progress(0, 0, false)),
        (
            "epoch_progress".to_owned(),
            Value::dict(progress(&BATCH, epochs, epochs)),
        ),
    ];
    let predict = Value::dict([
        ("state_dict", none()),
        ("batch_progress", Value::dict(progress(&BATCH, 0, 0))),
    ]);
    Value::dict([
        ("fit_loop", Value::dict(fit)),
        ("validate_loop", judged()),
        ("test_loop", judged()),
        ("predict_loop", predict),
    ])
}

/// Writes a run as a checkpoint of Lightning's.
///
/// # Errors
/// When the run stands amid an epoch, of which Lightning keeps less than it needs, or the file cannot be written.
pub(crate) fn save(path: &Path, parts: &Parts) -> Result<()> {
    let Progress { epoch, step, .. } = *parts.progress;
    if parts.progress.partial.is_some() {
        let error = format!("the run stands amid epoch {epoch}, and Lightning goes on only between epochs");
        return Err(
            Error::new(Kind::Option, error).hint("train to the end of the epoch, or write `save_weights(path)`")
        );
    }
    let mut writer = Writer::default();
    let state_dict = writer.dict(&state_dict::in_order(parts.store))?;
    let optimizer = optimizer_state::to_python(parts.optimizer, &mut writer)?;
    let batches = step.checked_div(epoch).unwrap_or(0);
    let object = Value::dict([
        ("epoch", Value::Int(epoch as i64)),
        ("global_step", Value::Int(step as i64)),
        ("pytorch-lightning_version", Value::text(VERSION)),
        ("state_dict", state_dict),
        ("loops", loops(epoch, step, batches)),
        ("callbacks", none()),
        ("optimizer_states", Value::List(vec![optimizer])),
        ("lr_schedulers", Value::List(Vec::new())),
        ("hparams_name", Value::text("kwargs")),
        ("hyper_parameters", json::to_python(parts.hparams)),
    ]);
    writer.write(path, &object)
}

/// Hyperparameters of a checkpoint of Lightning's; nothing in another file of `torch.save`.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn hyper_parameters(path: &Path) -> Result<serde_json::Value> {
    let (_, object) = Reader::open(path)?;
    Ok(object
        .get("hyper_parameters")
        .map_or(serde_json::Value::Null, json::from_python))
}

/// How many epochs are whole, and how many steps are done.
fn reached(object: &Value) -> Option<(u64, u64)> {
    let steps = object.get("global_step")?.as_u64()?;
    let epoch = object.get("epoch")?.as_u64()?;
    let Some(fit) = object.get("loops").and_then(|loops| loops.get("fit_loop")) else {
        return Some((epoch, steps));
    };
    let number = |of: &str, what: &str| fit.get(of)?.get("total")?.get(what)?.as_u64();
    let (started, processed) = (
        number("epoch_progress", "started")?,
        number("epoch_progress", "processed")?,
    );
    let batches = fit.get("epoch_loop.batch_progress")?;
    // It was written before the epoch's end but after its last batch: in its validation, for example.
    let last = batches.get("is_last_batch") == Some(&Value::Bool(true));
    Some((processed + u64::from(last && started > processed), steps))
}

/// Makes the run what it was in Lightning: parameters, optimizer, epochs and steps. An epoch that was left amid its batches
/// begins anew: Lightning does not keep which samples it has seen. Nothing is changed when something does not fit.
///
/// # Errors
/// When the file cannot be read, is none of Lightning's, or is that of another model or optimizer.
pub(crate) fn restore(path: &Path, state: &mut State) -> Result<()> {
    let (mut reader, object) = Reader::open(path)?;
    let (Some((epoch, step)), Some(weights)) = (reached(&object), object.get("state_dict")) else {
        let error = Error::new(Kind::Data, format!("{} holds no run of Lightning's", path.display()));
        return Err(error.hint("`fit.load_weights(path)` loads the tensors"));
    };
    let weights = torch_file::tensors(&mut reader, weights).map_err(|error| cannot_read(path, error))?;
    let theirs = weights.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let place = |error: Error| state_dict::not_fitting(path, error);
    state_dict::compare(&state.store.state_dict().into_iter().collect(), &theirs).map_err(place)?;
    let order: Vec<String> = weights.iter().map(|(name, _)| name.clone()).collect();
    let named = optimizer(&object, state.optimizer, &order, &mut reader).map_err(place)?;
    state.optimizer.load_state(&named).map_err(place)?;
    state_dict::load(state.store, "", &weights, None)?;
    let mut schedule = state.optimizer.schedule_state().clone();
    (schedule.steps, schedule.epochs) = (step, epoch);
    state.optimizer.load_schedule_state(schedule);
    (state.progress.epoch, state.progress.step, state.progress.partial) = (epoch, step, None);
    (*state.history, *state.losses) = (History::default(), Vec::new());
    Ok(())
}

fn optimizer(object: &Value, ours: &Optimizer, order: &[String], reader: &mut Reader) -> Result<Vec<(String, Tensor)>> {
    let states = object
        .get("optimizer_states")
        .and_then(Value::items)
        .unwrap_or_default();
    match states {
        // Written with `save_weights_only`.
        [] => Ok(Vec::new()),
        [state] => optimizer_state::from_python(state, ours, order, reader),
        several => Err(Error::new(
            Kind::Data,
            format!("it has {} optimizers, and a run here one", several.len()),
        )),
    }
}
