//! What a cell defines is there in the next ones, and can be defined again: statics, closures, macros.

use lightcell_tests::Kernel;

#[test]
fn a_static_is_the_same_in_every_cell() {
    let mut kernel = Kernel::start();
    kernel.ok("use std::sync::{Mutex, atomic::{AtomicUsize, Ordering::SeqCst}};\nuse std::cell::Cell;");
    kernel.ok("static COUNT: AtomicUsize = AtomicUsize::new(5);\n\
         struct Job { id: u8 }\n\
         static JOBS: Mutex<Vec<Job>> = Mutex::new(Vec::new());\n\
         thread_local! { static LOCAL: Cell<i32> = Cell::new(1); }\n\
         lazy_static! { static ref NAMES: Mutex<Vec<String>> = Mutex::new(vec![\"a\".to_owned()]); }\n\
         fn next() -> usize { static N: AtomicUsize = AtomicUsize::new(0); N.fetch_add(1, SeqCst) }\n\
         static mut PLAIN: i32 = 1;\n\
         COUNT.fetch_add(1, SeqCst);\n\
         JOBS.lock().unwrap().push(Job { id: 3 });\n\
         LOCAL.with(|local| local.set(7));\n\
         NAMES.lock().unwrap().push(\"b\".into());\n\
         unsafe { PLAIN += 1; }\n\
         next();");
    let all = "let plain = unsafe { PLAIN };\n\
               println!(\"{} {} {} {:?} {} {plain}\", COUNT.load(SeqCst), JOBS.lock().unwrap()[0].id, \
               LOCAL.with(|local| local.get()), NAMES.lock().unwrap(), next());";
    assert_eq!(kernel.ok(all).stdout(), "6 3 7 [\"a\", \"b\"] 1 2\n");
    // From another thread too, where a thread's own is another.
    let other =
        "std::thread::spawn(|| println!(\"{} {}\", COUNT.load(SeqCst), LOCAL.with(|l| l.get()))).join().unwrap();";
    assert_eq!(kernel.ok(other).stdout(), "6 1\n");

    // Of a type that is defined again it cannot be the same.
    let changed = kernel.ok("struct Job { id: u8, name: String }\nJOBS.lock().unwrap().len()");
    assert_eq!(changed.value(), "0");
    assert_eq!(
        changed.stream("stderr"),
        "begin anew, because a type of theirs was defined again: JOBS\n"
    );
    kernel.ok("JOBS.lock().unwrap().push(Job { id: 1, name: String::from(\"x\") });");
    assert_eq!(kernel.ok("JOBS.lock().unwrap()[0].name.clone()").value(), "\"x\"");

    // A crash takes nothing that earlier cells did; run again, the definition begins anew.
    assert_eq!(
        kernel
            .err("COUNT.fetch_add(100, SeqCst); std::process::abort();")
            .ename(),
        "Crash"
    );
    assert_eq!(kernel.ok("COUNT.load(SeqCst)").value(), "6");
    kernel.ok("static COUNT: AtomicUsize = AtomicUsize::new(5);");
    assert_eq!(kernel.ok("COUNT.load(SeqCst)").value(), "5");
    let wrong = kernel.err("static WRONG: i32 = \"x\";");
    assert!(wrong.traceback().contains("line 1, column 21"), "{}", wrong.traceback());
}

#[test]
fn a_closure_is_kept() {
    let mut kernel = Kernel::start();
    kernel.ok("let add = |a: i32| a + 1;");
    assert_eq!(kernel.ok("add(2)").value(), "3");
    assert_eq!(kernel.ok("(1..4).map(&add).collect::<Vec<i32>>()").value(), "[2, 3, 4]");
    assert_eq!(
        kernel
            .ok("let k = 3;\nlet scaled = move |a: i32| a * k;\nscaled(2)")
            .value(),
        "6"
    );
    kernel.ok("let mut n = 0;\nlet mut count = move || { n += 1; n };\ncount();");
    assert_eq!(kernel.ok("count()").value(), "2");
    kernel.ok("fn adder(k: i32) -> impl Fn(i32) -> i32 { move |a| a + k }\nlet five = adder(5);");
    assert_eq!(kernel.ok("five(1) + scaled(1)").value(), "9");
    kernel.ok("let letters = |s: &str| s.len();");
    assert_eq!(kernel.ok("letters(\"abc\")").value(), "3");
    // Errors stand where the user typed.
    let borrowed = kernel.err("let k = 3;\nlet borrows = |a: i32| a + k;");
    let text = borrowed.traceback();
    assert!(
        text.contains("line 2, column 15") && text.contains("use the `move` keyword"),
        "{text}"
    );
    let unknown = kernel
        .err("let start = || std::process::Command::new(\"true\").spawn().unwrap();")
        .traceback();
    let said = "the closure `start` takes or gives a `Child`, which is not known by that name here";
    assert!(
        unknown.contains(said) && unknown.contains("use std::process::Child"),
        "{unknown}"
    );
    let unnamed = kernel.err("let evens = (0..9).filter(|x| x % 2 == 0);");
    assert!(
        unnamed.traceback().contains("the type of `evens` is not known")
            || unnamed.traceback().contains("cannot be kept for the next cell"),
        "{}",
        unnamed.traceback()
    );
}

