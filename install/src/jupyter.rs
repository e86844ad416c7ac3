//! Jupyter: the user's, when it has what is needed, else a private environment.

use crate::place::{self, Place, on_path, output};
use crate::preflight::Tools;
use crate::ui::{self, Step, problem};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What it must have.
const MODULES: &str = "import jupyterlab, nbclient, nbconvert, jupyter_client";

/// The Python that runs Jupyter.
pub fn provide(place: &Place, tools: &Tools) -> Result<PathBuf> {
    if let Some(python) = of_user() {
        ui::already("Jupyter", &format!("the one on PATH ({})", python.display()));
        return Ok(python);
    }
    let python = place.join("jupyter/bin/python");
    if works(&python) {
        ui::already("Jupyter", "is there (private)");
        return Ok(python);
    }
    let step = Step::new("Jupyter (private, about 300 MB)");
    let python = environment(place, &tools.python)?;
    pip_install(place, &python, &["jupyterlab", "nbclient", "nbconvert"])?;
    step.done("installed");
    Ok(python)
}

/// The Python of the `jupyter` on PATH, when it has all modules.
fn of_user() -> Option<PathBuf> {
    let script = std::fs::read(on_path("jupyter")?).ok()?;
    let first = String::from_utf8_lossy(script.split(|byte| *byte == b'\n').next()?).into_owned();
    let python = PathBuf::from(first.strip_prefix("#!")?.split_whitespace().next()?);
    works(&python).then_some(python)
}

/// Whether a Python has all modules.
pub fn works(python: &Path) -> bool {
    python.is_file() && output(Command::new(python).args(["-c", MODULES])).is_ok()
}

/// Makes the private environment.
pub fn environment(place: &Place, python: &Path) -> Result<PathBuf> {
    make_environment(&place.join("jupyter"), python)
}

/// Makes an environment; a broken one is made anew.
pub fn make_environment(folder: &Path, python: &Path) -> Result<PathBuf> {
    let own = folder.join("bin/python");
    if own.is_file() && output(Command::new(&own).args(["-m", "pip", "--version"])).is_ok() {
        return Ok(own);
    }
    let _ = std::fs::remove_dir_all(folder);
    output(Command::new(python).args(["-m", "venv"]).arg(folder))
        .map_err(|error| problem(format!("Python cannot make an environment: {error}"), "install its venv module: apt install python3-venv"))?;
    Ok(own)
}

/// Installs packages into an environment.
pub fn pip_install(place: &Place, python: &Path, packages: &[&str]) -> Result<()> {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--progress-bar=off", "--upgrade-strategy=only-if-needed"]).args(packages);
    place::run_logged(&mut command, &place.join("logs/pip-install.log"), "the installation with pip")
}

/// Opens JupyterLab with the notebooks.
pub fn lab(args: &[String]) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let setup = crate::setup::run(&crate::setup::Options::default())?;
    let place = Place::find()?;
    let mut command = Command::new(&setup.python);
    command.args(["-m", "jupyterlab"]).args(args).current_dir(place.join("notebooks"));
    command.env("JUPYTER_PATH", jupyter_path(&setup.kernelspecs));
    Err(command.exec()).context("cannot start JupyterLab")
}

/// Folders in which this installation's kernelspecs are found, whatever Jupyter runs them, before those of the user's.
pub fn jupyter_path(kernelspecs: &[PathBuf]) -> std::ffi::OsString {
    let own = kernelspecs.iter().filter_map(|spec| spec.parent()?.parent()).map(Path::to_owned);
    let users = std::env::var_os("JUPYTER_PATH").unwrap_or_default();
    std::env::join_paths(own.chain(std::env::split_paths(&users).filter(|path| !path.as_os_str().is_empty()))).unwrap_or(users)
}
