//! Turns what the worker sends into messages for the front ends, in the order it was sent.

use crate::figures;
use crate::now::{Now, Phase};
use crate::publish::{self, Publisher};
use crate::report::Panic;
use crate::runs::{Board, Runs};
use crate::stdin::Stdin;
use crate::worker::{Incoming, Link, Reader};
use jupyter_protocol::messaging::ClearOutput;
use lightcell_events::frame::{CellEnd, Display, DisplayKind, Kind, decode_fields};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Text is sent when nothing more came for so long …
const QUIET: Duration = Duration::from_millis(4);
/// … or when it has waited so long, or grown so large.
const LONGEST: Duration = Duration::from_millis(40);
const LARGEST: usize = 64 * 1024;

/// The thread that listens, from outside.
pub struct Listener {
    link: Arc<Link>,
    marks: mpsc::Receiver<u32>,
    next: u32,
}

impl Listener {
    /// Starts it.
    pub fn start(link: Arc<Link>, now: Arc<Now>, publisher: Publisher, stdin: Stdin, board: Arc<Board>) -> Listener {
        let (seen, marks) = mpsc::channel();
        let ears = Ears {
            reader: Reader::new(link.clone()),
            runs: Runs::new(publisher.clone(), now.clone(), board),
            link: link.clone(),
            now,
            publisher,
            stdin,
            text: Text::default(),
            seen,
        };
        std::thread::Builder::new()
            .name("listener".into())
            .spawn(move || ears.run())
            .map(drop)
            .unwrap_or_else(|error| {
                tracing::error!("cannot start the listener: {error}");
            });
        Listener { link, marks, next: 0 }
    }

    /// Returns when all that the worker has sent so far is in the publisher's queue.
    pub fn sync(&mut self) {
        self.next += 1;
        self.link.sync(self.next);
        while self.marks.recv().is_ok_and(|seen| seen != self.next) {}
    }
}

/// Text of one stream that waits to be sent.
#[derive(Default)]
struct Text {
    stderr: bool,
    bytes: Vec<u8>,
    since: Option<Instant>,
}

struct Ears {
    reader: Reader,
    link: Arc<Link>,
    now: Arc<Now>,
    publisher: Publisher,
    stdin: Stdin,
    runs: Runs,
    text: Text,
    seen: mpsc::Sender<u32>,
}

impl Ears {
    fn run(mut self) {
        loop {
            let timeout = match self.text.since {
                Some(since) if since.elapsed() > LONGEST => {
                    self.flush(false);
                    continue;
                }
                Some(_) => QUIET.as_millis() as i32,
                None => self.runs.timeout(),
            };
            match self.reader.next(timeout) {
                Incoming::Packet(kind, payload) => self.packet(kind, &payload),
                Incoming::Child(stderr, bytes) => self.print(stderr, &bytes),
                Incoming::Quiet => {
                    self.flush(false);
                    self.runs.tick();
                }
                Incoming::Closed => return,
            }
        }
    }

    fn print(&mut self, stderr: bool, bytes: &[u8]) {
        if self.text.stderr != stderr {
            self.flush(true);
            self.text.stderr = stderr;
        }
        self.text.since.get_or_insert_with(Instant::now);
        self.text.bytes.extend_from_slice(bytes);
        if self.text.bytes.len() >= LARGEST {
            self.flush(false);
        }
    }

    /// Sends the waiting text. Unless it is `all`, the first bytes of a character that is still to come are held back.
    fn flush(&mut self, all: bool) {
        if self.text.bytes.is_empty() {
            self.text.since = None;
            return;
        }
        let whole = if all {
            self.text.bytes.len()
        } else {
            whole_characters(&self.text.bytes)
        };
        if whole > 0 {
            let rest = self.text.bytes.split_off(whole);
            let text = String::from_utf8_lossy(&self.text.bytes).into_owned();
            self.text.bytes = rest;
            let parent = self.now.parent();
            self.publisher.stream(self.text.stderr, &text, parent.as_ref());
            if self.text.stderr {
                let mut state = self.now.lock();
                let tail = &mut state.said.stderr_tail;
                tail.push_str(&text);
                if tail.len() > 4096 {
                    let cut = tail.ceil_char_boundary(tail.len() - 4096);
                    tail.drain(..cut);
                }
            }
        }
        self.text.since = if self.text.bytes.is_empty() {
            None
        } else {
            Some(Instant::now())
        };
    }

