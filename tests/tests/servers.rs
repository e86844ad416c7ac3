//! Kernels elsewhere by Jupyter's own means: JupyterLab there through a tunnel, and as the gateway of a server here.

use lightcell_tests::remote::{Machine, Sshd};
use lightcell_tests::traces::processes;
use lightcell_tests::{file, python};
use serde_json::{Value, json};
use std::process::Command;

#[test]
fn jupyterlab_there_through_a_tunnel_and_as_a_gateway() {
    let sshd = Sshd::start_as(
        "servers",
        &Machine {
            forwards: true,
            ..Machine::default()
        },
    );
    let folder = sshd.dir().join("work");
    std::fs::create_dir_all(&folder).expect("a folder");
    let out = Command::new(python())
        .arg(file("clients/servers.py"))
        .arg(sshd.dir().join("ssh_config"))
        .arg(&folder)
        .output()
        .expect("the client runs");
    let (said, errors) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{said}{errors}");
    let ways: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(ways.len(), 2, "{said}{errors}");
    let cell = |text: &str, value: Value, reply: &str| json!({"text": text, "value": value, "reply": reply});
    for way in ways {
        assert!(
            way["names"]
                .as_array()
                .is_some_and(|names| names.contains(&json!("lightcell"))),
            "{way}"
        );
        let expected = [
            cell("said\n", json!("42"), "ok"),
            cell("on\n", Value::Null, "Interrupted"),
            cell("", json!("41"), "ok"),
            cell("", Value::Null, "CompileError"),
        ];
        assert_eq!(way["cells"], json!(expected), "{way}");
        assert_eq!(way["left"], 0, "{way}");
    }
    let dir = folder.display().to_string();
    let left = processes().into_iter().filter(|(_, _, words)| words.contains(&dir));
    assert_eq!(left.count(), 0);
}
