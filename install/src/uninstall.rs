//! `lightcell uninstall`: takes away what setup made, and nothing else.

use crate::place::{self, Place};
use crate::ui;
use anyhow::{Context, Result};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What setup makes in the installation's folder.
const PARTS: [&str; 16] = [
    "bin", "src", "notebooks", "libtorch", "libtch", ".cargo", "toolchains", "store", "sessions", "jupyter", "logs", "build", "demo", "testenv", "testdata",
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
    println!("This removes {} ({}), notebooks in it included,", place.root.display(), ui::size(place::size(&place.root)));
    for spec in &specs {
        println!("and the kernelspec {}.", spec.display());
    }
    if !yes && std::io::stdin().is_terminal() {
        print!("Go on? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            println!("Nothing was removed.");
            return Ok(ExitCode::FAILURE);
        }
    }
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
    for file in ["history.jsonl", ".setup.lock"] {
        remove(&place.join(file))?;
    }
    place::remove_partial(&place.root);
    // Only if nothing of the user's is left in it.
    let _ = std::fs::remove_dir(&place.root);
    println!("Lightcell is removed.");
    if place.root.exists() {
        ui::note(&format!("{} holds files that are not Lightcell's and stays", place.root.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Those that setup recorded and the user's default one, as far as they are this installation's.
fn kernelspecs(place: &Place) -> Vec<PathBuf> {
    let mut list = place.setup().map(|setup| setup.kernelspecs).unwrap_or_default();
    list.extend(place::jupyter_data().map(|data| data.join("kernels").join(crate::kernelspec::NAME)));
    list.sort();
    list.dedup();
    let program = place.join("bin/lightcell-kernel").to_string_lossy().into_owned();
    list.retain(|spec| std::fs::read_to_string(spec.join("kernel.json")).is_ok_and(|text| text.contains(&program)));
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
