use super::*;
use std::os::unix::fs::MetadataExt;

const HASH: &str = "0123456789abcdef";

/// An installation with a cache and two sessions, without cargo: files such as it makes.
struct Ground(PathBuf);

impl Ground {
    fn new(name: &str) -> Ground {
        let root = std::env::temp_dir().join(format!("lightcell-cache-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for session in ["one", "two"] {
            std::fs::create_dir_all(root.join("sessions").join(session)).unwrap();
        }
        Ground(root)
    }

    fn session(&self, name: &str) -> PathBuf {
        self.0.join("sessions").join(name)
    }

    fn cache(&self, session: &str) -> Cache {
        Cache {
            session: self.session(session),
            folder: self.0.join("cache/key"),
            limit: LIMIT,
        }
    }

    /// What cargo leaves of a crate, compiled with others: names and the fingerprints they come to.
    fn compile(&self, session: &str, name: &str, number: u64, needs: &[u64]) -> Used {
        let debug = self.session(session).join("target/debug");
        let hash = format!("{number:016x}");
        let fingerprint = debug.join(format!(".fingerprint/{name}-{hash}"));
        std::fs::create_dir_all(&fingerprint).unwrap();
        std::fs::create_dir_all(debug.join("deps")).unwrap();
        std::fs::write(
            fingerprint.join(format!("lib-{name}")),
            format!("{:016x}", number.swap_bytes()),
        )
        .unwrap();
        let deps: Vec<Value> = needs
            .iter()
            .map(|need| serde_json::json!([1, "x", false, need]))
            .collect();
        std::fs::write(
            fingerprint.join(format!("lib-{name}.json")),
            serde_json::json!({ "deps": deps }).to_string(),
        )
        .unwrap();
        std::fs::write(
            debug.join(format!("deps/lib{name}-{hash}.rlib")),
            format!("code of {name}"),
        )
        .unwrap();
        std::fs::write(debug.join(format!("deps/{name}-{hash}.d")), "x").unwrap();
        let lock = self.session(session).join("Cargo.lock");
        let text = std::fs::read_to_string(&lock).unwrap_or_default();
        std::fs::write(lock, format!("{text}name = \"{name}\"\n")).unwrap();
        Used {
            hash,
            package: format!("registry+https://index#{name}@1.0.0"),
            manifest: PathBuf::new(),
        }
    }

    /// Cargo.lock of a session that has compiled nothing.
    fn wants(&self, session: &str, names: &[&str]) {
        let text: String = names.iter().map(|name| format!("name = \"{name}\"\n")).collect();
        std::fs::write(self.session(session).join("Cargo.lock"), text).unwrap();
    }

    fn rlib(&self, session: &str, name: &str, number: u64) -> PathBuf {
        self.session(session)
            .join(format!("target/debug/deps/lib{name}-{number:016x}.rlib"))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_one_session_compiled_another_has_by_link() {
    let ground = Ground::new("link");
    let used = [ground.compile("one", "a", 1, &[]), ground.compile("one", "b", 2, &[1])];
    ground.cache("one").keep(&used, &[], Path::new("/lc/src")).unwrap();
    ground.wants("two", &["a", "b"]);
    assert_eq!(
        ground.cache("two").lend("build").unwrap(),
        ["a-0000000000000001", "b-0000000000000002"]
    );
    let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(ground.rlib("one", "b", 2)), inode(ground.rlib("two", "b", 2)));
    let record = |session: &str| {
        ground
            .session(session)
            .join("target/debug/.fingerprint/b-0000000000000002/lib-b")
    };
    assert_ne!(inode(record("one")), inode(record("two")));
    assert_eq!(
        std::fs::metadata(record("one")).unwrap().modified().unwrap(),
        std::fs::metadata(record("two")).unwrap().modified().unwrap()
    );
    let debug = ground.session("two").join("target/debug");
    assert!(!debug.join("deps/b-0000000000000002.d").exists());
    // Asked the same again, and with nothing new compiled, nothing is done.
    assert!(ground.cache("two").lend("build").unwrap().is_empty());
    let before = std::fs::read_dir(ground.0.join("cache/key")).unwrap().count();
    ground.cache("two").keep(&used, &[], Path::new("/lc/src")).unwrap();
    assert_eq!(std::fs::read_dir(ground.0.join("cache/key")).unwrap().count(), before);
}

#[test]
fn only_crates_that_the_session_names_are_lent_and_those_in_folders_are_not_kept() {
    let ground = Ground::new("named");
    let mut used = vec![
        ground.compile("one", "a", 1, &[]),
        ground.compile("one", "mine", 2, &[1]),
        ground.compile("one", "ours", 3, &[1]),
    ];
    used[1].package = "path+file:///home/me/mine#0.1.0".to_owned();
    used[1].manifest = "/home/me/mine/Cargo.toml".into();
    used[2].package = "path+file:///lc/src/magics/ours#0.1.0".to_owned();
    used[2].manifest = "/lc/src/magics/ours/Cargo.toml".into();
    ground.cache("one").keep(&used, &[], Path::new("/lc/src")).unwrap();
    ground.wants("two", &["mine"]);
    assert!(ground.cache("two").lend("build").unwrap().is_empty());
    ground.wants("two", &["mine", "ours", "a"]);
    assert_eq!(
        ground.cache("two").lend("build").unwrap(),
        ["a-0000000000000001", "ours-0000000000000003"]
    );
}

#[test]
fn a_unit_is_lent_only_with_the_builds_it_was_compiled_with() {
    let ground = Ground::new("builds");
    let used = [ground.compile("one", "a", 1, &[]), ground.compile("one", "b", 2, &[1])];
    ground.cache("one").keep(&used, &[], Path::new("/lc/src")).unwrap();
    // Another session has compiled a for itself, and its build takes the place of the first.
    let again = ground.compile("two", "a", 1, &[]);
    ground.wants("two", &["a", "b"]);
    assert!(ground.cache("two").lend("build").unwrap().is_empty());
    ground.cache("two").keep(&[again], &[], Path::new("/lc/src")).unwrap();
    std::fs::remove_dir_all(ground.session("two").join("target")).unwrap();
    assert_eq!(ground.cache("two").lend("check").unwrap(), ["a-0000000000000001"]);
    // With b compiled anew the two go together again.
    let again = ground.compile("two", "b", 2, &[1]);
    ground.cache("two").keep(&[again], &[], Path::new("/lc/src")).unwrap();
    std::fs::remove_dir_all(ground.session("two").join("target")).unwrap();
    ground.wants("two", &["a", "b"]);
    assert_eq!(ground.cache("two").lend("again").unwrap().len(), 2);
}

#[test]
fn a_unit_whose_dependencies_cannot_be_told_is_not_kept() {
    let ground = Ground::new("untold");
    let used = [ground.compile("one", "b", 2, &[77])];
    ground.cache("one").keep(&used, &[], Path::new("/lc/src")).unwrap();
    ground.wants("two", &["b"]);
    assert!(ground.cache("two").lend("build").unwrap().is_empty());
}

#[test]
fn a_unit_that_lost_something_is_not_lent() {
    let ground = Ground::new("damaged");
    let used = [ground.compile("one", "a", 1, &[])];
    ground.cache("one").keep(&used, &[], Path::new("/lc/src")).unwrap();
    let kept = ground.0.join("cache/key/a-0000000000000001/debug/deps");
    let rlib = kept.join("liba-0000000000000001.rlib");
    std::fs::remove_file(&rlib).unwrap();
    std::fs::write(&rlib, "cod").unwrap();
    ground.wants("two", &["a"]);
    assert!(ground.cache("two").lend("build").unwrap().is_empty());
    assert_eq!(
        take_note(&ground.session("two")).unwrap(),
        "cannot use a-0000000000000001: it is damaged: 19 bytes instead of 25"
    );
    assert_eq!(take_note(&ground.session("two")), None);
    assert!(!ground.rlib("two", "a", 1).exists());
}

#[test]
fn the_least_recently_used_go_first_and_what_others_need_goes_last() {
    let ground = Ground::new("room");
    let used = [
        ground.compile("one", "a", 1, &[]),
        ground.compile("one", "b", 2, &[1]),
        ground.compile("one", "c", 3, &[]),
    ];
    let mut cache = ground.cache("one");
    cache.keep(&used, &[], Path::new("/lc/src")).unwrap();
    let left = || {
        let entries = std::fs::read_dir(ground.0.join("cache/key")).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    };
    std::fs::create_dir_all(ground.0.join("cache/key/.new-999999999-1/x")).unwrap();
    // a was used just now, with b; c lately; the order within a run is that of cargo.
    Record::touch(
        &ground.0.join("cache/key/c-0000000000000003"),
        SystemTime::now() - Duration::from_secs(60),
    );
    cache.limit = 60;
    cache.make_room();
    assert_eq!(left(), ["a-0000000000000001", "b-0000000000000002"]);
    assert!(!ground.0.join("cache/key/.new-999999999-1").exists());
    cache.limit = 30;
    cache.make_room();
    assert_eq!(left(), ["a-0000000000000001"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_noted() {
    let ground = Ground::new("unwritable");
    std::fs::write(ground.0.join("cache"), "a file").unwrap();
    let used = [ground.compile("one", "a", 1, &[])];
    let cache = ground.cache("one");
    assert!(cache.lend("build").unwrap().is_empty());
    let result = cache.keep(&used, &[], Path::new("/lc/src"));
    cache.noting("crates are not kept for later kernels", result);
    let note = take_note(&ground.session("one")).unwrap();
    assert!(
        note.starts_with("crates are not kept for later kernels: cannot make ") && note.lines().count() == 1,
        "{note}"
    );
}

#[test]
fn cargos_messages_name_units() {
    let artifact = |file: &str| {
        let message = serde_json::json!({"reason": "compiler-artifact", "package_id": "p", "filenames": [file]});
        read_message(message.to_string().as_bytes()).map(|used| used.hash)
    };
    assert_eq!(
        artifact("/s/target/debug/deps/libproc_macro2-0123456789abcdef.rlib").unwrap(),
        HASH
    );
    assert_eq!(
        artifact("/s/target/debug/build/libc-0123456789abcdef/build-script-build").unwrap(),
        HASH
    );
    assert_eq!(artifact("/s/target/debug/deps/libctx.so"), None);
    let run = serde_json::json!({"reason": "build-script-executed", "package_id": "p", "out_dir": "/s/target/debug/build/libc-0123456789abcdef/out"});
    assert_eq!(read_message(run.to_string().as_bytes()).unwrap().hash, HASH);
    assert_eq!(read_message(b"{\"reason\":\"build-finished\"}"), None);
    assert_eq!(read_message(b"text"), None);
    assert_eq!(
        package_title("registry+https://github.com/rust-lang/crates.io-index#itoa@1.0.15"),
        "itoa 1.0.15"
    );
    assert_eq!(
        package_title("git+https://example.org/me/thing?branch=x#0.3.1"),
        "thing 0.3.1"
    );
}

#[test]
fn our_own_crates_are_no_reason_to_look() {
    let ground = Ground::new("own");
    let session = ground.session("one");
    let own = Path::new("/lc/src");
    let put = |more: &str| {
        let head = "[package]\nname = \"ctx\"\n\n[dependencies]\nlightcell = { path = \"/lc/src/magics/fit\" }\n";
        std::fs::write(session.join("Cargo.toml"), format!("{head}{more}\n")).unwrap();
    };
    put("");
    assert!(!has_foreign(&session, own));
    put("lightcell-cell = { path = \"/lc/stubs/key/lightcell-cell\" }");
    assert!(!has_foreign(&session, own));
    put("itoa = \"1\"");
    assert!(has_foreign(&session, own));
    put("lightcell-parquet = { path = \"/lc/stubs/key/lightcell-parquet\" }");
    assert!(has_foreign(&session, own));
}
