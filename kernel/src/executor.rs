//! The thread that executes cells, one after the other: busy, input, outputs, reply, idle, whatever happens.

mod evaluate;
mod models;

use crate::adding::Adding;
use crate::engine::{Engine, Failure};
use crate::home::{Home, Rustc};
use crate::libraries;
use crate::listener::Listener;
use crate::magic::{self, Piece};
use crate::now::{Now, Phase, Said};
use crate::prepass;
use crate::publish::{self, Parent, Publisher};
use crate::report::Report;
use crate::runs::Board;
use crate::session::Session;
use crate::stdin::Stdin;
use crate::understudy::Understudy;
use crate::worker::Link;
use jupyter_protocol::ExecutionCount;
use jupyter_protocol::messaging::{ExecuteReply, ExecuteRequest, ExecutionState, JupyterMessage, Payload, ReplyStatus};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use tokio::sync::{mpsc as channel, oneshot};

/// What the executor is asked to do.
pub enum Job {
    /// Run a cell.
    Execute {
        /// The request, for its parent header and identities.
        parent: Parent,
        /// Its content.
        request: ExecuteRequest,
        /// Counts requests: a failed cell aborts those that were sent before it failed.
        number: u64,
    },
    /// Complete at a byte offset.
    Complete {
        code: String,
        offset: usize,
        answer: oneshot::Sender<(usize, usize, Vec<crate::engine::Completion>)>,
    },
    /// Describe what ends at a byte offset.
    Inspect {
        code: String,
        offset: usize,
        answer: oneshot::Sender<Option<(String, String)>>,
    },
}

/// What executor and sockets share besides [`Now`].
pub struct Shared {
    /// Phase, parent, what the worker said.
    pub now: Arc<Now>,
    /// Messages to all front ends.
    pub publisher: Publisher,
    /// Replies on the shell channel.
    pub replies: channel::UnboundedSender<JupyterMessage>,
    /// Input requests.
    pub stdin: Stdin,
    /// The next execution count is one more.
    pub count: AtomicUsize,
    /// Requests received.
    pub received: AtomicU64,
    /// Crates that a cell's `:dep` compiles.
    pub adding: std::sync::Mutex<Adding>,
    /// The runs of this kernel.
    pub board: Arc<Board>,
    /// The panel of devices, and which one runs take.
    pub devices: crate::devices::Devices,
    /// What `%tensorboard` has started.
    pub boards: crate::tensorboard::Boards,
    /// Completes while a cell runs.
    pub understudy: Understudy,
    /// Files that are carried between here and the user's machine.
    pub transfers: crate::transfer::Transfers,
    /// What was typed.
    pub history: std::sync::Mutex<crate::history::History>,
}

impl Shared {
    /// Who shows the crates that a cell compiles.
    pub fn adding(&self) -> std::sync::MutexGuard<'_, Adding> {
        self.adding.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The folder in which cells run: the worker's.
    pub fn folder(&self) -> std::path::PathBuf {
        let worker = self.now.lock().worker;
        std::fs::read_link(format!("/proc/{worker}/cwd"))
            .or_else(|_| std::env::current_dir())
            .unwrap_or_default()
    }

    /// Sends a reply to a request.
    pub fn reply(
        &self,
        content: impl Into<jupyter_protocol::messaging::JupyterMessageContent>,
        parent: &JupyterMessage,
    ) {
        let _ = self.replies.send(JupyterMessage::new(content, Some(parent)));
    }

    /// Counts a cell and keeps it, unless it asked not to be.
    pub fn count_cell(&self, request: &ExecuteRequest) -> usize {
        if request.silent || !request.store_history {
            return self.count.load(Ordering::SeqCst);
        }
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.history
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .add(count, &request.code);
        count
    }
}

/// What came of a text: evcxr's own outputs or its failure, what the worker said, and the variables before.
type Evaluated = (Result<Vec<(String, String)>, Failure>, Said, Vec<(String, String)>);

/// Nothing is asked for as long as this: there is time for what costs the next cell some milliseconds.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// What `main` has found out before.
pub struct Ground {
    /// The installation.
    pub home: Home,
    /// The compiler.
    pub rustc: Rustc,
    /// This kernel's folder.
    pub session: Arc<Session>,
}

