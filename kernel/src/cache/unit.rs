//! Cargo's units in a target folder: which files are whose, what each was compiled with, and their way into the cache and
//! out of it.
//!
//! A unit has a name such as `itoa-0123456789abcdef`. In a folder such as `debug` or `x86_64-unknown-linux-gnu/debug` it
//! has `.fingerprint/<name>/`, and `deps/*-<hash>.*` or `build/<name>/`.

use crate::session::link_file;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// In a unit's folder in the cache: its [`Record`]; the time of this file is that of its last use.
const RECORD: &str = "unit.json";

/// What is known of a unit in the cache. The command `lightcell cache` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Name and version.
    #[serde(rename = "crate")]
    pub title: String,
    /// Of all its files.
    pub bytes: u64,
    /// Tells this build of the unit from others.
    pub id: u64,
    /// Names and ids of the units that it was compiled with.
    pub needs: BTreeMap<String, u64>,
}

impl Record {
    /// Of the unit in this folder of the cache.
    pub fn read(folder: &Path) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()
    }

    /// When it was used last.
    pub fn used(folder: &Path) -> Option<SystemTime> {
        std::fs::metadata(folder.join(RECORD)).ok()?.modified().ok()
    }

    /// Notes that it was used.
    pub fn touch(folder: &Path, time: SystemTime) {
        // In a folder that cannot be written nothing is removed either.
        if let Ok(file) = File::options().append(true).open(folder.join(RECORD)) {
            let _ = file.set_modified(time);
        }
    }
}

/// The units of a target folder.
#[derive(Debug)]
pub struct Target {
    /// The folder.
    pub folder: PathBuf,
    /// By name.
    pub units: BTreeMap<String, Unit>,
    /// Names by hash.
    pub by_hash: HashMap<String, String>,
}

/// One of them.
#[derive(Debug, Default)]
pub struct Unit {
    /// Tells this build from others: the time of its newest output.
    pub id: u64,
    /// All its files, relative to the target folder; those of `.fingerprint` last.
    files: Vec<PathBuf>,
    /// cargo's record of how it was compiled, which is left out of stores and of the cache.
    details: Option<PathBuf>,
}

impl Unit {
    /// Whether it was compiled in this session.
    pub fn is_new(&self) -> bool {
        self.details.is_some()
    }
}

/// The hash at the end of a name, before its first dot.
pub fn hash_in(name: &str) -> Option<&str> {
    let stem = name.split('.').next()?;
    let (_, hash) = stem.rsplit_once('-')?;
    (hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hash)
}

impl Target {
    /// Looks through a target folder; what cannot be read is not there.
    pub fn scan(folder: &Path) -> Target {
        let mut target = Target {
            folder: folder.to_owned(),
            units: BTreeMap::new(),
            by_hash: HashMap::new(),
        };
        for first in folders(folder) {
            for layout in std::iter::once(first.clone()).chain(folders(&first)) {
                if layout.join(".fingerprint").is_dir() {
                    target.layout(&layout);
                }
            }
        }
        target
    }

    fn layout(&mut self, layout: &Path) {
        for fingerprint in folders(&layout.join(".fingerprint")) {
            let Some(name) = fingerprint.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if let Some(hash) = hash_in(name) {
                self.by_hash.insert(hash.to_owned(), name.to_owned());
                self.units.insert(name.to_owned(), Unit::default());
            }
        }
        for part in ["deps", "build", ".fingerprint"] {
            for entry in std::fs::read_dir(layout.join(part)).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(unit) = name
                    .to_str()
                    .and_then(hash_in)
                    .and_then(|hash| self.by_hash.get(hash))
                    .and_then(|name| self.units.get_mut(name))
                else {
                    continue;
                };
                let mut files = Vec::new();
                walk(&entry.path(), &mut files);
                for file in files {
                    unit.add(&file, &self.folder, part);
                }
            }
        }
    }

    /// Names of units by what their fingerprint comes to.
    pub fn fingerprints(&self) -> HashMap<u64, &str> {
        let mut found = HashMap::new();
        for (name, unit) in &self.units {
            for file in unit.files.iter().filter(|file| is_fingerprint(file)) {
                let text = std::fs::read_to_string(self.folder.join(file)).unwrap_or_default();
                if let Ok(hash) = u64::from_str_radix(text.trim(), 16)
                    && text.trim().len() == 16
                {
                    // cargo writes the bytes from the lowest on.
                    found.insert(hash.swap_bytes(), &**name);
                }
            }
        }
        found
    }

    /// What a new unit was compiled with; `None` when it cannot be told.
    pub fn needs(&self, unit: &Unit, fingerprints: &HashMap<u64, &str>) -> Option<BTreeMap<String, u64>> {
        let text = std::fs::read(self.folder.join(unit.details.as_ref()?)).ok()?;
        let details: Value = serde_json::from_slice(&text).ok()?;
        let list = details["deps"].as_array()?.iter();
        list.map(|dependency| {
            let name = *fingerprints.get(&dependency.as_array()?.last()?.as_u64()?)?;
            Some((name.to_owned(), self.units.get(name)?.id))
        })
        .collect()
    }
}

