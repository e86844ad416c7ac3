//! `lightcell-remote launch`: what Jupyter starts for "Rust on NAME". It binds the addresses of the connection file, runs
//! one command (ssh, usually) at whose other end `lightcell-remote serve` is, and carries messages between the two. Without
//! a kernel it answers itself, so the user reads in the notebook what is wrong.

mod line;
mod parent;

pub use line::probe;

use crate::answer::{self, Report};
use crate::frame::{Channel, Frame, Problem};
use crate::front::{Front, Request};
use crate::link::{self, Event};
use crate::log::Log;
use crate::transfer::{self, Move, Transfers};
use crate::words;
use anyhow::{Context, Result, bail};
use jupyter_protocol::connection_info::ConnectionInfo;
use jupyter_protocol::messaging::{ExecutionState, InterruptReply, JupyterMessage, JupyterMessageContent as Content};
use line::{FAREWELL, Line, connect, end, why_closed};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// A start that takes longer lets the front end believe in a kernel, so that a cell can say what it waits for.
const LONG: Duration = Duration::from_secs(5);
/// After the kernel's end, for the messages that are on their way to the front end.
const LAST: Duration = Duration::from_millis(100);
/// From one try to reach a kept kernel again to the next.
const AGAIN: Duration = Duration::from_secs(3);

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The remote's name, as the user gave it.
    pub name: String,
    /// The host, as the user gave it to ssh; for messages.
    pub host: String,
    /// Jupyter's connection file.
    pub connection: PathBuf,
    /// The command with `serve` at its other end.
    pub command: Vec<String>,
}

impl Options {
    /// From the arguments behind `launch`.
    pub fn read(args: &[String]) -> Result<Options> {
        let usage = "usage: lightcell-remote launch NAME HOST -f FILE -- COMMAND…";
        let [name, host, flag, file, dashes, command @ ..] = args else {
            bail!(usage);
        };
        if flag != "-f" || dashes != "--" || command.is_empty() {
            bail!(usage);
        }
        Ok(Options {
            name: name.clone(),
            host: host.clone(),
            connection: file.into(),
            command: command.to_vec(),
        })
    }
}

/// Launches a kernel and stays until it, or whoever wanted it, has gone.
pub fn run(options: &Options) -> Result<ExitCode> {
    let text = std::fs::read_to_string(&options.connection)
        .with_context(|| format!("cannot read the connection file {}", options.connection.display()))?;
    let info: ConnectionInfo =
        serde_json::from_str(&text).context("the connection is no JSON of a Jupyter connection file")?;
    // SAFETY: a terminal's Ctrl-C means a cell; it comes as a message.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let runtime = crate::runtime()?;
    let code = runtime.block_on(launch(options, &info))?;
    // Threads that still read or write hold nothing.
    std::process::exit(code);
}

/// Where the launcher is.
enum Phase {
    /// The command runs, the kernel does not yet.
    Starting,
    /// Messages are carried.
    Running,
    /// There is no kernel and will be none.
    Failed(Report),
}

struct Launcher {
    options: Options,
    front: Front,
    to: link::Sender,
    phase: Phase,
    /// The start takes long, or waits in a queue: what is to be said about it.
    waiting: Option<String>,
    /// Requests that wait for the kernel.
    pending: Vec<Request>,
    /// The cell whose output says what is being waited for.
    told: Option<JupyterMessage>,
    /// Cells that the kernel has and has not answered.
    cells: Vec<JupyterMessage>,
    /// The newest of all cells: notes go below it.
    newest: Option<JupyterMessage>,
    /// Notes for which there was no cell yet.
    notes: Vec<String>,
    /// The front end asked for the end.
    ending: bool,
    /// Under which name the kernel is kept, when this line is cut.
    kept: Option<String>,
    /// The line is cut; the kernel goes on there.
    cut: bool,
    /// How many messages of a kept kernel have arrived.
    received: u64,
    /// What a kept kernel was sent: it may be on its way when the line is cut.
    sent: Log,
    /// Files that a cell wants here or there.
    transfers: Transfers,
}

/// What comes of an event.
enum Then {
    Go,
    /// The kernel has ended: exit with this status.
    Exit(i32),
    /// The line is gone, the kernel is not.
    Again,
}

