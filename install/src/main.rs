//! The command `lightcell`: brings everything Lightcell needs into the user's own folders, checks it, and takes it away
//! again.
//!
//! It builds in seconds because it knows neither evcxr nor libtorch: it runs cargo, a C++ compiler, pip and Jupyter, and
//! puts files in their places. Every step looks first whether its result is already there, so a second run is quick and a
//! killed one is resumed.

mod cache;
mod demo;
mod doctor;
mod jupyter;
mod kernel;
mod kernelspec;
mod libtch;
mod libtorch;
mod oracles;
mod place;
mod preflight;
mod remote;
mod selftest;
mod setup;
mod sources;
mod tch;
mod ui;
mod uninstall;
mod wheels;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "lightcell", version, about = "Rust notebooks that train neural networks")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set everything up and train a first network in a notebook
    Demo,
    /// Set everything up: libtorch, Jupyter, the kernel, its warm store
    Setup(setup::Options),
    /// Open JupyterLab with the example notebooks
    Lab {
        /// Handed on to JupyterLab
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the project's tests (in a clone of the repository)
    Selftest {
        /// Install what the tests need; a skipped test is a failure
        #[arg(long)]
        full: bool,
    },
    /// Show what is there, what is missing, and how to mend it
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show, limit or clear what later kernels reuse of the crates that `:dep` compiled
    Cache(cache::Options),
    /// Run kernels on other machines: over SSH, in Slurm's allocations
    #[command(subcommand)]
    Remote(remote::Action),
    /// Remove everything that setup made
    Uninstall {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = preflight::platform().and_then(|()| match args.command {
        Command::Demo => demo::run(),
        Command::Setup(options) => setup::run(Some(&options)).map(|_| ExitCode::SUCCESS),
        Command::Lab { args } => jupyter::lab(&args),
        Command::Selftest { full } => selftest::run(full),
        Command::Doctor { json } => doctor::run(json),
        Command::Cache(options) => cache::run(&options),
        Command::Remote(action) => remote::run(action),
        Command::Uninstall { yes } => uninstall::run(yes),
    });
    result.unwrap_or_else(|error| {
        ui::error(&error);
        ExitCode::FAILURE
    })
}
