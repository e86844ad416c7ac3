//! `%upload` and `%download`: a file goes over the kernel's own line, in pieces, with its SHA-256. The kernel asks `serve`,
//! `serve` asks the launcher; whichever of the two has the file sends it, the other writes it beside its place and renames
//! it when the sums agree.

use crate::frame::Frame;
use crate::link;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use lightcell_events::files::News;
use ring::digest;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// Of a file that is sent.
const PIECE: usize = 1 << 18;
/// So many pieces may be under way: messages of the kernel go between them.
const WINDOW: usize = 8;

/// What the two sides say to each other about a transfer, beside the pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Move {
    /// Send, or take, this file.
    Ask {
        /// Of this transfer.
        id: u32,
        /// From the launcher's machine to the kernel's.
        upload: bool,
        /// The path on the launcher's machine.
        path: String,
        /// The file's name, where that is a folder.
        name: String,
    },
    /// The file has so many bytes.
    Size {
        /// Of this transfer.
        id: u32,
        /// Bytes.
        size: u64,
    },
    /// A piece has been written.
    Taken {
        /// Of this transfer.
        id: u32,
    },
    /// All has been sent.
    Sent {
        /// Of this transfer.
        id: u32,
        /// Its SHA-256, in hexadecimal digits.
        sum: String,
    },
    /// The file is there, under this path, with this sum.
    There {
        /// Of this transfer.
        id: u32,
        /// Where it lies.
        path: String,
        /// Bytes.
        size: u64,
        /// Its SHA-256.
        sum: String,
    },
    /// It is over, without success.
    Failed {
        /// Of this transfer.
        id: u32,
        /// Why.
        why: String,
    },
    /// The launcher has gone, and all transfers with it.
    Gone,
}

/// The transfers of one side.
pub struct Transfers {
    to: link::Sender,
    sending: HashMap<u32, Sending>,
    taking: HashMap<u32, Taking>,
}

/// A file that is sent by a thread; a token for each piece that the other side has taken.
struct Sending {
    tokens: mpsc::Sender<()>,
    size: u64,
    sent: u64,
}

impl Transfers {
    /// None yet.
    pub fn new(to: link::Sender) -> Transfers {
        Transfers {
            to,
            sending: HashMap::new(),
            taking: HashMap::new(),
        }
    }

