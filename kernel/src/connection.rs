//! How the kernel gets its connection, and what ends it. One place, because a kernel on another machine gets both in
//! another way.

use anyhow::{Context, Result, bail};
use jupyter_protocol::connection_info::{ConnectionInfo, Transport};
use std::io::BufRead;
use std::path::PathBuf;
use std::time::Duration;

/// Where the connection's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A connection file, as Jupyter's own launchers write it.
    File(PathBuf),
    /// Standard input, as launchers on other machines send it: one JSON object. Its end is also the kernel's.
    Stdin,
}

/// Ports, key and address.
pub fn read(source: &Source) -> Result<ConnectionInfo> {
    let text = match source {
        Source::File(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the connection file {}", path.display()))?,
        Source::Stdin => {
            // One line: what follows is the life line.
            let mut line = String::new();
            std::io::stdin()
                .read_line(&mut line)
                .context("cannot read the connection from standard input")?;
            line
        }
    };
    let info: ConnectionInfo =
        serde_json::from_str(&text).context("the connection is no JSON of a Jupyter connection file")?;
    if !info.key.is_empty() && info.signature_scheme != "hmac-sha256" {
        bail!(
            "the connection asks for signatures by {}; only hmac-sha256 is known",
            info.signature_scheme
        );
    }
    Ok(info)
}

/// Removes the sockets that lie in the file system, and their folder if whoever made it has gone without doing so.
pub fn leave(info: &ConnectionInfo) {
    if info.transport != Transport::IPC {
        return;
    }
    for port in [
        info.shell_port,
        info.iopub_port,
        info.stdin_port,
        info.control_port,
        info.hb_port,
    ] {
        let _ = std::fs::remove_file(format!("{}-{port}", info.ip));
    }
    if let Some(folder) = std::path::Path::new(&info.ip).parent() {
        // The launcher's lock is all that may be left; a folder that holds other things stays.
        if std::fs::read_dir(folder)
            .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|e| e.file_name() == "lock")))
        {
            let _ = std::fs::remove_file(folder.join("lock"));
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// The line on the life line that says: the end is near.
const LEAVE: &str = "leave";

/// What is said on the life line.
#[derive(Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// The end is near.
    Leave,
    /// Something else: a line.
    Other(&'a [u8]),
}

/// Returns when the kernel has lost whoever started it: Jupyter's process is gone, or standard input has ended. Until then
/// `heard` is told what is said there.
pub fn wait_for_end(source: &Source, heard: impl FnMut(Word)) {
    match source {
        Source::Stdin => listen(std::io::stdin().lock(), heard),
        Source::File(_) => {
            // Jupyter names itself; a kernel that was started by hand lives until it is told to end.
            let Some(parent) = std::env::var("JPY_PARENT_PID")
                .ok()
                .and_then(|pid| pid.parse::<i32>().ok())
                .filter(|pid| *pid > 1)
            else {
                loop {
                    std::thread::park();
                }
            };
            while is_alive(parent) {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

fn listen(mut life: impl BufRead, mut heard: impl FnMut(Word)) {
    let mut line = Vec::new();
    while matches!(life.read_until(b'\n', &mut line), Ok(1..)) {
        match line.trim_ascii() {
            b"" => {}
            line if line == LEAVE.as_bytes() => heard(Word::Leave),
            line => heard(Word::Other(line)),
        }
        line.clear();
    }
}

fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(pid, 0) == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (PathBuf, Source) {
        let path = std::env::temp_dir().join(format!("lightcell-conn-{}-{}", std::process::id(), text.len()));
        std::fs::write(&path, text).unwrap();
        (path.clone(), Source::File(path))
    }

    const GOOD: &str = r#"{"ip":"127.0.0.1","transport":"tcp","shell_port":1,"iopub_port":2,"stdin_port":3,"control_port":4,"hb_port":5,"key":"k","signature_scheme":"hmac-sha256"}"#;

    #[test]
    fn a_connection_file_is_read() {
        let (path, source) = file(GOOD);
        assert_eq!(read(&source).unwrap().stdin_port, 3);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn sockets_in_the_file_system_go_with_the_kernel() {
        let folder = std::env::temp_dir().join(format!("lightcell-leave-{}", std::process::id()));
        let mut info: ConnectionInfo = serde_json::from_str(GOOD).unwrap();
        leave(&info);
        info.transport = Transport::IPC;
        info.ip = folder.join("k").to_string_lossy().into_owned();
        let fill = |names: &[&str]| {
            std::fs::create_dir_all(&folder).unwrap();
            names
                .iter()
                .for_each(|name| std::fs::write(folder.join(name), "").unwrap());
        };
        fill(&["k-1", "k-5", "lock", "notes"]);
        leave(&info);
        let left = std::fs::read_dir(&folder).unwrap().flatten().map(|e| e.file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["lock", "notes"]);
        std::fs::remove_file(folder.join("notes")).unwrap();
        fill(&["k-3"]);
        leave(&info);
        assert!(!folder.exists());
    }

    #[test]
    fn what_is_wrong_with_a_connection_is_said() {
        let missing = Source::File("/nonexistent/c.json".into());
        assert!(
            read(&missing)
                .unwrap_err()
                .to_string()
                .contains("cannot read the connection file /nonexistent/c.json")
        );
        let (path, source) = file("{}");
        assert!(
            read(&source)
                .unwrap_err()
                .to_string()
                .contains("no JSON of a Jupyter connection file")
        );
        std::fs::remove_file(path).unwrap();
        let (path, source) = file(&GOOD.replace("sha256", "md5"));
        assert!(
            read(&source)
                .unwrap_err()
                .to_string()
                .contains("only hmac-sha256 is known")
        );
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_life_line_says_when_the_end_is_near() {
        let mut said = Vec::new();
        listen(&b"\nleave\nleave me\n\xff\nleave"[..], |word| {
            said.push(format!("{word:?}"))
        });
        assert_eq!(said[0], "Leave");
        assert_eq!((said.len(), said[3].as_str()), (4, "Leave"));
    }

    #[test]
    fn a_process_is_known_to_be_gone() {
        assert!(is_alive(std::process::id() as i32));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        child.wait().unwrap();
        assert!(!is_alive(pid));
    }
}
