//! Reads the system's small files and folders without taking memory, so that it can be done while other threads are
//! stopped anywhere, with any lock held.

use std::ffi::{CStr, c_int};
use std::io::Write;

struct Open(c_int);

impl Open {
    fn new(path: &CStr, flags: c_int) -> Option<Open> {
        // SAFETY: a NUL-terminated path.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | flags) };
        (fd >= 0).then_some(Open(fd))
    }

    fn read(&self, into: &mut [u8]) -> Option<usize> {
        // SAFETY: writes at most the buffer's length into the buffer.
        let got = unsafe { libc::syscall(libc::SYS_read, self.0, into.as_mut_ptr(), into.len()) };
        usize::try_from(got).ok()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: opened here.
        unsafe { libc::close(self.0) };
    }
}

/// Calls with each number that is a name in a folder of /proc; false when the folder cannot be read.
pub fn numbers(folder: &CStr, mut with: impl FnMut(c_int)) -> bool {
    let Some(folder) = Open::new(folder, libc::O_DIRECTORY) else {
        return false;
    };
    let mut buffer = [0u64; 512];
    loop {
        // SAFETY: writes at most the buffer's size into the buffer.
        let got = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                folder.0,
                buffer.as_mut_ptr(),
                size_of_val(&buffer),
            )
        };
        let Ok(got @ 1..) = usize::try_from(got) else {
            return got == 0;
        };
        // SAFETY: the bytes of the buffer that were written.
        let mut entries = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), got) };
        // An entry: two numbers of 8 bytes, its length in 2, its kind in 1, its name up to a NUL.
        while let Some(length) = entries.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let Some((entry, rest)) = entries.split_at_checked(length.max(19)) else {
                return false;
            };
            entries = rest;
            let name = entry[19..].split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(number) = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
                with(number);
            }
        }
    }
}

/// The beginning of a file, as much as the buffer takes.
pub fn read<'a>(path: &CStr, into: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = Open::new(path, 0)?;
    let got = file.read(into)?;
    into.get(..got)
}

/// What a descriptor is, in the system's words; only short answers.
pub fn link(fd: c_int, into: &mut [u8; 64]) -> Option<&str> {
    let mut path = [0u8; 32];
    let path = path_of(&mut path, format_args!("/proc/self/fd/{fd}"))?;
    // SAFETY: writes at most the buffer's length into the buffer.
    let got = unsafe { libc::readlink(path.as_ptr(), into.as_mut_ptr().cast(), into.len()) };
    std::str::from_utf8(into.get(..usize::try_from(got).ok()?)?).ok()
}

/// Calls with each line that the system tells of a descriptor.
pub fn lines_of_fd(fd: c_int, mut with: impl FnMut(&str)) {
    let mut path = [0u8; 32];
    let file = path_of(&mut path, format_args!("/proc/self/fdinfo/{fd}")).and_then(|path| Open::new(path, 0));
    let Some(file) = file else { return };
    let mut buffer = [0u8; 4096];
    let mut held = 0;
    while let Some(got @ 1..) = file.read(&mut buffer[held..]) {
        held += got;
        let whole = buffer[..held]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in buffer[..whole].split(|byte| *byte == b'\n') {
            with(std::str::from_utf8(line).unwrap_or_default());
        }
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
}

/// A path as C takes it.
pub fn path_of<'a>(buffer: &'a mut [u8], path: std::fmt::Arguments<'_>) -> Option<&'a CStr> {
    let mut rest = &mut buffer[..];
    rest.write_fmt(path).ok()?;
    rest.write_all(b"\0").ok()?;
    CStr::from_bytes_until_nul(buffer).ok()
}
