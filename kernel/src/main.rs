//! The Jupyter kernel `Rust (Lightcell)`.
//!
//! It speaks Jupyter's protocol, owns the queue of cells, the magics, plots and history, and asks evcxr to turn a cell
//! into a library. It never loads libtorch and never runs user code: that is the worker's part.

mod engine;
mod home;
mod prepare;
mod session;
mod worker;

use anyhow::{Context, Result, bail};
use home::{Home, Rustc};
use session::Session;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    engine::other_roles();
    let result = match Task::from_args(std::env::args().skip(1)) {
        Ok(Task::Version) => {
            println!("lightcell-kernel {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Ok(Task::Prepare { check }) => prepare_task(check),
        Ok(Task::Serve(_)) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// What the command line asks for.
enum Task {
    Serve(PathBuf),
    Prepare { check: bool },
    Version,
}

impl Task {
    fn from_args(args: impl Iterator<Item = String>) -> Result<Task> {
        let args: Vec<String> = args.collect();
        match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["--version"] => Ok(Task::Version),
            ["prepare"] => Ok(Task::Prepare { check: false }),
            ["prepare", "--check"] => Ok(Task::Prepare { check: true }),
            ["--connection-file", file] => Ok(Task::Serve(file.into())),
            _ => bail!(
                "usage: lightcell-kernel --connection-file FILE | prepare [--check] | --version\n\
                 hint: Jupyter starts the kernel; `lightcell lab` starts Jupyter"
            ),
        }
    }
}

fn prepare_task(check: bool) -> Result<ExitCode> {
    let home = Home::open()?;
    let rustc = Rustc::find(&home.setup)?;
    let missing = prepare::missing(&home, &rustc)?;
    if check {
        if let Some(what) = &missing {
            println!("{what}");
        }
        return Ok(if missing.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    if missing.is_some() {
        let mut show = |p: prepare::Progress| {
            println!("{}", serde_json::json!({"step": p.step, "crate": p.krate, "done": p.done, "total": p.total}));
        };
        prepare::worker(&home, &rustc, &mut show)?;
        if prepare::missing(&home, &rustc)?.is_some() {
            let session = Session::create(&home)?;
            // SAFETY: no other thread runs yet.
            unsafe { std::env::set_var("EVCXR_TMPDIR", &session.path) };
            let (_link, command) = prepare::command(&home, &rustc, &session.path)?;
            let total = prepare::expected_crates(&home);
            let mut done = 0;
            let stderr = capture_stderr(move |line| {
                if let Some(krate) = prepare::compiling(line) {
                    done += 1;
                    show(prepare::Progress { step: "store", krate: krate.to_owned(), done, total: total.max(done) });
                }
            })?;
            let made = prepare::store(&home, &rustc, &session, command);
            stderr.restore();
            made?;
        }
    }
    let store = home.store(&rustc)?;
    println!("{}", serde_json::json!({"step": "done", "store": store, "bytes": prepare::size(&store)}));
    Ok(ExitCode::SUCCESS)
}

/// This process's standard error, as a stream of lines: evcxr reports the crates it compiles there.
struct CapturedStderr {
    original: i32,
}

impl CapturedStderr {
    fn restore(self) {
        // SAFETY: puts the saved descriptor back.
        unsafe {
            libc::dup2(self.original, 2);
            libc::close(self.original);
        }
    }
}

fn capture_stderr(mut each: impl FnMut(&str) + Send + 'static) -> Result<CapturedStderr> {
    use std::os::fd::FromRawFd;
    let mut fds = [0; 2];
    // SAFETY: descriptor calls; the reading end is then owned by the thread.
    let (original, reader) = unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(std::io::Error::last_os_error()).context("cannot make a pipe");
        }
        let original = libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 3);
        libc::dup2(fds[1], 2);
        libc::close(fds[1]);
        (original, std::fs::File::from_raw_fd(fds[0]))
    };
    std::thread::spawn(move || {
        use std::io::BufRead;
        for line in std::io::BufReader::new(reader).split(b'\n').map_while(std::result::Result::ok) {
            each(&String::from_utf8_lossy(&line));
        }
    });
    Ok(CapturedStderr { original })
}
