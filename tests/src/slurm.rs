//! A Slurm of the test's own: a controller and two nodes on this machine, on the loopback, with munge beside them. It
//! needs root, as its nodes start processes for users, and nothing of the system's own Slurm.

use crate::Scratch;
use crate::remote::free_port;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const PROGRAMS: [&str; 5] = ["slurmctld", "slurmd", "srun", "scancel", "munged"];

/// Whether this machine has what [`Slurm`] needs.
pub fn has_slurm() -> bool {
    let there = |name: &str| {
        ["/usr/sbin", "/usr/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(name).is_file())
    };
    PROGRAMS.iter().all(|name| there(name))
}

/// The daemons.
pub struct Slurm {
    scratch: Scratch,
}

impl Slurm {
    /// Starts them: nodes n1 and n2 with two processors, 4 GiB and two GPUs each, in the partition `test`.
    pub fn start(name: &str) -> Slurm {
        let slurm = Slurm {
            scratch: Scratch::new(name),
        };
        slurm.configure();
        let d = slurm.dir().display().to_string();
        slurm.ok(
            "/usr/sbin/munged",
            &[
                "--force",
                &format!("--key-file={d}/munge/key"),
                &format!("--socket={d}/munge/sock"),
                &format!("--pid-file={d}/munge/pid"),
                &format!("--log-file={d}/munge/log"),
                &format!("--seed-file={d}/munge/seed"),
                "--num-threads=2",
            ],
        );
        slurm.ok("/usr/sbin/slurmctld", &["-i"]);
        for node in ["n1", "n2"] {
            slurm.ok("/usr/sbin/slurmd", &["-N", node]);
        }
        let end = Instant::now() + Duration::from_secs(60);
        while slurm
            .says("sinfo", &["-h", "-N", "-t", "idle", "-o", "%N"])
            .lines()
            .count()
            < 2
        {
            assert!(Instant::now() < end, "Slurm comes up: {}", slurm.says("sinfo", &[]));
            std::thread::sleep(Duration::from_millis(50));
        }
        slurm
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.scratch.0
    }

    /// What `SLURM_CONF` must name.
    pub fn config(&self) -> PathBuf {
        self.dir().join("slurm.conf")
    }

    /// Runs one of Slurm's programs.
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program)
            .args(args)
            .env("SLURM_CONF", self.config())
            .output()
            .expect("it runs")
    }

    /// What one of them prints.
    pub fn says(&self, program: &str, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(program, args).stdout)
            .trim()
            .to_owned()
    }

    fn ok(&self, program: &str, args: &[&str]) {
        // Daemons keep what they inherit: no pipe of the test's.
        let status = Command::new(program)
            .args(args)
            .env("SLURM_CONF", self.config())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.expect("it runs").success(), "{program}");
    }

    fn configure(&self) {
        use std::os::unix::fs::PermissionsExt;
        let d = self.dir();
        for folder in ["munge", "state", "log", "spool.n1", "spool.n2"] {
            std::fs::create_dir_all(d.join(folder)).expect("a folder");
        }
        let mode = |file: &str, mode| std::fs::set_permissions(d.join(file), std::fs::Permissions::from_mode(mode));
        mode("munge", 0o711).expect("permissions");
        let mut key = vec![0; 1024];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").expect("random"), &mut key).expect("random");
        std::fs::write(d.join("munge/key"), key).expect("a key");
        mode("munge/key", 0o400).expect("permissions");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let host = host.trim().split('.').next().unwrap_or_default();
        let d = d.display();
        let [controller, first, second] = [free_port(), free_port(), free_port()];
        let text = format!(
            "ClusterName=lc\nGresTypes=gpu\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller}\nSlurmUser=root\nSlurmdUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={d}/munge/sock\nCredType=cred/munge\nStateSaveLocation={d}/state\n\
             SlurmdSpoolDir={d}/spool.%n\nSlurmctldPidFile={d}/slurmctld.pid\nSlurmdPidFile={d}/slurmd.%n.pid\n\
             SlurmctldLogFile={d}/log/slurmctld.log\nSlurmdLogFile={d}/log/slurmd.%n.log\nProctrackType=proctrack/linuxproc\n\
             TaskPlugin=task/none\nJobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
             JobCompType=jobcomp/none\nMpiDefault=none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_CPU_Memory\nDefMemPerCPU=512\n\
             SchedulerType=sched/backfill\nSchedulerParameters=bf_interval=1\nReturnToService=2\n\
             SlurmdParameters=config_overrides\nSwitchType=switch/none\nKillWait=5\nInactiveLimit=0\nMinJobAge=30\n\
             MailProg=/bin/true\nPlugStackConfig=/dev/null\n\
             NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 RealMemory=4096 Gres=gpu:2 State=UNKNOWN\n\
             NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 RealMemory=4096 Gres=gpu:2 State=UNKNOWN\n\
             PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO\n"
        );
        std::fs::write(self.config(), text).expect("a configuration");
        // Devices that only Slurm takes for some.
        for device in ["gpu0", "gpu1"] {
            let node = self.dir().join(device);
            let made = Command::new("mknod").arg(node).args(["c", "1", "3"]).status();
            assert!(made.expect("it runs").success(), "a device");
        }
        let devices = format!("AutoDetect=off\nNodeName=n1,n2 Name=gpu File={d}/gpu[0-1]\n");
        std::fs::write(self.dir().join("gres.conf"), devices).expect("a configuration");
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.run("scancel", &["-u", "root"]);
        let end = Instant::now() + Duration::from_secs(10);
        while !self.says("squeue", &["-h"]).is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
        }
        for file in ["slurmd.n1.pid", "slurmd.n2.pid", "slurmctld.pid", "munge/pid"] {
            let Ok(pid) = std::fs::read_to_string(self.dir().join(file)) else {
                continue;
            };
            let Ok(pid) = pid.trim().parse::<i32>() else { continue };
            let _ = Command::new("kill").arg(pid.to_string()).status();
            let end = Instant::now() + Duration::from_secs(10);
            while crate::alive(pid) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
