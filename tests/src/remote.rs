//! A machine to reach by ssh: this one, through an sshd of the test's own, with another home folder and a shell that
//! greets. Nothing of the system's own ssh is touched.

use crate::traces::Keeping;
use crate::wire::Wire;
use crate::{Kernel, Scratch, home};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
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
    /// Kernels that are kept here, also by a test that fails.
    keeping: Mutex<Vec<Keeping>>,
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
    /// It has this name; needs the right to make a namespace.
    pub name: Option<&'a str>,
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
                return Sshd {
                    scratch,
                    port,
                    keeping: Mutex::default(),
                };
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
        let named = ["unshare", "--uts", "sh", "-c", "hostname \"$0\"; exec \"$@\""];
        let mut words: Vec<&str> = machine.name.map_or(Vec::new(), |name| [&named[..], &[name]].concat());
        words.push(SSHD);
        let mut command = match machine.wire {
            Some(wire) => wire.inside(words[0]),
            None => Command::new(words[0]),
        };
        let started = command
            .args(&words[1..])
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
            // As the messages in docs/remote.md call it.
            host("gpu", "id", "known_hosts"),
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

    /// Runs the user's own ssh; whether it is content.
    pub fn ssh(&self, args: &[&str]) -> bool {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.dir().join("ssh_config")).args(args);
        // One that stays in the background keeps what it inherits: no pipe of the test's.
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        ssh.status().expect("ssh runs").success()
    }

    /// Adds a remote at one of the configured hosts, with this installation at its other end.
    pub fn add(&self, name: &str, address: &str) -> Output {
        self.add_with(name, address, &[])
    }

    /// The same with further arguments.
    pub fn add_with(&self, name: &str, address: &str, more: &[&str]) -> Output {
        if more.contains(&"--keep") {
            let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            keeping.push(Keeping::of(name));
        }
        let (config, dir) = (text(&self.dir().join("ssh_config")), text(&home()));
        let config = format!("--ssh-arg={config}");
        let args = ["add", name, address, "--dir", &dir, "--ssh-arg=-F", &config];
        self.remote(&[&args, more].concat())
    }

    /// Starts a kernel of one of its remotes.
    pub fn kernel(&self, name: &str) -> Kernel {
        self.kernel_with(name, &[])
    }

    /// The same with further environment variables of the front end.
    pub fn kernel_with(&self, name: &str, more: &[(&str, &str)]) -> Kernel {
        let (name, jupyter) = (format!("lightcell-{name}"), text(&self.jupyter()));
        let data = text(&self.dir().join("data"));
        let own = [
            ("LIGHTCELL_TEST_KERNEL", name.as_str()),
            ("JUPYTER_PATH", &jupyter),
            ("JUPYTER_DATA_DIR", &data),
        ];
        Kernel::start_with(&[&own, more].concat())
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
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner).clear();
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

/// An installation at the other end that differs from the tested one. What kernels only read are links; programs are copies, as
/// they look for the others beside themselves, and what kernels write is its own.
pub struct Installation(Scratch);

impl Installation {
    /// As the tested one is.
    pub fn like_ours(name: &str) -> Installation {
        let installation = Installation(Scratch::new(name));
        for part in ["store", "stubs", "toolchains"] {
            std::os::unix::fs::symlink(home().join(part), installation.dir().join(part)).expect("a link");
        }
        for folder in ["bin", "sessions"] {
            std::fs::create_dir(installation.dir().join(folder)).expect("a folder");
        }
        for file in [
            "setup.json",
            "bin/lightcell",
            "bin/lightcell-remote",
            "bin/lightcell-kernel",
        ] {
            // By another process: a program that this one has open for writing cannot be run.
            run(
                "cp",
                &[&text(&home().join(file)), &text(&installation.dir().join(file))],
            );
        }
        installation
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.0.0
    }

    /// Puts a script of `sh` in the place of a program.
    pub fn script(&self, program: &str, script: &str) {
        let write = r#"rm -f "$1"; printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#;
        let program = text(&self.dir().join("bin").join(program));
        run("sh", &["-c", write, "sh", &program, script]);
    }
}

/// A disk of its own in a folder's place, with little space; needs the right to mount.
pub struct Disk(PathBuf);

impl Disk {
    /// One with so many bytes.
    pub fn mount(at: &Path, bytes: u32) -> Disk {
        let size = format!("size={bytes}");
        run("mount", &["-t", "tmpfs", "-o", &size, "lightcell-test", &text(at)]);
        Disk(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
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
