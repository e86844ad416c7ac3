//! A copy of the sources in the installation: the warm store's crates are compiled from it, and everything can be rebuilt
//! when the clone is gone. A file that did not change keeps its time, or cargo would compile the store anew.

use crate::place::{self, Place};
use crate::tch::{self, Tch};
use crate::ui;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The clone that this program is run from or was built from, while it is there; else the installation's copy.
pub fn root(place: &Place) -> Result<PathBuf> {
    // `cargo demo` and the like say at run time where they are: a clone that was moved, or one of several with a common
    // target folder, does not build its program anew.
    let now = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let clones = now.into_iter().chain([built]);
    let clones = clones.filter_map(|manifest| manifest.parent().map(Path::to_owned));
    for folder in clones.chain([place.join("src")]) {
        if is_ours(&folder) {
            return Ok(folder);
        }
    }
    bail!(ui::Problem {
        what: "the sources are gone: neither the clone nor the installation's copy is there".into(),
        hint: "clone the repository again and run `cargo demo` in it".into()
    })
}

fn is_ours(folder: &Path) -> bool {
    folder.join("kernel/worker/Cargo.toml").is_file() && folder.join("Cargo.lock").is_file()
}

/// What is copied. The rest of the workspace comes along because its manifest names it.
const PARTS: [&str; 9] = [
    "Cargo.toml",
    "rustfmt.toml",
    "Cargo.lock",
    ".cargo",
    "kernel",
    "magics",
    "install",
    "tests",
    "notebooks",
];

/// Brings the copy up to date, with this tch.
pub fn sync(place: &Place, tch: &Tch) -> Result<PathBuf> {
    let (from, to) = (root(place)?, place.join("src"));
    if from == to {
        name_tch(&to, tch)?;
        // Without the clone; what was deleted from the notebooks still comes back.
        notebooks(&to.join("notebooks"), &place.join("notebooks"), &place.join(RECORD))?;
        ui::already("sources", "the installation's own");
        return Ok(to);
    }
    let count = copy(&from, &to)?;
    notebooks(&from.join("notebooks"), &place.join("notebooks"), &place.join(RECORD))?;
    ui::already("sources", &format!("{count} files in {}", to.display()));
    Ok(to)
}

/// Makes a folder the sources' copy; gives the number of files.
pub fn copy(from: &Path, to: &Path) -> Result<usize> {
    let mut wanted = BTreeSet::new();
    for part in PARTS {
        list(from, Path::new(part), &mut wanted)?;
    }
    let mut there = BTreeSet::new();
    if to.is_dir() {
        for part in PARTS {
            list(to, Path::new(part), &mut there)?;
        }
    }
    for file in &wanted {
        let content =
            std::fs::read(from.join(file)).with_context(|| format!("cannot read {}", from.join(file).display()))?;
        place::write(&to.join(file), &tch.named_in(file, content))?;
    }
    for gone in there.difference(&wanted) {
        let _ = std::fs::remove_file(to.join(gone));
    }
    Ok(wanted.len())
}

/// Puts a version of tch in the place of another, in an installation without the clone.
fn name_tch(root: &Path, tch: &Tch) -> Result<()> {
    for file in tch::FILES.map(Path::new) {
        let path = root.join(file);
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        place::write(&path, &tch.named_in(file, content))?;
    }
    Ok(())
}

fn list(root: &Path, part: &Path, into: &mut BTreeSet<PathBuf>) -> Result<()> {
    let path = root.join(part);
    if path.is_file() {
        into.insert(part.to_owned());
        return Ok(());
    }
    let Ok(entries) = std::fs::read_dir(&path) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let skipped = ["target", ".git", "__pycache__", ".ipynb_checkpoints"]
            .iter()
            .any(|skip| name == *skip);
        if !skipped && !name.to_string_lossy().contains(".partial-") {
            list(root, &part.join(name), into)?;
        }
    }
    Ok(())
}

/// Files below a folder of notebooks that setup did not put there as they are: changed ones, and the user's own.
pub fn of_user(place: &Place) -> Vec<PathBuf> {
    let (folder, record) = (place.join("notebooks"), place.join(RECORD));
    let mut files = BTreeSet::new();
    let _ = list(&folder, Path::new(""), &mut files);
    let same = |a: &Path, b: &Path| std::fs::read(a).is_ok_and(|a| std::fs::read(b).is_ok_and(|b| a == b));
    let beside = |file: &Path| PathBuf::from(file.to_string_lossy().replace(".new.", "."));
    files.retain(|file| {
        !same(&folder.join(file), &record.join(file)) && !same(&folder.join(file), &record.join(beside(file)))
    });
    files.into_iter().map(|file| folder.join(file)).collect()
}

