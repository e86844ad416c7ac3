//! Kernels on another machine: this one, through an sshd of the test's own.

use lightcell_tests::remote::{Chain, Sshd, free_port, processes, sockets_of};
use lightcell_tests::{Cell, Kernel, alive, home};
use serde_json::json;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// A machine with the remote `name`, registered.
fn machine(test: &str, name: &str) -> Sshd {
    let sshd = Sshd::start(test);
    let out = sshd.add(name, "ssh://loop");
    assert!(out.status.success(), "{}{}", stdout(&out), stderr(&out));
    sshd
}

fn kernel(sshd: &Sshd, name: &str) -> Kernel {
    let (name, jupyter) = (format!("lightcell-{name}"), sshd.jupyter());
    Kernel::start_with(&[
        ("LIGHTCELL_TEST_KERNEL", &name),
        ("JUPYTER_PATH", &jupyter.to_string_lossy()),
        ("JUPYTER_DATA_DIR", &sshd.dir().join("data").to_string_lossy()),
    ])
}

fn signal(pid: i32, name: &str) {
    let sent = std::process::Command::new("kill")
        .args([name, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success(), "{name} to {pid}");
}

/// Waits; the limit is what the product promises, with time for a busy machine.
fn until(what: &str, limit: u64, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(limit), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

/// All that a remote kernel has: its processes, the folder of its sockets, its session's folder.
struct Traces {
    chain: Chain,
    folders: Vec<PathBuf>,
}

impl Traces {
    fn of(kernel: &mut Kernel) -> Traces {
        let chain = Chain::of(kernel.pid());
        let sessions = std::fs::read_dir(home().join("sessions")).unwrap().flatten();
        let ours = format!("{}-", chain.kernel);
        let session = sessions
            .map(|entry| entry.path())
            .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&ours))
            .expect("a session's folder");
        Traces {
            chain,
            folders: vec![sockets_of(chain.kernel), session],
        }
    }

    fn are_gone(&self) -> bool {
        self.chain.left().is_empty() && self.are_gone_from_disk()
    }

    fn are_gone_from_disk(&self) -> bool {
        !self.folders.iter().any(|folder| folder.exists())
    }
}

