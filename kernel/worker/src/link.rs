//! The packet socket to the kernel.

use lightcell_events::frame::{self, Kind};
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};

static SOCKET: AtomicI32 = AtomicI32::new(-1);

/// Names the socket; nothing is sent before.
pub fn open(fd: c_int) {
    SOCKET.store(fd, Ordering::Release);
}

/// Sends a payload, in as many packets as it needs. Takes no lock and no memory: it may be called while a cell holds
/// stdout's lock, from any thread.
pub fn send(kind: Kind, payload: &[u8]) {
    let fd = SOCKET.load(Ordering::Acquire);
    if fd < 0 {
        return;
    }
    for (head, piece) in frame::pieces(kind, payload) {
        let mut parts = [
            libc::iovec {
                iov_base: head.as_ptr().cast_mut().cast(),
                iov_len: head.len(),
            },
            libc::iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            },
        ];
        // SAFETY: zero is a valid msghdr; the two parts outlive the call, which only reads them.
        let sent = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = parts.as_mut_ptr();
            message.msg_iovlen = parts.len();
            loop {
                let sent = libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL);
                if sent >= 0 || *libc::__errno_location() != libc::EINTR {
                    break sent;
                }
            }
        };
        if sent < 0 {
            // The kernel is gone; evcxr's command pipe ends too, and with it this process.
            return;
        }
    }
}

/// Waits for the kernel's answer to [`Kind::Input`]: the first byte says whether there is one, the rest is the line.
/// `None` when there will be no input.
pub fn receive_line() -> Option<Vec<u8>> {
    let fd = SOCKET.load(Ordering::Acquire);
    let mut buffer = vec![0u8; frame::MAX_PAYLOAD];
    loop {
        // SAFETY: reads at most the buffer's length into the buffer.
        let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if got < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted {
            continue;
        }
        let got = usize::try_from(got).ok()?;
        buffer.truncate(got);
        let (answered, line) = buffer.split_first()?;
        return (*answered == 1).then(|| line.to_vec());
    }
}
