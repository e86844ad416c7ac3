//! Builds what belongs to one rustc: the worker and the warm store. Set-up calls it, and the kernel when rustc has
//! changed since.

use crate::engine::{self, Engine};
use crate::home::{Home, Rustc};
use crate::session::Session;
use crate::stubs;
use crate::worker::{Incoming, Link, Reader};
use anyhow::{Context, Result, bail};
use lightcell_events::frame::Kind;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// One step of the work, for whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// `worker` or `store`.
    pub step: &'static str,
    /// The crate that is compiled now.
    pub krate: String,
    /// How many were begun.
    pub done: usize,
    /// How many there are.
    pub total: usize,
}

/// Why the worker or the store cannot be used as they are; `None` when both can.
pub fn missing(home: &Home, rustc: &Rustc) -> Result<Option<String>> {
    let worker = home.worker(rustc)?;
    if !worker.is_file() {
        // Set-up refuses an older one, but rustup may have another by now.
        if let Some(release) = too_old(&rustc.version) {
            bail!(
                "rustc {release} is too old: Lightcell needs {}\nhint: run `rustup update stable`, then restart the kernel",
                env!("CARGO_PKG_RUST_VERSION")
            );
        }
        return Ok(Some(format!("no worker for {}", first_line(&rustc.version))));
    }
    let store = home.store(rustc)?;
    if !store.join(COMPLETE).is_file() {
        return Ok(Some(format!("no warm store for {}", first_line(&rustc.version))));
    }
    let stubs = stubs::folder(home, rustc)?;
    if !stubs.is_dir() {
        return Ok(Some(format!("the warm store is damaged: {}", stubs.display())));
    }
    Ok(damage(&store))
}

/// The release of a rustc that cannot compile Lightcell.
fn too_old(version: &str) -> Option<&str> {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split(['.', '-']).map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    let release = version.lines().find_map(|line| line.strip_prefix("release: "))?;
    (numbers(release)? < numbers(env!("CARGO_PKG_RUST_VERSION"))?).then_some(release)
}

/// Written last into a store: names and sizes of its libraries, to notice what went missing.
const COMPLETE: &str = "complete";

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn damage(store: &Path) -> Option<String> {
    let list = std::fs::read_to_string(store.join(COMPLETE)).ok()?;
    for line in list.lines() {
        let (size, name) = line.split_once(' ')?;
        let found = std::fs::metadata(store.join(name)).map(|meta| meta.len()).unwrap_or(0);
        if found.to_string() != size {
            return Some(format!("the warm store is damaged: {name}"));
        }
    }
    (!store.join("Cargo.lock").is_file()).then(|| "the warm store is damaged: Cargo.lock".to_owned())
}

/// Builds the worker.
pub fn worker(home: &Home, rustc: &Rustc, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    let target = home.worker(rustc)?;
    if target.is_file() {
        return Ok(());
    }
    let build = home.root.join("build/worker");
    let mut command = Command::new(&home.setup.cargo);
    command
        .args([
            "rustc",
            "--release",
            "--locked",
            "-p",
            "lightcell-worker",
            "--manifest-path",
        ])
        .arg(home.setup.src.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&build)
        .args(["--", "-C", "prefer-dynamic", "-C"])
        .arg(format!("link-arg=-Wl,-rpath,{}", rustc.libdir.display()))
        .env("RUSTC", &rustc.path)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .current_dir(&home.root);
    for symbol in EXPORTED {
        command.args(["-C", &format!("link-arg=-Wl,--export-dynamic-symbol={symbol}")]);
    }
    let total = 6;
    let mut done = 0;
    run_cargo(command, |krate| {
        done += 1;
        progress(Progress {
            step: "worker",
            krate: krate.to_owned(),
            done,
            total,
        });
    })
    .context("cannot build the worker")?;
    install(&build.join("release/lightcell-worker"), &target)?;
    if let Some(own) = target.parent()
        && let Some(all) = own.parent()
    {
        keep_two(all, own);
    }
    Ok(())
}

/// What the worker's program exports: these symbols win over libc's in every library it loads.
const EXPORTED: [&str; 6] = [
    "write",
    "writev",
    "read",
    "lightcell_emit",
    "lightcell_stop_requested",
    "lightcell_stop_clear",
];

/// Puts a file in its place at once: written beside and renamed.
fn install(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("no folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let beside = to.with_extension(format!("new-{}", std::process::id()));
    std::fs::copy(from, &beside).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, to).with_context(|| format!("cannot write {}", to.display()))
}

