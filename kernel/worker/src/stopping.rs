//! Stops the other threads of this process in a signal handler, and notes of each what is needed to make it again.
//!
//! From the moment the first thread is stopped until it goes on, any lock may be held, malloc's too: nothing here takes
//! memory or a lock.

use crate::listing;
use crate::system::{futex_wait, futex_wake, system, this_thread};
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A real-time signal that neither libc (32 and 33) nor valgrind (64) uses.
const SIGNAL: c_int = 62;
/// As many threads as are brought back; more are named as lost.
const MOST: usize = 4096;

/// What a thread noted in its handler.
#[derive(Clone, Copy)]
pub struct Slot {
    thread: c_int,
    /// Where the kernel put the registers; null when this thread cannot be brought back.
    pub context: *mut c_void,
    /// The thread pointer, which is the address of libc's description of the thread.
    pub pointer: usize,
    name: [u8; 16],
    /// Those it may run on.
    pub processors: [u64; 16],
}

/// Written by the thread that claimed it, read when [`READY`] has counted that thread.
struct Slots(UnsafeCell<[Slot; MOST]>);
// SAFETY: each slot has one writer, see above.
unsafe impl Sync for Slots {}
static SLOTS: Slots = Slots(UnsafeCell::new([EMPTY; MOST]));
const EMPTY: Slot = Slot {
    thread: 0,
    context: std::ptr::null_mut(),
    pointer: 0,
    name: [0; 16],
    processors: [0; 16],
};

const OPEN: u32 = 1 << 31;
/// Whether threads stop now, and how many slots are claimed.
static GATE: AtomicU32 = AtomicU32::new(0);
/// Futex: how many have filled their slot.
static READY: AtomicU32 = AtomicU32::new(0);
/// The count of [`READY`] that the runner waits for.
static AWAITED: AtomicU32 = AtomicU32::new(0);
/// Futex: counts how often the stopped threads were let go.
static RELEASED: AtomicU32 = AtomicU32::new(0);
/// Numbers of threads that got the signal, negative when they have stopped.
static ASKED: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];
/// Numbers of threads that did not come, not asked again unless they come after all.
static DEAF: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];

/// The handler: on a thread that is to stop.
extern "C" fn stop(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let one_more = |gate| (gate & OPEN != 0 && (gate & !OPEN) < MOST as u32).then_some(gate + 1);
    let claim = GATE.fetch_update(SeqCst, SeqCst, one_more);
    let Ok(gate) = claim else {
        // Too late. Next time it will come.
        let me = this_thread();
        for deaf in &DEAF {
            let _ = deaf.compare_exchange(me, 0, SeqCst, SeqCst);
        }
        return;
    };
    let round = RELEASED.load(SeqCst);
    // SAFETY: inside the array, and claimed by this thread alone.
    unsafe {
        let slot = SLOTS.0.get().cast::<Slot>().add((gate & !OPEN) as usize);
        slot.write(note(context));
    }
    let me = this_thread();
    for asked in &ASKED {
        match asked.load(SeqCst) {
            0 => break,
            number if number == me => asked.store(-me, SeqCst),
            _ => {}
        }
    }
    if READY.fetch_add(1, SeqCst) + 1 >= AWAITED.load(SeqCst) {
        futex_wake(&READY);
    }
    while RELEASED.load(SeqCst) == round {
        futex_wait(&RELEASED, round, None);
    }
}

/// What is needed to make this thread again.
fn note(context: *mut c_void) -> Slot {
    const ARCH_GET_FS: usize = 0x1003;
    let mut slot = Slot {
        thread: this_thread(),
        ..EMPTY
    };
    // SAFETY: three calls that write into the local, at most its fields' sizes.
    unsafe {
        let pointer = (&raw mut slot.pointer) as usize;
        system(libc::SYS_arch_prctl, [ARCH_GET_FS, pointer, 0, 0, 0, 0]);
        let name = slot.name.as_mut_ptr() as usize;
        system(libc::SYS_prctl, [libc::PR_GET_NAME as usize, name, 0, 0, 0, 0]);
        let processors = slot.processors.as_mut_ptr() as usize;
        let size = size_of_val(&slot.processors);
        system(libc::SYS_sched_getaffinity, [0, size, processors, 0, 0, 0]);
    }
    // libc's threads have their pointer at its own place and two words on.
    // SAFETY: a thread pointer points to at least these words, as compiled code reads them.
    let own = slot.pointer != 0
        && unsafe {
            let words = slot.pointer as *const usize;
            *words == slot.pointer && *words.add(2) == slot.pointer
        };
    if !own {
        slot.pointer = 0;
    } else if !slot.name.starts_with(b"cuda") {
        slot.context = context;
    }
    slot
}

/// Calls with the number of each thread of this process; false when the system does not say.
fn each_thread(with: impl FnMut(c_int)) -> bool {
    listing::numbers(c"/proc/self/task", with)
}

/// How many threads this process has besides this one.
pub fn others() -> usize {
    let mut count = 0usize;
    each_thread(|_| count += 1);
    count.saturating_sub(1)
}

/// Makes [`stop`] the signal's handler, if nobody else has it.
pub fn install() -> bool {
    // SAFETY: the handler makes system calls and touches atomics and its own slot only. On the thread's own signal
    // stack where it has one, because its stack may be a small one of the user's.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(SIGNAL, std::ptr::null(), &raw mut action) != 0 || action.sa_sigaction != libc::SIG_DFL {
            return false;
        }
        action.sa_sigaction = stop as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) == 0
    }
}

