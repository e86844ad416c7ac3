//! Kernels on another machine that are kept when their front end is gone.

use lightcell_tests::remote::{Kept, NET, Sshd, processes};
use lightcell_tests::{Kernel, alive};
use serde_json::json;
use std::process::Output;
use std::time::{Duration, Instant};

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn kernel(sshd: &Sshd, name: &str) -> Kernel {
    let (name, jupyter) = (format!("lightcell-{name}"), sshd.jupyter());
    Kernel::start_with(&[
        ("LIGHTCELL_TEST_KERNEL", &name),
        ("JUPYTER_PATH", &jupyter.to_string_lossy()),
        ("JUPYTER_DATA_DIR", &sshd.dir().join("data").to_string_lossy()),
    ])
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills the front end as a power cut would, and waits until nobody is connected.
fn cut_off(kernel: Kernel, mut this: impl FnMut() -> String) {
    let pid = kernel.front_end();
    std::mem::forget(kernel);
    let sent = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
    until("nobody is connected", || this().contains("nobody is connected"));
}

#[test]
fn a_kept_kernel_outlives_its_front_end() {
    let sshd = Sshd::start("keep");
    let out = sshd.add_with("kept", "ssh://loop", &["--keep", "8h"]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&sshd.remote(&["list"])).starts_with("kept  ssh://loop  --keep 8h --dir "));
    let state = || said(&sshd.remote(&["kept", "kept"]));
    assert!(state().starts_with("no kernel of kept is kept on "), "{}", state());

    // Amid a run, the front end is killed.
    let mut first = kernel(&sshd, "kept");
    let cell = first.ok(&format!("{NET}\nlet v = 6 * 7;"));
    assert!(
        cell.stream("stderr").contains(
            "this kernel is kept: when its front end is gone it goes on for 8 h, and \"Rust on kept\" comes back to it"
        ),
        "{}",
        cell.stream("stderr")
    );
    assert!(state().ends_with("a front end is connected\n"), "{}", state());
    let seen = sshd.dir().join("seen");
    first.send(json!({"op": "execute", "code": "%fit Net data --epochs -1", "touch": ["epoch 2", seen]}));
    until("the run goes on", || seen.exists());
    let here = Kept::of("kept").expect("a kept kernel");
    cut_off(first, state);
    // In its first second it has 8 h.
    until("it says when it ends", || state().contains("; ends in 7 h 59 min"));
    assert!(here.runs());

    // The next one of that kernelspec has it, and sees the run go on.
    let mut second = kernel(&sshd, "kept");
    let cell = second.ok("%lsmagic");
    assert!(
        cell.stream("stderr").contains("this is the kernel that was kept on "),
        "{}",
        cell.stream("stderr")
    );
    let shown = cell.all("display_data");
    assert!(
        shown.iter().any(|content| content.to_string().contains("epoch")),
        "{shown:?}"
    );
    let (cell, _) = second.stopped("v", "");
    assert_eq!(cell.value(), "42");
    assert_eq!(second.ok("fit.history.len() > 1").value(), "true");
    assert_eq!(Kept::of("kept"), Some(here));

    // Restarted, it is another, in each of the two ways; shut down, it is gone.
    for now in [false, true] {
        let before = Kept::of("kept").expect("a kept kernel");
        second.call(json!({"op": "restart", "now": now}));
        assert!(before.is_gone(), "{now}: {before:?}");
        assert_eq!(second.err("v").ename(), "CompileError");
    }
    let last = Kept::of("kept").expect("a kept kernel");
    assert_eq!(second.call(json!({"op": "shutdown"}))["gone"], true);
    until("it is gone", || last.is_gone());
    assert!(state().starts_with("no kernel of kept is kept on "), "{}", state());
}

