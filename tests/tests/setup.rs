//! The command `lightcell` on a real installation: what is deleted is noticed and mended, and nothing is done twice.

use lightcell_tests::{Kernel, Scratch, home};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

fn lightcell(args: &[&str]) -> Output {
    Command::new(home().join("bin/lightcell")).args(args).output().unwrap()
}

fn text(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

fn setup() -> Value {
    serde_json::from_str(&std::fs::read_to_string(home().join("setup.json")).unwrap()).unwrap()
}

fn first_below(folder: PathBuf, holds: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = first_below(path, holds) {
                return Some(found);
            }
        } else if holds(&entry.file_name().to_string_lossy()) {
            return Some(path);
        }
    }
    None
}

#[test]
fn what_is_deleted_is_noticed_and_mended() {
    let doctor = || {
        let out = lightcell(&["doctor", "--json"]);
        let rows: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
        let missing: Vec<String> = rows
            .iter()
            .filter(|row| row["state"] == "missing")
            .map(|row| row["part"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(out.status.success(), missing.is_empty());
        assert!(
            rows.iter()
                .all(|row| row["state"] != "missing" || row["mend"].is_string())
        );
        missing
    };
    assert_eq!(doctor(), [""; 0]);
    let again = lightcell(&["setup"]);
    assert!(again.status.success(), "{}", text(&again));
    assert!(
        !text(&again).contains('…'),
        "a second run has nothing to do: {}",
        text(&again)
    );

    let setup = setup();
    let spec = PathBuf::from(setup["kernelspecs"][0].as_str().unwrap());
    let libtch = PathBuf::from(setup["libtch"].as_str().unwrap());
    std::fs::remove_file(spec.join("kernel.json")).unwrap();
    assert_eq!(doctor(), ["kernelspec"]);
    std::fs::remove_file(libtch.join("libtch.so")).unwrap();
    assert_eq!(doctor(), ["libtch", "kernelspec"]);
    std::fs::remove_file(first_below(home().join("toolchains"), &|name| name == "lightcell-worker").unwrap()).unwrap();
    assert_eq!(doctor(), ["libtch", "worker, store", "kernelspec"]);
    std::fs::remove_file(first_below(home().join("store"), &|name| name.starts_with("liblightcell_cell")).unwrap())
        .unwrap();
    let mended = lightcell(&["setup"]);
    assert!(mended.status.success(), "{}", text(&mended));
    assert_eq!(doctor(), [""; 0]);
    assert_eq!(
        Kernel::start()
            .ok("lightcell::prelude::Tensor::from_slice(&[2i64]).int64_value(&[0])")
            .value(),
        "2"
    );
}

#[test]
fn what_is_missing_is_said_in_one_line_with_its_mend() {
    let scratch = Scratch::new("path");
    let bare = |keep: &[&str]| {
        let bin = scratch.0.join(keep.join("-"));
        std::fs::create_dir_all(&bin).unwrap();
        for name in keep {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {name}")])
                .output()
                .unwrap();
            std::os::unix::fs::symlink(String::from_utf8_lossy(&found.stdout).trim(), bin.join(name)).unwrap();
        }
        Command::new(home().join("bin/lightcell"))
            .arg("setup")
            .env("PATH", &bin)
            .env_remove("CXX")
            .env("LIGHTCELL_HOME", scratch.0.join("lc"))
            .output()
            .unwrap()
    };
    let said = |out: Output| {
        assert!(!out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert_eq!(
        said(bare(&["sh"])),
        "error: there is no cargo on PATH\nhint: install Rust 1.95 or newer: https://rustup.rs\n"
    );
    let rust = ["rustup", "cargo", "rustc"];
    assert_eq!(
        said(bare(&rust)),
        "error: there is no C++ compiler\nhint: install one: apt install g++, dnf install gcc-c++, or pacman -S gcc\n"
    );
    let text = said(bare(&[&rust[..], &["c++"]].concat()));
    assert!(
        text.starts_with("error: there is no python3 on PATH\nhint: install it: apt install python3"),
        "{text}"
    );
    assert!(
        !scratch.0.join("lc").exists(),
        "nothing is made before everything is there"
    );
}

#[test]
fn an_empty_home_is_diagnosed_and_uninstalled_without_harm() {
    let scratch = Scratch::new("empty");
    let run = |args: &[&str]| {
        let mut command = Command::new(home().join("bin/lightcell"));
        command
            .args(args)
            .env("LIGHTCELL_HOME", scratch.0.join("lc"))
            .env("JUPYTER_DATA_DIR", scratch.0.join("jupyter"))
            .env("XDG_BIN_HOME", scratch.0.join("bin"));
        command.output().unwrap()
    };
    let doctor = run(&["doctor"]);
    assert!(!doctor.status.success());
    assert!(
        text(&doctor).contains("✗ installation  not set up in ") && text(&doctor).contains("mend: lightcell setup"),
        "{}",
        text(&doctor)
    );
    assert!(text(&run(&["uninstall"])).contains("There is nothing to remove"));
    // Half an installation, with a file of the user's in it.
    std::fs::create_dir_all(scratch.0.join("lc/store/x")).unwrap();
    std::fs::write(scratch.0.join("lc/mine.txt"), "").unwrap();
    let spec = scratch.0.join("jupyter/kernels/lightcell");
    std::fs::create_dir_all(&spec).unwrap();
    std::fs::write(
        spec.join("kernel.json"),
        format!(
            "{{\"argv\": [\"{}\"]}}",
            scratch.0.join("lc/bin/lightcell-kernel").display()
        ),
    )
    .unwrap();
    let out = run(&["uninstall", "--yes"]);
    assert!(
        out.status.success() && text(&out).contains("holds files that are not Lightcell's and stays"),
        "{}",
        text(&out)
    );
    assert!(!spec.exists() && !scratch.0.join("lc/store").exists() && scratch.0.join("lc/mine.txt").exists());
}
