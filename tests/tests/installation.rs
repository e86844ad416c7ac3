//! The command `lightcell` on a real installation: what is deleted is noticed and mended, also while kernels run; nothing
//! is done twice; the clone is not needed afterwards; JupyterLab opens with kernel and notebooks.
//!
//! A binary of its own with one test, since it takes the installation apart: cargo runs test binaries one after another.

use lightcell_tests::{Kernel, Scratch, home, python};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn lightcell(args: &[&str]) -> Command {
    let mut command = Command::new(home().join("bin/lightcell"));
    command.args(args).current_dir("/");
    command
}

fn text(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

fn run(args: &[&str]) -> String {
    let out = lightcell(args).output().expect("lightcell runs");
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    text(&out)
}

fn setup() -> Value {
    let file = std::fs::read_to_string(home().join("setup.json")).expect("an installation");
    serde_json::from_str(&file).expect("JSON")
}

/// The parts that doctor finds missing; each names its mend.
fn missing() -> Vec<String> {
    let out = lightcell(&["doctor", "--json"]).output().expect("lightcell runs");
    let rows: Vec<Value> = serde_json::from_slice(&out.stdout).expect("JSON");
    let missing: Vec<&Value> = rows.iter().filter(|row| row["state"] == "missing").collect();
    assert_eq!(out.status.success(), missing.is_empty());
    assert!(missing.iter().all(|row| row["mend"].is_string()), "{missing:?}");
    let part = |row: &&Value| row["part"].as_str().unwrap_or_default().to_owned();
    missing.iter().map(part).collect()
}

fn files_below(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&path, into),
            Ok(kind) if kind.is_file() => into.push(path),
            _ => {}
        }
    }
}

fn named(folder: &str, holds: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files_below(&home().join(folder), &mut files);
    files.retain(|path| path.file_name().is_some_and(|name| holds(&name.to_string_lossy())));
    assert!(!files.is_empty(), "{folder} holds no such file");
    files
}

const TENSOR: &str = "lightcell::prelude::Tensor::from_slice(&[2i64]).int64_value(&[0])";

#[test]
fn an_installation_is_mended_used_without_its_clone_and_opened_in_jupyterlab() {
    assert_eq!(missing(), [""; 0]);
    let again = run(&["setup"]);
    assert!(!again.contains('…'), "a second run has nothing to do: {again}");

    let setup = setup();
    let spec = PathBuf::from(setup["kernelspecs"][0].as_str().unwrap());
    let libtch = PathBuf::from(setup["libtch"].as_str().unwrap());
    let mut running = Kernel::start();
    running.ok("let kept = vec![1, 2, 3];");

    // Each alone, then what a next kernel needs, while one runs.
    let parts: [(&str, Vec<PathBuf>, &[&str]); 4] = [
        ("the kernelspec", vec![spec.join("kernel.json")], &["kernelspec"]),
        ("the kernel", vec![home().join("bin/lightcell-kernel")], &["kernel"]),
        (
            "the worker",
            named("toolchains", |name| name == "lightcell-worker"),
            &["worker, store"],
        ),
        (
            "a file of the store",
            named("store", |name| {
                name.starts_with("liblightcell_cell") && name.ends_with(".rlib")
            }),
            &["worker, store"],
        ),
    ];
    for (what, files, expected) in parts {
        for file in &files {
            std::fs::remove_file(file).unwrap();
        }
        let found = missing();
        assert!(
            expected.iter().all(|part| found.iter().any(|f| f == part)),
            "{what}: {found:?}"
        );
        run(&["setup"]);
        assert_eq!(missing(), [""; 0], "{what} is mended");
        assert!(files.iter().any(|file| file.exists()), "{what} is there again");
    }
    std::fs::remove_file(libtch.join("libtch.so")).unwrap();
    assert!(missing().iter().any(|part| part == "libtch"));
    run(&["setup"]);
    assert_eq!(missing(), [""; 0]);
    assert_eq!(Kernel::start().ok(TENSOR).value(), "2");
    assert_eq!(running.ok("kept.iter().sum::<i32>()").value(), "6");
    drop(running);

    no_file_names_the_clone();
    another_prefix();
    prefix_of_the_environment();
    lab(&spec);
}

/// What is used after set-up names no file of the clone: it may be moved or deleted.
fn no_file_names_the_clone() {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let clone = clone.to_string_lossy();
    let mut files = Vec::new();
    for folder in [".cargo", "src", "store", "toolchains"] {
        files_below(&home().join(folder), &mut files);
    }
    files.push(home().join("setup.json"));
    let of_text = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ["toml", "json", "lock", "rs", "d"]
            .iter()
            .any(|ending| name.ends_with(&format!(".{ending}")))
    };
    for file in files.iter().filter(|path| of_text(path)) {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        assert!(!text.contains(&*clone), "{} names {clone}", file.display());
    }
}

