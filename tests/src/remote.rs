//! A machine to reach by ssh: this one, through an sshd of the test's own, with another home folder and a shell that
//! greets. Nothing of the system's own ssh is touched.

use crate::wire::Wire;
use crate::{Scratch, home};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Whether this machine has what [`Sshd`] needs.
pub fn has_sshd() -> bool {
    Path::new(SSHD).is_file()
}

const SSHD: &str = "/usr/sbin/sshd";

/// The server, and the files of its client.
pub struct Sshd {
    scratch: Scratch,
    /// Where it listens.
    pub port: u16,
}

/// How a machine differs from the usual one.
#[derive(Default)]
pub struct Machine<'a> {
    /// Environment variables of its sessions.
    pub env: &'a [(&'a str, &'a str)],
    /// It is at the other end of this network.
    pub wire: Option<&'a Wire>,
    /// Its server forwards ports.
    pub forwards: bool,
}

impl Sshd {
    /// Starts one.
    pub fn start(name: &str) -> Sshd {
        Sshd::start_with(name, &[])
    }

    /// Starts one whose sessions have these environment variables.
    pub fn start_with(name: &str, env: &[(&str, &str)]) -> Sshd {
        Sshd::start_as(
            name,
            &Machine {
                env,
                ..Machine::default()
            },
        )
    }

    /// Starts one that differs.
    pub fn start_as(name: &str, machine: &Machine) -> Sshd {
        let scratch = Scratch::new(name);
        for _ in 0..5 {
            // sshd cannot draw a port itself; between drawing and binding somebody else may take it.
            let port = free_port();
            if Sshd::try_start(&scratch.0, port, machine) {
                return Sshd { scratch, port };
            }
        }
        panic!("sshd does not start: {}", read(&scratch.0.join("log")));
    }

    fn try_start(dir: &Path, port: u16, machine: &Machine) -> bool {
        let address = machine.wire.map_or("127.0.0.1", Wire::address);
        let forwards = if machine.forwards { "yes" } else { "no" };
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        for key in ["host", "id", "other"] {
            if !dir.join(key).exists() {
                run(
                    "ssh-keygen",
                    &["-q", "-t", "ed25519", "-N", "", "-f", &text(&dir.join(key))],
                );
            }
        }
        std::fs::copy(dir.join("id.pub"), dir.join("authorized_keys")).unwrap();
        let user = String::from_utf8_lossy(&run("id", &["-un"]).stdout).trim().to_owned();
        if user == "root" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        // Its own home, in which the shell has no cargo and prints a greeting.
        let there = dir.join("home");
        std::fs::create_dir_all(&there).unwrap();
        std::fs::write(
            there.join(".bashrc"),
            "echo Welcome to the machine\necho a warning >&2\n",
        )
        .unwrap();
        let d = dir.display();
        let config = format!(
            "Port {port}\nListenAddress {address}\nHostKey {d}/host\nPidFile {d}/pid\nAuthorizedKeysFile {d}/authorized_keys\n\
             AllowUsers {user}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nAllowTcpForwarding {forwards}\nAllowStreamLocalForwarding no\nPrintMotd no\nUseDNS no\n\
             SetEnv HOME={d}/home PATH=/usr/local/bin:/usr/bin:/bin\n"
        );
        let env: String = machine
            .env
            .iter()
            .map(|(name, value)| format!(" {name}={value}"))
            .collect();
        std::fs::write(dir.join("sshd_config"), format!("{}{env}\n", config.trim_end())).unwrap();
        let mut command = match machine.wire {
            Some(wire) => wire.inside(SSHD),
            None => Command::new(SSHD),
        };
        let started = command
            .arg("-f")
            .arg(dir.join("sshd_config"))
            .arg("-E")
            .arg(dir.join("log"))
            .status();
        if !started.unwrap().success() {
            return false;
        }
        let key = read(&dir.join("host.pub"));
        let key: Vec<&str> = key.split(' ').take(2).collect();
        std::fs::write(
            dir.join("known_hosts"),
            format!("[{address}]:{port} {}\n", key.join(" ")),
        )
        .unwrap();
        let host = |name: &str, id: &str, known: &str| {
            format!(
                "Host {name}\n  HostName {address}\n  Port {port}\n  User {user}\n  IdentityFile {d}/{id}\n  IdentitiesOnly yes\n  \
                 UserKnownHostsFile {d}/{known}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking ask\n  \
                 ControlMaster auto\n  ControlPath {d}/master-%C\n  ControlPersist yes\n"
            )
        };
        let config = [
            host("loop", "id", "known_hosts"),
            host("unknown-key", "id", "none"),
            host("refused", "other", "known_hosts"),
        ];
        std::fs::write(dir.join("ssh_config"), config.concat()).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if dir.join("pid").exists() && std::net::TcpStream::connect((address, port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.scratch.0
    }

    /// The data folder of a Jupyter that knows only the remotes of this test.
    pub fn jupyter(&self) -> PathBuf {
        self.dir().join("jupyter")
    }

    /// Runs `lightcell remote …`.
    pub fn remote(&self, args: &[&str]) -> Output {
        Command::new(home().join("bin/lightcell"))
            .arg("remote")
            .args(args)
            .env("JUPYTER_DATA_DIR", self.jupyter())
            .output()
            .expect("the command runs")
    }

    /// Adds a remote at one of the configured hosts, with this installation at its other end.
    pub fn add(&self, name: &str, address: &str) -> Output {
        self.add_with(name, address, &[])
    }

    /// The same with further arguments.
    pub fn add_with(&self, name: &str, address: &str, more: &[&str]) -> Output {
        let (config, dir) = (text(&self.dir().join("ssh_config")), text(&home()));
        let config = format!("--ssh-arg={config}");
        let args = ["add", name, address, "--dir", &dir, "--ssh-arg=-F", &config];
        self.remote(&[&args, more].concat())
    }

    /// The kernelspec of a remote, as a value to change and write again.
    pub fn spec(&self, name: &str) -> (PathBuf, serde_json::Value) {
        let path = self.jupyter().join(format!("kernels/lightcell-{name}/kernel.json"));
        let value = serde_json::from_str(&read(&path)).expect("a kernelspec");
        (path, value)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.dir().join("pid")) {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
    }
}

/// A port of the loopback that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn run(program: &str, args: &[&str]) -> Output {
    let out = Command::new(program).args(args).output().expect("it runs");
    assert!(
        out.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

/// All processes: id, parent, and the words of the command line.
pub fn processes() -> Vec<(i32, i32, String)> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        Some((pid, crate::parent(pid)?, words))
    })
    .collect()
}

