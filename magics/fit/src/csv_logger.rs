//! The table of a run's metrics in a file, as PyTorch Lightning's `CSVLogger` lays it out.

use crate::callbacks::{Callback, Run};
use crate::error::{Error, Result};
use crate::log_dir::{self, Place};
use lightcell_events::run::Metrics;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How its name in a checkpoint begins.
const KEY: &str = "CsvLogger";

/// Writes `metrics.csv` and `hparams.json` into `save_dir/lightning_logs/version_N`, where `N` is one more than the last.
///
/// A row has the epoch and the optimizer step, both 0-based, and what was logged: every
/// [`log_every_n_steps`](crate::Trainer::log_every_n_steps) steps what the training step logged, and at an epoch's end what
/// validation and hooks logged. Columns are sorted by name. A run that goes on from a checkpoint of the same folder goes on
/// in the same table, without the rows of steps that are made again.
///
/// ```
/// use lightcell::prelude::*;
/// let trainer = Trainer::new().logger(CsvLogger::new("runs").name("first")).log_every_n_steps(10);
/// ```
#[derive(Debug, Clone)]
pub struct CsvLogger {
    place: Place,
    /// One map for each row; missing values are empty.
    columns: Vec<String>,
    begun: bool,
}

impl CsvLogger {
    /// Writes into a new folder below this one; nothing before the run begins.
    pub fn new(save_dir: impl Into<PathBuf>) -> CsvLogger {
        CsvLogger {
            place: Place::new(save_dir.into()),
            columns: Vec::new(),
            begun: false,
        }
    }

    /// The folder between `save_dir` and the version's; `lightning_logs`. An empty one is left out.
    #[must_use]
    pub fn name(mut self, name: &str) -> CsvLogger {
        self.place.name = name.to_owned();
        self
    }

    /// The version's folder, in place of `version_N`.
    #[must_use]
    pub fn version(mut self, version: &str) -> CsvLogger {
        self.place.version = Some(version.to_owned());
        self
    }

    /// The folder of the run; empty before the run begins.
    pub fn log_dir(&self) -> &Path {
        &self.place.dir
    }

    fn table(&self) -> PathBuf {
        self.place.dir.join("metrics.csv")
    }

    fn fault(&self, error: impl Into<Error>) -> Error {
        log_dir::fault(&self.table(), error)
    }

    fn rows(&self) -> Result<Vec<BTreeMap<String, String>>> {
        if !self.table().exists() {
            return Ok(Vec::new());
        }
        let read = || -> std::result::Result<Vec<BTreeMap<String, String>>, ::csv::Error> {
            let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_path(self.table())?;
            let header = reader.headers()?.clone();
            let row = |record: ::csv::StringRecord| {
                header
                    .iter()
                    .map(str::to_owned)
                    .zip(record.iter().map(str::to_owned))
                    .collect()
            };
            reader.records().map(|record| Ok(row(record?))).collect()
        };
        read().map_err(|error| self.fault(std::io::Error::other(error)))
    }

    /// Writes the whole table beside its place, then into it.
    fn rewrite(&self, rows: &[BTreeMap<String, String>]) -> Result<()> {
        let beside = self.place.dir.join(".metrics.csv.part");
        let write = || -> std::result::Result<(), ::csv::Error> {
            let mut writer = ::csv::Writer::from_path(&beside)?;
            writer.write_record(&self.columns)?;
            for row in rows {
                writer.write_record(self.columns.iter().map(|name| row.get(name).map_or("", String::as_str)))?;
            }
            writer.flush()?;
            Ok(std::fs::rename(&beside, self.table())?)
        };
        write().map_err(|error| {
            let _ = std::fs::remove_file(&beside);
            self.fault(std::io::Error::other(error))
        })
    }

    fn append(&self, row: &BTreeMap<String, String>) -> Result<()> {
        let write = || -> std::result::Result<(), ::csv::Error> {
            let mut line = ::csv::Writer::from_writer(Vec::new());
            line.write_record(self.columns.iter().map(|name| row.get(name).map_or("", String::as_str)))?;
            let line = line.into_inner().map_err(|error| error.into_error())?;
            // In one call: a row is there or not.
            let mut file = std::fs::OpenOptions::new().append(true).open(self.table())?;
            Ok(file.write_all(&line)?)
        };
        write().map_err(|error| self.fault(std::io::Error::other(error)))
    }

    /// Makes the folder, or goes on in the one that is there: rows from this step on are dropped, as they will come again.
    fn begin(&mut self, run: &Run) -> Result<()> {
        std::fs::create_dir_all(&self.place.dir).map_err(|error| self.fault(error))?;
        let hparams = serde_json::to_string_pretty(run.hparams()).unwrap_or_default();
        std::fs::write(self.place.dir.join("hparams.json"), hparams + "\n").map_err(|error| self.fault(error))?;
        let mut rows = self.rows()?;
        let before = |row: &BTreeMap<String, String>| {
            row.get("step")
                .and_then(|step| step.parse::<u64>().ok())
                .is_some_and(|step| step < run.global_step())
        };
        rows.retain(before);
        self.columns = rows
            .first()
            .map(|row| row.keys().cloned().collect())
            .unwrap_or_default();
        if !rows.is_empty() || self.table().exists() {
            self.rewrite(&rows)?;
        }
        self.begun = true;
        Ok(())
    }
}

impl Callback for CsvLogger {
    fn setup(&mut self, _: &mut Run) -> Result<()> {
        self.place.begin();
        self.begun = false;
        Ok(())
    }

    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        self.begin(run)
    }

    fn log_metrics(&mut self, metrics: &Metrics, run: &mut Run) -> Result<()> {
        if !self.begun {
            self.begin(run)?;
        }
        let mut row: BTreeMap<String, String> = metrics
            .iter()
            .map(|(name, value)| (name.clone(), text(*value)))
            .collect();
        row.insert("epoch".to_owned(), run.epoch().to_string());
        row.insert("step".to_owned(), run.global_step().saturating_sub(1).to_string());
        let new: Vec<String> = row
            .keys()
            .filter(|name| !self.columns.contains(name))
            .cloned()
            .collect();
        if new.is_empty() {
            return self.append(&row);
        }
        // A new column: the table is written anew.
        let mut rows = self.rows()?;
        self.columns.extend(new);
        self.columns.sort();
        rows.push(row);
        self.rewrite(&rows)
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
        Ok(())
    }
}

/// A number as Python writes it.
fn text(value: f64) -> String {
    match value {
        value if value.is_nan() => "nan".to_owned(),
        value if value.is_infinite() => (if value > 0.0 { "inf" } else { "-inf" }).to_owned(),
        value => format!("{value:?}"),
    }
}
