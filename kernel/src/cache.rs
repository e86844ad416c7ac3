//! Crates that `:dep` has compiled, kept in the installation for later kernels.
//!
//! Before cargo builds in a session, [`Cache::lend`] puts what earlier sessions have compiled into its target folder, so
//! that cargo finds it fresh; afterwards [`Cache::keep`] takes what is new. What is kept are cargo's units (a library, a
//! build script, a run of one), each in a folder of its own that appears and goes by a rename. Crates in folders of the
//! user's are not kept. Nothing here is needed to compile a cell: what fails is noted in the session's folder, from where
//! the kernel puts it into its log, and cargo compiles.
//!
//! Two builds of the same crate can differ (paths of the session are in some), and rustc refuses a crate that was compiled
//! with another build of a dependency than the one it finds. So each unit remembers with which ones it was compiled, by
//! the time of their files, and is lent only together with them.

mod unit;

use crate::home::Home;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};
use unit::{Record, Target};

/// In a session's folder: a link to the cache's folder for its store.
const LINK: &str = ".cache";
/// In a session's folder: what went wrong here, for the log.
const NOTE: &str = ".cache-note";
/// In a session's folder, per kind of build: for which dependencies units were lent last.
const LENT: &str = ".cache-lent-";
/// Names of folders that are not whole yet, or no longer.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";
/// Bytes that are kept unless the user says otherwise.
const LIMIT: u64 = 2_000_000_000;
/// The limit that the command `lightcell cache --limit` has set, in bytes.
const LIMIT_FILE: &str = "limit";

/// The folder of all that is kept: `LIGHTCELL_CACHE`, else in the installation.
fn root(home: &Path) -> PathBuf {
    let named = std::env::var_os("LIGHTCELL_CACHE").filter(|value| !value.is_empty());
    let named = named.and_then(|value| std::path::absolute(value).ok());
    named.unwrap_or_else(|| home.join("cache"))
}

/// Tells the session which crates go with its store. Without the link it compiles all itself.
pub fn attach(session: &Path, store: &Path) {
    if let (Some(home), Some(key)) = (store.ancestors().nth(2), store.file_name()) {
        let _ = std::os::unix::fs::symlink(root(home).join(key), session.join(LINK));
    }
}

/// Removes crates that go with no store any more.
pub fn forget_old(home: &Home) {
    let root = root(&home.root);
    for key in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        if key.path().is_dir() && !home.root.join("store").join(key.file_name()).is_dir() {
            let _ = std::fs::remove_dir_all(key.path());
        }
    }
}

/// What went wrong in this session since the last call.
pub fn take_note(session: &Path) -> Option<String> {
    let file = session.join(NOTE);
    let text = std::fs::read_to_string(&file).ok()?;
    let _ = std::fs::remove_file(file);
    Some(text.trim_end().to_owned())
}

/// The units that go with a session's store.
pub struct Cache {
    session: PathBuf,
    folder: PathBuf,
    limit: u64,
}

/// A unit that cargo says it has compiled, or found compiled.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    /// The hash in the names of its files.
    hash: String,
    /// Such as `registry+https://…#itoa@1.0.15`.
    package: String,
    /// Its Cargo.toml, where cargo says it.
    manifest: PathBuf,
}

impl Used {
    /// Whether its sources cannot change: those of a registry, of a commit, and ours, which are in the name of the store.
    /// Ours are compiled anew where a crate of the user's switches on a feature of one that both use.
    fn is_fixed(&self, own: &Path) -> bool {
        !self.package.starts_with("path+") || self.manifest.starts_with(own)
    }
}

impl Cache {
    /// For a session; `None` when nothing is to be kept.
    pub fn of(session: &Path) -> Option<Cache> {
        let folder = std::fs::read_link(session.join(LINK)).ok()?;
        let limit = limit(folder.parent()?);
        (limit > 0).then(|| Cache {
            session: session.to_owned(),
            folder,
            limit,
        })
    }

