//! What Slurm has given to the job in which a kernel runs.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A controller that does not answer holds nobody up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What describes a task of its own; a step that a cell starts would take it for its own.
pub const OWN_TASK: [&str; 10] = [
    "SLURM_NTASKS",
    "SLURM_NPROCS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_GTIDS",
    "SLURM_TASK_PID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_TASKS_PER_NODE",
    "SLURM_DISTRIBUTION",
];

/// How many threads the allocation allows, told to all who would otherwise count the machine's processors, and its memory;
/// what the user has set stays. `asked` gives what Slurm says of a job.
pub fn limits(get: impl Fn(&str) -> Option<String>, asked: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let Some(job) = get("SLURM_JOB_ID") else {
        return Vec::new();
    };
    let counts = ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"];
    let cpus = counts.iter().find_map(|name| get(name)?.parse::<u32>().ok());
    let cpus = cpus.filter(|cpus| *cpus > 0).map(|cpus| cpus.to_string());
    let threads = [
        "OMP_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "CARGO_BUILD_JOBS",
        "TOKIO_WORKER_THREADS",
    ];
    let mut limits: Vec<(String, String)> = threads
        .into_iter()
        .filter(|name| get(name).is_none())
        .filter_map(|name| Some((name.to_owned(), cpus.clone()?)))
        .collect();
    // srun tells its tasks of the processors, but not of the memory. Under its own name it would change what steps ask for.
    if ["SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"]
        .iter()
        .all(|name| get(name).is_none())
        && let Some(memory) = asked(&job).and_then(|said| memory(&said))
    {
        limits.push(("LIGHTCELL_JOB_MEMORY".to_owned(), memory.to_string()));
    }
    limits
}

/// What Slurm says of a job.
pub fn asked(job: &str) -> Option<String> {
    let (said, answer) = mpsc::channel();
    let mut scontrol = Command::new("scontrol");
    scontrol
        .args(["show", "job", job])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    std::thread::spawn(move || {
        let out = scontrol.output().ok();
        let _ = said.send(out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()));
    });
    answer.recv_timeout(PATIENCE).ok()?
}

/// Mebibytes on each node of a job, as far as Slurm counts them: `TRES=cpu=1,mem=1G,node=1`. Newer ones show first what was
/// asked for, then what was given.
fn memory(said: &str) -> Option<u64> {
    let given = said.rsplit_once("TRES=")?.1.split_whitespace().next()?;
    let of = |name: &str| {
        given
            .split(',')
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    };
    let text = of("mem")?;
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    let size = match unit {
        "K" => 1.0 / 1024.0,
        "" | "M" => 1.0,
        "G" => 1024.0,
        "T" => 1024.0 * 1024.0,
        _ => return None,
    };
    let nodes = of("node").and_then(|nodes| nodes.parse().ok()).unwrap_or(1.0_f64);
    let memory = (number * size / nodes.max(1.0)) as u64;
    (memory > 0).then_some(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_limits_the_threads() {
        let get = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            }
        };
        assert_eq!(limits(get(&[("SLURM_CPUS_ON_NODE", "2")]), |_| None), []);
        let found = limits(
            get(&[
                ("SLURM_JOB_ID", "1"),
                ("SLURM_CPUS_ON_NODE", "8"),
                ("SLURM_CPUS_PER_TASK", "2"),
            ]),
            |_| None,
        );
        assert!(found.contains(&("OMP_NUM_THREADS".into(), "2".into())), "{found:?}");
        let found = limits(
            get(&[
                ("SLURM_JOB_ID", "1"),
                ("SLURM_CPUS_ON_NODE", "8"),
                ("OMP_NUM_THREADS", "1"),
            ]),
            |_| None,
        );
        assert!(
            found
                .iter()
                .all(|(name, value)| name != "OMP_NUM_THREADS" && value == "8"),
            "{found:?}"
        );
    }

    #[test]
    fn its_memory_is_what_slurm_has_given() {
        for (said, memory) in [
            ("   TRES=cpu=1,mem=1G,node=1,billing=1\n   MinMemoryNode=1G", Some(1024)),
            (
                "ReqTRES=cpu=1,mem=8G,node=2 AllocTRES=cpu=4,mem=3000M,node=2",
                Some(1500),
            ),
            ("TRES=cpu=1,mem=1.50T,node=1", Some(1_572_864)),
            ("TRES=cpu=1,node=1", None),
            ("TRES=cpu=1,mem=1X", None),
            ("", None),
        ] {
            assert_eq!(super::memory(said), memory, "{said}");
        }
        let job = |name: &str| (name == "SLURM_JOB_ID").then(|| "7".to_owned());
        let found = limits(job, |job| Some(format!("JobId={job} TRES=mem=2G")));
        assert_eq!(found, [("LIGHTCELL_JOB_MEMORY".to_owned(), "2048".to_owned())]);
        let user = |name: &str| {
            ["SLURM_JOB_ID", "SLURM_MEM_PER_NODE"]
                .contains(&name)
                .then(|| "7".to_owned())
        };
        assert_eq!(limits(user, |_| Some("TRES=mem=2G".into())), []);
    }
}