impl Unit {
    fn add(&mut self, file: &Path, target: &Path, part: &str) {
        let Ok(relative) = file.strip_prefix(target) else {
            return;
        };
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if part == ".fingerprint" && name.ends_with(".json") {
            self.details = Some(relative.to_owned());
            return;
        }
        let within_out = relative.components().any(|part| part.as_os_str() == "out");
        // What cargo writes for people to read or while it builds.
        if name == "invoked.timestamp" || name.ends_with(".d") && !within_out {
            return;
        }
        let is_output = match part {
            "deps" => true,
            "build" => name == "output" || name.starts_with("build"),
            _ => false,
        };
        if is_output
            && !within_out
            && let Some(time) = modified(file)
        {
            self.id = self.id.max(time);
        }
        self.files.push(relative.to_owned());
    }
}

fn modified(file: &Path) -> Option<u64> {
    let time = std::fs::metadata(file).ok()?.modified().ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

fn is_fingerprint(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    within(file, ".fingerprint") && !name.starts_with("dep-") && !name.contains('.')
}

fn within(file: &Path, folder: &str) -> bool {
    file.components().any(|part| part.as_os_str() == folder)
}

/// What a process may write again in its place must not be shared: cargo's records, and what build scripts make.
fn is_copied(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    within(file, ".fingerprint") || within(file, "out") || ["output", "root-output", "stderr"].contains(&name)
}

/// Puts a unit into a folder that is to become one of the cache's.
pub fn take(unit: &Unit, target: &Path, folder: &Path, title: String, needs: BTreeMap<String, u64>) -> Result<()> {
    let mut bytes = 0;
    for file in &unit.files {
        bytes += place(&target.join(file), &folder.join(file), is_copied(file))?;
    }
    let record = Record {
        title,
        bytes,
        id: unit.id,
        needs,
    };
    std::fs::write(folder.join(RECORD), serde_json::to_vec(&record)?)?;
    Ok(())
}

/// Puts a unit of the cache into a target folder: whole, or not in a way that cargo would believe in.
pub fn put(folder: &Path, target: &Path, bytes: u64) -> Result<()> {
    let mut files = Vec::new();
    walk(folder, &mut files);
    files.retain(|file| file.file_name().is_some_and(|name| name != RECORD) || file.parent() != Some(folder));
    // cargo begins with its fingerprint.
    files.sort_by_key(|file| within(file.strip_prefix(folder).unwrap_or(file), ".fingerprint"));
    let found: u64 = files
        .iter()
        .filter_map(|file| Some(std::fs::metadata(file).ok()?.len()))
        .sum();
    if found != bytes {
        bail!("it is damaged: {found} bytes instead of {bytes}");
    }
    let mut placed = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(folder)?;
        let to = target.join(relative);
        placed.push(to.clone());
        if let Err(error) = place(file, &to, is_copied(relative)) {
            for file in placed {
                let _ = std::fs::remove_file(file);
            }
            return Err(error);
        }
        // Where a build script had nothing to write, there is no file to bring its folder.
        if relative.file_name().is_some_and(|name| name == "output")
            && let Some(parent) = to.parent()
        {
            std::fs::create_dir_all(parent.join("out"))?;
        }
    }
    Ok(())
}

/// Links or copies a file, in the place of one that may be there; gives its size.
fn place(from: &Path, to: &Path, copy: bool) -> Result<u64> {
    let parent = to.parent().context("no folder")?;
    std::fs::create_dir_all(parent)?;
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    link_file(from, to, copy)?;
    Ok(std::fs::metadata(to)?.len())
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_folder).map(|entry| entry.path()).collect()
}

/// All files below a path, or the file itself. Links of build scripts are not followed.
fn walk(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_symlink() || !path.is_dir() {
        into.push(path.to_owned());
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        walk(&entry.path(), into);
    }
}
