//! Builds worker and warm store when they are missing at the kernel's start, because rustc has changed since set-up:
//! in a process of its own, with its progress in the first cell that waits for it.

use crate::executor::{Job, Shared};
use crate::home::Rustc;
use crate::publish;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;

/// Runs `lightcell-kernel prepare`. The first job that comes meanwhile is kept in `first`.
pub fn run(
    shared: &Shared,
    rustc: &Rustc,
    what: &str,
    jobs: &mpsc::Receiver<Job>,
    first: &mut Option<Job>,
) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    // It puts its own tools before the user's.
    crate::replay::restore(&mut command);
    let mut child = command
        .arg("prepare")
        .env_remove("EVCXR_TMPDIR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot prepare for this rustc")?;
    let version = rustc.version.lines().next().unwrap_or_default();
    let head = format!("{what}; preparing for {version}, once");
    let mut shown = false;
    let errors = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        })
    });
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            if first.is_none() {
                *first = jobs.try_recv().ok();
            }
            let Some(Job::Execute { parent, .. }) = first.as_ref() else {
                continue;
            };
            let text = format!("{head}\n{}", step(&line));
            if shown {
                shared.publisher.update(publish::text(text), ID, Some(parent));
            } else {
                shared
                    .publisher
                    .status(jupyter_protocol::messaging::ExecutionState::Busy, parent);
                shared.publisher.display(publish::text(text), Some(ID), Some(parent));
                shown = true;
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let text = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        bail!(
            "cannot prepare for {version}: {}",
            text.trim().trim_start_matches("error: ")
        );
    }
    Ok(())
}

const ID: &str = "lightcell-preparing";

fn step(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    match value["step"].as_str() {
        Some("done") => "ready".to_owned(),
        Some(_) => format!(
            "crate {} of {}: {}",
            value["done"],
            value["total"],
            value["crate"].as_str().unwrap_or_default()
        ),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn progress_is_said_in_words() {
        assert_eq!(
            step(r#"{"step":"store","crate":"tch","done":3,"total":9}"#),
            "crate 3 of 9: tch"
        );
        assert_eq!(step(r#"{"step":"done"}"#), "ready");
        assert_eq!(step("x"), "");
    }
}
