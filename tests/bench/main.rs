//! Measures the installed kernel against evcxr_jupyter and ipykernel in one run. By hand, on a quiet machine:
//!
//! ```text
//! cargo run --release -p lightcell-tests --features peers --bin bench -- [starts] [tch] [lines] [cells]
//! ```
//!
//! It wants the environment that `cargo selftest` gives its tests: LIGHTCELL_HOME, and LIGHTCELL_TEST_PYTHON, a Python
//! with jupyter_client and ipykernel. ROUNDS (3), REPEAT (10) and MANY (200) set how often.

use lightcell_tests::{Scratch, file, home, python};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

const OURS: &str = "lightcell";
const PEER: &str = "evcxr_jupyter";
/// The peer with its cache of compiled crates turned on.
const PEER_CACHE: &str = "evcxr_jupyter+cache";

fn main() -> ExitCode {
    let scratch = Scratch::new("bench");
    let peer = std::env::current_exe().expect("a path").with_file_name("bench-peer");
    let mut steps: Vec<String> = std::env::args().skip(1).collect();
    if steps.is_empty() {
        steps = ["starts", "lines", "cells", "tch"].map(str::to_owned).to_vec();
    }
    if !peer.is_file() {
        eprintln!("the peer is not built: add --features peers");
        return ExitCode::FAILURE;
    }
    let spec = |name: &str, argv: Value| {
        let folder = scratch.0.join("kernels").join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let text = json!({"argv": argv, "display_name": name, "language": "rust"}).to_string();
        std::fs::write(folder.join("kernel.json"), text).expect("a kernelspec");
    };
    for name in [PEER, PEER_CACHE] {
        spec(name, json!([peer, "--control_file", "{connection_file}"]));
    }
    spec(
        "ipykernel",
        json!([python(), "-m", "ipykernel_launcher", "-f", "{connection_file}"]),
    );
    let setup: Value = serde_json::from_str(&std::fs::read_to_string(home().join("setup.json")).expect("setup.json"))
        .expect("setup.json");
    let libtorch = setup["libtorch"]["path"].as_str().unwrap_or_default();
    let versions = json!({
        "rustc": setup["rustc_version"],
        "libtorch": setup["libtorch"]["version"],
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
    });
    println!("{versions}");
    let settings = json!({
        "ours": OURS,
        "steps": steps,
        "rounds": number("ROUNDS", 3),
        "repeat": number("REPEAT", 10),
        "many": number("MANY", 200),
        "kernels": {
            "starts": [OURS, PEER, "ipykernel"],
            "lines": [OURS, PEER, "ipykernel"],
            "cells": [OURS, PEER, PEER_CACHE],
            "tch": [OURS, PEER, PEER_CACHE],
        },
        "env": {PEER: peer_env(libtorch), PEER_CACHE: peer_env(libtorch)},
        // Both kernels of the peer load tch from a tiny crate graph of their own, as its users do.
        "tch": {
            OURS: ["use lightcell::prelude::*; Tensor::from_slice(&[1i64, 2]).sum(Kind::Int64).int64_value(&[])"],
            PEER: [":dep tch = { version = \"0.26\", default-features = false }",
                   "use tch::{Kind, Tensor}; Tensor::from_slice(&[1i64, 2]).sum(Kind::Int64).int64_value(&[])"],
            PEER_CACHE: [":cache 500", ":dep tch = { version = \"0.26\", default-features = false }",
                   "use tch::{Kind, Tensor}; Tensor::from_slice(&[1i64, 2]).sum(Kind::Int64).int64_value(&[])"],
        },
        "lines": {
            "rust": "for i in 0..200000 { println!(\"line {i}\"); }",
            "python": "for i in range(200000): print(f'line {i}')",
        },
        "warm": {
            OURS: ["use lightcell::prelude::*; let t = Tensor::from_slice(&[1.0, 2.0]); let x = 1;"],
            PEER: [":dep tch = { version = \"0.26\", default-features = false }",
                   "use tch::{Kind, Tensor}; let t = Tensor::from_slice(&[1.0, 2.0]); let x = 1;"],
            PEER_CACHE: [":cache 500", ":dep tch = { version = \"0.26\", default-features = false }",
                   "use tch::{Kind, Tensor}; let t = Tensor::from_slice(&[1.0, 2.0]); let x = 1;"],
        },
        "cells": cells(),
    });
    let mut driver = Command::new(python());
    driver.arg(file("bench/bench.py")).stdin(Stdio::piped());
    let path = std::env::var_os("JUPYTER_PATH").unwrap_or_default();
    let paths = std::env::split_paths(&path).chain([scratch.0.clone()]);
    driver.env("JUPYTER_PATH", std::env::join_paths(paths).expect("plain paths"));
    let mut child = driver.spawn().expect("the driver starts");
    let sent = child.stdin.take().map(|mut input| write!(input, "{settings}"));
    match (sent, child.wait()) {
        (Some(Ok(())), Ok(status)) if status.success() => ExitCode::SUCCESS,
        other => {
            eprintln!("{other:?}");
            ExitCode::FAILURE
        }
    }
}

fn peer_env(libtorch: &str) -> Value {
    json!({"LIBTORCH": libtorch, "LD_LIBRARY_PATH": format!("{libtorch}/lib")})
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Title and text; `@` stands for the turn.
fn cells() -> Value {
    let function: String = (0..28).map(|line| format!("    let y = y + {line} + @;\n")).collect();
    let many: String = (0..20).map(|n| format!("let v{n} = vec![{n}, @];\n")).collect();
    json!([
        ["x + 1", "x + 1 + @"],
        ["a let", "let y@ = 3;"],
        ["a struct", "#[derive(Debug, Clone)] struct S@ { a: i32, b: String }"],
        [
            "a function of 30 lines",
            format!("fn f@(y: i64) -> i64 {{\n{function}    y\n}}")
        ],
        ["with tch", "(&t + @ as f64).sum(Kind::Double).double_value(&[])"],
        ["20 variables made", many],
        ["x + 1 with 20 variables alive", "x + 2 + @"],
    ])
}
