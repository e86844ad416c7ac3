//! `lightcell-remote serve MARK`: on the machine where the kernel runs. It starts the kernel, connects to its sockets and
//! carries messages over its own standard input and output. When that line ends or goes silent, so does everything here.

use crate::files::Files;
use crate::frame::{Frame, Problem, Running};
use crate::kernel::{self, Kernel, Sockets};
use crate::link::{self, Event};
use crate::plug::Plug;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Receiver;

/// For what is still to be written at the end.
const LAST: Duration = Duration::from_millis(500);
/// A kernel that does not bind its sockets for so long does not start any more.
const START: Duration = Duration::from_secs(120);

/// In the message of a task that was told to end from outside.
pub const TOLD: &str = "was told to end";

/// Serves until the launcher or the kernel has gone.
pub fn run(mark: &str) -> Result<ExitCode> {
    let mut stdout = take_stdout()?;
    kernel::adopt_orphans();
    writeln!(stdout, "\n{mark}")?;
    stdout.flush()?;
    let (to, from) = link::open(std::io::stdin(), stdout, None);
    let runtime = crate::runtime()?;
    let said = runtime.block_on(serve(&to, from));
    match said {
        Ok(()) => to.send(Frame::Ended),
        Err(problem) => to.send(Frame::Failed(problem)),
    }
    to.close(LAST);
    // Threads that still read or write hold nothing.
    std::process::exit(0);
}

/// Standard output as a file of this program alone: nothing else may write between the frames.
pub fn take_stdout() -> Result<File> {
    // SAFETY: descriptor calls; the copy is then owned by the file. /dev/null takes its place.
    unsafe {
        let copy = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 {
            return Err(std::io::Error::last_os_error()).context("there is no standard output");
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if null >= 0 {
            libc::dup2(null, 1);
            libc::close(null);
        }
        Ok(File::from_raw_fd(copy))
    }
}

/// The installation's folder: this program is in its `bin`.
pub fn home() -> Result<PathBuf> {
    let me = std::env::current_exe().context("cannot find this program")?;
    let home = me.parent().and_then(Path::parent);
    Ok(home.context("this program is in no installation")?.to_owned())
}

async fn serve(to: &link::Sender, mut from: Receiver<Event>) -> Result<(), Problem> {
    let Some(Event::Frame(Frame::Hello(hello))) = from.recv().await else {
        return Ok(());
    };
    if hello.version != env!("CARGO_PKG_VERSION") {
        return Err(Problem::new(
            format!(
                "here is Lightcell {}, on {} is {}",
                hello.version,
                machine(),
                env!("CARGO_PKG_VERSION")
            ),
            "bring both to the same version; `lightcell remote add` with the same name does so there",
        ));
    }
    let failed = |error: anyhow::Error| explain(&format!("{error:#}"));
    let home = home().map_err(failed)?;
    let sockets = Sockets::create(Path::new("/tmp")).map_err(failed)?;
    let connection = sockets.connection(&hello.key);
    let mut kernel = Kernel::start(&home, &connection).map_err(failed)?;
    // Whatever happens in between: the kernel is ended, and the folder goes when `sockets` is dropped.
    let result = with_kernel(&mut kernel, &sockets, &connection, to, from).await;
    kernel.end();
    result
}

async fn with_kernel(
    kernel: &mut Kernel,
    sockets: &Sockets,
    connection: &jupyter_protocol::connection_info::ConnectionInfo,
    to: &link::Sender,
    mut from: Receiver<Event>,
) -> Result<(), Problem> {
    let told = |kind| signal(kind).map_err(|error| explain(&error.to_string()));
    let (mut terminated, mut hung_up) = (told(SignalKind::terminate())?, told(SignalKind::hangup())?);
    // Slurm's word before a job's end. This signal does nothing to those who do not ask for it, and Slurm sends it to all
    // processes of the job.
    let mut warned = told(SignalKind::from_raw(libc::SIGURG))?;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let begun = std::time::Instant::now();
    let mut early = Vec::new();
    while !sockets.are_bound() {
        tokio::select! {
            _ = tick.tick() => {
                if kernel.ended().is_some() {
                    return Err(explain(&kernel.last_words()));
                }
                if begun.elapsed() > START {
                    return Err(explain("the kernel does not start"));
                }
            }
            event = from.recv() => match event {
                Some(Event::Frame(frame)) => early.push(frame),
                _ => return Ok(()),
            },
            _ = terminated.recv() => return Err(told_to_end()),
            _ = hung_up.recv() => return Err(told_to_end()),
        }
    }
    let mut plug = Plug::connect(connection, to)
        .await
        .map_err(|error| explain(&format!("{error:#}")))?;
    to.send(Frame::Ready(Running {
        machine: machine(),
        ..Running::default()
    }));
    let mut files = Files::new(to);
    let mut asks = kernel.asks();
    for frame in early {
        take(&mut plug, frame).await;
    }
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            event = from.recv() => match event {
                Some(Event::Frame(Frame::Leave)) => kernel.leave(),
                Some(Event::Frame(Frame::Move(word))) => files.said(word, kernel),
                Some(Event::Frame(Frame::Piece(id, piece))) => files.piece(id, &piece, kernel),
                Some(Event::Frame(frame)) => take(&mut plug, frame).await,
                Some(Event::Closed(_) | Event::Silent) | None => return Ok(()),
            },
            _ = tick.tick() => {
                if kernel.ended().is_some() {
                    // Its last messages are in the sockets. Slurm tells all processes of a job to end, the kernel too.
                    return match tokio::time::timeout(Duration::from_millis(50), terminated.recv()).await {
                        Ok(_) => Err(told_to_end()),
                        Err(_) => Ok(()),
                    };
                }
            }
            Some(line) = asks.recv() => files.asked(&line, kernel),
            _ = warned.recv() => {
                kernel.leave();
                to.send(Frame::Note(format!(
                    "the time of the kernel on {} is nearly over: a `%fit` that runs writes a checkpoint now; after a \
                     restart of the kernel, the same `%fit … --ckpt-path last` goes on",
                    machine()
                )));
            }
            _ = terminated.recv() => return Err(told_to_end()),
            _ = hung_up.recv() => return Err(told_to_end()),
        }
    }
}

