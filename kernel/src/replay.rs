//! Compiles a cell with the arguments that cargo used for the last one, when nothing but the cell's text has changed
//! since: cargo itself takes as long as rustc to find that out.
//!
//! evcxr runs the `cargo` that `rustup which cargo` names, or the one on PATH. Before all others there is a folder in which
//! this program stands under four names: `rustup` answers at once, `cargo` runs rustc or the real cargo, `rustc` and rustc's
//! wrapper answer what was asked before, and the wrapper writes down what cargo asks of rustc. All other calls go to the real programs. The analyser asks the cargo of
//! CARGO_HOME first, so that is this folder too; it gets a shorter answer (see [`crate::graph`]).

use crate::home::find;
use crate::queries;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The crate that evcxr makes of each cell.
const CRATE: &str = "ctx";
/// Where the recipe lies in a session's folder.
pub const RECIPE: &str = ".recipe.json";
/// In a session's folder: the opt-level of its cells, when `%opt` has set one.
pub const OPT_LEVEL: &str = ".opt-level";
/// Folder in the session with what the analyser is told of.
pub const ANALYSIS: &str = "analysis";
/// Names of the wrapper and of what is handed on in the environment.
const RECORDER: &str = "rustc-recorder";
const REAL_CARGO: &str = "LIGHTCELL_CARGO";
const REAL_RUSTC: &str = "LIGHTCELL_RUSTC";
const REAL_PATH: &str = "LIGHTCELL_PATH";
/// Not set when the user has not set CARGO_HOME.
const REAL_HOME: &str = "LIGHTCELL_CARGO_HOME";
const RECORD_INTO: &str = "LIGHTCELL_RECIPE";
const OWN_SOURCES: &str = "LIGHTCELL_SOURCES";
const TOOLS: &str = "LIGHTCELL_TOOLS";

/// How cargo called rustc for a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Recipe {
    /// Of everything that decides about the call besides the cell's text.
    stamp: u64,
    program: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

/// Puts the folder of names into the installation and before all others on PATH. To be called while there is one thread.
///
/// # Errors
/// When the folder cannot be made.
pub fn install(home: &Path, rustc: &Path, sources: &Path) -> Result<()> {
    // Set already when a kernel runs itself to prepare for another rustc.
    let path = std::env::var_os(REAL_PATH)
        .or_else(|| std::env::var_os("PATH"))
        .unwrap_or_default();
    let beside = rustc.with_file_name("cargo");
    let cargo = if beside.is_file() {
        beside
    } else {
        find("cargo", &path).context("there is no cargo on PATH\nhint: install Rust: https://rustup.rs")?
    };
    let tools = home.join("tools");
    let folder = tools.join("bin");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let program = std::env::current_exe().context("cannot find this program")?;
    for name in ["cargo", "rustc", "rustup", RECORDER] {
        let link = folder.join(name);
        if std::fs::read_link(&link).ok().as_ref() != Some(&program) {
            let new = folder.join(format!(".{name}-{}", std::process::id()));
            let _ = std::fs::remove_file(&new);
            std::os::unix::fs::symlink(&program, &new)
                .and_then(|()| std::fs::rename(&new, &link))
                .with_context(|| format!("cannot write {}", link.display()))?;
        }
    }
    let with = std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path)))
        .context("a folder of Lightcell's has a colon in its name")?;
    // SAFETY: the caller has no other threads.
    unsafe {
        if std::env::var_os(REAL_PATH).is_none()
            && let Some(home) = std::env::var_os("CARGO_HOME")
        {
            std::env::set_var(REAL_HOME, home);
        }
        std::env::set_var("CARGO_HOME", &tools);
        std::env::set_var(TOOLS, tools);
        std::env::set_var(REAL_PATH, &path);
        std::env::set_var(REAL_CARGO, cargo);
        std::env::set_var(REAL_RUSTC, rustc);
        std::env::set_var(OWN_SOURCES, sources);
        std::env::set_var("PATH", with);
    }
    Ok(())
}

