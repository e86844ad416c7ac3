//! The live output of a training run: one display, drawn here and not where the user's code runs, at most five times a
//! second, the last frame always.

mod board;
mod saved;

pub use board::{Board, Wanted};
pub use saved::Saved;

use crate::devices::Sampler;
use crate::now::Now;
use crate::publish::{Parent, Publisher};
use jupyter_protocol::{Media, MediaType};
use lightcell_events::run::{self, RunEvent, Status};
use lightcell_plot::{Chart, RunRecord, TaskRecord};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Width and height of a chart.
const SIZE: (u32, u32) = (640, 320);

/// Shortest time between two frames.
const FRAME: Duration = Duration::from_millis(200);

/// So many displays show a run as it goes on: its own, and the newest of `%runs`.
const VIEWS: usize = 5;

/// Listens to the run that goes on in the worker, if any.
pub struct Runs {
    publisher: Publisher,
    now: Arc<Now>,
    board: Arc<Board>,
    /// The front end shows a display once and never changes it.
    console: bool,
}

/// Whether Jupyter's console has started this kernel: it passes over changes of a display.
fn started_by_console() -> bool {
    let parent = std::os::unix::process::parent_id();
    std::fs::read(format!("/proc/{parent}/cmdline")).is_ok_and(|line| is_console(&line))
}

/// By the words of a command line, as /proc has them.
fn is_console(line: &[u8]) -> bool {
    let names = ["jupyter-console", "jupyter_console"];
    line.split(|byte| *byte == 0).take(4).any(|word| {
        let word = String::from_utf8_lossy(word);
        names.iter().any(|name| word.rsplit('/').next() == Some(name))
    })
}

/// A task whose result nobody asked to see is shown only when it takes longer than this.
const LONG: Duration = Duration::from_secs(1);

struct Run {
    /// Its name.
    name: String,
    record: Record,
    /// Where it is shown: in its own cell, and where `%runs` was run meanwhile.
    views: Vec<View>,
    begun: Instant,
    begun_at: SystemTime,
    /// Where it is kept beyond this kernel; a task is not.
    kept: Option<saved::Writer>,
    load: Option<Load>,
    /// When the last frame was sent; none before the first.
    drawn: Option<Instant>,
    /// Whether it is shown however short it is.
    shown: bool,
    changed: bool,
    console: bool,
}

/// What the load of a run's device is, as long as it goes on.
struct Load {
    line: Arc<Mutex<Option<String>>>,
    _sampler: Sampler,
}

impl Load {
    fn of(device: &str) -> Option<Load> {
        let line = Arc::new(Mutex::new(None));
        let (device, to) = (device.to_owned(), line.clone());
        let sampler = Sampler::start(move |panel| {
            *to.lock().unwrap_or_else(PoisonError::into_inner) = panel.line(&device);
            true
        });
        Some(Load {
            line,
            _sampler: sampler?,
        })
    }

    fn line(&self) -> Option<String> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A display of a run.
struct View {
    id: String,
    parent: Option<Parent>,
    /// Whether its first frame was sent.
    shown: bool,
}

impl View {
    fn new(run: &str, parent: Option<Parent>) -> View {
        let request = parent.as_ref().map(|p| p.header.msg_id.as_str()).unwrap_or_default();
        View {
            id: format!("lightcell-run-{run}-{request}"),
            parent,
            shown: false,
        }
    }

    fn send(&mut self, media: Media, publisher: &Publisher) {
        let parent = self.parent.as_ref();
        match self.shown {
            true => publisher.update(media, &self.id, parent),
            false => publisher.display(media, Some(&self.id), parent),
        }
        self.shown = true;
    }
}

enum Record {
    Run(Box<RunRecord>),
    Task(Box<TaskRecord>),
}

impl Runs {
    /// No run.
    pub fn new(publisher: Publisher, now: Arc<Now>, board: Arc<Board>) -> Runs {
        Runs {
            publisher,
            now,
            board,
            console: started_by_console(),
        }
    }

    /// Milliseconds until a frame is due; -1 when none is.
    pub fn timeout(&self) -> i32 {
        match &self.board.lock().current {
            Some(run) if run.changed => run.wait().as_millis() as i32 + 1,
            _ => -1,
        }
    }

    /// Draws when a frame is due.
    pub fn tick(&mut self) {
        if let Some(run) = &mut self.board.lock().current
            && run.changed
            && run.wait().is_zero()
        {
            run.draw(&self.publisher, false);
        }
    }

