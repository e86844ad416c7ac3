//! The stop button, the end of a kernel, and what they leave behind.

use lightcell_tests::{Kernel, alive, home};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn stop_ends_a_cell_and_keeps_the_variables() {
    let mut kernel = Kernel::start();
    kernel.ok("let v = vec![1, 2, 3];\nlet mut file = std::fs::File::open(\"/etc/passwd\")?;");
    for code in [
        "println!(\"{}\", \"on\".repeat(2)); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }",
        "println!(\"{}\", \"on\".repeat(2)); drop(v); loop { std::hint::spin_loop() }",
        "loop { println!(\"{}\", \"on\".repeat(2)); }",
    ] {
        let (cell, seconds) = kernel.stopped(code, "onon");
        assert_eq!(cell.ename(), "Interrupted", "{code}");
        assert!(seconds < 20.0, "{code}: {seconds} s");
        assert!(
            cell.traceback().contains("variables of earlier cells are kept"),
            "{}",
            cell.traceback()
        );
        assert_eq!(kernel.ok("v.len()").value(), "3", "{code}");
    }
    assert!(
        kernel
            .ok("use std::io::Read;\nlet mut text = String::new();\nfile.read_to_string(&mut text)?;\ntext.len() > 0")
            .value()
            == "true"
    );
    // What cannot be taken over is named; a pair of sockets within the process and a listener can.
    kernel.ok(
        "use std::io::Write;\nlet (mut a, mut b) = std::os::unix::net::UnixStream::pair()?;\n\
               let listener = std::net::TcpListener::bind(\"127.0.0.1:0\")?;\n\
               let client = std::net::TcpStream::connect(listener.local_addr()?)?;",
    );
    let (cell, _) = kernel.stopped(
        "println!(\"{}\", \"on\".repeat(2)); loop { std::hint::spin_loop() }",
        "onon",
    );
    assert!(
        cell.traceback().ends_with("not kept (they cannot be copied): 1 socket"),
        "{}",
        cell.traceback()
    );
    let through = "let mut got = [0u8; 2];\na.write_all(b\"ab\")?;\nb.read_exact(&mut got)?;\ngot";
    assert_eq!(kernel.ok(through).value(), "[97, 98]");
    let served = "let again = std::net::TcpStream::connect(listener.local_addr()?)?;\n\
                  listener.accept()?.1 == again.local_addr()?";
    assert_eq!(kernel.ok(served).value(), "true");
}

/// While the training library is being loaded the cell that needs it only waits; stop ends it all the same.
#[test]
fn stop_ends_a_cell_that_waits_for_the_kernel_to_start() {
    for _ in 0..3 {
        let mut kernel = Kernel::start();
        let code = "use lightcell::prelude::*;\nlet never = Tensor::from(1.0);\nloop { std::hint::spin_loop() }";
        let (cell, seconds) = kernel.stopped(code, "");
        assert_eq!(cell.ename(), "Interrupted", "{}", cell.traceback());
        // Once the library is there: two seconds, on a machine with nothing else to do.
        assert!(seconds < 120.0, "{seconds} s");
        assert_eq!(kernel.ok("1 + 1").value(), "2");
    }
}

