//! Where things lie, and small helpers around files and programs.

use crate::ui;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The installation's folder.
#[derive(Debug, Clone)]
pub struct Place {
    /// `LIGHTCELL_HOME`, else `lightcell` in the user's data folder.
    pub root: PathBuf,
}

/// `setup.json`: what set-up found and made. The kernel reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Version of this program.
    pub version: String,
    /// Cargo's own program.
    pub cargo: PathBuf,
    /// rustc's own program.
    pub rustc: PathBuf,
    /// `rustc -vV`.
    pub rustc_version: String,
    /// The libtorch in use.
    pub libtorch: Libtorch,
    /// Folder of libtch.so.
    pub libtch: PathBuf,
    /// The copy of the sources.
    pub src: PathBuf,
    /// The Python that runs Jupyter.
    pub python: PathBuf,
    /// Kernelspec folders that were made.
    pub kernelspecs: Vec<PathBuf>,
}

/// A libtorch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libtorch {
    /// Folder with `lib/` and `include/`.
    pub path: PathBuf,
    /// Such as `2.13.0`.
    pub version: String,
    /// `cpu` or `cuda`.
    pub variant: String,
}

/// Held while set-up works.
pub const LOCK: &str = ".setup.lock";

impl Place {
    /// The folder, made or not.
    pub fn find() -> Result<Place> {
        if let Some(root) = set("LIGHTCELL_HOME") {
            return Ok(Place {
                root: std::path::absolute(root)?,
            });
        }
        let data = match set("XDG_DATA_HOME") {
            Some(data) => data,
            None => home()?.join(".local/share"),
        };
        Ok(Place {
            root: data.join("lightcell"),
        })
    }

    /// Something in it.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// `setup.json`, if it is there and whole.
    pub fn setup(&self) -> Option<Setup> {
        serde_json::from_str(&std::fs::read_to_string(self.join("setup.json")).ok()?).ok()
    }

    /// Whether set-up has worked here before.
    pub fn is_ours(&self) -> bool {
        self.join(LOCK).exists() || self.join("setup.json").exists()
    }

    /// Refuses a folder that holds other things (such as a home folder): set-up writes `src`, `bin` and the like into
    /// it, and uninstall removes them again.
    pub fn check_free(&self) -> Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        let other = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .find(|name| !["logs", "history.jsonl"].iter().any(|own| name == own));
        match other {
            Some(name) => Err(ui::problem(
                format!(
                    "{} holds other things already ({})",
                    self.root.display(),
                    name.to_string_lossy()
                ),
                "set LIGHTCELL_HOME to a folder that is empty or new",
            )),
            None => Ok(()),
        }
    }

    /// Keeps two set-ups from working in the same folder; waits for the other.
    pub fn lock(&self) -> Result<File> {
        std::fs::create_dir_all(&self.root).with_context(|| format!("cannot make {}", self.root.display()))?;
        let file = File::create(self.join(LOCK))?;
        // SAFETY: plain calls on a live descriptor; the lock goes with the process.
        unsafe {
            if libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) != 0 {
                ui::note("another set-up is running; waiting for it");
                libc::flock(file.as_raw_fd(), libc::LOCK_EX);
            }
        }
        Ok(file)
    }
}

/// An environment variable that is set and not empty, as a path.
pub fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The user's home folder.
pub fn home() -> Result<PathBuf> {
    set("HOME").context("HOME is not set")
}

/// Jupyter's data folder of the user, by Jupyter's own rules.
pub fn jupyter_data() -> Result<PathBuf> {
    if let Some(folder) = set("JUPYTER_DATA_DIR") {
        return Ok(std::path::absolute(folder)?);
    }
    Ok(set("XDG_DATA_HOME")
        .map_or_else(|| home().map(|home| home.join(".local/share")), Ok)?
        .join("jupyter"))
}

/// The folder for the user's own programs.
pub fn user_bin() -> Result<PathBuf> {
    set("XDG_BIN_HOME").map_or_else(|| home().map(|home| home.join(".local/bin")), Ok)
}

/// A program on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(runs)
}

/// Writes a file in one go: beside its place, then in it. A file that is the same stays untouched.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let beside = beside(path);
    std::fs::write(&beside, content).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, path).with_context(|| format!("cannot write {}", path.display()))
}

/// A name beside a path, for what is not yet whole.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial-{}", std::process::id()))
}

/// Removes what killed runs left beside their places.
pub fn remove_partial(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().contains(".partial-") {
            let _ = if entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path())
            } else {
                std::fs::remove_file(entry.path())
            };
        }
    }
}