pub(crate) struct Executor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ground: Ground,
    /// What is to be said of the notebook's lock, in the first cell.
    note: Option<String>,
    /// The warm store; its name is a digest of all sources, so it is asked for once.
    store: std::path::PathBuf,
    pub(crate) engine: Engine,
    listener: Listener,
    /// Cells by execution count, for places in them.
    pub(crate) cells: Vec<(usize, String)>,
    /// Places in the above of cells that ran without an error.
    pub(crate) succeeded: Vec<usize>,
    /// How long the last piece of a cell ran, without its compilation.
    pub(crate) ran: std::time::Duration,
    /// The last piece of a cell was compiled, however it ended.
    compiled: bool,
    /// What cells have defined, as far as a rewrite of later ones depends on it.
    items: prepass::Items,
    /// Variables that are no more, and why.
    gone: std::collections::HashMap<String, crate::words::Gone>,
    /// Crates that cells have asked for.
    libraries: libraries::Libraries,
    /// Requests up to this number are aborted.
    abort: u64,
    /// The analyser knows the standard library, and the session the training library.
    furnished: bool,
}

/// Runs until the channel closes. `ground` is the reason why nothing can run, when it is an error.
pub fn run(shared: Arc<Shared>, ground: Result<Ground, String>, jobs: mpsc::Receiver<Job>) {
    let mut first = None;
    let started = ground.and_then(|ground| start(&shared, ground, &jobs, &mut first));
    let mut executor = match started {
        Ok(executor) => executor,
        Err(reason) => {
            tracing::error!("{reason}");
            for job in first.into_iter().chain(jobs) {
                refuse(&shared, job, &reason);
            }
            return;
        }
    };
    shared.now.lock().ready = true;
    // While nobody waits there is time for what later cells need.
    while let Some(job) = first
        .take()
        .or_else(|| jobs.try_recv().ok())
        .or_else(|| executor.warm_up(&jobs))
        .or_else(|| jobs.recv_timeout(PAUSE).ok())
        .or_else(|| executor.rest())
        .or_else(|| jobs.recv().ok())
    {
        executor.job(job);
    }
}

/// Prepares what is missing, with its progress in the first cell, and starts evcxr.
fn start(
    shared: &Arc<Shared>,
    ground: Ground,
    jobs: &mpsc::Receiver<Job>,
    first: &mut Option<Job>,
) -> Result<Executor, String> {
    let text = |error: anyhow::Error| format!("{error:#}");
    if let Some(what) = crate::prepare::missing(&ground.home, &ground.rustc).map_err(text)? {
        tracing::info!("{what}");
        crate::preparing::run(shared, &ground.rustc, &what, jobs, first).map_err(text)?;
    }
    let store = ground.home.store(&ground.rustc).map_err(text)?;
    let begun = std::time::Instant::now();
    ground.session.fill(&store).map_err(text)?;
    tracing::info!("session filled in {:?}", begun.elapsed());
    *shared.adding() = Adding::new(&ground.session.path, &store);
    let stubs = crate::stubs::folder(&ground.home, &ground.rustc).map_err(text)?;
    let note = crate::notebook::open(&ground);
    let (engine, listener) = engine(shared, &ground, &store).map_err(text)?;
    Ok(Executor {
        note,
        libraries: libraries::Libraries::new(&ground.session.path, &stubs),
        shared: shared.clone(),
        ground,
        store,
        engine,
        listener,
        cells: Vec::new(),
        succeeded: Vec::new(),
        abort: 0,
        furnished: false,
        ran: std::time::Duration::ZERO,
        compiled: false,
        items: prepass::Items::default(),
        gone: std::collections::HashMap::new(),
    })
}

fn engine(shared: &Arc<Shared>, ground: &Ground, store: &std::path::Path) -> anyhow::Result<(Engine, Listener)> {
    let (link, command) = Link::new(&ground.home, &ground.rustc, &ground.session.path)?;
    let listener = Listener::start(
        link,
        shared.now.clone(),
        shared.publisher.clone(),
        shared.stdin.clone(),
        shared.board.clone(),
    );
    let begun = std::time::Instant::now();
    let mut engine = Engine::start(command)?;
    tracing::info!("evcxr started in {:?}", begun.elapsed());
    engine.begin(&ground.home, &ground.session, Some(store))?;
    tracing::info!("ready for simple cells after {:?}", begun.elapsed());
    Ok((engine, listener))
}

