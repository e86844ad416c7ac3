//! What was typed, kept across restarts: one line of JSON each in a file of the installation.

use jupyter_protocol::messaging::{HistoryEntry, HistoryReply, HistoryRequest};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// So many entries are kept in memory and, at the next start, in the file.
const LIMIT: usize = 10_000;

/// The history, past sessions and this one.
#[derive(Debug, Default)]
pub struct History {
    file: Option<PathBuf>,
    session: usize,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    session: usize,
    line: usize,
    input: String,
}

impl History {
    /// Reads the file and begins a new session. A line that cannot be read is passed over.
    pub fn open(file: &Path) -> History {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut entries: Vec<Entry> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if entries.len() > LIMIT {
            entries.drain(..entries.len() - LIMIT);
            let beside = file.with_extension(format!("new-{}", std::process::id()));
            let all: String = entries
                .iter()
                .filter_map(|e| serde_json::to_string(e).ok())
                .map(|line| line + "\n")
                .collect();
            if std::fs::write(&beside, all).is_ok() {
                let _ = std::fs::rename(&beside, file);
            }
        }
        let session = entries.iter().map(|entry| entry.session).max().unwrap_or(0) + 1;
        History {
            file: Some(file.to_owned()),
            session,
            entries,
        }
    }

    /// Adds a cell.
    pub fn add(&mut self, line: usize, input: &str) {
        let entry = Entry {
            session: self.session,
            line,
            input: input.to_owned(),
        };
        if let (Some(file), Ok(json)) = (&self.file, serde_json::to_string(&entry)) {
            // One write of a whole line: kernels that share the file do not mix.
            let written = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut f| f.write_all((json + "\n").as_bytes()));
            if let Err(error) = written {
                tracing::warn!("cannot write {}: {error}", file.display());
                self.file = None;
            }
        }
        self.entries.push(entry);
    }

    /// Answers a request. Outputs are not kept, so `output` gives empty ones.
    pub fn reply(&self, request: &HistoryRequest) -> HistoryReply {
        let (found, output): (Vec<&Entry>, bool) = match request {
            HistoryRequest::Tail { n, output, .. } => (last(self.entries.iter().collect(), *n), *output),
            HistoryRequest::Range {
                session,
                start,
                stop,
                output,
                ..
            } => {
                // 0 or nothing is this session, negative counts back from it.
                let wanted = match session.unwrap_or(0) {
                    back @ ..=0 => self.session as i64 + i64::from(back),
                    number => i64::from(number),
                };
                let (start, stop) = (*start as usize, if *stop <= 0 { usize::MAX } else { *stop as usize });
                let list = self
                    .entries
                    .iter()
                    .filter(|e| e.session as i64 == wanted && (start..stop).contains(&e.line))
                    .collect();
                (list, *output)
            }
            HistoryRequest::Search {
                pattern,
                unique,
                output,
                n,
                ..
            } => {
                let mut list: Vec<&Entry> = self
                    .entries
                    .iter()
                    .filter(|e| glob(pattern.as_bytes(), e.input.as_bytes()))
                    .collect();
                if *unique {
                    let mut seen = std::collections::HashSet::new();
                    list.reverse();
                    list.retain(|e| seen.insert(&e.input));
                    list.reverse();
                }
                (last(list, *n), *output)
            }
        };
        HistoryReply::new(
            found
                .into_iter()
                .map(|e| {
                    if output {
                        HistoryEntry::InputOutput(e.session, e.line, (e.input.clone(), String::new()))
                    } else {
                        HistoryEntry::Input(e.session, e.line, e.input.clone())
                    }
                })
                .collect(),
        )
    }
}

fn last(mut list: Vec<&Entry>, n: i32) -> Vec<&Entry> {
    if let Ok(n) = usize::try_from(n)
        && n > 0
        && list.len() > n
    {
        list.drain(..list.len() - n);
    }
    list
}

/// Shell patterns as IPython has them: `*` and `?`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(reply: &HistoryReply) -> Vec<String> {
        reply
            .history
            .iter()
            .map(|entry| match entry {
                HistoryEntry::Input(_, _, text) => text.clone(),
                HistoryEntry::InputOutput(_, _, (text, _)) => text.clone(),
            })
            .collect()
    }

    #[test]
    fn history_outlives_the_kernel() {
        let file = std::env::temp_dir().join(format!("lightcell-history-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let mut first = History::open(&file);
        first.add(1, "let a = 1;");
        first.add(2, "a\n+ 1");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&file)
            .unwrap()
            .write_all(b"not json\n")
            .unwrap();
        let mut second = History::open(&file);
        second.add(1, "let a = 1;");
        let tail = |n| {
            inputs(&second.reply(&HistoryRequest::Tail {
                n,
                output: false,
                raw: true,
            }))
        };
        assert_eq!(tail(2), ["a\n+ 1", "let a = 1;"]);
        assert_eq!(tail(0).len(), 3);
        let range = |session| {
            inputs(&second.reply(&HistoryRequest::Range {
                session,
                start: 1,
                stop: 2,
                output: false,
                raw: true,
            }))
        };
        assert_eq!(range(Some(-1)), ["let a = 1;"]);
        assert_eq!(range(None), ["let a = 1;"]);
        let search = |unique| {
            inputs(&second.reply(&HistoryRequest::Search {
                pattern: "let*".into(),
                unique,
                output: true,
                raw: true,
                n: 10,
            }))
        };
        assert_eq!(search(false).len(), 2);
        assert_eq!(search(true).len(), 1);
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn patterns_are_the_shells() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a?c", "abbc", false),
            ("*b*", "abc", true),
            ("a", "ab", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
