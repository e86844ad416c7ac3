//! The machine itself: processor, memory, and whose processes are whose.

use serde::Serialize;

/// Name, processor and memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Machine {
    /// Host name.
    pub host: String,
    /// Model of the processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Processes that want a core, averaged over a minute.
    pub load: Option<f64>,
    /// Bytes in all.
    pub memory_total: Option<u64>,
    /// Bytes that can still be used.
    pub memory_available: Option<u64>,
}

pub(crate) fn look() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let memory = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    };
    Machine {
        host: read("/proc/sys/kernel/hostname").trim().to_owned(),
        cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned()),
        // Respects affinity and the limits of a container.
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load: read("/proc/loadavg")
            .split_whitespace()
            .next()
            .and_then(|load| load.parse().ok()),
        memory_total: memory("MemTotal:"),
        memory_available: memory("MemAvailable:"),
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

pub(crate) fn program_of(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().to_owned())
}

pub(crate) fn user_of(pid: u32) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    });
    Some(name.unwrap_or_else(|| uid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_seen() {
        let machine = look();
        assert!(machine.cores >= 1);
        assert!(machine.memory_available.unwrap() <= machine.memory_total.unwrap());
    }

    #[test]
    fn own_process_has_a_program_and_a_user() {
        let me = std::process::id();
        assert!(program_of(me).is_some_and(|name| !name.is_empty()));
        assert!(user_of(me).is_some());
        assert_eq!(user_of(u32::MAX), None);
    }
}
