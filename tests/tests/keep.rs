//! Kernels on another machine that are kept when their front end is gone.

use lightcell_tests::alive;
use lightcell_tests::messages::documented;
use lightcell_tests::remote::{NET, Sshd};
use lightcell_tests::traces::{Kept, kill_front_end, processes, said, signal, until};
use serde_json::json;

/// The limit of what waits for no promise of the product's.
const LIMIT: u64 = 60;

#[test]
fn a_kept_kernel_outlives_its_front_end() {
    let sshd = Sshd::start("keep");
    let out = sshd.add_with("kept", "ssh://gpu", &["--keep", "8h"]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&sshd.remote(&["list"])).starts_with("kept  ssh://gpu  --keep 8h --dir "));
    let state = || said(&sshd.remote(&["kept", "kept"]));
    assert!(state().starts_with("no kernel of kept is kept on "), "{}", state());

    // Amid a run, the front end is killed.
    let mut first = sshd.kernel("kept");
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
    until("the run goes on", LIMIT, || seen.exists());
    let here = Kept::of("kept").expect("a kept kernel");
    kill_front_end(first);
    until("nobody is connected", LIMIT, || state().contains("nobody is connected"));
    // In its first second it has 8 h.
    until("it says when it ends", LIMIT, || {
        state().contains("; ends in 7 h 59 min")
    });
    assert!(here.runs());

    // The next one of that kernelspec has it, and sees the run go on.
    let mut second = sshd.kernel("kept");
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
    // Its whole history in a cell of this notebook, and live: stop comes after three more frames. The cell that waited
    // behind the run has the variables.
    let answer =
        second.call(json!({"op": "beside", "long": "v", "when": "epoch", "quick": "%fit --attach", "stop_after": 3}));
    let all = answer["order"].as_array().unwrap();
    let of = |who: &str, kind: &str| all.iter().find(|one| one[0] == who && one[1] == kind);
    let attached = of("quick", "display_data").expect("the run").to_string();
    assert!(attached.contains("epoch 0") || attached.contains("epoch"), "{attached}");
    let value = of("long", "execute_result").expect("a value");
    assert_eq!(value[3]["data"]["text/plain"], "42");
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
    until("it is gone", LIMIT, || last.is_gone());
    assert!(state().starts_with("no kernel of kept is kept on "), "{}", state());
}

#[test]
fn what_is_said_to_nobody_is_kept_up_to_a_limit_and_time_ends_it() {
    let sshd = Sshd::start("keep-brief");
    let out = sshd.add_with("brief", "ssh://gpu", &["--keep", "1h"]);
    assert!(out.status.success(), "{}", said(&out));
    let state = || said(&sshd.remote(&["kept", "brief"]));
    let [go, done] = ["go", "done"].map(|name| sshd.dir().join(name));
    let mut first = sshd.kernel("brief");

    // A line that is cut comes back by itself, with what was said in between.
    let wait = |after: &str| {
        format!(
            "println!(\"on\"); while !std::path::Path::new({go:?}).exists() {{ std::thread::sleep(std::time::Duration::from_millis(10)); }}\n{after}"
        )
    };
    let seen = sshd.dir().join("seen");
    first.send(json!({"op": "execute", "code": wait("println!(\"off\");\n42"), "touch": ["on\\n", seen]}));
    until("the cell runs", LIMIT, || seen.exists());
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
    signal(ssh, "-STOP");
    until("nobody is connected", LIMIT, || state().contains("nobody is connected"));
    std::fs::write(&go, "").unwrap();
    let answer = first.read();
    assert_eq!(answer["reply"]["status"], "ok", "{answer}");
    let messages = answer["messages"].to_string();
    documented("cut, and kept", &messages);
    for text in ["off\\n", "\"42\""] {
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
    until("the cell runs", LIMIT, || seen.exists());
    kill_front_end(first);
    until("nobody is connected", LIMIT, || state().contains("nobody is connected"));
    std::fs::write(&go, "").unwrap();
    until("the cell is done", LIMIT, || done.exists());
    let mut second = sshd.kernel("brief");
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
    until("it is gone", LIMIT, || here.is_gone());
    drop(second);

    // Without anybody, its time ends it, and the next is told.
    let out = sshd.add_with("brief", "ssh://gpu", &["--keep", "2s"]);
    assert!(out.status.success(), "{}", said(&out));
    let mut third = sshd.kernel("brief");
    third.ok("let v = 1;");
    let here = Kept::of("brief").expect("a kept kernel");
    kill_front_end(third);
    until("its time is over", LIMIT, || here.is_gone());
    let mut fourth = sshd.kernel("brief");
    let told = fourth.ok("1").stream("stderr");
    assert!(told.contains("nobody was connected for 2 s"), "{told}");
    documented("time of a kept one over", &told);
    let last = Kept::of("brief").expect("a kept kernel");
    drop(fourth);
    until("it is gone", LIMIT, || last.is_gone());
}
