//! A long session of mixed cells: nothing hangs, no output is lost, no process is left.
//!
//! 100 cells; `LIGHTCELL_SOAK=1000` by hand for more.

use lightcell_tests::{Kernel, below};
use serde_json::json;

#[test]
fn a_long_session_of_mixed_cells_loses_nothing() {
    let cells: usize = std::env::var("LIGHTCELL_SOAK")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    let mut kernel = Kernel::start();
    kernel.ok(
        "use lightcell::prelude::*;\nlet kept = vec![1u64, 2, 3];\nlet tensor = Tensor::from_slice(&[1i64, 2, 3]);",
    );
    let pid = kernel.pid();
    let at_first = below(pid);
    for n in 0..cells {
        match n % 12 {
            0 => assert_eq!(kernel.ok(&format!("{n} + 1")).value(), (n + 1).to_string()),
            1 => {
                kernel.ok(&format!("let step = {n}usize;"));
                assert_eq!(kernel.ok("step").value(), n.to_string());
            }
            2 => {
                let cell = kernel.ok("for i in 0..500 { println!(\"{i}\"); eprint!(\".\"); }");
                assert_eq!((cell.stdout().lines().count(), cell.stream("stderr").len()), (500, 500));
            }
            3 => assert!(
                kernel
                    .err("let wrong: i32 = \"text\";")
                    .evalue()
                    .contains("mismatched types")
            ),
            4 => assert_eq!(
                kernel.err(&format!("panic!(\"number {n}\")")).evalue(),
                format!("number {n}")
            ),
            5 => {
                kernel.err("std::process::abort()");
            }
            6 => {
                // Pressed as soon as the cell is announced, or once it runs.
                let when = if n % 24 == 6 { "spin_loop" } else { "\"42" };
                let code = "println!(\"{}\", 6 * 7); loop { std::hint::spin_loop(); }";
                let (stopped, seconds) = kernel.stopped(code, when);
                assert_eq!(stopped.reply["status"], "error");
                assert!(seconds < 20.0, "{seconds}");
            }
            7 => {
                let code = "let mut line = String::new(); std::io::stdin().read_line(&mut line).unwrap(); print!(\"<{}>\", line.trim());";
                let answer = kernel.call(json!({"op": "execute", "code": code, "inputs": [format!("in {n}")]}));
                assert!(
                    answer["messages"].to_string().contains(&format!("<in {n}>")),
                    "{answer}"
                );
            }
            8 => assert_eq!(kernel.ok("display(&kept);\ndisplay(&1);").all("display_data").len(), 2),
            9 => assert_eq!(kernel.ok(&format!("!echo shell {n}")).stdout(), format!("shell {n}\n")),
            10 => {
                kernel.ok(&format!(
                    "#[derive(Debug)] struct Again {{ n: usize }}\nimpl Again {{ fn n() -> usize {{ {n} }} }}"
                ));
                assert_eq!(kernel.ok("Again { n: Again::n() }.n").value(), n.to_string());
            }
            _ => {
                let cell = kernel.ok("let all: Vec<_> = (0..4).map(|t| std::thread::spawn(move || for i in 0..50 { println!(\"{t} {i}\"); })).collect();\nfor t in all { t.join().unwrap(); }");
                assert_eq!(cell.stdout().lines().count(), 200);
            }
        }
    }
    // Tensor and vector outlived every panic, crash and stop.
    assert_eq!(
        kernel
            .ok("kept.iter().sum::<u64>() as i64 + tensor.sum(Kind::Int64).int64_value(&[])")
            .value(),
        "12"
    );
    let begun = std::time::Instant::now();
    while below(pid) > at_first {
        assert!(
            begun.elapsed().as_secs() < 60,
            "{} processes, {at_first} at first",
            below(pid)
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
