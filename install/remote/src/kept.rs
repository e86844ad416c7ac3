//! Which kernels are kept on this machine: a small file for each, in the installation's folder.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A kept kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its own.
    pub id: String,
    /// The remote's name, as its user gave it.
    pub name: String,
    /// Where the keeper listens.
    pub socket: PathBuf,
    /// Tells the key of the front end that started it, or came last.
    pub fingerprint: String,
    /// Seconds since 1970.
    pub since: u64,
    /// When its time is over, if nobody is connected.
    pub until: Option<u64>,
    /// For how long it is kept.
    pub limit: u64,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn folder(home: &Path) -> PathBuf {
    home.join("kept")
}

fn file(home: &Path, record: &Record) -> PathBuf {
    folder(home).join(format!("{}-{}.json", record.name, record.id))
}

impl Record {
    /// Writes it.
    pub fn write(&self, home: &Path) -> Result<()> {
        let (path, beside) = (file(home, self), folder(home).join(format!(".{}", self.id)));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder(home))?;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            std::io::Write::write_all(&mut file, serde_json::to_string(self)?.as_bytes())?;
            std::fs::rename(&beside, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes it.
    pub fn remove(&self, home: &Path) {
        let _ = std::fs::remove_file(file(home, self));
    }

    /// The keeper.
    pub fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(&self.socket)
    }

    /// For the user: one line.
    pub fn line(&self, now: u64) -> String {
        let age = span(now.saturating_sub(self.since));
        match self.until {
            Some(until) => format!(
                "{}  {age} old, nobody is connected; ends in {}",
                self.id,
                span(until.saturating_sub(now))
            ),
            None => format!("{}  {age} old, a front end is connected", self.id),
        }
    }
}

/// The kept kernels of a name, those first that were left last. Those whose keeper was killed are forgotten.
pub fn all(home: &Path, name: &str) -> Vec<Record> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder(home)).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let Ok(record) = serde_json::from_str::<Record>(&text) else {
            continue;
        };
        if record.connect().is_err() {
            record.remove(home);
        } else if record.name == name {
            found.push(record);
        }
    }
    found.sort_by_key(|record| std::cmp::Reverse((record.until, record.since)));
    found
}

/// Why a kernel of this name is not kept any more; told to the next one.
pub fn leave_word(home: &Path, name: &str, text: &str) {
    let _ = std::fs::create_dir_all(folder(home));
    let _ = std::fs::write(folder(home).join(format!("{name}.last")), text);
}

/// Takes that word.
pub fn take_word(home: &Path, name: &str) -> Option<String> {
    let path = folder(home).join(format!("{name}.last"));
    let text = std::fs::read_to_string(&path).ok()?;
    let _ = std::fs::remove_file(path);
    Some(text)
}

/// Waits until a record is gone.
pub fn wait_gone(home: &Path, record: &Record, limit: Duration) -> bool {
    let begun = std::time::Instant::now();
    while file(home, record).exists() {
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// For people: the two largest units.
pub fn span(seconds: u64) -> String {
    match seconds {
        s if s >= 86_400 => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
        s if s >= 3600 && s % 3600 < 60 => format!("{} h", s / 3600),
        s if s >= 3600 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s if s >= 60 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn kept_kernels_are_found_and_dead_ones_forgotten() {
        let home = std::env::temp_dir().join(format!("lcr-kept-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let record = |id: &str, until| Record {
            id: id.into(),
            name: "gpu".into(),
            socket: home.join(id),
            fingerprint: String::new(),
            since: 100,
            until,
            limit: 60,
        };
        let mut sockets = Vec::new();
        for (id, until) in [("a", Some(7000)), ("b", None), ("c", Some(9000)), ("dead", Some(9999))] {
            record(id, until).write(&home).unwrap();
            if id != "dead" {
                sockets.push(UnixListener::bind(home.join(id)).unwrap());
            }
        }
        let found: Vec<String> = all(&home, "gpu").into_iter().map(|record| record.id).collect();
        assert_eq!(found, ["c", "a", "b"]);
        assert_eq!(all(&home, "other"), []);
        assert!(wait_gone(&home, &record("dead", None), Duration::ZERO));
        assert!(!wait_gone(&home, &record("a", None), Duration::ZERO));
        assert_eq!(
            record("a", Some(7000)).line(3400),
            "a  55 min old, nobody is connected; ends in 1 h"
        );
        assert_eq!(record("b", None).line(3700), "b  1 h old, a front end is connected");
        leave_word(&home, "gpu", "its time is over");
        assert_eq!(take_word(&home, "gpu").as_deref(), Some("its time is over"));
        assert_eq!(take_word(&home, "gpu"), None);
        std::fs::remove_dir_all(home).unwrap();
    }
}
