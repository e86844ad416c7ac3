//! One page that the supervisor, the process that runs the cells and its waiting copy have in common, and that the
//! signal handler may touch.

use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// The page.
#[repr(C)]
pub struct Shared {
    /// Stop was pressed (the kernel sends SIGINT).
    pub stop: AtomicI32,
    /// Process that runs the cells now.
    pub runner: AtomicI32,
    /// The supervisor.
    pub supervisor: AtomicI32,
    /// The copy that waits, or 0.
    pub waiting: AtomicI32,
    /// Wait status with which the last runner ended.
    pub status: AtomicI32,
    /// Futex: counts takeovers; the waiting copy sleeps on it.
    pub takeover: AtomicU32,
}

static PAGE: AtomicPtr<Shared> = AtomicPtr::new(std::ptr::null_mut());

/// Maps the page; called once, before the first fork.
pub fn init() {
    // SAFETY: a fresh anonymous mapping, zeroed by the system: a valid `Shared`, never unmapped.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<Shared>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        eprintln!("lightcell-worker: no memory for one page");
        std::process::exit(2);
    }
    PAGE.store(page.cast(), Ordering::Release);
}

/// The page.
pub fn get() -> &'static Shared {
    // SAFETY: `init` ran first in `main`; the mapping lives as long as the process.
    unsafe { &*PAGE.load(Ordering::Acquire) }
}
