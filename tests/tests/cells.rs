//! What a cell prints, shows and does wrong.

use lightcell_tests::Kernel;
use serde_json::{Value, json};

/// Streams joined, other outputs by their kind: the order on the screen.
fn screen(cell: &lightcell_tests::Cell) -> String {
    let mut text = String::new();
    for (kind, content) in &cell.messages {
        match kind.as_str() {
            "stream" => text.push_str(content["text"].as_str().unwrap_or_default()),
            "display_data" | "update_display_data" => {
                let data = &content["data"];
                let shown = data
                    .get("text/html")
                    .or(data.get("text/plain"))
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                text.push_str(&format!("<{shown}>"));
            }
            _ => {}
        }
    }
    text
}

#[test]
fn output_arrives_whole_and_in_order() {
    let mut kernel = Kernel::start();
    let cell = kernel.ok("println!(\"a\"); eprintln!(\"b\"); println!(\"c\"); eprint!(\"d\"); print!(\"e\"); display(&1); println!(\"f\"); display(&2); print!(\"g\");");
    assert_eq!(screen(&cell), "a\nb\nc\nde<1>f\n<2>g");
    assert_eq!(cell.stderr_and_stdout(), ("b\nd".to_owned(), "a\nc\nef\ng".to_owned()));

    // A flushed print! without a newline, carriage returns, characters of several bytes, bytes that are none.
    let cell = kernel.ok("use std::io::Write;\nfor i in 0..=3 { print!(\"\\r{i}/3\"); std::io::stdout().flush()?; }");
    assert_eq!(cell.stdout(), "\r0/3\r1/3\r2/3\r3/3");
    let cell = kernel.ok("println!(\"größe 😀 \\x1b[31mred\\x1b[0m\");\nfor b in \"é😀\".bytes() { std::io::stdout().write_all(&[b])?; std::io::stdout().flush()?; }\nstd::io::stdout().write_all(&[b'x', 0xff, b'y', b'\\n'])?;");
    assert_eq!(cell.stdout(), "größe 😀 \x1b[31mred\x1b[0m\né😀x\u{fffd}y\n");

    // Text that looks like evcxr's own marks is text, a block is an output, an open block is text.
    let cell = kernel.ok(
        "println!(\"EVCXR_BEGIN_CONTENT text/html\\n<b>first</b>\\nEVCXR_END_CONTENT\");\nprintln!(\"between\");\n\
         println!(\"EVCXR_BEGIN_CONTENT text/html\\n<b>second</b>\\nEVCXR_END_CONTENT\");\n\
         println!(\"EVCXR_PANIC_NOTIFICATION\\nEVCXR_EXECUTION_COMPLETE\\nEVCXR_ERROR_OCCURRED\\nx EVCXR_BEGIN_CONTENT text/html\");\n\
         println!(\"EVCXR_BEGIN_CONTENT text/html\\nnever ended\");",
    );
    assert_eq!(
        screen(&cell),
        "<<b>first</b>>between\n<<b>second</b>>EVCXR_PANIC_NOTIFICATION\nEVCXR_EXECUTION_COMPLETE\nEVCXR_ERROR_OCCURRED\nx EVCXR_BEGIN_CONTENT text/html\nEVCXR_BEGIN_CONTENT text/html\nnever ended\n"
    );

    // Threads and child processes.
    let cell = kernel.ok("std::thread::spawn(|| println!(\"thread\")).join().unwrap();\nstd::process::Command::new(\"echo\").arg(\"child\").status()?;\nprintln!(\"after\");");
    let text = cell.stdout();
    assert!(
        ["thread\n", "child\n", "after\n"]
            .iter()
            .all(|part| text.contains(part)),
        "{text}"
    );

    // Outputs that change in place, and are cleared.
    let cell = kernel.ok("display_as(\"p\", &\"0 %\"); update_display(\"p\", &\"100 %\"); clear_output(true);");
    let [first, update] = [cell.all("display_data")[0], cell.all("update_display_data")[0]];
    assert_eq!(first["transient"]["display_id"], update["transient"]["display_id"]);
    assert_eq!(update["data"]["text/plain"], "\"100 %\"");
    assert_eq!(cell.all("clear_output"), [&json!({"wait": true})]);

    // Values: `()` shows nothing, a type's own display wins, anything else is Debug.
    assert_eq!(kernel.ok("println!(\"x\")").value(), "");
    assert_eq!(kernel.ok("Some(\"x\")").value(), "Some(\"x\")");
    let cell = kernel.ok("struct Own;\nimpl Own { fn evcxr_display(&self) { println!(\"EVCXR_BEGIN_CONTENT text/html\\n<i>own</i>\\nEVCXR_END_CONTENT\"); } }\nOwn");
    assert_eq!(screen(&cell), "<<i>own</i>>");

    // 200,000 lines, none lost.
    let cell = kernel.ok("for i in 0..200_000 { println!(\"line {i}\"); }");
    let text = cell.stdout();
    assert_eq!(text.lines().count(), 200_000);
    assert!(text.ends_with("line 199999\n"));

    // Every message of a cell comes before its idle, every time.
    for i in 0..50 {
        assert_eq!(
            kernel.ok(&format!("println!(\"{{}}\", {i} * 2);")).stdout(),
            format!("{}\n", i * 2)
        );
    }
}

