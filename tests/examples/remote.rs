//! The table of docs/remote.md: the same work in a kernel here, behind ssh, in an allocation of Slurm, and behind both, each
//! in turn, several times. By hand, with an installation as for the tests: `cargo run --release -p lightcell-tests --example
//! remote [ROUNDS]`.

use lightcell_tests::remote::Sshd;
use lightcell_tests::slurm::{Slurm, has_slurm};
use lightcell_tests::{Kernel, home};
use std::process::Command;
use std::time::Instant;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok());
    table(rounds.unwrap_or(3));
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
        let config = self.slurm.as_ref().map(|slurm| slurm.config().display().to_string());
        let env: Vec<(&str, &str)> = config.iter().map(|config| ("SLURM_CONF", config.as_str())).collect();
        match name {
            Some(name) => self.sshd.kernel_with(name, &env),
            None => Kernel::start_with(&env),
        }
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
