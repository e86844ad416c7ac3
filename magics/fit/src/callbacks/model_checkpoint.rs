//! Keeps the best checkpoints of a run, and the last.

use super::early_stopping::monitored;
use super::{Callback, MonitorMode, Run};
use crate::checkpoint::{from_number, number};
use crate::error::{Error, Kind, Result};
use lightcell_events::run::Metrics;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// How its name in a checkpoint begins.
pub(super) const KEY: &str = "ModelCheckpoint";

const EXTENSION: &str = "safetensors";

/// Writes checkpoints during a run and keeps the best of them; `Trainer::new().ckpt_path("best")` reads one back.
///
/// Files are named as Lightning names them, `epoch=2-step=48.safetensors`: the 0-based epoch that ended, and the optimizer
/// steps by then. Without a metric to monitor, only the newest is kept.
///
/// ```
/// use lightcell::prelude::*;
/// let keep = ModelCheckpoint::new().monitor("val_loss").save_top_k(3).save_last(true).filename("{epoch:02d}-{val_loss:.3f}");
/// let trainer = Trainer::new().default_root_dir("runs").callback(keep);
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelCheckpoint {
    dirpath: Option<PathBuf>,
    filename: String,
    monitor: Option<String>,
    mode: MonitorMode,
    save_top_k: i64,
    save_last: bool,
    every_n_epochs: u64,
    every_n_train_steps: u64,
    auto_insert_metric_name: bool,
    #[serde(skip)]
    state: State,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    /// Where files go in this run.
    dir: PathBuf,
    /// Path and score, in the order in which they were written.
    best_k: Vec<(PathBuf, f64)>,
    best: Option<PathBuf>,
    last: Option<PathBuf>,
    /// The step that was saved last: one state is not saved twice.
    saved: Option<u64>,
}

impl Default for ModelCheckpoint {
    fn default() -> ModelCheckpoint {
        ModelCheckpoint {
            dirpath: None,
            filename: "{epoch}-{step}".to_owned(),
            monitor: None,
            mode: MonitorMode::Min,
            save_top_k: 1,
            save_last: false,
            every_n_epochs: 1,
            every_n_train_steps: 0,
            auto_insert_metric_name: true,
            state: State::default(),
        }
    }
}

impl ModelCheckpoint {
    /// Keeps the newest checkpoint, of each epoch's end.
    pub fn new() -> ModelCheckpoint {
        ModelCheckpoint::default()
    }

    /// The folder; `checkpoints` in the logger's folder, or in the trainer's `default_root_dir`.
    #[must_use]
    pub fn dirpath(mut self, path: impl Into<PathBuf>) -> ModelCheckpoint {
        self.dirpath = Some(path.into());
        self
    }

    /// The name without its ending. `{epoch}`, `{step}` and metrics in braces, with a format as in Python if wanted
    /// (`{epoch:03d}`, `{val_loss:.2f}`), become `epoch=2` and so on.
    #[must_use]
    pub fn filename(mut self, name: &str) -> ModelCheckpoint {
        self.filename = name.to_owned();
        self
    }

    /// The metric that says which are the best.
    #[must_use]
    pub fn monitor(mut self, name: &str) -> ModelCheckpoint {
        self.monitor = Some(name.to_owned());
        self
    }

    /// Whether less or more is better; less.
    #[must_use]
    pub fn mode(mut self, mode: MonitorMode) -> ModelCheckpoint {
        self.mode = mode;
        self
    }

    /// How many of the best are kept; 1. -1 keeps all, 0 none.
    #[must_use]
    pub fn save_top_k(mut self, k: i64) -> ModelCheckpoint {
        self.save_top_k = k;
        self
    }

    /// Whether `last.safetensors` is written each time, whether it is among the best or not; no. (Lightning's own is
    /// written only beside one of the best.)
    #[must_use]
    pub fn save_last(mut self, save: bool) -> ModelCheckpoint {
        self.save_last = save;
        self
    }

