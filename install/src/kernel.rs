//! The kernel's program, and what it prepares itself: worker and warm store.

use crate::place::{self, Place};
use crate::preflight::Tools;
use crate::ui::{self, Step};
use anyhow::{Context, Result, bail};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that is built from the sources.
struct Program {
    package: &'static str,
    /// Says in the installation's `bin` from which sources it was built.
    stamp: &'static str,
    /// When one of these changes it is built anew.
    parts: &'static [&'static str],
}

const KERNEL: Program = Program {
    package: "lightcell-kernel",
    stamp: ".kernel-stamp",
    parts: &[
        "Cargo.toml",
        "Cargo.lock",
        "kernel/Cargo.toml",
        "kernel/src",
        "kernel/events",
        "magics/line",
        "magics/gpu",
        "magics/ipynb",
        "magics/plot",
    ],
};

const REMOTE: Program = Program {
    package: "lightcell-remote",
    stamp: ".remote-stamp",
    parts: &["Cargo.toml", "Cargo.lock", "install/remote", "kernel/events"],
};

/// Builds the kernel and the program that stands between it and a front end elsewhere, as far as they are not there for
/// these sources, and puts them in their place at once: kernels that run keep their own.
pub fn build(place: &Place, tools: &Tools, sources: &Path) -> Result<PathBuf> {
    build_programs(place, [&tools.cargo, &tools.rustc], sources, &[&KERNEL, &REMOTE])?;
    Ok(place.join("bin").join(KERNEL.package))
}

/// Builds only the latter: all that a machine needs whose kernels run elsewhere.
pub fn build_remote(place: &Place, cargo: &Path, rustc: &Path, sources: &Path) -> Result<PathBuf> {
    build_programs(place, [cargo, rustc], sources, &[&REMOTE])?;
    Ok(place.join("bin").join(REMOTE.package))
}

