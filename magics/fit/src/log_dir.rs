//! Where loggers write: one folder for each run, numbered as PyTorch Lightning numbers them.

use crate::error::Error;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The folder of a logger's run. Loggers of one trainer that say the same share it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub save_dir: PathBuf,
    pub name: String,
    pub version: Option<String>,
    /// Of the run at hand; empty before it begins.
    pub dir: PathBuf,
}

impl Place {
    pub fn new(save_dir: PathBuf) -> Place {
        Place {
            save_dir,
            name: "lightning_logs".to_owned(),
            version: None,
            dir: PathBuf::new(),
        }
    }

    /// A run begins: it gets a folder, or goes on in that of the run before.
    pub fn begin(&mut self) {
        if self.dir.as_os_str().is_empty() {
            self.dir = self.next();
        }
    }

    /// The folder of the run, once it has begun.
    pub fn begun(&self) -> Option<PathBuf> {
        Some(self.dir.clone()).filter(|dir| !dir.as_os_str().is_empty())
    }

    /// What a checkpoint keeps.
    pub fn state(&self) -> Value {
        json!({ "log_dir": self.dir })
    }

    /// Goes on in the folder that a checkpoint names. One that is gone is not made again.
    pub fn load(&mut self, state: &Value) {
        if let Some(dir) = state["log_dir"].as_str().map(PathBuf::from).filter(|dir| dir.is_dir()) {
            self.dir = dir;
        }
    }

    /// The folder of the next run.
    fn next(&self) -> PathBuf {
        // An empty name is no folder.
        let parent = self.save_dir.join(&self.name);
        if let Some(version) = &self.version {
            return parent.join(version);
        }
        let entries = std::fs::read_dir(&parent).ok().into_iter().flatten().flatten();
        let number = |name: String| name.strip_prefix("version_")?.parse::<u64>().ok();
        let last = entries
            .filter_map(|entry| number(entry.file_name().to_string_lossy().into_owned()))
            .max();
        parent.join(format!("version_{}", last.map_or(0, |last| last + 1)))
    }

    /// Under which name a checkpoint keeps the state of a logger here.
    pub fn key(&self, logger: &str) -> String {
        let (dir, name) = (self.save_dir.display(), &self.name);
        format!("{logger}{{'save_dir': '{dir}', 'name': '{name}'}}")
    }
}

/// A file of a logger that cannot be written.
pub(crate) fn fault(path: &Path, error: impl Into<Error>) -> Error {
    let error: Error = error.into();
    error
        .at(&format!("cannot write {}", path.display()))
        .hint("is the disk full, or the folder read-only? Without a logger the run needs neither")
}
