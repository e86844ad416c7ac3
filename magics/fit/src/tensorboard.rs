//! Event files that TensorBoard reads: a writer under PyTorch's name, and the logger of a run.
//!
//! The crates that write such files bring a protobuf compiler's output or panic on a full disk, so the few messages that
//! are needed are written here.

pub(crate) mod proto;
mod summary;

use crate::callbacks::{Callback, Run};
use crate::error::{Error, Result};
use crate::log_dir::{self, Place};
use lightcell_events::run::Metrics;
use proto::Message;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tch::Tensor;

/// How its name in a checkpoint begins.
const KEY: &str = "TensorBoardLogger";

/// Writes an event file (`torch.utils.tensorboard.SummaryWriter`), which `tensorboard --logdir DIR` shows. Each call is on
/// the disk when it returns.
///
/// ```
/// use lightcell::prelude::*;
/// # let dir = std::env::temp_dir().join(format!("lightcell-doc-writer-{}", std::process::id()));
/// let mut writer = SummaryWriter::new(&dir)?;
/// let weights = Tensor::randn([64, 10], (Kind::Float, Device::Cpu));
/// writer.add_scalar("loss", 0.5, 0)?;
/// writer.add_histogram("weights", &weights, 0)?;
/// writer.add_image("weights", &weights.sigmoid(), 0)?;
/// writer.add_text("note", "the **first** run", 0)?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct SummaryWriter {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    /// Whether there was an event file in the folder before.
    goes_on: bool,
}

impl SummaryWriter {
    /// Begins a new event file in this folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder or the file cannot be made.
    pub fn new(log_dir: impl Into<PathBuf>) -> Result<SummaryWriter> {
        let dir: PathBuf = log_dir.into();
        std::fs::create_dir_all(&dir).map_err(|error| log_dir::fault(&dir, error))?;
        // TensorBoard reads a folder's files in the order of their names: a new one must come last, even when the one before
        // was begun in the same second.
        let second = |name: String| {
            name.strip_prefix("events.out.tfevents.")?
                .split('.')
                .next()?
                .parse::<u64>()
                .ok()
        };
        let entries = std::fs::read_dir(&dir).ok().into_iter().flatten().flatten();
        let last = entries
            .filter_map(|entry| second(entry.file_name().to_string_lossy().into_owned()))
            .max();
        let seconds = (now() as u64).max(last.map_or(0, |last| last + 1));
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() {
            "localhost"
        } else {
            host.trim()
        };
        let path = dir.join(format!(
            "events.out.tfevents.{seconds:010}.{host}.{}.0",
            std::process::id()
        ));
        let file = File::create_new(&path).map_err(|error| log_dir::fault(&path, error))?;
        let mut writer = SummaryWriter {
            dir,
            path,
            file,
            goes_on: last.is_some(),
        };
        let version = Message::default().double(1, now()).text(3, "brain.Event:2");
        writer.write(&[version])?;
        Ok(writer)
    }

    /// The folder.
    pub fn log_dir(&self) -> &Path {
        &self.dir
    }

