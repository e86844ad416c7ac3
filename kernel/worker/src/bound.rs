//! Sockets that stand at an address of this machine and are connected to nobody in particular: listeners, and those for
//! datagrams. The process that takes over makes them anew, as their address is free by then. So who serves one in a
//! thread goes on to do so, instead of getting error after error.
//!
//! Takes no memory and no lock, see [`crate::threads`].

use crate::descriptors::option;
use std::ffi::c_int;

/// Options that are taken over where they are set.
const OPTIONS: [c_int; 3] = [libc::SO_REUSEADDR, libc::SO_REUSEPORT, libc::SO_BROADCAST];

#[derive(Clone, Copy)]
struct Address {
    place: libc::sockaddr_in6,
    len: libc::socklen_t,
}

type Asks = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int;

impl Address {
    fn of(fd: c_int, ask: Asks) -> Option<Address> {
        // SAFETY: zero is an address; the call writes at most the size given, which one of either family has.
        unsafe {
            let mut place: libc::sockaddr_in6 = std::mem::zeroed();
            let mut len = size_of_val(&place) as libc::socklen_t;
            (ask(fd, (&raw mut place).cast(), &raw mut len) == 0).then_some(Address { place, len })
        }
    }
}

/// One of them.
#[derive(Clone, Copy)]
pub struct Bound {
    family: c_int,
    kind: c_int,
    listens: bool,
    only_v6: bool,
    options: [bool; OPTIONS.len()],
    own: Address,
    peer: Option<Address>,
}

impl Bound {
    /// What is needed to make it anew; `None` when it is another socket.
    pub fn of(fd: c_int) -> Option<Bound> {
        let family = option(fd, libc::SO_DOMAIN).filter(|family| [libc::AF_INET, libc::AF_INET6].contains(family))?;
        let kind = option(fd, libc::SO_TYPE)?;
        let listens = option(fd, libc::SO_ACCEPTCONN)? != 0;
        if !listens && kind != libc::SOCK_DGRAM {
            return None;
        }
        let mut only_v6: c_int = 0;
        let mut len = size_of::<c_int>() as libc::socklen_t;
        let into = (&raw mut only_v6).cast();
        // SAFETY: writes into the local; another family has no such option.
        unsafe { libc::getsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, into, &raw mut len) };
        Some(Bound {
            family,
            kind,
            listens,
            only_v6: only_v6 != 0,
            options: OPTIONS.map(|name| option(fd, name) == Some(1)),
            own: Address::of(fd, libc::getsockname)?,
            peer: Address::of(fd, libc::getpeername),
        })
    }

    /// A new one; `None` when the address is not free.
    pub fn renew(&self) -> Option<c_int> {
        // SAFETY: takes numbers.
        let fd = unsafe { libc::socket(self.family, self.kind | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return None;
        }
        let set = |level: c_int, name: c_int, value: bool| {
            let value = c_int::from(value);
            // SAFETY: reads the local.
            unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of_val(&value) as u32) };
        };
        for (name, value) in OPTIONS.into_iter().zip(self.options) {
            set(libc::SOL_SOCKET, name, value);
        }
        if self.family == libc::AF_INET6 {
            set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, self.only_v6);
        }
        let with = |address: &Address| ((&raw const address.place).cast::<libc::sockaddr>(), address.len);
        // SAFETY: the addresses live as long as the calls; a socket of this function's.
        unsafe {
            // The port stands at one place in both families.
            let (own, len) = with(&self.own);
            let mut made = self.own.place.sin6_port == 0 || libc::bind(fd, own, len) == 0;
            if let Some(peer) = &self.peer {
                let (peer, len) = with(peer);
                made = made && libc::connect(fd, peer, len) == 0;
            }
            if self.listens {
                made = made && libc::listen(fd, 4096) == 0;
            }
            if !made {
                libc::close(fd);
            }
            made.then_some(fd)
        }
    }
}
