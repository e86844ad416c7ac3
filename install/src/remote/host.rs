//! The installation at the other end: whether it is there, and how it comes there.

use super::target::{ANSWER, Target};
use crate::place::{self, Place};
use crate::ui::{self, problem};
use anyhow::{Context, Result};
use serde_json::Value;
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
    let step = ui::Step::new(&format!("sources and programs to {host}"));
    // An interrupted transfer leaves no half folder in the place of a whole one.
    let unpack = format!(
        "set -e; d={}; mkdir -p \"$d\"; : >> \"$d/.setup.lock\"; rm -rf \"$d/incoming\"; mkdir \"$d/incoming\"; \
         tar -xf - -C \"$d/incoming\"; rm -rf \"$d/src\"; mv \"$d/incoming/src\" \"$d/src\"; mkdir -p \"$d/bin\"; \
         for f in \"$d\"/incoming/bin/* \"$d\"/incoming/bin/.[a-z]*; do [ -e \"$f\" ] && mv \"$f\" \"$d/bin/\"; done; \
         rm -rf \"$d/incoming\"",
        target.folder()
    );
    send(place, &sources, &run(&target.ssh(&unpack)), host)?;
    step.done("sent");
    let script = format!(
        "d={}; export LIGHTCELL_HOME=\"$d\"; export PATH=\"$HOME/.cargo/bin:$PATH\"; \
         if \"$d/bin/lightcell\" --version > /dev/null 2>&1; then exec \"$d/bin/lightcell\" setup; fi; \
         cd \"$d/src\" && CARGO_TARGET_DIR=\"$d/build/kernel\" exec cargo run --release -p lightcell-install -- setup",
        target.folder()
    );
    let status = place::tied(&mut run(&target.ssh(&script)))
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run ssh to {host}"))?;
    if status.success() {
        return Ok(());
    }
    Err(problem(
        format!("the set-up on {host} failed; what it said is above"),
        "mend that, then run the same command again: it goes on where it was",
    ))
}

/// Packs the sources and the programs as one stream into the command's input.
fn send(place: &Place, sources: &std::path::Path, to: &Command, host: &str) -> Result<()> {
    let mut to = copy_of(to);
    let mut receiver = place::tied(&mut to)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run ssh to {host}"))?;
    let into = receiver.stdin.take().context("no pipe")?;
    let staged = place.join("logs").join(format!(".outgoing-{}", std::process::id()));
    let packed = pack(place, sources, &staged, into);
    let _ = std::fs::remove_dir_all(&staged);
    let out = receiver.wait_with_output()?;
    if !out.status.success() {
        let errors = String::from_utf8_lossy(&out.stderr);
        let last = errors.lines().last().unwrap_or_default();
        return Err(problem(
            format!("{host} did not take the files: {last}"),
            "free space there, or name another folder with --dir, then run the same command again",
        ));
    }
    packed
}

fn pack(
    place: &Place,
    sources: &std::path::Path,
    staged: &std::path::Path,
    into: std::process::ChildStdin,
) -> Result<()> {
    // As set-up copies them: without build output and the repository's history.
    // Which tch it needs is for the set-up there to say.
    crate::sources::copy(sources, &staged.join("src"), crate::tch::DEFAULT)?;
    std::fs::create_dir_all(staged.join("bin"))?;
    let me = std::env::current_exe().context("cannot find this program")?;
    std::fs::copy(me, staged.join("bin/lightcell"))?;
    for name in ["lightcell-kernel", ".kernel-stamp", "lightcell-remote", ".remote-stamp"] {
        let file = place.join("bin").join(name);
        if file.is_file() {
            std::fs::copy(&file, staged.join("bin").join(name))?;
        }
    }
    let status = Command::new("tar")
        .arg("-cf")
        .arg("-")
        .arg("-C")
        .arg(staged)
        .args(["src", "bin"])
        .stdout(into)
        .status()
        .context("cannot run tar")?;
    anyhow::ensure!(status.success(), "tar failed");
    Ok(())
}

fn run(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn copy_of(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