    /// Runs cargo's `build` or `check` in the session, with what is there lent before and what is new kept afterwards.
    ///
    /// # Errors
    /// When cargo cannot be run.
    pub fn run(&self, mut command: Command, kind: &str, own: &Path) -> Result<ExitStatus> {
        if !has_foreign(&self.session, own) {
            return command.status().context("cannot run cargo");
        }
        let lent = self.noting("cannot use crates that were kept", self.lend(kind));
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
        let mut used = Vec::new();
        if let Some(out) = child.stdout.take() {
            let mut to = std::io::stdout().lock();
            for line in std::io::BufReader::new(out).split(b'\n').map_while(Result::ok) {
                used.extend(read_message(&line));
                // Who reads may be gone; cargo is to end all the same.
                let _ = to.write_all(&line).and_then(|()| to.write_all(b"\n"));
            }
        }
        let status = child.wait().context("cannot run cargo")?;
        self.noting("crates are not kept for later kernels", self.keep(&used, &lent, own));
        Ok(status)
    }

    fn noting<T: Default>(&self, what: &str, result: Result<T>) -> T {
        result.unwrap_or_else(|error| {
            let _ = std::fs::write(self.session.join(NOTE), format!("{what}: {error:#}"));
            T::default()
        })
    }

    /// Others wait for one that writes; after two seconds they do without.
    fn lock(&self, shared: bool) -> Result<File> {
        let path = self.folder.join(".lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(_) => File::create(&path).with_context(|| format!("cannot write {}", path.display()))?,
        };
        for _ in 0..200 {
            match if shared {
                file.try_lock_shared()
            } else {
                file.try_lock()
            } {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        bail!("{} is held by another kernel", path.display())
    }

    /// Puts the units into the session that its Cargo.lock names and it lacks; says which.
    fn lend(&self, kind: &str) -> Result<Vec<String>> {
        let read = |file: &str| std::fs::read_to_string(self.session.join(file)).unwrap_or_default();
        let lock = read("Cargo.lock");
        let asked = format!("{}{lock}", read("Cargo.toml"));
        let mark = self.session.join(format!("{LENT}{kind}"));
        if !self.folder.is_dir() || std::fs::read_to_string(&mark).is_ok_and(|before| before == asked) {
            return Ok(Vec::new());
        }
        let _lock = self.lock(true)?;
        let names: BTreeSet<&str> = lock.lines().filter_map(package_name).collect();
        let target = Target::scan(&self.session.join("target"));
        let there: HashMap<&str, u64> = target.units.iter().map(|(name, unit)| (&**name, unit.id)).collect();
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder)?.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let is_asked = name
                .rsplit_once('-')
                .is_some_and(|(package, _)| names.contains(package));
            if is_asked && let Some(record) = Record::read(&entry.path()) {
                records.insert(name, record);
            }
        }
        let (mut lent, mut known) = (Vec::new(), HashMap::new());
        for name in records.keys() {
            if !there.contains_key(&**name) && fits(name, &records, &there, &mut known) {
                let from = self.folder.join(name);
                match unit::put(&from, &target.folder, records[name].bytes) {
                    Ok(()) => lent.push(name.clone()),
                    // Another kernel has replaced it at this moment, the disk is full, or it is damaged.
                    Err(error) => {
                        let _ = std::fs::write(self.session.join(NOTE), format!("cannot use {name}: {error:#}"));
                    }
                }
            }
        }
        let _ = std::fs::write(mark, asked);
        Ok(lent)
    }

