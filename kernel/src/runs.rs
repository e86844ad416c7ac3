//! The live output of a training run: one display, drawn here and not where the user's code runs, at most five times a
//! second, the last frame always.

use crate::now::Now;
use crate::publish::{Parent, Publisher};
use jupyter_protocol::{Media, MediaType};
use lightcell_events::run::{self, RunEvent, Status};
use lightcell_plot::RunRecord;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest time between two frames.
const FRAME: Duration = Duration::from_millis(200);

/// The run that goes on in the worker, if any.
pub struct Runs {
    publisher: Publisher,
    now: Arc<Now>,
    current: Option<Run>,
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

struct Run {
    record: RunRecord,
    display: String,
    parent: Option<Parent>,
    drawn: Instant,
    changed: bool,
    console: bool,
}

impl Runs {
    /// No run.
    pub fn new(publisher: Publisher, now: Arc<Now>) -> Runs {
        Runs {
            publisher,
            now,
            current: None,
            console: started_by_console(),
        }
    }

    /// Milliseconds until a frame is due; -1 when none is.
    pub fn timeout(&self) -> i32 {
        match &self.current {
            Some(run) if run.changed => FRAME.saturating_sub(run.drawn.elapsed()).as_millis() as i32 + 1,
            _ => -1,
        }
    }

    /// Draws when a frame is due.
    pub fn tick(&mut self) {
        if let Some(run) = &mut self.current
            && run.changed
            && run.drawn.elapsed() >= FRAME
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
        if let RunEvent::Started { version, run, .. } = &event {
            if *version > run::VERSION {
                let text = format!(
                    "the training library speaks version {version} of the events, this kernel {}: run `lightcell setup`\n",
                    run::VERSION
                );
                self.publisher.stream(true, &text, self.now.parent().as_ref());
            }
            let mut state = self.now.lock();
            state.fitting = true;
            state.stopping = false;
            let parent = state.parent.clone();
            drop(state);
            let mut started = Run {
                record: RunRecord::default(),
                display: format!(
                    "lightcell-run-{run}-{}",
                    parent.as_ref().map(|p| p.header.msg_id.as_str()).unwrap_or_default()
                ),
                parent,
                drawn: Instant::now(),
                changed: false,
                console: self.console,
            };
            started.record.apply(&event);
            if self.console {
                started.draw(&self.publisher, false);
            } else {
                let (frame, parent) = (started.frame(false), started.parent.as_ref());
                self.publisher.display(frame, Some(&started.display), parent);
            }
            self.current = Some(started);
            return;
        }
        if let Some(run) = &mut self.current {
            run.record.apply(&event);
            run.changed = true;
        }
        if let RunEvent::Finished {
            status, error, hint, ..
        } = &event
        {
            let mut state = self.now.lock();
            state.fitting = false;
            if *status == Status::Failed {
                state.said.run_failed = Some((
                    error.clone().unwrap_or_else(|| "the run failed".to_owned()),
                    hint.clone(),
                ));
            }
            drop(state);
            if let Some(mut run) = self.current.take() {
                run.draw(&self.publisher, true);
            }
        }
        self.tick();
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
            run.draw(&self.publisher, true);
        }
    }
}

impl Run {
    fn draw(&mut self, publisher: &Publisher, last: bool) {
        let parent = self.parent.as_ref();
        if !self.console {
            publisher.update(self.frame(last), &self.display, parent);
        } else if last {
            // Over the bar, for good.
            publisher.stream(false, "\r\x1b[K", parent);
            publisher.stream(false, &self.record.text(), parent);
        } else {
            let text = self.record.text();
            let bar = text.lines().nth(1).unwrap_or_default();
            publisher.stream(false, &format!("\r{bar}\x1b[K"), parent);
        }
        self.drawn = Instant::now();
        self.changed = false;
    }

    /// PNG and SVG beside the HTML, for front ends that draw no HTML; the PNG, which costs most, in the last frame.
    fn frame(&self, last: bool) -> Media {
        use base64::Engine;
        let mut content = vec![
            MediaType::Plain(self.record.text()),
            MediaType::Html(self.record.html()),
        ];
        content.push(MediaType::Svg(self.record.svg()));
        if last {
            content.push(MediaType::Png(
                base64::engine::general_purpose::STANDARD.encode(self.record.png()),
            ));
        }
        Media::new(content)
    }
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
