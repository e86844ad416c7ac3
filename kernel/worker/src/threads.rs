//! A copy of the process with all its threads, and these brought back to life in it.
//!
//! `fork` copies the memory and the calling thread. What the other threads were is in the copied memory too, but for
//! their registers. So before the copy is made each of them is asked by a signal to stop in a handler, for as long as
//! that takes: the kernel has then put its registers, its signal mask and the state of its floating point unit on its
//! own stack. A thread made in the copy with that stack and the same thread pointer, whose first act is to return from
//! the signal, goes on where the other was interrupted. In the original the threads just go on. What they notice, on
//! either side, is at most a system call that ended with `EINTR`.
//!
//! The copy stays as it was made, with one thread, until [`Threads::revive`]. Whatever lock another thread held is held
//! until then, malloc's too. That is why, from the moment the first thread is stopped until it goes on, nothing here
//! takes memory or a lock, and why the copy must not either. It is also why the bare system call makes the copy: libc's
//! `fork` gives the other threads' stacks away and their locks back.
//!
//! A thread that was brought back keeps the number that libc knows it by (the owner in a recursive mutex or a
//! read-write lock), so that locks it holds are its own still. So `pthread_join` works with it, but not `pthread_kill`,
//! `pthread_cancel` or a mutex with priority inheritance, for which the system's number counts.
//!
//! Not brought back: threads that block the signal or do not come to it in time, those that were not made by libc, and
//! CUDA's, whose memory a copy has not.

use crate::listing;
use std::arch::asm;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A real-time signal that neither libc (32 and 33) nor valgrind (64) uses.
const SIGNAL: c_int = 62;
/// As many threads as are brought back; more are named as lost.
const MOST: usize = 4096;

