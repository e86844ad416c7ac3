//! A kernel's own folder: evcxr's crate, its target folder, the worker's libraries. It starts as a copy of the warm
//! store by hard links and goes at shutdown; those of dead kernels go at the next start.

use crate::home::Home;
use anyhow::{Context, Result};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The folder; removed when dropped.
#[derive(Debug)]
pub struct Session {
    /// Where it is.
    pub path: PathBuf,
    /// Locked while the kernel lives: how others know.
    _lock: File,
}

impl Session {
    /// Makes a new, empty session folder and removes those of dead kernels.
    pub fn create(home: &Home) -> Result<Session> {
        let all = home.root.join("sessions");
        std::fs::create_dir_all(&all).with_context(|| format!("cannot make {}", all.display()))?;
        remove_dead(&all);
        let unique = format!("{}-{:x}", std::process::id(), rand_bits());
        let path = all.join(unique);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let lock = lock_file(&path).with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Session { path, _lock: lock })
    }

    /// Fills the session from the warm store: what is compiled by hard link, what cargo rewrites by copy.
    pub fn fill(&self, store: &Path) -> Result<()> {
        link_tree(&store.join("target"), &self.path.join("target"))
            .with_context(|| format!("cannot start from the warm store {}", store.display()))?;
        crate::cache::attach(&self.path, store);
        self.restore_lock(store)
    }

    /// Where the analyser looks for the sources of the standard library (`RUST_SRC_PATH`). It reads them when evcxr starts
    /// and again when the library is added, at a second and a half each; so they are a stub first, and
    /// [`Session::show_std`] puts the real ones there in between.
    pub fn std_sources(&self) -> Result<PathBuf> {
        let path = self.path.join("std");
        std::fs::create_dir_all(path.join("core")).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Puts the real sources of the standard library in the place of the stub: what programs name. Left out are the
    /// processors' intrinsics (`stdarch`, more text than all of `core`), other crates' tests, and the manifest, for which
    /// the analyser would ask cargo.
    pub fn show_std(&self, rustc: &crate::home::Rustc) {
        let path = self.path.join("std");
        let _ = std::fs::remove_dir_all(&path);
        // libdir is <sysroot>/lib/rustlib/<target>/lib. Without sources there the analyser looks where it always does.
        let rustlib = rustc.libdir.ancestors().nth(2);
        let Some(library) = rustlib.map(|rustlib| rustlib.join("src/rust/library")) else {
            return;
        };
        if library.is_dir() && std::fs::create_dir_all(&path).is_ok() {
            for part in ["core", "alloc", "std", "proc_macro"] {
                let _ = std::os::unix::fs::symlink(library.join(part), path.join(part));
            }
        }
    }

    /// Removes the folder, at the end of the kernel.
    pub fn remove(&self) {
        // A process that is just ending may still write, and so may the executor's thread: try again.
        for _ in 0..200 {
            match clear(&self.path) {
                Ok(()) => return,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
    }

    /// Puts the store's Cargo.lock back: evcxr's first cell has no dependencies, and cargo then forgets them.
    pub fn restore_lock(&self, store: &Path) -> Result<()> {
        std::fs::copy(store.join("Cargo.lock"), self.path.join("Cargo.lock"))
            .context("cannot copy the store's Cargo.lock")?;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes a session's folder, its lock last: who is killed amid this leaves a folder that is known for a dead kernel's.
fn clear(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == ".lock" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir_all(path)
}

fn rand_bits() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() & 0xffff_ffff
}

fn lock_file(session: &Path) -> std::io::Result<File> {
    let file = File::create(session.join(".lock"))?;
    // SAFETY: a plain call on a live descriptor; the lock goes with the process, however it ends.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(file)
}

/// Removes the folders whose kernel is gone: nobody holds their lock.
fn remove_dead(all: &Path) {
    let Ok(entries) = std::fs::read_dir(all) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // A folder without a lock is one that another kernel makes at this moment, or a leftover of one that died
        // right then: an hour tells them apart.
        let Ok(file) = File::open(path.join(".lock")) else {
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|t| t.elapsed().ok());
            if path.is_dir() && age.is_some_and(|age| age.as_secs() > 3600) {
                let _ = std::fs::remove_dir_all(&path);
            }
            continue;
        };
        // SAFETY: a plain call on a live descriptor.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// Copies a target folder. Compiled files are linked; cargo's own small records, which it may rewrite in place, are
/// copied; its lock is left out, or all kernels would wait for each other.
fn link_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link_tree(&source, &target)?;
        } else if entry.file_name() == ".cargo-lock" || entry.file_name() == ".cargo-build-lock" {
            continue;
        } else {
            link_file(&source, &target, is_record(&source))?;
        }
    }
    Ok(())
}

