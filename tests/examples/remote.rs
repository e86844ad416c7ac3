//! The table of docs/remote.md: the same work in a kernel here, behind ssh, in an allocation of Slurm, and behind both, each
//! in turn, several times. By hand, with an installation as for the tests: `cargo run --release -p lightcell-tests --example
//! remote [ROUNDS]`. With `churn` in place of a number: 20 rounds of start, run, restart and kill behind ssh, and what is left.

use lightcell_tests::remote::{Sshd, processes};
use lightcell_tests::slurm::{Slurm, has_slurm};
use lightcell_tests::{Kernel, home};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("churn") => churn(20),
        rounds => table(rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(3)),
    }
}

/// What each way needs.
struct Grounds {
    sshd: Sshd,
    slurm: Option<Slurm>,
}

impl Grounds {
    fn new(name: &str) -> Grounds {
        let slurm = has_slurm().then(|| Slurm::start(&format!("{name}-slurm")));
        let config = slurm.as_ref().map(|slurm| slurm.config().display().to_string());
        let env: Vec<(&str, &str)> = config.iter().map(|config| ("SLURM_CONF", config.as_str())).collect();
        Grounds {
            sshd: Sshd::start_with(name, &env),
            slurm,
        }
    }

    fn add(&self, name: &str, address: &str, more: &[&str]) {
        let ssh = format!("--ssh-arg={}/ssh_config", self.sshd.dir().display());
        let dir = home().display().to_string();
        let mut command = Command::new(home().join("bin/lightcell"));
        command
            .args(["remote", "add", name, address, "--dir", &dir, "--ssh-arg=-F", &ssh])
            .args(more)
            .env("JUPYTER_DATA_DIR", self.sshd.jupyter());
        if let Some(slurm) = &self.slurm {
            command.env("SLURM_CONF", slurm.config());
        }
        let out = command.output().expect("the command runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }

    fn kernel(&self, name: Option<&str>) -> Kernel {
        let (named, jupyter) = (format!("lightcell-{}", name.unwrap_or_default()), self.sshd.jupyter());
        let data: PathBuf = self.sshd.dir().join("data");
        let config = self.slurm.as_ref().map(|slurm| slurm.config().display().to_string());
        let mut env = vec![];
        if name.is_some() {
            env.push(("LIGHTCELL_TEST_KERNEL", named));
            env.push(("JUPYTER_PATH", jupyter.display().to_string()));
            env.push(("JUPYTER_DATA_DIR", data.display().to_string()));
        }
        env.extend(config.map(|config| ("SLURM_CONF", config)));
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Kernel::start_with(&env)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table(rounds: usize) {
    let grounds = Grounds::new("measure");
    let mut ways = vec![("here", None)];
    grounds.add("ssh", "ssh://loop", &[]);
    ways.push(("SSH", Some("ssh")));
    if grounds.slurm.is_some() {
        grounds.add("slurm", "slurm://", &["--cpus", "2", "--time", "15"]);
        grounds.add("both", "slurm://loop", &["--cpus", "2", "--time", "15"]);
        ways.push(("Slurm", Some("slurm")));
        ways.push(("SSH and Slurm", Some("both")));
    }
    let mut figures = vec![[(); 4].map(|()| Vec::new()); ways.len()];
    for _ in 0..rounds {
        for ((_, name), figures) in ways.iter().zip(&mut figures) {
            let mut kernel = grounds.kernel(*name);
            figures[0].push(kernel.start);
            kernel.ok("let x = 1;");
            let timed = |kernel: &mut Kernel, code: &str| {
                let begun = Instant::now();
                kernel.ok(code);
                begun.elapsed().as_secs_f64()
            };
            figures[1].push(median(
                (0..9).map(|at| timed(&mut kernel, &format!("x + {at}"))).collect(),
            ));
            figures[2].push(timed(&mut kernel, "for i in 0..200_000 { println!(\"line {i}\"); }"));
            let endless = "println!(\"on\"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }";
            figures[3].push(kernel.stopped(endless, "on").1);
        }
    }
    println!("| | start to ready | warm cell | 200,000 lines | interrupt |\n|---|---|---|---|---|");
    for ((way, _), figures) in ways.iter().zip(figures) {
        let [start, cell, lines, interrupt] = figures.map(median);
        println!(
            "| {way} | {start:.2} s | {:.0} ms | {lines:.2} s | {:.0} ms |",
            cell * 1e3,
            interrupt * 1e3
        );
    }
}

/// Starts, runs, restarts and kills, and counts what is left.
fn churn(rounds: usize) {
    let grounds = Grounds::new("churn");
    grounds.add("ssh", "ssh://loop", &[]);
    let ours = || {
        let dir = grounds.sshd.dir().display().to_string();
        let mine =
            |words: &str| words.contains(&dir) && !words.contains("sshd") || words.contains("lightcell-remote serve");
        processes().into_iter().filter(|(_, _, words)| mine(words)).count()
    };
    let folders = || {
        let sockets = std::fs::read_dir("/tmp").expect("/tmp").flatten();
        let sockets = sockets.filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix("lightcell-").is_some_and(|rest| rest.len() == 16)
        });
        sockets.count()
            + std::fs::read_dir(home().join("sessions"))
                .expect("sessions")
                .flatten()
                .count()
    };
    let before = (ours(), folders());
    for round in 0..rounds {
        let mut kernel = grounds.kernel(Some("ssh"));
        assert_eq!(kernel.ok("let v = 6 * 7;\nv").value(), "42");
        kernel.call(serde_json::json!({"op": "restart", "now": round % 2 == 1}));
        assert_eq!(kernel.ok("1 + 1").value(), "2");
        let pid = kernel.front_end();
        std::mem::forget(kernel);
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        let begun = Instant::now();
        while (ours(), folders()) != before {
            assert!(
                begun.elapsed().as_secs() < 30,
                "round {round}: {:?}, before {before:?}",
                (ours(), folders())
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        println!("round {}: gone after {:.1} s", round + 1, begun.elapsed().as_secs_f64());
    }
}
