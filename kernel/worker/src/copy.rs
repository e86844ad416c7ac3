//! A copy of the process before each cell, so that nothing the cell does can lose the variables.
//!
//! Three processes: the supervisor (whose pid evcxr knows) only waits; the runner runs the cells; a copy, made by
//! `fork` before each cell, sleeps. When the cell has ended the copy is dropped. When the runner dies instead (a
//! crash, `exit`, the kernel's kill on interrupt), the copy becomes the runner: its memory is that of before the cell.
//! This way round, and not the other, so that in the normal case pid, child processes and locks stay the user's.
//!
//! The copy lets go of the user's pipes and sockets: with them open, a child whose stdin was dropped would never see its
//! end. In their places stands a socket whose other side is closed, so that what holds them reads an end, fails to write,
//! and can be dropped. They, and threads other than this one, cannot be taken over, and are named when it happens.

use crate::link;
use crate::shared;
use lightcell_events::frame::{Kind, encode_fields};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
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
    match fork() {
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

/// libc's `fork`, not the bare system call: it leaves malloc's locks usable on both sides.
fn fork() -> c_int {
    // SAFETY: the child goes on with this thread alone; what threads of the user lose by that is named at a takeover.
    unsafe { libc::fork() }
}

/// Makes the copy.
pub fn before_cell() -> Role {
    rest_libtorch_threads();
    let shared = shared::get();
    let seen = shared.takeover.load(Ordering::SeqCst);
    let threads = threads();
    let runner = std::process::id() as c_int;
    match fork() {
        -1 => Role::Runner(0),
        0 => {
            let lost = let_go_of_pipes();
            wait(seen, runner);
            let how = describe(shared.status.load(Ordering::SeqCst));
            let mut names = lost;
            if threads > 1 {
                names.push(format!(
                    "{} background thread{}",
                    threads - 1,
                    if threads > 2 { "s" } else { "" }
                ));
            }
            link::send(Kind::TakenOver, &encode_fields([how, names.join(", ")]));
            // SAFETY: the supervisor is the parent now (it adopts orphans); the copy ends with it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            Role::TookOver
        }
        copy => {
            shared.waiting.store(copy, Ordering::SeqCst);
            Role::Runner(copy)
        }
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

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Puts a dead socket in the place of pipes and sockets other than the worker's own; says what they were.
fn let_go_of_pipes() -> Vec<String> {
    let (mut pipes, mut sockets) = (0, 0);
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let numbers: Vec<c_int> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let mut dead = None;
    for fd in numbers {
        // The worker's own stand at 200 and above; 0 to 2 are the user's standard descriptors, and stay.
        if fd <= 2 || crate::fds::is_private(fd) {
            continue;
        }
        let target = name_of(fd);
        let count = if target.starts_with("pipe:") {
            &mut pipes
        } else if target.starts_with("socket:") && DEAD.get() != Some(&target) {
            &mut sockets
        } else {
            continue;
        };
        *count += 1;
        let dead = *dead.get_or_insert_with(dead_socket);
        // SAFETY: descriptors of this copy; the runner's stays open.
        unsafe {
            if dead < 0 || libc::dup3(dead, fd, libc::O_CLOEXEC) < 0 {
                libc::close(fd);
            }
        }
    }
    if let Some(dead) = dead {
        let _ = DEAD.set(name_of(dead));
        // SAFETY: made above; its duplicates stay.
        unsafe { libc::close(dead) };
    }
    let mut lost = Vec::new();
    for (count, one) in [(pipes, "pipe"), (sockets, "socket")] {
        if count > 0 {
            lost.push(format!("{count} {one}{}", if count > 1 { "s" } else { "" }));
        }
    }
    lost
}

/// What the process that took over has in the place of pipes and sockets: not lost a second time.
static DEAD: OnceLock<String> = OnceLock::new();

/// What a descriptor is, in the system's words.
fn name_of(fd: c_int) -> String {
    let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    target.to_string_lossy().into_owned()
}

/// A socket whose other side is closed; negative when there are no descriptors left.
fn dead_socket() -> c_int {
    let mut pair = [-1; 2];
    // SAFETY: writes two descriptors into a local of that size; the second is nobody else's.
    unsafe {
        if libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
            0,
            pair.as_mut_ptr(),
        ) == 0
        {
            libc::close(pair[1]);
        }
    }
    pair[0]
}

/// libtorch's CPU threads are OpenMP's, and OpenMP ends them when asked; the next parallel region starts new ones.
fn rest_libtorch_threads() {
    if threads() == 1 {
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
