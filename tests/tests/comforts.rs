//! Running cells again, adding crates, and IPython's comforts, with a real client.

use lightcell_tests::{Kernel, Scratch};
use serde_json::json;

#[test]
fn cells_can_be_run_again() {
    let mut kernel = Kernel::start();
    let cell = |value: i32| {
        format!(
            "#[derive(Debug, Clone)] struct P {{ x: i32 }}\n\
             impl P {{\n    const ONE: i32 = 1;\n    fn new() -> P {{ P {{ x: {value} }} }}\n    pub fn x(&self) -> i32 {{ self.x }}\n}}\n\
             impl std::fmt::Display for P {{\n    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {{ write!(f, \"P{{}}\", self.x) }}\n}}\n\
             trait Twice {{ fn twice(&self) -> i32; }}\n\
             impl Twice for P {{ fn twice(&self) -> i32 {{ 2 * self.x() }} }}\n\
             use std::collections::BTreeMap;\n\
             fn free() -> i32 {{ P::ONE }}\n\
             format!(\"{{}} {{}} {{}}\", P::new(), P::new().twice(), free())"
        )
    };
    assert_eq!(kernel.ok(&cell(1)).value(), "\"P1 2 1\"");
    assert_eq!(kernel.ok(&cell(1)).value(), "\"P1 2 1\"");
    assert_eq!(kernel.ok(&cell(7)).value(), "\"P7 14 1\"");
    // A second block in a cell of its own, and that again with another text.
    kernel.ok("impl P { fn more(&self) -> i32 { 10 } }");
    kernel.ok("impl P { fn more(&self) -> i32 { 11 } }");
    assert_eq!(kernel.ok("P::new().more() + P::new().x()").value(), "18");
    // An error in such a block stands where it was typed.
    let wrong = kernel.err("impl P { fn bad(&self) -> i32 { nothing } }");
    assert!(wrong.traceback().contains("line 1, column 33"), "{}", wrong.traceback());
    assert!(!wrong.traceback().contains("lightcell_impl"), "{}", wrong.traceback());

    // A variable that was moved: the cell is named, and it can be assigned again.
    kernel.ok("let s = String::from(\"abc\");");
    let moving = kernel.ok("drop(s);");
    let number = &moving.reply["execution_count"];
    let gone = kernel.err("s.len()");
    assert_eq!(gone.evalue(), format!("`s` was moved in cell [{number}] (line 1)"));
    assert!(
        gone.traceback().contains(&format!("`s.clone()` in cell [{number}]")),
        "{}",
        gone.traceback()
    );
    kernel.ok("let s = String::from(\"de\");");
    assert_eq!(kernel.ok("s.len()").value(), "2");
    // What borrows cannot be kept.
    let borrow = kernel.err("let v = vec![1, 2];\nlet r = &v;");
    assert!(
        borrow
            .evalue()
            .starts_with("`r` borrows from another variable and cannot be kept for the next cell"),
        "{}",
        borrow.evalue()
    );
}

