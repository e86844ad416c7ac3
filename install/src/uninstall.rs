//! `lightcell uninstall`: takes away what setup made, and nothing else.

use crate::place::{self, Place};
use crate::sources;
use crate::ui::{self, problem};
use anyhow::{Context, Result};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What setup makes in the installation's folder.
const PARTS: [&str; 23] = [
    "bin",
    "src",
    "libtorch",
    "libtch",
    ".cargo",
    "stubs",
    "toolchains",
    "tools",
    "store",
    "sessions",
    "kept",
    "cache",
    "jupyter",
    "logs",
    "build",
    "demo",
    "papermill",
    "testenv",
    "oracles",
    "testdata",
    "history.jsonl",
    "runs",
    "setup.json",
];

/// Removes it all.
pub fn run(yes: bool) -> Result<ExitCode> {
    let place = Place::find()?;
    let specs = kernelspecs(&place);
    if !place.root.exists() && specs.is_empty() {
        println!("There is nothing to remove: {} does not exist.", place.root.display());
        return Ok(ExitCode::SUCCESS);
    }
    if !place.is_ours() && specs.is_empty() {
        return Err(problem(
            format!("{} is no installation of Lightcell", place.root.display()),
            "set LIGHTCELL_HOME to the folder that setup used, or unset it",
        ));
    }
    let kept = sources::of_user(&place);
    println!(
        "This removes {} ({})",
        place.root.display(),
        ui::size(place::size(&place.root))
    );
    for spec in &specs {
        println!("and the kernelspec {}", spec.display());
    }
    if !kept.is_empty() {
        println!(
            "but not your own notebooks and files in {}: {}",
            place.join("notebooks").display(),
            names(&kept)
        );
    }
    if !yes && std::io::stdin().is_terminal() && !ui::confirmed("Go on?")? {
        println!("Nothing was removed.");
        return Ok(ExitCode::FAILURE);
    }
    // Not below the feet of a set-up that runs.
    let lock = place.root.exists().then(|| place.lock()).transpose()?;
    for spec in specs {
        remove(&spec)?;
    }
    let link = place::user_bin()?.join("lightcell");
    if std::fs::read_link(&link).is_ok_and(|target| target == place.join("bin/lightcell")) {
        remove(&link)?;
    }
    for part in PARTS {
        remove(&place.join(part))?;
    }
    remove_notebooks(&place.join("notebooks"), &kept)?;
    place::remove_partial(&place.root);
    remove(&place.join(place::LOCK))?;
    drop(lock);
    // Only if nothing of the user's is left in it.
    let _ = std::fs::remove_dir(&place.root);
    println!("Lightcell is removed.");
    if place.root.exists() {
        ui::note(&format!(
            "{} holds files that are not Lightcell's and stays",
            place.root.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The first few names.
fn names(files: &[PathBuf]) -> String {
    let shown: Vec<_> = files
        .iter()
        .take(3)
        .map(|file| file.file_name().unwrap_or_default().to_string_lossy())
        .collect();
    let more = files.len().saturating_sub(3);
    if more == 0 {
        shown.join(", ")
    } else {
        format!("{} and {more} more", shown.join(", "))
    }
}

/// Removes the folder of notebooks but for what is the user's.
fn remove_notebooks(folder: &Path, kept: &[PathBuf]) -> Result<()> {
    if kept.is_empty() {
        return remove(folder);
    }
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        match kept.iter().any(|file| file.starts_with(&path)) {
            true if path.is_dir() => remove_notebooks(&path, kept)?,
            true => {}
            false => remove(&path)?,
        }
    }
    Ok(())
}

/// Those that setup recorded and the user's default one, as far as they are this installation's.
fn kernelspecs(place: &Place) -> Vec<PathBuf> {
    let mut list = place.setup().map(|setup| setup.kernelspecs).unwrap_or_default();
    list.extend(place::jupyter_data().map(|data| data.join("kernels").join(crate::kernelspec::NAME)));
    list.extend(crate::remote::kernelspecs());
    list.sort();
    list.dedup();
    let programs = ["lightcell-kernel", "lightcell-remote"].map(|name| place.join("bin").join(name));
    let programs = programs.map(|program| format!("\"{}\"", program.display()));
    let ours = |text: String| programs.iter().any(|program| text.contains(program));
    list.retain(|spec| std::fs::read_to_string(spec.join("kernel.json")).is_ok_and(ours));
    list
}

fn remove(path: &Path) -> Result<()> {
    let result = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    result.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn the_users_notebooks_stay() {
        let scratch = Scratch::new("uninstall");
        for name in ["a.ipynb", "data/b.csv", "more/mine.ipynb", "more/c.ipynb"] {
            place::write(&scratch.0.join("notebooks").join(name), b"").unwrap();
        }
        let folder = scratch.0.join("notebooks");
        let kept = [folder.join("more/mine.ipynb")];
        remove_notebooks(&folder, &kept).unwrap();
        assert!(kept[0].exists());
        assert_eq!(
            (
                std::fs::read_dir(&folder).unwrap().count(),
                std::fs::read_dir(folder.join("more")).unwrap().count()
            ),
            (1, 1)
        );
        remove_notebooks(&folder, &[]).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn many_names_are_counted() {
        let files: Vec<PathBuf> = ["/x/a", "/x/b", "/x/c", "/x/d", "/x/e"].map(PathBuf::from).to_vec();
        assert_eq!(
            (names(&files[..2]), names(&files)),
            ("a, b".to_owned(), "a, b, c and 2 more".to_owned())
        );
    }
}
