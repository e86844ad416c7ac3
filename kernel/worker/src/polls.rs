//! What `epoll` waits for, as it was when the copy was made.
//!
//! An epoll instance is the system's, and original and copy would have one in common: what the original adds to it after
//! the copy was made would be reported to the copy, with pointers that mean nothing there; an event that the original
//! took is gone; and what the copy let go of is no longer in it. So its content is written down before the copy is made,
//! and the copy, when it takes over, makes a new one from that: all that is ready is then reported (again).
//!
//! Takes no memory and no lock once threads may be stopped, see [`crate::threads`].

use crate::descriptors::option;
use crate::listing;
use std::ffi::c_int;

#[derive(Clone, Copy)]
struct Item {
    /// The epoll instance; of its entries, or by itself when it has none.
    poll: c_int,
    target: c_int,
    events: u32,
    data: u64,
    /// A listener or a socket for datagrams.
    serves: bool,
}

/// What the system calls a descriptor of one.
pub const NAME: &str = "anon_inode:[eventpoll]";

/// As many entries as are written down.
const MOST: usize = 2048;

/// The content of all epoll instances of this process.
pub struct Polls(Vec<Item>);

impl Polls {
    /// Takes the memory that the rest needs.
    pub fn new() -> Polls {
        Polls(Vec::with_capacity(MOST))
    }

    fn push(&mut self, item: Item) {
        if self.0.len() < MOST {
            self.0.push(item);
        }
    }

    /// Writes down the content of one.
    pub fn note(&mut self, poll: c_int) {
        self.push(Item {
            poll,
            target: -1,
            events: 0,
            data: 0,
            serves: false,
        });
        listing::lines_of_fd(poll, |line| {
            if let Some(item) = entry(poll, line) {
                self.push(item);
            }
        });
    }

    /// In the process that took over: makes them anew.
    pub fn renew(&self) {
        let items = &self.0;
        if items.is_empty() {
            return;
        }
        // SAFETY: takes numbers.
        let probe = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        for (at, first) in items.iter().enumerate() {
            // Several descriptors may be one instance; the first of them stands for it.
            let new = |item: &&Item| item.target < 0;
            if first.target >= 0
                || items[..at]
                    .iter()
                    .filter(new)
                    .any(|item| same(item.poll, first.poll, probe))
            {
                continue;
            }
            // SAFETY: takes numbers.
            let fresh = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
            if fresh < 0 {
                continue;
            }
            for item in items
                .iter()
                .filter(|item| item.poll == first.poll && item.target >= 0)
                .filter(|item| item.serves == serves(item.target))
            {
                let mut event = libc::epoll_event {
                    events: item.events,
                    u64: item.data,
                };
                // SAFETY: reads the local.
                unsafe { libc::epoll_ctl(fresh, libc::EPOLL_CTL_ADD, item.target, &raw mut event) };
            }
            for other in items[at + 1..].iter().filter(new) {
                if same(other.poll, first.poll, probe) {
                    replace(other.poll, fresh);
                }
            }
            replace(first.poll, fresh);
            // SAFETY: made above; its duplicates stay.
            unsafe { libc::close(fresh) };
        }
        // SAFETY: made above.
        unsafe { libc::close(probe) };
    }
}

fn replace(old: c_int, new: c_int) {
    // SAFETY: takes numbers.
    unsafe {
        let flags = libc::fcntl(old, libc::F_GETFD);
        libc::dup3(
            new,
            old,
            if flags & libc::FD_CLOEXEC != 0 {
                libc::O_CLOEXEC
            } else {
                0
            },
        );
    }
}

/// Whether two descriptors are one epoll instance: what is put into one can be changed through the other.
fn same(one: c_int, other: c_int, probe: c_int) -> bool {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: reads the local.
    unsafe {
        libc::epoll_ctl(one, libc::EPOLL_CTL_ADD, probe, &raw mut event);
        let same = libc::epoll_ctl(other, libc::EPOLL_CTL_MOD, probe, &raw mut event) == 0;
        libc::epoll_ctl(one, libc::EPOLL_CTL_DEL, probe, std::ptr::null_mut());
        same
    }
}

/// A line `tfd: 7 events: 80000019 data: 1f …`: the target, and two numbers in base 16.
fn entry(poll: c_int, line: &str) -> Option<Item> {
    let mut words = line.split_ascii_whitespace();
    let mut after = |name: &str| (words.next()? == name).then(|| words.next()).flatten();
    let target = after("tfd:")?.parse().ok()?;
    Some(Item {
        poll,
        target,
        events: u32::from_str_radix(after("events:")?, 16).ok()?,
        data: u64::from_str_radix(after("data:")?, 16).ok()?,
        serves: serves(target),
    })
}

/// A listener or a socket for datagrams. Where it could not be made anew, what stands in its place is always ready and
/// never gives anything; those who serve one go on after errors, so they are not told.
fn serves(fd: c_int) -> bool {
    option(fd, libc::SO_TYPE).is_some_and(|kind| kind != libc::SOCK_STREAM)
        || option(fd, libc::SO_ACCEPTCONN).is_some_and(|listens| listens != 0)
}
