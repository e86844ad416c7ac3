//! The loop's callbacks: when they are called, and what they ask for.

use super::{Loop, Pass};
use crate::callbacks::{Action, Callback, Run};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::trainer::Trainer;
use lightcell_events::run::{Level, Metrics, RunEvent};
use serde_json::Value;
use std::path::{Path, PathBuf};

impl Loop<'_> {
    /// Calls a hook of the callbacks (of those that monitor, of the others, or of all) and does what they ask for.
    pub(super) fn watch(
        &mut self,
        monitors: Option<bool>,
        batch: u64,
        hook: impl FnMut(&mut dyn Callback, &mut Run) -> Result<()>,
    ) -> Result<()> {
        let actions = self.ask(monitors, self.state.progress.epoch, batch, hook)?;
        self.act(actions)
    }

    /// Calls a hook of all callbacks that comes before its batch or epoch.
    pub(super) fn watch_before(
        &mut self,
        batch: u64,
        hook: impl FnMut(&mut dyn Callback, &mut Run) -> Result<()>,
    ) -> Result<()> {
        self.before = true;
        let watched = self.watch(None, batch, hook);
        self.before = false;
        watched
    }

    /// Calls a hook of the callbacks; gives what they ask for.
    pub(super) fn ask(
        &mut self,
        monitors: Option<bool>,
        epoch: u64,
        batch: u64,
        hook: impl FnMut(&mut dyn Callback, &mut Run) -> Result<()>,
    ) -> Result<Vec<Action>> {
        if self.callbacks.is_empty() {
            return Ok(Vec::new());
        }
        let callbacks = self.callbacks.clone();
        let mut run = self.seen(epoch, batch);
        callbacks.each(monitors, &mut run, hook)?;
        let Run {
            stop,
            actions,
            logged,
            log_step,
            notes,
            ..
        } = run;
        for text in notes {
            self.note(Level::Info, text);
        }
        if let Some(reason) = stop {
            self.stop.get_or_insert(reason);
        }
        if !logged.is_empty() {
            self.metrics.extend(logged.clone());
            if callbacks.logging() {
                // Loggers count the steps that are done.
                let mut run = self.seen(epoch, batch);
                run.step = log_step + 1;
                callbacks.each(None, &mut run, |callback, run| callback.log_metrics(&logged, run))?;
            }
        }
        Ok(actions)
    }

    /// What callbacks get to see.
    fn seen(&mut self, epoch: u64, batch: u64) -> Run<'_> {
        let step = self.state.progress.step;
        Run {
            epoch,
            batch,
            step,
            lr: self.state.optimizer.lr(),
            metrics: &self.metrics,
            root: &self.root,
            hparams: &self.about.hparams,
            within: self.within(),
            stop: None,
            actions: Vec::new(),
            store: self.state.store,
            optimizer: self.state.optimizer,
            losses: self.state.losses,
            max_epochs: self.last_epoch,
            log_step: if self.before { step } else { step.saturating_sub(1) },
            log_every_n_steps: self.trainer.log_every_n_steps,
            logging: self.callbacks.logging(),
            logged: Metrics::new(),
            notes: Vec::new(),
            completed: self.completed,
        }
    }

    /// Writes and removes checkpoints, in this order: the old one goes when the new one is there.
    pub(super) fn act(&mut self, actions: Vec<Action>) -> Result<()> {
        for action in actions {
            match action {
                Action::Save(path) => {
                    let folder = checkpoint::file::folder(&path);
                    std::fs::create_dir_all(folder)
                        .map_err(|error| Error::from(error).at(&format!("cannot make {}", folder.display())))?;
                    let (kept, module) = (self.callbacks.kept(), self.work.save()?);
                    let parts = checkpoint::Parts {
                        store: self.state.store,
                        optimizer: self.state.optimizer,
                        progress: self.state.progress,
                        history: self.state.history,
                        losses: self.state.losses,
                        model: self.about.model,
                        hparams: &self.about.hparams,
                        module: &module,
                    };
                    checkpoint::save(&path, &parts, &kept)?;
                    let event = RunEvent::Checkpoint {
                        run: self.reporter.run().to_owned(),
                        path: path.to_string_lossy().into_owned(),
                    };
                    self.reporter.send(&event);
                }
                Action::UpdateBatchNorm => self.update_batch_norm()?,
                Action::Remove(path) => {
                    // One that somebody else has removed is not missed.
                    if let Err(error) = std::fs::remove_file(&path)
                        && error.kind() != std::io::ErrorKind::NotFound
                    {
                        self.note(Level::Warning, format!("cannot remove {}: {error}", path.display()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes a checkpoint where `ckpt_path` "last" looks, as the process ends soon. One name, which is Lightning's for
    /// this: the next run's takes the place of this one's.
    pub(super) fn write_before_the_end(&mut self) {
        let states = self.callbacks.states();
        let folder = folder_of(&states).unwrap_or_else(|| self.root.join("checkpoints"));
        let path = folder.join("hpc_ckpt.safetensors");
        let text = match self.act(vec![Action::Save(path.clone())]) {
            Ok(()) => format!(
                "the kernel ends soon, so the run stopped after its batch and wrote {}; in a new kernel, the same command with \
                 `--ckpt-path last` goes on from there",
                path.display()
            ),
            Err(error) => format!("the kernel ends soon, and the run could not be written: {error}"),
        };
        self.note(Level::Warning, text);
    }

    pub(super) fn note(&mut self, level: Level, text: String) {
        let run = self.reporter.run().to_owned();
        self.reporter.send(&RunEvent::Note { run, level, text });
    }

    /// After a batch. Gives back what is to be done after the validation that is due.
    pub(super) fn watch_batch(&mut self, batch: u64, pace: &mut super::training::Pace) -> Result<Vec<Action>> {
        let actions = self.ask(None, self.state.progress.epoch, batch, |callback, run| {
            callback.on_train_batch_end(run)
        })?;
        // A validation that is stopped leaves an average in the weights' place: then nothing waits for it, and a run that goes on
        // from the checkpoint validates first.
        if pace.validates() && !self.callbacks.averages() {
            return Ok(actions);
        }
        self.act_within(pace, actions).map(|()| Vec::new())
    }

    /// Does what is asked for amid an epoch. What the pass knows goes into a checkpoint only when one is asked for: reading it
    /// waits for the device.
    pub(super) fn act_within(&mut self, pace: &mut super::training::Pace, actions: Vec<Action>) -> Result<()> {
        if actions.is_empty() {
            return Ok(());
        }
        self.state.progress.partial = Some(self.partial(pace)?);
        let done = self.act(actions);
        self.state.progress.partial = None;
        done
    }

    /// After an epoch, which is counted already, so that a checkpoint goes on after it. Without a validation, those that
    /// monitor have nothing to look at.
    pub(super) fn watch_epoch(&mut self, epoch: u64, validated: bool) -> Result<()> {
        let mut actions = Vec::new();
        if validated {
            actions.extend(self.ask(Some(true), epoch, 0, |callback, run| callback.on_validation_end(run))?);
        }
        if validated || self.val_batches == 0 {
            actions.extend(self.ask(Some(true), epoch, 0, |callback, run| callback.on_train_epoch_end(run))?);
        }
        self.act(actions)
    }

    /// Prepares the callbacks: loggers first, since checkpoints go to their folder.
    pub(super) fn set_up(&mut self) -> Result<()> {
        self.watch(Some(false), 0, |callback, run| callback.setup(run))?;
        self.set_up_monitors()
    }

    fn set_up_monitors(&mut self) -> Result<()> {
        self.root = self.callbacks.log_dir().unwrap_or_else(|| root(self.trainer));
        self.watch(Some(true), 0, |callback, run| callback.setup(run))
    }

    /// Gives metrics to the loggers.
    pub(super) fn log(&mut self, metrics: &Metrics) -> Result<()> {
        if metrics.is_empty() || !self.callbacks.logging() {
            return Ok(());
        }
        self.watch(None, 0, |callback, run| callback.log_metrics(metrics, run))
    }

    /// Takes a checkpoint's state, if the trainer names one. Whether it did.
    pub(super) fn resume(&mut self) -> Result<bool> {
        let Some(path) = self.checkpoint()? else {
            return Ok(false);
        };
        let averages = self.callbacks.averages();
        let theirs = checkpoint::restore(&path, &mut self.state, averages)?;
        self.work.load_saved(&checkpoint::module(&path)?)?;
        let states = theirs.states;
        self.callbacks.load_states(false, &states)?;
        let callbacks = self.callbacks.clone();
        let epoch = self.state.progress.epoch;
        callbacks.load_tensors(&theirs.tensors, theirs.averaged, &mut self.seen(epoch, 0))?;
        // A logger that goes on in its folder brings the checkpoints' folder back.
        self.set_up_monitors()?;
        self.callbacks.load_states(true, &states)?;
        Ok(true)
    }

    /// The file that the trainer's `ckpt_path` means.
    fn checkpoint(&mut self) -> Result<Option<PathBuf>> {
        let Some(name) = self.trainer.ckpt_path.clone() else {
            return Ok(None);
        };
        if name != "last" && name != "best" {
            return Ok(Some(PathBuf::from(name)));
        }
        let states = self.callbacks.states();
        let folder = folder_of(&states).unwrap_or_else(|| self.root.join("checkpoints"));
        let newest = newest(&folder, &name);
        if newest.is_none() {
            // As in Lightning: the same command begins a run and, after a fall, goes on with it.
            self.note(
                Level::Warning,
                format!(
                    "there is no checkpoint `{name}` in {}: the run begins anew",
                    folder.display()
                ),
            );
        }
        Ok(newest)
    }

    /// Whether the epoch goes on after this batch, as far as callbacks are concerned.
    pub(super) fn told_to_stop(&self) -> bool {
        let progress = &*self.state.progress;
        let least = progress.epoch >= self.trainer.min_epochs && progress.step >= self.trainer.min_steps;
        self.stop.is_some() && least
    }

    /// Ends the run when its time is over.
    pub(super) fn watch_time(&mut self) {
        if let Some(limit) = self.trainer.max_time
            && self.begun.elapsed() >= limit.0
        {
            self.stop
                .get_or_insert_with(|| format!("max_time: {:?} are over", limit.0));
        }
    }

    /// Whether the epoch is one with validation.
    pub(super) fn validates(&self, epoch: u64) -> bool {
        let every = self.trainer.check_val_every_n_epoch;
        self.val_batches > 0 && every.is_none_or(|every| (epoch + 1).is_multiple_of(every))
    }

    /// Whether a validation is due after this batch of such an epoch.
    pub(super) fn validates_at(&self, epoch: u64, batch: u64) -> bool {
        let before = match self.trainer.check_val_every_n_epoch {
            Some(_) => 0,
            None => epoch.saturating_mul(self.train_batches),
        };
        (before + batch + 1).is_multiple_of(self.val_every)
    }

    /// Whether the epoch's end is followed by a validation.
    pub(super) fn validates_after(&self, epoch: u64) -> bool {
        self.validates(epoch) && self.validates_at(epoch, self.train_batches - 1)
    }

    /// Whether validations come elsewhere than at the ends of epochs.
    pub(super) fn within(&self) -> bool {
        self.val_batches > 0 && self.val_every != self.train_batches
    }

    /// The reason that a callback gave.
    pub(super) fn say_why(&mut self) {
        if let Some(reason) = self.stop.clone() {
            self.note(Level::Info, reason);
        }
    }
}

/// The newest checkpoint in a folder, or the one that it calls the best.
pub(crate) fn newest(folder: &Path, which: &str) -> Option<PathBuf> {
    let mut files = listed(folder);
    // A logger has a new folder for each run: the checkpoint is in that of an earlier one.
    let version = folder.parent()?;
    if files.is_empty()
        && version
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("version_"))
    {
        let name = folder.file_name()?;
        files = listed(version.parent()?)
            .iter()
            .flat_map(|version| listed(&version.join(name)))
            .collect();
    }
    let files = files.into_iter();
    let whole = files.filter(|path| {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.extension().is_some_and(|extension| extension == "safetensors")
    });
    let mut dated: Vec<_> = whole
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    dated.sort();
    let (_, newest) = dated.pop()?;
    if which == "last" {
        return Some(newest);
    }
    best_of(&checkpoint::callbacks(&newest).ok()?)
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).ok().into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// The folder of the checkpoints that callbacks' states know of.
pub(super) fn folder_of(states: &Value) -> Option<PathBuf> {
    let mut states = states.as_object()?.values();
    let folder = states.find_map(|state| state.get("best_k_models").and(state["dirpath"].as_str()));
    folder.map(PathBuf::from)
}

/// The best checkpoint that callbacks' states know of, if it is still there.
pub(crate) fn best_of(states: &Value) -> Option<PathBuf> {
    let mut paths = states
        .as_object()?
        .values()
        .filter_map(|state| state.get("best_model_path")?.as_str());
    paths.find(|path| Path::new(path).exists()).map(PathBuf::from)
}

/// The folder that a run's files go to.
pub(super) fn root(trainer: &Trainer) -> PathBuf {
    trainer.default_root_dir.clone().unwrap_or_else(|| PathBuf::from("."))
}

impl Pass {
    /// Whether the epoch came to its end.
    pub(super) fn whole(&self) -> bool {
        *self == Pass::Whole
    }
}
