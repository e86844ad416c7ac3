//! Crates that one kernel has compiled, in the next one. They are of the registry, and on this machine already: the kernel
//! itself is built from them.

use lightcell_tests::{Cell, Kernel, Scratch, file, home};
use std::path::Path;

/// A kernel with a cache of the test's own.
fn kernel(cache: &Path) -> Kernel {
    Kernel::start_with(&[("LIGHTCELL_CACHE", cache.to_str().unwrap())])
}

fn log(kernel: &mut Kernel) -> String {
    std::fs::read_to_string(home().join(format!("logs/kernel-{}.log", kernel.pid()))).unwrap()
}

/// What the cell showed of the compilation of crates.
fn shown(cell: &Cell) -> String {
    let all = cell
        .all("display_data")
        .into_iter()
        .chain(cell.all("update_display_data"));
    all.filter_map(|content| content["data"]["text/plain"].as_str())
        .collect()
}

/// Several crates, one of them with a build script; evcxr asks about the two that are named one after the other.
const DEP: &str =
    ":offline 1\n:dep parking_lot = \"0.12\"\n:dep either = \"1\"\nparking_lot::Mutex::new(3).into_inner()";

/// Names of the units that are kept.
fn kept(cache: &Path) -> Vec<String> {
    let keys = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let units = keys.flat_map(|key| std::fs::read_dir(key.path()).into_iter().flatten().flatten());
    let mut names: Vec<_> = units.filter_map(|unit| unit.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with(".lock"));
    names.sort();
    names
}

#[test]
fn a_later_kernel_compiles_nothing_again() {
    let scratch = Scratch::new("reuse");
    let cache = scratch.0.join("cache");
    let mut first = kernel(&cache);
    let cell = first.ok(DEP);
    assert_eq!(cell.value(), "3");
    assert!(shown(&cell).contains("compiled "), "{}", shown(&cell));
    assert!(log(&mut first).contains("Compiling parking_lot"));
    // Types of variables are found by `cargo check`, which has files of its own.
    let typed = "let m = parking_lot::Mutex::new(vec![1u8]);";
    first.ok(typed);
    drop(first);
    let names = kept(&cache);
    let has = |name: &str| names.iter().any(|unit| unit.starts_with(name));
    assert!(
        has("parking_lot-") && has("parking_lot_core-") && has("lock_api-") && has("either-"),
        "{names:?}"
    );
    assert!(!has("ctx-") && !has(".new") && !has(".gone"), "{names:?}");
    let mut second = kernel(&cache);
    let cell = second.ok(DEP);
    assert_eq!((cell.value().as_str(), shown(&cell).as_str()), ("3", ""));
    second.ok(typed);
    assert_eq!(second.ok("m.lock().len()").value(), "1");
    let log = log(&mut second);
    assert!(!log.contains("Compiling") && !log.contains("cannot"), "{log}");
    assert_eq!(kept(&cache), names);
}

#[test]
fn crates_in_folders_of_the_users_are_compiled_by_each_kernel() {
    let scratch = Scratch::new("reuse-own");
    let (cache, mine) = (scratch.0.join("cache"), scratch.0.join("mine"));
    std::fs::create_dir_all(mine.join("src")).unwrap();
    std::fs::write(
        mine.join("Cargo.toml"),
        "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\neither = \"1\"\n[workspace]\n",
    )
    .unwrap();
    let code = |value: u32| {
        let text = format!("pub fn value() -> either::Either<u32, ()> {{ either::Either::Left({value}) }}");
        std::fs::write(mine.join("src/lib.rs"), text).unwrap();
    };
    code(1);
    let dep = format!(":offline 1\n:dep mine = {{ path = {mine:?} }}\nmine::value().left()");
    assert_eq!(kernel(&cache).ok(&dep).value(), "Some(1)");
    let names = kept(&cache);
    assert!(names.iter().any(|name| name.starts_with("either-")), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("mine-")), "{names:?}");
    code(2);
    let mut second = kernel(&cache);
    assert_eq!(second.ok(&dep).value(), "Some(2)");
    let log = log(&mut second);
    assert!(
        log.contains("Compiling mine") && !log.contains("Compiling either"),
        "{log}"
    );
}

#[test]
fn kernels_that_compile_the_same_at_once_leave_a_cache_that_is_whole() {
    let scratch = Scratch::new("reuse-many");
    let cache = scratch.0.join("cache");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(kernel(&cache).ok(DEP).value(), "3"));
        }
    });
    let mut last = kernel(&cache);
    assert!(
        last.ok("%config cache-limit 3G")
            .stdout()
            .starts_with("cache-limit  3.0 GB ")
    );
    assert_eq!(std::fs::read_to_string(cache.join("limit")).unwrap(), "3000000000");
    assert_eq!(last.ok(DEP).value(), "3");
    let log = log(&mut last);
    assert!(!log.contains("Compiling") && !log.contains("cannot"), "{log}");
}

#[test]
fn without_a_folder_to_keep_them_crates_are_compiled_as_ever() {
    // Below a file no folder can be made, not even by root.
    let mut kernel = kernel(&file("Cargo.toml").join("cache"));
    let cell = kernel.ok(":offline 1\n:dep either = \"1\"\neither::Either::<u8, ()>::Left(1).left()");
    assert_eq!(cell.value(), "Some(1)");
    let log = log(&mut kernel);
    assert!(
        log.contains("crates are not kept for later kernels: cannot make "),
        "{log}"
    );
}