/// Runs cargo; its errors become ours, its `Compiling x` lines go to `each`.
fn run_cargo(mut command: Command, mut each: impl FnMut(&str)) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let mut text = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            match compiling(&line) {
                Some(krate) => each(krate),
                None => {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
    }
    if !child.wait()?.success() {
        bail!("{}", text.trim_end());
    }
    Ok(())
}

/// The crate in a `Compiling x v1.0` line.
pub fn compiling(line: &str) -> Option<&str> {
    line.trim_start()
        .strip_prefix("Compiling ")
        .map(|rest| rest.split(' ').next().unwrap_or(rest))
}

/// Builds the warm store: a session like any other, kept. `EVCXR_TMPDIR` names its folder.
pub fn store(home: &Home, rustc: &Rustc, session: &Session) -> Result<PathBuf> {
    let target = home.store(rustc)?;
    let stubs = stubs::folder(home, rustc)?;
    stubs::write(home, &stubs)?;
    let (_link, command) = Link::new(home, rustc, &session.path)?;
    let mut engine = Engine::start(command)?;
    engine.begin(home, session, None)?;
    engine.build(home, session)?;
    drop(engine);
    // Of all crates that are there; those of a session are fewer.
    let lock = session.path.join("Cargo.lock");
    let all_crates = std::fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    // As a kernel does it.
    let (link, command) = Link::new(home, rustc, &session.path)?;
    let mut engine = Engine::start(command)?;
    engine.begin(home, session, None)?;
    engine.furnish(session, None, &stubs)?;
    // The library is loaded once for real, so that a broken libtorch is found here and not in a notebook.
    let text = try_libtorch(&mut engine, link).context("libtorch does not work in a cell")?;
    if text.trim() != "3" {
        bail!("libtorch does not work in a cell: 1 + 2 is {}", text.trim());
    }
    // evcxr asks `cargo check` about a cell whose variable has no type; that has artifacts of its own.
    if !matches!(
        engine.eval("let unknown = lightcell_there_is_no_such_name;"),
        Err(engine::Failure::Compile(_))
    ) {
        bail!("evcxr does not report errors as expected");
    }
    drop(engine);
    std::fs::write(&lock, all_crates).with_context(|| format!("cannot write {}", lock.display()))?;
    slim(&session.path.join("target"))?;
    let all = target.parent().context("no folder for stores")?;
    std::fs::create_dir_all(all)?;
    let list = inventory(&session.path)?;
    std::fs::write(session.path.join(COMPLETE), list)?;
    for rest in [
        "src",
        "Cargo.toml",
        ".cargo",
        "worker",
        crate::replay::RECIPE,
        crate::replay::ANALYSIS,
    ] {
        let path = session.path.join(rest);
        let _ = if path.is_dir() {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        };
    }
    if target.exists() {
        // A damaged one; kernels that run hold their own links to its files.
        std::fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    std::fs::rename(&session.path, &target).with_context(|| format!("cannot write {}", target.display()))?;
    let _ = std::fs::remove_file(target.join(".lock"));
    keep_two(all, &target);
    if let Some(all) = stubs.parent() {
        keep_two(all, &stubs);
    }
    crate::cache::forget_old(home);
    Ok(target)
}

/// Removes all beside `target` but the newest, which is the one of the rustc before: who goes back to it finds it again.
/// Kernels that run hold their own links to a store's files.
fn keep_two(folder: &Path, target: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut others: Vec<_> = entries
        .filter(|entry| entry.path() != target)
        .map(|entry| (entry.metadata().and_then(|meta| meta.modified()).ok(), entry.path()))
        .collect();
    others.sort();
    others.pop();
    for (_, path) in others {
        let _ = std::fs::remove_dir_all(path);
    }
}

/// What a cell with a tensor prints.
fn try_libtorch(engine: &mut Engine, link: Arc<Link>) -> Result<String> {
    let mut reader = Reader::new(link.clone());
    engine
        .eval("print!(\"{}\", lightcell::prelude::Tensor::from_slice(&[1i64, 2]).sum(lightcell::prelude::Kind::Int64).int64_value(&[]));")
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    link.sync(1);
    let (mut out, mut err) = (String::new(), String::new());
    loop {
        match reader.next(-1) {
            Incoming::Packet(Kind::Stdout, bytes) => out.push_str(&String::from_utf8_lossy(&bytes)),
            Incoming::Packet(Kind::Stderr, bytes) => err.push_str(&String::from_utf8_lossy(&bytes)),
            Incoming::Packet(Kind::TakenOver, _) => bail!("{}", err.trim()),
            Incoming::Packet(Kind::Sync, _) | Incoming::Closed => return Ok(out),
            _ => {}
        }
    }
}

/// Removes from a target folder the session's own crate, as each session compiles its own, and what cargo writes only for
/// people to read or while it builds: every file is one more to make at each start.
fn slim(target: &Path) -> Result<()> {
    let mut stack = vec![target.to_owned()];
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let own = name == "incremental"
                || name.starts_with("ctx-")
                || name.starts_with("libctx")
                || name.starts_with("libcode_")
                || name.starts_with("ctx.");
            let own = own || is_spare(&entry.path());
            let path = entry.path();
            match (own, path.is_dir()) {
                (true, true) => std::fs::remove_dir_all(&path)?,
                (true, false) => std::fs::remove_file(&path)?,
                (false, true) => stack.push(path),
                (false, false) => {}
            }
        }
    }
    Ok(())
}