    /// Takes what is new, and marks what was used.
    fn keep(&self, used: &[Used], lent: &[String], own: &Path) -> Result<()> {
        let target = Target::scan(&self.session.join("target"));
        let now = SystemTime::now();
        // What others were compiled with counts as used later than they: it goes last.
        let time = |index: usize| now - Duration::from_micros(index as u64);
        let mut new = Vec::new();
        for (index, one) in used.iter().enumerate() {
            let Some(name) = target.by_hash.get(&one.hash) else {
                continue;
            };
            if target.units[name].is_new() && one.is_fixed(own) {
                new.push((index, name, one));
            } else if lent.contains(name) {
                Record::touch(&self.folder.join(name), time(index));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let _lock = self.lock(false)?;
        let hashes = target.fingerprints();
        let mut result = Ok(());
        for (index, name, one) in new {
            let unit = &target.units[name];
            let place = self.folder.join(name);
            if Record::read(&place).is_some_and(|record| record.id == unit.id) {
                Record::touch(&place, time(index));
                continue;
            }
            // One whose dependencies cannot be told would never be lent.
            let Some(needs) = target.needs(unit, &hashes) else {
                continue;
            };
            let beside = self.folder.join(format!("{NEW}{}-{index}", std::process::id()));
            let kept = unit::take(unit, &target.folder, &beside, package_title(&one.package), needs)
                .with_context(|| format!("cannot write {}", beside.display()))
                .and_then(|()| {
                    Record::touch(&beside, time(index));
                    self.remove(&place, index);
                    std::fs::rename(&beside, &place).with_context(|| format!("cannot write {}", place.display()))
                });
            if kept.is_err() {
                let _ = std::fs::remove_dir_all(&beside);
                result = kept;
            }
        }
        self.make_room();
        result
    }

    /// Takes a unit away, all at once.
    fn remove(&self, place: &Path, index: usize) {
        let gone = self.folder.join(format!("{GONE}{}-{index}", std::process::id()));
        if std::fs::rename(place, &gone).is_ok() {
            let _ = std::fs::remove_dir_all(gone);
        }
    }

    /// Removes what was not used for the longest time until the rest is within the limit, and what dead kernels left.
    fn make_room(&self) {
        let Some(root) = self.folder.parent() else { return };
        let mut units = Vec::new();
        let keys = std::fs::read_dir(root).into_iter().flatten().flatten();
        for entry in keys.flat_map(|key| std::fs::read_dir(key.path()).into_iter().flatten().flatten()) {
            let (path, name) = (entry.path(), entry.file_name());
            if let Some(pid) = unfinished(&name.to_string_lossy()) {
                if pid != std::process::id().to_string() && !Path::new("/proc").join(pid).exists() {
                    let _ = std::fs::remove_dir_all(path);
                }
            } else if let (Some(time), Some(record)) = (Record::used(&path), Record::read(&path)) {
                units.push((time, record.bytes, path));
            }
        }
        units.sort();
        let mut total = units.iter().fold(0u64, |sum, unit| sum.saturating_add(unit.1));
        for (index, (_, bytes, path)) in units.into_iter().enumerate() {
            if total <= self.limit {
                break;
            }
            self.remove(&path, index);
            total = total.saturating_sub(bytes);
        }
    }
}

/// The pid in the name of a folder that is not whole.
fn unfinished(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(NEW).or_else(|| name.strip_prefix(GONE))?;
    rest.split('-').next()
}

/// Bytes that may be kept.
fn limit(root: &Path) -> u64 {
    let said = std::env::var("LIGHTCELL_CACHE_LIMIT").ok();
    let said = said.and_then(|text| text.trim().parse().ok());
    said.or_else(|| std::fs::read_to_string(root.join(LIMIT_FILE)).ok()?.trim().parse().ok())
        .unwrap_or(LIMIT)
}

/// The limit that holds for a session.
pub fn limit_of(session: &Path) -> u64 {
    let folder = std::fs::read_link(session.join(LINK)).ok();
    folder.as_deref().and_then(Path::parent).map_or(LIMIT, limit)
}

/// Whether the environment says what the limit is, whatever is set.
pub fn limit_is_set_outside() -> bool {
    std::env::var("LIGHTCELL_CACHE_LIMIT").is_ok_and(|text| text.trim().parse::<u64>().is_ok())
}

/// Sets the limit, for all kernels.
pub fn set_limit(session: &Path, bytes: u64) -> Result<()> {
    let folder = std::fs::read_link(session.join(LINK)).context("this kernel has no folder to keep crates in")?;
    let root = folder.parent().context("no folder")?;
    let beside = root.join(format!("{NEW}{}-{LIMIT_FILE}", std::process::id()));
    std::fs::create_dir_all(root)
        .and_then(|()| std::fs::write(&beside, bytes.to_string()))
        .and_then(|()| std::fs::rename(&beside, root.join(LIMIT_FILE)))
        .with_context(|| format!("cannot write {}", root.join(LIMIT_FILE).display()))
}

/// Whether the session has a dependency that is not ours.
fn has_foreign(session: &Path, own: &Path) -> bool {
    let manifest = std::fs::read_to_string(session.join("Cargo.toml")).unwrap_or_default();
    let stubs = own.with_file_name(crate::stubs::FOLDER);
    let ours = [own.to_string_lossy(), stubs.to_string_lossy()];
    // They lie beside the stubs, but bring crates that take time to compile.
    let is_extra = |line: &str| {
        lightcell_ipynb::project::EXTRAS
            .iter()
            .any(|(name, _)| line.starts_with(name))
    };
    let dependencies = manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1);
    dependencies
        .map(str::trim)
        .any(|line| !line.is_empty() && (is_extra(line) || !ours.iter().any(|folder| line.contains(&**folder))))
}

/// The name in a line of Cargo.lock: `name = "itoa"`.
fn package_name(line: &str) -> Option<&str> {
    line.strip_prefix("name = \"")?.strip_suffix('"')
}

/// `itoa 1.0.15` of cargo's name for a package.
fn package_title(id: &str) -> String {
    let (source, last) = id.rsplit_once('#').unwrap_or(("", id));
    match last.split_once('@') {
        Some((name, version)) => format!("{name} {version}"),
        // Where the name is the repository's, only the version stands there.
        None => format!(
            "{} {last}",
            source
                .split('?')
                .next()
                .and_then(|url| url.rsplit('/').next())
                .unwrap_or_default()
        ),
    }
}

/// Whether a unit can be lent: all that it was compiled with is in the session, or can be lent with it.
fn fits<'a>(
    name: &'a str,
    records: &'a BTreeMap<String, Record>,
    there: &HashMap<&str, u64>,
    known: &mut HashMap<&'a str, bool>,
) -> bool {
    if let Some(known) = known.get(name) {
        return *known;
    }
    // Cargo's units have no cycles; one in a damaged record is not lent.
    known.insert(name, false);
    let Some(record) = records.get(name) else { return false };
    let all = record.needs.iter().all(|(need, id)| match there.get(&**need) {
        Some(found) => found == id,
        None => records.get(need).is_some_and(|record| record.id == *id) && fits(need, records, there, known),
    });
    known.insert(name, all);
    all
}

/// What a line of cargo's says of a unit.
fn read_message(line: &[u8]) -> Option<Used> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let file = match value["reason"].as_str()? {
        "compiler-artifact" => value["filenames"][0].as_str()?,
        "build-script-executed" => value["out_dir"].as_str()?,
        _ => return None,
    };
    let file = Path::new(file);
    let folder = file.parent()?;
    // deps/libitoa-<hash>.rlib, build/itoa-<hash>/build-script-build or build/itoa-<hash>/out
    let name = if folder.ends_with("deps") {
        file.file_name()?
    } else {
        folder.file_name()?
    };
    Some(Used {
        hash: unit::hash_in(name.to_str()?)?.to_owned(),
        package: value["package_id"].as_str()?.to_owned(),
        manifest: value["manifest_path"].as_str().unwrap_or_default().into(),
    })
}

#[cfg(test)]
mod tests;
