//! A copy of this very process goes on with its threads and descriptors.

#[path = "../src/bound.rs"]
mod bound;
#[path = "../src/descriptors.rs"]
mod descriptors;
#[allow(dead_code)]
#[path = "../src/fds.rs"]
mod fds;
#[path = "../src/listing.rs"]
mod listing;
#[path = "../src/polls.rs"]
mod polls;
#[path = "../src/stopping.rs"]
mod stopping;
#[path = "../src/system.rs"]
mod system;
#[path = "../src/threads.rs"]
mod threads;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, spawn};
use std::time::{Duration, Instant};

/// One copy at a time, as in the worker.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: what was left open for this process, whose tests have none of their own before this.
    ONCE.call_once(|| unsafe {
        libc::close_range(3, u32::MAX, 0);
    });
    guard
}

/// What a copy lost.
struct Lost {
    threads: usize,
    pipes: usize,
    sockets: usize,
}

/// Makes a copy that takes over and checks, for a minute at most; `meanwhile` is what the original does before.
fn in_a_copy(meanwhile: impl FnOnce(), check: impl FnOnce(Lost)) {
    let (mut go, mut wait) = ([0; 2], [0u8; 1]);
    // SAFETY: writes two descriptors into a local.
    assert_eq!(unsafe { libc::pipe(go.as_mut_ptr()) }, 0);
    // Out of the way of the copy, which lets go of pipes below the worker's own.
    // SAFETY: plain descriptor calls.
    let (private, end) = unsafe { (libc::fcntl(go[0], libc::F_DUPFD, 200), go[1]) };
    // SAFETY: a descriptor of this test's.
    unsafe { libc::close(go[0]) };
    assert!(fds::is_private(private), "{private}");
    let mut descriptors = descriptors::Descriptors::new();
    let (copy, threads) = threads::fork(|| descriptors.note());
    assert!(copy >= 0);
    if copy == 0 {
        let mut lost = descriptors.let_go();
        // SAFETY: a limit for all that follows; waits for the original to close its end, which this copy let go of.
        unsafe {
            libc::alarm(60);
            libc::read(private, wait.as_mut_ptr().cast(), 1);
            libc::close(private);
        }
        descriptors.renew(&mut lost);
        let lost = Lost {
            threads: threads.revive(),
            // The one above.
            pipes: lost.pipes - 1,
            sockets: lost.sockets,
        };
        // What the harness has captured of it dies with the copy.
        std::panic::set_hook(Box::new(|panic| {
            let text = format!("in the copy: {panic}\n");
            // SAFETY: reads a live text.
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }));
        let held = catch_unwind(AssertUnwindSafe(|| check(lost))).is_ok();
        // SAFETY: ends the copy without the test harness's own end.
        unsafe { libc::_exit(i32::from(!held)) }
    }
    meanwhile();
    let mut status = 0;
    // SAFETY: this test's descriptors and child.
    unsafe {
        libc::close(private);
        libc::close(end);
        libc::waitpid(copy, &raw mut status, 0);
    }
    assert_eq!(status, 0, "the copy's wait status");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// Threads that wait for numbers and add them.
fn adders(count: usize) -> Vec<(std::sync::mpsc::Sender<u64>, JoinHandle<u64>)> {
    let one = |receive: Receiver<u64>| spawn(move || receive.iter().sum());
    let pair = |_| {
        let (send, receive) = channel();
        (send, one(receive))
    };
    (0..count).map(pair).collect()
}

fn add(adders: Vec<(std::sync::mpsc::Sender<u64>, JoinHandle<u64>)>) {
    for (number, (send, thread)) in adders.into_iter().enumerate() {
        send.send(number as u64).unwrap();
        send.send(1).unwrap();
        drop(send);
        assert_eq!(thread.join().unwrap(), number as u64 + 1);
    }
}

#[test]
fn threads_go_on_in_the_copy_and_in_the_original() {
    let _alone = alone();
    let mut threads = Some(adders(8));
    in_a_copy(
        || (),
        |lost| {
            assert_eq!(lost.threads, 0);
            add(threads.take().unwrap());
        },
    );
    add(threads.take().unwrap());
}

/// A copy of a copy, and so on, while others take memory and give it back, so that they are stopped with malloc's locks
/// held.
#[test]
fn copies_of_copies_go_on() {
    let _alone = alone();
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU64::new(0));
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let (stop, rounds) = (stop.clone(), rounds.clone());
            spawn(move || {
                while !stop.load(SeqCst) {
                    let kept: Vec<Vec<u8>> = (0..100).map(|size| vec![1; size * 50]).collect();
                    rounds.fetch_add(kept.len() as u64, SeqCst);
                }
            })
        })
        .collect();
    fn descend(depth: usize, rounds: &AtomicU64, threads: Vec<(std::sync::mpsc::Sender<u64>, JoinHandle<u64>)>) {
        if depth == 0 {
            return add(threads);
        }
        let mut threads = Some(threads);
        in_a_copy(
            || (),
            |lost| {
                assert_eq!(lost.threads, 0);
                let before = rounds.load(SeqCst);
                until("the busy threads go on", || rounds.load(SeqCst) > before + 1000);
                descend(depth - 1, rounds, threads.take().unwrap());
            },
        );
    }
    descend(4, &rounds, adders(4));
    stop.store(true, SeqCst);
    for thread in busy {
        thread.join().unwrap();
    }
}