/// What a thread noted in its handler.
#[derive(Clone, Copy)]
struct Slot {
    thread: c_int,
    /// Where the kernel put the registers; null when this thread cannot be brought back.
    context: *mut c_void,
    /// The thread pointer, which is the address of libc's description of the thread.
    pointer: usize,
    name: [u8; 16],
    processors: [u64; 16],
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

/// Where libc keeps what, from a thread's pointer on. Zero: not known.
struct Places {
    /// Futex with the thread's number, which the kernel clears when it ends: `pthread_join` waits for it.
    number: AtomicUsize,
    robust_list: AtomicUsize,
    /// Restartable sequences' area, where libc has one; it may lie before the pointer.
    rseq: AtomicUsize,
}
static PLACES: Places = Places {
    number: AtomicUsize::new(0),
    robust_list: AtomicUsize::new(0),
    rseq: AtomicUsize::new(0),
};

/// The system call itself: no errno is written, which belongs to the interrupted code.
///
/// # Safety
/// As for the call of that number.
unsafe fn system(call: c_long, arguments: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel changes these three registers and what the caller promised.
    unsafe {
        asm!("syscall",
            inlateout("rax") call as isize => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4], in("r9") arguments[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

fn this_thread() -> c_int {
    // SAFETY: takes nothing.
    unsafe { system(libc::SYS_gettid, [0; 6]) as c_int }
}

fn futex_wait(word: &AtomicU32, seen: u32, at_most: Option<Duration>) {
    let pause = at_most.map(|time| libc::timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    let pause = pause.as_ref().map_or(std::ptr::null(), std::ptr::from_ref) as usize;
    let wait = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: sleeps on a static while it has the value seen.
    unsafe {
        system(
            libc::SYS_futex,
            [word.as_ptr() as usize, wait, seen as usize, pause, 0, 0],
        )
    };
}

fn futex_wake(word: &AtomicU32) {
    let wake = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: wakes sleepers on a static.
    unsafe {
        system(
            libc::SYS_futex,
            [word.as_ptr() as usize, wake, i32::MAX as usize, 0, 0, 0],
        )
    };
}

/// The handler: on a thread that is to stop.
extern "C" fn stop(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let claim = GATE.fetch_update(SeqCst, SeqCst, |gate| (gate & OPEN != 0).then_some(gate + 1));
    let Ok(gate) = claim else {
        // Too late. Next time it will come.
        let me = this_thread();
        for deaf in &DEAF {
            let _ = deaf.compare_exchange(me, 0, SeqCst, SeqCst);
        }
        return;
    };
    let round = RELEASED.load(SeqCst);
    // SAFETY: no more threads are asked than there are slots, and this one was claimed by this thread alone.
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

/// Finds out once whether threads can be brought back here, and where libc keeps what.
pub fn able() -> bool {
    static ABLE: AtomicU32 = AtomicU32::new(0);
    let handler = stop as *const () as usize;
    if ABLE.load(SeqCst) == 0 {
        ABLE.store(if find_places() && install(handler) { 1 } else { 2 }, SeqCst);
    }
    if ABLE.load(SeqCst) == 2 {
        return false;
    }
    // A library may have taken the signal since.
    // SAFETY: asks for the action into a local.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(SIGNAL, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == handler
    }
}

fn install(handler: usize) -> bool {
    // SAFETY: the handler makes system calls and touches atomics and its own slot only. On the thread's own signal
    // stack where it has one, because its stack may be a small one of the user's.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(SIGNAL, std::ptr::null(), &raw mut action) != 0 || action.sa_sigaction != libc::SIG_DFL {
            return false;
        }
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) == 0
    }
}

fn find_places() -> bool {
    const ARCH_SHSTK_STATUS: usize = 0x5005;
    const PR_GET_TID_ADDRESS: usize = 40;
    /// libc's description of a thread is at least as large as this.
    const LOOKED_AT: usize = 2048;
    // SAFETY: takes nothing.
    let pointer = unsafe { libc::pthread_self() } as usize;
    let thread = this_thread();
    let mut shadow = 0usize;
    let mut number = 0usize;
    let (mut robust, mut robust_len) = (0usize, 0usize);
    // SAFETY: calls that write into the locals.
    unsafe {
        // A shadow stack would have to be made anew as well.
        let asked = [ARCH_SHSTK_STATUS, (&raw mut shadow) as usize, 0, 0, 0, 0];
        if system(libc::SYS_arch_prctl, asked) == 0 && shadow != 0 {
            return false;
        }
        system(
            libc::SYS_prctl,
            [PR_GET_TID_ADDRESS, (&raw mut number) as usize, 0, 0, 0, 0],
        );
        let asked = [0, (&raw mut robust) as usize, (&raw mut robust_len) as usize, 0, 0, 0];
        system(libc::SYS_get_robust_list, asked);
    }
    // A kernel that does not tell: look for this thread's number.
    if number == 0 {
        let words = pointer as *const c_int;
        // SAFETY: inside of libc's description of this thread.
        let mut found = (0..LOOKED_AT / 4).filter(|at| unsafe { words.add(*at).read_volatile() } == thread);
        if let (Some(at), None) = (found.next(), found.next()) {
            number = pointer + at * 4;
        }
    }
    let inside = |place: usize| (pointer..pointer + LOOKED_AT).contains(&place);
    // SAFETY: inside of libc's description of this thread.
    if !inside(number) || !number.is_multiple_of(4) || unsafe { (number as *const c_int).read_volatile() } != thread {
        return false;
    }
    PLACES.number.store(number - pointer, SeqCst);
    if inside(robust) && robust_len == ROBUST_LIST {
        PLACES.robust_list.store(robust - pointer, SeqCst);
    }
    // SAFETY: two symbols of libc since 2.35, a long and an int.
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
        if !offset.is_null() && !size.is_null() && *size != 0 {
            PLACES.rseq.store(*offset as usize, SeqCst);
        }
    }
    true
}

/// Length of the head of a list of robust mutexes.
const ROBUST_LIST: usize = 24;

/// What the copy knows of the other threads.
pub struct Threads {
    /// Stopped, so that they can be brought back.
    stopped: usize,
    /// Not stopped.
    lost: usize,
}

/// A copy of this process, as by `fork`: its number here, 0 in the copy, negative when there can be none. While the
/// threads are stopped, `note` can write down what else belongs to this moment.
pub fn fork(note: impl FnOnce()) -> (c_int, Threads) {
    let others = others();
    if others == 0 || !able() {
        note();
        // SAFETY: the child goes on with this thread alone. libc's `fork` leaves malloc's locks usable.
        let child = unsafe { libc::fork() };
        return (
            child,
            Threads {
                stopped: 0,
                lost: others,
            },
        );
    }
    let threads = stop_others();
    note();
    let number = current_number();
    let flags = libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: as libc's `fork` makes it; this thread holds no lock, what others hold is theirs in the copy too.
    let child = unsafe { system(libc::SYS_clone, [flags as usize, 0, 0, number, 0, 0]) };
    if child != 0 {
        RELEASED.fetch_add(1, SeqCst);
        futex_wake(&RELEASED);
    } else if PLACES.robust_list.load(SeqCst) != 0 {
        let list = current_pointer() + PLACES.robust_list.load(SeqCst);
        // SAFETY: the list of this thread, which the system forgets in a copy.
        unsafe { system(libc::SYS_set_robust_list, [list, ROBUST_LIST, 0, 0, 0, 0]) };
    }
    (child as c_int, threads)
}

fn current_pointer() -> usize {
    // SAFETY: takes nothing.
    unsafe { libc::pthread_self() as usize }
}

fn current_number() -> usize {
    current_pointer() + PLACES.number.load(SeqCst)
}

/// Stops all other threads in [`stop`], as far as they come.
fn stop_others() -> Threads {
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
    Threads { stopped, lost }
}

fn slot(at: usize) -> Slot {
    // SAFETY: inside the array; its writer is done with it.
    unsafe { *SLOTS.0.get().cast::<Slot>().add(at) }
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

impl Threads {
    /// In the copy: the threads go on from where they were. Gives the number of those that do not.
    pub fn revive(&self) -> usize {
        let mut lost = self.lost;
        if self.stopped == 0 {
            return lost;
        }
        // New threads begin with this thread's mask, and get their own back as they return from the signal.
        let (all, mut mask) = (u64::MAX, 0u64);
        let change = |how: c_int, to: *const u64, old: *mut u64| {
            // SAFETY: masks of the system's size in locals.
            unsafe {
                system(
                    libc::SYS_rt_sigprocmask,
                    [how as usize, to as usize, old as usize, 8, 0, 0],
                )
            };
        };
        change(libc::SIG_SETMASK, &raw const all, &raw mut mask);
        let mut own = [0usize; 16];
        let size = size_of_val(&own);
        // SAFETY: writes into the local.
        unsafe {
            system(
                libc::SYS_sched_getaffinity,
                [0, size, own.as_mut_ptr() as usize, 0, 0, 0],
            )
        };
        for at in 0..self.stopped {
            let slot = slot(at);
            let thread = if slot.context.is_null() { -1 } else { begin(at) };
            if thread > 0 && slot.processors.iter().map(|word| *word as usize).ne(own) {
                let processors = slot.processors.as_ptr() as usize;
                // SAFETY: reads from the local.
                unsafe {
                    system(
                        libc::SYS_sched_setaffinity,
                        [thread as usize, size, processors, 0, 0, 0],
                    )
                };
            }
            if thread <= 0 {
                lost += 1;
                if slot.pointer != 0 {
                    // Who joins it finds that it has ended.
                    let number = (slot.pointer + PLACES.number.load(SeqCst)) as *const AtomicI32;
                    // SAFETY: libc's own number of a thread that does not run.
                    unsafe { (*number).store(0, SeqCst) };
                }
            }
        }
        change(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
        lost
    }
}

/// Makes a thread that continues the stopped one. Its number, or a negative error.
fn begin(at: usize) -> isize {
    const FLAGS: c_int = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_CHILD_CLEARTID;
    // In the array, not a local: the new thread reads its name there, perhaps later.
    let name = SLOTS
        .0
        .get()
        .cast::<Slot>()
        .wrapping_add(at)
        .wrapping_byte_add(std::mem::offset_of!(Slot, name));
    let slot = slot(at);
    let place = |place: &AtomicUsize| match place.load(SeqCst) {
        0 => 0,
        place => slot.pointer.wrapping_add(place),
    };
    let rseq = place(&PLACES.rseq);
    if rseq != 0 {
        // SAFETY: the area's two processor numbers, "not known", which the kernel overwrites as the thread asks it to.
        unsafe { (rseq as *mut [i32; 2]).write_volatile([0, -1]) };
    }
    let thread: isize;
    // SAFETY: the new thread has the stopped one's stack, from its saved registers downwards, and pointer. It uses
    // neither until the last call has put all registers back, which does not return. This thread goes on at 2.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 157", // prctl(PR_SET_NAME, name)
            "mov edi, 15",
            "mov rsi, r12",
            "syscall",
            "test r13, r13",
            "jz 3f",
            "mov eax, 273", // set_robust_list(list, 24)
            "mov rdi, r13",
            "mov esi, 24",
            "syscall",
            "3:",
            "test r14, r14",
            "jz 4f",
            "mov eax, 334", // rseq(area, 32, 0, libc's mark)
            "mov rdi, r14",
            "mov esi, 32",
            "xor edx, edx",
            "mov r10d, 0x53053053",
            "syscall",
            "4:",
            "mov eax, 15", // rt_sigreturn()
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone as isize => thread,
            in("rdi") FLAGS as usize,
            in("rsi") slot.context,
            in("rdx") 0usize,
            in("r10") place(&PLACES.number),
            in("r8") slot.pointer,
            in("r12") name,
            in("r13") place(&PLACES.robust_list),
            in("r14") rseq,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    thread
}