    /// Epochs from one checkpoint to the next; 1. 0 writes none at an epoch's end.
    #[must_use]
    pub fn every_n_epochs(mut self, n: u64) -> ModelCheckpoint {
        self.every_n_epochs = n;
        self
    }

    /// Optimizer steps from one checkpoint to the next, within epochs too; 0, not within them. A value above 0 sets
    /// `every_n_epochs` to 0.
    #[must_use]
    pub fn every_n_train_steps(mut self, n: u64) -> ModelCheckpoint {
        self.every_n_train_steps = n;
        if n > 0 {
            self.every_n_epochs = 0;
        }
        self
    }

    /// Whether `{epoch}` becomes `epoch=2` and not `2`; it does.
    #[must_use]
    pub fn auto_insert_metric_name(mut self, insert: bool) -> ModelCheckpoint {
        self.auto_insert_metric_name = insert;
        self
    }

    /// The checkpoint with the best score, or the newest when nothing is monitored.
    pub fn best_model_path(&self) -> Option<&Path> {
        self.state.best.as_deref()
    }

    /// The best score.
    pub fn best_model_score(&self) -> Option<f64> {
        let best = self.state.best.as_ref()?;
        let score = self.state.best_k.iter().find(|(path, _)| path == best);
        score.map(|(_, score)| *score)
    }

    /// The checkpoints that are kept for their scores, in the order in which they were written.
    pub fn best_k_models(&self) -> &[(PathBuf, f64)] {
        &self.state.best_k
    }

    /// The worst of the scores that are kept, once there are `save_top_k` of them.
    pub fn kth_value(&self) -> Option<f64> {
        let full = self.save_top_k == -1 || self.state.best_k.len() as i64 == self.save_top_k;
        self.worst().filter(|_| full).map(|at| self.state.best_k[at].1)
    }

    /// Where the last checkpoint lies, with `save_last`.
    pub fn last_model_path(&self) -> Option<&Path> {
        self.state.last.as_deref()
    }

    /// The folder that this callback writes into, in a run whose files go to `root`.
    pub(crate) fn folder(&self, root: &Path) -> PathBuf {
        self.dirpath.clone().unwrap_or_else(|| root.join("checkpoints"))
    }

    /// The first of the worst.
    fn worst(&self) -> Option<usize> {
        let scores = &self.state.best_k;
        (0..scores.len()).reduce(|a, b| {
            if self.mode.better(scores[a].1, scores[b].1) {
                b
            } else {
                a
            }
        })
    }

    fn check(&self) -> Result<()> {
        if self.save_top_k < -1 {
            return Err(
                Error::new(Kind::Option, format!("save-top-k cannot be {}", self.save_top_k)).hint("-1 keeps all"),
            );
        }
        if self.monitor.is_none() && self.save_top_k > 1 {
            return Err(Error::new(
                Kind::Option,
                "which checkpoints are the best cannot be told without a metric",
            )
            .hint("name one: `ModelCheckpoint::new().monitor(\"val_loss\")`"));
        }
        Ok(())
    }

    /// A path that is not taken, unless by a file that is to go.
    fn free(&self, name: &str, going: Option<&Path>) -> PathBuf {
        let path = |name: &str| self.state.dir.join(format!("{name}.{EXTENSION}"));
        let taken = |path: &Path| path.exists() && Some(path) != going;
        let first = path(name);
        if !taken(&first) {
            return first;
        }
        let others = (1u64..).map(|version| path(&format!("{name}-v{version}")));
        others.into_iter().find(|path| !taken(path)).unwrap_or(first)
    }

