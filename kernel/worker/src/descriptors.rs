//! What becomes of the user's descriptors in the copy.
//!
//! While it waits it lets go of pipes and sockets: with them open, a child whose stdin was dropped would never see its
//! end, and a dropped listener's port would stay taken. In their places stands a socket whose other side is closed, so
//! that what holds them reads an end, fails to write, and can be dropped. Where both sides are this process's own and
//! nothing lies between them, as in the pipe by which a signal handler wakes a runtime, the places get a new pair.
//! Listeners are bound again at the takeover ([`crate::bound`]).
//!
//! Takes no memory and no lock once threads may be stopped, see [`crate::threads`].

use crate::bound::Bound;
use crate::polls::{self, Polls};
use crate::{fds, listing};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many the copy has not.
pub struct Lost {
    pub pipes: usize,
    pub sockets: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
}

#[derive(Clone, Copy)]
struct Entry {
    fd: c_int,
    kind: Kind,
    inode: u64,
    /// Read, write or both, and whether calls wait.
    flags: c_int,
}

impl Entry {
    fn access(&self) -> c_int {
        self.flags & libc::O_ACCMODE
    }
}

/// More than these are let go of without a look for the other side.
const MOST: usize = 1024;
/// As many sockets as are bound anew.
const MOST_BOUND: usize = 64;

/// What the process that took over has in the place of pipes and sockets: not lost a second time.
static DEAD: AtomicU64 = AtomicU64::new(0);

/// The user's descriptors at the moment of the copy.
pub struct Descriptors {
    table: Vec<Entry>,
    /// Where in the table the other side stands, if that is to be new.
    others: Vec<Option<usize>>,
    /// There are more than the table takes.
    more: bool,
    /// Those of the table that are made anew at the takeover, once for each inode.
    bound: Vec<(u64, Bound)>,
    polls: Polls,
}

impl Descriptors {
    /// Takes the memory that the rest needs.
    pub fn new() -> Descriptors {
        Descriptors {
            table: Vec::with_capacity(MOST),
            others: Vec::with_capacity(MOST),
            more: false,
            bound: Vec::with_capacity(MOST_BOUND),
            polls: Polls::new(),
        }
    }

    /// Writes down what there is: in the original, before the copy is made, as both have much of it in common after.
    pub fn note(&mut self) {
        listing::numbers(c"/proc/self/fd", |fd| {
            // The worker's own stand at 200 and above; 0 to 2 are the user's standard descriptors, and stay.
            if fd <= 2 || fds::is_private(fd) {
                return;
            }
            let mut buffer = [0u8; 64];
            let name = listing::link(fd, &mut buffer).unwrap_or_default();
            if name == polls::NAME {
                self.polls.note(fd);
            } else if let Some(entry) = entry(fd, name) {
                if self.table.len() < MOST {
                    self.table.push(entry);
                } else {
                    self.more = true;
                }
            }
        });
        let table = &self.table;
        let mut netlink = Netlink(None);
        for entry in table {
            self.others.push(other_side(entry, table, &mut netlink));
            if entry.kind == Kind::Socket
                && self.bound.len() < MOST_BOUND
                && !self.bound.iter().any(|(inode, _)| *inode == entry.inode)
                && let Some(bound) = Bound::of(entry.fd)
            {
                self.bound.push((entry.inode, bound));
            }
        }
    }