async fn launch(options: &Options, info: &ConnectionInfo) -> Result<i32> {
    let mut line = connect(options, &info.key, None);
    let to = match &line {
        Ok(line) => line.to.clone(),
        // Nobody listens.
        Err(_) => link::open(std::io::empty(), std::io::sink(), None).0,
    };
    let creditor = Arc::new(Mutex::new(to.clone()));
    let credited = creditor.clone();
    let credit = move |bytes| {
        let to = credited.lock().unwrap_or_else(PoisonError::into_inner);
        to.send(Frame::Credit(bytes));
    };
    let (front, mut requests) = Front::bind(info, credit).await?;
    let mut launcher = Launcher {
        options: options.clone(),
        front,
        transfers: Transfers::new(to.clone()),
        to,
        phase: Phase::Starting,
        waiting: None,
        pending: Vec::new(),
        told: None,
        cells: Vec::new(),
        newest: None,
        notes: Vec::new(),
        ending: false,
        kept: None,
        cut: false,
        received: 0,
        sent: Log::default(),
    };
    if let Err(error) = &line {
        let problem = Problem::new(
            format!("{error:#}"),
            "install OpenSSH's client, then restart the kernel",
        );
        launcher.fail(&problem).await;
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let (orphan, mut orphaned) = mpsc::channel(1);
    std::thread::spawn(move || {
        parent::wait_for_parent();
        let _ = orphan.blocking_send(());
    });
    let mut long = Box::pin(tokio::time::sleep(LONG));
    let mut again = Box::pin(tokio::time::sleep(AGAIN));
    loop {
        let is_cut = launcher.cut && line.is_err();
        let event = async {
            match &mut line {
                Ok(line) => line.from.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return Ok(1) };
                if launcher.request(request).await {
                    tokio::time::sleep(LAST).await;
                    break;
                }
            }
            event = event => {
                let then = launcher.event(event.unwrap_or(Event::Closed(String::new())), line.as_mut().ok()).await;
                match then {
                    Then::Go => {}
                    Then::Exit(code) => {
                        tokio::time::sleep(LAST).await;
                        return Ok(code);
                    }
                    Then::Again => {
                        if let Ok(line) = &mut line {
                            end(line);
                        }
                        line = Err(anyhow::anyhow!("cut"));
                        again.as_mut().reset(tokio::time::Instant::now() + AGAIN);
                    }
                }
                if matches!(launcher.phase, Phase::Failed(_)) {
                    // Nothing more comes from there.
                    if let Ok(line) = &mut line {
                        end(line);
                    }
                    line = Err(anyhow::anyhow!("gone"));
                }
            }
            () = &mut again, if is_cut => {
                line = connect(options, &info.key, launcher.kept.as_deref().map(|id| (id, launcher.received)));
                if let Ok(line) = &line {
                    launcher.to = line.to.clone();
                    launcher.transfers = Transfers::new(line.to.clone());
                    *creditor.lock().unwrap_or_else(PoisonError::into_inner) = line.to.clone();
                }
                again.as_mut().reset(tokio::time::Instant::now() + AGAIN);
            }
            () = &mut long, if matches!(launcher.phase, Phase::Starting) && launcher.waiting.is_none() => {
                let text = format!("connecting to {} …", launcher.options.host);
                launcher.wait(text).await;
            }
            _ = orphaned.recv() => break,
            _ = terminated.recv() => break,
            _ = hung_up.recv() => break,
        }
    }
    if let Ok(line) = &mut line {
        line.to.close(FAREWELL);
        end(line);
    }
    Ok(0)
}

impl Launcher {
    /// A request of the front end. Whether it was the last.
    async fn request(&mut self, request: Request) -> bool {
        let is_shutdown = matches!(request.message.content, Content::ShutdownRequest(_));
        if matches!(request.message.content, Content::ExecuteRequest(_)) {
            self.newest = Some(request.message.clone());
            for text in std::mem::take(&mut self.notes) {
                answer::note(&mut self.front, &text, Some(&request.message)).await;
            }
        }
        match &self.phase {
            Phase::Running => {
                self.ending |= is_shutdown && request.channel == Channel::Control;
                self.give(request);
                false
            }
            _ if is_shutdown => {
                // One that starts is not to be kept.
                self.to.send(Frame::End);
                answer::shutdown(&mut self.front, &request).await;
                request.channel == Channel::Control
            }
            Phase::Failed(report) => {
                answer::without_kernel(&mut self.front, &request, &report.clone()).await;
                false
            }
            Phase::Starting => {
                self.before_start(request).await;
                false
            }
        }
    }