    fn save(&mut self, run: &mut Run) -> Result<()> {
        if self.state.saved == Some(run.global_step()) {
            return Ok(());
        }
        let name = file_name(
            &self.filename,
            self.auto_insert_metric_name,
            run.metrics(),
            run.epoch(),
            run.global_step(),
        );
        match &self.monitor {
            _ if self.save_top_k == 0 => {}
            Some(monitor) => {
                let score = monitored("ModelCheckpoint", monitor, run)?;
                self.save_if_best(&name, score, run);
            }
            None => {
                let path = self.free(&name, self.state.best.as_deref());
                run.save_checkpoint(&path);
                let before = self.state.best.replace(path.clone());
                if let Some(before) = before.filter(|before| self.save_top_k == 1 && *before != path) {
                    run.remove_checkpoint(before);
                }
            }
        }
        if self.save_last {
            let path = self.free("last", self.state.last.as_deref());
            run.save_checkpoint(&path);
            self.state.last = Some(path);
        }
        self.state.saved = Some(run.global_step());
        Ok(())
    }

    fn save_if_best(&mut self, name: &str, score: f64, run: &mut Run) {
        let full = self.save_top_k != -1 && self.state.best_k.len() as i64 >= self.save_top_k;
        let worst = self.worst().filter(|_| full);
        if worst.is_some_and(|at| !self.mode.better(score, self.state.best_k[at].1)) {
            return;
        }
        let going = worst.map(|at| self.state.best_k.remove(at).0);
        // No number: the worst there is.
        let score = if score.is_nan() { self.mode.worst() } else { score };
        let path = self.free(name, going.as_deref());
        self.state.best_k.push((path.clone(), score));
        let scores = &self.state.best_k;
        let best = (0..scores.len()).reduce(|a, b| {
            if self.mode.better(scores[b].1, scores[a].1) {
                b
            } else {
                a
            }
        });
        self.state.best = best.map(|at| scores[at].0.clone());
        run.save_checkpoint(&path);
        if let Some(going) = going.filter(|going| *going != path) {
            run.remove_checkpoint(going);
        }
    }
}

/// The name of a checkpoint: names in braces become `name=value`.
fn file_name(pattern: &str, insert: bool, metrics: &Metrics, epoch: u64, step: u64) -> String {
    let mut name = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        name.push_str(before);
        let Some((inner, after)) = after.split_once('}') else {
            name.push('{');
            rest = after;
            continue;
        };
        rest = after;
        let (key, format) = inner.split_once(':').unwrap_or((inner, ""));
        if insert {
            name.push_str(key);
            name.push('=');
        }
        name.push_str(&match key {
            "epoch" => formatted(epoch as f64, format),
            "step" => formatted(step as f64, format),
            // As in Lightning, 0 when there is no such metric.
            key => formatted(metrics.get(key).copied().unwrap_or(0.0), format),
        });
    }
    name + rest
}

/// A number in one of Python's formats: a width, with a 0 before it to fill with zeros, then `d`, or a point, digits and `f`
/// or `e`.
fn formatted(value: f64, format: &str) -> String {
    let kind = format.chars().last().filter(char::is_ascii_alphabetic);
    let numbers = format.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (width, digits) = numbers.split_once('.').unwrap_or((numbers, ""));
    let digits = digits.parse().unwrap_or(6).min(40);
    let text = match kind {
        _ if !value.is_finite() => value.to_string().to_lowercase(),
        Some('d') => format!("{value:.0}"),
        Some('f') => format!("{value:.digits$}"),
        Some('e') => format!("{value:.digits$e}"),
        _ => value.to_string(),
    };
    let fill = if width.starts_with('0') { '0' } else { ' ' };
    let missing = width
        .parse()
        .unwrap_or(0usize)
        .min(40)
        .saturating_sub(text.chars().count());
    let padding: String = std::iter::repeat_n(fill, missing).collect();
    match text.strip_prefix('-') {
        Some(digits) if fill == '0' => format!("-{padding}{digits}"),
        _ => padding + &text,
    }
}

impl ModelCheckpoint {
    fn save_of_epoch(&mut self, run: &mut Run) -> Result<()> {
        if self.every_n_epochs > 0 && (run.epoch() + 1).is_multiple_of(self.every_n_epochs) {
            self.save(run)?;
        }
        Ok(())
    }
}

