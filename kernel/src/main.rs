//! The Jupyter kernel `Rust (Lightcell)`.
//!
//! It speaks Jupyter's protocol, owns the queue of cells, the magics, plots and history, and asks evcxr to turn a cell
//! into a library. It never loads libtorch and never runs user code: that is the worker's part.

mod adding;
mod cache;
mod complete;
mod connection;
mod devices;
mod early;
mod engine;
mod executor;
mod export;
mod figures;
mod generated;
mod graph;
mod history;
mod home;
mod libraries;
mod listener;
mod lockfile;
mod magic;
mod models;
mod now;
mod prepare;
mod preparing;
mod prepass;
mod publish;
mod queries;
mod replay;
mod report;
mod runs;
mod server;
mod session;
mod settings;
mod stdin;
mod stubs;
mod tensorboard;
mod transfer;
mod turn;
mod understudy;
mod words;
mod worker;

use anyhow::{Context, Result, bail};
use connection::Source;
use executor::{Ground, Shared};
use home::{Home, Rustc};
use session::Session;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock, mpsc};

/// Version of the compiler, for kernel_info.
static RUSTC_VERSION: OnceLock<String> = OnceLock::new();

fn main() -> ExitCode {
    if let Some(code) = replay::role() {
        return code;
    }
    engine::other_roles();
    let result = match Task::from_args(std::env::args().skip(1)) {
        Ok(Task::Version) => {
            println!("lightcell-kernel {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Ok(Task::Draw { data, to }) => figures::draw(&data, &to).map(|()| ExitCode::SUCCESS),
        Ok(Task::Prepare { check }) => prepare_task(check),
        Ok(Task::Serve(source)) => serve(&source),
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// What the command line asks for.
enum Task {
    Serve(Source),
    Prepare { check: bool },
    Draw { data: PathBuf, to: PathBuf },
    Version,
}

impl Task {
    fn from_args(args: impl Iterator<Item = String>) -> Result<Task> {
        let args: Vec<String> = args.collect();
        match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["--version"] => Ok(Task::Version),
            ["prepare"] => Ok(Task::Prepare { check: false }),
            ["prepare", "--check"] => Ok(Task::Prepare { check: true }),
            ["draw", data, to] => Ok(Task::Draw {
                data: data.into(),
                to: to.into(),
            }),
            ["--connection-file", file] => Ok(Task::Serve(Source::File(file.into()))),
            ["--connection-stdin"] => Ok(Task::Serve(Source::Stdin)),
            _ => bail!(
                "usage: lightcell-kernel --connection-file FILE | --connection-stdin | prepare [--check] | draw DATA.json PICTURE | --version\n\
                 hint: Jupyter starts the kernel; `lightcell lab` starts Jupyter"
            ),
        }
    }
}

/// Serves a front end until it is told to end, or has lost whoever started it.
fn serve(source: &Source) -> Result<ExitCode> {
    let info = connection::read(source)?;
    start_log();
    let (shared, queues) = shared();
    let (jobs, received) = mpsc::channel();
    // Everything that looks at or sets the process's environment happens here, before other threads run.
    let ground = ground();
    let session = ground.as_ref().ok().map(|ground| ground.session.clone());
    let told = shared.clone();
    let stderr = capture_stderr(move |line| {
        tracing::info!("stderr: {line}");
        told.adding().line(&told, line);
    });
    let executor = shared.clone();
    std::thread::Builder::new()
        .name("executor".into())
        .stack_size(64 << 20)
        .spawn(move || executor::run(executor, ground.map_err(|error| format!("{error:#}")), received))
        .context("cannot start a thread")?;
    let (ended, end) = tokio::sync::oneshot::channel();
    if *source == Source::Stdin {
        shared.transfers.carry();
    }
    let (watched, told_of) = (source.clone(), shared.clone());
    std::thread::spawn(move || {
        connection::wait_for_end(&watched, |word| match word {
            connection::Word::Leave => tracing::info!("the end is near: {}", told_of.now.leave()),
            connection::Word::Other(line) => told_of.transfers.heard(line),
        });
        let _ = ended.send(());
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = server::serve(&info, shared, queues, jobs) => result,
            _ = end => Ok(()),
        }
    });
    // The executor may be in the middle of a build or a cell: its processes end first, then the session's folder.
    now::end_all();
    if let Some(session) = session {
        session.remove();
    }
    connection::leave(&info);
    drop(stderr);
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    // Threads that still run hold nothing that must be saved.
    std::process::exit(i32::from(result.is_err()));
}

fn shared() -> (Arc<Shared>, server::Queues) {
    let (publisher, iopub) = publish::Publisher::new();
    let (replies, reply_queue) = tokio::sync::mpsc::unbounded_channel();
    let (stdin, questions) = stdin::Stdin::new();
    let history = Home::folder()
        .map(|folder| history::History::open(&folder.join("history.jsonl")))
        .unwrap_or_default();
    let saved = Home::folder().ok().zip(std::env::current_dir().ok());
    let saved = saved.map(|(home, here)| runs::Saved::new(&home, here));
    let shared = Shared {
        now: Arc::default(),
        publisher,
        replies,
        stdin,
        count: 0.into(),
        received: 0.into(),
        adding: Default::default(),
        board: runs::Board::new(saved).into(),
        devices: Default::default(),
        boards: Default::default(),
        understudy: Default::default(),
        transfers: Default::default(),
        history: std::sync::Mutex::new(history),
    };
    (
        Arc::new(shared),
        server::Queues {
            iopub,
            replies: reply_queue,
            questions,
        },
    )
}

/// Finds the installation and makes the session's folder.
fn ground() -> Result<Ground> {
    let home = Home::open()?;
    let rustc = Rustc::find(&home.setup)?;
    let version = rustc
        .version
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .unwrap_or("unknown");
    let _ = RUSTC_VERSION.set(version.to_owned());
    let session = Arc::new(Session::create(&home)?);
    replay::install(&home.root, &rustc.path, &home.setup.src)?;
    // SAFETY: no other thread runs yet. evcxr takes its folder, and with its configuration folder here no file of the
    // user's evcxr, from the environment.
    unsafe {
        std::env::set_var("EVCXR_TMPDIR", &session.path);
        std::env::set_var("EVCXR_CONFIG_DIR", &session.path);
        std::env::set_var("RUST_SRC_PATH", session.std_sources()?);
    }
    Ok(Ground { home, rustc, session })
}

/// The log goes to a file: a kernel must not print, its standard output may be a closed pipe.
fn start_log() {
    let Ok(home) = Home::folder() else { return };
    let folder = home.join("logs");
    if std::fs::create_dir_all(&folder).is_err() {
        return;
    }
    remove_old_logs(&folder);
    if let Ok(file) = std::fs::File::create(folder.join(format!("kernel-{}.log", std::process::id()))) {
        use tracing_subscriber::prelude::*;
        // Only our own words: the analyser inside evcxr logs every query, and spends its time on it.
        let ours =
            tracing_subscriber::filter::Targets::new().with_target(env!("CARGO_CRATE_NAME"), tracing::Level::INFO);
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(std::sync::Mutex::new(file));
        tracing_subscriber::registry().with(layer.with_filter(ours)).init();
    }
}

/// Keeps the newest logs.
fn remove_old_logs(folder: &std::path::Path) {
    const KEPT: usize = 20;
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut logs: Vec<_> = entries
        .flatten()
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    logs.sort();
    for (_, path) in logs.iter().rev().skip(KEPT) {
        let _ = std::fs::remove_file(path);
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
        return Ok(if missing.is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        });
    }
    if missing.is_some() {
        let mut show = |p: prepare::Progress| {
            println!(
                "{}",
                serde_json::json!({"step": p.step, "crate": p.krate, "done": p.done, "total": p.total})
            );
        };
        prepare::worker(&home, &rustc, &mut show)?;
        if prepare::missing(&home, &rustc)?.is_some() {
            let session = Session::create(&home)?;
            replay::install(&home.root, &rustc.path, &home.setup.src)?;
            // SAFETY: no other thread runs yet.
            unsafe { std::env::set_var("EVCXR_TMPDIR", &session.path) };
            let mut done = 0;
            let stderr = capture_stderr(move |line| {
                if let Some(krate) = prepare::compiling(line) {
                    done += 1;
                    show(prepare::Progress {
                        step: "store",
                        krate: krate.to_owned(),
                        done,
                        total: prepare::STORE_CRATES.max(done),
                    });
                }
            })?;
            let made = prepare::store(&home, &rustc, &session);
            stderr.restore();
            made?;
        }
    }
    let store = home.store(&rustc)?;
    println!(
        "{}",
        serde_json::json!({"step": "done", "store": store, "bytes": prepare::size(&store)})
    );
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
        for line in std::io::BufReader::new(reader)
            .split(b'\n')
            .map_while(std::result::Result::ok)
        {
            each(&String::from_utf8_lossy(&line));
        }
    });
    Ok(CapturedStderr { original })
}