/// Bytes below a folder.
pub fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// What a program prints, trimmed.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    if !out.status.success() {
        bail!(
            "{} failed: {}",
            command.get_program().to_string_lossy(),
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// A program that ends when this one is killed: else pip would go on writing below the next run's feet.
pub fn tied(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure runs in the new process and makes one system call.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        })
    }
}

/// Runs a program with its output in a log file; on failure the end of the log is in the error.
pub fn run_logged(command: &mut Command, log: &Path, what: &str) -> Result<()> {
    run_watched(command, log, what, &mut || {})
}

/// The same, with something to do five times a second while it runs.
pub fn run_watched(command: &mut Command, log: &Path, what: &str, each: &mut dyn FnMut()) -> Result<()> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = tied(command)
        .stdin(std::process::Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(failed(what, log))
            };
        }
        each();
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// The error for a program that failed with its output in a log.
pub fn failed(what: &str, log: &Path) -> anyhow::Error {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let tail: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = tail[tail.len().saturating_sub(4)..].join("\n  ");
    if text.contains("No space left on device") {
        return ui::problem(
            format!("{what} failed: the disk is full\n  {tail}"),
            format!(
                "free some space, then run the same command again; the whole output is in {}",
                log.display()
            ),
        );
    }
    if network_fault(&text) {
        return ui::problem(
            format!("{what} failed: the network cannot be reached\n  {tail}"),
            format!(
                "connect, then run the same command again; the whole output is in {}",
                log.display()
            ),
        );
    }
    ui::problem(
        format!("{what} failed\n  {tail}"),
        format!("the whole output is in {}", log.display()),
    )
}

/// Whether pip's, npm's or cargo's output speaks of the network.
fn network_fault(text: &str) -> bool {
    let signs = [
        "Temporary failure in name resolution",
        "Name or service not known",
        "Network is unreachable",
        "Connection refused",
        "Could not resolve",
        "NewConnectionError",
        "ProxyError",
        "ReadTimeoutError",
        "SSLError",
        "failed to download",
        "Max retries exceeded",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ETIMEDOUT",
    ];
    signs.iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A folder that goes with the test.
    pub struct Scratch(pub PathBuf);

    impl Scratch {
        pub fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("lightcell-install-{name}-{}", std::process::id()));
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
    fn a_folder_with_other_things_is_refused() {
        let place = Place {
            root: Scratch::new("foreign").0.clone(),
        };
        assert!(place.check_free().is_ok());
        let scratch = Scratch::new("foreign");
        std::fs::write(scratch.0.join(".bashrc"), "").unwrap();
        let error = place.check_free().unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{} holds other things already (.bashrc)\nhint: set LIGHTCELL_HOME to a folder that is empty or new",
                scratch.0.display()
            )
        );
        drop(place.lock().unwrap());
        assert!(place.is_ours() && place.check_free().is_ok());
    }

    #[test]
    fn a_file_that_is_the_same_keeps_its_time() {
        let scratch = Scratch::new("write");
        let file = scratch.0.join("a/b");
        write(&file, b"one").unwrap();
        let time = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        let before = time(&file);
        write(&file, b"one").unwrap();
        assert_eq!(time(&file), before);
        write(&file, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(scratch.0.join("a")).unwrap().count(), 1);
    }

    #[test]
    fn what_killed_runs_left_goes() {
        let scratch = Scratch::new("partial");
        std::fs::create_dir_all(scratch.0.join(".torch.partial-99/x")).unwrap();
        std::fs::write(scratch.0.join(".f.partial-1"), "").unwrap();
        std::fs::write(scratch.0.join("kept"), "").unwrap();
        remove_partial(&scratch.0);
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_program_shows_the_end_of_its_log() {
        let scratch = Scratch::new("log");
        let log = scratch.0.join("x.log");
        let error = run_logged(
            Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]),
            &log,
            "the thing",
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.starts_with("the thing failed\n  one\n  two\nhint: the whole output is in "),
            "{error}"
        );
        let error = run_logged(
            Command::new("sh").args(["-c", "echo 'Temporary failure in name resolution'; false"]),
            &log,
            "pip",
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.starts_with("pip failed: the network cannot be reached"),
            "{error}"
        );
        assert!(
            error.contains("hint: connect, then run the same command again"),
            "{error}"
        );
        let error = run_logged(
            Command::new("sh").args(["-c", "echo 'OSError: [Errno 28] No space left on device'; false"]),
            &log,
            "pip",
        )
        .unwrap_err()
        .to_string();
        assert!(error.starts_with("pip failed: the disk is full\n  OSError"), "{error}");
    }
}
