//! What a notebook is given away as: run without a front end, with other values, as a program.

use lightcell_tests::{Kernel, Scratch, file, home, python};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

fn notebook(cells: &[(&str, &[&str])]) -> Value {
    let cells: Vec<Value> = cells
        .iter()
        .enumerate()
        .map(|(at, (text, tags))| {
            json!({"cell_type": "code", "id": format!("c{at}"), "execution_count": null, "metadata": {"tags": tags}, "outputs": [], "source": text})
        })
        .collect();
    let kernel = json!({"name": "lightcell", "display_name": "Rust (Lightcell)", "language": "rust"});
    json!({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
}

fn lightcell(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(home().join("bin/lightcell"));
    command.args(args).current_dir(folder).output().unwrap()
}

fn read(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// All that cells have printed and shown, as text.
fn texts(notebook: &Value) -> String {
    let cells = notebook["cells"].as_array().into_iter().flatten();
    let outputs = cells.filter_map(|cell| cell["outputs"].as_array()).flatten();
    let parts = outputs.flat_map(|output| [&output["text"], &output["data"]["text/plain"]]);
    parts
        .map(|text| match text {
            Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().unwrap_or_default().to_owned(),
        })
        .filter(|text: &String| !text.is_empty())
        .map(|text| text.trim_end_matches('\n').to_owned() + "\n")
        .collect()
}

fn said(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

#[test]
fn a_notebook_runs_with_other_values_and_says_how_it_ended() {
    let scratch = Scratch::new("run");
    let book = notebook(&[
        ("let lr = 1e-3;\nlet epochs: u8 = 10;", &["parameters"]),
        ("println!(\"{} {epochs}\", 2.0 * lr);", &[]),
        ("assert!(epochs < 5, \"too many\");", &[]),
        ("println!(\"the end\");", &[]),
    ]);
    std::fs::write(scratch.0.join("a.ipynb"), book.to_string()).unwrap();
    let out = lightcell(
        &scratch.0,
        &["run", "a.ipynb", "-p", "lr=0.5", "-p", "epochs=3", "-o", "out/b.ipynb"],
    );
    let text = said(&out);
    assert!(out.status.success(), "{text}");
    for part in ["[2/5] // Parameters", "\n    1 3\n", "[5/5] println!", "    the end\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let executed = read(&scratch.0.join("out/b.ipynb"));
    assert_eq!(texts(&executed), "1 3\nthe end\n");
    assert_eq!(executed["cells"][1]["metadata"]["tags"], json!(["injected-parameters"]));

    // A cell that fails: status 1, and what ran before it is kept.
    let out = lightcell(&scratch.0, &["run", "a.ipynb"]);
    let text = said(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(
        text.contains("too many") && text.contains("error: a cell failed; what ran before is in "),
        "{text}"
    );
    let executed = read(&scratch.0.join("a.run.ipynb"));
    assert!(texts(&executed).starts_with("0.002 10\n"), "{executed}");
    assert!(executed.to_string().contains("too many"));

    // A value that does not fit: nothing runs.
    let out = lightcell(&scratch.0, &["run", "a.ipynb", "-p", "epochs=-1", "-o", "c.ipynb"]);
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    assert!(
        said(&out).contains("error: `epochs` takes a whole number from 0 on (its default is `10`), not `-1`\nhint: "),
        "{}",
        said(&out)
    );
    assert!(!scratch.0.join("c.ipynb").exists());
}

#[test]
fn papermill_gives_values() {
    let scratch = Scratch::new("papermill");
    let book = notebook(&[
        (
            "let lr = 1e-3;\nlet name = \"none\";\nlet list = vec![0];",
            &["parameters"],
        ),
        ("println!(\"{lr} {name} {list:?}\");", &[]),
    ]);
    std::fs::write(scratch.0.join("a.ipynb"), book.to_string()).unwrap();
    let bin = python().parent().unwrap().to_owned();
    let path = std::env::join_paths(
        std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let out = Command::new(home().join("bin/lightcell"))
        .args([
            "papermill",
            "a.ipynb",
            "b.ipynb",
            "-p",
            "lr",
            "1e-7",
            "-p",
            "name",
            "a \"b\" \\c",
            "-y",
            "list: [1, 2]",
        ])
        .arg("--no-progress-bar")
        .current_dir(&scratch.0)
        .env("PATH", path.unwrap())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(
        texts(&read(&scratch.0.join("b.ipynb"))),
        "0.0000001 a \"b\" \\c [1, 2]\n"
    );
}

/// What the two print of a run, to the last bit.
const NUMBERS: &str = "println!(\"numbers {:?} {:?}\", fit.step_losses, fit.history.last().map(|last| &last.metrics));";

fn numbers(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .filter(|line| line.starts_with("numbers ") || line.starts_with("test accuracy "));
    lines.collect()
}

#[test]
fn an_exported_notebook_gives_the_same_numbers() {
    let scratch = Scratch::new("export");
    let mut book = read(&file("../notebooks/quickstart.ipynb"));
    let text = book.to_string().replace("--epochs 60 ", "--epochs 3 ");
    book = serde_json::from_str(&text).unwrap();
    let last = notebook(&[(NUMBERS, &[])])["cells"][0].clone();
    book["cells"].as_array_mut().unwrap().push(last);
    std::fs::write(scratch.0.join("quickstart.ipynb"), book.to_string()).unwrap();
    std::fs::create_dir_all(scratch.0.join("data")).unwrap();
    let digits = "data/digits.csv.gz";
    std::fs::copy(file("../notebooks").join(digits), scratch.0.join(digits)).unwrap();

    let out = lightcell(&scratch.0, &["run", "quickstart.ipynb"]);
    assert!(out.status.success(), "{}", said(&out));
    let there = texts(&read(&scratch.0.join("quickstart.run.ipynb")));
    assert_eq!(numbers(&there).len(), 2, "{there}");
    assert!(there.contains("numbers [") && there.contains("val_acc"), "{there}");

    let out = lightcell(&scratch.0, &["export", "quickstart.ipynb", "program"]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("with data/digits.csv.gz"), "{}", said(&out));
    let program = |args: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["run", "--release", "--quiet"]);
        // As in this workspace, so that crates which are compiled already need not be compiled again.
        cargo.args([
            "--config",
            "profile.release.opt-level=2",
            "--config",
            "profile.release.package.\"*\".opt-level=1",
        ]);
        cargo
            .arg("--")
            .args(args)
            .current_dir(scratch.0.join("program"))
            .env(
                "CARGO_TARGET_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap(),
            )
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap()
    };
    let out = program(&[]);
    assert!(out.status.success(), "{}", said(&out));
    let here = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(numbers(&here), numbers(&there));
    // The value of the first cell, as the notebook shows it.
    assert!(here.contains("([1797, 64], [1797])"), "{here}");

    let out = program(&["--hidden", "8", "--epochs", "1"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && numbers(&text)[1] != numbers(&here)[1],
        "{}",
        said(&out)
    );
    let help = said(&program(&["--help"]));
    for part in [
        "Hyperparameters of Mlp:",
        "--hidden                     [512]",
        "--lr ",
        "--max-epochs, --epochs",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    let wrong = program(&["--hiden", "8"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        said(&wrong).contains(
            "error: there is no flag --hiden; did you mean --hidden?\nhint: quickstart --help lists the flags"
        ),
        "{}",
        said(&wrong)
    );
}

#[test]
fn export_from_within_takes_what_ran() {
    let scratch = Scratch::new("export-within");
    let mut kernel = Kernel::start();
    kernel.ok(&format!("%cd {}", scratch.0.display()));
    kernel.ok("fn twice(x: i32) -> i32 { 2 * x }\nlet a = twice(4);");
    kernel.err("let b = nothing;");
    kernel.ok("println!(\"{a}\");");
    let told = kernel.ok("%export out").stdout();
    assert!(
        told.contains(" as a program: cd ") && told.contains("out && cargo run --release"),
        "{told}"
    );
    let text = std::fs::read_to_string(scratch.0.join("out/src/notebook.rs")).unwrap();
    assert!(
        text.contains("fn twice") && text.contains("println!") && !text.contains("nothing"),
        "{text}"
    );
    let error = kernel.err("%export");
    assert_eq!(error.evalue(), "%export needs DIR");
    std::fs::write(scratch.0.join("file"), "").unwrap();
    std::fs::create_dir(scratch.0.join("full")).unwrap();
    std::fs::write(scratch.0.join("full/x"), "").unwrap();
    let error = kernel.err("%export full");
    assert!(
        error.evalue().ends_with("full holds other things already"),
        "{}",
        error.evalue()
    );
}

/// A crate's version in a notebook's metadata, and in what its cells have shown.
fn versions_of(krate: &str, notebook: &Value) -> (Option<String>, Option<String>) {
    let lock = notebook["metadata"]["lightcell"]["lock"]
        .as_array()
        .into_iter()
        .flatten();
    let lines: Vec<&str> = lock.filter_map(Value::as_str).collect();
    let at = lines.iter().position(|line| *line == format!("name = \"{krate}\""));
    let locked = at.map(|at| {
        lines[at + 1]
            .trim_start_matches("version = ")
            .trim_matches('"')
            .to_owned()
    });
    let shown = texts(notebook);
    let mut shown = shown
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("  {krate} ")));
    (locked, shown.next().map(str::to_owned))
}

#[test]
fn a_notebook_carries_the_versions_it_was_made_with() {
    let scratch = Scratch::new("lock");
    let first = notebook(&[("%dep fastrand = \"=2.2.0\"", &[]), ("%lock", &[])]);
    std::fs::write(scratch.0.join("a.ipynb"), first.to_string()).unwrap();
    let out = lightcell(&scratch.0, &["run", "a.ipynb", "-o", "b.ipynb"]);
    assert!(out.status.success(), "{}", said(&out));
    let mut book = read(&scratch.0.join("b.ipynb"));
    assert_eq!(versions_of("fastrand", &book), (None, Some("2.2.0".into())), "{book}");

    // Cleaned for git it keeps the lock, in its metadata.
    let out = lightcell(&scratch.0, &["clean", "b.ipynb"]);
    assert!(out.status.success(), "{}", said(&out));
    book = read(&scratch.0.join("b.ipynb"));
    assert_eq!(versions_of("fastrand", &book), (Some("2.2.0".into()), None));

    // Elsewhere, with another rustc: a kernel for it says so, and takes the crate's version though there are newer ones.
    book["metadata"]["lightcell"]["rustc"] = json!("1.90.0");
    let text = book.to_string().replace("=2.2.0", "2");
    assert_ne!(text, book.to_string());
    std::fs::write(scratch.0.join("b.ipynb"), text).unwrap();
    let out = lightcell(&scratch.0, &["run", "b.ipynb", "-o", "c.ipynb"]);
    assert!(out.status.success(), "{}", said(&out));
    let book = read(&scratch.0.join("c.ipynb"));
    assert_eq!(versions_of("fastrand", &book).1.as_deref(), Some("2.2.0"), "{book}");
    let note = "note: the notebook was made with rustc 1.90.0, here is ";
    assert!(texts(&book).starts_with(note), "{}", texts(&book));

    // So does the program that is made of it.
    let out = lightcell(&scratch.0, &["export", "b.ipynb", "program"]);
    assert!(
        out.status.success() && said(&out).contains("made with rustc 1.90.0"),
        "{}",
        said(&out)
    );
    let lock = std::fs::read_to_string(scratch.0.join("program/Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"fastrand\"\nversion = \"2.2.0\""));

    // `%lock clear` goes before the metadata: the next kernel takes the newest.
    let clear = read(&scratch.0.join("b.ipynb"))
        .to_string()
        .replace("\"%lock\"", "\"%lock clear\"");
    std::fs::write(scratch.0.join("d.ipynb"), clear).unwrap();
    let out = lightcell(&scratch.0, &["run", "d.ipynb", "-o", "e.ipynb"]);
    assert!(out.status.success(), "{}", said(&out));
    let out = lightcell(&scratch.0, &["clean", "e.ipynb"]);
    assert!(out.status.success(), "{}", said(&out));
    let book = read(&scratch.0.join("e.ipynb"));
    assert_eq!(versions_of("fastrand", &book), (None, None));
    assert!(book["metadata"]["lightcell"]["rustc"].is_string(), "{book}");
}
