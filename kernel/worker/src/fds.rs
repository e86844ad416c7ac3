//! Which descriptor is what. The kernel starts the worker with evcxr's pipes on 0, 1 and 2, and three of its own on
//! [`EVENTS`] and the two after it.

use std::ffi::{CStr, c_int};

/// The packet socket to the kernel; the two descriptors after it are the pipes for what child processes print.
const EVENTS: c_int = 3;
/// Private descriptors start here, out of the way of programs that count theirs from 3.
const PRIVATE: c_int = 200;

/// What belongs to the worker and not to the user.
#[derive(Clone, Copy)]
pub struct Private {
    /// evcxr's commands.
    pub commands: c_int,
    /// evcxr's control lines.
    pub control: c_int,
    /// Packets to and from the kernel.
    pub events: c_int,
}

/// Moves evcxr's pipes away from the user's descriptors; `None` when the worker was not started by the kernel.
pub fn take() -> Option<Private> {
    let high = |fd: c_int, at: c_int| -> Option<c_int> {
        // SAFETY: plain descriptor calls on numbers.
        let moved = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, at) };
        (moved >= 0).then_some(moved)
    };
    let mut kind: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: asks the type of a descriptor into a local of the right size.
    let asked = unsafe {
        libc::getsockopt(
            EVENTS,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        )
    };
    if asked != 0 || kind != libc::SOCK_SEQPACKET {
        return None;
    }
    let private = Private {
        commands: high(0, PRIVATE)?,
        control: high(1, PRIVATE)?,
        events: high(EVENTS, PRIVATE)?,
    };
    // SAFETY: plain descriptor calls; 0, 1 and 2 become the user's: no input, and the pipes of the kernel.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
        libc::dup2(null, 0);
        libc::dup2(EVENTS + 1, 1);
        libc::dup2(EVENTS + 2, 2);
        for fd in [null, EVENTS, EVENTS + 1, EVENTS + 2] {
            if fd > 2 {
                libc::close(fd);
            }
        }
    }
    Some(private)
}

/// Whether a descriptor is the worker's own.
pub fn is_private(fd: c_int) -> bool {
    (PRIVATE..PRIVATE + 3).contains(&fd)
}

/// The message of the last failed `dlopen` or `dlsym`.
pub fn dl_error() -> String {
    // SAFETY: returns null or a C string that lives until the next call.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "unknown error".into();
    }
    // SAFETY: not null, see above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Device and inode of a descriptor, to see whether user code put another file in its place.
pub fn identity(fd: c_int) -> Option<(u64, u64)> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fills the local; read only when the call succeeded.
    unsafe {
        if libc::fstat(fd, stat.as_mut_ptr()) != 0 {
            return None;
        }
        let stat = stat.assume_init();
        Some((stat.st_dev, stat.st_ino))
    }
}
