//! `lightcell setup`: all steps in their order.

use crate::place::{self, Place, Setup};
use crate::ui::{self, problem};
use crate::{jupyter, kernel, kernelspec, libtch, libtorch, preflight, sources, tch};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which libtorch is used, and where the kernelspec goes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Register the kernelspec for this user (the default)
    #[arg(long, conflicts_with_all = ["sys_prefix", "prefix"])]
    user: bool,
    /// Register it in the environment of the Python that runs Jupyter
    #[arg(long, conflicts_with = "prefix")]
    sys_prefix: bool,
    /// Register it below this folder (in share/jupyter/kernels)
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// Use this PyTorch or libtorch (2.11 to 2.13): its folder, a Python that has it, or an environment; `fetch` for the
    /// one that setup fetches
    #[arg(long, value_name = "PATH")]
    torch: Option<PathBuf>,
}

/// Sets everything up that is not. Without options the kernelspec stays where it was registered before.
pub fn run(options: Option<&Options>) -> Result<Setup> {
    let place = Place::find()?;
    let tools = preflight::tools()?;
    place.check_free()?;
    if !place.is_ours() {
        preflight::check_disk_for_all(&place.root, libtorch::variant()?)?;
    }
    std::fs::create_dir_all(&place.root).map_err(|error| {
        problem(
            format!("cannot make {}: {error}", place.root.display()),
            "set LIGHTCELL_HOME to a folder that you can write",
        )
    })?;
    let _lock = place.lock()?;
    for folder in ["", "bin", "testdata"] {
        place::remove_partial(&place.join(folder));
    }
    preflight::no_workspace_above(&place.root, &tools.cargo)?;
    let building_from = sources::root(&place)?;
    let torch = options.and_then(|options| options.torch.as_deref());
    let libtorch = libtorch::provide(&place, &tools, torch)?;
    let tch = tch::of(&libtorch.version).context("a libtorch that does not work was taken")?;
    let src = sources::sync(&place, tch)?;
    preflight::add_rust_src(&tools)?;
    let libtch = libtch::provide(&place, &tools, &src, &libtorch)?;
    place::write(
        &place.join(".cargo/config.toml"),
        libtch::cargo_config(&libtorch, &libtch).as_bytes(),
    )?;
    let program = kernel::build(&place, &tools, &building_from)?;
    let python = jupyter::provide(&place, &tools)?;
    let recorded = place.setup().map(|old| old.kernelspecs).unwrap_or_default();
    let kernelspecs = kernelspecs(options, &python, recorded)?;
    let setup = Setup {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cargo: tools.cargo.clone(),
        rustc: tools.rustc.clone(),
        rustc_version: tools.rustc_version.clone(),
        libtorch,
        libtch,
        src,
        python,
        kernelspecs,
    };
    place::write(
        &place.join("setup.json"),
        (serde_json::to_string_pretty(&setup)? + "\n").as_bytes(),
    )?;
    kernel::prepare(&place, &program)?;
    for spec in &setup.kernelspecs {
        kernelspec::install(&place, &tools, spec)?;
    }
    command(&place)?;
    Ok(setup)
}

/// Where the kernelspec is to be: in the folder that was asked for, and where it was registered before, as long as the
/// environment there still exists.
fn kernelspecs(options: Option<&Options>, python: &Path, recorded: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let default = place::jupyter_data()?.join("kernels").join(kernelspec::NAME);
    let mut list: Vec<PathBuf> = recorded
        .into_iter()
        .filter(|spec| *spec == default || spec.parent().is_some_and(Path::is_dir))
        .collect();
    let asked = match options {
        None if !list.is_empty() => return Ok(list),
        None => default,
        Some(Options {
            prefix: Some(prefix), ..
        }) => in_prefix(&std::path::absolute(prefix)?),
        Some(Options { sys_prefix: true, .. }) => in_prefix(Path::new(&place::output(
            Command::new(python).args(["-c", "import sys; print(sys.prefix)"]),
        )?)),
        Some(_) => default,
    };
    if !list.contains(&asked) {
        list.push(asked);
    }
    Ok(list)
}

fn in_prefix(prefix: &Path) -> PathBuf {
    prefix.join("share/jupyter/kernels").join(kernelspec::NAME)
}

/// Puts this program into the installation and a link to it into the user's own folder of programs.
fn command(place: &Place) -> Result<()> {
    let me = std::env::current_exe().context("cannot find this program")?;
    let program = place.join("bin/lightcell");
    if me.canonicalize().ok() != program.canonicalize().ok() || !program.exists() {
        // By this name it is there although cargo has built another one in its place meanwhile.
        let me = std::fs::read("/proc/self/exe").context("cannot read this program")?;
        place::write(&program, &me)?;
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    }
    let bin = place::user_bin()?;
    let link = bin.join("lightcell");
    let points_to = std::fs::read_link(&link).ok();
    if points_to.as_ref() != Some(&program) {
        // What is of another origin stays.
        if link.exists() && !points_to.is_some_and(|target| is_ours(&target)) {
            ui::note(&format!(
                "{} is another program; this one is {}",
                link.display(),
                program.display()
            ));
            return Ok(());
        }
        std::fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&program, &link).with_context(|| format!("cannot write {}", link.display()))?;
    }
    let on_path = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder == bin));
    if !on_path {
        ui::note(&format!(
            "the command `lightcell` is in {}, which is not on your PATH",
            bin.display()
        ));
    }
    Ok(())
}

/// Whether a program is that of an installation, this one or another.
fn is_ours(program: &Path) -> bool {
    program.ends_with("bin/lightcell")
        && program
            .parent()
            .is_some_and(|bin| bin.join("lightcell-kernel").exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn the_kernelspec_stays_where_it_was_asked_for() {
        let scratch = Scratch::new("specs");
        let default = place::jupyter_data().unwrap().join("kernels/lightcell");
        let python = Path::new("python3");
        let prefix = Options {
            prefix: Some(scratch.0.clone()),
            ..Options::default()
        };
        let asked = scratch.0.join("share/jupyter/kernels/lightcell");
        let list = kernelspecs(Some(&prefix), python, vec![]).unwrap();
        assert_eq!(list, std::slice::from_ref(&asked));
        // Its folder is there once it is installed; without options nothing else is registered.
        std::fs::create_dir_all(&asked).unwrap();
        assert_eq!(kernelspecs(None, python, list.clone()).unwrap(), list);
        assert_eq!(
            kernelspecs(Some(&Options::default()), python, list.clone()).unwrap(),
            [asked, default.clone()]
        );
        // An environment that is gone is forgotten.
        std::fs::remove_dir_all(&scratch.0).unwrap();
        assert_eq!(kernelspecs(None, python, list).unwrap(), [default]);
    }

    #[test]
    fn a_program_of_another_origin_is_not_ours() {
        let scratch = Scratch::new("ours");
        let program = scratch.0.join("bin/lightcell");
        place::write(&program, b"").unwrap();
        assert!(!is_ours(&program));
        place::write(&scratch.0.join("bin/lightcell-kernel"), b"").unwrap();
        assert!(is_ours(&program));
        assert!(!is_ours(&scratch.0.join("bin/lightcell-kernel")));
    }
}
