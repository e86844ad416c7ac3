//! Loads the library of a cell and runs it.

use crate::fds::{self, Private};
use crate::{copy, link, output};
use lightcell_events::frame::{CellEnd, Kind, encode_fields};
use std::ffi::{CString, c_int, c_void};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

type CellFn = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// Runs cells until evcxr closes its end.
pub fn serve(private: Private) -> ! {
    let mut variables: *mut c_void = std::ptr::null_mut();
    while let Some(line) = read_line(private.commands) {
        let mut words = line.split(' ');
        let (Some("LOAD_AND_RUN"), Some(library), Some(function)) = (words.next(), words.next(), words.next()) else {
            fail(&format!("cannot read evcxr's command: {line}"));
        };
        let copy = match copy::before_cell() {
            copy::Role::Runner(copy) => copy,
            copy::Role::TookOver => {
                // evcxr must believe that the cell panicked: then it keeps the variables it had before.
                output::write_all(private.control, b"EVCXR_PANIC_NOTIFICATION\nEVCXR_EXECUTION_COMPLETE\n");
                continue;
            }
        };
        let cell = match load(library, function) {
            Ok(cell) => cell,
            Err(message) => fail(&message),
        };
        link::send(Kind::CellStart, std::process::id().to_string().as_bytes());
        output::begin_cell(private.control);
        // SAFETY: evcxr generated the function with this signature; the pointer is what the cell before returned.
        variables = unsafe { cell(variables) };
        flush();
        let told = output::end_cell();
        copy::drop_copy(copy);
        let end = match told {
            output::Told { panicked: true, .. } => CellEnd::Panicked,
            output::Told { error: true, .. } => CellEnd::Error,
            _ => CellEnd::Returned,
        };
        link::send(Kind::CellEnd, &[end as u8]);
        output::write_all(private.control, b"EVCXR_EXECUTION_COMPLETE\n");
    }
    std::process::exit(0);
}

fn fail(message: &str) -> ! {
    output::write_all(2, message.as_bytes());
    link::send(Kind::Stderr, message.as_bytes());
    // SAFETY: ends the process without running the user's destructors.
    unsafe { libc::_exit(99) }
}

/// One line, read byte by byte: what is read ahead would be lost to the process that takes over.
fn read_line(fd: c_int) -> Option<String> {
    let mut line = Vec::new();
    loop {
        let mut byte = 0u8;
        // SAFETY: reads one byte into a local.
        match unsafe { libc::syscall(libc::SYS_read, fd, &raw mut byte, 1usize) } {
            1 if byte == b'\n' => return Some(String::from_utf8_lossy(&line).into_owned()),
            1 => line.push(byte),
            -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

fn load(library: &str, function: &str) -> Result<CellFn, String> {
    let library = CString::new(library).map_err(|_| "a NUL in the path of the cell's library".to_owned())?;
    let function = CString::new(function).map_err(|_| "a NUL in the name of the cell's function".to_owned())?;
    // SAFETY: NUL-terminated texts. The library is never unloaded: values of its types live on in the variables.
    unsafe {
        let mut handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if handle.is_null() && !PRELOADED.swap(true, Ordering::Relaxed) && preload() {
            handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        }
        if handle.is_null() {
            return Err(fds::dl_error());
        }
        let found = libc::dlsym(handle, function.as_ptr());
        if found.is_null() {
            return Err(fds::dl_error());
        }
        Ok(std::mem::transmute::<*mut c_void, CellFn>(found))
    }
}

static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Loads the libraries named in `LIGHTCELL_PRELOAD` (libtch, then libtorch_cuda where there is a driver). Done when the
/// first cell needs them, so that a notebook without tensors pays nothing; by path, so that the user's child processes
/// inherit no LD_LIBRARY_PATH; libtorch_cuda before the first question about CUDA, because rustc's linker drops it from
/// cells and libtorch then answers "no CUDA" for the rest of the process.
fn preload() -> bool {
    let Some(list) = std::env::var_os("LIGHTCELL_PRELOAD") else { return false };
    let mut any = false;
    for path in std::env::split_paths(&list) {
        let Ok(name) = CString::new(path.as_os_str().as_encoded_bytes()) else { continue };
        // SAFETY: a NUL-terminated path; the constructors that run are libtorch's own.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() {
            link::send(Kind::Info, &encode_fields(["preload", &fds::dl_error()]));
        } else {
            any = true;
        }
    }
    any
}

/// What the cell left in buffers: Rust's stdout (shared libstd) and C's.
fn flush() {
    let _ = std::io::stdout().flush();
    // SAFETY: null means all of C's output streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}
