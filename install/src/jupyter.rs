//! Jupyter: the user's, when it has what is needed, else a private environment.

use crate::place::{self, Place, on_path, output};
use crate::preflight::Tools;
use crate::ui::{self, Step, problem};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Whether it has what it must have; looking is quicker than importing.
const MODULES: &str = "\
import sys
from importlib.util import find_spec
sys.exit(not all(map(find_spec, ('jupyterlab', 'nbclient', 'nbconvert', 'jupyter_client'))))";

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
    crate::preflight::check_disk(&place.root, 400_000_000)?;
    let step = Step::new("Jupyter (private)");
    step.bytes(245_000_000);
    let folder = place.join("jupyter");
    let packages = ["jupyterlab", "nbclient", "nbconvert"];
    let python = environment(place, &tools.python)?;
    pip_install(place, &python, &packages, &folder, &step)?;
    if !works(&python) {
        // Damaged in a way that pip does not see: from the beginning.
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        environment(place, &tools.python)?;
        pip_install(place, &python, &packages, &folder, &step)?;
    }
    step.done(&format!("installed, {} on disk", ui::size(place::size(&folder))));
    Ok(python)
}

/// The Python of the `jupyter` on PATH, when it has all modules.
fn of_user() -> Option<PathBuf> {
    let jupyter = on_path("jupyter")?;
    if let Some(python) = of_first_line(&std::fs::read(&jupyter).ok()?).filter(|python| works(python)) {
        return Some(python);
    }
    // A shim or a shell script (pyenv's, or one whose path is too long for a first line): Jupyter knows its prefix.
    let paths = output(Command::new(&jupyter).args(["--paths", "--json"])).ok()?;
    of_paths(&paths).into_iter().find(|python| works(python))
}

/// The interpreter that a script's first line names.
fn of_first_line(script: &[u8]) -> Option<PathBuf> {
    let first = String::from_utf8_lossy(script.split(|byte| *byte == b'\n').next()?).into_owned();
    let python = PathBuf::from(first.strip_prefix("#!")?.split_whitespace().next()?);
    python
        .file_name()?
        .to_string_lossy()
        .starts_with("python")
        .then_some(python)
}

/// Pythons of the prefixes whose share/jupyter is among Jupyter's data folders.
fn of_paths(json: &str) -> Vec<PathBuf> {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let folders = value["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|folder| folder.as_str());
    folders
        .filter_map(|folder| Some(Path::new(folder.strip_suffix("/share/jupyter")?).join("bin/python3")))
        .collect()
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
    output(Command::new(python).args(["-m", "venv"]).arg(folder)).map_err(|error| {
        problem(
            format!("Python cannot make an environment: {error}"),
            "install its venv module: apt install python3-venv",
        )
    })?;
    Ok(own)
}

/// Installs packages into an environment; the bar shows how it grows.
pub fn pip_install(place: &Place, python: &Path, packages: &[&str], folder: &Path, step: &Step) -> Result<()> {
    let mut command = Command::new(python);
    command
        .args([
            "-m",
            "pip",
            "install",
            "--progress-bar=off",
            "--upgrade-strategy=only-if-needed",
        ])
        .args(packages);
    place::run_watched(
        &mut command,
        &place.join("logs/pip-install.log"),
        "the installation with pip",
        &mut || step.at(place::size(folder), ""),
    )
}

/// Opens JupyterLab with the notebooks: the clone's, when it is there.
pub fn lab(args: &[String]) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let setup = crate::setup::run(None)?;
    let place = Place::find()?;
    let sources = crate::sources::root(&place)?;
    let notebooks = if sources == setup.src {
        place.join("notebooks")
    } else {
        sources.join("notebooks")
    };
    let mut command = Command::new(&setup.python);
    command
        .args(["-m", "jupyterlab"])
        .args(args.iter().map(|arg| absolute(arg)))
        .current_dir(notebooks);
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } == 0 {
        // In a container one is often root, and Jupyter would only say that it wants this.
        command.arg("--allow-root");
    }
    command.env("JUPYTER_PATH", jupyter_path(&setup.kernelspecs));
    Err(command.exec()).context("cannot start JupyterLab")
}

/// A file that is named from the user's folder, as JupyterLab starts in another one.
fn absolute(arg: &str) -> PathBuf {
    let path = PathBuf::from(arg);
    if path.exists() {
        std::path::absolute(&path).unwrap_or(path)
    } else {
        path
    }
}

/// Folders in which this installation's kernelspecs are found, whatever Jupyter runs them, before those of the user's.
pub fn jupyter_path(kernelspecs: &[PathBuf]) -> std::ffi::OsString {
    let own = kernelspecs
        .iter()
        .filter_map(|spec| spec.parent()?.parent())
        .map(Path::to_owned);
    let users = std::env::var_os("JUPYTER_PATH").unwrap_or_default();
    std::env::join_paths(own.chain(std::env::split_paths(&users).filter(|path| !path.as_os_str().is_empty())))
        .unwrap_or(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jupyters_python_is_found() {
        assert_eq!(
            of_first_line(b"#!/a/bin/python3.11\nimport re"),
            Some("/a/bin/python3.11".into())
        );
        assert_eq!(of_first_line(b"#!/usr/bin/env bash\nexec pyenv"), None);
        assert_eq!(of_first_line(b"#!/bin/sh\nexec /a/very/long/path/python"), None);
        assert_eq!(of_first_line(b"\x7fELF"), None);
        let paths = r#"{"config": ["/x"], "data": ["/home/u/.local/share/jupyter", "/v/share/jupyter", "/odd"]}"#;
        assert_eq!(
            of_paths(paths),
            [PathBuf::from("/home/u/.local/bin/python3"), "/v/bin/python3".into()]
        );
        assert_eq!(of_paths("no JSON"), Vec::<PathBuf>::new());
    }

    #[test]
    fn files_are_named_from_the_users_folder_and_flags_stay() {
        assert_eq!(absolute("--no-browser"), Path::new("--no-browser"));
        assert!(absolute("Cargo.toml").is_absolute());
    }

    #[test]
    fn own_kernelspecs_come_first_on_jupyters_path() {
        let path = jupyter_path(&["/a/jupyter/kernels/lightcell".into()]);
        assert_eq!(std::env::split_paths(&path).next(), Some("/a/jupyter".into()));
    }
}
