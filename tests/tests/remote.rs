//! Kernels on another machine: this one, through an sshd of the test's own.

use lightcell_tests::messages::documented;
use lightcell_tests::remote::{Disk, Installation, Sshd, free_port};
use lightcell_tests::traces::{Chain, Traces, listens, processes, said, signal, sockets_of, until};
use lightcell_tests::{Cell, Kernel, alive, home};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// A machine with the remote `gpu`, registered.
fn machine(test: &str) -> Sshd {
    let sshd = Sshd::start(test);
    let out = sshd.add("gpu", "ssh://gpu");
    assert!(out.status.success(), "{}", said(&out));
    sshd
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
        "no shared connection is made"
    );
    // One that is there is neither used nor ended.
    assert!(sshd.ssh(&["-fN", "-o", "ControlMaster=yes", "loop"]));
    let out = sshd.remote(&["check", "gpu"]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(
        stdout(&out).ends_with("\n✓ doctor      all parts are there\n"),
        "{}",
        stdout(&out)
    );
    let mut kernel = sshd.kernel("gpu");
    assert!(sshd.ssh(&["-O", "check", "loop"]));
    assert!(sshd.ssh(&["-O", "exit", "loop"]));
    assert_eq!(kernel.ok("6 * 7").value(), "42");
    drop(kernel);
    // What cells would miss there is said by a check, though a kernel starts.
    let there = Installation::like_ours("remote-add-there");
    std::fs::remove_file(there.dir().join("setup.json")).unwrap();
    let (path, spec) = sshd.spec("gpu");
    let [ours, theirs] = [home().as_path(), there.dir()].map(|folder| folder.display().to_string());
    std::fs::write(&path, spec.to_string().replace(&ours, &theirs)).unwrap();
    let out = sshd.remote(&["check", "gpu"]);
    assert!(!out.status.success());
    assert!(
        stdout(&out).contains("\n✗ doctor      installation: "),
        "{}",
        stdout(&out)
    );
    std::fs::write(&path, spec.to_string()).unwrap();
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
        if what.ends_with("none: No such file") {
            documented("no file", &cell.traceback());
        }
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
    let sshd = machine("remote-cells");
    let mut kernel = sshd.kernel("gpu");
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
    let log = home().join(format!("logs/kernel-{}.log", chain.kernel));
    assert!(!std::fs::read_to_string(log).unwrap().contains(&key));
    // Nothing listens on TCP there, and here only for this machine.
    assert_eq!([chain.serve, chain.kernel].map(|pid| listens(pid).len()), [0, 0]);
    let here = listens(chain.launcher);
    assert_eq!(here.len(), 5, "{here:?}");
    assert!(here.iter().all(|address| address.starts_with("0100007F:")), "{here:?}");
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

/// What is killed in a round.
const VICTIMS: [&str; 5] = ["front end", "launcher", "ssh", "serve", "kernel"];

/// Start, run, restart, run, kill: nothing is left.
fn round(sshd: &Sshd, number: usize) {
    let who = VICTIMS[number % VICTIMS.len()];
    let mut kernel = sshd.kernel("gpu");
    // With a process of the user's.
    let with_process = |kernel: &mut Kernel| {
        let cell = kernel.ok("let child = std::process::Command::new(\"sleep\").arg(\"1000\").spawn()?;\nchild.id()");
        (Traces::of(kernel), cell.value().parse::<i32>().unwrap())
    };
    let (before, sleeper) = with_process(&mut kernel);
    kernel.call(json!({"op": "restart", "now": number % 2 == 1}));
    until(
        &format!("round {number}: the kernel before the restart is gone"),
        20,
        || before.are_gone() && !alive(sleeper),
    );
    let (traces, sleeper) = with_process(&mut kernel);
    let Chain {
        launcher,
        ssh,
        serve,
        kernel: there,
    } = traces.chain;
    let (pid, expected) = match who {
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
        &format!("round {number}, after the {who} is killed: {:?}", traces.chain),
        30,
        || traces.chain.left() == expected && !alive(sleeper),
    );
    assert!(took < Duration::from_secs(10), "{who}: {took:?}");
    until(
        &format!(
            "round {number}, folders after the {who} is killed: {:?}",
            traces.folders
        ),
        10,
        || traces.are_gone_from_disk(),
    );
    if !expected.is_empty() {
        let cell = kernel.err("1");
        assert_eq!(cell.ename(), "RemoteError");
        assert!(
            cell.evalue()
                .starts_with("the connection is lost: the connection to gpu was closed"),
            "{}",
            cell.evalue()
        );
        assert!(
            cell.traceback().ends_with("hint: restart the kernel to begin anew"),
            "{}",
            cell.traceback()
        );
    }
    if number % 10 == 2 {
        kernel.call(json!({"op": "restart"}));
        assert_eq!(kernel.ok("1 + 1").value(), "2");
    }
    if who == "front end" {
        // Its pipes are closed.
        std::mem::forget(kernel);
    }
}

#[test]
fn in_twenty_rounds_nothing_is_left_whatever_is_killed() {
    let sshd = machine("remote-kill");
    // Much of a round is waiting: two at a time.
    std::thread::scope(|scope| {
        for lane in 0..2 {
            let sshd = &sshd;
            scope.spawn(move || (0..10).for_each(|at| round(sshd, 2 * at + lane)));
        }
    });
}

#[test]
fn a_cut_line_is_noticed_on_both_sides() {
    let sshd = machine("remote-cut");
    let mut kernel = sshd.kernel("gpu");
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
    documented("connection cut", said);
    assert_eq!(kernel.err("v").ename(), "RemoteError");
    until("ssh is ended", 10, || !alive(ssh));
    kernel.call(json!({"op": "restart"}));
    assert_eq!(kernel.ok("2 * 21").value(), "42");
}

/// Changes the kernelspec of `gpu`.
struct Spec {
    path: std::path::PathBuf,
    original: Value,
}

impl Spec {
    fn of(sshd: &Sshd) -> Spec {
        let (path, original) = sshd.spec("gpu");
        Spec { path, original }
    }

    /// Each word of the command, as `change` has it.
    fn change(&self, change: impl Fn(&str) -> Vec<String>) {
        let mut spec = self.original.clone();
        let words = self.original["argv"].as_array().unwrap();
        // Behind the launcher's own name for the machine.
        let (own, command) = words.split_at(7);
        let command = command.iter().flat_map(|word| change(word.as_str().unwrap()));
        let words: Vec<Value> = own.iter().cloned().chain(command.map(Value::from)).collect();
        spec["argv"] = words.into();
        std::fs::write(&self.path, spec.to_string()).unwrap();
    }

    /// Puts other words in the place of one.
    fn word(&self, word: &str, others: &[&str]) {
        self.change(|found| match found == word {
            true => others.iter().map(|word| (*word).to_owned()).collect(),
            false => vec![found.to_owned()],
        });
    }

    /// Another installation's folder.
    fn folder(&self, folder: &Path) {
        let (from, to) = (home().display().to_string(), folder.display().to_string());
        self.change(|word| vec![word.replace(&format!("d={from}"), &format!("d={to}"))]);
    }
}

/// What a cell says, each time anew, and then the kernel can be shut down as any.
fn says(sshd: &Sshd, ename: &str) -> String {
    let mut kernel = sshd.kernel("gpu");
    let first = kernel.err("1 + 1");
    assert_eq!(first.ename(), ename, "{}", first.traceback());
    assert_eq!(kernel.err("1 + 1").traceback(), first.traceback());
    assert_eq!(kernel.call(json!({"op": "alive"}))["alive"], true);
    assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    first.traceback()
}

#[test]
fn what_is_wrong_is_said_in_the_notebook() {
    let sshd = machine("remote-wrong");
    let spec = Spec::of(&sshd);
    let port = free_port().to_string();
    let host = |words: &[&str]| {
        spec.word("gpu", words);
        says(&sshd, "RemoteError")
    };
    documented("host key unknown", &host(&["unknown-key"]));
    documented("key refused", &host(&["refused"]));
    documented("no such name", &host(&["no-such-host.invalid"]));
    documented("nobody answers", &host(&["-p", &port, "127.0.0.1"]));
    spec.folder(Path::new("/nonexistent/lc"));
    documented("not set up", &says(&sshd, "RemoteError"));
    spec.word("ssh", &["no-such-program"]);
    let text = says(&sshd, "RemoteError");
    assert!(
        text.contains("cannot run no-such-program") && text.contains("hint: install OpenSSH's client"),
        "{text}"
    );
    // The launcher's first word, as an older one would say it.
    let older = r#"
import os, subprocess, sys
there = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
while some := os.read(0, 65536):
    there.stdin.write(some.replace(b'"version":"OURS"', b'"version":"0.0.9"'))
    there.stdin.flush()
there.stdin.close()
there.wait()
"#;
    let older = older.replace("OURS", env!("CARGO_PKG_VERSION"));
    spec.word("ssh", &["python3", "-c", &older, "ssh"]);
    documented("another version there", &says(&sshd, "RemoteError"));
}

/// The compiler there is gone, or is too old; the kernel ends, or never comes up.
#[test]
fn a_start_that_fails_half_way_is_said_and_leaves_nothing() {
    let sshd = machine("remote-half");
    let spec = Spec::of(&sshd);
    let there = Installation::like_ours("remote-half-there");
    spec.folder(there.dir());
    let setup = there.dir().join("setup.json");
    let original = std::fs::read_to_string(&setup).unwrap();
    let tools = there.dir().join("tools-of-test/bin");
    let mut changed: Value = serde_json::from_str(&original).unwrap();
    for name in ["cargo", "rustc"] {
        changed[name] = tools.join(name).display().to_string().into();
    }
    std::fs::write(&setup, changed.to_string()).unwrap();
    documented("no compiler there", &says(&sshd, "SetupError"));
    std::fs::create_dir_all(&tools).unwrap();
    let rustc = r#"case $1 in -vV) printf 'rustc 1.70.0\nrelease: 1.70.0\n';; *) echo /nonexistent;; esac"#;
    there.script("../tools-of-test/bin/rustc", rustc);
    there.script("../tools-of-test/bin/cargo", "exit 1");
    documented("a compiler that is too old", &says(&sshd, "SetupError"));
    std::fs::write(&setup, original).unwrap();

    there.script("lightcell-kernel", "echo 'error: it is broken' >&2; exit 1");
    let text = says(&sshd, "RemoteError");
    assert!(
        text.contains("the kernel does not start on ") && text.contains(": it is broken\n"),
        "{text}"
    );
    assert!(text.contains("hint: `lightcell doctor` on "), "{text}");

    // It binds nothing. The front end is told where it waits, and is killed.
    there.script("lightcell-kernel", "exec sleep 1000");
    let mut kernel = sshd.kernel("gpu");
    let ours = there.dir().display().to_string();
    let left = || {
        let all = processes();
        let serve = all
            .iter()
            .find(|(_, _, words)| words.contains(&format!("{ours}/bin/lightcell-remote serve ")));
        serve.map(|(serve, _, _)| *serve)
    };
    let serve = left().expect("the other end");
    let sleeper = processes()
        .into_iter()
        .find(|(_, parent, _)| *parent == serve)
        .expect("a kernel")
        .0;
    let lock = || {
        let fds = std::fs::read_dir(format!("/proc/{serve}/fd")).unwrap().flatten();
        let files = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        files
            .into_iter()
            .find(|file| file.starts_with("/tmp") && file.ends_with("lock"))
    };
    let folder = lock().expect("the folder of its sockets").parent().unwrap().to_owned();
    signal(kernel.pid(), "-9");
    until("nothing is left", 20, || {
        !alive(serve) && !alive(sleeper) && !folder.exists()
    });
}

#[test]
fn a_full_disk_there_is_said() {
    let sshd = machine("remote-full");
    let there = Installation::like_ours("remote-full-there");
    let _sessions = Disk::mount(&there.dir().join("sessions"), 64 << 10);
    let spec = Spec::of(&sshd);
    spec.folder(there.dir());
    documented("disk full", &says(&sshd, "SetupError"));
    // A file that does not fit.
    spec.change(|word| vec![word.to_owned()]);
    let small = sshd.dir().join("home/small");
    std::fs::create_dir_all(&small).unwrap();
    let _small = Disk::mount(&small, 64 << 10);
    let big = sshd.dir().join("big");
    std::fs::write(&big, vec![7; 1 << 20]).unwrap();
    let mut kernel = sshd.kernel("gpu");
    documented(
        "no space",
        &kernel.err(&format!("%upload {} small", big.display())).traceback(),
    );
    assert_eq!(std::fs::read_dir(&small).unwrap().count(), 0);
    // An installation that does not fit.
    let out = bare(&sshd, &small.join("lc"), &["--yes"]);
    assert!(!out.status.success());
    let text = stderr(&out);
    assert!(text.starts_with("error: gpu did not take the files: "), "{text}");
    assert!(
        text.contains("No space left on device\nhint: free space there, or name another folder with --dir"),
        "{text}"
    );
    assert!(!small.join("lc/incoming").exists());
}

/// `lightcell remote add` for a folder where nothing is.
fn bare(sshd: &Sshd, dir: &Path, more: &[&str]) -> Output {
    let config = format!("--ssh-arg={}", sshd.dir().join("ssh_config").display());
    let dir = dir.to_string_lossy();
    let args = ["add", "bare", "ssh://gpu", "--dir", &dir, "--ssh-arg=-F", &config];
    sshd.remote(&[&args, more].concat())
}

#[test]
fn a_bare_host_is_given_all_that_it_needs_to_set_itself_up() {
    let sshd = Sshd::start("remote-bare");
    let dir = sshd.dir().join("home/lc");
    // Its compiler is too old, so that the set-up ends at once.
    let tools = sshd.dir().join("home/.cargo/bin");
    std::fs::create_dir_all(&tools).unwrap();
    let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#;
    for (name, script) in [
        ("rustup", "exit 1"),
        ("cargo", "exit 1"),
        ("rustc", r#"printf 'rustc 1.70.0\nrelease: 1.70.0\n'"#),
    ] {
        let mut sh = Command::new("sh");
        assert!(
            sh.args(["-c", write, "sh"])
                .arg(tools.join(name))
                .arg(script)
                .status()
                .unwrap()
                .success()
        );
    }
    // Nobody to ask.
    let out = bare(&sshd, &dir, &[]);
    assert_eq!(stdout(&out), "! on gpu: Lightcell is not set up\n");
    assert_eq!(
        stderr(&out),
        "error: Lightcell is not ready on gpu\nhint: run the same command with --yes to set it up there, or `lightcell setup` \
         there yourself\n"
    );
    assert!(!dir.exists());
    // On a terminal it asks.
    let config = sshd.dir().join("ssh_config").display().to_string();
    let command = format!(
        "'{}' remote add bare ssh://gpu --dir '{}' --ssh-arg=-F --ssh-arg='{config}'",
        home().join("bin/lightcell").display(),
        dir.display()
    );
    let mut terminal = Command::new("script");
    terminal
        .args(["-qec", &command, "/dev/null"])
        .env("JUPYTER_DATA_DIR", sshd.jupyter());
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut terminal.stdin.take().unwrap(), b"n\n").unwrap();
    let out = terminal.wait_with_output().unwrap();
    let text = stdout(&out);
    assert!(
        text.contains("Set Lightcell up on gpu (needs Rust there, takes minutes)? [y/N] "),
        "{text}"
    );
    assert!(text.contains("error: Lightcell is not ready on gpu"), "{text}");
    assert!(!dir.exists());

    let out = bare(&sshd, &dir, &["--yes"]);
    let text = said(&out);
    assert!(text.contains("\n✓ sources and programs to gpu sent, "), "{text}");
    for line in [
        "error: rustc 1.70.0 is too old: Lightcell needs 1.95\nhint: rustup update stable\n",
        "error: the set-up on gpu failed; what it said is above\nhint: mend that, then run the same command again",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(
        stdout(&sshd.remote(&["list"])).starts_with("There is no remote."),
        "{text}"
    );
    let same = |name: &str| {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read(&dir) == read(&home()), "{name}");
    };
    for name in [
        "bin/lightcell-kernel",
        "bin/.kernel-stamp",
        "bin/lightcell-remote",
        "bin/.remote-stamp",
    ] {
        same(name);
    }
    let version = |program: &str| stdout(&Command::new(dir.join(program)).arg("--version").output().unwrap());
    assert!(version("bin/lightcell").starts_with("lightcell "));
    assert!(dir.join("src/kernel/worker/Cargo.toml").is_file() && dir.join("src/Cargo.lock").is_file());
    assert!(!dir.join("incoming").exists());
    // What is not Lightcell's is left alone.
    let out = bare(&sshd, &sshd.dir().join("home"), &["--yes"]);
    let text = stderr(&out);
    assert!(
        text.contains("holds other things already\nhint: name a folder that is empty or new with --dir"),
        "{text}"
    );
    assert!(!sshd.dir().join("home/bin").exists());
}
