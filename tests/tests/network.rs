//! Kernels behind a network that is slow, loses packets, and is cut.

use lightcell_tests::remote::{Machine, Sshd};
use lightcell_tests::traces::{Chain, Kept, until};
use lightcell_tests::wire::Wire;
use lightcell_tests::{Cell, alive};
use serde_json::json;
use std::time::Duration;

/// The machine's name, there.
const NAME: &str = "far-away";

fn machine(test: &str, wire: &Wire, more: &[&str]) -> Sshd {
    let sshd = Sshd::start_as(
        test,
        &Machine {
            wire: Some(wire),
            name: Some(NAME),
            ..Machine::default()
        },
    );
    let out = sshd.add_with("far", "ssh://loop", more);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    assert!(text.contains(&format!("✓ kernel      runs on {NAME}, ")), "{text}");
    sshd
}

/// 40 ms one way, and each fiftieth packet lost.
const POOR: (f64, f64) = (0.04, 0.02);

#[test]
fn a_poor_network_loses_nothing_and_a_cut_ends_all() {
    let mut wire = Wire::lay();
    let sshd = machine("network-cut", &wire, &[]);
    wire.set(POOR.0, POOR.1);
    let mut kernel = sshd.kernel("far");
    let cell = kernel.ok("for at in 0..20_000 { println!(\"line {at}\"); }\n6 * 7");
    let all: String = (0..20_000).map(|at| format!("line {at}\n")).collect();
    assert!(cell.stdout() == all, "{} of {} bytes", cell.stdout().len(), all.len());
    assert_eq!(cell.value(), "42");
    let (cell, _) = kernel.stopped(
        "println!(\"on\"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }",
        "on",
    );
    assert_eq!(cell.ename(), "Interrupted");
    // It is the other machine that is shown.
    let gpu = kernel.ok("%gpu");
    let shown = gpu.all("display_data")[0]["data"]["text/plain"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(shown.contains(NAME), "{shown}");
    let chain = Chain::of(kernel.pid());
    let seen = sshd.dir().join("seen");
    let endless = "println!(\"on\"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }";
    kernel.send(json!({"op": "execute", "code": endless, "touch": ["on\\n", seen]}));
    until("the cell runs", 60, || seen.exists());
    wire.cut();
    let took = until("the other side ends", 60, || {
        !alive(chain.serve) && !alive(chain.kernel)
    });
    // Ten seconds, and what a busy machine adds.
    assert!(took < Duration::from_secs(20), "{took:?}");
    let answer = kernel.read();
    assert_eq!(answer["reply"]["ename"], "RemoteError", "{answer}");
    let said = answer["reply"]["evalue"].as_str().unwrap_or_default();
    assert!(said.contains("nothing was heard of loop for 7 seconds"), "{said}");
    until("ssh is ended", 60, || !alive(chain.ssh));
    // There again, the next kernel is as any.
    wire.set(POOR.0, POOR.1);
    kernel.call(json!({"op": "restart"}));
    assert_eq!(kernel.ok("2 * 21").value(), "42");
}

/// Where two texts begin to differ.
fn first_difference(found: &str, expected: &str) -> String {
    let mut lines = found.lines().zip(expected.lines());
    let at = lines.find(|(found, expected)| found != expected);
    format!("{at:?}, {} and {} bytes", found.len(), expected.len())
}

#[test]
fn a_kept_kernel_goes_on_behind_a_cut_network() {
    let mut wire = Wire::lay();
    let sshd = machine("network-keep", &wire, &["--keep", "1h"]);
    wire.set(POOR.0, POOR.1);
    let mut kernel = sshd.kernel("far");
    let here = {
        kernel.ok("let v = 6 * 7;");
        Kept::of("far").expect("a kept kernel")
    };
    // It prints all the time, so that some of it is under way when the network is cut: each line arrives once, in its place.
    let [go, seen, lost] = ["go", "seen", "lost"].map(|name| sshd.dir().join(name));
    let code = format!(
        "let mut at = 0;\nwhile !std::path::Path::new({go:?}).exists() {{ println!(\"line {{at}} {{}}\", \"x\".repeat(200)); at += 1; \
         std::thread::sleep(std::time::Duration::from_millis(2)); }}\nat"
    );
    kernel.send(
        json!({"op": "execute", "code": code, "touch": ["line 100 ", seen, "is lost; the kernel there is kept", lost]}),
    );
    until("the cell runs", 60, || seen.exists());
    wire.cut();
    until("the launcher notices", 60, || lost.exists());
    std::fs::write(&go, "").expect("a file");
    wire.set(POOR.0, POOR.1);
    let cell = Cell::from(kernel.read());
    assert_eq!(cell.reply["status"], "ok", "{}", cell.traceback());
    let count: usize = cell.value().parse().expect("a number");
    let all: String = (0..count)
        .map(|at| format!("line {at} {}\n", "x".repeat(200)))
        .collect();
    assert!(
        count > 100 && cell.stdout() == all,
        "{count} lines: {}",
        first_difference(&cell.stdout(), &all)
    );
    // A cell that goes into the cut line runs once, when it is there again.
    kernel.ok("let mut runs = 0;");
    wire.cut();
    std::fs::remove_file(&lost).expect("a file");
    kernel.send(
        json!({"op": "execute", "code": "runs += 1;\nruns", "touch": ["is lost; the kernel there is kept", lost]}),
    );
    until("the launcher notices", 60, || lost.exists());
    wire.set(POOR.0, POOR.1);
    let cell = Cell::from(kernel.read());
    assert_eq!(cell.value(), "1", "{}", cell.traceback());
    let told = cell.stream("stderr");
    assert!(told.contains("is there again"), "{told}");
    assert_eq!(kernel.ok("runs").value(), "1");
    assert_eq!(Kept::of("far"), Some(here));
    assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    until("it is gone", 60, || here.is_gone());
}