/// Answers a job when nothing can run.
fn refuse(shared: &Shared, job: Job, reason: &str) {
    let Job::Execute { parent, request, .. } = job else {
        return;
    };
    let count = shared.count_cell(&request);
    shared.publisher.status(ExecutionState::Busy, &parent);
    let report = Report::setup(reason, shared.transfers.machine().as_deref());
    shared.publisher.error(&report, &parent);
    shared.reply(failed(count, &report), &parent);
    shared.publisher.status(ExecutionState::Idle, &parent);
}

fn failed(count: usize, report: &Report) -> ExecuteReply {
    ExecuteReply {
        status: ReplyStatus::Error,
        execution_count: ExecutionCount::new(count),
        payload: Vec::new(),
        user_expressions: None,
        error: Some(Box::new(report.clone().into())),
    }
}

impl Executor {
    /// The warm store that this kernel began with.
    pub(crate) fn store(&self) -> &std::path::Path {
        &self.store
    }

    /// Loads the training library, once. It takes seconds; a cell that can do without it does not wait.
    fn furnish(&mut self) -> anyhow::Result<()> {
        if self.furnished {
            return Ok(());
        }
        let begun = std::time::Instant::now();
        self.ground.session.show_std(&self.ground.rustc);
        let stubs = crate::stubs::folder(&self.ground.home, &self.ground.rustc)?;
        self.shared.now.lock().loading = true;
        let loaded = self.engine.furnish(&self.ground.session, Some(&self.store), &stubs);
        self.listener.sync();
        {
            let mut state = self.shared.now.lock();
            (state.loading, state.phase, state.said) = (false, Phase::Idle, Said::default());
        }
        loaded?;
        self.furnished = true;
        self.shared.understudy.renew(&mut self.engine);
        tracing::info!("library loaded in {:?}", begun.elapsed());
        Ok(())
    }

    /// The same while nothing is asked, and then the analyser warmed up; gives the job that came in between.
    fn warm_up(&mut self, jobs: &mpsc::Receiver<Job>) -> Option<Job> {
        if self.furnished {
            return None;
        }
        if let Err(error) = self.furnish() {
            // The cell that needs it says so.
            tracing::error!("{error:#}");
            return None;
        }
        // A cell that waits pays only for what it needs itself.
        let job = jobs.try_recv().ok();
        if job.is_none() {
            self.engine.warm_up();
            // A copy of a warm analyser answers sooner.
            self.shared.understudy.forget();
            tracing::info!("the analyser is warm");
        }
        job
    }

    /// Prepares for what may be asked while the next cell runs; there is never a job.
    fn rest(&mut self) -> Option<Job> {
        self.shared.understudy.renew(&mut self.engine);
        None
    }

    fn job(&mut self, job: Job) {
        // A cell that needs the library loads it itself, so that it is busy and can be stopped meanwhile.
        if !matches!(job, Job::Execute { .. })
            && let Err(error) = self.furnish()
        {
            tracing::error!("{error:#}");
            return;
        }
        match job {
            Job::Execute {
                parent,
                request,
                number,
            } => self.execute(parent, request, number),
            Job::Complete { code, offset, answer } => {
                let found = self.engine.complete(&code, offset).unwrap_or_else(|error| {
                    tracing::debug!("no completion: {error}");
                    (offset, offset, Vec::new())
                });
                let _ = answer.send(found);
            }
            Job::Inspect { code, offset, answer } => {
                let _ = answer.send(self.engine.inspect(&code, offset).ok().flatten());
            }
        }
    }