    /// A number, which TensorBoard keeps with the precision of `f32`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_scalar(&mut self, tag: &str, value: f64, step: i64) -> Result<()> {
        self.summaries(&[summary::scalar(tag, value)], step)
    }

    /// The distribution of a tensor's numbers, whatever its shape.
    ///
    /// # Errors
    /// When it has none or one that is not finite, or the file cannot be written.
    pub fn add_histogram(&mut self, tag: &str, values: &Tensor, step: i64) -> Result<()> {
        self.summaries(&[summary::histogram(tag, values)?], step)
    }

    /// A picture `[height, width]` or `[channels, height, width]`, with 1, 3 or 4 channels: bytes, or numbers from 0 to 1.
    ///
    /// # Errors
    /// When it has another shape, or the file cannot be written.
    pub fn add_image(&mut self, tag: &str, image: &Tensor, step: i64) -> Result<()> {
        self.summaries(&[summary::image(tag, image)?], step)
    }

    /// A text, shown as Markdown.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_text(&mut self, tag: &str, text: &str, step: i64) -> Result<()> {
        self.summaries(&[summary::text(tag, text)], step)
    }

    /// Hyperparameters, a JSON object, and the metrics by which TensorBoard's table compares runs. What lies within the
    /// object gets a name like `optimizer/lr`.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// # let dir = std::env::temp_dir().join(format!("lightcell-doc-hparams-{}", std::process::id()));
    /// let mut writer = SummaryWriter::new(&dir)?;
    /// writer.add_hparams(&serde_json::json!({ "lr": 0.1, "hidden": 64 }), &[("accuracy".to_owned(), 0.9)].into())?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_hparams(&mut self, hparams: &Value, metrics: &Metrics) -> Result<()> {
        let mut all: Vec<Message> = metrics
            .iter()
            .map(|(name, value)| summary::scalar(name, *value))
            .collect();
        all.extend(summary::hparams(hparams, metrics));
        self.summaries(&all, 0)
    }

    /// What was written from this step on, in this file or another of the folder, will come again: TensorBoard forgets it.
    fn purge(&mut self, step: i64) -> Result<()> {
        const START: i64 = 1;
        let log = Message::default().int(1, START);
        let event = Message::default().double(1, now()).int(2, step).message(7, &log);
        self.write(&[event])
    }

    fn summaries(&mut self, summaries: &[Message], step: i64) -> Result<()> {
        let now = now();
        let events: Vec<Message> = summaries.iter().map(|summary| event(now, step, summary)).collect();
        self.write(&events)
    }

    fn write(&mut self, events: &[Message]) -> Result<()> {
        let mut bytes = Vec::new();
        for event in events {
            proto::record(&mut bytes, &event.0);
        }
        // In one call, without a buffer: a process that is killed has written whole records.
        self.file
            .write_all(&bytes)
            .map_err(|error| log_dir::fault(&self.path, error))
    }
}

/// An event: when, at which step, what.
fn event(wall_time: f64, step: i64, summary: &Message) -> Message {
    Message::default().double(1, wall_time).int(2, step).message(5, summary)
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}

/// Writes a run's metrics and hyperparameters as event files for TensorBoard, into
/// `save_dir/lightning_logs/version_N`, where `N` is one more than the last (`lightning.pytorch.loggers.TensorBoardLogger`).
///
/// Steps count optimizer steps from 0, and each row also has the scalar `epoch`. A run that goes on from a checkpoint goes on
/// in the same folder; what it makes again, TensorBoard shows once. With a [`CsvLogger`](crate::CsvLogger) beside it for
/// the same `save_dir`, both write into one folder. `wandb sync DIR` takes the files to Weights & Biases.
///
/// More than numbers is written through [`experiment`](TensorBoardLogger::experiment), here from a callback that holds the
/// logger:
///
/// ```
/// use lightcell::prelude::*;
/// use std::{cell::RefCell, rc::Rc};
/// # hparams! { Hp { size: i64 = 2 } }
/// # struct Net(Linear);
/// # impl LightningModule for Net {
/// #     type HParams = Hp;
/// #     type Batch = (Tensor, Tensor);
/// #     fn new(p: &Path, hp: &Hp) -> Net { Net(linear(p / "l", 3, hp.size)) }
/// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
/// #     fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
/// #         Ok(self.forward(x).mse_loss(y, lightcell::tch::Reduction::Mean))
/// #     }
/// # }
/// # let zeros = |n| Tensor::zeros([8, n], (Kind::Float, Device::Cpu));
/// # let data = Data::new(TensorDataset::new(zeros(3), zeros(2))?);
/// # let dir = std::env::temp_dir().join(format!("lightcell-doc-tensorboard-{}", std::process::id()));
/// struct Weights(Rc<RefCell<TensorBoardLogger>>);
/// impl Callback for Weights {
///     fn on_train_epoch_end(&mut self, run: &mut Run) -> Result<()> {
///         for (name, tensor) in run.parameters() {
///             self.0.borrow_mut().experiment()?.add_histogram(&name, &tensor, run.global_step() as i64)?;
///         }
///         Ok(())
///     }
/// }
/// let logger = Rc::new(RefCell::new(TensorBoardLogger::new(&dir)));
/// let trainer = Trainer::new().max_epochs(1).logger(logger.clone()).callback(Weights(logger.clone()));
/// trainer.fit::<Net, _>(&Hp::default(), &data)?;
/// assert!(logger.borrow().log_dir().ends_with("lightning_logs/version_0"));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct TensorBoardLogger {
    place: Place,
    default_hp_metric: bool,
    writer: Option<SummaryWriter>,
}