async fn take(plug: &mut Plug, frame: Frame) {
    match frame {
        Frame::Message(channel, parts) => plug.give(channel, parts).await,
        Frame::Credit(bytes) => plug.credit(bytes),
        _ => {}
    }
}

pub fn told_to_end() -> Problem {
    Problem::new(
        format!(
            "the kernel on {} {TOLD}, by its system or somebody there; its variables are gone",
            machine()
        ),
        "restart the kernel to begin anew",
    )
}

/// The machine's name.
pub fn machine() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "the host".into(), |name| name.trim().into())
}

/// Why a kernel does not start, in the user's words.
fn explain(text: &str) -> Problem {
    let machine = machine();
    let text = text.trim().trim_start_matches("error: ");
    let (what, hint) = text.split_once("\nhint: ").unwrap_or((text, ""));
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        return Problem::new(
            format!("the disk of {machine} is full: {what}"),
            format!("free some space on {machine}, then restart the kernel"),
        );
    }
    if hint.is_empty() {
        let what = if what.is_empty() {
            "the kernel ended at once"
        } else {
            what
        };
        return Problem::new(
            format!("the kernel does not start on {machine}: {what}"),
            format!("`lightcell doctor` on {machine} says what is missing"),
        );
    }
    Problem::new(
        format!("the kernel does not start on {machine}: {what}"),
        format!("on {machine}: {hint}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_is_explained() {
        let machine = machine();
        for (text, what, hint) in [
            (
                "error: cannot make /x: No space left on device (os error 28)",
                format!("the disk of {machine} is full: cannot make /x: No space left on device (os error 28)"),
                format!("free some space on {machine}, then restart the kernel"),
            ),
            (
                "error: Lightcell is not set up: there is no /x\nhint: run `lightcell setup`",
                format!("the kernel does not start on {machine}: Lightcell is not set up: there is no /x"),
                format!("on {machine}: run `lightcell setup`"),
            ),
            (
                "",
                format!("the kernel does not start on {machine}: the kernel ended at once"),
                format!("`lightcell doctor` on {machine} says what is missing"),
            ),
        ] {
            assert_eq!(explain(text), Problem::new(what, hint));
        }
    }
}
