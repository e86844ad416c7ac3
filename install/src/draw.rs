//! `lightcell draw`: what a program saved of a figure becomes a picture. The kernel's program draws, as it does in a notebook.

use crate::place::Place;
use crate::ui::problem;
use anyhow::Result;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Draws the data of one file into another.
pub fn run(data: &Path, picture: &Path) -> Result<ExitCode> {
    let kernel = Place::find()?.join("bin/lightcell-kernel");
    let drawn = Command::new(&kernel)
        .arg("draw")
        .args([data, picture])
        .status()
        .map_err(|error| {
            let what = format!("{} does not run: {error}", kernel.display());
            problem(what, "`lightcell setup` puts it there")
        })?;
    if !drawn.success() {
        return Ok(ExitCode::FAILURE);
    }
    println!("✓ {}", picture.display());
    Ok(ExitCode::SUCCESS)
}