    /// In the copy: lets go of them.
    pub fn let_go(&self) -> Lost {
        let table = &self.table;
        let mut dead = Dead(-1);
        let mut lost = Lost { pipes: 0, sockets: 0 };
        for (at, entry) in table.iter().enumerate() {
            let Some(other) = self.others[at].map(|other| table[other]) else {
                dead.put(*entry, &mut lost);
                continue;
            };
            // Once for each pair, and for all descriptors of either side.
            let of = |side: Entry| move |entry: &&Entry| same_side(entry, &side);
            if table[..at].iter().any(|one| of(*entry)(&one) || of(other)(&one)) {
                continue;
            }
            let sides = [*entry, other];
            if !renew(sides, |side| table.iter().filter(of(side)).map(|entry| entry.fd)) {
                for side in sides {
                    let places = table.iter().filter(of(side));
                    places.for_each(|entry| dead.put(*entry, &mut lost));
                }
            }
        }
        if self.more {
            listing::numbers(c"/proc/self/fd", |fd| {
                let mut buffer = [0u8; 64];
                let name = listing::link(fd, &mut buffer).unwrap_or_default();
                if fd > 2
                    && !fds::is_private(fd)
                    && fd != dead.0
                    && table.iter().all(|one| one.fd != fd)
                    && let Some(entry) = entry(fd, name)
                {
                    dead.put(entry, &mut lost);
                }
            });
        }
        dead.close();
        lost
    }

    /// In the process that took over: listeners are bound again, and what epoll waits for is as it was.
    pub fn renew(&self, lost: &mut Lost) {
        for (inode, bound) in &self.bound {
            let places = || self.table.iter().filter(|entry| entry.inode == *inode);
            let Some(new) = bound.renew() else { continue };
            for entry in places() {
                // SAFETY: descriptors of this process, which `let_go` gave to nobody else.
                unsafe {
                    libc::fcntl(new, libc::F_SETFL, entry.flags);
                    libc::dup3(new, entry.fd, libc::O_CLOEXEC);
                }
            }
            lost.sockets -= places().count();
            // SAFETY: made above; its duplicates stay.
            unsafe { libc::close(new) };
        }
        self.polls.renew();
    }
}

/// A pipe or socket, from its name.
fn entry(fd: c_int, name: &str) -> Option<Entry> {
    let kind = if name.starts_with("pipe:[") {
        Kind::Pipe
    } else if name.starts_with("socket:[") {
        Kind::Socket
    } else {
        return None;
    };
    let inode = name.split_once('[')?.1.strip_suffix(']')?.parse().ok()?;
    (inode != DEAD.load(Ordering::Relaxed)).then(|| Entry {
        fd,
        kind,
        inode,
        // SAFETY: asks for a descriptor's flags.
        flags: unsafe { libc::fcntl(fd, libc::F_GETFL) },
    })
}

/// The two sides of a pipe have one inode, those of a pair of sockets have two.
fn same_side(one: &Entry, other: &Entry) -> bool {
    one.inode == other.inode && (one.kind == Kind::Socket || one.access() == other.access())
}

fn waiting_bytes(fd: c_int) -> c_int {
    let mut count: c_int = -1;
    // SAFETY: writes into the local.
    unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    count
}

/// Where in the table the other side stands, when it is this process's too and nothing lies between the two.
fn other_side(entry: &Entry, table: &[Entry], netlink: &mut Netlink) -> Option<usize> {
    let at = match entry.kind {
        Kind::Pipe => table
            .iter()
            .position(|other| other.inode == entry.inode && other.access() != entry.access())?,
        Kind::Socket => {
            if option(entry.fd, libc::SO_DOMAIN)? != libc::AF_UNIX {
                return None;
            }
            let peer = netlink.peer(u32::try_from(entry.inode).ok()?)?;
            table.iter().position(|other| other.inode == u64::from(peer))?
        }
    };
    let empty = |entry: &Entry| waiting_bytes(entry.fd) == 0;
    (empty(entry) && empty(&table[at])).then_some(at)
}

/// An option of a socket that is a number.
pub fn option(fd: c_int, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    let into: *mut c_void = (&raw mut value).cast();
    // SAFETY: writes into the local, at most its size.
    let asked = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, into, &raw mut len) };
    (asked == 0).then_some(value)
}

