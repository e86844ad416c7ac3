//! The machine itself: processor, memory, and whose processes are whose.

use serde::Serialize;
use std::path::Path;

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
    let limits = Limits::look();
    let total = memory("MemTotal:");
    // Of an allocation's memory, this kernel can use no more than is left there.
    let within = |all: Option<u64>, limit: Option<u64>| match (all, limit) {
        (Some(all), Some(limit)) => Some(all.min(limit)),
        (all, limit) => all.or(limit),
    };
    Machine {
        host: read("/proc/sys/kernel/hostname").trim().to_owned(),
        cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned()),
        // Respects affinity and the limits of a container.
        cores: std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(limits.cpus.unwrap_or(usize::MAX)),
        load: read("/proc/loadavg")
            .split_whitespace()
            .next()
            .and_then(|load| load.parse().ok()),
        memory_total: within(total, limits.memory),
        memory_available: within(memory("MemAvailable:"), limits.memory_left),
    }
}

/// What a job of Slurm, or the control group of this process, allows; below what the machine has.
#[derive(Debug, Default, PartialEq)]
struct Limits {
    cpus: Option<usize>,
    memory: Option<u64>,
    memory_left: Option<u64>,
}

impl Limits {
    fn look() -> Limits {
        let slurm = Limits::of_slurm(|name| std::env::var(name).ok());
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let (limit, left) = Limits::of_groups(&groups, Path::new("/sys/fs/cgroup"));
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Limits {
            cpus: slurm.cpus,
            memory: least(slurm.memory, limit),
            memory_left: least(slurm.memory, left),
        }
    }

    fn of_slurm(get: impl Fn(&str) -> Option<String>) -> Limits {
        if get("SLURM_JOB_ID").is_none() {
            return Limits::default();
        }
        let number = |name: &str| get(name)?.parse::<u64>().ok().filter(|number| *number > 0);
        let cpus = number("SLURM_CPUS_PER_TASK").or_else(|| number("SLURM_CPUS_ON_NODE"));
        // Slurm counts mebibytes.
        let per_cpu = || Some(number("SLURM_MEM_PER_CPU")?.saturating_mul(number("SLURM_CPUS_ON_NODE").or(cpus)?));
        // Of a job that srun has made, the program that starts the kernel has asked Slurm.
        let own = || number("LIGHTCELL_JOB_MEMORY");
        let memory = number("SLURM_MEM_PER_NODE").or_else(per_cpu).or_else(own);
        Limits {
            cpus: cpus.and_then(|cpus| usize::try_from(cpus).ok()),
            memory: memory.map(|mebibytes| mebibytes.saturating_mul(1 << 20)),
            memory_left: None,
        }
    }

    /// The lowest limit on the way from this process's group to the root, and what is left of memory below it.
    fn of_groups(groups: &str, root: &Path) -> (Option<u64>, Option<u64>) {
        let lines = groups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            // Version 2 has no controllers in the line, version 1 a tree for each.
            let names = match controllers {
                "" => ("", "memory.max", "memory.current"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
                }
                _ => return None,
            };
            Some((path.trim_start_matches('/').to_owned(), names))
        });
        let (mut limit, mut left) = (None, None);
        for (path, (tree, max, current)) in lines {
            let top = root.join(tree);
            let group = top.join(path);
            for folder in group.ancestors().take_while(|folder| folder.starts_with(&top)) {
                let read = |name: &str| -> Option<u64> {
                    let text = std::fs::read_to_string(folder.join(name)).ok()?;
                    text.trim().parse().ok()
                };
                let Some(most) = read(max) else { continue };
                limit = limit.into_iter().chain([most]).min();
                let free = most.saturating_sub(read(current).unwrap_or(0));
                left = left.into_iter().chain([free]).min();
            }
        }
        (limit, left)
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
    fn an_allocation_limits_what_is_shown() {
        let get = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        assert_eq!(
            Limits::of_slurm(get(&[("SLURM_CPUS_PER_TASK", "4")])),
            Limits::default()
        );
        let per_node = Limits::of_slurm(get(&[
            ("SLURM_JOB_ID", "7"),
            ("SLURM_CPUS_PER_TASK", "4"),
            ("SLURM_CPUS_ON_NODE", "8"),
            ("SLURM_MEM_PER_NODE", "2048"),
        ]));
        assert_eq!((per_node.cpus, per_node.memory), (Some(4), Some(2 << 30)));
        let per_cpu = Limits::of_slurm(get(&[
            ("SLURM_JOB_ID", "7"),
            ("SLURM_CPUS_ON_NODE", "8"),
            ("SLURM_MEM_PER_CPU", "1024"),
        ]));
        assert_eq!((per_cpu.cpus, per_cpu.memory), (Some(8), Some(8 << 30)));
        let asked = Limits::of_slurm(get(&[("SLURM_JOB_ID", "7"), ("LIGHTCELL_JOB_MEMORY", "1024")]));
        assert_eq!((asked.cpus, asked.memory), (None, Some(1 << 30)));
    }

    #[test]
    fn the_lowest_limit_of_the_groups_counts() {
        let root = std::env::temp_dir().join(format!("lightcell-cgroup-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "4000\n");
        write("a/memory.current", "1500\n");
        write("memory/job/memory.limit_in_bytes", "300\n");
        write("memory/job/memory.usage_in_bytes", "100\n");
        assert_eq!(Limits::of_groups("0::/a/b\n", &root), (Some(4000), Some(2500)));
        assert_eq!(
            Limits::of_groups("3:cpu,cpuacct:/x\n5:memory:/job\n", &root),
            (Some(300), Some(200))
        );
        assert_eq!(Limits::of_groups("0::/none\n", &root), (None, None));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn own_process_has_a_program_and_a_user() {
        let me = std::process::id();
        assert!(program_of(me).is_some_and(|name| !name.is_empty()));
        assert!(user_of(me).is_some());
        assert_eq!(user_of(u32::MAX), None);
    }
}
