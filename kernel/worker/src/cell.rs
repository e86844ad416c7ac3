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
            Err(message) => fail(&format!("the cell cannot be loaded: {message}\n")),
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
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if handle.is_null() {
            return Err(fds::dl_error());
        }
        libtorch_cuda();
        let found = libc::dlsym(handle, function.as_ptr());
        if found.is_null() {
            return Err(fds::dl_error());
        }
        Ok(std::mem::transmute::<*mut c_void, CellFn>(found))
    }
}

/// Loads the library that `LIGHTCELL_PRELOAD` names, which takes a third of a second, while the kernel still prepares the
/// first cell. Without it the first cell with tensors loads it, so what goes wrong here shows there.
pub fn preload() {
    let Some(path) = std::env::var_os("LIGHTCELL_PRELOAD").filter(|path| !path.is_empty()) else {
        return;
    };
    // SAFETY: no other thread runs yet.
    unsafe { std::env::remove_var("LIGHTCELL_PRELOAD") };
    if let Ok(path) = CString::new(path.into_encoded_bytes()) {
        // SAFETY: a NUL-terminated path; the constructors that run are libtorch's own. The handle is never closed.
        unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    }
}

static SEEN_TORCH: AtomicBool = AtomicBool::new(false);

/// Loads the library that `LIGHTCELL_LIBTORCH_CUDA` names as soon as a cell has brought libtorch in: rustc's linker drops
/// libtorch_cuda from cells, and without it libtorch's first answer about CUDA, "none", holds for the rest of the
/// process. A notebook without tensors pays nothing.
fn libtorch_cuda() {
    // SAFETY: NOLOAD only asks whether the library is there; the handle is not used.
    let there = || unsafe { !libc::dlopen(c"libtorch_cpu.so".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD).is_null() };
    if SEEN_TORCH.load(Ordering::Relaxed) || !there() {
        return;
    }
    SEEN_TORCH.store(true, Ordering::Relaxed);
    let Some(path) = std::env::var_os("LIGHTCELL_LIBTORCH_CUDA").filter(|path| !path.is_empty()) else {
        return;
    };
    let Ok(path) = CString::new(path.into_encoded_bytes()) else {
        return;
    };
    // SAFETY: a NUL-terminated path; the constructors that run are libtorch's own.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        link::send(Kind::Info, &encode_fields(["libtorch_cuda", &fds::dl_error()]));
    }
}

/// What the cell left in buffers: Rust's stdout (shared libstd) and C's.
fn flush() {
    let _ = std::io::stdout().flush();
    // SAFETY: null means all of C's output streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}
