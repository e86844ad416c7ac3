//! A kernel whose rustc is another than the one of set-up: what is missing is built in the first cell, visibly, and what the
//! other rustc needs stays.
//!
//! The other rustc is the real one under a script that gives itself another version, which is all that cargo and the kernel
//! go by. A binary of its own with one test, since it adds to the store: cargo runs test binaries one after another.

use lightcell_tests::{Kernel, Scratch, home};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of a kind that belong to one rustc each.
fn versions(of: &str) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(home().join(of)).expect("an installation");
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Removes what a test has added, also when it fails.
struct Added(Vec<(&'static str, BTreeSet<PathBuf>)>);

impl Drop for Added {
    fn drop(&mut self) {
        for (of, before) in &self.0 {
            for path in versions(of).difference(before) {
                let _ = std::fs::remove_dir_all(path);
            }
        }
    }
}

/// A program for PATH; another process writes it, since one that this process has open for writing cannot be run.
fn program(path: &Path, script: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#;
    let status = Command::new("sh")
        .args(["-c", write, "sh"])
        .arg(path)
        .arg(script)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn when_rustc_has_changed_the_first_cell_shows_what_is_built_for_it() {
    let setup: Value = serde_json::from_str(&std::fs::read_to_string(home().join("setup.json")).unwrap()).unwrap();
    let _added = Added(["store", "toolchains"].map(|of| (of, versions(of))).into());

    let scratch = Scratch::new("toolchain");
    let bin = scratch.0.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let rustc = setup["rustc"].as_str().unwrap();
    std::os::unix::fs::symlink(setup["cargo"].as_str().unwrap(), bin.join("cargo")).unwrap();
    let renamed = "sed '1s/ .*/ 1.95.0 (of a test)/; s/^commit-hash: .*/commit-hash: 0123/'";
    program(
        &bin.join("rustc"),
        &format!("case \"$*\" in -vV) '{rustc}' -vV | {renamed};; *) exec '{rustc}' \"$@\";; esac"),
    );
    program(
        &bin.join("rustup"),
        &format!("[ \"$1\" = which ] && echo '{}/'\"$2\"", bin.display()),
    );

    let spec = scratch.0.join("kernels/changed");
    std::fs::create_dir_all(&spec).unwrap();
    let installed = setup["kernelspecs"][0].as_str().unwrap();
    let text = std::fs::read_to_string(Path::new(installed).join("kernel.json")).unwrap();
    let mut kernel: Value = serde_json::from_str(&text).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    kernel["env"]["PATH"] = json!(format!("{}:{path}", bin.display()));
    std::fs::write(spec.join("kernel.json"), kernel.to_string()).unwrap();

    let paths = format!(
        "{}:{}",
        scratch.0.display(),
        std::env::var("JUPYTER_PATH").unwrap_or_default()
    );
    let env = [("JUPYTER_PATH", paths.as_str()), ("LIGHTCELL_TEST_KERNEL", "changed")];
    let mut kernel = Kernel::start_with(&env);
    let cell = kernel.ok("1 + 1");
    assert_eq!(cell.value(), "2");
    let shown = |kind| {
        let texts = cell.all(kind).into_iter();
        texts
            .filter_map(|content| content["data"]["text/plain"].as_str())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let first = shown("display_data");
    let head = "no worker for rustc 1.95.0 (of a test); preparing for rustc 1.95.0 (of a test), once\n";
    assert!(first.first().is_some_and(|text| text.starts_with(head)), "{first:?}");
    let updates = shown("update_display_data");
    assert!(
        updates
            .iter()
            .any(|text| text.contains("crate ") && text.ends_with(": tch")),
        "{updates:?}"
    );
    assert_eq!(updates.last(), Some(&format!("{head}ready")));
    assert_eq!(
        kernel
            .ok("let t = lightcell::prelude::Tensor::from_slice(&[1i64, 2]); t.size()")
            .value(),
        "[2]"
    );
    // A second kernel has nothing to build.
    assert_eq!(
        Kernel::start_with(&env)
            .ok("2 + 2")
            .messages
            .iter()
            .filter(|m| m.0 == "display_data")
            .count(),
        0
    );
}