impl Callback for ModelCheckpoint {
    fn setup(&mut self, run: &mut Run) -> Result<()> {
        self.check()?;
        // Another run may come by the same number of steps.
        self.state.saved = None;
        self.state.dir = self.folder(run.dir());
        Ok(())
    }

    fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
        let n = self.every_n_train_steps;
        // The batches of an accumulation window that make no step come with the step of the window before.
        if n == 0 || run.global_step() == 0 || !run.global_step().is_multiple_of(n) {
            return Ok(());
        }
        // A metric that only validation gives is not there in the first epoch: nothing can be compared yet.
        if self
            .monitor
            .as_ref()
            .is_some_and(|name| !run.metrics().contains_key(name))
        {
            return Ok(());
        }
        self.save(run)
    }

    fn on_train_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        if run.within { Ok(()) } else { self.save_of_epoch(run) }
    }

    fn on_validation_end(&mut self, run: &mut Run) -> Result<()> {
        if run.within { self.save_of_epoch(run) } else { Ok(()) }
    }

    fn monitors(&self) -> bool {
        true
    }

    fn state_key(&self) -> String {
        let monitor = self
            .monitor
            .as_ref()
            .map_or("None".to_owned(), |name| format!("'{name}'"));
        let (mode, steps, epochs) = (self.mode.name(), self.every_n_train_steps, self.every_n_epochs);
        format!(
            "{KEY}{{'monitor': {monitor}, 'mode': '{mode}', 'every_n_train_steps': {steps}, 'every_n_epochs': {epochs}}}"
        )
    }

    fn state_dict(&self) -> Value {
        let scores: Vec<Value> = self
            .state
            .best_k
            .iter()
            .map(|(path, score)| json!([path, number(*score)]))
            .collect();
        json!({
            "dirpath": self.state.dir,
            "best_k_models": scores,
            "best_model_path": self.state.best,
            "best_model_score": self.best_model_score().map(number),
            "last_model_path": self.state.last,
        })
    }

    fn load_state_dict(&mut self, state: &Value) -> Result<()> {
        let path = |value: &Value| value.as_str().map(PathBuf::from);
        self.state.best = path(&state["best_model_path"]);
        // In another folder this run keeps files of its own.
        if path(&state["dirpath"]).as_ref() == Some(&self.state.dir) {
            let scores = state["best_k_models"].as_array().into_iter().flatten();
            // Files that are gone are not missed.
            let scores = scores.filter_map(|entry| Some((path(&entry[0])?, from_number(&entry[1])?)));
            self.state.best_k = scores.filter(|(path, _)| path.exists()).collect();
            self.state.last = path(&state["last_model_path"]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_formatted_as_in_python() {
        let metrics = Metrics::from([("val_loss".to_owned(), 0.123456), ("worse".to_owned(), -f64::NAN)]);
        let name = |pattern: &str| file_name(pattern, true, &metrics, 2, 48);
        assert_eq!(name("{epoch}-{step}"), "epoch=2-step=48");
        assert_eq!(name("{epoch:03d}_{val_loss:.2f}"), "epoch=002_val_loss=0.12");
        assert_eq!(
            name("{val_loss:08.3f}-{none:d}-{worse:.1f}"),
            "val_loss=0000.123-none=0-worse=nan"
        );
        assert_eq!(
            file_name("e{epoch}-{val_loss:.1e}-{x", false, &metrics, 2, 48),
            "e2-1.2e-1-{x"
        );
        assert_eq!(formatted(-1.5, "06.2f"), "-01.50");
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let error = |keep: ModelCheckpoint| keep.check().unwrap_err().to_string();
        assert_eq!(
            error(ModelCheckpoint::new().save_top_k(-2)),
            "save-top-k cannot be -2\nhint: -1 keeps all"
        );
        assert!(error(ModelCheckpoint::new().save_top_k(2)).starts_with("which checkpoints are the best"));
    }
}