    /// Begins to send a file. The size is known when it can be read.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn send(&mut self, id: u32, path: &Path) -> Result<()> {
        let meta = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if meta.is_dir() {
            bail!("{} is a folder: pack it first, as with `tar czf`", path.display());
        }
        if !meta.is_file() {
            bail!("{} is no file", path.display());
        }
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (tokens, received) = mpsc::channel();
        for _ in 0..WINDOW {
            let _ = tokens.send(());
        }
        self.to.send(Frame::Move(Move::Size { id, size: meta.len() }));
        let (to, shown) = (self.to.clone(), path.display().to_string());
        std::thread::spawn(move || {
            if let Err(error) = send_pieces(id, file, &to, &received) {
                let why = format!("cannot read {shown}: {error}");
                to.send(Frame::Move(Move::Failed { id, why }));
            }
        });
        let size = meta.len();
        self.sending.insert(id, Sending { tokens, size, sent: 0 });
        Ok(())
    }

    /// Makes ready to take a file.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn take(&mut self, id: u32, path: &Path) -> Result<()> {
        self.taking.insert(id, Taking::begin(path)?);
        Ok(())
    }

    /// Gives up.
    pub fn cancel(&mut self, id: u32, why: &str) {
        self.forget(id);
        let why = why.to_owned();
        self.to.send(Frame::Move(Move::Failed { id, why }));
    }

    fn forget(&mut self, id: u32) {
        // What is half written goes with it; the sending thread ends when it has no more tokens.
        self.taking.remove(&id);
        self.sending.remove(&id);
    }

    /// All that are under way end.
    pub fn forget_all(&mut self) -> Vec<u32> {
        let ids = self.taking.keys().chain(self.sending.keys()).copied().collect();
        (self.taking, self.sending) = Default::default();
        ids
    }

    /// A piece of a file. What is to be told, if anything.
    pub fn piece(&mut self, id: u32, bytes: &[u8]) -> Option<News> {
        let taking = self.taking.get_mut(&id)?;
        match taking.write(bytes) {
            Ok(()) => {
                let (done, size) = (taking.written, taking.size);
                let news = News::Progress { id, done, size };
                self.to.send(Frame::Move(Move::Taken { id }));
                Some(news)
            }
            Err(error) => {
                let why = format!("{error:#}");
                self.cancel(id, &why);
                Some(News::Failed { id, why })
            }
        }
    }

    /// A word of the other side. What is to be told, if anything.
    pub fn said(&mut self, word: Move) -> Option<News> {
        match word {
            Move::Size { id, size } => {
                let taking = self.taking.get_mut(&id)?;
                taking.size = size;
                Some(News::Progress { id, done: 0, size })
            }
            Move::Taken { id } => {
                let sending = self.sending.get_mut(&id)?;
                let _ = sending.tokens.send(());
                sending.sent = (sending.sent + PIECE as u64).min(sending.size);
                let (done, size) = (sending.sent, sending.size);
                Some(News::Progress { id, done, size })
            }
            Move::Sent { id, sum } => {
                let taking = self.taking.remove(&id)?;
                match taking.finish(&sum) {
                    Ok((path, size)) => {
                        let path = path.display().to_string();
                        self.to.send(Frame::Move(Move::There {
                            id,
                            path: path.clone(),
                            size,
                            sum: sum.clone(),
                        }));
                        Some(News::There { id, path, size, sum })
                    }
                    Err(error) => {
                        let why = format!("{error:#}");
                        self.cancel(id, &why);
                        Some(News::Failed { id, why })
                    }
                }
            }
            Move::There { id, path, size, sum } => {
                self.sending.remove(&id)?;
                Some(News::There { id, path, size, sum })
            }
            Move::Failed { id, why } => {
                self.forget(id);
                Some(News::Failed { id, why })
            }
            Move::Ask { .. } | Move::Gone => None,
        }
    }
}

fn send_pieces(id: u32, mut file: File, to: &link::Sender, tokens: &mpsc::Receiver<()>) -> std::io::Result<()> {
    let mut sum = digest::Context::new(&digest::SHA256);
    loop {
        // The transfer was given up.
        if tokens.recv().is_err() {
            return Ok(());
        }
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        while filled < PIECE {
            match file.read(&mut piece[filled..])? {
                0 => break,
                got => filled += got,
            }
        }
        piece.truncate(filled);
        sum.update(&piece);
        if filled == 0 {
            break;
        }
        to.send(Frame::Piece(id, Bytes::from(piece)));
    }
    let sum = crate::sign::hex(sum.finish().as_ref());
    to.send(Frame::Move(Move::Sent { id, sum }));
    Ok(())
}

/// A file that is written. Dropped, it leaves nothing.
struct Taking {
    path: PathBuf,
    beside: PathBuf,
    file: Option<File>,
    sum: digest::Context,
    size: u64,
    written: u64,
}

impl Taking {
    fn begin(path: &Path) -> Result<Taking> {
        let name = path.file_name().context("the path names no file")?;
        if path.is_dir() {
            bail!("{} is a folder: name the file in it", path.display());
        }
        // One name, so that what a killed program has left is written over the next time.
        let beside = path.with_file_name(format!(".{}.lightcell-part", name.to_string_lossy()));
        let file = File::create(&beside).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Taking {
            path: path.to_owned(),
            beside,
            file: Some(file),
            sum: digest::Context::new(&digest::SHA256),
            size: 0,
            written: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self.file.as_mut().context("the file is closed")?;
        file.write_all(bytes)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.sum.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self, sum: &str) -> Result<(PathBuf, u64)> {
        let found = crate::sign::hex(self.sum.clone().finish().as_ref());
        if found != sum {
            bail!(
                "{} arrived damaged: its SHA-256 is {found}, not {sum}",
                self.path.display()
            );
        }
        let cannot = || format!("cannot write {}", self.path.display());
        // Some disks say only now that they are full.
        if let Some(file) = self.file.take() {
            file.sync_all().with_context(cannot)?;
        }
        std::fs::rename(&self.beside, &self.path).with_context(cannot)?;
        Ok((self.path.clone(), self.written))
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.beside);
    }
}

