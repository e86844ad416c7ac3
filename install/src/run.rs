//! `lightcell run`: a notebook without a front end, with other parameters if wanted. `lightcell clean`: without outputs.

use crate::place::{self, Place};
use crate::ui::{self, problem};
use crate::{jupyter, setup};
use anyhow::{Context, Result};
use lightcell_ipynb::{Notebook, parameters};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Runs the cells, with what they print on the terminal.
const RUN: &str = include_str!("run.py");

/// What to run and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The notebook
    notebook: PathBuf,
    /// A value for a parameter: a `let` of the cell with the tag `parameters`
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// Where the executed notebook goes (NAME.run.ipynb beside it)
    #[arg(short, long, value_name = "OUT.ipynb")]
    output: Option<PathBuf>,
    /// The folder in which cells run (that of the notebook)
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "write NAME=VALUE, such as lr=0.01".to_owned())
}

/// Reads a notebook.
pub fn read(file: &Path) -> Result<Notebook> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        problem(
            format!("cannot read {}: {error}", file.display()),
            "name a notebook, a file that ends in .ipynb",
        )
    })?;
    Notebook::parse(&text).map_err(|error| problem(format!("{}: {error}", file.display()), "name a notebook"))
}

/// Runs it. The status is 1 when a cell failed.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut notebook = read(&options.notebook)?;
    let given = match parameters::give(&mut notebook, &options.parameters) {
        Ok(given) => given,
        Err(wrong) => {
            ui::error(&problem(wrong.message, wrong.hint));
            return Ok(ExitCode::from(2));
        }
    };
    given.notes.iter().for_each(|note| ui::note(note));
    let place = Place::find()?;
    // What is there is not looked over anew: this command stands in scripts.
    let setup = match place.setup() {
        Some(setup) => setup,
        None => setup::run(None)?,
    };
    let source = std::path::absolute(&options.notebook)?;
    let folder = match &options.cwd {
        Some(folder) => std::path::absolute(folder)?,
        None => source.parent().unwrap_or(Path::new("/")).to_owned(),
    };
    if !folder.is_dir() {
        return Err(problem(
            format!("there is no folder {}", folder.display()),
            "name another with --cwd",
        ));
    }
    let out = std::path::absolute(
        options
            .output
            .clone()
            .unwrap_or_else(|| source.with_extension("run.ipynb")),
    )?;
    notebook.clean();
    // Written first: what cannot be written is known before hours of training.
    place::write(&out, notebook.text().as_bytes())?;
    let status = Command::new(&setup.python)
        .args(["-c", RUN])
        .args([&out, &out, &folder])
        .env("JUPYTER_PATH", jupyter::jupyter_path(&setup.kernelspecs))
        // As Jupyter's server does it: the kernel reads the notebook's lock.
        .env("JPY_SESSION_NAME", &out)
        .status()
        .context("cannot run Python")?;
    match status.code() {
        Some(0) => {
            println!("✓ {}", out.display());
            Ok(ExitCode::SUCCESS)
        }
        Some(code @ (1 | 130)) => {
            let what = if code == 1 {
                "a cell failed"
            } else {
                "it was interrupted"
            };
            ui::error(&problem(
                format!("{what}; what ran before is in {}", out.display()),
                format!("look at it: {} lab {}", ui::me(&place), out.display()),
            ));
            Ok(ExitCode::from(code as u8))
        }
        _ => Err(problem(
            "the notebook could not be run; the message is above",
            "run `lightcell doctor`: it says whether something is missing",
        )),
    }
}

/// Takes the outputs away: of files in their place, or of what comes in, as a filter of git.
pub fn clean(files: &[PathBuf]) -> Result<ExitCode> {
    let filter = files.is_empty() || files == [PathBuf::from("-")];
    if filter {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        // Git hands over whatever the pattern names; what is no notebook passes as it is.
        let clean = Notebook::parse(&text).map(|mut notebook| {
            notebook.clean();
            notebook.text()
        });
        let clean = clean.unwrap_or(text);
        std::io::stdout().write_all(clean.as_bytes()).context("cannot write")?;
        return Ok(ExitCode::SUCCESS);
    }
    // All are read before one is written.
    let notebooks: Vec<Notebook> = files.iter().map(|file| read(file)).collect::<Result<_>>()?;
    for (file, mut notebook) in files.iter().zip(notebooks) {
        let before = notebook.clone();
        notebook.clean();
        if notebook == before {
            println!("✓ {} has no outputs", file.display());
        } else {
            place::write(file, notebook.text().as_bytes())?;
            println!("✓ {} without outputs", file.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
