//! `lightcell-remote launch`: what Jupyter starts for "Rust on NAME". It binds the addresses of the connection file, runs
//! one command (ssh, usually) at whose other end `lightcell-remote serve` is, and carries messages between the two. Without
//! a kernel it answers itself, so the user reads in the notebook what is wrong.

use crate::answer::{self, Report};
use crate::frame::{Channel, Frame, Hello, Problem};
use crate::front::{Front, Request};
use crate::link::{self, Event};
use crate::{kernel, words};
use anyhow::{Context, Result, bail};
use jupyter_protocol::connection_info::ConnectionInfo;
use jupyter_protocol::messaging::{ExecutionState, InterruptReply, JupyterMessage, JupyterMessageContent as Content};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What stands for the mark in the command.
const MARK: &str = "@MARK@";
/// A start that takes longer lets the front end believe in a kernel, so that a cell can say what it waits for.
const LONG: Duration = Duration::from_secs(5);
/// After the kernel's end, for the messages that are on their way to the front end.
const LAST: Duration = Duration::from_millis(100);
/// When the user's side has gone: for the last bytes of the line.
const FAREWELL: Duration = Duration::from_millis(500);

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

/// Goes the way to a kernel once and ends it again; prints each link, ok or with its mend. For `lightcell remote check`.
pub fn probe(name: &str, host: &str, command: &[String]) -> Result<ExitCode> {
    let begun = std::time::Instant::now();
    let options = Options {
        name: name.to_owned(),
        host: host.to_owned(),
        connection: PathBuf::new(),
        command: command.to_vec(),
    };
    let mut line = connect(&options, &kernel::random()?)?;
    let mut out = std::io::stdout();
    let mut say = |text: String| std::io::Write::write_all(&mut out, (text + "\n").as_bytes());
    let ok = |link: &str, what: &str| format!("✓ {link:<11} {what}");
    let problem = loop {
        match line.from.blocking_recv() {
            Some(Event::Frame(Frame::Waiting(waiting))) => say(ok("queue", &waiting.text))?,
            Some(Event::Frame(Frame::Ready(running))) => {
                say(ok("connection", host))?;
                let seconds = begun.elapsed().as_secs_f64();
                say(ok(
                    "kernel",
                    &format!("runs on {}, {seconds:.1} s after the start", running.machine),
                ))?;
                end(&mut line);
                return Ok(ExitCode::SUCCESS);
            }
            Some(Event::Frame(Frame::Failed(problem))) => {
                say(ok("connection", host))?;
                break ("kernel", problem);
            }
            Some(Event::Frame(_)) => {}
            Some(Event::Closed(noise)) => break ("connection", why_closed(&options, &noise, &mut line)),
            Some(Event::Silent) | None => break ("connection", words::lost(host, true)),
        }
    };
    let (link, Problem { what, hint }) = problem;
    say(format!("✗ {link:<11} {what}\n  {:<11} mend: {hint}", ""))?;
    end(&mut line);
    Ok(ExitCode::FAILURE)
}

