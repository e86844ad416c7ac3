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

use crate::stopping::{self, slot};
use crate::system::{system, this_thread};
use std::arch::asm;
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};

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

/// Finds out once whether threads can be brought back here, and where libc keeps what.
pub fn able() -> bool {
    static ABLE: AtomicU32 = AtomicU32::new(0);
    if ABLE.load(SeqCst) == 0 {
        ABLE.store(if find_places() && stopping::install() { 1 } else { 2 }, SeqCst);
    }
    ABLE.load(SeqCst) == 1 && stopping::is_installed()
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
    let others = stopping::others();
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
    let (stopped, lost) = stopping::stop_others();
    note();
    let number = current_number();
    let flags = libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: as libc's `fork` makes it; this thread holds no lock, what others hold is theirs in the copy too.
    let child = unsafe { system(libc::SYS_clone, [flags as usize, 0, 0, number, 0, 0]) };
    if child != 0 {
        stopping::let_go();
    } else if PLACES.robust_list.load(SeqCst) != 0 {
        let list = current_pointer() + PLACES.robust_list.load(SeqCst);
        // SAFETY: the list of this thread, which the system forgets in a copy.
        unsafe { system(libc::SYS_set_robust_list, [list, ROBUST_LIST, 0, 0, 0, 0]) };
    }
    (child as c_int, Threads { stopped, lost })
}

fn current_pointer() -> usize {
    // SAFETY: takes nothing.
    unsafe { libc::pthread_self() as usize }
}

fn current_number() -> usize {
    current_pointer() + PLACES.number.load(SeqCst)
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
            in("r12") stopping::name_of(at),
            in("r13") place(&PLACES.robust_list),
            in("r14") rseq,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    thread
}