/// Puts a new pair in the places of an old one.
fn renew<I: Iterator<Item = c_int>>(sides: [Entry; 2], places: impl Fn(Entry) -> I) -> bool {
    let mut new = [-1; 2];
    // SAFETY: the calls write two descriptors into a local of that size.
    let made = unsafe {
        match sides[0].kind {
            Kind::Pipe => {
                let made = libc::pipe2(new.as_mut_ptr(), libc::O_CLOEXEC);
                if sides[0].access() == libc::O_WRONLY {
                    new.swap(0, 1);
                }
                made
            }
            Kind::Socket => {
                let kind = option(sides[0].fd, libc::SO_TYPE).unwrap_or(libc::SOCK_STREAM);
                libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, new.as_mut_ptr())
            }
        }
    };
    if made != 0 {
        return false;
    }
    for (side, new) in sides.into_iter().zip(new) {
        // SAFETY: descriptors of this copy; the runner's stay open.
        unsafe {
            libc::fcntl(new, libc::F_SETFL, side.flags);
            for place in places(side) {
                libc::dup3(new, place, libc::O_CLOEXEC);
            }
            libc::close(new);
        }
    }
    true
}

/// A socket whose other side is closed, made when it is first needed.
struct Dead(c_int);

impl Dead {
    fn put(&mut self, entry: Entry, lost: &mut Lost) {
        match entry.kind {
            Kind::Pipe => lost.pipes += 1,
            Kind::Socket => lost.sockets += 1,
        }
        // SAFETY: descriptors of this copy; the runner's stay open. The pair's second is nobody else's.
        unsafe {
            if self.0 < 0 {
                let mut pair = [-1; 2];
                let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
                if libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) == 0 {
                    libc::close(pair[1]);
                    self.0 = pair[0];
                }
            }
            if self.0 < 0 || libc::dup3(self.0, entry.fd, libc::O_CLOEXEC) < 0 {
                libc::close(entry.fd);
            }
        }
    }

    fn close(self) {
        if let Some((_, inode)) = fds::identity(self.0) {
            DEAD.store(inode, Ordering::Relaxed);
            // SAFETY: made in `put`; its duplicates stay.
            unsafe { libc::close(self.0) };
        }
    }
}

/// The system's answers about sockets, asked for when first needed.
struct Netlink(Option<c_int>);

impl Netlink {
    /// The inode of the other side of a local socket.
    fn peer(&mut self, inode: u32) -> Option<u32> {
        const NETLINK_SOCK_DIAG: c_int = 4;
        const SOCK_DIAG_BY_FAMILY: u32 = 20;
        const REQUEST: u32 = 1;
        const SHOW_PEER: u32 = 4;
        const PEER: u16 = 2;
        const ANY: u32 = u32::MAX;
        // SAFETY: takes numbers.
        let socket = *self.0.get_or_insert_with(|| unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG)
        });
        // A header (length, kind and flags, sequence, sender) and what is asked.
        let family = libc::AF_UNIX as u32;
        let ask = [
            40,
            SOCK_DIAG_BY_FAMILY | REQUEST << 16,
            1,
            0,
            family,
            ANY,
            inode,
            SHOW_PEER,
            ANY,
            ANY,
        ];
        let mut answer = [0u8; 256];
        // SAFETY: reads and writes at most the locals' sizes.
        let got = unsafe {
            if libc::send(socket, ask.as_ptr().cast(), size_of_val(&ask), 0) < 0 {
                return None;
            }
            libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        let answer = answer.get(..usize::try_from(got).ok()?)?;
        let short = |at: usize| Some(u16::from_ne_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
        if u32::from(short(4)?) != SOCK_DIAG_BY_FAMILY {
            return None;
        }
        // Behind the header and the socket: length, kind, value.
        let mut at = 32;
        loop {
            let length = usize::from(short(at)?);
            if short(at + 2)? == PEER {
                return Some(u32::from(short(at + 4)?) | u32::from(short(at + 6)?) << 16);
            }
            at += length.max(4).next_multiple_of(4);
        }
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        if let Some(socket) = self.0 {
            // SAFETY: opened here.
            unsafe { libc::close(socket) };
        }
    }
}
