//! `lightcell cache`: the crates that `:dep` has compiled and later kernels need not. The kernel keeps them
//! (kernel/src/cache.rs) in `<store>/<unit>/unit.json` and files beside it; this command only looks, sets the limit and
//! clears.

use crate::place::{self, Place};
use crate::ui::{self, problem};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

/// Bytes that are kept unless the user says otherwise; the kernel's default too.
const LIMIT: u64 = 2_000_000_000;

#[derive(clap::Args)]
pub struct Options {
    /// Remove all crates that are kept
    #[arg(long, conflicts_with = "limit")]
    clear: bool,
    /// Keep at most so much, such as 4G or 500M; 0 keeps nothing
    #[arg(long, value_name = "SIZE")]
    limit: Option<String>,
}

/// What is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Names and versions.
    pub crates: BTreeSet<String>,
    /// Of all files.
    pub bytes: u64,
    /// When one of them was used last.
    pub used: Option<SystemTime>,
}

/// A unit's record, as far as it is shown.
#[derive(Deserialize)]
struct Record {
    #[serde(rename = "crate")]
    title: String,
    bytes: u64,
}

/// Shows, clears or limits.
pub fn run(options: &Options) -> Result<ExitCode> {
    let place = Place::find()?;
    let root = root(&place);
    if options.clear {
        let kept = look(&root);
        clear(&root)?;
        println!("Removed {} ({}).", crates(&kept), ui::size(kept.bytes));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(text) = &options.limit {
        if place.setup().is_none() {
            return Err(problem(
                format!("Lightcell is not set up in {}", place.root.display()),
                "run `lightcell setup`",
            ));
        }
        let bytes = parse(text).ok_or_else(|| {
            problem(
                format!("`{text}` is no size"),
                "write it as 4G, 500M or a number of bytes",
            )
        })?;
        place::write(&limit_file(&root), bytes.to_string().as_bytes())?;
        println!("{}", limited(bytes));
        if let Some(said) = from_environment() {
            ui::note(&format!("LIGHTCELL_CACHE_LIMIT is set and counts: {}", ui::size(said)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", table(&root, &look(&root), limit(&root), SystemTime::now()));
    Ok(ExitCode::SUCCESS)
}

/// The folder of all that is kept.
pub fn root(place: &Place) -> PathBuf {
    place::set("LIGHTCELL_CACHE")
        .and_then(|named| std::path::absolute(named).ok())
        .unwrap_or_else(|| place.join("cache"))
}

/// For `lightcell doctor`.
pub fn summary(place: &Place) -> String {
    let root = root(place);
    let kept = look(&root);
    format!(
        "{} of {}, {}",
        ui::size(kept.bytes),
        ui::size(limit(&root)),
        crates(&kept)
    )
}

fn limit_file(root: &Path) -> PathBuf {
    root.join("limit")
}

fn from_environment() -> Option<u64> {
    std::env::var("LIGHTCELL_CACHE_LIMIT").ok()?.trim().parse().ok()
}

fn limit(root: &Path) -> u64 {
    from_environment()
        .or_else(|| std::fs::read_to_string(limit_file(root)).ok()?.trim().parse().ok())
        .unwrap_or(LIMIT)
}

fn limited(bytes: u64) -> String {
    match bytes {
        0 => "Crates are not kept any more; --clear removes those that are.".to_owned(),
        _ => format!(
            "At most {} are kept; what is too much goes when a kernel adds the next crate.",
            ui::size(bytes)
        ),
    }
}

/// Bytes of `4G`, `1.5 GB`, `500M`, `4096`: decimal, as disks are sold.
fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_uppercase();
    let text = text.strip_suffix('B').unwrap_or(&text).trim_end();
    let (number, unit) = match text.char_indices().last()? {
        (at, 'K') => (&text[..at], 1e3),
        (at, 'M') => (&text[..at], 1e6),
        (at, 'G') => (&text[..at], 1e9),
        (at, 'T') => (&text[..at], 1e12),
        _ => (text, 1.0),
    };
    let bytes = number.trim_end().parse::<f64>().ok()? * unit;
    (0.0..1e18).contains(&bytes).then_some(bytes as u64)
}

/// Units that stand in their places.
fn units(root: &Path) -> impl Iterator<Item = PathBuf> {
    let below = |folder: PathBuf| {
        std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    below(root.to_owned()).flat_map(below).filter(|unit| unit.is_dir())
}

fn look(root: &Path) -> Kept {
    let mut kept = Kept::default();
    for unit in units(root) {
        let file = unit.join("unit.json");
        let Ok(text) = std::fs::read(&file) else { continue };
        if let Ok(record) = serde_json::from_slice::<Record>(&text) {
            kept.crates.insert(record.title);
            kept.bytes += record.bytes;
            kept.used = kept
                .used
                .max(std::fs::metadata(&file).and_then(|meta| meta.modified()).ok());
        }
    }
    kept
}

/// Each unit first gets another name, so that a kernel takes all of it or nothing.
fn clear(root: &Path) -> Result<()> {
    for (index, unit) in units(root).collect::<Vec<_>>().into_iter().enumerate() {
        let gone = unit.with_file_name(format!(".gone-{}-{index}", std::process::id()));
        std::fs::rename(&unit, &gone)
            .and_then(|()| std::fs::remove_dir_all(&gone))
            .with_context(|| format!("cannot remove {}", unit.display()))?;
    }
    Ok(())
}

fn crates(kept: &Kept) -> String {
    match kept.crates.len() {
        1 => "1 crate".to_owned(),
        count => format!("{count} crates"),
    }
}

fn table(root: &Path, kept: &Kept, limit: u64, now: SystemTime) -> String {
    let used = kept.used.map_or("never".to_owned(), |time| {
        ago(now.duration_since(time).unwrap_or_default().as_secs())
    });
    format!(
        "folder     {}\nsize       {}\ncrates     {}\nlimit      {}\nlast used  {used}\n",
        root.display(),
        ui::size(kept.bytes),
        kept.crates.len(),
        ui::size(limit),
    )
}

fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;
    use std::time::Duration;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [
            ("4G", 4_000_000_000),
            ("1.5 GB", 1_500_000_000),
            ("500m", 500_000_000),
            ("20k", 20_000),
            ("4096", 4096),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "G", "much", "-1", "4X", "nan", "inf", "1e30", "ü"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_counted_by_crate_and_cleared() {
        let scratch = Scratch::new("cache");
        let root = &scratch.0;
        let unit = |key: &str, name: &str, text: &str| {
            place::write(&root.join(key).join(name).join("unit.json"), text.as_bytes()).unwrap();
        };
        unit("k", "itoa-1", r#"{"crate":"itoa 1.0.15","bytes":10,"id":1,"needs":{}}"#);
        unit("k", "itoa-2", r#"{"crate":"itoa 1.0.15","bytes":5,"id":2,"needs":{}}"#);
        unit("old", "ryu-1", r#"{"crate":"ryu 1.0.0","bytes":7,"id":3,"needs":{}}"#);
        unit("k", "broken-1", "{");
        place::write(&limit_file(root), b"50").unwrap();
        let kept = look(root);
        assert_eq!((kept.crates.len(), kept.bytes, kept.used.is_some()), (2, 22, true));
        let now = kept.used.unwrap() + Duration::from_secs(7200);
        assert_eq!(
            table(root, &kept, limit(root), now),
            format!(
                "folder     {}\nsize       {}\ncrates     2\nlimit      {}\nlast used  2 hours ago\n",
                root.display(),
                ui::size(22),
                ui::size(50)
            )
        );
        clear(root).unwrap();
        assert_eq!(look(root), Kept::default());
        assert_eq!(limit(root), 50, "the limit stays");
    }
}
