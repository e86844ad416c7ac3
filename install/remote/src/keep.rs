//! `lightcell-remote keep MARK NAME SECONDS ROLE…`: what ssh runs for a remote with `--keep`. It finds the kernel that is
//! kept under that name and that nobody is connected to, or starts a keeper with a new one, and carries bytes between the
//! launcher and the keeper, which lives on when this ends.

use crate::frame::{Frame, Hello, Problem};
use crate::kept::{self, Record};
use crate::{serve, sign};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// A kernel that is told to end does so within this time.
const ENDING: Duration = Duration::from_secs(15);

/// Carries bytes until one of the two sides has gone.
pub fn run(mark: &str, name: &str, limit: &str, role: &[String]) -> Result<ExitCode> {
    let mut stdout = serve::take_stdout()?;
    writeln!(stdout, "\n{mark}")?;
    stdout.flush()?;
    let mut stdin = std::io::stdin().lock();
    let Some(Frame::Hello(hello)) = hello(&mut stdin)? else {
        return Ok(ExitCode::SUCCESS);
    };
    match reach(&hello, name, limit, role) {
        Ok(keeper) => carry(&mut stdin, stdout, keeper, &hello),
        Err(problem) => {
            stdout.write_all(&Frame::Failed(problem).encode())?;
            stdout.flush()?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The first frame that is no beat.
fn hello(stdin: &mut impl Read) -> Result<Option<Frame>> {
    loop {
        match Frame::read(stdin)? {
            Some(Frame::Beat) => {}
            frame => return Ok(frame),
        }
    }
}

fn reach(hello: &Hello, name: &str, limit: &str, role: &[String]) -> Result<UnixStream, Problem> {
    let trouble = |error: anyhow::Error| {
        Problem::new(
            format!("the kernel cannot be kept on {}: {error:#}", serve::machine()),
            "restart the kernel to try again, or add the remote without --keep",
        )
    };
    let home = serve::home().map_err(trouble)?;
    let records = kept::all(&home, name);
    if let Some(id) = &hello.attach {
        let same = records.iter().find(|record| record.id == *id);
        let connected = same.and_then(|record| record.connect().ok());
        return connected.ok_or_else(|| {
            let why = kept::take_word(&home, name).map_or(String::new(), |word| format!(": {word}"));
            Problem::new(
                format!(
                    "the kernel that was kept on {} has ended{why}; its variables are gone",
                    serve::machine()
                ),
                "restart the kernel to begin anew",
            )
        });
    }
    // The same front end starts its kernel again, after it could not say so to this one.
    let print = sign::fingerprint(&hello.key);
    for record in records.iter().filter(|record| record.fingerprint == print) {
        end(&home, record).map_err(trouble)?;
    }
    let free = records
        .iter()
        .find(|record| record.fingerprint != print && record.until.is_some());
    if let Some(keeper) = free.and_then(|record| record.connect().ok()) {
        return Ok(keeper);
    }
    start(name, limit, role).map_err(trouble)
}

/// Starts a keeper that outlives this session.
fn start(name: &str, limit: &str, role: &[String]) -> Result<UnixStream> {
    use std::os::unix::process::CommandExt;
    let me = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(me);
    command
        .args(["keeper", name, limit])
        .args(role)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // SAFETY: the closure runs in the new process and makes system calls only. The session's end must not reach the keeper.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut child = command.spawn().context("cannot start the keeper")?;
    let mut line = String::new();
    let said = child.stdout.take().context("no pipe")?;
    BufReader::new(said).read_line(&mut line)?;
    match line.trim().split_once(' ') {
        Some(("at", socket)) => UnixStream::connect(socket).context("the keeper does not listen"),
        Some((_, error)) => bail!("{error}"),
        None => bail!("the keeper does not start"),
    }
}

/// Tells a keeper to end, and waits for it.
fn end(home: &Path, record: &Record) -> Result<()> {
    // One that has gone in between is as good.
    if let Ok(mut keeper) = record.connect() {
        let _ = keeper.write_all(&Frame::End.encode());
        if !kept::wait_gone(home, record, ENDING) {
            bail!("the kernel {} does not end", record.id);
        }
    }
    Ok(())
}

fn carry(stdin: &mut impl Read, stdout: File, mut keeper: UnixStream, hello: &Hello) -> Result<ExitCode> {
    keeper.write_all(&Frame::Hello(hello.clone()).encode())?;
    let from = keeper.try_clone()?;
    std::thread::spawn(move || {
        copy(from, stdout);
        // Nothing more comes: the launcher sees the end of its line.
        std::process::exit(0);
    });
    copy(stdin, &keeper);
    let _ = keeper.shutdown(Shutdown::Both);
    Ok(ExitCode::SUCCESS)
}

/// As it comes: `std::io::copy` may wait for more.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..got]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// `lightcell-remote kept NAME`: shows them.
pub fn show(name: &str) -> Result<ExitCode> {
    let records = kept::all(&serve::home()?, name);
    let mut text: String = records.iter().map(|record| record.line(kept::now()) + "\n").collect();
    if records.is_empty() {
        text = format!("no kernel of {name} is kept on {}\n", serve::machine());
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `lightcell-remote end NAME [ID]`: ends them, or one.
pub fn end_all(name: &str, id: Option<&str>) -> Result<ExitCode> {
    let home = serve::home()?;
    let mut records = kept::all(&home, name);
    records.retain(|record| id.is_none_or(|id| record.id == id));
    for record in &records {
        end(&home, record)?;
    }
    let what = match records.len() {
        0 => format!("no kernel of {name} is kept on {}", serve::machine()),
        1 => "1 kernel has ended".to_owned(),
        count => format!("{count} kernels have ended"),
    };
    std::io::stdout().write_all((what + "\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
