//! The steps of `lightcell selftest`: each a process with a time limit, whose failures are told once more at the end.

use crate::place;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// More lines than this of one failure are left out.
const LINES: usize = 60;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Ok,
    Failed,
    TooLong,
}

impl End {
    pub fn as_str(self) -> &'static str {
        match self {
            End::Ok => "ok",
            End::Failed => "FAILED",
            End::TooLong => "FAILED, stopped at its time limit",
        }
    }
}

/// Runs a step, whose output is shown as it comes; gives the lines of it that tell what failed. At its limit, ends it and
/// all it started.
pub fn run_within(mut command: Command, limit: Duration) -> Result<(End, Vec<String>)> {
    let begun = Instant::now();
    let mut child = place::tied(&mut command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let (send, lines) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        // Ends with the pipe, or when this function has returned: what a test has left behind may hold the pipe for long.
        std::thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                println!("{line}");
                if send.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let mut failures = Failures::default();
    let end = loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => failures.line(&line),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // The pipe is closed, the process may still be there.
            Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(50)),
        }
        if let Some(status) = child.try_wait()? {
            break if status.success() { End::Ok } else { End::Failed };
        }
        if begun.elapsed() > limit {
            for pid in descendants(child.id() as i32) {
                // SAFETY: a plain call; the process is one that we started, or its child.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            child.wait()?;
            break End::TooLong;
        }
    };
    while let Ok(line) = lines.recv_timeout(Duration::from_millis(200)) {
        failures.line(&line);
    }
    Ok((end, failures.lines))
}

/// Picks from the output of `cargo test` what each failed test printed.
#[derive(Debug, Default)]
struct Failures {
    lines: Vec<String>,
    /// Lines of the block that is being read.
    inside: Option<usize>,
}

impl Failures {
    fn line(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.inside = Some(0);
        } else if line == "failures:" {
            self.inside = None;
        }
        let Some(count) = &mut self.inside else { return };
        *count += 1;
        match *count {
            count if count < LINES => self.lines.push(line.to_owned()),
            LINES => self.lines.push("…".to_owned()),
            _ => {}
        }
    }
}

/// A process and all below it, from /proc.
fn descendants(root: i32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything: state and parent.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(i32, i32)> = all.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let of = found[at];
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_step_ends_well_or_badly_or_at_its_limit() {
        let limit = Duration::from_secs(60);
        assert_eq!(run_within(sh("exit 0"), limit).unwrap().0, End::Ok);
        assert_eq!(run_within(sh("exit 3"), limit).unwrap().0, End::Failed);
    }

    #[test]
    fn at_the_limit_all_that_a_step_started_ends() {
        let scratch = place::tests::Scratch::new("limit");
        let file = scratch.0.join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        assert_eq!(
            run_within(sh(&script), Duration::from_millis(700)).unwrap().0,
            End::TooLong
        );
        let pid = std::fs::read_to_string(file).unwrap();
        // Gone, or a zombie until its new parent looks; on a busy machine a moment later.
        let gone =
            || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "));
        let begun = Instant::now();
        while !gone() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn what_failed_is_told_once_more() {
        let script =
            r#"echo test a ... ok; printf 'failures:\n\n---- b stdout ----\nit is 3\n\nfailures:\n    b\n'; exit 101"#;
        let (end, lines) = run_within(sh(script), Duration::from_secs(60)).unwrap();
        assert_eq!(end, End::Failed);
        assert_eq!(lines, ["---- b stdout ----", "it is 3", ""]);
        let (_, lines) = run_within(sh("echo '---- b stdout ----'; seq 1000"), Duration::from_secs(60)).unwrap();
        assert_eq!((lines.len(), lines[59].as_str()), (60, "…"));
    }
}
