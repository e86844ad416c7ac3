//! What the kernel is doing now, and how that is stopped.

use crate::publish::Parent;
use crate::report::Panic;
use lightcell_events::frame::CellEnd;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The state that the sockets, the executor and the listener share.
#[derive(Default)]
pub struct Now {
    state: Mutex<State>,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing.
    #[default]
    Idle,
    /// The compiler, for a cell.
    Building,
    /// A cell's code, in the process with this id.
    Running(i32),
}

/// The shared state.
#[derive(Default)]
pub struct State {
    /// The request that outputs belong to: the running cell's, or the last one's.
    pub parent: Option<Parent>,
    /// Its execution count.
    pub count: usize,
    /// It asked for no result.
    pub silent: bool,
    /// Its front end can be asked for input.
    pub allow_stdin: bool,
    /// What runs.
    pub phase: Phase,
    /// The process that runs cells, once one has run.
    pub worker: i32,
    /// A cell is being executed (from busy to idle).
    pub executing: bool,
    /// A training run is going on: stop ends it after the batch.
    pub fitting: bool,
    /// Stop was pressed during this run.
    pub stopping: bool,
    /// The cell was stopped by force.
    pub interrupted: bool,
    /// What the worker said about the cell.
    pub said: Said,
    /// The training library is being loaded, which nothing stops: the cell that waits for it is stopped then.
    pub loading: bool,
    /// Cells can run: evcxr has started.
    pub ready: bool,
    /// The number of the newest cell that was begun.
    pub begun: u64,
    /// Cells up to this number were stopped before their code could begin.
    pub stopped_before: u64,
    /// Names that can be offered while a cell runs.
    pub names: Vec<String>,
}

/// What the worker said about a piece of a cell.
#[derive(Debug, Default)]
pub struct Said {
    /// The newest panic on the cell's thread.
    pub panic: Option<Panic>,
    /// When the code began to run.
    pub began: Option<Instant>,
    /// How long it ran.
    pub ran: Option<Duration>,
    /// How the code returned.
    pub ended: Option<CellEnd>,
    /// The process ended: how, and what could not be kept.
    pub taken_over: Option<(String, String)>,
    /// The last thing on standard error, for a `?`.
    pub stderr_tail: String,
    /// Variables dropped because their type was defined again.
    pub redefined: Vec<String>,
    /// A training run failed: what, and what to do.
    pub run_failed: Option<(String, Option<String>)>,
    /// A search for a learning rate found one, and set this hyperparameter to it.
    pub suggestion: Option<(f64, Option<String>)>,
}

impl Now {
    /// The state.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request that outputs belong to.
    pub fn parent(&self) -> Option<Parent> {
        self.lock().parent.clone()
    }

    /// Whether a cell that needs nobody but the kernel is answered now, when this many cells were asked for: beside one that
    /// runs, or while the kernel still starts and none waits before it.
    pub fn answers_at_once(&self, received: u64) -> bool {
        let state = self.lock();
        let first = received == state.begun;
        state.executing || (first && (state.loading || !state.ready))
    }

