//! The kernel's process on the host: how it is started and how it ends, and the folder of its sockets.

use crate::allocation;
use anyhow::{Context, Result, bail};
use jupyter_protocol::connection_info::ConnectionInfo;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A kernel that was told to end has this long for it.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The 0700 folder of the sockets; removed when dropped. Short, as a socket's path has at most 107 bytes.
pub struct Sockets {
    path: PathBuf,
    /// Locked while this program lives: how later ones know what is left over.
    _lock: File,
}

const PREFIX: &str = "lightcell-";

impl Sockets {
    /// Makes one, and removes those whose program was killed.
    pub fn create(base: &Path) -> Result<Sockets> {
        remove_dead(base);
        let path = base.join(format!("{PREFIX}{}", random()?));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the folder of the kernel's sockets {}", path.display()))?;
        let lock = File::create(path.join("lock")).and_then(|file| lock(&file).map(|_| file));
        let lock = lock.with_context(|| format!("cannot write into {}", path.display()))?;
        Ok(Sockets { path, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connection of a kernel with its sockets here.
    pub fn connection(&self, key: &str) -> ConnectionInfo {
        ConnectionInfo {
            transport: jupyter_protocol::connection_info::Transport::IPC,
            ip: self.path.join("k").to_string_lossy().into_owned(),
            shell_port: 1,
            iopub_port: 2,
            stdin_port: 3,
            control_port: 4,
            hb_port: 5,
            key: key.to_owned(),
            signature_scheme: "hmac-sha256".to_owned(),
            kernel_name: None,
        }
    }

    /// Whether the kernel has bound all of them; the heartbeat's comes last.
    pub fn are_bound(&self) -> bool {
        self.path.join("k-5").exists()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn lock(file: &File) -> std::io::Result<()> {
    // SAFETY: a plain call on a live descriptor; the lock goes with the process, however it ends.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn remove_dead(base: &Path) {
    // SAFETY: asks for a number.
    let me = unsafe { libc::geteuid() };
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry
            .file_name()
            .to_string_lossy()
            .strip_prefix(PREFIX)
            .is_some_and(is_random)
            && std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == me);
        if ours && File::open(path.join("lock")).is_ok_and(|file| lock(&file).is_ok()) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// Sixteen digits that nobody can guess.
pub fn random() -> Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

fn is_random(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The kernel's process.
pub struct Kernel {
    home: PathBuf,
    child: Child,
    /// Its end is the kernel's.
    life: Option<ChildStdin>,
    /// Lines that it writes: what it asks for.
    asks: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    stderr: Arc<Mutex<String>>,
}

impl Kernel {
    /// Starts the installation's kernel, and gives it its connection by standard input.
    pub fn start(home: &Path, connection: &ConnectionInfo) -> Result<Kernel> {
        let program = home.join("bin/lightcell-kernel");
        if !program.is_file() {
            bail!(
                "Lightcell is not set up on this machine: there is no {}",
                program.display()
            );
        }
        let mut command = Command::new(&program);
        command
            .arg("--connection-stdin")
            .envs(environment(home))
            .envs(allocation::limits(|name| std::env::var(name).ok(), allocation::asked))
            .env("LIGHTCELL_HOME", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // What describes the kernel's own task would be taken for the task of a step that a cell starts.
        for name in allocation::OWN_TASK {
            command.env_remove(name);
        }
        if let Some(folder) = std::env::var_os("HOME").filter(|folder| Path::new(folder).is_dir()) {
            command.current_dir(folder);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut life = child.stdin.take().context("no pipe")?;
        let stderr = Arc::new(Mutex::new(String::new()));
        if let Some(pipe) = child.stderr.take() {
            keep_tail(pipe, stderr.clone());
        }
        let (asked, asks) = mpsc::unbounded_channel();
        if let Some(pipe) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(pipe).split(b'\n');
                while let Some(Ok(line)) = lines.next() {
                    // When nobody asks any more, they are read all the same.
                    let _ = asked.send(line);
                }
            });
        }
        let line = serde_json::to_string(connection)? + "\n";
        // A kernel that has ended already says why on its standard error.
        let _ = life.write_all(line.as_bytes()).and_then(|()| life.flush());
        Ok(Kernel {
            home: home.to_owned(),
            child,
            life: Some(life),
            asks: Some(asks),
            stderr,
        })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of what it said on standard error.
    pub fn last_words(&self) -> String {
        // What is in the pipe when the process ends is read in a moment.
        std::thread::sleep(Duration::from_millis(50));
        let text = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        text.trim().to_owned()
    }

    /// Tells it that the end is near: a run that goes on writes a checkpoint.
    pub fn leave(&mut self) {
        self.tell("leave");
    }

    /// Says a line to it.
    pub fn tell(&mut self, line: &str) {
        if let Some(life) = &mut self.life {
            // One that has ended already needs to hear nothing.
            let _ = life
                .write_all(format!("{line}\n").as_bytes())
                .and_then(|()| life.flush());
        }
    }

    /// The lines that it writes; once.
    pub fn asks(&mut self) -> mpsc::UnboundedReceiver<Vec<u8>> {
        self.asks.take().unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    /// Ends it and all it started.
    pub fn end(&mut self) {
        drop(self.life.take());
        let begun = Instant::now();
        while self.ended().is_none() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        end_orphans();
        remove_session(&self.home, self.child.id());
    }
}

/// Removes the folder of a kernel that had no time to do so itself.
fn remove_session(home: &Path, pid: u32) {
    let ours = format!("{pid}-");
    for entry in std::fs::read_dir(home.join("sessions")).into_iter().flatten().flatten() {
        let path = entry.path();
        // It may have been ended amid its own removal.
        let is_free = || match File::open(path.join(".lock")) {
            Ok(file) => lock(&file).is_ok(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if entry.file_name().to_string_lossy().starts_with(&ours) && is_free() {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// Reads a pipe to its end and keeps the last part.
pub fn keep_tail(mut pipe: impl Read + Send + 'static, tail: Arc<Mutex<String>>) {
    const KEPT: usize = 8192;
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(got @ 1..) = pipe.read(&mut buffer) {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.push_str(&String::from_utf8_lossy(&buffer[..got]));
            if tail.len() > 2 * KEPT {
                let mut at = tail.len() - KEPT;
                while !tail.is_char_boundary(at) {
                    at += 1;
                }
                tail.drain(..at);
            }
        }
    });
}

/// Orphans of the kernel become this process's children, so that it can end them too.
pub fn adopt_orphans() {
    // SAFETY: a plain call about this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

fn end_orphans() {
    for _ in 0..50 {
        let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()));
        let listed: Vec<i32> = match &children {
            Ok(text) => text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
            Err(_) => return,
        };
        if listed.is_empty() {
            return;
        }
        for pid in listed {
            // SAFETY: plain calls; the process is a child of this one, alive or waiting to be reaped.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the kernelspec of the installation sets: a shell without login has no PATH for cargo and rustc. Without a
/// kernelspec, the folders of the tools that set-up found.
fn environment(home: &Path) -> Vec<(String, String)> {
    let json = |path: PathBuf| -> Option<serde_json::Value> {
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
    };
    let Some(setup) = json(home.join("setup.json")) else {
        return Vec::new();
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let specs = setup["kernelspecs"].as_array().into_iter().flatten();
    let spec = specs
        .filter_map(|spec| json(Path::new(spec.as_str()?).join("kernel.json")))
        .find(|spec| {
            spec["env"]["LIGHTCELL_HOME"]
                .as_str()
                .is_some_and(|named| Path::new(named) == home)
        });
    if let Some(env) = spec.as_ref().and_then(|spec| spec["env"].as_object()) {
        return env
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.replace("${PATH}", &path))))
            .collect();
    }
    let folder = |name: &str| {
        Some(
            Path::new(setup[name].as_str()?)
                .parent()?
                .to_string_lossy()
                .into_owned(),
        )
    };
    let mut folders: Vec<String> = ["cargo", "rustc"].iter().filter_map(|name| folder(name)).collect();
    if let Some(user) = std::env::var_os("HOME") {
        folders.insert(0, Path::new(&user).join(".cargo/bin").to_string_lossy().into_owned());
    }
    folders.push(path);
    folders.push("/usr/local/bin:/usr/bin:/bin".to_owned());
    vec![("PATH".to_owned(), folders.join(":"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("lcr-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_folder_of_the_sockets_is_private_and_goes() {
        use std::os::unix::fs::PermissionsExt;
        let base = Scratch::new("sockets");
        // One of a program that was killed, one that is not ours by its name.
        let dead = base.0.join("lightcell-0123456789abcdef");
        std::fs::create_dir_all(&dead).unwrap();
        std::fs::write(dead.join("lock"), "").unwrap();
        std::fs::create_dir_all(base.0.join("lightcell-notes")).unwrap();
        std::fs::write(base.0.join("lightcell-notes/lock"), "").unwrap();
        let first = Sockets::create(&base.0).unwrap();
        assert!(!dead.exists());
        let second = Sockets::create(&base.0).unwrap();
        let mode = std::fs::metadata(&first.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(first.connection("k").shell_url().ends_with("/k-1"));
        assert!(first.path.exists());
        drop((first, second));
        assert_eq!(std::fs::read_dir(&base.0).unwrap().count(), 1);
    }

    #[test]
    fn the_folder_of_a_kernel_that_was_killed_goes() {
        let home = Scratch::new("session");
        for folder in ["12-a", "123-b", "12-held", "12"] {
            let path = home.0.join("sessions").join(folder);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(".lock"), "").unwrap();
        }
        // Killed amid its own removal.
        std::fs::create_dir_all(home.0.join("sessions/12-half/target")).unwrap();
        let held = File::open(home.0.join("sessions/12-held/.lock")).unwrap();
        lock(&held).unwrap();
        remove_session(&home.0, 12);
        let left = std::fs::read_dir(home.0.join("sessions")).unwrap().flatten();
        let mut left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["12", "12-held", "123-b"]);
        remove_session(Path::new("/nonexistent"), 1);
    }

    #[test]
    fn the_kernelspecs_environment_is_the_kernels() {
        let home = Scratch::new("env");
        let spec = home.0.join("spec");
        std::fs::create_dir_all(&spec).unwrap();
        let setup = serde_json::json!({"cargo": "/t/bin/cargo", "rustc": "/r/bin/rustc", "kernelspecs": [spec]});
        std::fs::write(home.0.join("setup.json"), setup.to_string()).unwrap();
        // Without a kernelspec.
        let env = environment(&home.0);
        assert!(env[0].1.contains(".cargo/bin:/t/bin:/r/bin:"), "{env:?}");
        assert!(env[0].1.ends_with("/bin"), "{env:?}");
        let json = serde_json::json!({"env": {"PATH": "/c/bin:${PATH}:/bin", "LIGHTCELL_HOME": home.0}});
        std::fs::write(spec.join("kernel.json"), json.to_string()).unwrap();
        let env = environment(&home.0);
        let path = &env.iter().find(|(name, _)| name == "PATH").unwrap().1;
        assert!(path.starts_with("/c/bin:/") && !path.contains('$'), "{path}");
        assert_eq!(environment(Path::new("/nonexistent")), []);
    }

    #[test]
    fn a_kernel_that_is_not_there_is_said() {
        let sockets = Sockets::create(&std::env::temp_dir()).unwrap();
        let error = Kernel::start(Path::new("/nonexistent"), &sockets.connection("k"));
        assert_eq!(
            error.err().unwrap().to_string(),
            "Lightcell is not set up on this machine: there is no /nonexistent/bin/lightcell-kernel"
        );
    }
}
