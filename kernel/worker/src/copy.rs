//! A copy of the process before each cell, so that nothing the cell does can lose the variables.
//!
//! Three processes: the supervisor (whose pid evcxr knows) only waits; the runner runs the cells; a copy, made by
//! `fork` before each cell, sleeps. When the cell has ended the copy is dropped. When the runner dies instead (a
//! crash, `exit`, the kernel's kill on interrupt), the copy becomes the runner: its memory is that of before the cell.
//! This way round, and not the other, so that in the normal case pid, child processes and locks stay the user's.
//!
//! The copy lets go of the user's pipes and sockets ([`descriptors`](crate::descriptors)), and has one thread while it waits; when it takes
//! over, it brings the others back ([`threads`]). What it could not take
//! over is named then.

use crate::descriptors::Descriptors;
use crate::{link, shared, stopping, threads};
use lightcell_events::frame::{Kind, encode_fields};
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

/// What this process is after [`before_cell`].
pub enum Role {
    /// It runs the cell; the number is the waiting copy's pid, or 0 when there is none.
    Runner(c_int),
    /// It was the copy, and the runner is gone.
    TookOver,
}

/// Splits off the runner; the supervisor never returns from here.
pub fn supervise() {
    // SAFETY: orphans of the runner become children of this process instead of init's, so that it sees them end; and
    // it ends with the kernel, however that ends.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
    }
    shared::get()
        .supervisor
        .store(std::process::id() as c_int, Ordering::SeqCst);
    // SAFETY: this process has one thread, and the child goes on with it.
    match unsafe { libc::fork() } {
        -1 => {} // No process left to watch over the cells: they run unwatched, and a crash loses the variables.
        0 => {
            // SAFETY: dies with the supervisor, whom evcxr may kill.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            shared::get()
                .runner
                .store(std::process::id() as c_int, Ordering::SeqCst);
        }
        child => watch(child),
    }
}

fn watch(first: c_int) -> ! {
    let shared = shared::get();
    shared.runner.store(first, Ordering::SeqCst);
    loop {
        let mut status = 0;
        // SAFETY: waits for any child, status into a local.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid < 0 {
            if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            // SAFETY: no child left.
            unsafe { libc::_exit(0) }
        }
        if pid != shared.runner.load(Ordering::SeqCst) {
            continue;
        }
        let heir = shared.waiting.swap(0, Ordering::SeqCst);
        if heir == 0 {
            if status != 0 {
                link::send(Kind::TakenOver, &encode_fields([&describe(status)[..], "all"]));
            }
            // SAFETY: nothing left to do; ends with the runner's own status where there is one.
            unsafe {
                libc::_exit(if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    128 + libc::WTERMSIG(status)
                })
            }
        }
        shared.status.store(status, Ordering::SeqCst);
        shared.runner.store(heir, Ordering::SeqCst);
        shared.takeover.fetch_add(1, Ordering::SeqCst);
        // SAFETY: wakes whoever sleeps on the counter in the shared page.
        unsafe { libc::syscall(libc::SYS_futex, shared.takeover.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }
}

fn describe(status: c_int) -> String {
    if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("exit {}", libc::WEXITSTATUS(status))
    }
}

/// Makes the copy.
pub fn before_cell() -> Role {
    rest_libtorch_threads();
    let shared = shared::get();
    let seen = shared.takeover.load(Ordering::SeqCst);
    let runner = std::process::id() as c_int;
    let mut descriptors = Descriptors::new();
    let (copy, threads) = threads::fork(|| descriptors.note());
    match copy {
        0 => {
            // Until the threads are back nothing here takes memory or a lock: one of them may have been in malloc.
            let mut lost = descriptors.let_go();
            wait(seen, runner);
            descriptors.renew(&mut lost);
            let lost_threads = threads.revive();
            let how = describe(shared.status.load(Ordering::SeqCst));
            let lost = [
                (lost.pipes, "pipe"),
                (lost.sockets, "socket"),
                (lost_threads, "background thread"),
            ];
            let names: Vec<String> = lost
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, one)| format!("{count} {one}{}", if count > 1 { "s" } else { "" }))
                .collect();
            link::send(Kind::TakenOver, &encode_fields([how, names.join(", ")]));
            // SAFETY: the supervisor is the parent now (it adopts orphans); the copy ends with it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            Role::TookOver
        }
        1.. => {
            shared.waiting.store(copy, Ordering::SeqCst);
            Role::Runner(copy)
        }
        _ => Role::Runner(0),
    }
}

/// Sleeps until the supervisor counts a takeover. Looks up now and then whether there is still a supervisor: its parent
/// is the runner, then the supervisor, who adopts it.
fn wait(seen: u32, runner: c_int) {
    let shared = shared::get();
    let (me, supervisor) = (std::process::id() as c_int, shared.supervisor.load(Ordering::SeqCst));
    loop {
        let now = shared.takeover.load(Ordering::SeqCst);
        if now != seen && shared.runner.load(Ordering::SeqCst) == me {
            return;
        }
        let pause = libc::timespec { tv_sec: 1, tv_nsec: 0 };
        // SAFETY: sleeps on the counter in the shared page for at most the pause.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                shared.takeover.as_ptr(),
                libc::FUTEX_WAIT,
                now,
                &raw const pause,
            )
        };
        // SAFETY: takes nothing.
        let parent = unsafe { libc::getppid() };
        if parent != runner && parent != supervisor {
            // SAFETY: runner and supervisor are both gone; ends this process at once.
            unsafe { libc::_exit(0) }
        }
    }
}

/// The cell has ended: the copy is not needed.
pub fn drop_copy(copy: c_int) {
    if copy == 0 {
        return;
    }
    shared::get().waiting.store(0, Ordering::SeqCst);
    // SAFETY: our own child, not yet waited for, so the number is still its own.
    unsafe {
        libc::kill(copy, libc::SIGKILL);
        libc::waitpid(copy, std::ptr::null_mut(), 0);
    }
}

/// libtorch's CPU threads are OpenMP's, and OpenMP ends them when asked; the next parallel region starts new ones.
fn rest_libtorch_threads() {
    if threads::able() || stopping::others() == 0 {
        return;
    }
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    let Some(path) = maps
        .lines()
        .filter_map(|line| line.split_once('/').map(|(_, path)| format!("/{path}")))
        .find(|path| path.contains("libgomp"))
    else {
        return;
    };
    let Ok(path) = std::ffi::CString::new(path) else { return };
    // SAFETY: the library is loaded already (NOLOAD); the function takes one int and returns one.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if handle.is_null() {
            return;
        }
        let pause = libc::dlsym(handle, c"omp_pause_resource_all".as_ptr());
        if !pause.is_null() {
            const OMP_PAUSE_HARD: c_int = 2;
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(pause)(OMP_PAUSE_HARD);
        }
        libc::dlclose(handle);
    }
}
