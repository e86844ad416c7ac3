//! The launcher's line: the command with the kernel at its other end, how it is started and ended, and a try of the whole way.

use super::Options;
use crate::frame::{Frame, Hello, Problem};
use crate::link::{self, Event};
use crate::{kernel, words};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// What stands for the mark in the command.
const MARK: &str = "@MARK@";
/// When the user's side has gone: for the last bytes of the line.
pub const FAREWELL: Duration = Duration::from_millis(500);

/// The command at work.
pub struct Line {
    child: Child,
    /// It is this program's `queue`, not an ssh.
    is_queue: bool,
    stderr: Arc<Mutex<String>>,
    pub to: link::Sender,
    pub from: mpsc::Receiver<Event>,
}

/// Starts the command; `attach` names the kept kernel that it is to reach again, and how many of its messages are here. On the main thread, whose end is the process's: the command is told of it.
pub fn connect(options: &Options, key: &str, attach: Option<(&str, u64)>) -> Result<Line> {
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
        attach: attach.map(|(name, _)| name.to_owned()),
        received: attach.map_or(0, |(_, received)| received),
    }));
    Ok(Line {
        child,
        is_queue: options.command.get(1).is_some_and(|word| word == "queue"),
        stderr,
        to,
        from,
    })
}

/// Ends the command. Its input is closed: the other side ends by that, also when the command does not.
pub fn end(line: &mut Line) {
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

/// Goes the way to a kernel once and ends it again; prints each link, ok or with its mend. For `lightcell remote check`.
pub fn probe(name: &str, host: &str, command: &[String]) -> Result<ExitCode> {
    let begun = std::time::Instant::now();
    let options = Options {
        name: name.to_owned(),
        host: host.to_owned(),
        connection: PathBuf::new(),
        command: command.to_vec(),
    };
    let mut line = connect(&options, &kernel::random()?, None)?;
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
pub fn why_closed(options: &Options, noise: &str, line: &mut Line) -> Problem {
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
