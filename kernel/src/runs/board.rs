//! The runs that are known, for all who show them: those of this kernel, and those on disk.

use super::saved::{self, Known, Saved, Writer};
use super::{Record, Run, frame_of_run};
use crate::publish::{self, Parent, Publisher};
use lightcell_events::run::RunEvent;
use lightcell_plot::{Chart, Listed, Numbered, RunRecord, Sort};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// So many runs of this kernel that are over are kept in memory.
const KEPT: usize = 100;

const NONE: &str = "no runs yet; `%fit MODEL DATA` makes one";

/// The runs of this kernel, and where those of earlier ones are kept.
pub struct Board {
    runs: Mutex<State>,
    saved: Option<Saved>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) current: Option<Run>,
    /// Oldest first.
    past: VecDeque<Known>,
}

impl Board {
    /// None yet in this kernel; what others have made is read when it is asked for.
    pub fn new(saved: Option<Saved>) -> Board {
        Board {
            runs: Mutex::default(),
            saved,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a run is kept that begins.
    pub(super) fn keep(&self, event: &RunEvent, begun: SystemTime) -> Option<Writer> {
        self.saved.as_ref()?.begin(event, begun)
    }

    /// The process that trained is gone.
    pub fn lost(&self, publisher: &Publisher) {
        self.lock().lost(publisher);
    }

    /// `%runs`: all runs as a table, then the one that goes on, live, with all that it has shown so far; else the last one.
    ///
    /// # Errors
    /// When no run has the metric to sort by.
    pub fn show(&self, sort: Option<Sort>, publisher: &Publisher, parent: &Parent) -> Result<(), String> {
        let others = self.others();
        let mut state = self.lock();
        let all = state.listed(&others, self.saved.as_ref());
        if all.is_empty() {
            publisher.display(publish::text(NONE), None, Some(parent));
            return Ok(());
        }
        let (text, html) = lightcell_plot::listing(&all, sort)?;
        drop(all);
        publisher.display(publish::text_html(text, html), None, Some(parent));
        self.newest(&mut state, &others, publisher, parent);
        Ok(())
    }

    /// `%fit --attach`: the run that goes on, live, with all that it has shown so far; else the last one.
    pub fn attach(&self, publisher: &Publisher, parent: &Parent) {
        let others = self.others();
        if !self.newest(&mut self.lock(), &others, publisher, parent) {
            publisher.display(publish::text(NONE), None, Some(parent));
        }
    }

    /// `%plot` and `%compare`: metrics of some runs in one chart, of the newest ones when none is named.
    ///
    /// # Errors
    /// When there is no such run or metric, or the file cannot be written; and what to do.
    pub fn plot(&self, wanted: &Wanted, publisher: &Publisher, parent: &Parent) -> Result<(), (String, String)> {
        let others = self.others();
        let state = self.lock();
        let all = state.listed(&others, self.saved.as_ref());
        let all: Vec<Numbered> = (1..).zip(all.iter().map(|run| run.record)).collect();
        let hint = || "%runs lists the runs with their numbers and metrics".to_owned();
        if all.is_empty() {
            publisher.display(publish::text(NONE), None, Some(parent));
            return Ok(());
        }
        let mut metrics: Vec<&str> = wanted.metrics.iter().map(String::as_str).collect();
        let runs = chosen(&all, wanted.runs, &metrics, wanted.newest).map_err(|error| (error, hint()))?;
        let main = lightcell_plot::main_metric(&runs);
        if metrics.is_empty() {
            match wanted.newest {
                1 => metrics = runs.iter().flat_map(|(_, run)| run.names()).collect(),
                _ => metrics.extend(main.as_deref()),
            }
            metrics.sort_unstable();
            metrics.dedup();
        }
        if metrics.is_empty() {
            let first = "no epoch of this run is over yet".to_owned();
            return Err((first, "run it again after the first epoch".to_owned()));
        }
        let shown = lightcell_plot::overlay(&runs, &metrics).map_err(|error| (error, hint()))?;
        if let Some(path) = &wanted.save {
            save(&shown.chart, path)?;
        }
        publisher.display(
            super::frame(shown.text, shown.html, Some(shown.chart), true),
            None,
            Some(parent),
        );
        Ok(())
    }

    /// Shows the run that goes on, else the newest. Whether there is one.
    fn newest(&self, state: &mut State, others: &[Known], publisher: &Publisher, parent: &Parent) -> bool {
        if let Some(run) = state.current.as_mut().filter(|run| run.is_run()) {
            // The console shows it as it comes.
            if !run.console {
                run.attach(publisher, parent);
            }
            return true;
        }
        let Some(newest) = others.iter().chain(&state.past).max_by_key(|run| run.begun) else {
            return false;
        };
        let whole = newest.file.as_deref().and_then(|file| self.saved.as_ref()?.whole(file));
        let record = whole.as_ref().unwrap_or(&newest.record);
        publisher.display(frame_of_run(record, true), None, Some(parent));
        true
    }

    /// Runs of this folder that other kernels made.
    fn others(&self) -> Vec<Known> {
        let Some(saved) = &self.saved else {
            return Vec::new();
        };
        let ours = self.lock().names();
        // A run that this kernel no longer holds in memory is read like any other.
        saved.runs(|name| ours.iter().any(|our| our == name))
    }
}

impl State {
    fn names(&self) -> Vec<String> {
        let past = self.past.iter().map(|run| run.name.clone());
        past.chain(self.current.as_ref().map(|run| run.name.clone())).collect()
    }

    /// All runs, the oldest first.
    fn listed<'a>(&'a self, others: &'a [Known], saved: Option<&Saved>) -> Vec<Listed<'a>> {
        let current = self.current.as_ref().and_then(|run| match &run.record {
            Record::Run(record) => Some((run.begun_at, &**record)),
            Record::Task(_) => None,
        });
        let known = others.iter().chain(&self.past).map(|run| (run.begun, &run.record));
        let mut all: Vec<(SystemTime, &RunRecord)> = known.chain(current).collect();
        all.sort_by_key(|(begun, _)| *begun);
        let listed = |(begun, record): (SystemTime, &'a RunRecord)| Listed {
            record,
            begun: local(begun),
            link: record.log_dir().and_then(|dir| link(dir, saved?)),
        };
        all.into_iter().map(listed).collect()
    }

    /// Nobody will say how the run ended.
    pub(super) fn lost(&mut self, publisher: &Publisher) {
        if let Some(run) = &mut self.current {
            run.apply(&saved::lost(run.begun.elapsed()));
            self.end(publisher);
        }
    }

    /// The run is over: its last frame, and it joins the others.
    pub(super) fn end(&mut self, publisher: &Publisher) {
        let Some(mut run) = self.current.take() else { return };
        run.end(publisher);
        if let Record::Run(mut record) = run.record {
            record.compact();
            if self.past.len() == KEPT {
                self.past.pop_front();
            }
            self.past.push_back(Known {
                name: run.name,
                begun: run.begun_at,
                record: *record,
                file: None,
            });
        }
    }
}

/// What `%plot` and `%compare` are to show.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Numbers of runs with commas between them, as typed.
    pub runs: Option<&'a str>,
    /// Without them, so many of the newest.
    pub newest: usize,
    /// Names of metrics; without them, all of one run or the main one of several.
    pub metrics: Vec<String>,
    /// A file for the chart.
    pub save: Option<PathBuf>,
}

/// The runs that are meant.
fn chosen<'a>(
    all: &[Numbered<'a>],
    named: Option<&str>,
    metrics: &[&str],
    newest: usize,
) -> Result<Vec<Numbered<'a>>, String> {
    let Some(named) = named else {
        let has = |run: &RunRecord| match metrics {
            [] => !run.names().is_empty(),
            all => all.iter().any(|metric| run.names().contains(metric)),
        };
        let mut with: Vec<Numbered> = all
            .iter()
            .rev()
            .filter(|(_, run)| has(run))
            .take(newest)
            .copied()
            .collect();
        with.reverse();
        // With none, what is said is of the metric that is missing.
        return Ok(if with.is_empty() { all.to_vec() } else { with });
    };
    named
        .split(',')
        .map(|word| {
            let number = word.trim().parse::<usize>().ok();
            let run = number.and_then(|number| all.iter().find(|(other, _)| *other == number));
            run.copied().ok_or_else(|| match all.len() {
                1 => format!("there is no run {}: there is 1 only", word.trim()),
                count => format!("there is no run {}: there are 1 to {count}", word.trim()),
            })
        })
        .collect()
}