#[test]
fn a_remote_is_added_checked_listed_and_removed() {
    let sshd = Sshd::start("remote-add");
    assert_eq!(
        stdout(&sshd.remote(&["list"])),
        "There is no remote. Add one: lightcell remote add NAME ssh://HOST\n"
    );
    let out = sshd.add("gpu", "ssh://loop");
    let text = stdout(&out);
    assert!(out.status.success(), "{text}{}", stderr(&out));
    assert!(text.contains("✓ ssh         OpenSSH"), "{text}");
    assert!(text.contains("✓ connection  loop\n✓ kernel      runs on "), "{text}");
    assert!(
        text.ends_with("Choose the kernel \"Rust on gpu\" in a notebook.\n"),
        "{text}"
    );
    let list = format!("gpu  ssh://loop  --dir {}\n", home().display());
    assert_eq!(stdout(&sshd.remote(&["list"])), list);
    // A check leaves nothing.
    let dir = sshd.dir().to_string_lossy().into_owned();
    until("the check's processes are gone", 20, || {
        !processes().iter().any(|(_, _, words)| {
            words.contains(&dir) && words.contains("@MARK@") || words.contains(&format!("ssh -F {dir}"))
        })
    });
    assert!(
        !std::fs::read_dir(sshd.dir())
            .unwrap()
            .flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with("master-")),
        "the user's shared connection is left alone"
    );
    // Each link that is broken is named, with its mend.
    let broken = |name: &str, address: &str, what: &str, mend: &str| {
        let (path, mut spec) = sshd.spec("gpu");
        let words = spec["argv"].as_array_mut().unwrap();
        for word in words.iter_mut().filter(|word| *word == "loop") {
            *word = address.into();
        }
        let folder = path.parent().unwrap().with_file_name(format!("lightcell-{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        spec["metadata"]["lightcell_remote"]["host"]["name"] = address.into();
        std::fs::write(folder.join("kernel.json"), spec.to_string()).unwrap();
        let out = sshd.remote(&["check", name]);
        assert!(!out.status.success());
        let text = stdout(&out);
        assert!(text.contains(&format!("✗ connection  {what}")), "{text}");
        assert!(text.contains(&format!("mend: {mend}")), "{text}");
    };
    broken(
        "new",
        "unknown-key",
        "the key of unknown-key is not known here",
        "run `ssh unknown-key` once in a terminal",
    );
    broken(
        "no",
        "refused",
        "refused refuses the login",
        "run `ssh-copy-id refused`",
    );
    let out = sshd.remote(&["remove", "gpu"]);
    assert!(
        stdout(&out).starts_with("The remote gpu is removed"),
        "{}",
        stdout(&out)
    );
    assert_eq!(
        stderr(&sshd.remote(&["check", "gpu"])),
        "error: there is no remote `gpu`\nhint: there are: new, no\n"
    );
    // What cannot be added.
    for (name, address, error) in [
        ("a b", "ssh://loop", "error: `a b` cannot be a kernel's name"),
        ("x", "loop", "error: `loop` is no address"),
        ("x", "ssh://refused", "error: refused cannot be reached: "),
    ] {
        let out = sshd.add(name, address);
        assert!(stderr(&out).starts_with(error), "{}", stderr(&out));
    }
    let out = sshd.remote(&[
        "add",
        "x",
        "ssh://loop",
        "--dir",
        "/nonexistent/lc",
        "--ssh-arg=-F",
        &format!("--ssh-arg={dir}/ssh_config"),
    ]);
    assert!(
        stdout(&out).contains("! on loop: Lightcell is not set up\n"),
        "{}",
        stdout(&out)
    );
    assert!(
        stderr(&out).starts_with("error: Lightcell is not ready on loop\nhint: run the same command with --yes"),
        "{}",
        stderr(&out)
    );
}

/// `%upload` and `%download`.
fn files_go_both_ways(kernel: &mut Kernel, sshd: &Sshd) {
    let (here, there) = (sshd.dir(), sshd.dir().join("home"));
    let content: Vec<u8> = (0..3_000_000).map(|at| (at * 31 % 251) as u8).collect();
    let up = here.join("a file.bin");
    std::fs::write(&up, &content).unwrap();
    let shown = |cell: &Cell| {
        let shown = cell.messages.iter().rfind(|(kind, _)| kind.ends_with("display_data"));
        shown.expect("an output").1["data"]["text/plain"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // In its turn, among other code.
    let cell = kernel.ok(&format!("let sent = 1;\n%upload \"{}\"\nsent", up.display()));
    assert_eq!(cell.value(), "1");
    let text = shown(&cell);
    let begin = format!("{0} → {1}/a file.bin: 3.0 MB, SHA-256 ", up.display(), there.display());
    assert!(text.starts_with(&begin) && text.len() == begin.len() + 64, "{text}");
    assert_eq!(std::fs::read(there.join("a file.bin")).unwrap(), content);
    let back = here.join("back.bin");
    let cell = kernel.ok(&format!("%download 'a file.bin' {}", back.display()));
    assert!(
        shown(&cell).ends_with(text.rsplit(' ').next().unwrap()),
        "{}",
        shown(&cell)
    );
    assert_eq!(std::fs::read(&back).unwrap(), content);
    let none = here.join("none");
    for (code, what) in [
        (
            format!("%upload {}", none.display()),
            format!("cannot read {}: No such file", none.display()),
        ),
        (
            format!("%upload \"{}\" /proc/x", up.display()),
            "cannot write /proc/x: ".into(),
        ),
        (
            "%download none".into(),
            format!("cannot read {}/none: No such file", there.display()),
        ),
        (
            format!("%download 'a file.bin' {}/x", none.display()),
            format!("cannot write {}/x: ", none.display()),
        ),
        ("%upload".into(), "%upload needs one name, or two".into()),
    ] {
        let cell = kernel.err(&code);
        assert_eq!(cell.ename(), "MagicError");
        assert!(cell.evalue().starts_with(&what), "{}", cell.evalue());
    }
    // Stopped, it leaves nothing.
    let big = here.join("big");
    std::fs::File::create(&big).unwrap().set_len(64 << 30).unwrap();
    let (cell, _) = kernel.stopped(&format!("%upload {}", big.display()), " MB, ");
    assert_eq!(
        (cell.ename(), cell.evalue()),
        ("Interrupted", "the transfer was stopped; no half file is left")
    );
    let half = || {
        std::fs::read_dir(&there)
            .unwrap()
            .flatten()
            .any(|e| e.file_name().to_string_lossy().contains("part"))
    };
    until("no half file is left", 20, || !half());
    assert!(!there.join("big").exists());
}

#[test]
fn cells_run_there_as_here() {
    let sshd = machine("remote-cells", "loop");
    let mut kernel = kernel(&sshd, "loop");
    // It is the other machine's shell that it comes from: its home, and a PATH without cargo.
    let there = kernel.ok("(std::env::var(\"HOME\").unwrap(), std::env::current_dir().unwrap().display().to_string())");
    let folder = sshd.dir().join("home").display().to_string();
    assert_eq!(there.value(), format!("({folder:?}, {folder:?})"));
    assert_eq!(kernel.ok("let v = vec![1, 2, 3];\nv.iter().sum::<i32>()").value(), "6");
    assert_eq!(kernel.ok("println!(\"out\"); eprintln!(\"err\");").stdout(), "out\n");
    assert_eq!(kernel.err("v[9]").ename(), "Panic");
    let cell = kernel.ok("for i in 0..200_000 { println!(\"line {i}\"); }");
    assert_eq!(cell.stdout().lines().count(), 200_000);
    let answer = kernel.call(json!({
        "op": "execute", "code": "let mut s = String::new();\nstd::io::stdin().read_line(&mut s)?;\ns", "inputs": ["from here"]
    }));
    assert!(answer["messages"].to_string().contains("from here"), "{answer}");
    let complete = kernel.call(json!({"op": "request", "name": "is_complete", "args": ["let x = ("]}));
    assert_eq!(complete["status"], "incomplete");
    assert!(kernel.call(json!({"op": "welcome"}))["kind"] == "iopub_welcome");
    // The key is nowhere to be read.
    let key = kernel.call(json!({"op": "key"}))["key"].as_str().unwrap().to_owned();
    let chain = Chain::of(kernel.pid());
    for pid in [chain.launcher, chain.ssh, chain.serve, chain.kernel] {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(&key), "{file} of {pid}");
        }
    }
    use std::os::unix::fs::PermissionsExt;
    let sockets = sockets_of(chain.kernel);
    assert_eq!(std::fs::metadata(&sockets).unwrap().permissions().mode() & 0o777, 0o700);
    files_go_both_ways(&mut kernel, &sshd);
    // Stop.
    let (cell, _) = kernel.stopped(
        "println!(\"on\"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }",
        "on",
    );
    assert_eq!(cell.ename(), "Interrupted");
    assert_eq!(kernel.ok("v.len()").value(), "3");
    // Both restarts, and the end: nothing of the one before is left.
    for now in [false, true] {
        let before = Traces::of(&mut kernel);
        kernel.call(json!({"op": "restart", "now": now}));
        until("the kernel before the restart is gone", 20, || before.are_gone());
        assert_eq!(kernel.err("v").ename(), "CompileError");
    }
    let last = Traces::of(&mut kernel);
    assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    until("nothing is left", 20, || last.are_gone());
}

#[test]
fn whatever_is_killed_nothing_is_left() {
    let sshd = machine("remote-kill", "loop");
    for who in ["front end", "launcher", "ssh", "serve", "kernel"] {
        let mut kernel = kernel(&sshd, "loop");
        // With a process of the user's.
        let sleeper =
            kernel.ok("let child = std::process::Command::new(\"sleep\").arg(\"1000\").spawn()?;\nchild.id()");
        let sleeper: i32 = sleeper.value().parse().unwrap();
        let traces = Traces::of(&mut kernel);
        let Chain {
            launcher,
            ssh,
            serve,
            kernel: there,
        } = traces.chain;
        let (pid, mut expected) = match who {
            "front end" => (kernel.front_end(), vec![]),
            "launcher" => (launcher, vec![]),
            // The launcher stays, to say so in the notebook.
            "ssh" => (ssh, vec![launcher]),
            "serve" => (serve, vec![launcher]),
            // As with a kernel of this machine: the front end starts the next one.
            _ => (there, vec![]),
        };
        signal(pid, "-9");
        let took = until(
            &format!("after the {who} is killed: {:?} {:?}", traces.chain, traces.folders),
            30,
            || traces.chain.left() == expected && !alive(sleeper),
        );
        assert!(took < Duration::from_secs(10), "{who}: {took:?}");
        until(
            &format!("folders after the {who} is killed: {:?}", traces.folders),
            10,
            || traces.are_gone_from_disk(),
        );
        if !expected.is_empty() {
            let cell = kernel.err("1");
            assert_eq!(cell.ename(), "RemoteError");
            assert!(
                cell.evalue()
                    .starts_with("the connection is lost: the connection to loop was closed"),
                "{}",
                cell.evalue()
            );
            assert!(
                cell.traceback().ends_with("hint: restart the kernel to begin anew"),
                "{}",
                cell.traceback()
            );
            kernel.call(json!({"op": "restart"}));
            assert_eq!(kernel.ok("1 + 1").value(), "2");
            expected.clear();
        }
        if who == "front end" {
            // Its pipes are closed.
            std::mem::forget(kernel);
        }
    }
}

#[test]
fn a_cut_line_is_noticed_on_both_sides() {
    let sshd = machine("remote-cut", "loop");
    let mut kernel = kernel(&sshd, "loop");
    kernel.ok("let v = 1;");
    let traces = Traces::of(&mut kernel);
    let Chain {
        ssh,
        serve,
        kernel: there,
        ..
    } = traces.chain;
    // Stopped, ssh is as a network that swallows everything: nothing is closed.
    kernel.send(json!({"op": "execute", "code": "println!(\"on\"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }"}));
    signal(ssh, "-STOP");
    let took = until("the other side ends", 30, || !alive(serve) && !alive(there));
    // Ten seconds, and what a busy machine adds.
    assert!(took < Duration::from_secs(15), "{took:?}");
    until("its folders are gone", 10, || {
        !traces.folders.iter().any(|folder| folder.exists())
    });
    // The cell that ran is told, and so is the next.
    let answer = kernel.read();
    assert_eq!(answer["reply"]["ename"], "RemoteError", "{answer}");
    let said = answer["reply"]["evalue"].as_str().unwrap();
    assert!(said.contains("nothing was heard of loop for 7 seconds"), "{said}");
    assert_eq!(kernel.err("v").ename(), "RemoteError");
    until("ssh is ended", 10, || !alive(ssh));
    kernel.call(json!({"op": "restart"}));
    assert_eq!(kernel.ok("2 * 21").value(), "42");
}

#[test]
fn what_is_wrong_is_said_in_the_notebook() {
    let sshd = machine("remote-wrong", "loop");
    let (path, spec) = sshd.spec("loop");
    let original = spec.to_string();
    let closed = format!("127.0.0.1:{}", free_port());
    let say = |change: &dyn Fn(&str) -> String, what: &str, hint: &str| {
        std::fs::write(&path, change(&original)).unwrap();
        let mut kernel = kernel(&sshd, "loop");
        // More than once: the notebook stays usable.
        for _ in 0..2 {
            let cell: Cell = kernel.err("1 + 1");
            assert_eq!(cell.ename(), "RemoteError");
            assert!(cell.evalue().starts_with(what), "{}", cell.evalue());
            assert!(
                cell.traceback().contains(&format!("hint: {hint}")),
                "{}",
                cell.traceback()
            );
        }
        assert_eq!(kernel.call(json!({"op": "alive"}))["alive"], true);
        assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    };
    let named = |name: &'static str| move |spec: &str| spec.replace("\"loop\",\"exec", &format!("\"{name}\",\"exec"));
    say(
        &named("unknown-key"),
        "the key of loop is not known here",
        "run `ssh loop` once in a terminal",
    );
    say(&named("refused"), "loop refuses the login", "run `ssh-copy-id loop`");
    say(
        &named("no-such-host.invalid"),
        "there is no host loop",
        "check the name",
    );
    let port = closed.rsplit(':').next().unwrap().to_owned();
    say(
        &|spec: &str| spec.replace("\"loop\",\"exec", &format!("\"-p\",\"{port}\",\"127.0.0.1\",\"exec")),
        "loop cannot be reached: no ssh server answers there",
        "`lightcell remote check loop` looks at each link",
    );
    let installed = home().to_string_lossy().into_owned();
    say(
        &|spec: &str| spec.replace(&format!("d={installed}"), "d=/nonexistent/lc"),
        "Lightcell is not set up on loop",
        "`lightcell remote check loop` says what is missing",
    );
    say(
        &|spec: &str| spec.replace("\"ssh\"", "\"no-such-program\""),
        "cannot run no-such-program",
        "install OpenSSH's client",
    );
}