/// Links a file, or copies it: when it is to be a copy, or lies in another file system.
pub fn link_file(source: &Path, target: &Path, copy: bool) -> std::io::Result<()> {
    if copy || std::fs::hard_link(source, target).is_err() {
        std::fs::copy(source, target)?;
        // Mode is copied; times must be too: cargo compares them.
        let meta = std::fs::metadata(source)?;
        let times = std::fs::FileTimes::new()
            .set_modified(meta.modified()?)
            .set_accessed(meta.accessed()?);
        let readable = meta.permissions().mode() | 0o600;
        std::fs::set_permissions(target, std::fs::Permissions::from_mode(readable))?;
        File::options().write(true).open(target)?.set_times(times)?;
    }
    Ok(())
}

/// Cargo's records: fingerprints, dep-info, build script output, its caches.
fn is_record(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == ".fingerprint")
        || path.extension().is_some_and(|ext| ext == "d" || ext == "json")
        || path.file_name().is_some_and(|name| {
            name == "output" || name == "stderr" || name == "root-output" || name == "invoked.timestamp"
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lightcell-{name}-{}-{:x}", std::process::id(), rand_bits()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_tree_is_linked_and_cargos_records_are_copied() {
        use std::os::unix::fs::MetadataExt;
        let root = scratch("link");
        let from = root.join("from");
        std::fs::create_dir_all(from.join("debug/.fingerprint/x")).unwrap();
        std::fs::create_dir_all(from.join("debug/deps")).unwrap();
        std::fs::write(from.join("debug/.cargo-lock"), "").unwrap();
        std::fs::write(from.join("debug/.fingerprint/x/hash"), "1").unwrap();
        std::fs::write(from.join("debug/deps/libx.rlib"), "code").unwrap();
        let to = root.join("to");
        link_tree(&from, &to).unwrap();
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        assert_eq!(
            inode(&from.join("debug/deps/libx.rlib")),
            inode(&to.join("debug/deps/libx.rlib"))
        );
        let record = Path::new("debug/.fingerprint/x/hash");
        assert_ne!(inode(&from.join(record)), inode(&to.join(record)));
        assert_eq!(
            std::fs::metadata(from.join(record)).unwrap().modified().unwrap(),
            std::fs::metadata(to.join(record)).unwrap().modified().unwrap()
        );
        assert!(!to.join("debug/.cargo-lock").exists());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_folder_in_which_something_still_writes_goes() {
        let path = scratch("clear").join("session");
        std::fs::create_dir_all(path.join("target/deps")).unwrap();
        let lock = lock_file(&path).unwrap();
        let session = Session {
            path: path.clone(),
            _lock: lock,
        };
        let writes = path.clone();
        let writer = std::thread::spawn(move || {
            let begun = std::time::Instant::now();
            while begun.elapsed().as_millis() < 300 {
                let _ = std::fs::write(writes.join("Cargo.lock"), "");
            }
        });
        session.remove();
        writer.join().unwrap();
        session.remove();
        assert!(!path.exists());
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn folders_of_dead_kernels_go_and_those_of_living_ones_stay() {
        let all = scratch("dead");
        for name in ["alive", "dead", "being-made"] {
            std::fs::create_dir_all(all.join(name)).unwrap();
        }
        File::create(all.join("dead/.lock")).unwrap();
        let lock = lock_file(&all.join("alive")).unwrap();
        remove_dead(&all);
        assert!(all.join("alive").exists());
        assert!(!all.join("dead").exists());
        assert!(all.join("being-made").exists());
        drop(lock);
        std::fs::remove_dir_all(all).unwrap();
    }
}