/// The analyser does not know the type, the compiler does.
#[test]
fn a_variable_whose_type_was_left_open_is_kept() {
    let mut kernel = Kernel::start();
    kernel.ok("use std::collections::HashMap;");
    kernel.ok("let m: HashMap<_, _> = (0..3).map(|x| (x, x * 2)).collect();");
    assert_eq!(kernel.ok("m[&2]").value(), "4");
    // An error behind it stands where it was typed, and what the question printed does not show.
    let cell = kernel.err("println!(\"once\"); let n: std::collections::HashMap<_, Vec<_>> = m.iter().map(|(k, v)| (*k, vec![*v])).collect(); n.nothing()");
    assert_eq!(
        cell.evalue().split(" (").next(),
        Some("E0599: no method named `nothing` found for struct `HashMap<K, V, S, A>` in the current scope")
    );
    assert!(cell.traceback().contains("column 116"), "{}", cell.traceback());
    assert_eq!(cell.stdout(), "");
    let cell = kernel.ok("println!(\"once\"); let n: std::collections::HashMap<_, Vec<_>> = m.iter().map(|(k, v)| (*k, vec![*v])).collect(); n[&1][0]");
    assert_eq!((cell.stdout().as_str(), cell.value().as_str()), ("once\n", "2"));
    // What cannot be written still says so.
    let cell = kernel.err("let d = vec![1, 2].into_iter().map(|x| x + 1);");
    assert!(cell.evalue().contains("`d`"), "{}", cell.evalue());
}

#[test]
fn a_macro_and_what_it_makes_are_kept() {
    let mut kernel = Kernel::start();
    kernel.ok("macro_rules! square { ($e:expr) => { $e * $e } }\n\
         macro_rules! make { ($name:ident, $field:ident) => {\n\
         #[derive(Debug)] struct $name { $field: i32 }\n\
         impl $name { fn twice(&self) -> i32 { self.$field * 2 } }\n\
         } }");
    // In a function too, whose place among the items nobody knows.
    kernel.ok("fn nine() -> i32 { square!(3) }\nmake!(Point, x);");
    assert_eq!(
        kernel
            .ok("println!(\"{} {:?} {}\", nine(), Point { x: 1 }, Point { x: 2 }.twice());")
            .stdout(),
        "9 Point { x: 1 } 4\n"
    );
    kernel.ok("make!(Point, y);");
    assert_eq!(kernel.ok("Point { y: 5 }.twice()").value(), "10");
    kernel.ok("macro_rules! square { ($e:expr) => { $e * $e + 1 } }");
    assert_eq!(kernel.ok("nine() + square!(1)").value(), "12");
}

#[test]
fn a_crate_with_features_of_its_own_leaves_the_training_library_and_variables_alone() {
    let mut kernel = Kernel::start();
    kernel.ok("use lightcell::prelude::*;\nlet t = Tensor::from_slice(&[1i64, 2]);");
    // A crate that the training library uses too, without this feature.
    let added = kernel.ok(":dep libc = { version = \"0.2\", features = [\"extra_traits\"] }");
    let said: Vec<String> = added
        .all("display_data")
        .into_iter()
        .chain(added.all("update_display_data"))
        .filter_map(|content| content["data"]["text/plain"].as_str().map(str::to_owned))
        .collect();
    assert!(said.iter().all(|text| !text.contains("tch")), "{said:?}");
    let equal = "let fd = libc::pollfd { fd: 0, events: 0, revents: 0 };\nfd == fd && t.size() == [2]";
    assert_eq!(kernel.ok(equal).value(), "true");
    // What the training library does with the cell's own types is as before.
    kernel.ok("hparams! { Hp { lr: f64 = 0.5 } }");
    assert_eq!(
        kernel
            .ok("t.sum(Kind::Int64).int64_value(&[]) as f64 * Hp::default().lr")
            .value(),
        "1.5"
    );
}

#[test]
fn a_crates_globals_are_the_same_in_every_cell() {
    let mut kernel = Kernel::start();
    kernel.ok("let kept = vec![1, 2];");
    kernel.ok(":dep log\nlog::set_max_level(log::LevelFilter::Info);");
    assert_eq!(kernel.ok("log::max_level()").value(), "Info");
    // Another crate stands beside it.
    kernel.ok(":dep itoa = \"1\"");
    assert_eq!(
        kernel
            .ok("(itoa::Buffer::new().format(7).len(), log::max_level())")
            .value(),
        "(1, Info)"
    );
    // With more features it is compiled anew, and begins anew.
    kernel.ok(":dep log = { version = \"0.4\", features = [\"std\"] }");
    assert_eq!(kernel.ok("log::max_level()").value(), "Off");
    kernel.ok("log::set_max_level(log::LevelFilter::Warn);");
    assert_eq!(
        kernel
            .ok("(itoa::Buffer::new().format(7).len(), log::max_level(), kept.len())")
            .value(),
        "(1, Warn, 2)"
    );
    // What is no crate is said as before, and the rest goes on.
    let missing = kernel.err(":dep itoa-of-nobody = \"1\"");
    assert!(
        missing.traceback().contains("there is no crate `itoa-of-nobody`"),
        "{}",
        missing.traceback()
    );
    assert_eq!(kernel.ok("log::max_level()").value(), "Warn");
}
