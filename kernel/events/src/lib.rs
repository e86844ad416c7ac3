//! What the worker (and the training library inside it) tells the kernel.
//!
//! [`frame`] is the outer form: one packet on one socket, in the order things happened. [`run`] holds the messages
//! about a training run, which travel inside an [`frame::Kind::Event`] packet as JSON, [`figure`] what a cell wants drawn.
//! `files` is what the kernel and those who carry its files say to each other.
//!
//! This crate knows nothing of Jupyter, evcxr or libtorch.

pub mod cpp;
#[cfg(feature = "run")]
pub mod figure;
#[cfg(feature = "files")]
pub mod files;
pub mod frame;
#[cfg(feature = "run")]
pub mod run;

/// The value that comes with the stop signal when it is no user who stops a run: the kernel ends soon, and what is to be
/// kept should be written.
pub const LEAVE: i32 = 2;

/// Text as HTML shows it, also between quotation marks.
///
/// ```
/// assert_eq!(lightcell_events::escape("a < \"b\""), "a &lt; &quot;b&quot;");
/// ```
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
