//! The process in which the user's cells run.
//!
//! evcxr believes this to be its child: it sends `LOAD_AND_RUN <library> <function>` on standard input and waits for
//! control lines on standard output. Both are moved to private descriptors before any cell runs, so user code has
//! descriptors 0, 1 and 2 for itself. All it prints and shows goes to the kernel on one socket, in order.
//!
//! Built with the user's rustc and `-C prefer-dynamic`, so that it shares libstd.so with the cells: only then does its
//! panic hook hold for them, and only then can it flush what they left in stdout's buffer.
//!
//! It has one thread of its own. Those of the user's are part of a copy of the process (see [`copy`]) too: [`threads`].
//!
//! Must not know: Jupyter, evcxr's crates, libtorch.

mod bound;
mod cell;
mod copy;
mod descriptors;
mod fds;
mod frames;
mod link;
mod listing;
mod output;
mod panics;
mod polls;
mod shared;
mod stopping;
mod system;
mod threads;

use std::ffi::c_int;

fn main() {
    if std::env::var_os("EVCXR_IS_RUNTIME").is_none() {
        hand_on_to_kernel();
    }
    let Some(private) = fds::take() else {
        eprintln!("lightcell-worker is started by lightcell-kernel, not by hand.");
        std::process::exit(2);
    };
    own_environment();
    shared::init();
    link::open(private.events);
    copy::supervise();
    panics::install();
    output::arm();
    cell::preload();
    cell::serve(private);
}

/// The loader has read the library path by now and keeps it; the user's child processes get the user's own.
fn own_environment() {
    // SAFETY: no other thread runs yet.
    unsafe {
        match std::env::var_os("LIGHTCELL_USER_LD_LIBRARY_PATH") {
            Some(path) if !path.is_empty() => std::env::set_var("LD_LIBRARY_PATH", path),
            _ => std::env::remove_var("LD_LIBRARY_PATH"),
        }
        std::env::remove_var("LIGHTCELL_USER_LD_LIBRARY_PATH");
        std::env::remove_var("EVCXR_IS_RUNTIME");
    }
}

/// evcxr takes the worker for its own program, and so also calls it as a wrapper around rustc when its cache is on.
/// The kernel's program knows how to be that.
fn hand_on_to_kernel() {
    use std::os::unix::process::CommandExt;
    if std::env::var_os("EVCXR_RUSTC_WRAPPER").is_some()
        && let Some(kernel) = std::env::var_os("LIGHTCELL_KERNEL")
    {
        let error = std::process::Command::new(kernel)
            .args(std::env::args_os().skip(1))
            .exec();
        eprintln!("cannot run the kernel as a wrapper around rustc: {error}");
        std::process::exit(1);
    }
}

/// Whether stop was pressed since the last clear; 2 when it was the kernel, before its end. For the training library.
#[unsafe(no_mangle)]
pub extern "C" fn lightcell_stop_requested() -> c_int {
    c_int::from(shared::get().stop.load(std::sync::atomic::Ordering::Relaxed))
}

/// Forgets an earlier press of stop. For the training library.
#[unsafe(no_mangle)]
pub extern "C" fn lightcell_stop_clear() -> c_int {
    shared::get().stop.store(0, std::sync::atomic::Ordering::Relaxed);
    0
}

/// Sends one packet to the kernel, in order with what was printed. For `lightcell-cell`.
///
/// # Safety
/// `data` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lightcell_emit(kind: u8, data: *const u8, len: usize) {
    if let Some(kind) = lightcell_events::frame::Kind::from_byte(kind)
        && !data.is_null()
    {
        // SAFETY: the caller's promise.
        link::send(kind, unsafe { std::slice::from_raw_parts(data, len) });
    }
}