    fn execute(&mut self, parent: Parent, request: ExecuteRequest, number: u64) {
        let shared = self.shared.clone();
        shared.publisher.status(ExecutionState::Busy, &parent);
        if number <= self.abort {
            shared.now.lock().begun = number;
            let reply = ExecuteReply {
                status: ReplyStatus::Aborted,
                execution_count: ExecutionCount::new(shared.count.load(Ordering::SeqCst)),
                ..Default::default()
            };
            shared.reply(reply, &parent);
            shared.publisher.status(ExecutionState::Idle, &parent);
            return;
        }
        let count = shared.count_cell(&request);
        {
            let mut state = shared.now.lock();
            state.parent = Some(parent.clone());
            state.count = count;
            state.silent = request.silent;
            state.allow_stdin = request.allow_stdin;
            state.executing = true;
            (state.fitting, state.stopping) = (false, false);
            state.begun = number;
            state.interrupted = false;
        }
        if !request.silent {
            shared.publisher.input(&request.code, count, &parent);
            if let Some(note) = self.note.take() {
                shared.publisher.stream(false, &note, Some(&parent));
            }
        }
        self.cells.push((count, request.code.clone()));
        let mut payload = Vec::new();
        let ready = self.furnish_for(&request.code);
        let stopped = number <= shared.now.lock().stopped_before;
        let result = match ready {
            _ if stopped => Err(Report::build_stopped()),
            Ok(()) => self.pieces(&request.code, count, &parent, &mut payload),
            Err(error) => {
                tracing::error!("{error:#}");
                Err(Report::setup(
                    &format!("{error:#}"),
                    self.shared.transfers.machine().as_deref(),
                ))
            }
        };
        if result.is_ok() {
            self.succeeded.push(self.cells.len() - 1);
        }
        shared.stdin.forget();
        {
            let mut names: Vec<String> = self.engine.variables().into_iter().map(|(name, _)| name).collect();
            names.extend(self.engine.items());
            names.retain(|name| !name.starts_with(prepass::HIDDEN));
            let mut state = shared.now.lock();
            state.executing = false;
            state.phase = Phase::Idle;
            state.names = names;
        }
        let reply = match result {
            Ok(()) => ExecuteReply {
                execution_count: ExecutionCount::new(count),
                payload,
                user_expressions: Some(Default::default()),
                ..Default::default()
            },
            Err(report) => {
                shared.publisher.error(&report, &parent);
                if request.stop_on_error {
                    self.abort = shared.received.load(Ordering::SeqCst);
                }
                failed(count, &report)
            }
        };
        shared.reply(reply, &parent);
        shared.publisher.status(ExecutionState::Idle, &parent);
    }

    /// Loads the training library for a cell that cannot do without it.
    fn furnish_for(&mut self, code: &str) -> anyhow::Result<()> {
        if crate::early::is_simple(code) {
            return Ok(());
        }
        self.furnish()
    }

    fn pieces(&mut self, code: &str, count: usize, parent: &Parent, payload: &mut Vec<Payload>) -> Result<(), Report> {
        for piece in magic::split(code).map_err(|error| magic::report(&error, count, code))? {
            match piece {
                Piece::Code(text) => self.code(&text, count, code)?,
                Piece::Kernel(call) => magic::kernel_side(&call, &self.shared, parent)?,
                Piece::Fit(fit) => self.fit(&fit, count, code)?,
                Piece::Model(call) => self.model(&call, count, code)?,
                Piece::InTurn(call) => self.in_turn(&call, count, code, payload)?,
                Piece::Shell(command) => self.shell("sh", &command, false, count, code)?,
                Piece::Help(name) => self.help(&name, payload)?,
            }
        }
        Ok(())
    }

    /// A new engine in the same session folder.
    fn renew(&mut self) -> anyhow::Result<()> {
        let (engine, listener) = engine(&self.shared, &self.ground, &self.store)?;
        self.engine = engine;
        self.listener = listener;
        self.shared.understudy.forget();
        self.items.worker_is_new();
        let stubs = crate::stubs::folder(&self.ground.home, &self.ground.rustc)?;
        self.libraries = libraries::Libraries::new(&self.ground.session.path, &stubs);
        self.furnished = false;
        self.furnish()
    }

    fn help(&mut self, name: &str, payload: &mut Vec<Payload>) -> Result<(), Report> {
        let data = match magic::help(name) {
            Some(text) => Some(publish::text(text)),
            None => {
                let variable = self
                    .engine
                    .variables()
                    .into_iter()
                    .find(|(variable, _)| variable == name)
                    .map(|(name, kind)| format!("{name}: {kind}"));
                let found = self.engine.inspect(name, name.len()).ok().flatten();
                match (variable, found) {
                    (None, None) => None,
                    (variable, found) => {
                        let (text, html) = found.unwrap_or_default();
                        let head = variable.unwrap_or_default();
                        Some(publish::text_html(
                            format!("{head}\n\n{text}").trim().to_owned(),
                            format!("<code>{}</code>{html}", lightcell_events::escape(&head)),
                        ))
                    }
                }
            }
        };
        match data {
            Some(data) => {
                payload.push(Payload::Page { data, start: 0 });
                Ok(())
            }
            None => Err(Report::plain(
                "NameError",
                &format!("nothing is known about `{name}`"),
                Some("`%lsmagic` lists the magics, `:vars` the variables"),
            )),
        }
    }
}