fn build_programs(place: &Place, tools: [&Path; 2], sources: &Path, programs: &[&Program]) -> Result<()> {
    let bin = place.join("bin");
    let mut stale = Vec::new();
    for program in programs {
        let wanted = stamp_of(sources, program.parts)?;
        let runs = || place::output(Command::new(bin.join(program.package)).arg("--version")).is_ok();
        if std::fs::read_to_string(bin.join(program.stamp)).is_ok_and(|found| found == wanted) && runs() {
            ui::already(program.package, "is there");
        } else {
            stale.push((*program, wanted));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let with_kernel = stale.iter().any(|(program, _)| program.package == KERNEL.package);
    crate::preflight::check_disk(sources, if with_kernel { 2_500_000_000 } else { 500_000_000 })?;
    let step = Step::new(if with_kernel {
        "kernel (a few minutes)"
    } else {
        "program for kernels elsewhere (under a minute)"
    });
    // In one run: their common dependencies are compiled once.
    let packages: Vec<&str> = stale.iter().map(|(program, _)| program.package).collect();
    let command = build_command(place, tools, sources, &packages);
    let built = cargo(command, &place.join("logs/kernel-build.log"), &step, units(sources))?;
    std::fs::create_dir_all(&bin)?;
    for (program, wanted) in stale {
        let target = bin.join(program.package);
        let made = built.iter().find(|file| file.file_name() == target.file_name());
        let made = made.with_context(|| format!("cargo built no {}", program.package))?;
        let beside = place::beside(&target);
        std::fs::copy(made, &beside).with_context(|| format!("cannot write {}", beside.display()))?;
        std::fs::rename(&beside, &target).with_context(|| format!("cannot write {}", target.display()))?;
        place::write(&bin.join(program.stamp), wanted.as_bytes())?;
    }
    step.done("built");
    Ok(())
}

fn build_command(place: &Place, [cargo, rustc]: [&Path; 2], sources: &Path, packages: &[&str]) -> Command {
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked"]);
    packages.iter().for_each(|package| {
        command.args(["-p", package]);
    });
    command
        .arg("--message-format=json")
        // Cargo starts rustc in the folder of each crate. Some crates hold a rust-toolchain file, which rustup's rustc
        // on PATH would follow to a toolchain that is not there.
        .env("RUSTC", rustc)
        .current_dir(sources);
    if sources == place.join("src") {
        command.env("CARGO_TARGET_DIR", place.join("build/kernel"));
    }
    command
}

/// Changes when the program must be built anew.
fn stamp_of(sources: &Path, parts: &[&str]) -> Result<String> {
    let mut files = Vec::new();
    for part in parts {
        collect(&sources.join(part), &mut files);
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        let name = file.strip_prefix(sources).unwrap_or(&file);
        name.hash(&mut hasher);
        let content = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // Whichever tch the lock names: the kernel has none.
        crate::tch::DEFAULT.named_in(name, content).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        files.push(path.to_owned());
    } else if let Ok(entries) = std::fs::read_dir(path) {
        entries.flatten().for_each(|entry| collect(&entry.path(), files));
    }
}

/// About how many crates the build goes through.
fn units(sources: &Path) -> u64 {
    let lock = std::fs::read_to_string(sources.join("Cargo.lock")).unwrap_or_default();
    (lock.matches("[[package]]").count() as u64).max(1)
}

/// Runs a cargo build with its progress; gives the programs it made.
fn cargo(mut command: Command, log: &Path, step: &Step, total: u64) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(log.parent().unwrap_or(log))?;
    let mut child = place::tied(&mut command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(log)?)
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    step.pieces(total);
    let (mut done, mut programs, mut errors) = (0, Vec::new(), String::new());
    for line in BufReader::new(child.stdout.take().context("no output")?)
        .lines()
        .map_while(Result::ok)
    {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else {
            continue;
        };
        match message["reason"].as_str() {
            Some("compiler-artifact") => {
                done += 1;
                step.at(done, message["target"]["name"].as_str().unwrap_or_default());
                if let Some(path) = message["executable"].as_str() {
                    programs.push(PathBuf::from(path));
                }
            }
            Some("compiler-message") if message["message"]["level"] == "error" => {
                errors.push_str(message["message"]["rendered"].as_str().unwrap_or_default());
            }
            _ => {}
        }
    }
    if !child.wait()?.success() {
        let mut text = std::fs::read_to_string(log).unwrap_or_default();
        text.push_str(&errors);
        std::fs::write(log, text)?;
        return Err(place::failed("the build of the kernel", log));
    }
    Ok(programs)
}

/// Lets the kernel build worker and warm store for the user's rustc.
pub fn prepare(place: &Place, program: &Path) -> Result<u64> {
    let command = || {
        let mut command = Command::new(program);
        command
            .arg("prepare")
            .env("LIGHTCELL_HOME", &place.root)
            .current_dir(&place.root);
        command
    };
    let checked = command()
        .arg("--check")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if checked
        .with_context(|| format!("cannot run {}", program.display()))?
        .success()
    {
        ui::already("warm store", "is there");
        return Ok(0);
    }
    crate::preflight::check_disk(&place.root, 1_500_000_000)?;
    let step = Step::new("warm store (about a minute)");
    let log = place.join("logs/prepare.log");
    std::fs::create_dir_all(place.join("logs"))?;
    let mut child = place::tied(&mut command())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log)?)
        .spawn()
        .context("cannot run the kernel")?;
    let mut bytes = None;
    for line in BufReader::new(child.stdout.take().context("no output")?)
        .lines()
        .map_while(Result::ok)
    {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else {
            continue;
        };
        if value["step"] == "done" {
            bytes = value["bytes"].as_u64();
        } else {
            step.pieces(value["total"].as_u64().unwrap_or(1));
            step.at(
                value["done"].as_u64().unwrap_or(0),
                value["crate"].as_str().unwrap_or_default(),
            );
        }
    }
    let status = child.wait()?;
    match bytes.filter(|_| status.success()) {
        Some(bytes) => {
            step.done(&format!("built, {}", ui::size(bytes)));
            Ok(bytes)
        }
        None => bail!(place::failed("the preparation of the warm store", &log)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn the_kernel_is_built_again_when_its_sources_changed() {
        let scratch = Scratch::new("stamp");
        for file in ["Cargo.lock", "kernel/src/main.rs", "magics/fit/src/lib.rs"] {
            place::write(&scratch.0.join(file), b"[[package]]\n").unwrap();
        }
        let stamp_of = |root: &Path| super::stamp_of(root, KERNEL.parts);
        let before = stamp_of(&scratch.0).unwrap();
        assert_eq!(stamp_of(&scratch.0).unwrap(), before);
        place::write(&scratch.0.join("magics/fit/src/lib.rs"), b"not in the kernel").unwrap();
        assert_eq!(stamp_of(&scratch.0).unwrap(), before);
        place::write(&scratch.0.join("kernel/src/main.rs"), b"changed").unwrap();
        assert_ne!(stamp_of(&scratch.0).unwrap(), before);
        assert_eq!(units(&scratch.0), 1);
    }

    #[test]
    fn the_build_uses_the_rustc_that_was_found() {
        let place = Place { root: "/lc".into() };
        let tools = [Path::new("/t/cargo"), Path::new("/t/rustc")];
        let env = |sources: &str, name: &str| {
            let command = build_command(&place, tools, Path::new(sources), &["a"]);
            let found = command.get_envs().find(|(key, _)| *key == name);
            found.and_then(|(_, value)| Some(value?.to_string_lossy().into_owned()))
        };
        assert_eq!(env("/clone", "RUSTC").as_deref(), Some("/t/rustc"));
        assert_eq!(env("/clone", "CARGO_TARGET_DIR"), None);
        assert_eq!(env("/lc/src", "CARGO_TARGET_DIR").as_deref(), Some("/lc/build/kernel"));
    }

    #[test]
    fn a_build_that_fails_shows_the_compilers_error() {
        let scratch = Scratch::new("cargo");
        let message = r#"{"reason":"compiler-message","message":{"level":"error","rendered":"error: no such thing"}}"#;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo '{message}'; exit 101")]);
        let error = cargo(command, &scratch.0.join("logs/x.log"), &Step::new("x"), 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the build of the kernel failed\n  error: no such thing\nhint: the whole output is in "),
            "{error}"
        );
        let done = r#"{"reason":"compiler-artifact","target":{"name":"a"},"executable":"/x/a"}"#;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo '{done}'")]);
        assert_eq!(
            cargo(command, &scratch.0.join("logs/x.log"), &Step::new("x"), 1).unwrap(),
            [Path::new("/x/a")]
        );
    }

    #[test]
    fn what_the_kernel_says_when_it_cannot_prepare_is_shown() {
        let scratch = Scratch::new("prepare");
        let place = Place {
            root: scratch.0.clone(),
        };
        let program = scratch.0.join("kernel");
        // Written by another process: a file that this one has open for writing, or a child of another test's for a
        // moment, cannot be run.
        let script = |text: &str| {
            let text = format!("#!/bin/sh\n[ \"$2\" = --check ] && exit 1\n{text}\n");
            let write = r#"rm -f "$1" && printf %s "$2" > "$1" && chmod 755 "$1""#;
            place::output(Command::new("sh").args(["-c", write, "sh"]).arg(&program).arg(text)).unwrap();
        };
        script("echo 'error: no linker' >&2; exit 1");
        let error = prepare(&place, &program).unwrap_err().to_string();
        assert!(
            error.starts_with("the preparation of the warm store failed\n  error: no linker\nhint: "),
            "{error}"
        );
        script(
            r#"echo '{"step":"store","crate":"tch","done":1,"total":2}'; echo '{"step":"done","store":"/s","bytes":7}'"#,
        );
        assert_eq!(prepare(&place, &program).unwrap(), 7);
    }
}
