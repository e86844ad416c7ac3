//! `lightcell export`: a notebook as a Cargo project.

use crate::place::Place;
use crate::run::read;
use crate::setup;
use crate::ui::{self, problem};
use anyhow::Result;
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
    let exported = project::export(&book, notebook, to, &of, None).map_err(|error| {
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
