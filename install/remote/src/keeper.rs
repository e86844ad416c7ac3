//! `lightcell-remote keeper NAME SECONDS ROLE…`: holds a kernel's line while no launcher is there. It lives in a session of
//! its own, so it stays when ssh goes. Launchers come by a Unix socket, one at a time; what the kernel says to nobody is kept
//! up to a limit. When nobody has come for so many seconds, it ends the kernel.

use crate::backlog::{self, Backlog};
use crate::frame::{Channel, Frame, Hello, Problem, Running};
use crate::kept::{self, Record, span};
use crate::kernel::Sockets;
use crate::link::{self, Event};
use crate::log::Log;
use crate::sign::{self, Field};
use crate::transfer::Move;
use crate::{kernel, plug, serve};
use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Before the time is over, a run has so long to write its checkpoint; of a short time, half.
const BEFORE: u64 = 60;
/// The kernel has so long to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_millis(500);

/// Keeps a kernel.
pub fn run(name: &str, limit: &str, role: &[String]) -> Result<ExitCode> {
    let mut stdout = serve::take_stdout()?;
    let prepared = prepare(name, limit, role);
    let (keeper, listener, from) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            writeln!(stdout, "error {error:#}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    writeln!(stdout, "at {}", keeper.record.socket.display())?;
    drop(stdout);
    crate::runtime()?.block_on(keeper.keep(listener, from))?;
    std::process::exit(0);
}

type Prepared = (Keeper, UnixListener, mpsc::Receiver<Event>);

fn prepare(name: &str, limit: &str, role: &[String]) -> Result<Prepared> {
    let home = serve::home()?;
    let limit: u64 = limit.parse().context("the time is no number of seconds")?;
    let sockets = Sockets::create(Path::new("/tmp"))?;
    let socket = sockets.path().join("keep");
    let listener = UnixListener::bind(&socket).with_context(|| format!("cannot bind {}", socket.display()))?;
    let mark = format!("lightcell-{}", kernel::random()?);
    let (first, rest) = role.split_first().context("no role")?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command
        .args([first, &mark])
        .args(rest)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start the kernel's side")?;
    let (read, write) = (
        child.stdout.take().context("no pipe")?,
        child.stdin.take().context("no pipe")?,
    );
    let (to, from) = link::open(read, write, Some(mark));
    let record = Record {
        id: kernel::random()?[..6].to_owned(),
        name: name.to_owned(),
        socket,
        fingerprint: String::new(),
        since: kept::now(),
        until: Some(kept::now() + limit),
        limit,
    };
    record.write(&home)?;
    let keeper = Keeper {
        home,
        record,
        sockets,
        child,
        to,
        key: kernel::random()? + &kernel::random()?,
        greeted: false,
        ready: None,
        waiting: None,
        notes: Vec::new(),
        backlog: Backlog::default(),
        client: None,
        former: Default::default(),
        guests: HashMap::new(),
        next: 0,
        warned: false,
    };
    Ok((keeper, listener, from))
}

/// A launcher.
struct Client {
    number: u64,
    to: link::Sender,
    stream: UnixStream,
    /// Its front end's.
    key: String,
    /// Sessions of its front ends.
    sessions: HashSet<String>,
    /// The header of its newest cell: what belongs to nobody here is shown there.
    cell: Option<Bytes>,
    /// Displays of former front ends that this one has seen.
    displays: HashSet<String>,
    /// How many of its messages have arrived.
    received: u64,
    /// What it was sent and has not seen for sure.
    sent: Log,
}

/// What is left of a launcher, for when it is there again: sessions, newest cell, how much has arrived here and there.
type Former = (HashSet<String>, Option<Bytes>, u64, Log);

struct Keeper {
    home: PathBuf,
    record: Record,
    /// Holds the socket's folder.
    sockets: Sockets,
    /// The kernel's side.
    child: Child,
    to: link::Sender,
    /// The kernel's key.
    key: String,
    greeted: bool,
    ready: Option<Running>,
    waiting: Option<Frame>,
    /// Told while nobody was there.
    notes: Vec<String>,
    backlog: Backlog,
    client: Option<Client>,
    /// Sessions and newest cell of the one that was here last.
    former: Former,
    /// They have said nothing yet.
    guests: HashMap<u64, Client>,
    next: u64,
    warned: bool,
}

impl Keeper {
    async fn keep(mut self, listener: UnixListener, mut from: mpsc::Receiver<Event>) -> Result<()> {
        let (arrived, mut arrivals) = mpsc::channel(4);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if arrived.blocking_send(stream).is_err() {
                    return;
                }
            }
        });
        let (heard, mut said) = mpsc::channel::<(u64, Event)>(1024);
        let mut terminated = signal(SignalKind::terminate())?;
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                event = from.recv() => if let Some(last) = self.kernel_said(event.unwrap_or(Event::Silent)) {
                    self.finish(Some(last));
                    return Ok(());
                },
                Some(stream) = arrivals.recv() => self.arrived(stream, &heard),
                Some((number, event)) = said.recv() => if self.client_said(number, event) {
                    kept::take_word(&self.home, &self.record.name);
                    self.finish(Some(Frame::Ended));
                    return Ok(());
                },
                _ = tick.tick() => if self.time_is_over() {
                    let after = span(self.record.limit);
                    let word = format!("nobody was connected for {after}");
                    kept::leave_word(&self.home, &self.record.name, &word);
                    self.finish(None);
                    return Ok(());
                },
                _ = terminated.recv() => {
                    kept::leave_word(&self.home, &self.record.name, "its keeper was told to end");
                    self.finish(Some(Frame::Failed(serve::told_to_end())));
                    return Ok(());
                }
            }
        }
    }

    /// Ends the kernel and says a last word.
    fn finish(&mut self, last: Option<Frame>) {
        self.to.close(LAST);
        let begun = std::time::Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.record.remove(&self.home);
        let _ = std::fs::remove_dir_all(self.sockets.path());
        if let (Some(client), Some(frame)) = (&self.client, last) {
            client.to.send(frame);
            client.to.close(LAST);
        }
    }

    fn time_is_over(&mut self) -> bool {
        let Some(until) = self.record.until.filter(|_| self.client.is_none()) else {
            return false;
        };
        let left = until.saturating_sub(kept::now());
        if !self.warned && left <= BEFORE.min(self.record.limit / 2) {
            self.warned = true;
            self.to.send(Frame::Leave);
        }
        left == 0
    }

    /// A stream at the socket: its first frame says who it is.
    fn arrived(&mut self, stream: UnixStream, heard: &mpsc::Sender<(u64, Event)>) {
        let (Ok(read), Ok(write)) = (stream.try_clone(), stream.try_clone()) else {
            return;
        };
        let (to, mut events) = link::open(read, write, None);
        self.next += 1;
        let (number, heard) = (self.next, heard.clone());
        let guest = Client {
            number,
            to,
            stream,
            key: String::new(),
            sessions: HashSet::new(),
            cell: None,
            displays: HashSet::new(),
            received: 0,
            sent: Log::default(),
        };
        // It takes no place yet: some only look whether anybody is here.
        self.guests.insert(number, guest);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let last = !matches!(event, Event::Frame(_));
                if heard.send((number, event)).await.is_err() || last {
                    return;
                }
            }
        });
    }

    /// The launcher that is here goes.
    fn leave_off(&mut self) {
        let Some(mut client) = self.client.take() else { return };
        let _ = client.stream.shutdown(std::net::Shutdown::Both);
        client.to.close(Duration::ZERO);
        self.to.send(Frame::Move(Move::Gone));
        for size in client.sent.take_sizes() {
            self.credit(size);
        }
        self.former = (client.sessions, client.cell, client.received, client.sent);
        self.record.until = Some(kept::now() + self.record.limit);
        self.warned = false;
        let _ = self.record.write(&self.home);
    }

    fn credit(&self, size: i64) {
        if let Ok(size @ 1..) = u32::try_from(size) {
            self.to.send(Frame::Credit(size));
        }
    }

    /// A word of a launcher. Whether the kernel is to end.
    fn client_said(&mut self, number: u64, event: Event) -> bool {
        if let Some(guest) = self.guests.remove(&number) {
            match event {
                Event::Frame(Frame::End) => return true,
                Event::Frame(Frame::Hello(hello)) => self.welcome(guest, hello),
                _ => {
                    let _ = guest.stream.shutdown(std::net::Shutdown::Both);
                }
            }
            return false;
        }
        if self.client.as_ref().is_none_or(|client| client.number != number) {
            // One that has been replaced.
            return false;
        }
        match event {
            Event::Frame(Frame::End) => return true,
            Event::Frame(Frame::Message(channel, parts)) => {
                if let Some(client) = &mut self.client {
                    client.received += 1;
                }
                self.give(channel, parts);
            }
            Event::Frame(Frame::Credit(_)) => {
                let size = self.client.as_mut().map_or(0, |client| client.sent.arrived());
                self.credit(size);
            }
            Event::Frame(frame) => self.to.send(frame),
            Event::Closed(_) | Event::Silent => self.leave_off(),
        }
        false
    }

    /// A launcher comes. Only the one that is here already, and whose line was cut, takes its own place.
    fn welcome(&mut self, guest: Client, hello: Hello) {
        if self.client.is_some() && !self.was_here(&hello) {
            guest.to.send(Frame::Failed(Problem::new(
                format!("the kernel that is kept on {} has a front end", serve::machine()),
                "restart the kernel: there will be another one",
            )));
            guest.to.close(LAST);
            let _ = guest.stream.shutdown(std::net::Shutdown::Both);
            return;
        }
        self.leave_off();
        self.client = Some(guest);
        self.greet(hello);
    }

    /// Whether it is the one that is, or was last, here.
    fn was_here(&self, hello: &Hello) -> bool {
        let fingerprint = sign::fingerprint(&hello.key);
        hello.attach.as_ref() == Some(&self.record.id) && fingerprint == self.record.fingerprint
    }

    /// A launcher's first word.
    fn greet(&mut self, hello: Hello) {
        let again = self.was_here(&hello);
        self.record.until = None;
        self.record.fingerprint = sign::fingerprint(&hello.key);
        let _ = self.record.write(&self.home);
        if let Some(client) = &mut self.client {
            client.key = hello.key;
            if again {
                (client.sessions, client.cell, client.received, client.sent) = std::mem::take(&mut self.former);
            }
        }
        if !self.greeted {
            self.greeted = true;
            self.to.send(Frame::Hello(Hello {
                version: hello.version,
                key: self.key.clone(),
                attach: None,
                received: 0,
            }));
            if let Some(word) = kept::take_word(&self.home, &self.record.name) {
                self.tell(Frame::Note(format!(
                    "the kernel that was kept before has ended: {word}"
                )));
            }
            self.tell(Frame::Note(format!(
                "this kernel is kept: when its front end is gone it goes on for {}, and \"Rust on {}\" comes back to it; shutting \
                 it down ends it, and so does `lightcell remote end {}`",
                span(self.record.limit),
                self.record.name,
                self.record.name
            )));
        } else if !again {
            self.tell(Frame::Note(format!(
                "this is the kernel that was kept on {}, {} old, with its variables; a restart begins anew",
                serve::machine(),
                span(kept::now().saturating_sub(self.record.since))
            )));
        }
        for text in std::mem::take(&mut self.notes) {
            self.tell(Frame::Note(text));
        }
        if let Some(waiting) = self.waiting.clone() {
            self.tell(waiting);
        }
        if let Some(mut running) = self.ready.clone() {
            running.kept = Some(self.record.id.clone());
            running.received = self.client.as_ref().filter(|_| again).map(|client| client.received);
            self.tell(Frame::Ready(running));
        }
        if again {
            // The same front end: as if nothing had been between.
            if let Some(client) = &mut self.client {
                client.sent.drop_first(hello.received);
                for sent in client.sent.after(0) {
                    client.to.send(Frame::Message(sent.channel, sent.parts.clone()));
                }
            }
            self.say_lost();
            for (channel, parts) in self.backlog.take() {
                self.pass(channel, parts, 0);
            }
        }
    }

    fn say_lost(&self) {
        if let Some(lost) = self.backlog.lost() {
            self.tell(Frame::Note(lost));
        }
    }

    fn tell(&self, frame: Frame) {
        if let Some(client) = &self.client {
            client.to.send(frame);
        }
    }

    /// From the front end to the kernel.
    fn give(&mut self, channel: Channel, mut parts: Vec<Bytes>) {
        let kind = plug::kind(parts.iter());
        let Some(client) = &mut self.client else { return };
        if let Some(header) = sign::read(&parts, Field::Header)
            && let Some(session) = header["session"].as_str()
            && !client.sessions.contains(session)
        {
            client.sessions.insert(session.to_owned());
        }
        let mut first = false;
        if kind.as_deref() == Some("execute_request") {
            first = client.cell.is_none();
            client.cell = sign::raw(&parts, Field::Header).cloned();
        }
        sign::sign(&mut parts, &self.key);
        self.to.send(Frame::Message(channel, parts));
        if first {
            self.say_lost();
            for (channel, parts) in self.backlog.take() {
                self.show_stray(channel, parts, 0);
            }
        }
    }

    /// A word of the kernel's side. The last one for the launcher, if that was its end.
    fn kernel_said(&mut self, event: Event) -> Option<Frame> {
        match event {
            Event::Frame(Frame::Message(channel, parts)) => self.message(channel, parts),
            Event::Frame(Frame::Ready(running)) => {
                self.waiting = None;
                self.ready = Some(running.clone());
                let kept = Some(self.record.id.clone());
                self.tell(Frame::Ready(Running { kept, ..running }));
            }
            Event::Frame(Frame::Note(text)) if !self.is_connected() => self.notes.push(text),
            Event::Frame(frame @ Frame::Waiting(_)) => {
                self.waiting = Some(frame.clone());
                self.tell(frame);
            }
            Event::Frame(frame @ Frame::Ended) => {
                return Some(self.alone(frame, "it was told to end, or its process has ended"));
            }
            Event::Frame(Frame::Failed(problem)) => {
                let what = problem.what.clone();
                return Some(self.alone(Frame::Failed(problem), &what));
            }
            // Nobody has that file.
            Event::Frame(Frame::Move(Move::Ask { .. })) if !self.is_connected() => {
                self.to.send(Frame::Move(Move::Gone))
            }
            Event::Frame(frame) => self.tell(frame),
            Event::Closed(_) | Event::Silent => {
                let what = format!("the kernel's side on {} has ended", serve::machine());
                let problem = Problem::new(
                    format!("{what}; its variables are gone"),
                    "restart the kernel to begin anew",
                );
                return Some(self.alone(Frame::Failed(problem), &what));
            }
        }
        None
    }

    /// The last frame; when nobody hears it, the next who comes is told.
    fn alone(&self, frame: Frame, word: &str) -> Frame {
        if !self.is_connected() {
            kept::leave_word(&self.home, &self.record.name, word);
        }
        frame
    }

    fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// From the kernel to the front end, if it is there and the message is one of its own.
    fn message(&mut self, channel: Channel, parts: Vec<Bytes>) {
        let size = if channel == Channel::Iopub {
            plug::size(&parts)
        } else {
            0
        };
        let parent = sign::read(&parts, Field::Parent).unwrap_or_default();
        let is_status = channel == Channel::Iopub && plug::kind(parts.iter()).as_deref() == Some("status");
        match &self.client {
            Some(client) => {
                let session = parent["session"].as_str();
                let own = session.is_none_or(|session| client.sessions.contains(session));
                if own || is_status {
                    self.pass(channel, parts, size);
                } else if client.cell.is_some() {
                    self.show_stray(channel, parts, size);
                } else {
                    self.keep_for_later(channel, parts, size);
                }
            }
            None => self.keep_for_later(channel, parts, size),
        }
    }

    fn keep_for_later(&mut self, channel: Channel, parts: Vec<Bytes>, size: i64) {
        self.backlog.push(channel, parts);
        // The cell goes on.
        self.credit(size);
    }

    /// To the launcher; it counts for `size` at the kernel's side.
    fn pass(&mut self, channel: Channel, mut parts: Vec<Bytes>, size: i64) {
        let Some(client) = &mut self.client else { return };
        sign::sign(&mut parts, &client.key);
        client.sent.push(channel, parts.clone(), size);
        client.to.send(Frame::Message(channel, parts));
    }

    /// What belongs to a cell of a front end that has gone: outputs are shown below the newest cell of this one.
    fn show_stray(&mut self, channel: Channel, mut parts: Vec<Bytes>, size: i64) {
        let kind = plug::kind(parts.iter()).unwrap_or_default();
        let output = [
            "stream",
            "display_data",
            "execute_result",
            "update_display_data",
            "error",
        ]
        .contains(&kind.as_str());
        let cell = self.client.as_ref().and_then(|client| client.cell.clone());
        let (true, true, Some(cell)) = (channel == Channel::Iopub, output, cell) else {
            self.credit(size);
            return;
        };
        sign::put(&mut parts, Field::Parent, cell);
        let id = backlog::display_id(&parts);
        if let (Some(id), Some(client)) = (id, &mut self.client) {
            let new = client.displays.insert(id);
            // Its first state was shown elsewhere.
            if new && kind == "update_display_data" {
                rename(&mut parts, "display_data");
            }
        }
        if kind == "execute_result" {
            rename(&mut parts, "display_data");
        }
        self.pass(channel, parts, size);
    }
}

/// Makes a message of another type.
fn rename(parts: &mut [Bytes], kind: &str) {
    if let Some(mut header) = sign::read(parts, Field::Header) {
        header["msg_type"] = Value::from(kind);
        sign::put(parts, Field::Header, header.to_string().into());
    }
}
