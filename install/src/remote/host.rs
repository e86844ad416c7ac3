//! The installation at the other end: whether it is there, and how it comes there.

use super::target::{ANSWER, Target};
use crate::place::{self, Place};
use crate::ui::{self, problem};
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a look at the host gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// All is there.
    Ready,
    /// Something is not, in words.
    Missing(String),
}

/// Runs `doctor` there.
pub fn look(target: &Target) -> Result<Found> {
    let host = target.shown();
    let doctor = target.installed("lightcell", &["doctor".into(), "--json".into()]);
    let remote = target.installed("lightcell-remote", &["--version".into()]);
    // Each in a shell of its own, as they end with exec. What the login shell prints comes before the mark.
    let script = format!("echo {ANSWER}; ({remote}) && ({doctor})");
    let out = run(&target.ssh(&script))
        .output()
        .with_context(|| format!("cannot run ssh to {host}"))?;
    let (said, errors) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    let Some((_, answer)) = said.split_once(&format!("{ANSWER}\n")) else {
        return Err(unreachable(target, errors.trim()));
    };
    Ok(judge(answer, env!("CARGO_PKG_VERSION")))
}

/// What the version and the doctor's table say together.
fn judge(answer: &str, version: &str) -> Found {
    let mut lines = answer.splitn(2, '\n');
    let Some(found) = lines.next().and_then(|line| line.strip_prefix("lightcell-remote ")) else {
        return Found::Missing("Lightcell is not set up".to_owned());
    };
    if found != version {
        return Found::Missing(format!("Lightcell {found} is there, here is {version}"));
    }
    let rows: Value = serde_json::from_str(lines.next().unwrap_or_default()).unwrap_or_default();
    let Some(rows) = rows.as_array() else {
        return Found::Missing("`lightcell doctor` gives no answer".to_owned());
    };
    // No Jupyter is needed there; compilers are found by what set-up wrote down, where a shell without login has none.
    let parts = ["installation", "libtorch", "libtch", "kernel", "worker, store"];
    let needed = |row: &&Value| row["state"] == "missing" && parts.iter().any(|part| row["part"] == *part);
    match rows.iter().find(needed) {
        None => Found::Ready,
        Some(row) => Found::Missing(format!(
            "{}: {}",
            row["part"].as_str().unwrap_or_default(),
            row["what"].as_str().unwrap_or_default()
        )),
    }
}

/// ssh's own words; the notebook and `remote check` explain the common ones.
fn unreachable(target: &Target, errors: &str) -> anyhow::Error {
    let (host, last) = (target.shown(), errors.lines().last().unwrap_or("no answer"));
    problem(
        format!("{host} cannot be reached: {last}"),
        format!("see that `ssh -o BatchMode=yes {host} true` works in a terminal: host known, key admitted"),
    )
}

/// Brings the sources and this program there, and lets it set itself up. A kernel built here is used there if it runs
/// there; else it is built anew.
pub fn set_up(place: &Place, target: &Target) -> Result<()> {
    let host = target.shown();
    let sources = crate::sources::root(place)?;
    send(place, &sources, &mut run(&target.ssh(&unpacking(target))), host)?;
    let mut ssh = place::tied(&mut run(&target.ssh(&setting_up(target))))
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run ssh to {host}"))?;
    // Held open until it is done: its end, also by Ctrl-C, ends the set-up there.
    let life = ssh.stdin.take();
    let status = ssh.wait()?;
    drop(life);
    if status.success() {
        return Ok(());
    }
    Err(problem(
        format!("the set-up on {host} failed; what it said is above"),
        "mend that, then run the same command again: it goes on where it was",
    ))
}

/// Takes what [`send`] sends. A transfer that is interrupted leaves no half folder in the place of a whole one, and a folder
/// with other things in it is left alone.
fn unpacking(target: &Target) -> String {
    format!(
        "set -e; d={}; \
         if [ ! -e \"$d/.setup.lock\" ] && [ ! -e \"$d/setup.json\" ] && \
         ls -A \"$d\" 2> /dev/null | grep -qvx -e logs -e history.jsonl; then echo \"$d {OTHERS}\" >&2; exit 1; fi; \
         mkdir -p \"$d\"; : >> \"$d/.setup.lock\"; rm -rf \"$d/incoming\"; mkdir \"$d/incoming\"; \
         tar -xf - -C \"$d/incoming\" || {{ rm -rf \"$d/incoming\"; exit 1; }}; \
         rm -rf \"$d/src\"; mv \"$d/incoming/src\" \"$d/src\"; mkdir -p \"$d/bin\"; \
         for f in \"$d\"/incoming/bin/* \"$d\"/incoming/bin/.[a-z]*; do [ ! -e \"$f\" ] || mv \"$f\" \"$d/bin/\"; done; \
         rm -rf \"$d/incoming\"",
        target.folder()
    )
}

