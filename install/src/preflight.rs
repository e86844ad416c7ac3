//! What must be there before anything is built or fetched, each missing thing with how to get it.

use crate::place::{self, on_path, output};
use crate::ui::{self, problem};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tools of this machine.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Cargo's own program.
    pub cargo: PathBuf,
    /// rustc's own program.
    pub rustc: PathBuf,
    /// `rustc -vV`.
    pub rustc_version: String,
    /// A C++ compiler.
    pub cxx: PathBuf,
    /// Python.
    pub python: PathBuf,
}

/// Oldest rustc that works: evcxr's own.
pub const RUSTC: (u32, u32) = (1, 95);
/// Oldest Python.
const PYTHON: (u32, u32) = (3, 10);

/// Refuses what cannot work.
pub fn platform() -> Result<()> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        Ok(())
    } else {
        Err(problem(
            "Lightcell runs on Linux x86_64 with glibc only: it copies processes with fork and takes over libc's write",
            "use such a machine, or a container or WSL 2 on this one",
        ))
    }
}

/// Finds all tools.
pub fn tools() -> Result<Tools> {
    let cargo = cargo()?;
    let (rustc, rustc_version) = rustc()?;
    Ok(Tools {
        cargo,
        rustc,
        rustc_version,
        cxx: cxx()?,
        python: python()?,
    })
}

/// Cargo's own program.
pub fn cargo() -> Result<PathBuf> {
    tool("cargo")
}

/// rustc's own program and what it says of itself.
pub fn rustc() -> Result<(PathBuf, String)> {
    let rustc = tool("rustc")?;
    let version = output(Command::new(&rustc).arg("-vV"))?;
    check_rustc(&version)?;
    Ok((rustc, version))
}

/// rustup's choice for this folder, else PATH's.
fn tool(name: &str) -> Result<PathBuf> {
    if let Ok(path) = output(Command::new("rustup").args(["which", name])) {
        return Ok(path.into());
    }
    on_path(name).ok_or_else(|| {
        problem(
            format!("there is no {name} on PATH"),
            "install Rust 1.95 or newer: https://rustup.rs",
        )
    })
}

fn check_rustc(version: &str) -> Result<()> {
    let release = version
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .unwrap_or_default();
    match numbers(release) {
        Some(found) if found >= RUSTC => Ok(()),
        _ => Err(problem(
            format!("rustc {release} is too old: Lightcell needs {}.{}", RUSTC.0, RUSTC.1),
            "rustup update stable",
        )),
    }
}

/// The first two numbers of a version.
pub fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', '+', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The C++ compiler: `CXX`, or the usual names.
pub fn cxx() -> Result<PathBuf> {
    if let Some(named) = place::set("CXX") {
        return match output(Command::new(&named).arg("--version")) {
            Ok(_) => Ok(named),
            Err(_) => Err(problem(
                format!("CXX names {}, which does not run", named.display()),
                "name a C++ compiler, or unset CXX",
            )),
        };
    }
    ["c++", "g++", "clang++"]
        .iter()
        .find_map(|name| on_path(name))
        .ok_or_else(|| {
            problem(
                "there is no C++ compiler",
                "install one: apt install g++, dnf install gcc-c++, or pacman -S gcc",
            )
        })
}

/// In one run, as some Pythons are slow to start: the version, and whether environments can be made.
const ASK_PYTHON: &str = "\
import sys
from importlib.util import find_spec
print('%d.%d' % sys.version_info[:2])
if find_spec('venv') and find_spec('ensurepip'): print('venv')";

/// Python 3.10 or newer that can make virtual environments.
pub fn python() -> Result<PathBuf> {
    let install = "install it: apt install python3 python3-venv, or dnf install python3";
    let python = on_path("python3").ok_or_else(|| problem("there is no python3 on PATH", install))?;
    let found = output(Command::new(&python).args(["-c", ASK_PYTHON]))?;
    let mut lines = found.lines();
    let version = lines.next().unwrap_or_default();
    if numbers(version).is_none_or(|found| found < PYTHON) {
        return Err(problem(
            format!("Python {version} is too old: Jupyter needs {}.{}", PYTHON.0, PYTHON.1),
            install,
        ));
    }
    if lines.next() != Some("venv") {
        return Err(problem(
            "Python has no `venv` module",
            "install it: apt install python3-venv",
        ));
    }
    Ok(python)
}

/// What a new installation takes, so that a disk that is too small is said before anything begins.
pub fn check_disk_for_all(folder: &Path, variant: &str) -> Result<()> {
    check_disk(
        folder,
        if variant == "cuda" {
            8_000_000_000
        } else {
            3_000_000_000
        },
    )
}

/// Space on the disk of a folder.
pub fn check_disk(folder: &Path, needed: u64) -> Result<()> {
    let free = free(folder);
    if free < needed {
        return Err(problem(
            format!(
                "{} has {} free, {} are needed",
                folder.display(),
                ui::size(free),
                ui::size(needed)
            ),
            "free some space, or set LIGHTCELL_HOME to a folder on a larger disk",
        ));
    }
    Ok(())
}

