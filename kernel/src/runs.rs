//! The live output of a training run: one display, drawn here and not where the user's code runs, at most five times a
//! second, the last frame always.

use crate::now::Now;
use crate::publish::{Parent, Publisher};
use jupyter_protocol::{Media, MediaType};
use lightcell_events::run::{self, RunEvent, Status};
use lightcell_plot::{RunRecord, TaskRecord};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Width and height of a chart.
const SIZE: (u32, u32) = (640, 320);

/// Shortest time between two frames.
const FRAME: Duration = Duration::from_millis(200);

/// The run that goes on in the worker, if any.
pub struct Runs {
    publisher: Publisher,
    now: Arc<Now>,
    current: Option<Run>,
}

/// A task whose result nobody asked to see is shown only when it takes longer than this.
const LONG: Duration = Duration::from_secs(1);

struct Run {
    /// Its name.
    name: String,
    record: Record,
    display: String,
    parent: Option<Parent>,
    begun: Instant,
    /// When the last frame was sent; none before the first.
    drawn: Option<Instant>,
    /// Whether it is shown however short it is.
    shown: bool,
    changed: bool,
}

enum Record {
    Run(RunRecord),
    Task(TaskRecord),
}

impl Runs {
    /// No run.
    pub fn new(publisher: Publisher, now: Arc<Now>) -> Runs {
        Runs {
            publisher,
            now,
            current: None,
        }
    }

    /// Milliseconds until a frame is due; -1 when none is.
    pub fn timeout(&self) -> i32 {
        match &self.current {
            Some(run) if run.changed => run.wait().as_millis() as i32 + 1,
            _ => -1,
        }
    }

    /// Draws when a frame is due.
    pub fn tick(&mut self) {
        if let Some(run) = &mut self.current
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
        if let Some(run) = self.current.as_mut().filter(|run| is_current(run)) {
            run.record.apply(&event);
            run.changed = true;
        }
        if let RunEvent::Finished {
            status, error, hint, ..
        } = &event
        {
            let over = self.current.as_ref().is_none_or(is_current);
            let mut state = self.now.lock();
            state.fitting &= !over;
            let is_run = self.current.as_ref().is_some_and(|run| run.is_run() && is_current(run));
            if *status == Status::Failed && (error.is_some() || is_run) {
                state.said.run_failed = Some((
                    error.clone().unwrap_or_else(|| "the run failed".to_owned()),
                    hint.clone(),
                ));
            }
            drop(state);
            if over && let Some(mut run) = self.current.take() {
                run.end(&self.publisher);
            }
        }
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
            RunEvent::TaskStarted { .. } if self.current.is_some() => return,
            RunEvent::TaskStarted { shown, .. } => (Record::Task(TaskRecord::default()), *shown),
            _ => (Record::Run(RunRecord::default()), true),
        };
        let mut state = self.now.lock();
        state.fitting = true;
        state.stopping = false;
        let parent = state.parent.clone();
        drop(state);
        let request = parent.as_ref().map(|p| p.header.msg_id.as_str()).unwrap_or_default();
        let mut started = Run {
            name: event.run().to_owned(),
            record,
            display: format!("lightcell-run-{}-{request}", event.run()),
            parent,
            begun: Instant::now(),
            drawn: None,
            shown,
            changed: false,
        };
        started.record.apply(event);
        if shown {
            started.draw(&self.publisher, false);
        }
        self.current = Some(started);
    }

    /// The process that ran it is gone.
    pub fn lost(&mut self) {
        self.now.lock().fitting = false;
        if let Some(mut run) = self.current.take() {
            run.record.apply(&RunEvent::Finished {
                run: String::new(),
                status: Status::Failed,
                epochs: 0,
                step: 0,
                seconds: 0.0,
                error: Some("the process that trained ended".to_owned()),
                hint: None,
            });
            run.end(&self.publisher);
        }
    }
}

impl Record {
    fn apply(&mut self, event: &RunEvent) {
        match self {
            Record::Run(record) => record.apply(event),
            Record::Task(record) => record.apply(event),
        }
    }
}

impl Run {
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

    fn draw(&mut self, publisher: &Publisher, last: bool) {
        let (frame, parent) = (self.frame(last), self.parent.as_ref());
        match self.drawn {
            Some(_) => publisher.update(frame, &self.display, parent),
            None => publisher.display(frame, Some(&self.display), parent),
        }
        self.drawn = Some(Instant::now());
        self.changed = false;
    }

    /// PNG and SVG beside the HTML, for front ends that draw no HTML; the PNG, which costs most, in the last frame.
    fn frame(&self, last: bool) -> Media {
        use base64::Engine;
        let (text, html, chart) = match &self.record {
            Record::Run(record) => (record.text(), record.html(), Some(record.chart())),
            Record::Task(record) => (record.text(), record.html(), record.chart()),
        };
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
}
