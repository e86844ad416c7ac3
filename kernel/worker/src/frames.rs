//! The user's functions on the stack of a panic. Not by the standard library's backtrace, nor by the crate of that name:
//! both look once for the libraries that are loaded, and so know none of the cells that came after the first panic.

use object::{Object, ObjectSymbol};
use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_int, c_void};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// Deeper ones are not named.
const DEPTH: usize = 256;

/// evcxr's name for the crate of each cell.
const CRATE: &str = "ctx::";

/// What is on this thread's stack of cells' code, innermost first.
#[derive(Default)]
pub struct Frames {
    /// The library of the cell that runs, the outermost one, and on a second line the calls in it, as hexadecimal offsets with
    /// spaces between. The kernel finds the lines.
    pub calls: String,
    /// Names of the functions.
    pub names: Vec<String>,
}

/// Walks this thread's stack.
pub fn of_cells() -> Frames {
    let mut stack = [std::ptr::null_mut::<c_void>(); DEPTH];
    // SAFETY: writes at most as many addresses as there is room for.
    let depth = unsafe { libc::backtrace(stack.as_mut_ptr(), DEPTH as c_int) };
    let mut files = HashMap::new();
    let mut frames = Frames::default();
    let mut calls = Vec::new();
    for &returns_to in &stack[..usize::try_from(depth).unwrap_or(0)] {
        // The call itself: what follows it may be another function.
        let Some((path, at)) = place(returns_to.wrapping_byte_sub(1)) else {
            continue;
        };
        calls.push((path, at));
        let data = files
            .entry(path)
            .or_insert_with_key(|path| std::fs::read(OsStr::from_bytes(path.to_bytes())).unwrap_or_default());
        frames
            .names
            .extend(name(data, at).filter(|name| !name.contains("evcxr_internal_runtime")));
    }
    if let Some(&(library, _)) = calls.last() {
        frames.calls = format!("{}\n", library.to_string_lossy());
        for (_, at) in calls.iter().filter(|(path, _)| *path == library) {
            // Writing to a text does not fail.
            let _ = write!(frames.calls, "{at:x} ");
        }
    }
    frames
}

/// The library of a cell that holds an instruction, and the instruction's place in it.
fn place(ip: *mut c_void) -> Option<(&'static CStr, u64)> {
    // SAFETY: `info` is written by the call when it succeeds; the name is the loader's own, and no library is unloaded.
    let (file, base) = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(ip, &raw mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        (CStr::from_ptr(info.dli_fname), info.dli_fbase)
    };
    // evcxr's name for a cell's library. Others are not the user's, and libtorch's symbols take long to read.
    let name = file.to_bytes().rsplit(|byte| *byte == b'/').next()?;
    let at = (ip as usize).checked_sub(base as usize)? as u64;
    name.starts_with(b"libcode_").then_some((file, at))
}

/// The function of a cell at a place in a library, without the crate's name.
fn name(library: &[u8], at: u64) -> Option<String> {
    let file = object::File::parse(library).ok()?;
    let symbol = file
        .symbols()
        .find(|symbol| (symbol.address()..symbol.address() + symbol.size()).contains(&at))?;
    let name = format!("{:#}", rustc_demangle::demangle(symbol.name().ok()?));
    name.strip_prefix(CRATE).map(str::to_owned)
}