    fn packet(&mut self, kind: Kind, payload: &[u8]) {
        match kind {
            Kind::Stdout => return self.print(false, payload),
            Kind::Stderr => return self.print(true, payload),
            _ => self.flush(true),
        }
        match kind {
            Kind::Stdout | Kind::Stderr => {}
            Kind::Display => match Display::decode(payload) {
                Some(display) => self.display(&display),
                None => tracing::warn!("a damaged display from the worker"),
            },
            Kind::Clear => {
                let parent = self.now.parent();
                self.publisher
                    .send(ClearOutput { wait: payload == [1] }, parent.as_ref());
            }
            Kind::Event => self.runs.event(payload),
            Kind::CellStart => {
                let pid = std::str::from_utf8(payload)
                    .ok()
                    .and_then(|pid| pid.parse().ok())
                    .unwrap_or(0);
                let mut state = self.now.lock();
                state.phase = Phase::Running(pid);
                state.worker = pid;
                state.said.began = Some(std::time::Instant::now());
                if state.interrupted {
                    // Stop was pressed while the build ended.
                    drop(state);
                    self.now.interrupt(0);
                }
            }
            Kind::CellEnd => {
                let mut state = self.now.lock();
                state.phase = Phase::Building;
                state.said.ran = state.said.began.map(|began| began.elapsed());
                state.said.ended = Some(match payload {
                    [1] => CellEnd::Panicked,
                    [2] => CellEnd::Error,
                    _ => CellEnd::Returned,
                });
            }
            Kind::Panic => {
                let fields = decode_fields(payload).unwrap_or_default();
                // A fifth field that is not empty names another thread.
                if fields.get(4).is_some_and(Vec::is_empty) {
                    self.now.lock().said.panic = Some(Panic::from_fields(&fields));
                }
            }
            Kind::TakenOver => {
                let fields = decode_fields(payload).unwrap_or_default();
                let text = |i: usize| {
                    fields
                        .get(i)
                        .map(|f| String::from_utf8_lossy(f).into_owned())
                        .unwrap_or_default()
                };
                let mut state = self.now.lock();
                state.phase = Phase::Building;
                state.said.taken_over = Some((text(0), text(1)));
                drop(state);
                self.runs.lost();
            }
            Kind::Input => {
                let fields = decode_fields(payload).unwrap_or_default();
                let prompt = fields
                    .first()
                    .map(|f| String::from_utf8_lossy(f).into_owned())
                    .unwrap_or_default();
                let password = fields.get(1).is_some_and(|f| f == b"1");
                let (parent, allowed) = {
                    let state = self.now.lock();
                    (state.parent.clone(), state.allow_stdin)
                };
                match parent.filter(|_| allowed) {
                    Some(parent) => self.stdin.ask(prompt, password, parent, self.link.clone()),
                    None => {
                        self.publisher
                            .stream(true, crate::stdin::REFUSED, self.now.parent().as_ref());
                        self.link.answer(None);
                    }
                }
            }
            Kind::UserError => {}
            Kind::TypeChanged => self
                .now
                .lock()
                .said
                .redefined
                .push(String::from_utf8_lossy(payload).into_owned()),
            Kind::Sync => {
                for index in [0, 1] {
                    while let Some(bytes) = self.reader.child(index) {
                        self.print(index == 1, &bytes);
                    }
                }
                self.flush(true);
                if let Some(number) = payload.first_chunk::<4>() {
                    let _ = self.seen.send(u32::from_le_bytes(*number));
                }
            }
            Kind::Info => {
                let fields = decode_fields(payload).unwrap_or_default();
                let text: Vec<_> = fields.iter().map(|f| String::from_utf8_lossy(f)).collect();
                tracing::warn!("worker: {}", text.join(": "));
                if let [_, problem] = &text[..] {
                    crate::devices::preload_failed(problem);
                }
            }
        }
    }

    fn display(&mut self, display: &Display) {
        let parts = match figures::drawn(&display.media) {
            figures::Drawn::Shown(parts) => parts,
            figures::Drawn::Saved => return,
        };
        let media = publish::media(&parts);
        let (parent, count, silent) = {
            let state = self.now.lock();
            (state.parent.clone(), state.count, state.silent)
        };
        let id = (!display.id.is_empty()).then_some(display.id.as_str());
        match display.kind {
            // No request: a cell of the kernel's own.
            DisplayKind::Result if silent || parent.is_none() => {}
            DisplayKind::Result => self.publisher.result(media, count, parent.as_ref()),
            DisplayKind::Display => self.publisher.display(media, id, parent.as_ref()),
            DisplayKind::Update => self.publisher.update(media, &display.id, parent.as_ref()),
        }
    }
}

/// How many bytes end on a whole character (or on bytes that will never be one).
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(_) => {
            // At most three bytes at the end can be the beginning of a character.
            for back in 1..=3.min(bytes.len()) {
                let at = bytes.len() - back;
                let lead = bytes[at];
                let needed = match lead {
                    0xc2..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf4 => 4,
                    _ => 0,
                };
                if needed > back {
                    return at;
                }
                if lead & 0xc0 != 0x80 {
                    break;
                }
            }
            bytes.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_not_cut() {
        let text = "aé€😀".as_bytes();
        for end in 0..=text.len() {
            let whole = whole_characters(&text[..end]);
            assert!(std::str::from_utf8(&text[..whole]).is_ok(), "{end}");
            assert!(end - whole < 4);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_not_held_back() {
        assert_eq!(whole_characters(&[b'a', 0xff]), 2);
        assert_eq!(whole_characters(&[0x80, 0x80]), 2);
        assert_eq!(whole_characters(&[b'a', 0xe2, 0x82]), 1);
    }
}