/// In what [`unpacking`] says of a folder that it does not touch.
const OTHERS: &str = "holds other things already";

/// Runs `lightcell setup` there, as long as its input stays open.
fn setting_up(target: &Target) -> String {
    format!(
        "d={}; export LIGHTCELL_HOME=\"$d\"; export PATH=\"$HOME/.cargo/bin:$PATH\"; \
         if \"$d/bin/lightcell\" --version > /dev/null 2>&1; then set -- \"$d/bin/lightcell\" setup; \
         elif command -v cargo > /dev/null; then cd \"$d/src\" && export CARGO_TARGET_DIR=\"$d/build/kernel\" && \
         set -- cargo run --release -p lightcell-install -- setup; \
         else echo \"error: the programs that were sent do not run here, and there is no cargo to build others\" >&2; \
         echo \"hint: install Rust 1.95 or newer here: https://rustup.rs\" >&2; exit 1; fi; \
         exec 3<&0; \"$@\" < /dev/null 3<&- & setup=$!; \
         ( while read -r _ <&3; do :; done; kill \"$setup\" ) > /dev/null 2>&1 & line=$!; \
         wait \"$setup\"; code=$?; kill \"$line\" 2> /dev/null; exit \"$code\"",
        target.folder()
    )
}

/// Packs the sources and the programs as one stream into the command's input.
fn send(place: &Place, sources: &Path, to: &mut Command, host: &str) -> Result<()> {
    let step = ui::Step::new(&format!("sources and programs to {host}"));
    let staged = Staged::make(place, sources)?;
    let total = place::size(&staged.0);
    step.bytes(total);
    let mut receiver = place::tied(to)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run ssh to {host}"))?;
    let into = receiver.stdin.take().context("no pipe")?;
    let sent = staged.pack(into, &step);
    let out = receiver.wait_with_output()?;
    if !out.status.success() {
        let errors = String::from_utf8_lossy(&out.stderr);
        // tar says last that it exits, and before that why.
        let told = |line: &&str| !line.trim().is_empty() && !line.contains("Exiting with failure status");
        let last = errors.lines().rev().find(told).unwrap_or("no word").trim();
        let hint = match last.contains(OTHERS) {
            true => "name a folder that is empty or new with --dir",
            false => "free space there, or name another folder with --dir, then run the same command again",
        };
        return Err(problem(format!("{host} did not take the files: {last}"), hint));
    }
    sent?;
    step.done(&format!("sent, {}", ui::size(total)));
    Ok(())
}

/// What is sent, as it is to lie there. Removed when dropped.
struct Staged(PathBuf);

impl Staged {
    const PREFIX: &str = ".outgoing-";

