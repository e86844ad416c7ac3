//! All callbacks of a trainer: who comes first, and what a checkpoint keeps of them.

use super::{Callback, Run};
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use tch::Tensor;

/// What a checkpoint keeps of callbacks.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub states: Value,
    /// Named `state key/name`.
    pub tensors: Vec<(String, Tensor)>,
    /// What stands for the model's weights.
    pub weights: Option<Vec<(String, Tensor)>>,
}

/// A trainer's callbacks. Trainers that are clones share them.
#[derive(Clone, Default)]
pub(crate) struct Callbacks(Vec<Rc<RefCell<dyn Callback>>>, bool);

impl PartialEq for Callbacks {
    fn eq(&self, other: &Callbacks) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| Rc::ptr_eq(a, b))
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} callbacks", self.0.len())
    }
}

impl Callbacks {
    pub fn push(&mut self, callback: impl Callback + 'static) {
        self.0.push(Rc::new(RefCell::new(callback)));
    }

    /// A callback that writes metrics down: those of steps are read for it, which waits for the device.
    pub fn push_logger(&mut self, logger: impl Callback + 'static) {
        self.push(logger);
        self.1 = true;
    }

    /// Whether one of them is a logger.
    pub fn logging(&self) -> bool {
        self.1
    }

    /// The folder of the first logger that has one.
    pub fn log_dir(&self) -> Option<PathBuf> {
        self.0.iter().find_map(|callback| callback.try_borrow().ok()?.log_dir())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that monitor come last, as in Lightning, so that a checkpoint knows what the others have seen; among them,
    /// those that write checkpoints.
    pub fn sorted(mut self) -> Callbacks {
        let rank = |callback: &Rc<RefCell<dyn Callback>>| {
            let callback = callback.borrow();
            (
                callback.monitors(),
                callback.state_key().starts_with(super::model_checkpoint::KEY),
            )
        };
        self.0.sort_by_key(rank);
        self
    }

    /// Calls a hook of each, or of those that monitor, or of the others; stops at the first error.
    pub fn each(
        &self,
        monitors: Option<bool>,
        run: &mut Run,
        mut hook: impl FnMut(&mut dyn Callback, &mut Run) -> Result<()>,
    ) -> Result<()> {
        for callback in &self.0 {
            let mut callback = callback.try_borrow_mut().map_err(|_| {
                Error::new(
                    Kind::Model,
                    "a callback is in use: it cannot train with the trainer that it belongs to",
                )
            })?;
            if monitors.is_none_or(|monitors| monitors == callback.monitors()) {
                crate::steps::guarded(|| hook(&mut *callback, run))?;
            }
        }
        Ok(())
    }

    /// All that a checkpoint keeps.
    pub fn kept(&self) -> Kept {
        let mut kept = Kept {
            states: self.states(),
            ..Kept::default()
        };
        for callback in self.0.iter().filter_map(|callback| callback.try_borrow().ok()) {
            let key = callback.state_key();
            let tensors = callback.tensors().into_iter();
            kept.tensors
                .extend(tensors.map(|(name, tensor)| (format!("{key}/{name}"), tensor)));
            kept.weights = kept.weights.or(callback.weights());
        }
        kept
    }

    /// Gives each its tensors back, and the averaged weights to the one that averages. Whether there was one.
    ///
    /// # Errors
    /// When one cannot take them.
    pub fn load_tensors(&self, tensors: &[(String, Tensor)], averaged: bool, run: &mut Run) -> Result<()> {
        let mut groups: std::collections::BTreeMap<&str, Vec<(String, Tensor)>> = Default::default();
        for (name, tensor) in tensors {
            if let Some((key, name)) = name.rsplit_once('/') {
                let group = groups.entry(key).or_default();
                group.push((name.to_owned(), tensor.shallow_clone()));
            }
        }
        for callback in &self.0 {
            let Ok(mut callback) = callback.try_borrow_mut() else {
                continue;
            };
            let key = callback.state_key();
            let averages = averaged && callback.averages();
            let group = if averages {
                groups.remove("")
            } else {
                groups.remove(key.as_str())
            };
            if let Some(group) = group {
                callback.load_tensors(group, run).map_err(|error| error.at(&key))?;
            }
        }
        Ok(())
    }

    /// Whether one of them averages the weights.
    pub fn averages(&self) -> bool {
        self.0
            .iter()
            .any(|callback| callback.try_borrow().is_ok_and(|callback| callback.averages()))
    }

    /// What one of them says of the windows of an epoch.
    pub fn accumulate_grad_batches(&self, epoch: u64) -> Option<u64> {
        let callbacks = self.0.iter().filter_map(|callback| callback.try_borrow().ok());
        callbacks
            .into_iter()
            .find_map(|callback| callback.accumulate_grad_batches(epoch))
    }

    /// Whether one of them looks at each loss.
    pub fn reads_loss(&self) -> bool {
        self.0
            .iter()
            .any(|callback| callback.try_borrow().is_ok_and(|callback| callback.reads_loss()))
    }

    /// The states of those that have one.
    pub fn states(&self) -> Value {
        let states = self.0.iter().filter_map(|callback| callback.try_borrow().ok());
        let states = states.map(|callback| (callback.state_key(), callback.state_dict()));
        Value::Object(states.filter(|(key, _)| !key.is_empty()).collect())
    }

    /// Gives them their states back; those that were not there stay as they are.
    ///
    /// # Errors
    /// When one cannot take its state.
    pub fn load_states(&self, monitors: bool, states: &Value) -> Result<()> {
        for callback in &self.0 {
            let Ok(mut callback) = callback.try_borrow_mut() else {
                continue;
            };
            let key = callback.state_key();
            let wanted = callback.monitors() == monitors && !key.is_empty();
            if let Some(state) = states.get(&key).filter(|_| wanted) {
                callback.load_state_dict(state).map_err(|error| error.at(&key))?;
            }
        }
        Ok(())
    }
}