    /// A message of the training library.
    pub fn event(&mut self, payload: &[u8]) {
        let event = match run::decode(payload) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!("an event that cannot be read: {error}");
                return;
            }
        };
        if let RunEvent::Started { version, .. } | RunEvent::TaskStarted { version, .. } = &event {
            self.begin(*version, &event);
            return;
        }
        if let RunEvent::LrCurve {
            suggestion: Some((lr, _)),
            attr_name,
            ..
        } = &event
        {
            self.now.lock().said.suggestion = Some((*lr, attr_name.clone()));
        }
        // A test within a run has events of its own, which are not the run's.
        let is_current = |run: &Run| event.run() == run.name || event.run().is_empty();
        let mut board = self.board.lock();
        if let Some(run) = board.current.as_mut().filter(|run| is_current(run)) {
            run.apply(&event);
        }
        if let RunEvent::Finished {
            status, error, hint, ..
        } = &event
        {
            let over = board.current.as_ref().is_none_or(is_current);
            let mut state = self.now.lock();
            state.fitting &= !over;
            let is_run = board
                .current
                .as_ref()
                .is_some_and(|run| run.is_run() && is_current(run));
            if *status == Status::Failed && (error.is_some() || is_run) {
                state.said.run_failed = Some((
                    error.clone().unwrap_or_else(|| "the run failed".to_owned()),
                    hint.clone(),
                ));
            }
            drop(state);
            if over {
                board.end(&self.publisher);
            }
        }
        drop(board);
        self.tick();
    }

    /// A run or task begins.
    fn begin(&mut self, version: u32, event: &RunEvent) {
        if version > run::VERSION {
            let text = format!(
                "the training library speaks version {version} of the events, this kernel {}: run `lightcell setup`\n",
                run::VERSION
            );
            self.publisher.stream(true, &text, self.now.parent().as_ref());
        }
        let (record, shown) = match event {
            RunEvent::TaskStarted { .. } if self.board.lock().current.is_some() => return,
            RunEvent::TaskStarted { shown, .. } => (Record::Task(Box::default()), *shown),
            _ => (Record::Run(Box::default()), true),
        };
        let mut state = self.now.lock();
        state.fitting = true;
        state.stopping = false;
        let parent = state.parent.clone();
        drop(state);
        let mut started = Run {
            name: event.run().to_owned(),
            record,
            views: vec![View::new(event.run(), parent)],
            begun: Instant::now(),
            begun_at: SystemTime::now(),
            kept: None,
            load: None,
            drawn: None,
            shown,
            changed: false,
            console: self.console,
        };
        started.record.apply(event);
        if let Record::Run(record) = &started.record {
            started.load = Load::of(record.device());
            started.kept = self.board.keep(event, started.begun_at);
        }
        let mut board = self.board.lock();
        // A run before it that has not said how it ended.
        board.lost(&self.publisher);
        if shown {
            started.draw(&self.publisher, false);
        }
        board.current = Some(started);
    }

    /// The process that ran it is gone.
    pub fn lost(&mut self) {
        self.now.lock().fitting = false;
        self.board.lost(&self.publisher);
    }
}

impl Record {
    fn apply(&mut self, event: &RunEvent) {
        match self {
            Record::Run(record) => record.apply(event),
            Record::Task(record) => record.apply(event),
        }
    }

    fn text(&self) -> String {
        match self {
            Record::Run(record) => record.text(),
            Record::Task(record) => record.text(),
        }
    }
}

impl Run {
    /// Takes what it reports.
    fn apply(&mut self, event: &RunEvent) {
        self.record.apply(event);
        if let Some(kept) = &mut self.kept {
            kept.event(event);
        }
        self.changed = true;
    }

    fn is_run(&self) -> bool {
        matches!(self.record, Record::Run(_))
    }

    /// How long until a frame may be sent.
    fn wait(&self) -> Duration {
        match self.drawn {
            Some(drawn) => FRAME.saturating_sub(drawn.elapsed()),
            None if self.shown => Duration::ZERO,
            None => LONG.saturating_sub(self.begun.elapsed()),
        }
    }

    /// The last frame, unless there was none before and nobody asked for it.
    fn end(&mut self, publisher: &Publisher) {
        if self.shown || self.drawn.is_some() {
            self.draw(publisher, true);
        }
    }

    /// Shows it in one place more, from its beginning on.
    fn attach(&mut self, publisher: &Publisher, parent: &Parent) {
        let id = View::new(&self.name, Some(parent.clone())).id;
        if self.views.iter().any(|view| view.id == id) {
            // By the same cell, which has asked twice.
            return;
        }
        if self.views.len() == VIEWS {
            self.views.remove(1);
        }
        let mut view = View::new(&self.name, Some(parent.clone()));
        view.send(self.frame(false), publisher);
        self.views.push(view);
    }

    fn draw(&mut self, publisher: &Publisher, last: bool) {
        if let (Record::Run(record), Some(load)) = (&mut self.record, &self.load) {
            record.set_load(load.line());
        }
        if self.console {
            let parent = self.views.first().and_then(|view| view.parent.as_ref());
            let text = self.record.text();
            if last {
                // Over the bar, for good.
                publisher.stream(false, "\r\x1b[K", parent);
                publisher.stream(false, &text, parent);
            } else {
                let bar = text.lines().nth(1).unwrap_or_default();
                publisher.stream(false, &format!("\r{bar}\x1b[K"), parent);
            }
        } else {
            let frame = self.frame(last);
            for view in &mut self.views {
                view.send(frame.clone(), publisher);
            }
        }
        self.drawn = Some(Instant::now());
        self.changed = false;
    }

    fn frame(&self, last: bool) -> Media {
        match &self.record {
            Record::Run(record) => frame_of_run(record, last),
            Record::Task(record) => frame(record.text(), record.html(), record.chart(), last),
        }
    }
}

fn frame_of_run(record: &RunRecord, last: bool) -> Media {
    frame(record.text(), record.html(), Some(record.chart()), last)
}

/// PNG and SVG beside the HTML, for front ends that draw no HTML; the PNG, which costs most, in the last frame.
fn frame(text: String, html: String, chart: Option<Chart>, last: bool) -> Media {
    use base64::Engine;
    let mut content = vec![MediaType::Plain(text), MediaType::Html(html)];
    if let Some(chart) = chart {
        content.push(MediaType::Svg(chart.svg(SIZE)));
        if last {
            let png = base64::engine::general_purpose::STANDARD.encode(chart.png(SIZE));
            content.push(MediaType::Png(png));
        }
    }
    Media::new(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_known_by_its_command_line() {
        for line in [
            &b"/usr/bin/python3\0/home/u/bin/jupyter-console\0--kernel\0lightcell\0"[..],
            b"python\0-m\0jupyter_console\0",
        ] {
            assert!(is_console(line));
        }
        for line in [&b"python\0-m\0jupyterlab\0"[..], b"", b"vi\0/a/jupyter-console.md\0"] {
            assert!(!is_console(line));
        }
        assert!(!started_by_console());
    }
}