impl TensorBoardLogger {
    /// Writes into a new folder below this one; nothing before the run begins.
    pub fn new(save_dir: impl Into<PathBuf>) -> TensorBoardLogger {
        TensorBoardLogger {
            place: Place::new(save_dir.into()),
            default_hp_metric: true,
            writer: None,
        }
    }

    /// The folder between `save_dir` and the version's; `lightning_logs`. An empty one is left out.
    #[must_use]
    pub fn name(mut self, name: &str) -> TensorBoardLogger {
        self.place.name = name.to_owned();
        self
    }

    /// The version's folder, in place of `version_N`.
    #[must_use]
    pub fn version(mut self, version: &str) -> TensorBoardLogger {
        self.place.version = Some(version.to_owned());
        self
    }

    /// Whether `hp_metric`, -1, is written with the hyperparameters, so that TensorBoard's table of them has a row before
    /// there is a metric; it is.
    #[must_use]
    pub fn default_hp_metric(mut self, write: bool) -> TensorBoardLogger {
        self.default_hp_metric = write;
        self
    }

    /// The folder of the run; empty before the run begins.
    pub fn log_dir(&self) -> &Path {
        &self.place.dir
    }

    /// The writer of the run's event file, for histograms, pictures and texts.
    ///
    /// # Errors
    /// Before a run begins, or when the file cannot be made.
    pub fn experiment(&mut self) -> Result<&mut SummaryWriter> {
        if self.place.dir.as_os_str().is_empty() {
            return Err(Error::new(
                crate::ErrorKind::Option,
                "the TensorBoard logger has no file before its run begins",
            )
            .hint("call it from a hook of a callback: `on_train_epoch_end`, for example"));
        }
        match &mut self.writer {
            Some(writer) => Ok(writer),
            none => Ok(none.insert(SummaryWriter::new(&self.place.dir)?)),
        }
    }
}

impl Callback for TensorBoardLogger {
    fn setup(&mut self, _: &mut Run) -> Result<()> {
        self.place.begin();
        self.writer = None;
        Ok(())
    }

    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        let (write_hp, step) = (self.default_hp_metric, run.global_step() as i64);
        let path = self.place.dir.join("hparams.json");
        let writer = self.experiment()?;
        if writer.goes_on {
            return writer.purge(step);
        }
        let text = serde_json::to_string_pretty(run.hparams()).unwrap_or_default() + "\n";
        std::fs::write(&path, text).map_err(|error| log_dir::fault(&path, error))?;
        let some = run.hparams().as_object().is_some_and(|hparams| !hparams.is_empty());
        if some && write_hp {
            // Without a metric TensorBoard has no use for them, as in Lightning.
            return writer.add_hparams(run.hparams(), &[("hp_metric".to_owned(), -1.0)].into());
        }
        Ok(())
    }

    fn log_metrics(&mut self, metrics: &Metrics, run: &mut Run) -> Result<()> {
        let step = run.global_step().saturating_sub(1) as i64;
        let epoch = [("epoch".to_owned(), run.epoch() as f64)];
        let all: Vec<Message> = metrics
            .iter()
            .map(|(name, value)| (name, *value))
            .chain(epoch.iter().map(|(name, value)| (name, *value)))
            .map(|(name, value)| summary::scalar(name, value))
            .collect();
        self.experiment()?.summaries(&all, step)
    }

    fn log_dir(&self) -> Option<PathBuf> {
        self.place.begun()
    }

    fn state_key(&self) -> String {
        self.place.key(KEY)
    }

    fn state_dict(&self) -> Value {
        self.place.state()
    }

    fn load_state_dict(&mut self, state: &Value) -> Result<()> {
        self.place.load(state);
        self.writer = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
