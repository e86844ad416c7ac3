//! The command `lightcell`: brings everything Lightcell needs into the user's own folders, checks it, and takes it away
//! again.
//!
//! It builds in seconds because it knows neither evcxr nor libtorch: it runs cargo, a C++ compiler, pip and Jupyter, and
//! puts files in their places. Every step looks first whether its result is already there, so a second run is quick and a
//! killed one is resumed.

mod cache;
mod demo;
mod doctor;
mod draw;
mod export;
mod jupyter;
mod kernel;
mod kernelspec;
mod libtch;
mod libtorch;
mod oracles;
mod pack;
mod papermill;
mod place;
mod preflight;
mod remote;
mod run;
mod selftest;
mod setup;
mod sources;
mod steps;
mod tch;
mod ui;
mod uninstall;
mod wheels;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
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
    /// Run a notebook without a front end: parameters in, executed notebook out
    #[command(
        long_about = "Run a notebook without a front end: parameters in, executed notebook out.\n\nThe exit status is 0, 1 when a cell failed, 2 for a wrong command line, 130 after Ctrl-C. The executed notebook is written after each cell, also when one fails."
    )]
    Run(run::Options),
    /// Take the outputs out of notebooks, or, without FILES, out of what comes in (a filter for git)
    #[command(
        after_help = "As a filter of git, so that commits hold no outputs and your files keep them:\n  git config filter.lightcell.clean 'lightcell clean'\n  echo '*.ipynb filter=lightcell' >> .gitattributes\nCells with the tag keep_output keep theirs."
    )]
    Clean {
        /// Notebooks, changed in their place
        files: Vec<PathBuf>,
    },
    /// Make a Cargo project of a notebook: a program with its hyperparameters as flags
    Export {
        /// The notebook
        notebook: PathBuf,
        /// A folder that is empty, new, or an earlier export
        dir: PathBuf,
    },
    /// Pack a notebook with the files that its cells name, checksums and versions, into one archive
    Pack {
        /// The notebook
        notebook: PathBuf,
        /// Files of its folder that come along, too, such as weights
        #[arg(long, value_name = "FILE", num_args = 1..)]
        with: Vec<PathBuf>,
        /// The archive (NAME.zip beside it)
        #[arg(short, long, value_name = "OUT.zip")]
        output: Option<PathBuf>,
    },
    /// Unpack such an archive, check it, and say which versions differ here
    Unpack {
        /// The archive
        archive: PathBuf,
        /// A folder that is empty or new (that of the archive's name)
        dir: Option<PathBuf>,
    },
    /// Run papermill, with what it needs to know of Rust: `let lr = 0.01;`
    Papermill {
        /// Handed on to papermill
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Draw a figure that a program saved as data
    Draw {
        /// What `.save("roc.svg")` wrote outside of a notebook: `roc.svg.json`
        data: PathBuf,
        /// The picture: .svg or .png
        picture: PathBuf,
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
        Command::Run(options) => run::run(&options),
        Command::Clean { files } => run::clean(&files),
        Command::Export { notebook, dir } => export::run(&notebook, &dir),
        Command::Pack { notebook, with, output } => pack::pack(&notebook, &with, output),
        Command::Unpack { archive, dir } => pack::unpack(&archive, dir),
        Command::Papermill { args } => papermill::run(&args),
        Command::Draw { data, picture } => draw::run(&data, &picture),
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
