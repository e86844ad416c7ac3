//! The life line: frames both ways over a pair of pipes, with a beat in every pause, so that each side notices within
//! [`SILENCE`] that the other is gone, also when the network between them is cut and nothing is ever closed.

use crate::frame::Frame;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as channel;

/// The longest pause between two frames.
const BEAT: Duration = Duration::from_secs(2);
/// After this much silence the other side counts as gone. What it leaves then has time to end: ten seconds in all.
pub const SILENCE: Duration = Duration::from_secs(7);

/// What comes from the other side.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame; beats are left out.
    Frame(Frame),
    /// The stream has ended, or what came was no frame. What was read before the mark: a host's shell may greet.
    Closed(String),
    /// Nothing was heard for too long.
    Silent,
}

/// Sends frames; clones send to the same stream.
#[derive(Clone)]
pub struct Sender {
    queue: mpsc::Sender<Option<Frame>>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Sender {
    /// Sends a frame. When the other side is gone, the event says so.
    pub fn send(&self, frame: Frame) {
        let _ = self.queue.send(Some(frame));
    }

    /// Writes what was sent, as far as it is written within `limit`, and closes the stream.
    pub fn close(&self, limit: Duration) {
        let _ = self.queue.send(None);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let begun = Instant::now();
        while writer.as_ref().is_some_and(|writer| !writer.is_finished()) && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// When something was last heard.
struct Heard {
    begun: Instant,
    /// Milliseconds after `begun`; 0: nothing yet, so nothing is missed.
    at: AtomicU64,
    /// The receiver is slow and the reader waits for it: no silence of the other side.
    held: AtomicBool,
}

impl Heard {
    fn now(&self) {
        let now = self.begun.elapsed().as_millis() as u64;
        self.at.store(now.max(1), Ordering::SeqCst);
    }

    fn is_silent(&self, limit: Duration) -> bool {
        let at = self.at.load(Ordering::SeqCst);
        let now = self.begun.elapsed().as_millis() as u64;
        at != 0 && !self.held.load(Ordering::SeqCst) && now.saturating_sub(at) > limit.as_millis() as u64
    }
}

/// Starts the link. With a mark, frames begin behind it.
pub fn open(
    read: impl Read + Send + 'static,
    write: impl Write + Send + 'static,
    mark: Option<String>,
) -> (Sender, channel::Receiver<Event>) {
    open_with(read, write, mark, BEAT, SILENCE)
}

fn open_with(
    read: impl Read + Send + 'static,
    write: impl Write + Send + 'static,
    mark: Option<String>,
    beat: Duration,
    silence: Duration,
) -> (Sender, channel::Receiver<Event>) {
    let (queue, frames) = mpsc::channel();
    let (events, receiver) = channel::channel(1024);
    let heard = Arc::new(Heard {
        begun: Instant::now(),
        at: 0.into(),
        held: false.into(),
    });
    let writer = std::thread::spawn(move || write_all(write, &frames, beat));
    let watched = heard.clone();
    let silent = events.clone();
    std::thread::spawn(move || {
        while !silent.is_closed() {
            if watched.is_silent(silence) {
                let _ = silent.blocking_send(Event::Silent);
                return;
            }
            std::thread::sleep(beat.min(Duration::from_millis(500)));
        }
    });
    std::thread::spawn(move || read_all(Listening { read, heard }, mark, &events));
    let writer = Arc::new(Mutex::new(Some(writer)));
    (Sender { queue, writer }, receiver)
}

fn write_all(mut write: impl Write, frames: &mpsc::Receiver<Option<Frame>>, beat: Duration) {
    loop {
        let frame = match frames.recv_timeout(beat) {
            Ok(Some(frame)) => frame,
            Err(mpsc::RecvTimeoutError::Timeout) => Frame::Beat,
            Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        // The reader notices that the other side is gone.
        if write.write_all(&frame.encode()).and_then(|()| write.flush()).is_err() {
            return;
        }
    }
}

/// Any byte counts as heard: a large frame on a slow line takes its time.
struct Listening<R> {
    read: R,
    heard: Arc<Heard>,
}

impl<R: Read> Read for Listening<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.read.read(buffer)?;
        if self.heard.at.load(Ordering::SeqCst) != 0 {
            self.heard.now();
        }
        Ok(got)
    }
}

fn read_all<R: Read>(listening: Listening<R>, mark: Option<String>, events: &channel::Sender<Event>) {
    let heard = listening.heard.clone();
    let mut stream = std::io::BufReader::with_capacity(1 << 16, listening);
    let mut noise = Vec::new();
    if let Some(mark) = mark
        && !skip_to(&mut stream, &mark, &mut noise)
    {
        let _ = events.blocking_send(Event::Closed(String::from_utf8_lossy(&noise).into_owned()));
        return;
    }
    loop {
        let event = match Frame::read(&mut stream) {
            Ok(Some(frame)) => Event::Frame(frame),
            _ => Event::Closed(String::from_utf8_lossy(&noise).into_owned()),
        };
        heard.now();
        if event == Event::Frame(Frame::Beat) {
            continue;
        }
        let last = matches!(event, Event::Closed(_));
        heard.held.store(true, Ordering::SeqCst);
        let gone = events.blocking_send(event).is_err();
        heard.now();
        heard.held.store(false, Ordering::SeqCst);
        if last || gone {
            return;
        }
    }
}

/// Reads up to the mark and the end of its line; keeps the end of what came before. Whether the mark came.
fn skip_to(stream: &mut impl Read, mark: &str, noise: &mut Vec<u8>) -> bool {
    const KEPT: usize = 8192;
    let mark = format!("{mark}\n");
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) {
        noise.push(byte[0]);
        if noise.ends_with(mark.as_bytes()) {
            noise.truncate(noise.len() - mark.len());
            return true;
        }
        if noise.len() > 2 * KEPT {
            noise.drain(..KEPT);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const QUICK: Duration = Duration::from_millis(20);

    fn halves(stream: UnixStream) -> (UnixStream, UnixStream) {
        (stream.try_clone().unwrap(), stream)
    }

    #[test]
    fn frames_begin_behind_the_mark() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read, write) = halves(ours);
        let (_sender, mut events) = open(read, write, Some("mark-7".into()));
        let mut shell = theirs;
        shell.write_all(b"Welcome!\nmark-8\n\x01\x00mark-7\n").unwrap();
        shell.write_all(&Frame::Beat.encode()).unwrap();
        shell.write_all(&Frame::Ended.encode()).unwrap();
        assert_eq!(events.blocking_recv(), Some(Event::Frame(Frame::Ended)));
        drop(shell);
        assert_eq!(
            events.blocking_recv(),
            Some(Event::Closed("Welcome!\nmark-8\n\u{1}\0".into()))
        );
    }

    #[test]
    fn a_quiet_line_stays_alive_and_a_dead_one_is_noticed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read, write) = halves(ours);
        let (here, mut from_there) = open_with(read, write, None, QUICK, 20 * QUICK);
        let (read, write) = halves(theirs.try_clone().unwrap());
        let (there, mut from_here) = open_with(read, write, None, QUICK, 20 * QUICK);
        here.send(Frame::Credit(1));
        assert_eq!(from_here.blocking_recv(), Some(Event::Frame(Frame::Credit(1))));
        // Far longer than the limit, with nothing to say.
        std::thread::sleep(60 * QUICK);
        there.send(Frame::Ended);
        assert_eq!(from_there.blocking_recv(), Some(Event::Frame(Frame::Ended)));
        // Its beats stop, but nothing is closed: as when the network is cut.
        there.close(Duration::from_secs(5));
        assert_eq!(from_there.blocking_recv(), Some(Event::Silent));
    }
}