/// Whether it still is: a library may have taken the signal since.
pub fn is_installed() -> bool {
    // SAFETY: asks for the action into a local.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(SIGNAL, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == stop as *const () as usize
    }
}

/// Stops all other threads in [`stop`], as far as they come. How many slots are filled, and how many threads are lost.
pub fn stop_others() -> (usize, usize) {
    let me = this_thread();
    let process = std::process::id() as usize;
    let mut asked = 0;
    for asked in ASKED.iter().take_while(|asked| asked.load(SeqCst) != 0) {
        asked.store(0, SeqCst);
    }
    READY.store(0, SeqCst);
    AWAITED.store(u32::MAX, SeqCst);
    GATE.store(OPEN, SeqCst);
    // A thread may start another before it stops: until all that there are were asked and have stopped.
    let mut lost = loop {
        let before = asked;
        let mut lost = 0;
        each_thread(|thread| {
            if thread == me || was_asked(thread, asked) {
                return;
            }
            if asked == MOST || DEAF.iter().any(|deaf| deaf.load(SeqCst) == thread) {
                lost += 1;
                return;
            }
            ASKED[asked].store(thread, SeqCst);
            // SAFETY: a signal with a handler to a thread of this process.
            let sent = unsafe { system(libc::SYS_tgkill, [process, thread as usize, SIGNAL as usize, 0, 0, 0]) };
            if sent == 0 {
                asked += 1;
            } else if sent != -(libc::ESRCH as isize) {
                lost += 1;
            }
        });
        if asked == before {
            break lost;
        }
        wait_for(asked);
    };
    // From here on nobody claims a slot; who has one, fills it.
    let stopped = GATE.fetch_and(!OPEN, SeqCst) & !OPEN;
    AWAITED.store(stopped, SeqCst);
    loop {
        let ready = READY.load(SeqCst);
        if ready >= stopped {
            break;
        }
        futex_wait(&READY, ready, Some(Duration::from_millis(1)));
    }
    let stopped = stopped as usize;
    if stopped < asked {
        each_thread(|thread| {
            if was_asked(thread, asked) && !(0..stopped).any(|at| slot(at).thread == thread) {
                lost += 1;
                let free = DEAF
                    .iter()
                    .find(|one| one.compare_exchange(0, thread, SeqCst, SeqCst).is_ok());
                if free.is_none() {
                    DEAF[0].store(thread, SeqCst);
                }
            }
        });
    }
    (stopped, lost)
}

/// Lets the stopped threads go on.
pub fn let_go() {
    RELEASED.fetch_add(1, SeqCst);
    futex_wake(&RELEASED);
}

/// What a stopped thread noted.
pub fn slot(at: usize) -> Slot {
    // SAFETY: inside the array; its writer is done with it.
    unsafe { *SLOTS.0.get().cast::<Slot>().add(at) }
}

/// Where its name stays, for a thread that reads it later.
pub fn name_of(at: usize) -> *const u8 {
    let slot = SLOTS.0.get().cast::<Slot>().wrapping_add(at);
    slot.wrapping_byte_add(std::mem::offset_of!(Slot, name)).cast()
}

fn was_asked(thread: c_int, asked: usize) -> bool {
    ASKED[..asked].iter().any(|one| one.load(SeqCst).abs() == thread)
}

/// Waits until those asked have stopped or ended, but for those that do not come.
fn wait_for(asked: usize) {
    let begin = Instant::now();
    AWAITED.store(asked as u32, SeqCst);
    loop {
        let ready = READY.load(SeqCst);
        if ready as usize >= asked {
            return;
        }
        futex_wait(&READY, ready, Some(Duration::from_millis(1)));
        if READY.load(SeqCst) != ready {
            continue;
        }
        let (mut missing, mut deaf) = (0, 0);
        each_thread(|thread| {
            if ASKED[..asked].iter().any(|one| one.load(SeqCst) == thread) {
                missing += 1;
                deaf += usize::from(!comes(thread, begin.elapsed()));
            }
        });
        if missing == deaf {
            return;
        }
    }
}

/// Whether a thread that was asked this long ago may still come. One that only waits for a processor gets more time
/// than one that sleeps and blocks the signal or cannot be woken.
fn comes(thread: c_int, asked: Duration) -> bool {
    if asked < Duration::from_millis(20) {
        return true;
    }
    if asked > Duration::from_secs(1) {
        return false;
    }
    let mut path = [0u8; 48];
    let mut text = [0u8; 4096];
    let path = listing::path_of(&mut path, format_args!("/proc/self/task/{thread}/status"));
    let Some(text) = path.and_then(|path| listing::read(path, &mut text)) else {
        return true;
    };
    let field = |name: &[u8]| {
        let line = text.split(|byte| *byte == b'\n').find(|line| line.starts_with(name))?;
        std::str::from_utf8(&line[name.len()..]).ok().map(str::trim)
    };
    let blocked = field(b"SigBlk:")
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .unwrap_or(0);
    match field(b"State:").and_then(|state| state.chars().next()) {
        Some('D') => false,
        Some('S') => blocked & (1 << (SIGNAL - 1)) == 0,
        _ => true,
    }
}