/// The environment that the user's own processes get: as it was before [`install`].
pub fn restore(command: &mut Command) {
    if let Some(path) = std::env::var_os(REAL_PATH) {
        command.env("PATH", path);
        match std::env::var_os(REAL_HOME) {
            Some(home) => command.env("CARGO_HOME", home),
            None => command.env_remove("CARGO_HOME"),
        };
    }
    for name in [REAL_PATH, REAL_HOME, REAL_CARGO, REAL_RUSTC, OWN_SOURCES, TOOLS] {
        command.env_remove(name);
    }
}

/// Acts as the program whose name this one was called by; `None` when that is its own.
pub fn role() -> Option<ExitCode> {
    std::env::var_os(REAL_PATH)?;
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = Path::new(args.first()?).file_name()?.to_str()?.to_owned();
    let result = match name.as_str() {
        "rustup" => rustup(&args[1..]),
        "cargo" => cargo(&args[1..]),
        "rustc" => rustc(&args[1..]),
        RECORDER => recorder(&args[1..]),
        _ => return None,
    };
    Some(result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    }))
}

fn variable(name: &str) -> Result<PathBuf> {
    std::env::var_os(name)
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set"))
}

/// The real program, with the real PATH.
fn real(program: &Path) -> Command {
    let mut command = Command::new(program);
    restore(&mut command);
    command
}

fn become_it(mut command: Command) -> Result<ExitCode> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))
}

fn rustup(args: &[OsString]) -> Result<ExitCode> {
    match args {
        [which, tool] if which == "which" && (tool == "cargo" || tool == "rustc") => {
            let path = if tool == "cargo" {
                // This folder's own.
                find("cargo", &std::env::var_os("PATH").unwrap_or_default()).context("there is no cargo on PATH")?
            } else {
                variable(REAL_RUSTC)?
            };
            println!("{}", path.display());
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            let rustup = find("rustup", variable(REAL_PATH)?.as_os_str()).context("there is no rustup on PATH")?;
            let mut command = real(&rustup);
            command.args(args);
            become_it(command)
        }
    }
}

/// What the analyser asks of the compiler, which it finds by its name.
fn rustc(args: &[OsString]) -> Result<ExitCode> {
    let mut command = real(&variable(REAL_RUSTC)?);
    command.args(args);
    asked_or_run(command)
}

/// A kept answer, or else the program in the place of this process.
fn asked_or_run(command: Command) -> Result<ExitCode> {
    let mut question = Command::new(command.get_program());
    question.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => question.env(name, value),
            None => question.env_remove(name),
        };
    }
    let kept = variable(TOOLS).ok().and_then(|tools| queries::answer(&tools, question));
    match kept {
        Some(answer) => Ok(answer.repeat()),
        None => become_it(command),
    }
}

/// Puts the recorder around cargo's rustc, unless the user has put something there; whether it did. It is the same in all
/// calls: cargo forgets what rustc has said of itself when the wrapper is another one.
fn wrap(cargo: &mut Command) -> Result<bool> {
    let recorder = find(RECORDER, &std::env::var_os("PATH").unwrap_or_default());
    let Some(recorder) = recorder.filter(|_| std::env::var_os("RUSTC_WRAPPER").is_none()) else {
        return Ok(false);
    };
    cargo.env("RUSTC_WRAPPER", recorder);
    // For the wrapper's own use; it takes them away again.
    for name in [REAL_PATH, TOOLS] {
        cargo.env(name, variable(name)?);
    }
    Ok(true)
}

