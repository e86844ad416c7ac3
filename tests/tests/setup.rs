//! The command `lightcell` of a real installation: refusals, diagnosis, uninstall.

use lightcell_tests::{Scratch, home};
use std::process::{Command, Output};

fn text(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
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
