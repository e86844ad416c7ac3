//! `lightcell export`: a notebook as a Cargo project.

use crate::pack;
use crate::place::Place;
use crate::run::read;
use crate::setup;
use crate::ui::{self, problem};
use anyhow::Result;
use lightcell_ipynb::lock::{Lock, prefer};
use lightcell_ipynb::project::{self, Installation};
use std::path::Path;
use std::process::ExitCode;

/// Writes the project and says how to run it.
pub fn run(notebook: &Path, to: &Path) -> Result<ExitCode> {
    let book = read(notebook)?;
    let place = Place::find()?;
    let setup = match place.setup() {
        Some(setup) => setup,
        None => setup::run(None)?,
    };
    let of = Installation {
        src: setup.src.clone(),
        libtorch: setup.libtorch.path.join("lib"),
        libtch: setup.libtch.clone(),
    };
    // The versions of the notebook's lock, and the installation's for all else.
    let own = std::fs::read_to_string(of.src.join("Cargo.lock")).unwrap_or_default();
    let lock = Lock::of(&book);
    for line in lock
        .iter()
        .flat_map(|lock| lock.made_with.differences(&pack::versions(Some(&setup))))
    {
        ui::note(&format!("the notebook was {line}"));
    }
    let lock = lock.map(|lock| prefer(&own, &lock.packages, &own));
    let exported = project::export(&book, notebook, to, &of, lock.as_deref()).map_err(|error| {
        let (what, hint) = error
            .split_once("\nhint: ")
            .unwrap_or((&error, "run the notebook: what runs there can be exported"));
        problem(what, hint)
    })?;
    println!("✓ {} as a program in {}", notebook.display(), to.display());
    for file in &exported.data {
        println!("  with {}", file.display());
    }
    exported.notes.iter().for_each(|note| ui::note(note));
    println!("  cd {} && cargo run --release", to.display());
    Ok(ExitCode::SUCCESS)
}