/// The processes of a kept kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Holds the line.
    pub keeper: i32,
    /// The kernel's parent.
    pub serve: i32,
    /// The kernel.
    pub kernel: i32,
}

impl Kept {
    /// That of the remote with this name.
    pub fn of(name: &str) -> Option<Kept> {
        let all = processes();
        let keeper = all
            .iter()
            .find(|(_, _, words)| words.contains(&format!("lightcell-remote keeper {name} ")))?
            .0;
        let child = |of: i32| all.iter().find(|(_, parent, _)| *parent == of).map(|(pid, _, _)| *pid);
        let serve = child(keeper)?;
        Some(Kept {
            keeper,
            serve,
            kernel: child(serve)?,
        })
    }

    /// Whether all of it runs.
    pub fn runs(self) -> bool {
        [self.keeper, self.serve, self.kernel].into_iter().all(crate::alive)
    }

    /// Whether nothing of it runs.
    pub fn is_gone(self) -> bool {
        ![self.keeper, self.serve, self.kernel].into_iter().any(crate::alive)
    }
}

/// The processes between a front end and its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// What Jupyter started.
    pub launcher: i32,
    /// The launcher's ssh.
    pub ssh: i32,
    /// The other end of the line.
    pub serve: i32,
    /// The kernel.
    pub kernel: i32,
}

impl Chain {
    /// From the launcher on.
    pub fn of(launcher: i32) -> Chain {
        let all = processes();
        let (ssh, words) = all
            .iter()
            .find(|(_, parent, words)| *parent == launcher && words.starts_with("ssh "))
            .map(|(pid, _, words)| (*pid, words))
            .expect("the launcher's ssh");
        let mark = words
            .split(' ')
            .find(|word| word.starts_with("lightcell-"))
            .expect("a mark")
            .trim_end_matches(';');
        let serve = all
            .iter()
            .find(|(pid, _, words)| *pid != ssh && words.contains(mark) && words.contains("lightcell-remote serve"))
            .expect("the other end")
            .0;
        let kernel = all
            .iter()
            .find(|(_, parent, _)| *parent == serve)
            .expect("the kernel")
            .0;
        Chain {
            launcher,
            ssh,
            serve,
            kernel,
        }
    }

    /// What still runs of it.
    pub fn left(self) -> Vec<i32> {
        let all = [self.launcher, self.ssh, self.serve, self.kernel];
        all.into_iter().filter(|pid| crate::alive(*pid)).collect()
    }
}

/// The folder of a kernel's sockets, as its process holds them.
pub fn sockets_of(kernel: i32) -> PathBuf {
    // As it sees them: a namespace has its own.
    let unix = read(Path::new(&format!("/proc/{kernel}/net/unix")));
    let fds = std::fs::read_dir(format!("/proc/{kernel}/fd"))
        .expect("its descriptors")
        .flatten();
    let held: Vec<String> = fds
        .filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    let socket = unix.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(6);
        let (inode, path) = (fields.next()?, fields.next()?);
        (path.ends_with("/k-1") && held.contains(&format!("socket:[{inode}]"))).then(|| PathBuf::from(path))
    });
    socket.expect("a socket").parent().expect("a folder").to_owned()
}

/// A model and its data, in cells' code.
pub const NET: &str = r#"use lightcell::prelude::*;
hparams! { Hp { lr: f64 = 1e-2 } }
struct Net { l1: Linear }
impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, _: &Hp) -> Net { Net { l1: linear(p / "l1", 4, 2) } }
    fn forward(&self, x: &Tensor) -> Tensor { self.l1.forward(x) }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        Ok(loss)
    }
    fn configure_optimizers(&self, hp: &Hp) -> Optim { adam(hp.lr) }
}
let x = Tensor::randn([200, 4], (Kind::Float, Device::Cpu));
let y = x.sum_dim_intlist(1, false, Kind::Float).gt(0.0).to_kind(Kind::Int64);
let data = Data::new(TensorDataset::new(x, y)?).batch_size(50);"#;
