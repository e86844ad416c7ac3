//! The built command, in homes of its own: what it refuses, what it says, and what it leaves alone. Nothing here uses the
//! network or builds anything; the tests of a real installation are in tests/.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A home that goes with the test.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let path = std::env::temp_dir().join(format!("lightcell-command-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Home(path)
    }

    fn lc(&self) -> PathBuf {
        self.0.join("lc")
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A program of its own for PATH. Another process writes it: a file that this one, or a child of another test for a
    /// moment, has open for writing cannot be run.
    fn program(&self, name: &str, script: &str) {
        let path = self.0.join("bin").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let write = r#"rm -f "$1" && printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#;
        assert!(
            Command::new("sh")
                .args(["-c", write, "sh"])
                .arg(&path)
                .arg(script)
                .status()
                .unwrap()
                .success()
        );
    }

    /// Links programs of this machine into a PATH that holds nothing else.
    fn link(&self, names: &[&str]) {
        std::fs::create_dir_all(self.0.join("bin")).unwrap();
        for name in names {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {name}")])
                .output()
                .unwrap();
            let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
            if !found.is_empty() {
                std::os::unix::fs::symlink(found, self.0.join("bin").join(name)).unwrap();
            }
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lightcell"));
        command.args(args).current_dir(&self.0).env("LIGHTCELL_HOME", self.lc());
        command
            .env("JUPYTER_DATA_DIR", self.0.join("jupyter"))
            .env("XDG_BIN_HOME", self.0.join("user-bin"));
        for name in [
            "LIBTORCH",
            "LIGHTCELL_LIBTORCH",
            "LIGHTCELL_CACHE",
            "LIGHTCELL_CACHE_LIMIT",
            "CXX",
            "JUPYTER_PATH",
        ] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// With nothing on PATH but what the test put there.
    fn bare(&self, args: &[&str]) -> Output {
        std::fs::create_dir_all(self.0.join("bin")).unwrap();
        self.command(args).env("PATH", self.0.join("bin")).output().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What a run that must fail says last.
fn error(out: &Output) -> String {
    assert!(!out.status.success(), "{}", stdout(out));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

const RUST: [&str; 3] = ["rustup", "cargo", "rustc"];

#[test]
fn each_missing_tool_is_named_with_how_to_get_it() {
    let home = Home::new("tools");
    let install_rust = "error: there is no cargo on PATH\nhint: install Rust 1.95 or newer: https://rustup.rs\n";
    assert_eq!(error(&home.bare(&["setup"])), install_rust);
    home.link(&RUST);
    let no_compiler =
        "error: there is no C++ compiler\nhint: install one: apt install g++, dnf install gcc-c++, or pacman -S gcc\n";
    assert_eq!(error(&home.bare(&["setup"])), no_compiler);
    home.program("c++", "exit 0");
    let get_python = "hint: install it: apt install python3 python3-venv, or dnf install python3\n";
    assert_eq!(
        error(&home.bare(&["demo"])),
        format!("error: there is no python3 on PATH\n{get_python}")
    );
    home.program("python3", "echo 3.9");
    assert_eq!(
        error(&home.bare(&["setup"])),
        format!("error: Python 3.9 is too old: Jupyter needs 3.10\n{get_python}")
    );
    home.program("python3", "case \"$*\" in *version_info*) echo 3.12;; *) exit 1;; esac");
    assert_eq!(
        error(&home.bare(&["setup"])),
        "error: Python has no `venv` module\nhint: install it: apt install python3-venv\n"
    );
    let out = home.command(&["setup"]).env("CXX", "/no/such/g++").output().unwrap();
    assert_eq!(
        error(&out),
        "error: CXX names /no/such/g++, which does not run\nhint: name a C++ compiler, or unset CXX\n"
    );
    assert!(!home.lc().exists(), "nothing is made before everything is there");
}

#[test]
fn an_old_rust_is_refused() {
    let home = Home::new("rust");
    home.program("cargo", "exit 0");
    home.program("rustc", "echo rustc 1.80.0; echo release: 1.80.0");
    assert_eq!(
        error(&home.bare(&["setup"])),
        "error: rustc 1.80.0 is too old: Lightcell needs 1.95\nhint: rustup update stable\n"
    );
    let doctor = home.bare(&["doctor"]);
    assert!(stdout(&doctor).starts_with("✗ rustc         rustc 1.80.0 is too old: Lightcell needs 1.95\n                mend: rustup update stable\n"), "{}", stdout(&doctor));
}

#[test]
fn doctor_finds_an_empty_home_wanting_and_says_what_to_run() {
    let home = Home::new("doctor");
    let out = home.run(&["doctor"]);
    assert_eq!(out.status.code(), Some(1));
    let text = stdout(&out);
    assert!(
        text.contains(&format!(
            "✗ installation  not set up in {}\n                mend: lightcell setup\n",
            home.lc().display()
        )),
        "{text}"
    );
    let rows: Vec<Value> = serde_json::from_str(&stdout(&home.run(&["doctor", "--json"]))).unwrap();
    let parts: Vec<&str> = rows.iter().filter_map(|row| row["part"].as_str()).collect();
    for part in [
        "rustc",
        "cargo",
        "rust-src",
        "C++ compiler",
        "Python",
        "NVIDIA driver",
        "NVML",
        "libtorch",
        "libtch",
        "kernel",
        "worker, store",
        "Jupyter",
        "kernelspec",
    ] {
        assert!(parts.contains(&part), "{part} in {parts:?}");
    }
    assert!(
        rows.iter()
            .all(|row| (row["state"] == "missing") == row["mend"].is_string())
    );
    assert!(!home.lc().exists(), "looking makes nothing");
}

#[test]
fn a_folder_with_other_things_is_neither_used_nor_removed() {
    let home = Home::new("foreign");
    home.write("lc/src/mine.rs", "");
    let said = error(&home.run(&["setup"]));
    assert_eq!(
        said,
        format!(
            "error: {} holds other things already (src)\nhint: set LIGHTCELL_HOME to a folder that is empty or new\n",
            home.lc().display()
        )
    );
    let said = error(&home.run(&["uninstall", "--yes"]));
    assert_eq!(
        said,
        format!(
            "error: {} is no installation of Lightcell\nhint: set LIGHTCELL_HOME to the folder that setup used, or unset it\n",
            home.lc().display()
        )
    );
    assert!(home.lc().join("src/mine.rs").exists());
}

#[test]
fn a_place_below_a_cargo_workspace_is_refused() {
    let home = Home::new("workspace");
    home.write("Cargo.toml", "[workspace]\n");
    let said = error(&home.run(&["setup"]));
    let (lc, above) = (home.lc(), home.0.display());
    let wanted = format!(
        "error: {} lies below the Cargo workspace {above}, which cargo would count notebooks' crates into\nhint: ",
        lc.display()
    );
    assert!(said.starts_with(&wanted), "{said}");
}

#[test]
fn a_libtorch_of_another_version_is_refused() {
    let home = Home::new("libtorch");
    let torch = home.0.join("torch");
    let setup = |home: &Home| home.command(&["setup"]).env("LIBTORCH", "torch").output().unwrap();
    assert_eq!(
        error(&setup(&home)),
        format!(
            "error: LIBTORCH names {}, where there is no libtorch\nhint: name a folder that holds lib/ and include/, or a Python that has PyTorch, or leave LIBTORCH out and 2.13.0 is fetched\n",
            torch.display()
        )
    );
    for file in ["torch/lib/libtorch_cpu.so", "torch/include/x.h"] {
        home.write(file, "");
    }
    home.write("torch/build-version", "2.9.1+cpu\n");
    let said = error(&setup(&home));
    assert_eq!(
        said,
        "error: LIBTORCH is libtorch 2.9.1; Lightcell works with 2.11, 2.12 and 2.13\nhint: name one of these, or leave LIBTORCH out and 2.13.0 is fetched\n"
    );
    let out = home
        .command(&["setup"])
        .env("LIGHTCELL_LIBTORCH", "gpu")
        .output()
        .unwrap();
    assert_eq!(
        error(&out),
        "error: LIGHTCELL_LIBTORCH is gpu\nhint: set it to cpu or cuda, or unset it\n"
    );
}

#[test]
fn without_network_pip_fails_in_one_line_and_the_log_is_named() {
    let home = Home::new("network");
    let pip = "echo 'WARNING: Retrying: NewConnectionError: Temporary failure in name resolution'; echo 'ERROR: No matching distribution found for torch==2.13.0'; exit 1";
    home.program("python3", &format!("case \"$*\" in *version_info*) printf '3.12\\nvenv\\n';; *'pip --version') ;; *'pip download'*) {pip};; *) exit 1;; esac"));
    let path = format!("{}:{}", home.0.join("bin").display(), std::env::var("PATH").unwrap());
    let out = home
        .command(&["setup"])
        .env("PATH", path)
        .env("LIGHTCELL_LIBTORCH", "cpu")
        .output()
        .unwrap();
    let said = error(&out);
    let log = home.lc().join("logs/pip-download.log");
    assert!(
        said.starts_with("error: the download of torch with pip failed: the network cannot be reached\n"),
        "{said}"
    );
    assert!(said.contains("\n  ERROR: No matching distribution found for torch==2.13.0\nhint: connect, then run the same command again"), "{said}");
    assert!(
        said.trim_end().ends_with(&log.display().to_string())
            && std::fs::read_to_string(&log).unwrap().contains("Retrying"),
        "{said}"
    );
    // Begun, not finished: it can be taken away.
    assert!(home.lc().join(".setup.lock").exists() && !home.lc().join("setup.json").exists());
    let out = home.run(&["uninstall", "--yes"]);
    assert!(
        out.status.success() && stdout(&out).ends_with("Lightcell is removed.\n"),
        "{}",
        stdout(&out)
    );
    assert!(!home.lc().exists());
}

/// `setup.json` as far as the command needs it.
fn setup_json(specs: &[PathBuf]) -> String {
    serde_json::json!({
        "version": "0.1.0", "cargo": "/c", "rustc": "/r", "rustc_version": "", "libtorch": {"path": "/t", "version": "2.13.0", "variant": "cpu"},
        "libtch": "/l", "src": "/s", "python": "/p", "kernelspecs": specs,
    })
    .to_string()
}

#[test]
fn the_cache_is_shown_limited_and_cleared() {
    let home = Home::new("cache");
    let folder = home.lc().join("cache");
    assert_eq!(
        stdout(&home.run(&["cache"])),
        format!(
            "folder     {}\nsize       0 MB\ncrates     0\nlimit      2.0 GB\nlast used  never\n",
            folder.display()
        )
    );
    assert!(!home.lc().exists(), "looking makes nothing");
    assert_eq!(
        error(&home.run(&["cache", "--limit", "4G"])),
        format!(
            "error: Lightcell is not set up in {}\nhint: run `lightcell setup`\n",
            home.lc().display()
        )
    );
    home.write("lc/setup.json", &setup_json(&[]));
    assert_eq!(
        error(&home.run(&["cache", "--limit", "much"])),
        "error: `much` is no size\nhint: write it as 4G, 500M or a number of bytes\n"
    );
    assert_eq!(
        stdout(&home.run(&["cache", "--limit", "4G"])),
        "At most 4.0 GB are kept; what is too much goes when a kernel adds the next crate.\n"
    );
    let unit = r#"{"crate":"itoa 1.0.15","bytes":3000000,"id":1,"needs":{}}"#;
    home.write("lc/cache/key/itoa-0123456789abcdef/unit.json", unit);
    assert_eq!(
        stdout(&home.run(&["cache"])),
        format!(
            "folder     {}\nsize       3 MB\ncrates     1\nlimit      4.0 GB\nlast used  just now\n",
            folder.display()
        )
    );
    let doctor: Vec<Value> = serde_json::from_str(&stdout(&home.run(&["doctor", "--json"]))).unwrap();
    let row = doctor.iter().find(|row| row["part"] == "crate cache").unwrap();
    assert_eq!(
        (&row["state"], &row["what"]),
        (&"ok".into(), &"3 MB of 4.0 GB, 1 crate".into())
    );
    let out = home
        .command(&["cache"])
        .env("LIGHTCELL_CACHE_LIMIT", "500000000")
        .output()
        .unwrap();
    assert!(stdout(&out).contains("limit      500 MB\n"), "{}", stdout(&out));
    assert_eq!(stdout(&home.run(&["cache", "--clear"])), "Removed 1 crate (3 MB).\n");
    assert_eq!(std::fs::read_dir(folder.join("key")).unwrap().count(), 0);
    assert!(
        stdout(&home.run(&["cache"])).contains("limit      4.0 GB\n"),
        "the limit stays"
    );
    assert_eq!(
        stdout(&home.run(&["cache", "--limit", "0"])),
        "Crates are not kept any more; --clear removes those that are.\n"
    );
}

#[test]
fn uninstall_takes_what_is_ours_and_leaves_what_is_the_users() {
    let home = Home::new("uninstall");
    assert!(stdout(&home.run(&["uninstall"])).starts_with("There is nothing to remove: "));
    let lc = home.lc();
    for file in [
        "lc/.setup.lock",
        "lc/store/x/complete",
        "lc/cache/x/itoa-1/unit.json",
        "lc/bin/lightcell",
        "lc/bin/lightcell-kernel",
        "lc/history.jsonl",
        "lc/runs/0000000000001-a.jsonl",
        "lc/.torch.partial-7/x",
    ] {
        home.write(file, "");
    }
    for file in [
        "lc/notebooks/quickstart.ipynb",
        "lc/src/.installed-notebooks/quickstart.ipynb",
    ] {
        home.write(file, "as installed");
    }
    let mine = home.write("lc/notebooks/mine.ipynb", "my work");
    let spec = |folder: &str, program: &Path| {
        home.write(
            &format!("{folder}/lightcell/kernel.json"),
            &format!("{{\"argv\": [\"{}\"]}}", program.display()),
        )
    };
    let ours = spec("jupyter/kernels", &lc.join("bin/lightcell-kernel"));
    let recorded = spec("prefix/kernels", &lc.join("bin/lightcell-kernel"));
    let other = spec("other/kernels", Path::new("/another/bin/lightcell-kernel"));
    let specs: Vec<_> = [&recorded, &other]
        .iter()
        .map(|spec| spec.parent().unwrap().to_owned())
        .collect();
    home.write("lc/setup.json", &setup_json(&specs));
    std::fs::create_dir_all(home.0.join("user-bin")).unwrap();
    let link = home.0.join("user-bin/lightcell");
    std::os::unix::fs::symlink(lc.join("bin/lightcell"), &link).unwrap();
    let out = home.run(&["uninstall", "--yes"]);
    let text = stdout(&out);
    assert!(out.status.success(), "{text}");
    assert!(
        text.contains("but not your own notebooks and files in ") && text.contains(": mine.ipynb\n"),
        "{text}"
    );
    assert!(!ours.exists() && !recorded.exists() && other.exists() && std::fs::symlink_metadata(&link).is_err());
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "my work");
    let left = |folder: &Path| {
        std::fs::read_dir(folder)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (left(&lc), left(&lc.join("notebooks"))),
        (vec!["notebooks".to_owned()], vec!["mine.ipynb".to_owned()])
    );
}