/// What belongs to a thread: its registers, name, signal mask, locals, errno, timers, and locks that know their owner.
#[test]
fn a_thread_finds_what_was_its_own() {
    thread_local! { static LOCAL: std::cell::Cell<u64> = const { std::cell::Cell::new(0) } }
    let _alone = alone();
    let go = Arc::new(AtomicBool::new(false));
    // A mutex that only its owner can unlock, static so that both threads know it.
    struct Recursive(std::cell::UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: a mutex is made for several threads.
    unsafe impl Sync for Recursive {}
    static MUTEX: Recursive = Recursive(std::cell::UnsafeCell::new(libc::PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP));
    let (ready, is_ready) = channel();
    let spinning = {
        let go = go.clone();
        let run = move || {
            LOCAL.set(7);
            // SAFETY: a static mutex, a mask in a local.
            unsafe {
                assert_eq!(libc::pthread_mutex_lock(MUTEX.0.get()), 0);
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&raw mut mask, libc::SIGUSR1);
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut());
                *libc::__errno_location() = 77;
            }
            ready.send(()).unwrap();
            let (mut x, mut y) = (0.0f64, 1u64);
            while !go.load(SeqCst) || y < 1_000_000 {
                x += 1.0;
                y += 1;
            }
            // SAFETY: as above.
            unsafe {
                assert_eq!(*libc::__errno_location(), 77);
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
                assert_eq!(libc::sigismember(&raw const mask, libc::SIGUSR1), 1);
                assert_eq!(libc::sigismember(&raw const mask, libc::SIGUSR2), 0);
                assert_eq!(libc::pthread_mutex_unlock(MUTEX.0.get()), 0);
            }
            assert_eq!(x + 1.0, y as f64);
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            assert_eq!(name, "spinner\n");
            LOCAL.get()
        };
        Builder::new().name("spinner".into()).spawn(run).unwrap()
    };
    let gate = Arc::new((Mutex::new(0), Condvar::new()));
    let waiting = {
        let gate = gate.clone();
        spawn(move || {
            let guard = gate.0.lock().unwrap();
            let (guard, timed_out) = gate
                .1
                .wait_timeout_while(guard, Duration::from_secs(40), |value| *value == 0)
                .unwrap();
            (*guard, timed_out.timed_out())
        })
    };
    is_ready.recv().unwrap();
    let (mut spinning, mut waiting) = (Some(spinning), Some(waiting));
    let mut check = || {
        go.store(true, SeqCst);
        assert_eq!(spinning.take().unwrap().join().unwrap(), 7);
        // SAFETY: a static mutex, which the other thread has unlocked.
        assert_eq!(unsafe { libc::pthread_mutex_trylock(MUTEX.0.get()) }, 0);
        *gate.0.lock().unwrap() = 5;
        gate.1.notify_all();
        assert_eq!(waiting.take().unwrap().join().unwrap(), (5, false));
    };
    in_a_copy(
        || (),
        |lost| {
            assert_eq!(lost.threads, 0);
            check();
        },
    );
    check();
}

#[test]
fn a_thread_that_blocks_the_signal_is_counted_and_waited_for_once() {
    let _alone = alone();
    let (send, receive) = channel();
    let (ready, is_ready) = channel();
    let block = |how| {
        // SAFETY: a mask in a local.
        unsafe {
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut mask);
            libc::pthread_sigmask(how, &raw const mask, std::ptr::null_mut());
        }
    };
    let thread = spawn(move || {
        block(libc::SIG_BLOCK);
        ready.send(()).unwrap();
        receive.recv().unwrap();
        block(libc::SIG_UNBLOCK);
        ready.send(()).unwrap();
        receive.recv().unwrap();
    });
    is_ready.recv().unwrap();
    in_a_copy(|| (), |lost| assert_eq!(lost.threads, 1));
    let begin = Instant::now();
    in_a_copy(|| (), |lost| assert_eq!(lost.threads, 1));
    assert!(begin.elapsed() < Duration::from_secs(10));
    send.send(()).unwrap();
    is_ready.recv().unwrap();
    in_a_copy(|| (), |lost| assert_eq!(lost.threads, 0));
    send.send(()).unwrap();
    thread.join().unwrap();
}