/// Why the line was closed before there was a kernel.
fn why_closed(options: &Options, noise: &str, line: &mut Line) -> Problem {
    let mut code = None;
    for _ in 0..200 {
        if let Ok(Some(status)) = line.child.try_wait() {
            code = status.code();
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // What is in the pipe is read in a moment.
    std::thread::sleep(Duration::from_millis(50));
    let errors = line.stderr.lock().unwrap_or_else(PoisonError::into_inner);
    words::explain(&options.name, &options.host, &format!("{noise}\n{errors}"), code)
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

/// The command at work.
struct Line {
    child: Child,
    /// It is this program's `queue`, not an ssh.
    is_queue: bool,
    stderr: Arc<Mutex<String>>,
    to: link::Sender,
    from: mpsc::Receiver<Event>,
}

/// Starts the command. On the main thread, whose end is the process's: the command is told of it.
fn connect(options: &Options, key: &str) -> Result<Line> {
    use std::os::unix::process::CommandExt;
    let mark = format!("lightcell-{}", kernel::random()?);
    let mut words = options.command.iter().map(|word| word.replace(MARK, &mark));
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: the closure runs in the new process and makes system calls only.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let stderr = Arc::new(Mutex::new(String::new()));
    if let Some(pipe) = child.stderr.take() {
        kernel::keep_tail(pipe, stderr.clone());
    }
    let (read, write) = (
        child.stdout.take().context("no pipe")?,
        child.stdin.take().context("no pipe")?,
    );
    let (to, from) = link::open(read, write, Some(mark));
    to.send(Frame::Hello(Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        key: key.to_owned(),
    }));
    Ok(Line {
        child,
        is_queue: options.command.get(1).is_some_and(|word| word == "queue"),
        stderr,
        to,
        from,
    })
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
}

async fn launch(options: &Options, info: &ConnectionInfo) -> Result<i32> {
    let mut line = connect(options, &info.key);
    let to = match &line {
        Ok(line) => line.to.clone(),
        // Nobody listens.
        Err(_) => link::open(std::io::empty(), std::io::sink(), None).0,
    };
    let creditor = to.clone();
    let (front, mut requests) = Front::bind(info, move |bytes| creditor.send(Frame::Credit(bytes))).await?;
    let mut launcher = Launcher {
        options: options.clone(),
        front,
        to,
        phase: Phase::Starting,
        waiting: None,
        pending: Vec::new(),
        told: None,
        cells: Vec::new(),
        newest: None,
        notes: Vec::new(),
        ending: false,
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
        wait_for_parent();
        let _ = orphan.blocking_send(());
    });
    let mut long = Box::pin(tokio::time::sleep(LONG));
    loop {
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
                let code = launcher.event(event.unwrap_or(Event::Closed(String::new())), line.as_mut().ok()).await;
                if let Some(code) = code {
                    tokio::time::sleep(LAST).await;
                    return Ok(code);
                }
                if matches!(launcher.phase, Phase::Failed(_)) {
                    // Nothing more comes from there.
                    if let Ok(line) = &mut line {
                        end(line);
                    }
                    line = Err(anyhow::anyhow!("gone"));
                }
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

/// Ends the command. Its input is closed: the other side ends by that, also when the command does not.
fn end(line: &mut Line) {
    line.to.close(FAREWELL);
    let begun = std::time::Instant::now();
    while begun.elapsed() < FAREWELL {
        if !matches!(line.child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: a plain call; the child is ours and not reaped.
    unsafe { libc::kill(line.child.id() as i32, libc::SIGTERM) };
    std::thread::sleep(Duration::from_millis(50));
    // One that is stopped, or waits for a network that is gone, does not hear it. `queue` has a job to end yet.
    if !line.is_queue {
        let _ = line.child.kill();
    }
    let _ = line.child.try_wait();
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

    /// Something from the other side. The status to exit with, if that was all.
    async fn event(&mut self, event: Event, line: Option<&mut Line>) -> Option<i32> {
        match event {
            Event::Frame(Frame::Message(channel, parts)) => {
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
                self.phase = Phase::Running;
                for request in std::mem::take(&mut self.pending) {
                    self.give(request);
                }
            }
            Event::Frame(Frame::Note(text)) => match self.newest.clone() {
                Some(cell) => answer::note(&mut self.front, &text, Some(&cell)).await,
                None => self.notes.push(text),
            },
            Event::Frame(Frame::Failed(problem)) => self.fail(&problem).await,
            // As with a kernel of this machine: when it was not asked to end, the front end starts a new one.
            Event::Frame(Frame::Ended) => return Some(i32::from(!self.ending)),
            Event::Frame(_) => {}
            Event::Closed(_) if self.ending => return Some(0),
            Event::Closed(noise) => {
                let problem = match (&self.phase, line) {
                    (Phase::Starting, Some(line)) => why_closed(&self.options, &noise, line),
                    _ => words::lost(&self.options.host, false),
                };
                self.fail(&problem).await;
            }
            Event::Silent => self.fail(&words::lost(&self.options.host, true)).await,
        }
        None
    }

    /// There is no kernel any more, or never was: everything that waits is answered, and so is all that comes.
    async fn fail(&mut self, problem: &Problem) {
        let report = Report::new("RemoteError", problem);
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

/// Returns when the front end's process has gone: a killed one says nothing.
fn wait_for_parent() {
    // SAFETY: asks for a number.
    let parent = || unsafe { libc::getppid() };
    let first = parent();
    let named = std::env::var("JPY_PARENT_PID")
        .ok()
        .and_then(|pid| pid.parse::<i32>().ok());
    let named = named.filter(|pid| *pid > 1);
    // SAFETY: signal 0 only asks.
    let is_alive = |pid| unsafe { libc::kill(pid, 0) == 0 || *libc::__errno_location() == libc::EPERM };
    while parent() == first && named.is_none_or(is_alive) {
        std::thread::sleep(Duration::from_millis(500));
    }
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
