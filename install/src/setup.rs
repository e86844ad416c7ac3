//! `lightcell setup`: all steps in their order.

use crate::place::{self, Place, Setup};
use crate::ui::{self, problem};
use crate::{jupyter, kernel, kernelspec, libtch, libtorch, preflight, sources};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// Where the kernelspec goes.
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
}

/// Sets everything up that is not.
pub fn run(options: &Options) -> Result<Setup> {
    let place = Place::find()?;
    let tools = preflight::tools()?;
    std::fs::create_dir_all(&place.root)
        .map_err(|error| problem(format!("cannot make {}: {error}", place.root.display()), "set LIGHTCELL_HOME to a folder that you can write"))?;
    let _lock = place.lock()?;
    place::remove_partial(&place.root);
    let building_from = sources::root(&place)?;
    let src = sources::sync(&place)?;
    preflight::add_rust_src(&tools)?;
    let libtorch = libtorch::provide(&place, &tools)?;
    let libtch = libtch::provide(&place, &tools, &src, &libtorch)?;
    place::write(&place.join(".cargo/config.toml"), libtch::cargo_config(&libtorch, &libtch).as_bytes())?;
    let program = kernel::build(&place, &tools, &building_from)?;
    let python = jupyter::provide(&place, &tools)?;
    let kernels = kernels_folder(options, &python)?;
    let mut setup = Setup {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cargo: tools.cargo.clone(),
        rustc: tools.rustc.clone(),
        rustc_version: tools.rustc_version.clone(),
        libtorch,
        libtch,
        src,
        python,
        kernelspecs: place.setup().map(|old| old.kernelspecs).unwrap_or_default(),
    };
    let spec = kernels.join(kernelspec::NAME);
    if !setup.kernelspecs.contains(&spec) {
        setup.kernelspecs.push(spec);
    }
    place::write(&place.join("setup.json"), (serde_json::to_string_pretty(&setup)? + "\n").as_bytes())?;
    kernel::prepare(&place, &program)?;
    kernelspec::install(&place, &tools, &kernels)?;
    command(&place)?;
    Ok(setup)
}

/// The `kernels` folder that was asked for.
fn kernels_folder(options: &Options, python: &std::path::Path) -> Result<PathBuf> {
    if let Some(prefix) = &options.prefix {
        return Ok(std::path::absolute(prefix)?.join("share/jupyter/kernels"));
    }
    if options.sys_prefix {
        let prefix = place::output(Command::new(python).args(["-c", "import sys; print(sys.prefix)"]))?;
        return Ok(PathBuf::from(prefix).join("share/jupyter/kernels"));
    }
    Ok(place::jupyter_data()?.join("kernels"))
}

/// Puts this program into the installation and a link to it into the user's own folder of programs.
fn command(place: &Place) -> Result<()> {
    let me = std::env::current_exe().context("cannot find this program")?;
    let program = place.join("bin/lightcell");
    if me.canonicalize().ok() != program.canonicalize().ok() || !program.exists() {
        place::write(&program, &std::fs::read(&me)?)?;
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    }
    let bin = place::user_bin()?;
    let link = bin.join("lightcell");
    match std::fs::read_link(&link) {
        Ok(old) if old == program => {}
        // A file of another origin stays.
        Err(_) if link.exists() => {
            ui::note(&format!("{} is another program; this one is {}", link.display(), program.display()));
            return Ok(());
        }
        _ => {
            std::fs::create_dir_all(&bin)?;
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&program, &link).with_context(|| format!("cannot write {}", link.display()))?;
        }
    }
    let on_path = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder == bin));
    if !on_path {
        ui::note(&format!("the command `lightcell` is in {}, which is not on your PATH", bin.display()));
    }
    Ok(())
}