/// Writes a chart in the form that the file's name says.
fn save(chart: &Chart, path: &Path) -> Result<(), (String, String)> {
    let bytes = match path.extension().and_then(|end| end.to_str()) {
        Some("svg") => chart.svg(super::SIZE).into_bytes(),
        Some("png") => chart.png(super::SIZE),
        _ => {
            let message = format!("`{}` is neither .svg nor .png", path.display());
            return Err((message, "name the file such as loss.png".to_owned()));
        }
    };
    std::fs::write(path, bytes).map_err(|error| {
        let message = format!("cannot write {}: {error}", path.display());
        (
            message,
            "the path is relative to the current folder, see %cd".to_owned(),
        )
    })
}

/// The user's day and hour.
fn local(time: SystemTime) -> String {
    chrono::DateTime::<chrono::Local>::from(time)
        .format("%Y-%m-%d %H:%M")
        .to_string()
}

/// The table of a run's metrics, as a path from the notebook: what a notebook's link can open.
fn link(log_dir: &str, saved: &Saved) -> Option<String> {
    let table = saved.here().join(log_dir).join("metrics.csv");
    if !table.is_file() {
        return None;
    }
    let path = table.strip_prefix(saved.here()).ok()?.to_str()?;
    Some(path.trim_start_matches("./").to_owned())
}