#[test]
fn what_is_said_to_nobody_is_kept_up_to_a_limit_and_time_ends_it() {
    let sshd = Sshd::start("keep-brief");
    let out = sshd.add_with("brief", "ssh://loop", &["--keep", "1h"]);
    assert!(out.status.success(), "{}", said(&out));
    let state = || said(&sshd.remote(&["kept", "brief"]));
    let [go, done] = ["go", "done"].map(|name| sshd.dir().join(name));
    let mut first = kernel(&sshd, "brief");

    // A line that is cut comes back by itself, with what was said in between.
    let wait = |after: &str| {
        format!(
            "println!(\"on\"); while !std::path::Path::new({go:?}).exists() {{ std::thread::sleep(std::time::Duration::from_millis(10)); }}\n{after}"
        )
    };
    let seen = sshd.dir().join("seen");
    first.send(json!({"op": "execute", "code": wait("println!(\"off\");\n42"), "touch": ["on\\n", seen]}));
    until("the cell runs", || seen.exists());
    let launcher = processes()
        .into_iter()
        .find(|(_, _, words)| words.contains("lightcell-remote launch brief "))
        .expect("a launcher")
        .0;
    let ssh_of = || {
        processes()
            .into_iter()
            .find(|(_, parent, words)| *parent == launcher && words.starts_with("ssh "))
    };
    let ssh = ssh_of().expect("an ssh").0;
    assert!(
        std::process::Command::new("kill")
            .args(["-STOP", &ssh.to_string()])
            .status()
            .unwrap()
            .success()
    );
    until("nobody is connected", || state().contains("nobody is connected"));
    std::fs::write(&go, "").unwrap();
    let answer = first.read();
    assert_eq!(answer["reply"]["status"], "ok", "{answer}");
    let messages = answer["messages"].to_string();
    for text in [
        "is lost; the kernel there is kept",
        "is there again",
        "off\\n",
        "\"42\"",
    ] {
        assert!(messages.contains(text), "{text}: {messages}");
    }
    assert!(!alive(ssh));

    // 20 MB to nobody: the cell is not held up, and what is dropped is said.
    std::fs::remove_file(&go).unwrap();
    std::fs::remove_file(&seen).unwrap();
    let much = wait(&format!(
        "for at in 0..200_000 {{ println!(\"{{at:0100}}\"); }}\nstd::fs::write({done:?}, \"\")?;"
    ));
    first.send(json!({"op": "execute", "code": much, "touch": ["on\\n", seen]}));
    until("the cell runs", || seen.exists());
    cut_off(first, state);
    std::fs::write(&go, "").unwrap();
    until("the cell is done", || done.exists());
    let mut second = kernel(&sshd, "brief");
    let cell = second.ok("1 + 1");
    assert_eq!(cell.value(), "2");
    let told = cell.stream("stderr");
    assert!(
        told.contains("of what was said while nobody was connected, the first "),
        "{told}"
    );
    assert!(told.contains("were dropped: 8 MB are kept"), "{told}");
    assert!(cell.stdout().ends_with("199999\n"), "{}", cell.stdout().len());
    let here = Kept::of("brief").expect("a kept kernel");
    assert!(sshd.remote(&["end", "brief"]).status.success());
    until("it is gone", || here.is_gone());
    drop(second);

    // Without anybody, its time ends it, and the next is told.
    let out = sshd.add_with("brief", "ssh://loop", &["--keep", "2s"]);
    assert!(out.status.success(), "{}", said(&out));
    let mut third = kernel(&sshd, "brief");
    third.ok("let v = 1;");
    let here = Kept::of("brief").expect("a kept kernel");
    let pid = third.front_end();
    std::mem::forget(third);
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    until("its time is over", || here.is_gone());
    let mut fourth = kernel(&sshd, "brief");
    let told = fourth.ok("1").stream("stderr");
    assert!(
        told.contains("the kernel that was kept before has ended: nobody was connected for 2 s"),
        "{told}"
    );
    let last = Kept::of("brief").expect("a kept kernel");
    drop(fourth);
    until("it is gone", || last.is_gone());
}
