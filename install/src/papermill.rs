//! `lightcell papermill`: papermill with what it needs to know of Rust and of this installation's kernel.

use crate::jupyter;
use crate::place::{self, Place, on_path};
use crate::setup;
use crate::ui::problem;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const MODULE: &str = include_str!("papermill/lightcell_papermill.py");

/// Writes the module and what makes it a distribution with an entry point; Python finds both on its path.
fn write(place: &Place) -> Result<PathBuf> {
    let folder = place.join("papermill");
    let version = env!("CARGO_PKG_VERSION");
    let about = folder.join(format!("lightcell_papermill-{version}.dist-info"));
    let metadata = format!("Metadata-Version: 2.1\nName: lightcell-papermill\nVersion: {version}\n");
    place::write(&folder.join("lightcell_papermill.py"), MODULE.as_bytes())?;
    place::write(&about.join("METADATA"), metadata.as_bytes())?;
    let entry = "[papermill.engine]\nlightcell = lightcell_papermill:Engine\n";
    place::write(&about.join("entry_points.txt"), entry.as_bytes())?;
    Ok(folder)
}

/// Becomes papermill: that on PATH, else that of the Python that runs Jupyter.
pub fn run(args: &[String]) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let place = Place::find()?;
    let setup = match place.setup() {
        Some(setup) => setup,
        None => setup::run(None)?,
    };
    let folder = write(&place)?;
    let of_python = Command::new(&setup.python).args(["-c", "import papermill"]).output();
    let mut command = match on_path("papermill") {
        Some(program) => Command::new(program),
        None if of_python.is_ok_and(|out| out.status.success()) => {
            let mut command = Command::new(&setup.python);
            command.args(["-m", "papermill"]);
            command
        }
        None => {
            return Err(problem(
                "there is no papermill",
                "`lightcell run` does the same without it; or install it: pip install papermill",
            ));
        }
    };
    let users = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let users = std::env::split_paths(&users).filter(|path| !path.as_os_str().is_empty());
    let path = std::env::join_paths([folder].into_iter().chain(users)).context("PYTHONPATH cannot be made")?;
    command
        .args(args)
        .env("PYTHONPATH", path)
        .env("JUPYTER_PATH", jupyter::jupyter_path(&setup.kernelspecs));
    // As Jupyter's server does it: the kernel reads the lock of the notebook, which is the first that is named.
    if let Some(notebook) = args.iter().find(|arg| arg.ends_with(".ipynb")) {
        command.env("JPY_SESSION_NAME", std::path::absolute(notebook)?);
    }
    Err(command.exec()).context("cannot start papermill")
}
