//! What a run writes, what it goes on from, and who watches it.

use super::Trainer;
use crate::callbacks::{Callback, Callbacks};
use std::path::{Path, PathBuf};

impl Trainer {
    /// Adds a callback: [`EarlyStopping`](crate::EarlyStopping), [`ModelCheckpoint`](crate::ModelCheckpoint), or one of your
    /// own. A trainer's clone shares its callbacks.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let trainer = Trainer::new()
    ///     .callback(EarlyStopping::new("val_loss").patience(3))
    ///     .callback(ModelCheckpoint::new().monitor("val_loss").dirpath("checkpoints"));
    /// ```
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'static) -> Trainer {
        self.callbacks.push(callback);
        self
    }

    /// Adds a logger: [`CsvLogger`](crate::CsvLogger), [`TensorBoardLogger`](crate::TensorBoardLogger), or a callback of your own with `log_metrics`. Without one, nothing is
    /// logged to files. Checkpoints go into the first logger's folder, unless they have one of their own.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let trainer = Trainer::new().logger(CsvLogger::new("runs"));
    /// ```
    #[must_use]
    pub fn logger(mut self, logger: impl Callback + 'static) -> Trainer {
        self.callbacks.push_logger(logger);
        self
    }

    /// Optimizer steps from one row of the loggers to the next; 50. 0 logs no steps, only epochs.
    #[must_use]
    pub fn log_every_n_steps(mut self, steps: u64) -> Trainer {
        self.log_every_n_steps = steps;
        self
    }

    /// A checkpoint to go on from: its path, `last` (the newest in the folder of this trainer's checkpoints) or `best` (the
    /// one that they call the best). `max_epochs` and `max_steps` then count from the beginning of that run, and its seed
    /// holds. When there is no `last` or `best` yet, the run begins anew and says so.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let trainer = Trainer::new().max_epochs(20).default_root_dir("runs").ckpt_path("last");
    /// ```
    #[must_use]
    pub fn ckpt_path(mut self, path: impl AsRef<Path>) -> Trainer {
        self.ckpt_path = Some(path.as_ref().to_string_lossy().into_owned());
        self
    }

    /// The folder for what callbacks and loggers write, unless they have one of their own; the current one. Without a
    /// callback or logger that writes, nothing is written.
    #[must_use]
    pub fn default_root_dir(mut self, path: impl Into<PathBuf>) -> Trainer {
        self.default_root_dir = Some(path.into());
        self
    }

    /// The callbacks, those that came as settings included. None of ours in a `fast_dev_run`, as in Lightning.
    pub(crate) fn all_callbacks(&self) -> Callbacks {
        let mut all = self.callbacks.clone();
        if self.fast_dev_run.is_none() {
            let dir = self.default_root_dir.clone().unwrap_or_else(|| PathBuf::from("."));
            self.logger.add_to(&mut all, &dir);
            self.named.add_to(&mut all);
            if let Some(stopping) = &self.early_stopping {
                all.push(stopping.clone());
            }
            if let Some(checkpoint) = &self.model_checkpoint {
                all.push(checkpoint.clone());
            }
        }
        all.sorted()
    }
}