#[test]
fn pairs_within_the_process_are_new_and_others_end() {
    let _alone = alone();
    let (a, mut b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    let mut twin = b.try_clone().unwrap();
    let (mut full, mut filled) = UnixStream::pair().unwrap();
    filled.write_all(b"x").unwrap();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let (mut outside, inside) = std::io::pipe().unwrap();
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(inside)
        .spawn()
        .unwrap();
    let mut one = [0u8; 1];
    in_a_copy(
        || (&a).write_all(b"-").unwrap(),
        |lost| {
            // The child's two and the two that were not empty.
            assert_eq!((lost.pipes, lost.sockets), (2, 2));
            let mut one = [0u8; 1];
            assert_eq!((&a).read(&mut one).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            twin.write_all(b"1").unwrap();
            (&a).read_exact(&mut one).unwrap();
            (&a).write_all(b"2").unwrap();
            b.read_exact(&mut one).unwrap();
            assert_eq!(&one, b"2");
            writer.write_all(b"3").unwrap();
            reader.read_exact(&mut one).unwrap();
            assert_eq!(&one, b"3");
            assert_eq!(full.read(&mut one).unwrap(), 0);
            assert!(filled.write_all(b"4").is_err());
            assert_eq!(outside.read(&mut one).unwrap(), 0);
        },
    );
    b.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"-");
    child.stdin.take().unwrap().write_all(b"5").unwrap();
    outside.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"5");
    child.wait().unwrap();
}

#[test]
fn listeners_are_bound_again() {
    let _alone = alone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
    let (tcp_address, udp_address) = (listener.local_addr().unwrap(), udp.local_addr().unwrap());
    udp.set_nonblocking(true).unwrap();
    // SAFETY: takes a number.
    let poll = unsafe { libc::epoll_create1(0) };
    control(poll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), 1);
    control(poll, libc::EPOLL_CTL_ADD, udp.as_raw_fd(), 2);
    let server = {
        let listener = listener.try_clone().unwrap();
        spawn(move || listener.accept().unwrap().1)
    };
    let held = std::cell::Cell::new(Some((listener, udp, server)));
    let client = || {
        let (listener, udp, server) = held.take().unwrap();
        let stream = std::net::TcpStream::connect(tcp_address).unwrap();
        assert_eq!(server.join().unwrap(), stream.local_addr().unwrap());
        (listener, udp)
    };
    in_a_copy(
        // The original lets go of all of it, as it does by its end.
        || drop(client()),
        |lost| {
            assert_eq!((lost.threads, lost.sockets), (0, 0));
            let (listener, udp) = client();
            assert_eq!(listener.local_addr().unwrap(), tcp_address);
            let mut one = [0u8; 1];
            assert_eq!(udp.recv(&mut one).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            let _stream = std::net::TcpStream::connect(tcp_address).unwrap();
            let to = std::net::UdpSocket::bind("[::1]:0").unwrap();
            to.send_to(b"6", udp_address).unwrap();
            assert_eq!(ready(poll), [1, 2]);
            assert_eq!(udp.recv(&mut one).unwrap(), 1);
        },
    );
    // SAFETY: this test's descriptor.
    unsafe { libc::close(poll) };
}

fn control(poll: i32, what: i32, target: i32, data: u64) {
    let mut event = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLET) as u32,
        u64: data,
    };
    // SAFETY: reads the local.
    assert_eq!(unsafe { libc::epoll_ctl(poll, what, target, &raw mut event) }, 0);
}

/// The data of what is ready now, sorted.
fn ready(poll: i32) -> Vec<u64> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
    // SAFETY: writes at most as many as there are.
    let count = unsafe { libc::epoll_wait(poll, events.as_mut_ptr(), 16, 0) };
    let mut data: Vec<u64> = events[..count as usize].iter().map(|event| event.u64).collect();
    data.sort_unstable();
    data
}

#[test]
fn an_epoll_instance_is_as_it_was() {
    let _alone = alone();
    let event = || {
        // SAFETY: takes numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        assert!(fd >= 0);
        fd
    };
    // SAFETY: takes numbers.
    let (poll, other) = unsafe { (libc::epoll_create1(0), libc::epoll_create1(0)) };
    // SAFETY: takes a number.
    let twin = unsafe { libc::dup(poll) };
    let (waker, later) = (event(), event());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    control(poll, libc::EPOLL_CTL_ADD, waker, 1);
    control(poll, libc::EPOLL_CTL_ADD, stream.as_raw_fd(), 2);
    control(poll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), 3);
    control(other, libc::EPOLL_CTL_ADD, later, 9);
    let wake = |fd: i32| {
        let one = 1u64;
        // SAFETY: reads eight bytes of a local.
        assert_eq!(unsafe { libc::write(fd, (&raw const one).cast(), 8) }, 8);
    };
    wake(waker);
    in_a_copy(
        || {
            // The original takes the event, and adds what the copy knows nothing of.
            assert_eq!(ready(poll), [1, 3]);
            control(poll, libc::EPOLL_CTL_ADD, later, 4);
            wake(later);
        },
        |_| {
            assert_eq!(ready(poll), [1, 2]);
            assert_eq!(ready(other), [9]);
            wake(waker);
            assert_eq!(ready(twin), [1]);
            assert_eq!(ready(poll), []);
        },
    );
    // The copy's call of the waker, which both have, and its own.
    assert_eq!(ready(poll), [1, 4]);
    for fd in [poll, other, twin, waker, later] {
        // SAFETY: this test's descriptors.
        unsafe { libc::close(fd) };
    }
}