fn cargo(args: &[OsString]) -> Result<ExitCode> {
    let mut command = real(&variable(REAL_CARGO)?);
    command.args(args);
    let wraps = wrap(&mut command)?;
    let session = std::env::current_dir().context("there is no current folder")?;
    let is = |word: &str| args.iter().any(|arg| arg == word);
    // Only the analyser names a platform.
    if is("metadata") && is("--filter-platform") && !is("--no-deps") {
        return metadata(args);
    }
    // evcxr puts `--offline` before it.
    let kind = args
        .iter()
        .find_map(|arg| arg.to_str().filter(|arg| !arg.starts_with('-')));
    let cache = crate::cache::Cache::of(&session);
    let own = variable(OWN_SOURCES)?;
    if kind == Some("rustc") || is("unstable-options") {
        return asked_or_run(command);
    }
    if kind == Some("metadata") {
        let status = command.status().context("cannot run cargo")?;
        crate::lockfile::collect(&session);
        return Ok(exit_code(status));
    }
    if kind == Some("check")
        && let Some(cache) = &cache
    {
        crate::lockfile::complete(&session);
        return cache.run(command, "check", &own).map(exit_code);
    }
    if kind != Some("build") || !wraps || !session.join("Cargo.toml").is_file() {
        return become_it(command);
    }
    crate::generated::thin(&session);
    let file = session.join(RECIPE);
    if let Some(recipe) = read(&file)
        && stamp(&session, args, &own) == Some(recipe.stamp)
    {
        return replay(&recipe, &session);
    }
    let new = session.join(format!("{RECIPE}.new"));
    for file in [&file, &new] {
        let _ = std::fs::remove_file(file);
    }
    command.env(RECORD_INTO, &new);
    crate::lockfile::complete(&session);
    let status = match cache {
        Some(cache) => cache.run(command, "build", &own)?,
        None => command.status().context("cannot run cargo")?,
    };
    if status.success() {
        crate::lockfile::succeeded(&session);
    }
    if status.success()
        && let Some(mut recipe) = read(&new)
        && let Some(stamp) = stamp(&session, args, &own)
    {
        recipe.stamp = stamp;
        write(&file, &recipe);
    }
    let _ = std::fs::remove_file(&new);
    Ok(exit_code(status))
}

/// cargo's answer about the crates behind the stubs, without what no cell can name.
fn metadata(args: &[OsString]) -> Result<ExitCode> {
    use std::io::Write;
    let mut command = real(&variable(REAL_CARGO)?);
    wrap(&mut command)?;
    let manifest = args
        .iter()
        .position(|arg| arg == "--manifest-path")
        .map_or(0, |at| at + 1);
    let revealed = args.get(manifest).and_then(|path| reveal(Path::new(path)));
    for (at, arg) in args.iter().enumerate() {
        match &revealed {
            Some((_, analysis)) if at == manifest => command.arg(analysis.join("Cargo.toml")),
            _ => command.arg(arg),
        };
    }
    let out = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    let answer = match &revealed {
        // As if it were the session's own.
        Some((session, analysis)) => String::from_utf8_lossy(&out.stdout)
            .replace(&*analysis.to_string_lossy(), &session.to_string_lossy())
            .into_bytes(),
        None => out.stdout,
    };
    let thinned = serde_json::from_slice(&answer).ok().and_then(crate::graph::thin);
    let text = thinned.map_or(answer, |value| value.to_string().into_bytes());
    std::io::stdout().write_all(&text).context("nobody reads")?;
    Ok(exit_code(out.status))
}

