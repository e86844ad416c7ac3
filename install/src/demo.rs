//! `lightcell demo`: the main job, from nothing to a trained network in a notebook.

use crate::place::{self, Place};
use crate::ui::{self, problem};
use crate::{jupyter, setup};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Runs a notebook from its first to its last cell and saves it; says each cell before it runs.
const EXECUTE: &str = include_str!("execute.py");

/// The accuracy that the network must reach on data it has not seen, in percent.
const NEEDED: f64 = 97.0;

/// Sets up and runs the demo.
pub fn run() -> Result<ExitCode> {
    let place = Place::find()?;
    let setup = setup::run(None)?;
    let own = place.join("notebooks/quickstart.ipynb");
    let notebook = place::set("LIGHTCELL_DEMO_NOTEBOOK").unwrap_or_else(|| own.clone());
    if !notebook.is_file() {
        return Err(problem(
            format!("there is no notebook {}", notebook.display()),
            "name another in LIGHTCELL_DEMO_NOTEBOOK, or unset it",
        ));
    }
    let executed = place.join("demo").join(notebook.file_name().unwrap_or_default());
    println!("\nTraining a first network: {}", notebook.display());
    let result = execute(&setup.python, &setup.kernelspecs, &notebook, &executed);
    if result.is_err()
        && notebook == own
        && std::fs::read(&own).ok() != std::fs::read(place.join("src/notebooks/quickstart.ipynb")).ok()
    {
        ui::note(&format!(
            "{} was changed since it was installed; remove it, and the next run brings the original",
            own.display()
        ));
    }
    result?;
    let accuracy = std::fs::read_to_string(&executed).ok().as_deref().and_then(accuracy);
    println!("\nThe executed notebook: {}", executed.display());
    println!("Open it in JupyterLab: {} lab {}", ui::me(&place), executed.display());
    match accuracy {
        Some(percent) if percent >= NEEDED => {
            println!("Test accuracy, read from the executed notebook: {percent} %");
            Ok(ExitCode::SUCCESS)
        }
        Some(percent) => Err(problem(
            format!("the test accuracy in the executed notebook is {percent} %, below {NEEDED} %"),
            "run it again; if it stays so, please report it with the notebook",
        )),
        None => Err(problem(
            "the executed notebook holds no test accuracy",
            format!("open it and look: {}", executed.display()),
        )),
    }
}

/// Executes a notebook headless.
pub fn execute(python: &Path, kernelspecs: &[PathBuf], notebook: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let _ = std::fs::remove_file(to);
    // What the notebook reads lies beside it; so it does beside the executed one, which then runs again where it is.
    let data = notebook.with_file_name("data");
    if let (true, Some(folder)) = (data.is_dir(), to.parent()) {
        let link = folder.join("data");
        if std::fs::read_link(&link).ok().as_ref() != Some(&data) {
            let _ = std::fs::remove_file(&link);
            let _ = std::os::unix::fs::symlink(&data, &link);
        }
    }
    let status = Command::new(python)
        .args(["-c", EXECUTE])
        .arg(notebook)
        .arg(to)
        .env("JUPYTER_PATH", jupyter::jupyter_path(kernelspecs))
        .status()
        .context("cannot run Python")?;
    if status.success() {
        return Ok(());
    }
    Err(problem(
        format!("the notebook {} failed; the message is above", notebook.display()),
        "run `lightcell doctor`: it says whether something is missing",
    ))
}

/// The number after `test accuracy` in an output of a notebook.
pub fn accuracy(notebook: &str) -> Option<f64> {
    let value: serde_json::Value = serde_json::from_str(notebook).ok()?;
    let text = |value: &serde_json::Value| -> String {
        match value {
            serde_json::Value::Array(lines) => lines.iter().filter_map(|line| line.as_str()).collect(),
            other => other.as_str().unwrap_or_default().to_owned(),
        }
    };
    let outputs = value["cells"]
        .as_array()?
        .iter()
        .filter_map(|cell| cell["outputs"].as_array())
        .flatten();
    let texts = outputs.map(|output| text(&output["text"]) + &text(&output["data"]["text/plain"]));
    let numbers: Vec<f64> = texts
        .filter_map(|text| number_after(&text.to_lowercase(), "test accuracy"))
        .collect();
    numbers.last().copied()
}

fn number_after(text: &str, mark: &str) -> Option<f64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let start = rest.find(|c: char| c.is_ascii_digit())?;
    let number: String = rest[start..]
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    rest[start + number.len()..]
        .trim_start()
        .starts_with('%')
        .then(|| number.parse().ok())
        .flatten()
}

/// Says how much of the disk is in use; for doctor.
pub fn store_size(place: &Place) -> String {
    ui::size(place::size(&place.join("store")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notebook(output: &str) -> String {
        format!(
            r#"{{"cells": [{{"cell_type": "markdown"}}, {{"source": ["test accuracy 99 %"], "outputs": [{output}]}}]}}"#
        )
    }

    #[test]
    fn the_accuracy_is_read_from_outputs_only() {
        assert_eq!(
            accuracy(&notebook(r#"{"text": ["x\n", "test accuracy 97.8 %\n"]}"#)),
            Some(97.8)
        );
        assert_eq!(
            accuracy(&notebook(r#"{"data": {"text/plain": "Test accuracy: 9.5 %"}}"#)),
            Some(9.5)
        );
        assert_eq!(accuracy(&notebook("")), None);
        assert_eq!(accuracy(&notebook(r#"{"text": "test accuracy unknown"}"#)), None);
        assert_eq!(accuracy(&notebook(r#"{"text": "test accuracy 97 of 100"}"#)), None);
        assert_eq!(accuracy("not a notebook"), None);
    }
}
