//! What rustc and cargo say of themselves, kept: at a kernel's start they are asked about their version and their target
//! some forty times, and each answer takes the start of a compiler. A program that has changed is asked anew.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

/// So many answers are kept; a toolchain needs about fifteen.
const KEPT: usize = 100;

/// Variables on which answers may depend.
const VARIABLES: [&str; 3] = ["RUSTC_BOOTSTRAP", "RUST_TARGET_PATH", "RUSTUP_TOOLCHAIN"];

/// A kept answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    code: u8,
    /// What it printed.
    pub stdout: String,
    stderr: String,
}

impl Answer {
    fn of(output: &Output) -> Option<Answer> {
        Some(Answer {
            // Killed by a signal it has none.
            code: u8::try_from(output.status.code()?).ok()?,
            stdout: String::from_utf8(output.stdout.clone()).ok()?,
            stderr: String::from_utf8(output.stderr.clone()).ok()?,
        })
    }

    /// Whether it ended well.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Says it, in the place of the program.
    pub fn repeat(&self) -> ExitCode {
        // Nobody reads: so it was with the program.
        let _ = std::io::stdout().write_all(self.stdout.as_bytes());
        let _ = std::io::stderr().write_all(self.stderr.as_bytes());
        ExitCode::from(self.code)
    }
}

/// The answer of `command`, kept or fresh, if what is asked depends on nothing but the program; it is kept in a folder of
/// `tools`. `None` when it is another call, or nothing can be said about the program.
pub fn answer(tools: &Path, mut command: Command) -> Option<Answer> {
    let args: Vec<OsString> = command.get_args().map(OsString::from).collect();
    let (of_cargo, fixed) = kind(&args)?;
    let program = PathBuf::from(command.get_program());
    if !is_of_toolchain(&program) {
        return None;
    }
    let folder = tools.join("queries");
    let file = folder.join(format!("{:016x}.json", key(&program, &args)?));
    let kept = std::fs::read(&file)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    if kept.is_some() {
        return kept;
    }
    let output = command.stdin(Stdio::null()).output().ok()?;
    let answer = Answer::of(&output)?;
    // What a nightly cargo says of its configuration depends on files; that a stable one refuses does not.
    if fixed || (of_cargo && !answer.success()) {
        keep(&folder, &file, &answer);
    }
    Some(answer)
}

/// Whether it is a question to cargo, and whether its answer is always the same; `None` for what is no question.
fn kind(args: &[OsString]) -> Option<(bool, bool)> {
    let words: Vec<&str> = args.iter().map_while(|arg| arg.to_str()).collect();
    if words.len() < args.len()
        || words
            .iter()
            .any(|word| word.ends_with(".json") || word.ends_with(".rs"))
    {
        // A target of the user's own, or something to compile.
        return None;
    }
    match &words[..] {
        ["-vV" | "-Vv" | "-V" | "--version"] => Some((false, true)),
        ["-Z", "unstable-options", "config", ..] | ["rustc", "-Z", "unstable-options", ..] => Some((true, false)),
        all if all.iter().any(|word| word.starts_with("--print")) => Some((false, true)),
        _ => None,
    }
}

/// Whether it is the program itself of a toolchain, with the compiler's library beside it. What stands elsewhere may be a
/// script or a proxy that chooses one by the folder or the hour.
fn is_of_toolchain(program: &Path) -> bool {
    let sysroot = || {
        program
            .canonicalize()
            .ok()?
            .parent()?
            .parent()
            .map(|folder| folder.join("lib"))
    };
    let entries = sysroot().and_then(|folder| std::fs::read_dir(folder).ok());
    let is_driver = |name: OsString| name.to_string_lossy().starts_with("librustc_driver");
    entries.is_some_and(|entries| entries.flatten().any(|entry| is_driver(entry.file_name())))
}

/// Of the program as it is now, the question, and the environment.
fn key(program: &Path, args: &[OsString]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let data = std::fs::metadata(program).ok()?;
    (program, args).hash(&mut hasher);
    (data.ino(), data.len(), data.mtime(), data.mtime_nsec()).hash(&mut hasher);
    for name in VARIABLES {
        std::env::var_os(name).hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// Without it the next one is asked again, so a full disk is no error.
fn keep(folder: &Path, file: &Path, answer: &Answer) {
    let _ = std::fs::create_dir_all(folder);
    if std::fs::read_dir(folder).map_or(0, Iterator::count) >= KEPT {
        // Of toolchains that are gone, mostly.
        for old in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(old.path());
        }
    }
    let beside = file.with_extension(format!("new-{}", std::process::id()));
    if let Ok(text) = serde_json::to_vec(answer)
        && std::fs::write(&beside, text).is_ok()
    {
        let _ = std::fs::rename(&beside, file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A compiler that counts how often it is called.
    fn compiler(folder: &Path, says: &str, code: u8) -> PathBuf {
        for part in ["bin", "lib"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        std::fs::write(folder.join("lib/librustc_driver-1.so"), "").unwrap();
        let (program, new) = (folder.join("bin/rustc"), folder.join("new"));
        let text = format!(
            "#!/bin/sh\necho x >> {}\necho {says}\necho oh >&2\nexit {code}\n",
            folder.join("calls").display()
        );
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&new, &program).unwrap();
        program
    }

    fn ask(folder: &Path, args: &[&str]) -> Option<Answer> {
        let mut command = Command::new(folder.join("bin/rustc"));
        command.args(args);
        answer(folder, command)
    }

    fn calls(folder: &Path) -> usize {
        std::fs::read_to_string(folder.join("calls"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    #[test]
    fn a_question_is_asked_once_of_each_compiler() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        compiler(folder, "1.95", 0);
        for _ in 0..3 {
            let said = ask(folder, &["-vV"]).unwrap();
            assert!(said.success());
            assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("1.95\n", "oh\n"));
        }
        assert_eq!(calls(folder), 1);
        ask(folder, &["-", "--crate-name", "___", "--print=file-names"]).unwrap();
        assert_eq!(calls(folder), 2);
        // Another one in its place.
        compiler(folder, "1.96", 0);
        assert_eq!(ask(folder, &["-vV"]).unwrap().stdout, "1.96\n");
        // What is no question, or depends on a file.
        for args in [
            &["src/lib.rs", "--print=cfg"][..],
            &["--crate-name", "ctx"],
            &["--print", "cfg", "--target", "a.json"],
        ] {
            assert!(ask(folder, args).is_none(), "{args:?}");
        }
        assert_eq!(calls(folder), 3);
        // A script elsewhere may call any compiler.
        std::fs::rename(folder.join("lib"), folder.join("other")).unwrap();
        assert!(ask(folder, &["-vV"]).is_none());
    }

    #[test]
    fn of_cargos_configuration_only_the_refusal_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let question = ["-Z", "unstable-options", "config", "get"];
        compiler(folder, "nightly", 0);
        for _ in 0..2 {
            assert!(ask(folder, &question).unwrap().success());
        }
        assert_eq!(calls(folder), 2);
        compiler(folder, "stable", 101);
        for _ in 0..2 {
            assert!(!ask(folder, &question).unwrap().success());
        }
        assert_eq!(calls(folder), 3);
    }

    #[test]
    fn answers_do_not_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        compiler(folder, "x", 0);
        for number in 0..KEPT + 5 {
            ask(folder, &["--print", &number.to_string()]).unwrap();
        }
        let kept = std::fs::read_dir(folder.join("queries")).unwrap().count();
        assert!(kept <= KEPT, "{kept}");
    }
}
