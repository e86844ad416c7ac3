//! System calls that leave `errno` alone, as it belongs to the code that a signal has interrupted.

use std::arch::asm;
use std::ffi::{c_int, c_long};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// The system call itself.
///
/// # Safety
/// As for the call of that number.
pub unsafe fn system(call: c_long, arguments: [usize; 6]) -> isize {
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

pub fn this_thread() -> c_int {
    // SAFETY: takes nothing.
    unsafe { system(libc::SYS_gettid, [0; 6]) as c_int }
}

pub fn futex_wait(word: &AtomicU32, seen: u32, at_most: Option<Duration>) {
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

pub fn futex_wake(word: &AtomicU32) {
    let wake = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: wakes sleepers on a static.
    unsafe {
        system(
            libc::SYS_futex,
            [word.as_ptr() as usize, wake, i32::MAX as usize, 0, 0, 0],
        )
    };
}
