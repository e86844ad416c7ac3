//! What a kernel on another machine has there: its processes and folders, to see that they run, and that nothing is left.

use crate::{Kernel, home};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Waits; gives how long it took. The limit is what the product promises, with time for a busy machine.
pub fn until(what: &str, limit: u64, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(limit), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

/// What a program has said, on both of its outputs.
pub fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// Sends a signal, as `-9`.
pub fn signal(pid: i32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "{name} to {pid}");
}

/// Kills a front end, as a power cut would.
pub fn kill_front_end(kernel: Kernel) {
    let pid = kernel.front_end();
    // Its pipes are closed.
    std::mem::forget(kernel);
    signal(pid, "-9");
}

/// Ends the kernels that are kept under a name, when it is dropped.
pub struct Keeping(String);

impl Keeping {
    /// Those of the remote with this name.
    pub fn of(name: &str) -> Keeping {
        Keeping(name.to_owned())
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        // The other machine is this one, whatever has become of the way there.
        let mut end = Command::new(home().join("bin/lightcell-remote"));
        let _ = end.args(["end", &self.0]).stdout(Stdio::null()).status();
    }
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

/// What a process has open, as /proc writes it.
fn descriptors(pid: i32) -> Vec<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .flatten();
    fds.filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned()))
        .collect()
}

/// The folder of a kernel's sockets, as its process holds them.
pub fn sockets_of(kernel: i32) -> PathBuf {
    // As it sees them: a namespace has its own.
    let unix = std::fs::read_to_string(format!("/proc/{kernel}/net/unix")).unwrap_or_default();
    let held = descriptors(kernel);
    let socket = unix.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(6);
        let (inode, path) = (fields.next()?, fields.next()?);
        (path.ends_with("/k-1") && held.contains(&format!("socket:[{inode}]"))).then(|| PathBuf::from(path))
    });
    socket.expect("a socket").parent().expect("a folder").to_owned()
}

/// The TCP addresses on which a process listens, as /proc writes them.
pub fn listens(pid: i32) -> Vec<String> {
    let held = descriptors(pid);
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let ours = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (*state == "0A" && held.contains(&format!("socket:[{inode}]"))).then(|| (*address).to_owned())
    });
    ours.collect()
}

/// All that a kernel behind ssh has: its processes, the folder of its sockets, its session's folder.
pub struct Traces {
    /// Its processes.
    pub chain: Chain,
    /// Its folders.
    pub folders: Vec<PathBuf>,
}

impl Traces {
    /// Of a kernel that runs.
    pub fn of(kernel: &mut Kernel) -> Traces {
        let chain = Chain::of(kernel.pid());
        let sessions = std::fs::read_dir(home().join("sessions")).expect("sessions").flatten();
        let ours = format!("{}-", chain.kernel);
        let session = sessions
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&ours))
            })
            .expect("a session's folder");
        Traces {
            chain,
            folders: vec![sockets_of(chain.kernel), session],
        }
    }

    /// Whether nothing is left.
    pub fn are_gone(&self) -> bool {
        self.chain.left().is_empty() && self.are_gone_from_disk()
    }

    /// Whether its folders are gone.
    pub fn are_gone_from_disk(&self) -> bool {
        !self.folders.iter().any(|folder| folder.exists())
    }
}