fn free(folder: &Path) -> u64 {
    let mut existing = folder;
    while !existing.exists() {
        let Some(parent) = existing.parent() else {
            return u64::MAX;
        };
        existing = parent;
    }
    let Ok(path) = std::ffi::CString::new(existing.as_os_str().as_encoded_bytes()) else {
        return u64::MAX;
    };
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: fills the local; read only when the call succeeded.
    unsafe {
        if libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) != 0 {
            return u64::MAX;
        }
        let stats = stats.assume_init();
        stats.f_bavail.saturating_mul(stats.f_frsize)
    }
}

/// Refuses a place below another Cargo workspace: cargo takes the crate of each session for a stray member of it.
pub fn no_workspace_above(root: &Path, cargo: &Path) -> Result<()> {
    let above = |folder: &Path| {
        std::fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace"))
    };
    let Some(workspace) = root.ancestors().skip(1).find(|folder| above(folder)) else {
        return Ok(());
    };
    // It may exclude this folder; cargo knows.
    let probe = place::beside(&root.join("probe"));
    place::write(
        &probe.join("Cargo.toml"),
        b"[package]\nname = \"probe\"\nversion = \"0.0.0\"\n\n[lib]\npath = \"lib.rs\"\n",
    )?;
    place::write(&probe.join("lib.rs"), b"")?;
    let result = output(
        Command::new(cargo)
            .args([
                "metadata",
                "--offline",
                "--no-deps",
                "--format-version=1",
                "--manifest-path",
            ])
            .arg(probe.join("Cargo.toml")),
    );
    let _ = std::fs::remove_dir_all(&probe);
    match result {
        Ok(_) => Ok(()),
        Err(_) => Err(problem(
            format!(
                "{} lies below the Cargo workspace {}, which cargo would count notebooks' crates into",
                root.display(),
                workspace.display()
            ),
            "set LIGHTCELL_HOME to a folder outside of it",
        )),
    }
}

/// Whether the standard library's sources are there: the analyser needs them to know the type of a `let`.
pub fn rust_src(rustc: &Path) -> bool {
    output(Command::new(rustc).args(["--print", "sysroot"]))
        .is_ok_and(|root| Path::new(&root).join("lib/rustlib/src/rust/library/std").is_dir())
}

/// Adds them through rustup.
pub fn add_rust_src(tools: &Tools) -> Result<()> {
    if rust_src(&tools.rustc) {
        ui::already("rust-src", "is there");
        return Ok(());
    }
    let step = ui::Step::new("rust-src");
    let added = output(Command::new("rustup").args(["component", "add", "rust-src"]));
    if rust_src(&tools.rustc) {
        step.done("added with rustup");
        return Ok(());
    }
    drop(step);
    let why = added
        .err()
        .map(|error| format!(": {}", error.to_string().lines().next().unwrap_or_default()))
        .unwrap_or_default();
    Err(problem(
        format!("the sources of Rust's standard library are missing and rustup cannot add them{why}"),
        "run `rustup component add rust-src`, or install your distribution's rust-src package",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(
            [numbers("1.95.0"), numbers("1.100.0-nightly"), numbers("x")],
            [Some((1, 95)), Some((1, 100)), None]
        );
        assert!(check_rustc("rustc 1.95.0\nrelease: 1.95.0").is_ok());
        let error = check_rustc("release: 1.94.1").unwrap_err().to_string();
        assert_eq!(
            error,
            "rustc 1.94.1 is too old: Lightcell needs 1.95\nhint: rustup update stable"
        );
    }

    #[test]
    fn a_place_below_a_workspace_is_refused() {
        let scratch = crate::place::tests::Scratch::new("workspace");
        let (root, cargo) = (scratch.0.join("a/lc"), cargo().unwrap());
        std::fs::create_dir_all(&root).unwrap();
        assert!(no_workspace_above(&root, &cargo).is_ok());
        std::fs::write(scratch.0.join("Cargo.toml"), "[workspace]\n").unwrap();
        let error = no_workspace_above(&root, &cargo).unwrap_err().to_string();
        let (root_name, above) = (root.display(), scratch.0.display());
        assert_eq!(
            error,
            format!(
                "{root_name} lies below the Cargo workspace {above}, which cargo would count notebooks' crates into\nhint: set LIGHTCELL_HOME to a folder outside of it"
            )
        );
        std::fs::write(scratch.0.join("Cargo.toml"), "[workspace]\nexclude = [\"a\"]\n").unwrap();
        assert!(no_workspace_above(&root, &cargo).is_ok());
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_is_said_before_anything_begins() {
        assert!(check_disk(Path::new("/"), 0).is_ok());
        let error = check_disk(Path::new("/nonexistent/x"), u64::MAX)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("are needed\nhint: free some space, or set LIGHTCELL_HOME"),
            "{error}"
        );
    }
}