    /// The stop button, when this many cells were asked for. Returns what it did, for the log.
    pub fn interrupt(self: &std::sync::Arc<Self>, received: u64) -> &'static str {
        let mut state = self.lock();
        if state.loading {
            state.stopped_before = received;
            return "end the cell that waits for the library";
        }
        match state.phase {
            // Before its build or between two of its parts: the next part does not begin.
            Phase::Idle if state.executing => {
                state.interrupted = true;
                "end the cell before its next part"
            }
            // It waits, for a kernel that still starts.
            Phase::Idle if received > state.begun => {
                state.stopped_before = received;
                "end the cell that waits"
            }
            Phase::Idle => "nothing runs",
            Phase::Building => {
                state.interrupted = true;
                drop(state);
                let now = self.clone();
                // Cargo may be started again for the same cell; stay until the cell is over.
                std::thread::spawn(move || now.stop_build());
                "stop the build"
            }
            Phase::Running(pid) if state.fitting && !state.stopping => {
                state.stopping = true;
                signal(pid, libc::SIGINT);
                "end the run after its batch"
            }
            Phase::Running(pid) => {
                state.interrupted = true;
                signal(pid, libc::SIGKILL);
                "end the cell"
            }
        }
    }

    /// The kernel ends soon: a run that goes on writes a checkpoint and stops. Returns what it did, for the log.
    pub fn leave(&self) -> &'static str {
        let mut state = self.lock();
        match state.phase {
            Phase::Running(pid) if state.fitting => {
                state.stopping = true;
                let value = libc::sigval {
                    sival_ptr: lightcell_events::LEAVE as usize as *mut libc::c_void,
                };
                // SAFETY: a plain call; the pid was reported by our own worker.
                unsafe { libc::sigqueue(pid, libc::SIGINT, value) };
                "the run writes a checkpoint"
            }
            _ => "no run to be kept",
        }
    }

    fn stop_build(&self) {
        loop {
            {
                let state = self.lock();
                match state.phase {
                    Phase::Idle => return,
                    Phase::Building if state.interrupted => {}
                    Phase::Running(pid) if state.interrupted => {
                        signal(pid, libc::SIGKILL);
                        return;
                    }
                    _ => return,
                }
            }
            for pid in descendants(std::process::id() as i32, is_no_build) {
                signal(pid, libc::SIGKILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: a plain call; the pid was reported by our own worker or read from /proc a moment ago.
    unsafe { libc::kill(pid, signal) };
}

/// The worker and all it started are left out when a build is stopped, and so is the copy that completes.
fn is_no_build(pid: i32) -> bool {
    crate::understudy::is(pid)
        || std::fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "lightcell-worker"))
}

/// All processes below this one, without those (and what is below them) for which `skip` holds.
pub fn descendants(root: i32, skip: fn(i32) -> bool) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    if let Ok(entries) = std::fs::read_dir("/proc") {
        for pid in entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        {
            // pid (name) state ppid …; the name may hold spaces and brackets.
            if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat"))
                && let Some(parent) = stat
                    .rsplit_once(')')
                    .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
            {
                children.entry(parent).or_default().push(pid);
            }
        }
    }
    let (mut found, mut stack) = (Vec::new(), vec![root]);
    while let Some(pid) = stack.pop() {
        for child in children
            .get(&pid)
            .into_iter()
            .flatten()
            .copied()
            .filter(|child| !skip(*child))
        {
            found.push(child);
            stack.push(child);
        }
    }
    found
}

/// Ends every process that this kernel started. For shutdown.
pub fn end_all() {
    for _ in 0..5 {
        let left = descendants(std::process::id() as i32, |_| false);
        if left.is_empty() {
            return;
        }
        for pid in left {
            signal(pid, libc::SIGKILL);
            // SAFETY: reaps it if it is our own child; does not wait.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_answers_alone_waits_for_cells_before_it_only() {
        let now = Now::default();
        assert!(now.answers_at_once(0), "it starts");
        assert!(!now.answers_at_once(1), "a cell waits before it");
        now.lock().ready = true;
        assert!(!now.answers_at_once(0), "its turn is now");
        now.lock().loading = true;
        assert!(now.answers_at_once(0));
        now.lock().loading = false;
        now.lock().executing = true;
        assert!(now.answers_at_once(3), "one runs");
    }

    #[test]
    fn grandchildren_are_found() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        let pid = shell.id() as i32;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while descendants(pid, |_| false).is_empty() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let below = descendants(pid, |_| false);
        assert_eq!(below.len(), 1);
        assert!(descendants(std::process::id() as i32, |_| true).is_empty());
        for pid in below {
            signal(pid, libc::SIGKILL);
        }
        signal(pid, libc::SIGKILL);
        shell.wait().unwrap();
    }
}