/// A path as the user wrote it: `~` is the home folder.
pub fn home_of(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Event;
    use std::os::unix::net::UnixStream;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn folder(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("lcr-transfer-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    type Side = (Transfers, tokio::sync::mpsc::Receiver<Event>);

    fn pair() -> (Side, Side) {
        let (a, b) = UnixStream::pair().unwrap();
        let side = |stream: UnixStream| {
            let (to, from) = link::open(stream.try_clone().unwrap(), stream, None);
            (Transfers::new(to), from)
        };
        (side(a), side(b))
    }

    /// What a side makes of the next frame.
    fn next((transfers, from): &mut Side) -> Option<News> {
        match from.blocking_recv() {
            Some(Event::Frame(Frame::Move(word))) => transfers.said(word),
            Some(Event::Frame(Frame::Piece(id, bytes))) => transfers.piece(id, &bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_arrives_whole_or_not_at_all() {
        let folder = folder("whole");
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(&folder.0)
                .unwrap()
                .flatten()
                .map(|e| e.file_name())
                .collect();
            names.sort();
            names
        };
        let content: Vec<u8> = (0..3 * PIECE + 17).map(|at| (at * 31 % 251) as u8).collect();
        let (from, to) = (folder.0.join("from"), folder.0.join("to"));
        std::fs::write(&from, &content).unwrap();
        std::fs::write(&to, "old").unwrap();
        let (mut sender, mut taker) = pair();
        taker.0.take(7, &to).unwrap();
        sender.0.send(7, &from).unwrap();
        let there = loop {
            if let Some(there @ News::There { .. }) = next(&mut taker) {
                break there;
            }
            assert_eq!(std::fs::read(&to).unwrap(), b"old");
        };
        assert!(
            matches!(&there, News::There { id: 7, size, .. } if *size == content.len() as u64),
            "{there:?}"
        );
        assert_eq!(std::fs::read(&to).unwrap(), content);
        let told = loop {
            match next(&mut sender) {
                Some(News::Progress { done, size, .. }) => assert!(done <= size),
                news => break news,
            }
        };
        assert_eq!(told, Some(there));
        // Given up amid: the old file stays, and nothing lies beside it.
        taker.0.take(8, &to).unwrap();
        taker.0.piece(8, b"half");
        assert_eq!(names().len(), 3);
        assert_eq!(taker.0.forget_all(), [8]);
        assert_eq!(names(), ["from", "to"]);
        // Damaged on its way.
        taker.0.take(9, &to).unwrap();
        taker.0.piece(9, b"other");
        let news = taker.0.said(Move::Sent { id: 9, sum: "0".into() });
        assert!(
            matches!(&news, Some(News::Failed { why, .. }) if why.contains(" arrived damaged: ")),
            "{news:?}"
        );
        assert_eq!(std::fs::read(&to).unwrap(), content);
        assert_eq!(names(), ["from", "to"]);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_said() {
        let folder = folder("wrong");
        let (mut side, _other) = pair();
        let error = |result: Result<()>| format!("{:#}", result.unwrap_err());
        let none = folder.0.join("none");
        assert_eq!(
            error(side.0.send(1, &none)),
            format!("cannot read {}: No such file or directory (os error 2)", none.display())
        );
        assert!(error(side.0.send(1, &folder.0)).ends_with(" is a folder: pack it first, as with `tar czf`"));
        assert!(error(side.0.take(1, &folder.0)).ends_with(" is a folder: name the file in it"));
        let below = none.join("file");
        assert_eq!(
            error(side.0.take(1, &below)),
            format!(
                "cannot write {}: No such file or directory (os error 2)",
                below.display()
            )
        );
        // A disk without space.
        let full = Taking {
            path: "/dev/full".into(),
            beside: folder.0.join("beside"),
            file: Some(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap()),
            sum: digest::Context::new(&digest::SHA256),
            size: 0,
            written: 0,
        };
        side.0.taking.insert(2, full);
        assert_eq!(
            side.0.piece(2, b"x"),
            Some(News::Failed {
                id: 2,
                why: "cannot write /dev/full: No space left on device (os error 28)".into()
            })
        );
    }
}
