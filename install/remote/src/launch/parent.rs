//! Whoever started the launcher.

use std::time::Duration;

/// Returns when the front end's process has gone: a killed one says nothing.
pub fn wait_for_parent() {
    // SAFETY: asks for a number.
    let parent = || unsafe { libc::getppid() };
    let first = parent();
    let named = std::env::var("JPY_PARENT_PID")
        .ok()
        .and_then(|pid| pid.parse::<i32>().ok());
    let named = named.filter(|pid| *pid > 1);
    // SAFETY: signal 0 only asks.
    let is_alive = |pid| unsafe { libc::kill(pid, 0) == 0 || *libc::__errno_location() == libc::EPERM };
    while parent() == first && named.is_none_or(is_alive) {
        std::thread::sleep(Duration::from_millis(500));
    }
}
