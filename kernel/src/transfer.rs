//! `%upload` and `%download`. A kernel on another machine asks those who started it, by its standard output, and hears of it
//! by its life line; they carry the file. On the user's own machine there is nothing to carry.

use crate::executor::Executor;
use crate::publish;
use crate::report::Report;
use lightcell_events::files::{Ask, News};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// The transfers that cells wait for.
#[derive(Default)]
pub struct Transfers {
    /// Somebody carries files.
    carried: AtomicBool,
    next: AtomicU32,
    waiting: Mutex<HashMap<u32, mpsc::Sender<News>>>,
}

impl Transfers {
    /// Standard output leads to somebody who carries files.
    pub fn carry(&self) {
        self.carried.store(true, Ordering::SeqCst);
    }

    /// The name of this machine, when it is not the user's.
    pub fn machine(&self) -> Option<String> {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let elsewhere = self.carried.load(Ordering::SeqCst);
        elsewhere.then(|| host().trim().to_owned())
    }

    /// A line of the life line.
    pub fn heard(&self, line: &[u8]) {
        let Ok(news) = serde_json::from_slice::<News>(line) else {
            return;
        };
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = waiting.get(&news.id()) {
            let _ = cell.send(news);
        }
    }

    fn begin(&self) -> (u32, mpsc::Receiver<News>) {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let (sender, news) = mpsc::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sender);
        (id, news)
    }

    fn over(&self, id: u32) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

fn say(ask: &Ask) -> std::io::Result<()> {
    use std::io::Write;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

impl Executor {
    /// `%upload LOCAL [REMOTE]`, `%download REMOTE [LOCAL]`. An error is a message and a hint.
    pub(crate) fn transfer(&self, upload: bool, text: &str) -> Result<(), Wrong> {
        let words = words(text);
        let (from, to) = match &words[..] {
            [from] => (from.as_str(), ""),
            [from, to] => (from.as_str(), to.as_str()),
            _ => return Err(Wrong::Usage),
        };
        let transfers = &self.shared.transfers;
        if !transfers.carried.load(Ordering::SeqCst) {
            let said = copy(&self.shared.folder(), from, to).map_err(Wrong::Failed)?;
            self.say(&said);
            return Ok(());
        }
        let (local, remote) = if upload { (from, to) } else { (to, from) };
        // Where the other side is a folder, or not named, the file keeps its name.
        let name = Path::new(from).file_name().unwrap_or_default();
        let mut there = below(self.shared.folder(), remote);
        if upload && there.is_dir() {
            there.push(name);
        }
        let local = match local {
            "" => name.to_string_lossy().into_owned(),
            local => local.to_owned(),
        };
        let (id, news) = transfers.begin();
        let result = self.wait(id, upload, local, there, &news);
        transfers.over(id);
        result
    }

    fn wait(
        &self,
        id: u32,
        upload: bool,
        local: String,
        remote: PathBuf,
        news: &mpsc::Receiver<News>,
    ) -> Result<(), Wrong> {
        let (from, to) = if upload {
            (local.clone(), remote.display().to_string())
        } else {
            (remote.display().to_string(), local.clone())
        };
        let ask = Ask::Transfer {
            id,
            upload,
            local,
            remote,
        };
        say(&ask).map_err(|error| Wrong::Failed(format!("the file cannot be asked for: {error}")))?;
        let (publisher, parent) = (&self.shared.publisher, self.shared.now.parent());
        let display = format!("lightcell-transfer-{id}-{}", std::process::id());
        let mut shown: Option<Instant> = None;
        let mut show = |text: String, last: bool| {
            if !last && shown.is_some_and(|at| at.elapsed() < Duration::from_millis(200)) {
                return;
            }
            match shown {
                None => publisher.display(publish::text(text), Some(&display), parent.as_ref()),
                Some(_) => publisher.update(publish::text(text), &display, parent.as_ref()),
            }
            shown = Some(Instant::now());
        };
        loop {
            match news.recv_timeout(Duration::from_millis(100)) {
                Ok(News::Progress { done, size, .. }) => {
                    let percent = done.saturating_mul(100).checked_div(size).unwrap_or(0);
                    show(
                        format!("{from} → {to}: {} of {}, {percent} %", mb(done), mb(size)),
                        false,
                    );
                }
                Ok(News::There { path, size, sum, .. }) => {
                    show(format!("{from} → {path}: {}, SHA-256 {sum}", mb(size)), true);
                    return Ok(());
                }
                Ok(News::Failed { why, .. }) => return Err(Wrong::Failed(why)),
                Err(_) if self.shared.now.lock().interrupted => {
                    // Nobody who hears it is as good.
                    let _ = say(&Ask::Cancel { id });
                    return Err(Wrong::Stopped);
                }
                Err(_) => {}
            }
        }
    }
}

/// Why there is no file.
pub(crate) enum Wrong {
    /// Not one or two names.
    Usage,
    /// Why.
    Failed(String),
    /// By the user.
    Stopped,
}

impl Wrong {
    /// The error of a cell that was stopped.
    pub(crate) fn stopped() -> Report {
        Report::plain("Interrupted", "the transfer was stopped; no half file is left", None)
    }
}

/// Here both are one machine.
fn copy(folder: &Path, from: &str, to: &str) -> Result<String, String> {
    let path = folder.join(home(from));
    let mut place = below(folder.to_owned(), to);
    if place.is_dir() {
        place.push(path.file_name().unwrap_or_default());
    }
    let here = "this kernel runs on the machine of its front end";
    if !path.exists() {
        return Err(format!("there is no {}; {here}", path.display()));
    }
    let same = |a: &Path, b: &Path| a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(&path, &place) {
        return Ok(format!("{here}: {} is there already\n", path.display()));
    }
    // Beside its place first: what is interrupted leaves no half file.
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = place.with_file_name(format!(".{name}.lightcell-part"));
    let size = std::fs::copy(&path, &beside).and_then(|size| std::fs::rename(&beside, &place).map(|()| size));
    let size = size.map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        format!("cannot write {}: {error}", place.display())
    })?;
    Ok(format!(
        "{here}: copied {} to {}, {}\n",
        path.display(),
        place.display(),
        mb(size)
    ))
}