    fn give(&mut self, request: Request) {
        if matches!(request.message.content, Content::ExecuteRequest(_)) {
            self.cells.push(request.message);
        }
        if self.kept.is_some() {
            self.sent.push(request.channel, request.parts.clone(), 0);
            self.sent.forget_old();
        }
        self.to.send(Frame::Message(request.channel, request.parts));
    }

    async fn before_start(&mut self, request: Request) {
        match &request.message.content {
            Content::InterruptRequest(_) => {
                let interrupted = Problem::new(
                    "stopped before the kernel was there; it is still being waited for",
                    "run the cell again, or shut the kernel down to give up waiting",
                );
                let report = Report::new("Interrupted", &interrupted);
                let cells = |request: &mut Request| matches!(request.message.content, Content::ExecuteRequest(_));
                for cell in self.pending.extract_if(.., cells).collect::<Vec<_>>() {
                    answer::without_kernel(&mut self.front, &cell, &report).await;
                }
                self.told = None;
                self.front
                    .reply(request.channel, InterruptReply::new(), &request.message)
                    .await;
            }
            Content::KernelInfoRequest(_) if self.waiting.is_some() => {
                self.answer_info(&request).await;
            }
            _ => {
                self.pending.push(request);
                self.tell().await;
            }
        }
    }

    async fn answer_info(&mut self, request: &Request) {
        let none = Report::new("RemoteError", &Problem::new("", ""));
        answer::without_kernel(&mut self.front, request, &none).await;
    }

    /// The start takes its time: the front end gets its first answers, and a cell says why it waits.
    async fn wait(&mut self, text: String) {
        if self.waiting.as_ref() == Some(&text) {
            return;
        }
        self.waiting = Some(text);
        let infos = |request: &mut Request| matches!(request.message.content, Content::KernelInfoRequest(_));
        for request in self.pending.extract_if(.., infos).collect::<Vec<_>>() {
            self.answer_info(&request).await;
        }
        self.tell().await;
    }

    /// Says in the output of the first cell that waits what it waits for.
    async fn tell(&mut self) {
        let Some(text) = self.waiting.clone() else { return };
        let first = self.told.is_none();
        if first {
            let mut cells = self.pending.iter().map(|request| &request.message);
            let Some(cell) = cells.find(|cell| matches!(cell.content, Content::ExecuteRequest(_))) else {
                return;
            };
            self.told = Some(cell.clone());
        }
        if let Some(cell) = self.told.clone() {
            if first {
                answer::state(&mut self.front, ExecutionState::Busy, &cell).await;
            }
            answer::progress(&mut self.front, &text, &id(&cell), first, &cell).await;
        }
    }

    /// The line is cut, and the kernel at its other end goes on: it is tried again.
    async fn lost(&mut self, problem: &Problem) -> Then {
        if self.kept.is_none() {
            self.fail(problem).await;
            return Then::Go;
        }
        self.transfers.forget_all();
        if !self.cut {
            self.cut = true;
            let text = format!(
                "the connection to {} is lost; the kernel there is kept, and is tried again every {} seconds",
                self.options.host,
                AGAIN.as_secs()
            );
            self.phase = Phase::Starting;
            self.say(&text).await;
            self.wait(text).await;
        }
        Then::Again
    }

    /// Says it below the newest cell, or the next.
    async fn say(&mut self, text: &str) {
        match self.newest.clone() {
            Some(cell) => answer::note(&mut self.front, text, Some(&cell)).await,
            None => self.notes.push(text.to_owned()),
        }
    }