/// What a user may hold when a cell is stopped or crashes, with little memory in use and with a gigabyte.
#[test]
fn what_a_user_holds_is_there_after_a_stop_or_named() {
    for bytes in ["0", "1 << 30"] {
        let mut kernel = Kernel::start();
        kernel.ok(&format!(
            "use lightcell::prelude::*;\n\
             use std::io::{{Read, Write}};\n\
             use std::net::TcpListener;\n\
             use std::process::{{Child, Command, Stdio}};\n\
             let big = vec![1u8; {bytes}];\n\
             let v = vec![1, 2, 3];\n\
             let w = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);\n\
             let mut file = std::fs::File::open(\"/etc/passwd\")?;\n\
             let mut first = [0u8; 4];\n\
             file.read_exact(&mut first)?;\n\
             let cat = || -> Child {{ Command::new(\"cat\").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap() }};\n\
             let mut ended = cat();\n\
             drop(ended.stdin.take());\n\
             let mut held = cat();\n\
             let port = TcpListener::bind(\"127.0.0.1:0\")?.local_addr()?.port();\n\
             let (send, receive) = std::sync::mpsc::channel::<i32>();\n\
             let thread = std::thread::spawn(move || receive.iter().sum::<i32>());"
        ));
        // Nobody else holds a pipe or a port that was let go.
        assert_eq!(kernel.ok("ended.wait()?.success()").value(), "true");
        let again = "let again = TcpListener::bind((\"127.0.0.1\", port))?;";
        let on = "println!(\"{}\", \"on\".repeat(2));";
        let (cell, seconds) = kernel.stopped(&format!("{again}\ndrop(again);\n{on}\nloop {{}}"), "onon");
        assert_eq!(cell.ename(), "Interrupted");
        assert!(seconds < 20.0, "{seconds} s");
        let named = "not kept (they cannot be copied): 3 pipes";
        assert!(cell.traceback().ends_with(named), "{}", cell.traceback());
        for (code, value) in [
            ("v.len()", "3"),
            (
                "(&w * 3.0).sum(Kind::Float).backward();\nw.grad().double_value(&[0])",
                "3.0",
            ),
            (
                "let mut rest = String::new();\nfile.read_to_string(&mut rest)?;\nrest.len() > 10",
                "true",
            ),
            (&format!("{again}\nagain.local_addr()?.port() == port"), "true"),
            (
                "held.stdin.as_mut().map(|stdin| stdin.write_all(b\"x\").is_err())",
                "Some(true)",
            ),
            (
                "send.send(3)?;\nsend.send(4)?;\ndrop(send);\nthread.join().unwrap()",
                "7",
            ),
            // What is closed can be dropped.
            ("drop(held);\nbig.len() == BYTES", "true"),
        ] {
            let code = code.replace("BYTES", &format!("{{ let bytes: usize = {bytes}; bytes }}"));
            assert_eq!(kernel.ok(&code).value(), value, "{code}");
        }
        // What was named once is not named again, and a listener is bound again.
        let crash = kernel.err("std::process::abort()");
        assert!(!crash.traceback().contains("not kept"), "{}", crash.traceback());
        assert_eq!(kernel.ok("again.local_addr()?.port() == port").value(), "true");
    }
}

/// A thread pool, a runtime and libtorch's own threads, made in an earlier cell, work on after a stop and after a crash.
#[test]
fn background_threads_go_on_after_a_stop() {
    for bytes in ["0", "1 << 30"] {
        let mut kernel = Kernel::start();
        kernel.ok(":dep rayon = \"1\"\n\
             :dep tokio = { version = \"1\", features = [\"rt-multi-thread\", \"net\", \"signal\", \"time\"] }");
        kernel.ok(&format!(
            "use lightcell::prelude::*;\n\
             use rayon::prelude::*;\n\
             use std::sync::{{Arc, atomic::{{AtomicU64, Ordering::SeqCst}}}};\n\
             use std::time::Duration;\n\
             let big = vec![1u8; {bytes}];\n\
             let sum = (0..100_000u64).into_par_iter().map(|x| x % 7).sum::<u64>();\n\
             let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;\n\
             let ticks = Arc::new(AtomicU64::new(0));\n\
             let counter = ticks.clone();\n\
             runtime.spawn(async move {{ loop {{\n\
             tokio::time::sleep(Duration::from_millis(1)).await; counter.fetch_add(1, SeqCst); }} }});\n\
             let a = Tensor::rand([500, 500], (Kind::Float, Device::Cpu));\n\
             let product = a.matmul(&a);\n\
             let (send, receive) = std::sync::mpsc::channel::<i32>();\n\
             let thread = std::thread::spawn(move || receive.iter().sum::<i32>());\n\
             fn threads() -> usize {{ std::fs::read_dir(\"/proc/self/task\").unwrap().count() }}\n\
             let there = threads();"
        ));
        let works = |kernel: &mut Kernel| {
            let code = "{\n\
                 let pool = (0..100_000u64).into_par_iter().map(|x| x % 7).sum::<u64>() == sum;\n\
                 println!(\"pool\");\n\
                 let slept = runtime.block_on(async { tokio::time::sleep(Duration::from_millis(2)).await; true });\n\
                 println!(\"sleep\");\n\
                 let task = runtime.block_on(runtime.spawn(async { true }))?;\n\
                 println!(\"task\");\n\
                 let before = ticks.load(SeqCst);\n\
                 while ticks.load(SeqCst) < before + 3 { std::thread::yield_now() }\n\
                 println!(\"ticks\");\n\
                 let tensor = (a.matmul(&a) - &product).abs().max().double_value(&[]) < 1e-3;\n\
                 (pool, slept, task, tensor, threads() == there) }";
            assert_eq!(kernel.ok(code).value(), "(true, true, true, true, true)");
        };
        works(&mut kernel);
        let (cell, _) = kernel.stopped("println!(\"{}\", \"on\".repeat(2));\nloop {}", "onon");
        assert!(!cell.traceback().contains("not kept"), "{}", cell.traceback());
        works(&mut kernel);
        for _ in 0..3 {
            let cell = kernel.err("drop(runtime);\nstd::process::abort()");
            assert!(!cell.traceback().contains("not kept"), "{}", cell.traceback());
        }
        works(&mut kernel);
        // Signals reach a runtime through a pair of sockets, a new runtime too.
        let signal = "let again = tokio::runtime::Runtime::new()?;\n\
             let number = std::process::id().to_string();\n\
             again.block_on(async {\n\
             let kind = tokio::signal::unix::SignalKind::user_defined1();\n\
             let mut signal = tokio::signal::unix::signal(kind).unwrap();\n\
             std::process::Command::new(\"kill\").args([\"-USR1\", &number]).status().unwrap();\n\
             signal.recv().await.is_some() })";
        assert_eq!(kernel.ok(signal).value(), "true");
        let joined = "send.send(3)?;\nsend.send(4)?;\ndrop(send);\nthread.join().unwrap()";
        assert_eq!(kernel.ok(joined).value(), "7");
    }
}

