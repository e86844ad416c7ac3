//! `lightcell clean`, and what the commands for notebooks say where nothing can be run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("lightcell-notebooks-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn lightcell(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lightcell"));
        command
            .args(args)
            .current_dir(&self.0)
            .env("LIGHTCELL_HOME", self.0.join("lc"));
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const NOTEBOOK: &str = r#"{"cells": [{"cell_type": "code", "execution_count": 2, "metadata": {}, "outputs": [{"output_type": "stream", "name": "stdout", "text": "secret"}], "source": "let ä = 1;"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}"#;

fn filtered(folder: &Folder, text: &str) -> String {
    let mut command = folder.lightcell(&["clean"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn clean_is_a_filter() {
    let folder = Folder::new("filter");
    let clean = filtered(&folder, NOTEBOOK);
    assert!(clean.contains("let ä = 1;") && !clean.contains("secret"), "{clean}");
    assert!(clean.contains("\"execution_count\": null"), "{clean}");
    // Once more changes nothing, and what is no notebook passes.
    assert_eq!(filtered(&folder, &clean), clean);
    assert_eq!(filtered(&folder, "no notebook\n"), "no notebook\n");
}

#[test]
fn git_commits_no_outputs_and_the_file_keeps_them() {
    let folder = Folder::new("git");
    let git = |args: &[&str]| -> Output {
        let out = Command::new("git").args(args).current_dir(&folder.0).output().unwrap();
        assert!(
            out.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        out
    };
    git(&["init", "--quiet"]);
    let filter = format!("'{}' clean", env!("CARGO_BIN_EXE_lightcell"));
    git(&["config", "filter.lightcell.clean", &filter]);
    std::fs::write(folder.0.join(".gitattributes"), "*.ipynb filter=lightcell\n").unwrap();
    std::fs::write(folder.0.join("a.ipynb"), NOTEBOOK).unwrap();
    git(&["add", "."]);
    let staged = git(&["show", ":a.ipynb"]).stdout;
    assert!(!String::from_utf8_lossy(&staged).contains("secret"));
    assert_eq!(std::fs::read_to_string(folder.0.join("a.ipynb")).unwrap(), NOTEBOOK);
}

#[test]
fn files_are_cleaned_in_their_place_all_or_none() {
    let folder = Folder::new("files");
    for name in ["a.ipynb", "b.ipynb"] {
        std::fs::write(folder.0.join(name), NOTEBOOK).unwrap();
    }
    let run = |args: &[&str]| folder.lightcell(args).output().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.0.join(name)).unwrap();
    let out = run(&["clean", "a.ipynb", "missing.ipynb"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.starts_with("error: cannot read missing.ipynb: "),
        "{said}"
    );
    assert_eq!(read("a.ipynb"), NOTEBOOK);
    let out = run(&["clean", "a.ipynb", "b.ipynb"]);
    let told = "✓ a.ipynb without outputs\n✓ b.ipynb without outputs\n";
    assert_eq!(String::from_utf8_lossy(&out.stdout), told);
    assert!(!read("b.ipynb").contains("secret"));
    assert_eq!(
        String::from_utf8_lossy(&run(&["clean", "a.ipynb"]).stdout),
        "✓ a.ipynb has no outputs\n"
    );
}

#[test]
fn what_is_no_notebook_is_said() {
    let folder = Folder::new("none");
    std::fs::write(folder.0.join("a.py"), "print(1)").unwrap();
    let said = |args: &[&str]| String::from_utf8_lossy(&folder.lightcell(args).output().unwrap().stderr).into_owned();
    for command in ["run", "export"] {
        let out = said(&[command, "a.py", "dir"][..if command == "run" { 2 } else { 3 }]);
        assert!(out.starts_with("error: a.py: it is no notebook: "), "{out}");
    }
    assert!(said(&["run", "a.py", "-p", "lr"]).contains("write NAME=VALUE, such as lr=0.01"));
    assert!(!Path::new(&folder.0.join("dir")).exists());
}
