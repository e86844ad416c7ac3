//! The Jupyter protocol, by jupyter_kernel_test and by hand.

use lightcell_tests::{Kernel, file, python};
use serde_json::json;
use std::process::Command;

#[test]
fn jupyter_kernel_test_runs_all_its_tests() {
    let out = Command::new(python())
        .arg(file("clients/kernel_test.py"))
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success(), "{text}");
    assert!(text.contains("failed 0, skipped 0"), "{text}");
}

#[test]
fn requests_beside_cells_are_answered() {
    let mut kernel = Kernel::start();
    let info = kernel.call(json!({"op": "request", "name": "kernel_info"}));
    assert_eq!(
        (info["implementation"].as_str(), info["language_info"]["name"].as_str()),
        (Some("lightcell"), Some("rust"))
    );
    assert_eq!(info["language_info"]["file_extension"], ".rs");
    assert!(
        info["language_info"]["version"].as_str().unwrap().starts_with("1."),
        "{info}"
    );

    // Counts begin at 1; a silent cell and one that is not stored do not count.
    assert_eq!(kernel.ok("1 + 1").reply["execution_count"], 1);
    let silent = kernel.call(json!({"op": "execute", "code": "let quiet = 5; quiet", "silent": true}));
    assert_eq!(silent["reply"]["status"], "ok");
    let kinds: Vec<_> = silent["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m[0].as_str().unwrap())
        .collect();
    assert!(
        !kinds.contains(&"execute_input") && !kinds.contains(&"execute_result"),
        "{kinds:?}"
    );
    kernel.call(json!({"op": "execute", "code": "2", "store_history": false}));
    let second = kernel.ok("quiet + 1");
    assert_eq!(
        (second.reply["execution_count"].as_i64(), second.value()),
        (Some(2), "6".to_owned())
    );

    let history =
        kernel.call(json!({"op": "request", "name": "history", "kwargs": {"hist_access_type": "tail", "n": 2}}));
    let inputs: Vec<_> = history["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry[2].as_str().unwrap())
        .collect();
    assert_eq!(inputs, ["1 + 1", "quiet + 1"]);

    let complete = |code: &str| json!({"op": "request", "name": "complete", "args": [code, code.chars().count()]});
    kernel.ok("#[derive(Default)] struct Row { alpha: u32 }\nlet rows = vec![Row::default()];");
    let found = kernel.call(complete("rows[0]."));
    assert!(
        found["matches"].as_array().unwrap().contains(&json!("alpha")),
        "{found}"
    );
    let found = kernel.call(complete("let größe = quie"));
    assert_eq!(found["cursor_start"], 12, "{found}");
    assert!(
        found["matches"].as_array().unwrap().contains(&json!("quiet")),
        "{found}"
    );

    let inspect = kernel.call(json!({"op": "request", "name": "inspect", "args": ["rows", 2]}));
    assert_eq!(inspect["found"], true, "{inspect}");
    assert!(
        inspect["data"]["text/plain"].as_str().unwrap().contains("Row"),
        "{inspect}"
    );

    let welcome = kernel.call(json!({"op": "welcome"}));
    assert_eq!(
        welcome,
        json!({"kind": "iopub_welcome", "content": {"subscription": ""}})
    );

    let comms = kernel.call(json!({"op": "request", "name": "comm_info"}));
    assert_eq!((comms["status"].as_str(), &comms["comms"]), (Some("ok"), &json!({})));

    let page = kernel.ok("%fit?");
    let text = page.reply["payload"][0]["data"]["text/plain"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.starts_with("%fit MODEL DATA [flags]") && text.contains("--max-epochs, --epochs"),
        "{text}"
    );
    assert!(
        kernel
            .err("nothing_like_this?")
            .traceback()
            .contains("nothing is known about `nothing_like_this`")
    );

    // A failed cell aborts what was queued behind it, and nothing that comes later.
    let queued = kernel.call(json!({"op": "queue", "cells": ["let a = 1;", "undefined_name", "a", "a + 1"]}));
    let statuses: Vec<_> = queued["replies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["ok", "error", "aborted", "aborted"]);
    assert_eq!(kernel.ok("a").value(), "1");

    kernel.call(json!({"op": "restart"}));
    assert_eq!(kernel.ok("1").reply["execution_count"], 1);
    let history = kernel.call(json!({"op": "request", "name": "history", "kwargs": {"hist_access_type": "search", "pattern": "quiet + *", "n": 1}}));
    assert_eq!(history["history"][0][2], "quiet + 1");
}

/// The analyser is evcxr's, which waits for the cell that runs; what is typed meanwhile is completed all the same.
#[test]
fn what_is_typed_while_a_cell_runs_is_completed_and_described() {
    let mut kernel = Kernel::start();
    kernel.ok("use lightcell::prelude::*;\nstruct Point { longitude: f64, latitude: f64 }");
    kernel.ok("let place = Point { longitude: 1.0, latitude: 2.0 };\nlet tensors = vec![Tensor::from(1.0)];\n");
    let long = "println!(\"{}\", \"on\".repeat(2)); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }";
    for (name, code, until) in [
        ("complete", "place.lon", "longitude"),
        ("complete", "tensors[0].requires_g", "requires_grad"),
        (
            "complete",
            "let longer = 1;\nlet größe = tensors.iter().enumer",
            "enumerate",
        ),
        ("inspect", "tensors", "Vec<Tensor>"),
    ] {
        let request = json!({"name": name, "args": [code, code.chars().count()]});
        let answer =
            kernel.call(json!({"op": "meanwhile", "long": long, "when": "onon", "request": request, "until": until}));
        assert!(answer["found"].to_string().contains(until), "{code}: {answer}");
        assert_eq!(answer["reply"]["ename"], "Interrupted");
        if name == "complete" {
            let typed = code.rfind(|c: char| !c.is_alphanumeric() && c != '_').unwrap() + 1;
            assert_eq!(
                answer["found"]["cursor_start"],
                json!(code[..typed].chars().count()),
                "{code}"
            );
        }
        // Half a second each; this is for a machine with a lot else to do.
        assert!(answer["took"].as_f64().unwrap() < 20.0, "{code}: {answer}");
    }
}