/// A path as the user wrote it; the folder itself where none is.
fn below(folder: PathBuf, path: &str) -> PathBuf {
    match path {
        "" => folder,
        path => folder.join(home(path)),
    }
}

fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

/// Words, with quotes around those that have spaces.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.trim().chars() {
        match (c, quote) {
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// For people.
fn mb(bytes: u64) -> String {
    match bytes {
        bytes if bytes < 10_000 => format!("{bytes} bytes"),
        bytes => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_have_spaces_in_quotes() {
        assert_eq!(words(" a.bin  'my file' \"x\"y "), ["a.bin", "my file", "xy"]);
        assert_eq!(words(" "), [""; 0]);
    }

    #[test]
    fn on_one_machine_a_file_is_copied_or_there_already() {
        let folder = std::env::temp_dir().join(format!("lightcell-transfer-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("a"), "text").unwrap();
        let here = "this kernel runs on the machine of its front end";
        let said =
            |from: &str, to: &str| copy(&folder, from, to).map(|text| text.replace(&*folder.to_string_lossy(), "D"));
        assert_eq!(said("a", ""), Ok(format!("{here}: D/a is there already\n")));
        assert_eq!(
            said("a", "sub"),
            Ok(format!("{here}: copied D/a to D/sub/a, 4 bytes\n"))
        );
        assert_eq!(std::fs::read(folder.join("sub/a")).unwrap(), b"text");
        let error = copy(&folder, "none", "b").unwrap_err();
        assert!(error.starts_with("there is no "), "{error}");
        let error = copy(&folder, "a", "no/b").unwrap_err();
        assert!(error.starts_with("cannot write "), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn news_reach_the_cell_that_waits() {
        let transfers = Transfers::default();
        let (id, news) = transfers.begin();
        transfers.heard(b"leave");
        transfers.heard(format!("{{\"failed\":{{\"id\":{id},\"why\":\"x\"}}}}").as_bytes());
        let failed = News::Failed { id, why: "x".into() };
        assert_eq!(news.try_recv(), Ok(failed));
        transfers.over(id);
        assert!(transfers.waiting.lock().unwrap().is_empty());
    }
}
