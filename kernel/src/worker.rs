//! Starts the worker and reads what it sends: one packet socket, and two pipes for what child processes print.

use crate::home::{Home, Rustc};
use anyhow::{Context, Result};
use lightcell_events::frame::{self, Kind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The kernel's ends. They live as long as the kernel: evcxr starts the worker anew after a death without asking, and
/// the new one gets the same.
#[derive(Debug)]
pub struct Link {
    /// Packets from the worker, answers to it.
    pub events: OwnedFd,
    /// What child processes print to their inherited stdout and stderr.
    pub pipes: [OwnedFd; 2],
    /// The worker's end of the socket: kept for [`Link::sync`].
    worker_end: OwnedFd,
    _worker_pipes: [OwnedFd; 2],
}

impl Link {
    /// Makes the descriptors and the command that starts a worker with them.
    pub fn new(home: &Home, rustc: &Rustc, session: &Path) -> Result<(Arc<Link>, Command)> {
        let (events, worker_end) = socket_pair().context("cannot make a socket pair")?;
        let (out_read, out_write) = pipe().context("cannot make a pipe")?;
        let (err_read, err_write) = pipe().context("cannot make a pipe")?;
        let mut command = Command::new(home.worker(rustc)?);
        let raw = [worker_end.as_raw_fd(), out_write.as_raw_fd(), err_write.as_raw_fd()];
        let users = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let path = home.libraries().into_iter().chain(std::env::split_paths(&users));
        command.env(
            "LD_LIBRARY_PATH",
            std::env::join_paths(path).context("a colon in the path of libtorch")?,
        );
        command.env("LIGHTCELL_USER_LD_LIBRARY_PATH", &users);
        command.env(
            "LIGHTCELL_PRELOAD",
            home.setup.libtorch.path.join("lib/libtorch_cpu.so"),
        );
        if let Some(cuda) = home.libtorch_cuda() {
            command.env("LIGHTCELL_LIBTORCH_CUDA", cuda);
        }
        command.env("LIGHTCELL_SESSION", session);
        // So that NVML and CUDA count devices alike.
        if std::env::var_os("CUDA_DEVICE_ORDER").is_none() {
            command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        }
        // OpenMP's threads spin for milliseconds by default, and on a machine that others use as well a run then takes
        // twenty times as long; so long as this they wait for each other within a step, and no longer.
        if ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"]
            .iter()
            .all(|name| std::env::var_os(name).is_none())
        {
            command.env("GOMP_SPINCOUNT", "10000");
        }
        for ours in ["RUST_SRC_PATH", "EVCXR_TMPDIR", "EVCXR_CONFIG_DIR"] {
            command.env_remove(ours);
        }
        crate::replay::restore(&mut command);
        if let Ok(kernel) = std::env::current_exe() {
            command.env("LIGHTCELL_KERNEL", kernel);
        }
        // SAFETY: between fork and exec only descriptor calls are made, on descriptors that this process holds open.
        unsafe {
            command.pre_exec(move || {
                // First out of the way of 3, 4 and 5, then into place; dup2 clears close-on-exec.
                let mut high = [0; 3];
                for (slot, fd) in high.iter_mut().zip(raw) {
                    *slot = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 64);
                    if *slot < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                for (place, fd) in (3..).zip(high) {
                    if libc::dup2(fd, place) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let link = Link {
            events,
            pipes: [out_read, err_read],
            worker_end,
            _worker_pipes: [out_write, err_write],
        };
        Ok((Arc::new(link), command))
    }

    /// Puts a mark behind everything that workers have sent so far.
    pub fn sync(&self, number: u32) {
        let mut packet = vec![Kind::Sync as u8, 0];
        packet.extend_from_slice(&number.to_le_bytes());
        send(&self.worker_end, &packet);
    }

    /// Answers a request for input; `None`: there will be none.
    pub fn answer(&self, line: Option<&str>) {
        let mut packet = vec![u8::from(line.is_some())];
        packet.extend_from_slice(line.unwrap_or_default().as_bytes());
        packet.truncate(frame::MAX_PAYLOAD);
        send(&self.events, &packet);
    }
}

fn send(fd: &OwnedFd, packet: &[u8]) {
    loop {
        // SAFETY: reads from a live slice.
        let sent = unsafe { libc::send(fd.as_raw_fd(), packet.as_ptr().cast(), packet.len(), libc::MSG_NOSIGNAL) };
        if sent >= 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn socket_pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: fills two descriptors, which are then owned.
    unsafe {
        if libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        ) != 0
        {
            return Err(std::io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: fills two descriptors, which are then owned. The reading end does not block; the writing end does.
    unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        libc::fcntl(fds[0], libc::F_SETFL, libc::O_NONBLOCK);
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// One thing read from the worker.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole packet.
    Packet(Kind, Vec<u8>),
    /// Output of a child process; `true` for standard error.
    Child(bool, Vec<u8>),
    /// Nothing came within the time.
    Quiet,
    /// The socket is closed.
    Closed,
}

/// Reads packets and child output.
pub struct Reader {
    link: Arc<Link>,
    buffer: Vec<u8>,
    /// Begun payloads, by kind: writers of one process take turns by packet, not by payload.
    parts: std::collections::HashMap<u8, Vec<u8>>,
}

impl Reader {
    /// A reader of this link. There is one.
    pub fn new(link: Arc<Link>) -> Reader {
        Reader {
            link,
            buffer: vec![0; frame::MAX_PAYLOAD + 2],
            parts: Default::default(),
        }
    }

    /// The next thing, or [`Incoming::Quiet`] after `timeout` milliseconds (-1: wait for ever).
    pub fn next(&mut self, timeout: i32) -> Incoming {
        let fds = [
            self.link.events.as_raw_fd(),
            self.link.pipes[0].as_raw_fd(),
            self.link.pipes[1].as_raw_fd(),
        ];
        loop {
            let mut polled = fds.map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            });
            // SAFETY: three pollfds in a live array.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), 3, timeout) };
            if ready == 0 {
                return Incoming::Quiet;
            }
            if ready < 0 {
                if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted {
                    continue;
                }
                return Incoming::Closed;
            }
            if polled[0].revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0 {
                match self.packet() {
                    Some(Some(incoming)) => return incoming,
                    Some(None) => continue,
                    None => return Incoming::Closed,
                }
            }
            for (index, polled) in polled[1..].iter().enumerate() {
                if polled.revents & libc::POLLIN != 0
                    && let Some(bytes) = self.child(index)
                {
                    return Incoming::Child(index == 1, bytes);
                }
            }
        }
    }

    /// What child processes have printed by now; for the end of a cell.
    pub fn child(&mut self, index: usize) -> Option<Vec<u8>> {
        let fd = self.link.pipes[index].as_raw_fd();
        // SAFETY: reads at most the buffer's length into the buffer.
        let got = unsafe { libc::read(fd, self.buffer.as_mut_ptr().cast(), self.buffer.len()) };
        usize::try_from(got)
            .ok()
            .filter(|got| *got > 0)
            .map(|got| self.buffer[..got].to_vec())
    }

    /// `None`: closed. `Some(None)`: a piece of something longer, or nothing to read.
    fn packet(&mut self) -> Option<Option<Incoming>> {
        let fd = self.link.events.as_raw_fd();
        // SAFETY: reads at most the buffer's length into the buffer.
        let got = unsafe {
            libc::recv(
                fd,
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        let Ok(got) = usize::try_from(got) else {
            let kind = std::io::Error::last_os_error().kind();
            return matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted).then_some(None);
        };
        let [kind, flags, payload @ ..] = &self.buffer[..got] else {
            return if got == 0 { None } else { Some(None) };
        };
        let Some(known) = Kind::from_byte(*kind) else {
            tracing::warn!("a packet of unknown kind {kind} from the worker");
            return Some(None);
        };
        // Text needs no putting together.
        if matches!(known, Kind::Stdout | Kind::Stderr) {
            return Some(Some(Incoming::Packet(known, payload.to_vec())));
        }
        if known == Kind::CellStart {
            // Whatever was begun by a process that died is not going to be finished.
            self.parts.clear();
        }
        let part = self.parts.entry(*kind).or_default();
        part.extend_from_slice(payload);
        if flags & frame::MORE != 0 {
            return Some(None);
        }
        let whole = self.parts.remove(kind).unwrap_or_default();
        Some(Some(Incoming::Packet(known, whole)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Arc<Link> {
        let (events, worker_end) = socket_pair().unwrap();
        let (a, b) = pipe().unwrap();
        let (c, d) = pipe().unwrap();
        Arc::new(Link {
            events,
            pipes: [a, c],
            worker_end,
            _worker_pipes: [b, d],
        })
    }

    #[test]
    fn packets_come_whole_and_before_the_mark() {
        let link = link();
        let long = vec![b'x'; frame::MAX_PAYLOAD + 10];
        let writer = {
            let link = link.clone();
            let long = long.clone();
            std::thread::spawn(move || {
                for (head, piece) in frame::pieces(Kind::Display, &long) {
                    let mut packet = head.to_vec();
                    packet.extend_from_slice(piece);
                    send(&link.worker_end, &packet);
                }
                link.sync(7);
            })
        };
        let mut reader = Reader::new(link.clone());
        assert_eq!(reader.next(5000), Incoming::Packet(Kind::Display, long));
        assert_eq!(
            reader.next(5000),
            Incoming::Packet(Kind::Sync, 7u32.to_le_bytes().to_vec())
        );
        assert_eq!(reader.next(0), Incoming::Quiet);
        writer.join().unwrap();
    }

    #[test]
    fn half_a_payload_of_a_dead_process_is_dropped_when_the_next_cell_starts() {
        let link = link();
        send(&link.worker_end, &[Kind::Display as u8, frame::MORE, 1, 2, 3]);
        send(&link.worker_end, &[Kind::CellStart as u8, 0, b'9']);
        send(&link.worker_end, &[Kind::Display as u8, 0, 4]);
        let mut reader = Reader::new(link);
        assert_eq!(reader.next(5000), Incoming::Packet(Kind::CellStart, b"9".to_vec()));
        assert_eq!(reader.next(5000), Incoming::Packet(Kind::Display, vec![4]));
    }

    #[test]
    fn unknown_packets_are_passed_over() {
        let link = link();
        send(&link.worker_end, &[200, 0, 1]);
        send(&link.worker_end, &[5]);
        link.sync(1);
        assert!(matches!(Reader::new(link).next(5000), Incoming::Packet(Kind::Sync, _)));
    }
}