fn is_spare(path: &Path) -> bool {
    let ends_with = |ending: &str| path.extension().is_some_and(|found| found == ending);
    let within = |folder: &str| path.iter().any(|part| part == folder);
    match () {
        () if within(".fingerprint") => ends_with("timestamp") || ends_with("json"),
        () if within("deps") => ends_with("d"),
        () if within("build") => ends_with("timestamp") || ends_with("o") || ends_with("d"),
        () => false,
    }
}

fn inventory(store: &Path) -> Result<String> {
    let mut lines = Vec::new();
    let mut stack = vec![store.join("target")];
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                stack.push(path);
            } else if path
                .extension()
                .is_some_and(|ext| ext == "rlib" || ext == "rmeta" || ext == "so" || ext == "a")
            {
                let name = path.strip_prefix(store).unwrap_or(&path).to_string_lossy().into_owned();
                lines.push(format!("{} {name}\n", entry.metadata()?.len()));
            }
        }
    }
    lines.sort();
    Ok(lines.concat())
}

/// Bytes below a folder.
pub fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// About how many crates a build of the store goes through, for the bar.
pub const STORE_CRATES: usize = 70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_are_read() {
        assert_eq!(compiling("   Compiling tch v0.26.0"), Some("tch"));
        assert_eq!(compiling("   Compiling lightcell v0.1.0 (/x/y)"), Some("lightcell"));
        assert_eq!(compiling("    Finished `dev` profile"), None);
    }

    #[test]
    fn a_rustc_that_is_too_old_is_known() {
        let version = |release: &str| format!("rustc {release} (0123 2020-01-01)\nrelease: {release}\nLLVM version: 1");
        assert_eq!(too_old(&version("1.70.0")), Some("1.70.0"));
        for release in ["1.95.0", "1.200.1-nightly", "2.0.0", "odd"] {
            assert_eq!(too_old(&version(release)), None);
        }
        assert_eq!(too_old(""), None);
    }

    #[test]
    fn of_older_versions_one_is_kept() {
        let all = std::env::temp_dir().join(format!("lightcell-keep-{}", std::process::id()));
        let day = |days: u64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400 * days);
        for (name, days) in [("oldest", 1), ("before", 3), ("old", 2), ("now", 1)] {
            std::fs::create_dir_all(all.join(name)).unwrap();
            std::fs::File::open(all.join(name))
                .unwrap()
                .set_modified(day(days))
                .unwrap();
        }
        keep_two(&all, &all.join("now"));
        let mut left: Vec<_> = std::fs::read_dir(&all)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["before", "now"]);
        std::fs::remove_dir_all(all).unwrap();
    }

    #[test]
    fn a_store_that_lost_a_file_is_damaged() {
        let store = std::env::temp_dir().join(format!("lightcell-store-{}", std::process::id()));
        std::fs::create_dir_all(store.join("target/deps")).unwrap();
        std::fs::write(store.join("target/deps/libx.rlib"), "code").unwrap();
        std::fs::write(store.join("Cargo.lock"), "").unwrap();
        std::fs::write(store.join(COMPLETE), inventory(&store).unwrap()).unwrap();
        assert_eq!(damage(&store), None);
        std::fs::write(store.join("target/deps/libx.rlib"), "").unwrap();
        assert_eq!(
            damage(&store),
            Some("the warm store is damaged: target/deps/libx.rlib".into())
        );
        std::fs::remove_dir_all(store).unwrap();
    }
}