    /// Something from the other side.
    async fn event(&mut self, event: Event, line: Option<&mut Line>) -> Then {
        match event {
            Event::Frame(Frame::Message(channel, parts)) => {
                self.received += 1;
                if channel == Channel::Shell
                    && let Some(id) = parent_of(&parts)
                {
                    self.cells.retain(|cell| cell.header.msg_id != id);
                }
                self.front.hand_on(channel, parts).await;
            }
            Event::Frame(Frame::Waiting(waiting)) => self.wait(waiting.text).await,
            Event::Frame(Frame::Ready(running)) => {
                if let Some(cell) = self.told.take() {
                    let text = match running.text.as_str() {
                        "" => format!("the kernel runs on {}", running.machine),
                        text => text.to_owned(),
                    };
                    answer::progress(&mut self.front, &text, &id(&cell), false, &cell).await;
                }
                self.waiting = None;
                self.kept = running.kept;
                self.phase = Phase::Running;
                if std::mem::take(&mut self.cut) {
                    let text = format!("the connection to {} is there again", self.options.host);
                    self.say(&text).await;
                    match running.received {
                        Some(received) => {
                            for sent in self.sent.after(received) {
                                self.to.send(Frame::Message(sent.channel, sent.parts.clone()));
                            }
                        }
                        // Another front end was there in between.
                        None => (self.sent, self.received) = (Log::default(), 0),
                    }
                }
                for request in std::mem::take(&mut self.pending) {
                    self.give(request);
                }
            }
            Event::Frame(Frame::Note(text)) => self.say(&text).await,
            Event::Frame(Frame::Failed(problem)) => self.fail(&problem).await,
            // As with a kernel of this machine: when it was not asked to end, the front end starts a new one.
            Event::Frame(Frame::Ended) => return Then::Exit(i32::from(!self.ending)),
            Event::Frame(Frame::Move(Move::Ask { id, upload, path, name })) => self.carry(id, upload, &path, &name),
            Event::Frame(Frame::Move(word)) => drop(self.transfers.said(word)),
            Event::Frame(Frame::Piece(id, piece)) => drop(self.transfers.piece(id, &piece)),
            Event::Frame(_) => {}
            Event::Closed(_) if self.ending => return Then::Exit(0),
            Event::Closed(noise) => {
                let problem = match (&self.phase, line) {
                    (Phase::Starting, Some(line)) if !self.cut => why_closed(&self.options, &noise, line),
                    _ => words::lost(&self.options.host, false),
                };
                return self.lost(&problem).await;
            }
            Event::Silent => return self.lost(&words::lost(&self.options.host, true)).await,
        }
        Then::Go
    }

    /// A cell wants a file. Paths are relative to the folder in which the front end has started this, the notebook's.
    fn carry(&mut self, id: u32, upload: bool, path: &str, name: &str) {
        let mut path = transfer::home_of(path);
        if !upload && path.is_dir() {
            path.push(name);
        }
        let begun = if upload {
            self.transfers.send(id, &path)
        } else {
            self.transfers.take(id, &path)
        };
        if let Err(error) = begun {
            self.transfers.cancel(id, &format!("{error:#}"));
        }
    }

    /// There is no kernel any more, or never was: everything that waits is answered, and so is all that comes.
    async fn fail(&mut self, problem: &Problem) {
        let report = Report::new("RemoteError", problem);
        self.cut = false;
        self.phase = Phase::Failed(report.clone());
        for cell in std::mem::take(&mut self.cells) {
            answer::failed(&mut self.front, &cell, &report, false).await;
        }
        for request in std::mem::take(&mut self.pending) {
            answer::without_kernel(&mut self.front, &request, &report).await;
        }
    }
}

/// Of the output that says what a cell waits for.
fn id(cell: &JupyterMessage) -> String {
    format!("lightcell-remote-{}", cell.header.msg_id)
}

/// The request that a reply belongs to.
fn parent_of(parts: &[bytes::Bytes]) -> Option<String> {
    let parent = parts.iter().skip_while(|part| part[..] != *b"<IDS|MSG>").nth(3)?;
    let parent: serde_json::Value = serde_json::from_slice(parent).ok()?;
    Some(parent["msg_id"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read() {
        let args = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let options = Options::read(&args("gpu u@h -f /c.json -- ssh -T h serve")).unwrap();
        assert_eq!(
            options,
            Options {
                name: "gpu".into(),
                host: "u@h".into(),
                connection: "/c.json".into(),
                command: args("ssh -T h serve"),
            }
        );
        for wrong in ["gpu h -f /c.json --", "gpu h /c.json -f -- ssh", "gpu"] {
            assert!(Options::read(&args(wrong)).is_err(), "{wrong}");
        }
    }
}