    fn make(place: &Place, sources: &Path) -> Result<Staged> {
        let logs = place.join("logs");
        // Those of programs that were killed.
        for entry in std::fs::read_dir(&logs).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(pid) = name.strip_prefix(Staged::PREFIX)
                && !Path::new("/proc").join(pid).exists()
            {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let staged = Staged(logs.join(format!("{}{}", Staged::PREFIX, std::process::id())));
        // As set-up copies them: without build output and the repository's history. Which tch it needs is for the set-up
        // there to say.
        crate::sources::copy(sources, &staged.0.join("src"), crate::tch::DEFAULT)?;
        std::fs::create_dir_all(staged.0.join("bin"))?;
        let me = std::env::current_exe().context("cannot find this program")?;
        std::fs::copy(me, staged.0.join("bin/lightcell"))?;
        for name in ["lightcell-kernel", ".kernel-stamp", "lightcell-remote", ".remote-stamp"] {
            let file = place.join("bin").join(name);
            if file.is_file() {
                std::fs::copy(&file, staged.0.join("bin").join(name))?;
            }
        }
        Ok(staged)
    }

    fn pack(&self, mut into: impl Write, step: &ui::Step) -> Result<()> {
        let mut tar = place::tied(Command::new("tar").arg("-cf").arg("-").arg("-C").arg(&self.0))
            .args(["src", "bin"])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run tar")?;
        let mut from = tar.stdout.take().context("no pipe")?;
        let (mut buffer, mut sent) = (vec![0; 1 << 16], 0);
        let copied = loop {
            match from.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(got) => match into.write_all(&buffer[..got]) {
                    Ok(()) => sent += got as u64,
                    Err(error) => break Err(error),
                },
                Err(error) => break Err(error),
            }
            step.at(sent, "");
        };
        drop(from);
        let status = tar.wait()?;
        copied.context("the connection ended amid the files")?;
        anyhow::ensure!(status.success(), "tar failed");
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn what_is_missing_there_is_named() {
        let row = |part: &str, state: &str| serde_json::json!({"part": part, "state": state, "what": "is gone"});
        let answer = |rows: &[Value]| format!("lightcell-remote 1.0\n{}", serde_json::to_string_pretty(rows).unwrap());
        for (answer, found) in [
            (String::new(), "Lightcell is not set up"),
            ("lightcell-remote 0.9\n[]".into(), "Lightcell 0.9 is there, here is 1.0"),
            ("lightcell-remote 1.0\n".into(), "`lightcell doctor` gives no answer"),
            (
                answer(&[row("cargo", "ok"), row("libtch", "missing")]),
                "libtch: is gone",
            ),
        ] {
            assert_eq!(judge(&answer, "1.0"), Found::Missing(found.to_owned()));
        }
        let good = answer(&[row("NVML", "none"), row("Jupyter", "missing"), row("rustc", "missing")]);
        assert_eq!(judge(&good, "1.0"), Found::Ready);
    }

    /// Its scripts run here: without a host there is no ssh before them.
    fn here(dir: &Path) -> Target {
        let dir = dir.to_string_lossy().into_owned();
        Target::read("slurm://", Default::default(), Some(dir), Vec::new()).unwrap()
    }

    fn program(path: &Path, script: &str) {
        // By another process: one that this process has open for writing cannot be run.
        let write = "mkdir -p \"${1%/*}\" && printf '#!/bin/sh\n%s\n' \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let mut sh = Command::new("sh");
        assert!(
            sh.args(["-c", write, "sh"])
                .arg(path)
                .arg(script)
                .status()
                .unwrap()
                .success()
        );
    }

    #[test]
    fn what_is_sent_takes_the_place_of_what_was_sent_before_and_of_nothing_else() {
        let scratch = Scratch::new("unpack");
        let (from, to) = (Staged(scratch.0.join("from")), scratch.0.join("to"));
        place::write(&from.0.join("src/new.rs"), b"new").unwrap();
        place::write(&from.0.join("bin/lightcell"), b"program").unwrap();
        place::write(&from.0.join("bin/.kernel-stamp"), b"stamp").unwrap();
        let unpack = || {
            let words = here(&to).ssh(&unpacking(&here(&to)));
            let mut shell = run(&words);
            shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut shell = shell.spawn().unwrap();
            let _ = from.pack(shell.stdin.take().unwrap(), &ui::Step::new("files"));
            let out = shell.wait_with_output().unwrap();
            (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
        };
        // Somebody's folder.
        place::write(&to.join("src/mine.rs"), b"mine").unwrap();
        let (good, said) = unpack();
        assert!(!good && said.contains(&format!("{} {OTHERS}", to.display())), "{said}");
        assert_eq!(std::fs::read(to.join("src/mine.rs")).unwrap(), b"mine");
        std::fs::remove_dir_all(&to).unwrap();
        // A new one, twice; what another version has left of the sources goes.
        assert_eq!(unpack(), (true, String::new()));
        place::write(&to.join("src/old.rs"), b"old").unwrap();
        place::write(&to.join("bin/other"), b"other").unwrap();
        assert_eq!(unpack(), (true, String::new()));
        let mut files = Vec::new();
        for folder in ["", "src", "bin"] {
            for entry in std::fs::read_dir(to.join(folder)).unwrap().flatten() {
                files.push(format!("{folder}/{}", entry.file_name().to_string_lossy()));
            }
        }
        files.sort();
        assert_eq!(
            files,
            [
                "/.setup.lock",
                "/bin",
                "/src",
                "bin/.kernel-stamp",
                "bin/lightcell",
                "bin/other",
                "src/new.rs"
            ]
        );
    }

    #[test]
    fn the_set_up_there_ends_with_its_line() {
        let scratch = Scratch::new("setting-up");
        let program_there = scratch.0.join("bin/lightcell");
        let begin = || {
            let mut shell = run(&here(&scratch.0).ssh(&setting_up(&here(&scratch.0))));
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        // It says where it is, and its status is the shell's.
        program(
            &program_there,
            "[ \"$1\" = --version ] && exit; echo \"$LIGHTCELL_HOME $1\"; exit 7",
        );
        let mut shell = begin();
        let life = shell.stdin.take();
        let out = shell.wait_with_output().unwrap();
        drop(life);
        assert_eq!(out.status.code(), Some(7));
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            format!("{} setup\n", scratch.0.display())
        );
        program(
            &program_there,
            "[ \"$1\" = --version ] && exit; echo begun; exec sleep 1000",
        );
        let mut shell = begin();
        let mut line = [0; 6];
        shell.stdout.take().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"begun\n");
        drop(shell.stdin.take());
        // sh's word for a process that SIGTERM has ended.
        assert_eq!(shell.wait().unwrap().code(), Some(143));
    }
}
