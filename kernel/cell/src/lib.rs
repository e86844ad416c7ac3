//! What a notebook cell can use without libtorch: rich output, events, the stop button.
//!
//! ```
//! use lightcell_cell::{Rich, display, display_as, update_display};
//! display(&vec![1, 2, 3]);
//! display(&Rich::html("<b>bold</b>").and_text("bold"));
//! display_as("progress", &"0 %"); // an output with a name ...
//! update_display("progress", &"100 %"); // ... changes in place
//! ```
//!
//! The functions reach the worker through C symbols that it exports, because a static in this crate would exist once
//! per cell. In a program that is no notebook the symbols are not there: rich output falls back to its plain text and
//! [`emit_event`] says that nobody listens.

use lightcell_events::frame::{self, Kind};
use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const std::ffi::c_char) -> *mut c_void;
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a null handle is RTLD_DEFAULT: the global scope, which holds the worker's exported symbols.
    let found = unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

type EmitFn = unsafe extern "C" fn(kind: u8, data: *const u8, len: usize);
type StopFn = unsafe extern "C" fn() -> c_int;

fn emit_fn() -> Option<EmitFn> {
    static EMIT: OnceLock<Option<EmitFn>> = OnceLock::new();
    // SAFETY: the worker defines the symbol with this signature.
    *EMIT.get_or_init(|| symbol(c"lightcell_emit").map(|f| unsafe { std::mem::transmute::<*mut c_void, EmitFn>(f) }))
}

fn stop_fn(name: &CStr) -> Option<StopFn> {
    // SAFETY: the worker defines both stop symbols with this signature.
    symbol(name).map(|f| unsafe { std::mem::transmute::<*mut c_void, StopFn>(f) })
}

/// Lets the loader bind the statics of later cells to those of the calling one. The kernel puts a call into each cell that
/// defines statics; `here` is anything in the cell's own library.
///
/// ```
/// lightcell_cell::share_statics(&0); // nothing to be seen, in a program that is no notebook
/// ```
#[inline(never)]
pub fn share_statics(here: &'static u8) {
    #[repr(C)]
    struct Info {
        file: *const std::ffi::c_char,
        base: *mut c_void,
        symbol: *const std::ffi::c_char,
        address: *mut c_void,
    }
    unsafe extern "C" {
        fn dladdr(address: *const c_void, info: *mut Info) -> c_int;
        fn dlopen(file: *const std::ffi::c_char, flags: c_int) -> *mut c_void;
    }
    const NOW_NOLOAD_GLOBAL: c_int = 0x2 | 0x4 | 0x100;
    let mut info = Info {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: the structure is glibc's Dl_info; the file it names is a text of the loader's that lives as long as the
    // library, which is loaded already and is never unloaded.
    unsafe {
        if in_notebook() && dladdr(std::ptr::from_ref(here).cast(), &raw mut info) != 0 && !info.file.is_null() {
            dlopen(info.file, NOW_NOLOAD_GLOBAL);
        }
    }
}

/// Whether this code runs in a Lightcell notebook.
pub fn in_notebook() -> bool {
    emit_fn().is_some()
}

fn emit(kind: Kind, payload: &[u8]) -> bool {
    let Some(emit) = emit_fn() else { return false };
    // What the user printed before comes first.
    let _ = std::io::Write::flush(&mut std::io::stdout());
    // SAFETY: pointer and length of a live slice; the worker copies before it returns.
    unsafe { emit(kind as u8, payload.as_ptr(), payload.len()) };
    true
}

/// Sends a message of the training library (JSON, see `lightcell_events::run`) to the kernel. `false`: no notebook,
/// nobody heard it.
pub fn emit_event(json: &[u8]) -> bool {
    emit(Kind::Event, json)
}

/// Whether the user pressed stop since the last [`clear_stop`]. Always `false` outside a notebook.
pub fn stop_requested() -> bool {
    stop_state() != 0
}

/// Whether the stop comes from the kernel, because all of this ends soon (a job's time is nearly over): what is to be kept
/// should be written.
pub fn leave_requested() -> bool {
    stop_state() == 2
}

fn stop_state() -> c_int {
    static STOP: OnceLock<Option<StopFn>> = OnceLock::new();
    // SAFETY: takes nothing, reads one atomic of the worker.
    STOP.get_or_init(|| stop_fn(c"lightcell_stop_requested"))
        .map_or(0, |stop| unsafe { stop() })
}

/// Forgets an earlier press of the stop button; a run calls it when it begins.
pub fn clear_stop() {
    if let Some(clear) = stop_fn(c"lightcell_stop_clear") {
        // SAFETY: takes nothing, writes one atomic of the worker.
        unsafe { clear() };
    }
}

mod data_frame;
mod figure;
pub mod magics;
mod rich;
pub mod store;
mod table;

pub use figure::Figure;
pub use frame::{Display as RichOutput, DisplayKind};
pub use rich::{Rich, Show, clear_output, display, display_as, update_display};

/// Sends a rich output; outside a notebook its `text/plain` form is printed.
pub fn emit_display(output: &RichOutput) {
    if !emit(Kind::Display, &output.encode())
        && let Some((_, text)) = output.media.iter().find(|(mime, _)| mime == "text/plain")
    {
        println!("{}", String::from_utf8_lossy(text));
    }
}