/// What was installed last, to know what the user changed.
const RECORD: &str = "src/.installed-notebooks";

/// Notebooks are the user's once they are there: one that was changed stays, and the new one goes beside it. `record`
/// holds what was installed last.
fn notebooks(from: &Path, to: &Path, record: &Path) -> Result<()> {
    let mut files = BTreeSet::new();
    list(from, Path::new(""), &mut files)?;
    for file in files {
        let new = std::fs::read(from.join(&file))?;
        let (target, last) = (to.join(&file), record.join(&file));
        let old = std::fs::read(&target).ok();
        // Without a record (someone removed it) any difference may be the user's.
        let recorded = std::fs::read(&last).ok();
        let changed_by_user = old.is_some_and(|old| old != new && recorded.as_ref() != Some(&old));
        if changed_by_user {
            let mut name = target.file_stem().unwrap_or_default().to_owned();
            name.push(".new.");
            name.push(target.extension().unwrap_or_default());
            if recorded.as_ref() != Some(&new) {
                place::write(&target.with_file_name(name), &new)?;
            }
        } else {
            place::write(&target, &new)?;
        }
        place::write(&last, &new)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn a_notebook_that_the_user_changed_stays() {
        let scratch = Scratch::new("notebooks");
        let [from, to, record] = ["from", "to", "record"].map(|name| scratch.0.join(name));
        let read = |path: PathBuf| std::fs::read_to_string(path).ok();
        place::write(&from.join("a.ipynb"), b"one").unwrap();
        notebooks(&from, &to, &record).unwrap();
        assert_eq!(read(to.join("a.ipynb")).as_deref(), Some("one"));
        // Not changed by the user: replaced.
        place::write(&from.join("a.ipynb"), b"two").unwrap();
        notebooks(&from, &to, &record).unwrap();
        assert_eq!(read(to.join("a.ipynb")).as_deref(), Some("two"));
        // Changed: kept, the new one beside it; and nothing more when nothing is new.
        std::fs::write(to.join("a.ipynb"), "mine").unwrap();
        notebooks(&from, &to, &record).unwrap();
        assert!(!to.join("a.new.ipynb").exists());
        place::write(&from.join("a.ipynb"), b"three").unwrap();
        notebooks(&from, &to, &record).unwrap();
        assert_eq!(read(to.join("a.ipynb")).as_deref(), Some("mine"));
        assert_eq!(read(to.join("a.new.ipynb")).as_deref(), Some("three"));
        // The record is lost: still the user's. Deleted by the user: back again.
        std::fs::remove_dir_all(&record).unwrap();
        notebooks(&from, &to, &record).unwrap();
        assert_eq!(read(to.join("a.ipynb")).as_deref(), Some("mine"));
        std::fs::remove_file(to.join("a.ipynb")).unwrap();
        notebooks(&from, &to, &record).unwrap();
        assert_eq!(read(to.join("a.ipynb")).as_deref(), Some("three"));
    }

    #[test]
    fn what_is_the_users_among_the_notebooks_is_known() {
        let scratch = Scratch::new("of-user");
        let place = Place {
            root: scratch.0.clone(),
        };
        for name in ["a.ipynb", "b.ipynb", "data/c.csv"] {
            place::write(&place.join("notebooks").join(name), name.as_bytes()).unwrap();
            place::write(&place.join(RECORD).join(name), name.as_bytes()).unwrap();
        }
        place::write(&place.join("notebooks/a.new.ipynb"), b"a.ipynb").unwrap();
        assert_eq!(of_user(&place), Vec::<PathBuf>::new());
        place::write(&place.join("notebooks/b.ipynb"), b"mine").unwrap();
        place::write(&place.join("notebooks/own.ipynb"), b"").unwrap();
        assert_eq!(
            of_user(&place),
            [place.join("notebooks/b.ipynb"), place.join("notebooks/own.ipynb")]
        );
    }

    #[test]
    fn build_output_is_not_copied() {
        let scratch = Scratch::new("list");
        for file in ["kernel/src/a.rs", "kernel/target/x", "kernel/__pycache__/y"] {
            place::write(&scratch.0.join(file), b"").unwrap();
        }
        let mut files = BTreeSet::new();
        list(&scratch.0, Path::new("kernel"), &mut files).unwrap();
        assert_eq!(
            files.into_iter().collect::<Vec<_>>(),
            [PathBuf::from("kernel/src/a.rs")]
        );
    }
}