#[test]
fn shell_lines_files_and_times() {
    let scratch = Scratch::new("comforts");
    let folder = scratch.0.to_string_lossy().into_owned();
    let mut kernel = Kernel::start();
    assert_eq!(kernel.ok("!echo one && echo two").stdout(), "one\ntwo\n");
    let failed = kernel.ok("!exit 3");
    assert_eq!(failed.stream("stderr"), "exit status: 3\n");
    let bash = kernel.err("%%bash\nfor i in 1 2; do echo $i; done\nexit 4");
    assert_eq!((bash.stdout().as_str(), bash.evalue()), ("1\n2\n", "exit status: 4"));
    // One folder and one environment for Rust and the shell.
    assert_eq!(kernel.ok(&format!("%cd {folder}")).stdout(), format!("{folder}\n"));
    assert_eq!(kernel.ok("!pwd").stdout(), format!("{folder}\n"));
    assert_eq!(
        kernel
            .ok("std::env::current_dir().unwrap() == std::path::Path::new(\".\").canonicalize().unwrap()")
            .value(),
        "true"
    );
    kernel.ok("%env LIGHTCELL_TEST_X=5");
    assert_eq!(kernel.ok("!echo $LIGHTCELL_TEST_X").stdout(), "5\n");
    assert_eq!(
        kernel.err("%env LIGHTCELL_TEST_Y").evalue(),
        "LIGHTCELL_TEST_Y is not set"
    );
    assert!(
        kernel
            .err("%cd /lightcell/none")
            .evalue()
            .starts_with("cannot change to /lightcell/none: ")
    );
    // Files: written, run, loaded.
    kernel.ok("%%writefile a.rs\nfn seven() -> i32 { 7 }\nfn main() { println!(\"main {}\", seven()); }");
    assert_eq!(kernel.ok("%run a.rs").stdout(), "main 7\n");
    assert_eq!(kernel.ok("seven()").value(), "7");
    let loaded = kernel.ok("%load a.rs");
    assert_eq!(loaded.reply["payload"][0]["source"], "set_next_input");
    assert!(
        loaded.reply["payload"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("fn seven()")
    );
    assert!(
        kernel
            .err("%run none.rs")
            .evalue()
            .starts_with(&format!("cannot read {folder}/none.rs: "))
    );
    // Times.
    let timed = kernel
        .ok("%time std::thread::sleep(std::time::Duration::from_millis(30));")
        .stdout();
    assert!(
        timed.starts_with("Wall time: ") && timed.contains(" (compiled in "),
        "{timed}"
    );
    let cell = kernel.ok("%%time\nlet total: u64 = (0..10).sum();\ntotal");
    assert_eq!(cell.value(), "45");
    assert_eq!(kernel.ok("total").value(), "45", "what a timed cell defines stays");
    let many = kernel.ok("%timeit -n 10 -r 3 total + 1").stdout();
    assert!(
        many.contains(" per loop (best ") && many.contains("of 3 runs, 10 loops each"),
        "{many}"
    );
    assert!(
        kernel
            .ok("%%timeit -n 2 -r 1\nlet a = total;\na * 2")
            .stdout()
            .contains("of 1 run, 2 loops each")
    );
    let wrong = kernel.err("%timeit total.sm()");
    assert!(wrong.traceback().contains("line 1, column 15"), "{}", wrong.traceback());
    // `!` before what is no program is Rust's.
    assert_eq!(kernel.ok("let flag = vec![1];\n!flag.is_empty()").value(), "true");
    assert_eq!(kernel.ok("!true").value(), "false");
}

#[test]
fn variables_are_listed_and_dropped() {
    let mut kernel = Kernel::start();
    assert_eq!(kernel.ok("%who").stdout(), "no variables\n");
    kernel.ok("use lightcell::prelude::*;\nlet x = Tensor::zeros([3, 4], (Kind::Float, Device::Cpu));\nlet list = vec![1u8; 100];\nlet k = 5;");
    assert_eq!(kernel.ok("%who").stdout(), "k     i32\nlist  Vec<u8>\nx     Tensor\n");
    let whos = kernel.ok("%whos");
    let table = whos.all("display_data")[0]["data"]["text/plain"]
        .as_str()
        .unwrap()
        .to_owned();
    let row = |name: &str| {
        table
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(row("x "), "x Tensor [3, 4] Float Cpu 48");
    assert_eq!(row("list"), "list Vec<u8> 100 elements 124");
    assert_eq!(row("k "), "k i32 4");
    // Types whose names begin like a tensor's, or hold a vector.
    kernel.ok(
        "let set = TensorDataset::new(Tensor::zeros([3, 4], (Kind::Float, Device::Cpu)), Tensor::zeros([3], (Kind::Int64, Device::Cpu)))?;\n\
         let map = std::collections::HashMap::from([(1, vec![2u8])]);",
    );
    assert_eq!(kernel.ok("%whos").all("display_data").len(), 1);
    kernel.ok("%del set");
    kernel.ok("%del map");
    let wrong = kernel.err("%del lst");
    assert_eq!(wrong.evalue(), "there is no variable `lst`");
    assert!(
        wrong.traceback().contains("did you mean list?"),
        "{}",
        wrong.traceback()
    );
    kernel.ok("%del list");
    kernel.ok("%del k");
    assert_eq!(kernel.ok("%who").stdout(), "x  Tensor\n");
    assert_eq!(
        kernel.ok("%reset").stdout(),
        "dropped 1 variable; functions, types and crates stay\n"
    );
    assert_eq!(kernel.ok("%who").stdout(), "no variables\n");
    let history = kernel.ok("%history").stdout();
    assert!(
        history.starts_with("[1] %who\n[2] use lightcell::prelude::*;"),
        "{history}"
    );
    // How far cells are optimized.
    assert_eq!(kernel.ok("%opt").stdout(), "cells are compiled with opt-level 2\n");
    kernel.ok("%opt 0");
    assert_eq!(kernel.ok("1 + 1").value(), "2");
    assert_eq!(kernel.err("%opt 9").evalue(), "`9` is no opt-level");
    let settings = kernel.ok("%config").stdout();
    assert!(
        settings.starts_with("cache-limit  ") && settings.contains("\nopt-level    0 "),
        "{settings}"
    );
    assert!(kernel.ok("%config opt-level 2").stdout().starts_with("opt-level    2 "));
    assert_eq!(kernel.ok("%opt").stdout(), "cells are compiled with opt-level 2\n");
    let wrong = kernel.err("%config opt-levle 2");
    assert_eq!(wrong.evalue(), "there is no setting `opt-levle`");
    assert!(
        wrong.traceback().contains("did you mean opt-level?"),
        "{}",
        wrong.traceback()
    );
    assert_eq!(kernel.err("%config cache-limit much").evalue(), "`much` is no size");
    // Magics are completed as they are typed.
    let found = kernel.call(json!({"op": "request", "name": "complete", "args": ["%ti", 3]}));
    assert_eq!(found["matches"], json!(["%time", "%timeit"]));
}

#[test]
fn a_list_of_structs_is_a_table_and_a_long_value_is_cut() {
    let mut kernel = Kernel::start();
    let cell = kernel.ok("#[derive(Debug)] struct Row { name: &'static str, size: f64 }\n[Row { name: \"a\", size: 0.5 }, Row { name: \"b\", size: 2.0 }]");
    let result = cell.all("execute_result")[0]["data"].clone();
    assert_eq!(
        result["text/plain"],
        "[Row { name: \"a\", size: 0.5 }, Row { name: \"b\", size: 2.0 }]"
    );
    let html = result["text/html"].as_str().unwrap();
    assert!(
        html.contains("<th>name</th><th>size</th>") && html.contains("<td>b</td><td>2.0</td>"),
        "{html}"
    );
    let long = kernel.ok("vec![1u8; 1_000_000]").value();
    assert!(
        long.len() < 110_000 && long.contains("(1,000,000 elements; "),
        "{}",
        long.len()
    );
}

#[test]
fn crates_are_added_with_progress_and_clear_errors() {
    let scratch = Scratch::new("dep");
    let (folder, mine) = (scratch.0.to_string_lossy().into_owned(), scratch.0.join("mine"));
    std::fs::create_dir_all(mine.join("src")).unwrap();
    std::fs::write(
        mine.join("Cargo.toml"),
        "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[features]\nextra = []\n",
    )
    .unwrap();
    std::fs::write(
        mine.join("src/lib.rs"),
        "pub fn answer() -> i32 { if cfg!(feature = \"extra\") { 43 } else { 42 } }\n",
    )
    .unwrap();
    let mut kernel = Kernel::start();
    kernel.ok("let kept = 1;");
    let added = kernel.ok(&format!("%dep mine --path {folder}/mine"));
    let shown = added.all("display_data");
    assert!(
        shown.first().is_some_and(|first| first["data"]["text/plain"]
            .as_str()
            .is_some_and(|text| text.starts_with("compiling mine (crate 1 of "))),
        "{shown:?}"
    );
    let last = added.all("update_display_data");
    assert!(
        last.last().is_some_and(|last| last["data"]["text/plain"]
            .as_str()
            .is_some_and(|text| text.starts_with("compiled 1 crate in "))),
        "{last:?}"
    );
    assert_eq!(kernel.ok("mine::answer()").value(), "42");
    // A crate in the user's folder that changes is compiled again.
    std::fs::write(mine.join("src/lib.rs"), "pub fn answer() -> i32 { 44 }\n").unwrap();
    assert_eq!(kernel.ok("mine::answer() + kept").value(), "45");
    let none = kernel.err(&format!("%dep other --path {folder}/other"));
    assert!(
        none.evalue()
            .starts_with(&format!("there is no crate in {folder}/other")),
        "{}",
        none.traceback()
    );
    assert_eq!(kernel.ok("kept").value(), "1");
}
