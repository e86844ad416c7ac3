//! `%tensorboard`: the real one in a frame of the notebook, as in Colab.

use crate::executor::Shared;
use crate::publish::{self, Parent};
use crate::report::Report;
use lightcell_events::escape;
use lightcell_magics::Call;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Python and its modules may be read from a slow disk.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends the program when the shell's standard input does, which this kernel holds: also when the kernel is killed.
const KEEPER: &str =
    "exec 3<&0; \"$@\" </dev/null & program=$!\n(read -r _ <&3; kill $program 2>/dev/null) & wait $program";

/// Those that this kernel has started.
#[derive(Default)]
pub struct Boards {
    running: Mutex<Vec<Board>>,
}

struct Board {
    folder: PathBuf,
    url: String,
    shell: Child,
}

/// Answers `%tensorboard`.
pub fn answer(call: &Call, shared: &Arc<Shared>, parent: &Parent) -> Result<(), Report> {
    let folder = shared.folder().join(call.value("--logdir").unwrap_or("lightning_logs"));
    if !folder.is_dir() {
        let hint = "`%fit MODEL DATA --logger tensorboard` writes one; --logdir names another folder";
        return Err(wrong(&format!("there is no folder {}", folder.display()), hint));
    }
    let port = call.value("--port").unwrap_or("0");
    let url = shared.boards.url(&folder, port)?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (text, html) = shown(&folder, &url, host.trim());
    shared
        .publisher
        .display(publish::text_html(text, html), None, Some(parent));
    Ok(())
}

impl Boards {
    /// Where the one for this folder answers; it is started unless it runs.
    fn url(&self, folder: &Path, port: &str) -> Result<String, Report> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain_mut(|board| matches!(board.shell.try_wait(), Ok(None)));
        if let Some(board) = running.iter().find(|board| board.folder == folder) {
            return Ok(board.url.clone());
        }
        let (shell, url) = start(folder, port)?;
        running.push(Board {
            folder: folder.to_owned(),
            url: url.clone(),
            shell,
        });
        Ok(url)
    }
}

/// Starts it, and waits until it says where it answers.
fn start(folder: &Path, port: &str) -> Result<(Child, String), Report> {
    let mut command = Command::new("sh");
    crate::replay::restore(&mut command);
    command
        .args([
            "-c",
            KEEPER,
            "sh",
            "tensorboard",
            "--host",
            "localhost",
            "--port",
            port,
            "--logdir",
        ])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let missing = |error: std::io::Error| {
        wrong(
            &format!("cannot start a shell: {error}"),
            "is this machine out of memory?",
        )
    };
    let mut shell = command.spawn().map_err(missing)?;
    let (said, lines) = channel();
    if let Some(stderr) = shell.stderr.take() {
        // It goes on reading, or the program would wait for a reader one day.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
    }
    let mut last = String::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => match address(&line) {
                Some(url) => return Ok((shell, url)),
                None if line.trim().is_empty() => {}
                None => last = line,
            },
            Err(error) => {
                drop(shell.stdin.take());
                let _ = shell.wait();
                return Err(failed(&last, error == RecvTimeoutError::Timeout));
            }
        }
    }
}

/// The address in a line such as `TensorBoard 2.20.0 at http://localhost:6006/ (Press CTRL+C to quit)`.
fn address(line: &str) -> Option<String> {
    let at = line.find("http://")?;
    let url = line[at..].split_whitespace().next()?.trim_end_matches('/');
    line.contains("TensorBoard").then(|| url.to_owned())
}

fn failed(last: &str, slow: bool) -> Report {
    if last.contains("not found") {
        return wrong(
            "there is no program tensorboard on PATH",
            "`!pip install tensorboard` in the environment that runs Jupyter, then run this again",
        );
    }
    if slow {
        return wrong(
            &format!(
                "tensorboard said nothing of an address in {} s: {last}",
                PATIENCE.as_secs()
            ),
            "run it again, or start it in a terminal to see what it does",
        );
    }
    wrong(
        &format!("tensorboard ended: {}", last.trim()),
        "start it in a terminal to see more; --port chooses another port",
    )
}

fn wrong(message: &str, hint: &str) -> Report {
    Report::plain("MagicError", message, Some(hint))
}

/// A frame, and how to reach it from a browser that runs elsewhere.
fn shown(folder: &Path, url: &str, host: &str) -> (String, String) {
    let port = url.rsplit(':').next().unwrap_or_default();
    let folder = folder.display().to_string();
    let way = format!("ssh -L {port}:localhost:{port} {host}");
    let text = format!("TensorBoard of {folder}: {url} on {host}; from another machine first `{way}`\n");
    let html = format!(
        "<div style=\"font-size:13px\"><a href=\"{url}\" target=\"_blank\">TensorBoard</a> of {} on {}. \
         If the frame stays empty, your browser runs on another machine: <code>{}</code> there.</div>\
         <iframe src=\"{url}\" title=\"TensorBoard\" style=\"width:100%;height:700px;border:0\"></iframe>",
        escape(&folder),
        escape(host),
        escape(&way)
    );
    (text, html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_and_shown_with_the_way_to_it() {
        let line = "TensorBoard 2.20.0 at http://localhost:40123/ (Press CTRL+C to quit)";
        assert_eq!(address(line).as_deref(), Some("http://localhost:40123"));
        assert_eq!(address("see http://example.org/ for more"), None);
        let (text, html) = shown(Path::new("/a<b"), "http://localhost:40123", "box");
        assert!(text.contains("`ssh -L 40123:localhost:40123 box`"), "{text}");
        assert!(
            html.contains("<iframe src=\"http://localhost:40123\"") && html.contains("/a&lt;b on box"),
            "{html}"
        );
    }

    #[test]
    fn what_keeps_it_from_starting_is_said() {
        for (last, slow, message) in [
            (
                "sh: 1: tensorboard: not found",
                false,
                "there is no program tensorboard on PATH",
            ),
            (
                "ImportError: no numpy",
                false,
                "tensorboard ended: ImportError: no numpy",
            ),
            (
                "loading",
                true,
                "tensorboard said nothing of an address in 120 s: loading",
            ),
        ] {
            assert_eq!(failed(last, slow).evalue, message);
        }
    }

    #[test]
    fn it_ends_with_the_one_who_started_it() {
        // It works as long as it is wanted, which a shell that ends it at once would not let it.
        let program = ["sh", "-c", "sleep 0.2; echo up; exec sleep 1000"];
        let mut shell = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .args(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "up\n");
        assert!(shell.try_wait().unwrap().is_none());
        drop(shell.stdin.take());
        assert!(!shell.wait().unwrap().success());
    }
}
