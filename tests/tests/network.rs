//! Kernels behind a network that is slow, loses packets, and is cut.

use lightcell_tests::remote::{Chain, Kept, Machine, Sshd};
use lightcell_tests::wire::Wire;
use lightcell_tests::{Kernel, alive};
use serde_json::json;
use std::time::{Duration, Instant};

fn machine(test: &str, wire: &Wire, more: &[&str]) -> Sshd {
    let sshd = Sshd::start_as(
        test,
        &Machine {
            wire: Some(wire),
            ..Machine::default()
        },
    );
    let out = sshd.add_with("far", "ssh://loop", more);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    sshd
}

fn kernel(sshd: &Sshd) -> Kernel {
    Kernel::start_with(&[
        ("LIGHTCELL_TEST_KERNEL", "lightcell-far"),
        ("JUPYTER_PATH", &sshd.jupyter().to_string_lossy()),
        ("JUPYTER_DATA_DIR", &sshd.dir().join("data").to_string_lossy()),
    ])
}

fn until(what: &str, limit: u64, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(limit), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

/// 40 ms one way, and each fiftieth packet lost.
const POOR: (f64, f64) = (0.04, 0.02);

#[test]
fn a_poor_network_loses_nothing_and_a_cut_ends_all() {
    let mut wire = Wire::lay();
    let sshd = machine("network-cut", &wire, &[]);
    wire.set(POOR.0, POOR.1);
    let mut kernel = kernel(&sshd);
    let cell = kernel.ok("for at in 0..20_000 { println!(\"line {at}\"); }\n6 * 7");
    let all: String = (0..20_000).map(|at| format!("line {at}\n")).collect();
    assert!(cell.stdout() == all, "{} of {} bytes", cell.stdout().len(), all.len());
    assert_eq!(cell.value(), "42");
    let (cell, _) = kernel.stopped(
        "println!(\"on\"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }",
        "on",
    );
    assert_eq!(cell.ename(), "Interrupted");
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

#[test]
fn a_kept_kernel_goes_on_behind_a_cut_network() {
    let mut wire = Wire::lay();
    let sshd = machine("network-keep", &wire, &["--keep", "1h"]);
    wire.set(POOR.0, POOR.1);
    let mut kernel = kernel(&sshd);
    let here = {
        kernel.ok("let v = 6 * 7;");
        Kept::of("far").expect("a kept kernel")
    };
    let [go, seen, lost] = ["go", "seen", "lost"].map(|name| sshd.dir().join(name));
    let code = format!(
        "println!(\"on\"); while !std::path::Path::new({go:?}).exists() {{ std::thread::sleep(std::time::Duration::from_millis(20)); }}\n\
         for at in 0..1000 {{ println!(\"line {{at}}\"); }}\nv"
    );
    kernel.send(
        json!({"op": "execute", "code": code, "touch": ["on\\n", seen, "is lost; the kernel there is kept", lost]}),
    );
    until("the cell runs", 60, || seen.exists());
    wire.cut();
    until("the launcher notices", 60, || lost.exists());
    std::fs::write(&go, "").expect("a file");
    wire.set(POOR.0, POOR.1);
    let answer = kernel.read();
    assert_eq!(answer["reply"]["status"], "ok", "{answer}");
    let messages = answer["messages"].to_string();
    for text in ["is there again", "line 0\\n", "line 999\\n", "\"42\""] {
        assert!(messages.contains(text), "{text}: {messages}");
    }
    assert_eq!(Kept::of("far"), Some(here));
    assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    until("it is gone", 60, || here.is_gone());
}