/// `--prefix`: the kernelspec is found there and goes with the environment.
fn another_prefix() {
    let scratch = Scratch::new("prefix");
    run(&["setup", "--prefix", &scratch.0.to_string_lossy()]);
    let found = Command::new(python())
        .args(["-m", "jupyter_client.kernelspecapp", "list", "--json"])
        .env("JUPYTER_PATH", scratch.0.join("share/jupyter"))
        .output()
        .unwrap();
    let list: Value = serde_json::from_slice(&found.stdout).expect("JSON");
    let lightcell = &list["kernelspecs"]["lightcell"];
    assert!(
        lightcell["resource_dir"]
            .as_str()
            .is_some_and(|dir| dir.starts_with(&*scratch.0.to_string_lossy())),
        "{list}"
    );
    assert_eq!(lightcell["spec"]["display_name"], "Rust (Lightcell)");
    assert_eq!(lightcell["spec"]["interrupt_mode"], "message");
    drop(scratch);
    run(&["setup"]);
    assert_eq!(
        setup()["kernelspecs"].as_array().map(Vec::len),
        Some(1),
        "it is forgotten"
    );
}

/// `--sys-prefix` in an environment that is active: its Jupyter, and nobody else's, has the kernel, until both go.
fn prefix_of_the_environment() {
    let scratch = Scratch::new("sys-prefix");
    let environment = scratch.0.join("env");
    let ask = |python: &Path, code: &str| {
        let out = Command::new(python).args(["-c", code]).output().expect("Python runs");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    const PACKAGES: &str = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let made = Command::new(python())
        .args(["-m", "venv", "--without-pip"])
        .arg(&environment)
        .status();
    assert!(made.expect("Python runs").success());
    let own = environment.join("bin/python");
    // Jupyter's packages, without installing them once more.
    let packages = PathBuf::from(ask(&own, PACKAGES));
    std::fs::write(packages.join("jupyter.pth"), ask(&python(), PACKAGES)).unwrap();
    let jupyter = environment.join("bin/jupyter");
    let script = format!("#!{}\nfrom jupyter_core.command import main\nmain()\n", own.display());
    std::fs::write(&jupyter, script).unwrap();
    std::fs::set_permissions(&jupyter, std::fs::Permissions::from_mode(0o755)).unwrap();

    let mut path = vec![environment.join("bin")];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let out = lightcell(&["setup", "--sys-prefix"])
        .env("PATH", std::env::join_paths(path).unwrap())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let nobody = scratch.0.join("nobody's");
    let listed = |python: &Path| -> Value {
        let out = Command::new(python)
            .args(["-m", "jupyter_client.kernelspecapp", "list", "--json"])
            .env_remove("JUPYTER_PATH")
            .env("JUPYTER_DATA_DIR", &nobody)
            .output()
            .unwrap();
        let list: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        list["kernelspecs"]["lightcell"]["resource_dir"].clone()
    };
    assert_eq!(
        listed(&own),
        *environment.join("share/jupyter/kernels/lightcell").to_string_lossy()
    );
    assert_eq!(listed(&python()), Value::Null);
    drop(scratch);
    run(&["setup"]);
    assert_eq!(
        setup()["kernelspecs"].as_array().map(Vec::len),
        Some(1),
        "it is forgotten"
    );
}

/// `lightcell lab`: the server offers the kernel and the notebooks.
fn lab(spec: &Path) {
    let scratch = Scratch::new("lab");
    let mut server = lightcell(&["lab", "--no-browser", "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1"])
        .env("JUPYTER_RUNTIME_DIR", &scratch.0)
        .env("JUPYTER_CONFIG_DIR", &scratch.0)
        .env("JUPYTER_TOKEN", "of-this-test")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    let mut lines = BufReader::new(server.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let url = lines.by_ref().find_map(|line| {
        log.push_str(&line);
        log.push('\n');
        let at = line.find("http://127.0.0.1:")?;
        let url = line[at..].split("/lab").next()?.to_owned();
        line.contains("/lab").then_some(url)
    });
    // Read on, or the server would wait for room in the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let get = |path: &str| -> Value {
        let url = format!("{}{path}", url.as_deref().unwrap_or_default());
        let script = "import sys, urllib.request as u; \
             print(u.urlopen(u.Request(sys.argv[1], headers={'Authorization': 'token of-this-test'})).read().decode())";
        let out = Command::new(python()).args(["-c", script, &url]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{url}: {}\n{log}", text(&out)))
    };
    let answers = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        (get("/api/kernelspecs"), get("/api/contents"))
    }));
    // SAFETY: a plain call on a process that this test started.
    unsafe { libc::kill(server.id() as i32, libc::SIGTERM) };
    let _ = server.wait();
    let (specs, contents) = answers.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(spec.is_dir());
    assert_eq!(
        specs["kernelspecs"]["lightcell"]["spec"]["display_name"], "Rust (Lightcell)",
        "{specs}"
    );
    let names: Vec<&str> = contents["content"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|file| file["name"].as_str())
        .collect();
    assert!(
        names.contains(&"quickstart.ipynb") && names.contains(&"mnist.ipynb"),
        "{names:?}"
    );
}