#[test]
fn stop_ends_a_build_and_keeps_the_variables() {
    let mut kernel = Kernel::start();
    kernel.ok("let v = 7;");
    // A function that takes the compiler long: 65,536 expressions.
    let nested = "twice!(".repeat(16) + "acc += std::hint::black_box(acc) ^ 3;" + &")".repeat(16);
    let slow = format!(
        "macro_rules! twice {{ ($($t:tt)*) => {{ $($t)* $($t)* }} }}\nfn slow() -> u64 {{ let mut acc = 1u64; {nested}; acc }}\nslow()"
    );
    let (cell, seconds) = kernel.stopped(&slow, "macro_rules");
    assert_eq!(
        (cell.ename(), cell.evalue()),
        ("Interrupted", "the build was stopped; all variables are kept")
    );
    assert!(seconds < 20.0, "{seconds} s");
    let left = std::process::Command::new("pgrep")
        .args(["-P", &kernel.pid().to_string(), "-x", "cargo"])
        .output()
        .unwrap();
    assert!(left.stdout.is_empty(), "cargo still runs");
    assert_eq!(kernel.ok("v").value(), "7");
}

#[test]
fn a_kernel_leaves_nothing_behind() {
    let sessions = home().join("sessions");
    let mut kernel = Kernel::start();
    kernel.ok("let child = std::process::Command::new(\"sleep\").arg(\"1000\").spawn()?;");
    let sleeper: i32 = kernel.ok("child.id()").value().parse().unwrap();
    let pid = kernel.pid();
    let session = std::fs::read_dir(&sessions)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .find(|p| p.file_name().unwrap().to_string_lossy().starts_with(&format!("{pid}-")))
        .expect("a session folder");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&session).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(kernel.call(json!({"op": "shutdown"}))["gone"], true);
    until("processes and folder are gone", || {
        !alive(sleeper) && !alive(pid) && !session.exists()
    });

    // Killed, it cannot clean up: its processes end by themselves, its folder goes at the next start.
    let mut kernel = Kernel::start();
    let pid = kernel.pid();
    let worker: i32 = kernel.ok("std::process::id()").value().parse().unwrap();
    kill(pid);
    until("the worker ends with its kernel", || !alive(worker));
    let mut next = Kernel::start();
    next.ok("1");
    let left: Vec<_> = std::fs::read_dir(&sessions)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(&format!("{pid}-")))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // The worker's supervisor killed from outside: said, and the next cell runs.
    // (With a variable, so that the library is loaded: a death while it is loaded loses nothing, and it is loaded again.)
    next.ok("let lost = 1;");
    let supervisor: i32 = next.ok("std::os::unix::process::parent_id()").value().parse().unwrap();
    kill(supervisor);
    let cell = next.err("1 + 1");
    assert!(cell.evalue().contains("all variables are lost"), "{}", cell.evalue());
    assert_eq!(next.ok("2 + 2").value(), "4");
}

fn kill(pid: i32) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
