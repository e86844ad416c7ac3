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
    static STOP: OnceLock<Option<StopFn>> = OnceLock::new();
    // SAFETY: takes nothing, reads one atomic of the worker.
    STOP.get_or_init(|| stop_fn(c"lightcell_stop_requested"))
        .is_some_and(|stop| unsafe { stop() } != 0)
}

/// Forgets an earlier press of the stop button; a run calls it when it begins.
pub fn clear_stop() {
    if let Some(clear) = stop_fn(c"lightcell_stop_clear") {
        // SAFETY: takes nothing, writes one atomic of the worker.
        unsafe { clear() };
    }
}

pub mod magics;
mod rich;

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
