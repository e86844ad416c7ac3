//! Where a run's events go: to the notebook's kernel, or to the terminal.

mod terminal;

use terminal::Terminal;

use crate::error::{Error, Kind};
use crate::history::EpochRecord;
use crate::looping::Progress;
use lightcell_events::run::{self, Level, Metrics, RunEvent, Stage, Status, Task};
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Shortest time between two step events.
const STEP: Duration = Duration::from_millis(50);

/// What is around a run: who hears its events, and the stop button.
pub(crate) struct Outside {
    /// Takes an event; `false` when nobody listens.
    pub emit: Box<dyn FnMut(&RunEvent) -> bool>,
    /// Whether the user pressed stop since the run began.
    pub stop: Box<dyn FnMut() -> bool>,
    /// Whether that was no user, but the end of all this, which is near.
    pub leave: Box<dyn Fn() -> bool>,
}

impl Outside {
    /// The notebook, or the terminal. Forgets what was pressed before.
    pub fn here() -> Outside {
        lightcell_cell::clear_stop();
        Outside {
            emit: Box::new(|event| lightcell_cell::emit_event(&run::encode(event))),
            stop: Box::new(lightcell_cell::stop_requested),
            leave: Box::new(lightcell_cell::leave_requested),
        }
    }
}

/// Sends events.
pub(crate) struct Reporter {
    run: String,
    sent: Option<Instant>,
    terminal: Terminal,
    outside: Outside,
    warned: BTreeSet<String>,
    begun: Instant,
    /// Whether the result of a task is to be shown.
    shown: bool,
}

impl Reporter {
    pub fn new(outside: Outside) -> Reporter {
        // No counter in a static: each cell would have one of its own.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("{:x}-{:x}", now.as_micros(), std::process::id());
        Reporter {
            run,
            sent: None,
            terminal: Terminal::default(),
            outside,
            warned: BTreeSet::new(),
            begun: Instant::now(),
            shown: false,
        }
    }

    /// For a task that a magic asked for: the notebook shows its result.
    pub fn showing(outside: Outside) -> Reporter {
        Reporter {
            shown: true,
            ..Reporter::new(outside)
        }
    }

    /// Whether the user pressed stop.
    pub fn stopped(&mut self) -> bool {
        (self.outside.stop)()
    }

    /// Whether the process will be ended soon.
    pub fn leaving(&self) -> bool {
        (self.outside.leave)()
    }

    pub fn run(&self) -> &str {
        &self.run
    }

    /// Whether a step event may be sent again.
    pub fn due(&self) -> bool {
        self.sent.is_none_or(|sent| sent.elapsed() >= STEP)
    }

    pub fn send(&mut self, event: &RunEvent) {
        if !(self.outside.emit)(event) {
            self.terminal.show(event);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the event")]
    pub fn step(&mut self, stage: Stage, epoch: u64, batch: u64, batches: u64, step: u64, metrics: Metrics, rate: f64) {
        self.sent = Some(Instant::now());
        let run = self.run.clone();
        self.send(&RunEvent::Step {
            run,
            stage,
            epoch,
            batch,
            batches,
            step,
            metrics,
            rate,
        });
    }

    pub fn epoch(&mut self, record: &EpochRecord) {
        // JSON knows no NaN: such values are left out, and said once in words.
        for (name, value) in record.metrics.iter().filter(|(_, value)| !value.is_finite()) {
            if self.warned.insert(name.clone()) {
                let text = format!(
                    "{name} is {value} in epoch {}; such values are not drawn",
                    record.epoch + 1
                );
                self.send(&RunEvent::Note {
                    run: self.run.clone(),
                    level: Level::Warning,
                    text,
                });
            }
        }
        let metrics = record
            .metrics
            .iter()
            .filter(|(_, v)| v.is_finite())
            .map(|(n, v)| (n.clone(), *v))
            .collect();
        self.send(&RunEvent::Epoch {
            run: self.run.clone(),
            epoch: record.epoch,
            step: record.step,
            metrics,
            seconds: record.seconds,
        });
    }

    /// A task outside of a run begins.
    pub fn task(&mut self, task: Task, model: &str, device: String, batches: u64) {
        self.begun = Instant::now();
        self.send(&RunEvent::TaskStarted {
            version: run::VERSION,
            run: self.run.clone(),
            task,
            shown: self.shown,
            model: model.to_owned(),
            device,
            batches,
        });
    }

    /// What a task has found so far.
    pub fn table(&mut self, rows: Vec<Vec<String>>) {
        let run = self.run.clone();
        self.send(&RunEvent::Table { run, rows });
    }

    /// A task is over. Its caller gets the error; who asked by a magic hears of it by [`failed_before`].
    pub fn task_over(&mut self, step: u64, error: Option<&Error>) {
        let status = match error {
            None => Status::Completed,
            Some(error) if error.kind() == Kind::Stopped => Status::Stopped,
            Some(_) => Status::Failed,
        };
        self.send(&RunEvent::Finished {
            run: self.run.clone(),
            status,
            epochs: 0,
            step,
            seconds: self.begun.elapsed().as_secs_f64(),
            error: None,
            hint: None,
        });
    }

    pub fn finished(&mut self, status: Status, progress: &Progress, seconds: f64, error: Option<&Error>) {
        self.send(&RunEvent::Finished {
            run: self.run.clone(),
            status,
            epochs: progress.epoch,
            step: progress.step,
            seconds,
            error: error.map(|error| error.message().to_owned()),
            hint: error.and_then(|error| error.hint_text().map(str::to_owned)),
        });
    }
}

/// Reports a run that failed before it began.
pub(crate) fn failed_before(error: &Error) {
    let event = RunEvent::Finished {
        run: String::new(),
        status: Status::Failed,
        epochs: 0,
        step: 0,
        seconds: 0.0,
        error: Some(error.message().to_owned()),
        hint: error.hint_text().map(str::to_owned),
    };
    lightcell_cell::emit_event(&run::encode(&event));
}