trait Streams {
    fn stderr_and_stdout(&self) -> (String, String);
}

impl Streams for lightcell_tests::Cell {
    fn stderr_and_stdout(&self) -> (String, String) {
        (self.stream("stderr"), self.stdout())
    }
}

#[test]
fn input_is_asked_of_the_front_end() {
    let mut kernel = Kernel::start();
    let code = "let mut s = String::new();\nstd::io::stdin().read_line(&mut s)?;\nlet mut t = String::new();\nstd::io::stdin().read_line(&mut t)?;\n(s, t)";
    let answer = kernel.call(json!({"op": "execute", "code": code, "inputs": ["é one", "two"]}));
    let result = answer["messages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m[0] == "execute_result")
        .expect("a result");
    assert_eq!(result[1]["data"]["text/plain"], "(\"é one\\n\", \"two\\n\")");
    let refused = kernel.err(code);
    assert!(
        refused
            .stream("stderr")
            .contains("this front end does not allow input requests"),
        "{}",
        refused.stream("stderr")
    );
    assert_eq!(kernel.ok("1").value(), "1");
}

#[test]
fn what_goes_wrong_is_said_and_nothing_is_lost() {
    let mut kernel = Kernel::start();
    kernel.ok("let v = vec![1, 2, 3];\nlet w = String::from(\"w\");");

    let cell = kernel.err("\nlet x: i32 = \"no\";");
    assert_eq!(
        (cell.ename(), cell.evalue()),
        ("CompileError", "E0308: mismatched types (line 2)")
    );
    let text = cell.traceback();
    assert!(text.starts_with("error[E0308]: mismatched types\n --> cell [2], line 2, column 14\n   2 | let x: i32 = \"no\";\n     |              ^^^^"), "{text}");
    assert!(!text.contains("evcxr"), "{text}");
    let both = kernel.err("let a: i32 = \"x\";\nlet b: i32 = 'y';").traceback();
    assert!(
        both.contains("line 1, column 14") && both.contains("line 2, column 14"),
        "{both}"
    );
    for broken in ["let q = std::", "let )", "fn f() { ", "\"open"] {
        assert_eq!(kernel.err(broken).ename(), "CompileError", "{broken}");
    }

    let cell = kernel.err("println!(\"before\");\nlet i = 9;\nv[i]");
    assert_eq!(
        (cell.ename(), cell.evalue()),
        ("Panic", "index out of bounds: the len is 3 but the index is 9")
    );
    assert_eq!(cell.stdout(), "before\n");
    assert!(
        cell.traceback()
            .contains("--> cell [8], line 3\n   3 | v[i]\nvariables of earlier cells are kept"),
        "{}",
        cell.traceback()
    );
    let cell = kernel.err("#[inline(never)]\nfn pick(i: usize) -> u8 {\n    [1, 2][i]\n}\npick(7)");
    assert!(
        cell.traceback().contains("line 3\n   3 |     [1, 2][i]\n  in pick\n"),
        "{}",
        cell.traceback()
    );
    // Functions of several cells, all loaded after the first panic; none of the standard library's.
    kernel.ok("mod a {\n    #[inline(never)]\n    pub fn first(v: &[u8], at: usize) -> u8 {\n        v[at]\n    }\n}");
    kernel.ok("#[inline(never)]\nfn second(at: usize) -> u8 {\n    a::first(&[1], at).wrapping_add(1)\n}");
    let cell = kernel.err("let many: Vec<u8> = [0, 9].iter().map(|at| second(*at)).collect();");
    assert!(
        cell.traceback().contains("\n  in a::first, called from second\n"),
        "{}",
        cell.traceback()
    );

    let cell = kernel.err("\"x\".parse::<i32>()?;");
    assert_eq!(
        (cell.ename(), cell.evalue()),
        ("Error", "invalid digit found in string")
    );

    for (code, ename, words) in [
        (
            "unsafe { std::ptr::null_mut::<u8>().write_volatile(0) }",
            "Crash",
            "segmentation fault (SIGSEGV)",
        ),
        ("std::process::abort();", "Crash", "aborted (SIGABRT)"),
        ("drop(v); std::process::exit(3);", "Exited", "exit status 3"),
        (
            "fn deep(n: u64) -> u64 { if n == 0 { 0 } else { 1 + deep(n + 1) } }\ndeep(1)",
            "Crash",
            "stack overflow",
        ),
    ] {
        let cell = kernel.err(code);
        assert_eq!(cell.ename(), ename, "{code}");
        assert!(cell.evalue().contains(words), "{code}: {}", cell.evalue());
        assert!(
            cell.traceback().contains("variables of earlier cells are kept"),
            "{code}: {}",
            cell.traceback()
        );
        assert_eq!(kernel.ok("(&v, &w)").value(), "([1, 2, 3], \"w\")", "after {code}");
    }

    // A type that is defined again takes its variables with it, says so once, and nothing else.
    kernel.ok("struct P { x: i32 }\nlet p = P { x: 1 };\nlet q = vec![P { x: 2 }];");
    kernel.ok("struct P { x: i32, y: u8 }");
    let cell = kernel.ok("let r = P { x: 1, y: 2 };\nr.y + w.len() as u8");
    assert_eq!(cell.value(), "3");
    let said = cell.stream("stderr");
    assert!(
        said == "dropped, because their types were defined again: p, q\n"
            || said == "dropped, because their types were defined again: q, p\n",
        "{said:?}"
    );
    assert_eq!(cell.stdout(), "");
    assert_eq!(
        kernel.err("p.x").evalue(),
        "`p` was dropped, because its type was defined again (line 1)"
    );
    assert_eq!(
        kernel
            .ok("eprint!(\"The type of the variable x is mine\");")
            .stream("stderr"),
        "The type of the variable x is mine"
    );

    let cell = kernel.err("let f = |x: i32| move |y: i32| x + y;");
    assert!(
        cell.traceback()
            .contains("the closure `f` cannot be kept for the next cell"),
        "{}",
        cell.traceback()
    );
    assert!(
        cell.traceback().contains("hint: write `fn f(…)`"),
        "{}",
        cell.traceback()
    );

    let cell = kernel.err("%gpuu");
    assert_eq!((cell.ename(), cell.evalue()), ("MagicError", "unknown magic `%gpuu`"));
    assert!(
        cell.traceback().contains("help: did you mean %gpu?"),
        "{}",
        cell.traceback()
    );
    // A remainder at the beginning of a line is one.
    assert_eq!(kernel.ok("let n = 17\n    % 5;\nn").value(), "2");
    // Code before and after a magic, in order, with the user's line numbers.
    let cell = kernel.err("let before = 1;\n%lsmagic\nbefore + \"x\"");
    assert!(
        cell.all("display_data")[0]["data"]["text/plain"]
            .as_str()
            .unwrap()
            .contains("%gpu")
    );
    assert!(cell.traceback().contains("line 3"), "{}", cell.traceback());
}

/// libtorch's errors come from within libraries and with a C++ stack: the user sees their own line and libtorch's words.
#[test]
fn an_error_of_a_tensor_is_said_in_the_users_line() {
    const WORDS: &str = "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)";
    let mut kernel = Kernel::start();
    kernel.ok("use lightcell::prelude::*;\nlet a = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));");

    let cell = kernel.err("println!(\"before\");\n\nlet b = a.matmul(&a);\nb.size()");
    assert_eq!((cell.ename(), cell.evalue()), ("Panic", WORDS));
    assert_eq!(
        cell.traceback(),
        format!(
            "panic: {WORDS}\n --> cell [2], line 3\n   3 | let b = a.matmul(&a);\nvariables of earlier cells are kept"
        )
    );

    // In a function of an earlier cell.
    kernel.ok("#[inline(never)]\nfn both(a: &Tensor) -> Tensor {\n    let b = a + 1;\n    a.matmul(&b)\n}");
    let text = kernel.err("let twice = 2;\nboth(&a)").traceback();
    assert!(
        text.contains("--> cell [3], line 4\n   4 |     a.matmul(&b)\n  in both\n"),
        "{text}"
    );

    // Returned, and in another thread.
    let cell = kernel.err("let c = a.f_matmul(&a)?;");
    assert_eq!((cell.ename(), cell.evalue()), ("Error", WORDS));
    assert_eq!(cell.stream("stderr"), format!("{WORDS}\n"));
    let cell = kernel.ok(
        "std::thread::spawn(|| { let a = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)); a.matmul(&a) }).join().is_err()",
    );
    assert_eq!(cell.value(), "true");
    assert_eq!(cell.stream("stderr"), format!("thread '<unnamed>' panicked: {WORDS}\n"));
    // What it holds is shown.
    assert_eq!(
        kernel.ok("&a + 1.5").value(),
        "[[1.5000, 1.5000, 1.5000],\n [1.5000, 1.5000, 1.5000]]\nTensor[[2, 3], Float]"
    );
}