/// A manifest beside the session's that names the crates behind the stubs; gives the folders of both.
fn reveal(manifest: &Path) -> Option<(PathBuf, PathBuf)> {
    let session = manifest.parent()?.to_owned();
    let own = variable(OWN_SOURCES).ok()?;
    let text = crate::stubs::revealed(&std::fs::read_to_string(manifest).ok()?, &own)?;
    let analysis = session.join(ANALYSIS);
    std::fs::create_dir_all(analysis.join("src")).ok()?;
    std::fs::write(analysis.join("Cargo.toml"), text).ok()?;
    std::fs::write(analysis.join("src/lib.rs"), "").ok()?;
    let lock = analysis.join("Cargo.lock");
    if !lock.is_file() {
        // The store's, still whole when the library is added.
        std::fs::copy(session.join("Cargo.lock"), lock).ok()?;
    }
    Some((session, analysis))
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn read(file: &Path) -> Option<Recipe> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Without it the next cell is compiled by cargo, so a full disk is no error.
fn write(file: &Path, recipe: &Recipe) {
    if let Ok(text) = serde_json::to_vec(recipe) {
        let _ = std::fs::write(file, text);
    }
}

/// Of all that decides how a cell is compiled, besides its text; `None` when cargo must look itself, because a crate in a
/// folder of the user's may have changed.
fn stamp(session: &Path, args: &[OsString], own: &Path) -> Option<u64> {
    let manifest = std::fs::read_to_string(session.join("Cargo.toml")).ok()?;
    if manifest.lines().any(|line| is_foreign(line, own, session)) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (&manifest, args).hash(&mut hasher);
    for file in ["Cargo.lock", ".cargo/config.toml"] {
        std::fs::read(session.join(file)).ok().hash(&mut hasher);
    }
    // Wherever `:build_env` or the user's shell may have said something to cargo.
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    variables.hash(&mut hasher);
    Some(hasher.finish())
}

/// Whether a line of a manifest names a crate by a folder that is not one of ours.
fn is_foreign(line: &str, own: &Path, session: &Path) -> bool {
    let Some((_, rest)) = line.split_once("path") else {
        return false;
    };
    let value = rest.trim_start().strip_prefix('=').map(str::trim_start);
    let Some(path) = value.and_then(|value| value.strip_prefix('"')) else {
        return false;
    };
    let stubs = own.with_file_name(crate::stubs::FOLDER);
    let is_ours = [own, &stubs, &session.join("shared")]
        .iter()
        .any(|folder| path.starts_with(&*folder.to_string_lossy()));
    !is_ours && !path.starts_with("src/lib.rs")
}

/// What cargo would say of the library that is about to be made, and rustc in the place of this process: its errors are
/// already in the form in which evcxr reads them.
fn replay(recipe: &Recipe, session: &Path) -> Result<ExitCode> {
    let out = value_of(&recipe.args, "--out-dir").context("the recipe has no --out-dir")?;
    let library = session.join(out).join(format!("lib{CRATE}.so"));
    println!(
        "{}",
        serde_json::json!({"reason": "compiler-artifact", "target": {"name": CRATE}, "filenames": [library]})
    );
    let mut command = Command::new(&recipe.program);
    command
        .args(optimized(&recipe.args, session))
        .env_clear()
        .envs(&recipe.env);
    become_it(command)
}

fn value_of<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

fn is_cell(args: &[String]) -> bool {
    value_of(args, "--crate-name") == Some(CRATE)
}

/// The arguments with the opt-level that `%opt` has set.
///
/// Unless it has, without rustc's optimisation between the parts that it divides a crate into: that takes a third of the
/// time of a cell with `%fit`, and what gains by it (a large function of an `impl` in a hot loop) is worth an `%opt 3`.
fn optimized(args: &[String], session: &Path) -> Vec<String> {
    let set = std::fs::read_to_string(session.join(OPT_LEVEL)).ok();
    let of = |arg: &String| match &set {
        Some(level) if arg.starts_with("opt-level=") => format!("opt-level={}", level.trim()),
        _ => arg.clone(),
    };
    let mut all: Vec<String> = args.iter().map(of).collect();
    if set.is_none() && !all.iter().any(|arg| arg.contains("lto=")) {
        all.extend(["-C", "lto=off"].map(str::to_owned));
    }
    all
}

/// rustc's wrapper: writes down the call that compiles a cell.
fn recorder(args: &[OsString]) -> Result<ExitCode> {
    let (rustc, args) = args.split_first().context("no rustc to run")?;
    let texts: Option<Vec<String>> = args.iter().map(|arg| arg.to_str().map(str::to_owned)).collect();
    if let (Some(texts), Some(program), Some(into)) = (&texts, rustc.to_str(), std::env::var_os(RECORD_INTO))
        && is_cell(texts)
    {
        let recipe = Recipe {
            stamp: 0,
            program: program.to_owned(),
            args: texts.clone(),
            env: environment(),
        };
        write(Path::new(&into), &recipe);
    }
    let mut command = Command::new(rustc);
    match (texts, std::env::current_dir()) {
        (Some(texts), Ok(folder)) if is_cell(&texts) => command.args(optimized(&texts, &folder)),
        _ => command.args(args),
    };
    for name in ["RUSTC_WRAPPER", RECORD_INTO, REAL_PATH, TOOLS] {
        command.env_remove(name);
    }
    asked_or_run(command)
}

/// What rustc gets, without what belongs to this run of cargo: its jobserver's descriptors are gone afterwards.
fn environment() -> BTreeMap<String, String> {
    let gone = [
        "RUSTC_WRAPPER",
        RECORD_INTO,
        REAL_PATH,
        TOOLS,
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
        "MFLAGS",
    ];
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !gone.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_says_of_optimisation_is_so() {
        let folder = std::env::temp_dir().join(format!("lightcell-opt-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let args = ["-C", "opt-level=2"].map(str::to_owned);
        assert_eq!(optimized(&args, &folder), ["-C", "opt-level=2", "-C", "lto=off"]);
        let own = ["-C", "opt-level=2", "-Clto=thin"].map(str::to_owned);
        assert_eq!(optimized(&own, &folder), own);
        std::fs::write(folder.join(OPT_LEVEL), "3\n").unwrap();
        assert_eq!(optimized(&args, &folder), ["-C", "opt-level=3"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn crates_in_folders_of_the_users_are_cargos_business() {
        let (own, session) = (Path::new("/lc/src"), Path::new("/lc/sessions/1-2"));
        assert!(!is_foreign(
            "lightcell = { path = \"/lc/stubs/0a/lightcell\" }",
            own,
            session
        ));
        assert!(!is_foreign(
            "x = { path = \"/lc/sessions/1-2/shared/0\" }",
            own,
            session
        ));
        assert!(!is_foreign(
            "lightcell = { path = \"/lc/src/magics/fit\" }",
            own,
            session
        ));
        assert!(!is_foreign("path = \"src/lib.rs\"", own, session));
        assert!(!is_foreign("rpath = true", own, session));
        assert!(!is_foreign("pathfinding = \"4\"", own, session));
        assert!(is_foreign("mine = { path = \"/home/me/mine\" }", own, session));
        assert!(is_foreign(
            "mine = { version = \"1\", path=\"/home/me/mine\" }",
            own,
            session
        ));
    }

    #[test]
    fn the_stamp_changes_with_everything_but_the_cell() {
        let session = std::env::temp_dir().join(format!("lightcell-recipe-{}", std::process::id()));
        std::fs::create_dir_all(session.join("src")).unwrap();
        let put = |file: &str, text: &str| std::fs::write(session.join(file), text).unwrap();
        let args = [OsString::from("build")];
        let stamp = |args: &[OsString]| stamp(&session, args, Path::new("/lc/src"));
        assert_eq!(stamp(&args), None);
        put("Cargo.toml", "[dependencies]\n");
        let first = stamp(&args);
        assert!(first.is_some());
        put("src/lib.rs", "fn f() {}");
        assert_eq!(stamp(&args), first);
        put("Cargo.lock", "x");
        let second = stamp(&args);
        assert_ne!(second, first);
        put("Cargo.toml", "[dependencies]\nrand = \"0.9\"\n");
        assert_ne!(stamp(&args), second);
        assert_ne!(stamp(&["build".into(), "--offline".into()]), stamp(&args));
        put("Cargo.toml", "[dependencies]\nx = { path = \"/home/me/x\" }\n");
        assert_eq!(stamp(&args), None);
        std::fs::remove_dir_all(session).unwrap();
    }
}
