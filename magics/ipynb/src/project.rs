//! A notebook's program as a Cargo project that stands alone: it carries the sources of the training library.

use crate::notebook::Notebook;
use crate::program;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

/// What of the installation a project needs.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The sources of Lightcell.
    pub src: PathBuf,
    /// Folder of libtorch's libraries.
    pub libtorch: PathBuf,
    /// Folder of libtch.so.
    pub libtch: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// The program's name.
    pub name: String,
    /// Files of the notebook's folder that were copied.
    pub data: Vec<PathBuf>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Crates whose sources come along, in the layout that their manifests expect.
const CRATES: [&str; 7] = [
    "kernel/cell",
    "kernel/events",
    "magics/fit",
    "magics/line",
    "magics/pickle",
    "magics/program",
    "magics/torch",
];
/// Parts of the library that take long to compile, each a crate that a cell asks for by name (`%dep lightcell-image`), and the
/// folders of their sources. They come along when a cell asks for them.
pub const EXTRAS: [(&str, &str); 3] = [
    ("lightcell-image", "magics/image"),
    ("lightcell-parquet", "magics/parquet"),
    ("lightcell-tokenizers", "magics/tokenizers"),
];
/// Their folder in the project.
const CARRIED: &str = "lightcell";
/// A file that the cells name is copied up to this size.
const COPIED: u64 = 200_000_000;

/// Writes the project of a notebook into a folder that is empty, new, or an earlier export. `lock` is a Cargo.lock whose
/// versions hold before those of the installation.
///
/// # Errors
/// When a cell cannot be read, the folder holds other things, or a file cannot be written.
pub fn export(
    notebook: &Notebook,
    file: &Path,
    to: &Path,
    of: &Installation,
    lock: Option<&str>,
) -> Result<Exported, String> {
    let name = name(file);
    let shown = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let program = program::program(notebook, &name, &shown)?;
    check_free(to)?;
    let put = |path: &str, text: &str| write(&to.join(path), text.as_bytes());
    put("Cargo.toml", &manifest(&name, &shown, &program))?;
    put("src/main.rs", &main(&name, &shown))?;
    put("src/notebook.rs", &program.source)?;
    put("build.rs", BUILD)?;
    put(MARK, "")?;
    put(".gitignore", "/target\n/.cargo/config.toml\n")?;
    put(".cargo/config.toml", &configuration(of))?;
    put("README.md", &readme(&name, &shown, &program.notes))?;
    let asked = EXTRAS
        .iter()
        .filter(|(name, _)| program.dependencies.contains_key(*name));
    for part in CRATES.into_iter().chain(asked.map(|(_, part)| *part)) {
        copy_crate(&of.src.join(part), &to.join(CARRIED).join(part))?;
    }
    let own = std::fs::read_to_string(of.src.join("Cargo.lock")).unwrap_or_default();
    put("Cargo.lock", lock.unwrap_or(&own))?;
    let mut exported = Exported {
        name,
        notes: program.notes.clone(),
        ..Exported::default()
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    for text in &program.texts {
        copy_data(folder, text, to, &mut exported)?;
    }
    Ok(exported)
}

/// Marks the folder of an export.
const MARK: &str = ".lightcell-export";

fn check_free(to: &Path) -> Result<(), String> {
    let there = std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
    if there && !to.join(MARK).exists() {
        return Err(format!(
            "{} holds other things already\nhint: name a folder that is empty or new",
            to.display()
        ));
    }
    Ok(())
}

/// The name of a package and program: the file's, in the letters that cargo allows.
fn name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .collect();
    let plain = plain.trim_matches('-');
    match plain.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => plain.to_owned(),
        _ => format!("notebook-{plain}").trim_end_matches('-').to_owned(),
    }
}

fn manifest(name: &str, file: &str, program: &program::Program) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "# Made from {file} by `lightcell export`.\n[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\n\
         [dependencies]\nlightcell = {{ path = \"{CARRIED}/magics/fit\" }}\nlightcell-cell = {{ path = \"{CARRIED}/kernel/cell\" }}\n\
         lightcell-program = {{ path = \"{CARRIED}/magics/program\" }}\n# For build.rs: says where libtorch is.\n\
         torch-sys = {{ version = \"0.26\", default-features = false }}\n"
    );
    for (name, value) in &program.dependencies {
        let _ = match EXTRAS.iter().find(|(extra, _)| extra == name) {
            Some((_, part)) => writeln!(text, "{name} = {{ path = \"{CARRIED}/{part}\" }}"),
            None => writeln!(text, "{name} = {value}"),
        };
    }
    let _ = write!(
        text,
        "\n[workspace]\n\n[workspace.package]\nversion = \"{version}\"\nedition = \"2024\"\nlicense = \"MIT OR Apache-2.0\"\npublish = false\n\n\
         [workspace.lints.rust]\n\n[profile.release]\ndebug = false\n"
    );
    text
}

fn main(name: &str, file: &str) -> String {
    format!(
        "//! {file} as a program: `cargo run --release -- --help` lists its flags.\n//!\n\
         //! The cells are `notebook::cells`; what they train with comes from the command line, so that whoever starts this\n\
         //! program, by hand or many times at once, decides.\n\nmod notebook;\n\nfn main() -> std::process::ExitCode {{\n    \
         // {name}'s flags, then its cells.\n    notebook::program().main(notebook::cells)\n}}\n"
    )
}

/// Lets the program find libtorch where it was built.
const BUILD: &str = r#"//! So that the program finds libtorch, and libtch where it is a library of its own, when it starts.

fn main() {
    for name in ["DEP_TCH_LIBTORCH_LIB", "DEP_TCH_LIBTCH"] {
        if let Ok(folder) = std::env::var(name) {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
        }
    }
    // Loaded also when nothing of it is named: it registers the CPU's kernels.
    println!("cargo::rustc-link-arg=-Wl,--no-as-needed");
}
"#;

/// Where this machine has what torch-sys would compile for minutes.
fn configuration(of: &Installation) -> String {
    let text = |path: &Path| format!("{:?}", path.to_string_lossy());
    let search = |path: &Path| format!("{:?}", format!("native={}", path.to_string_lossy()));
    let (lib, tch) = (&of.libtorch, &of.libtch);
    format!(
        "# This machine's libtorch, from its installation of Lightcell. Elsewhere remove this file and set LIBTORCH.\n\
         [target.x86_64-unknown-linux-gnu.tch]\nrustc-link-lib = [\"dylib=tch\", \"dylib=torch_cpu\", \"dylib=c10\"]\n\
         rustc-link-search = [{tch}, {torch}]\nlibtorch_lib = {lib}\nlibtch = {libtch}\n\n\
         [target.x86_64-unknown-linux-gnu.lightcell_torch]\nrustc-link-lib = [\"dylib=tch\"]\nrustc-link-search = [{tch}]\n",
        tch = search(tch),
        torch = search(lib),
        lib = text(lib),
        libtch = text(tch),
    )
}

fn readme(name: &str, file: &str, notes: &[String]) -> String {
    let mut text = format!(
        "# {name}\n\nThe notebook {file} as a program. It trains as the notebook does, and gives the same numbers from the same seed.\n\n\
         ```sh\ncargo run --release              # with the notebook's values\ncargo run --release -- --help    # its hyperparameters and the trainer's flags\n```\n\n\
         `src/notebook.rs` holds the cells, `lightcell/` the sources of the training library: nothing is fetched but crates of the\n\
         public registry.\n\nOn the machine where it was made, `.cargo/config.toml` names the libtorch of the Lightcell installation. Elsewhere remove\n\
         that file, and set `LIBTORCH` to the folder of a libtorch 2.13 (with `lib/` and `include/`), or `LIBTORCH_USE_PYTORCH=1` to take\n\
         that of Python's torch; a C++ compiler then builds the bindings, which takes a minute or two.\n"
    );
    if !notes.is_empty() {
        text.push_str("\nNot as in the notebook:\n\n");
        notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
    }
    text
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    // A file that is the same keeps its time: cargo compiles nothing anew then.
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| failed("make", folder, &error))?;
    std::fs::write(path, content).map_err(|error| failed("write", path, &error))
}

/// Manifest, build script and sources of a crate; not its tests and examples.
fn copy_crate(from: &Path, to: &Path) -> Result<(), String> {
    let manifest = from.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).map_err(|error| failed("read", &manifest, &error))?;
    write(&to.join("Cargo.toml"), without_tests(&text).as_bytes())?;
    let build = from.join("build.rs");
    if build.is_file() {
        copy(&build, &to.join("build.rs"))?;
    }
    copy_all(&from.join("src"), &to.join("src"))
}

/// A manifest without what only tests need: the crates they name do not come along.
fn without_tests(manifest: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            let of = line.trim_matches(['[', ']']);
            inside = of.starts_with("dev-dependencies") || ["test", "bench", "example"].contains(&of);
        }
        if !inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    let entries = std::fs::read_dir(from).map_err(|error| failed("read", from, &error))?;
    for entry in entries.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_all(&path, &target)?;
        } else {
            copy(&path, &target)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let content = std::fs::read(from).map_err(|error| failed("read", from, &error))?;
    write(to, &content)
}

/// Files in or below `folder` that a text among the cells names; their sizes.
pub(crate) fn named_files(folder: &Path, text: &str) -> Vec<(PathBuf, u64)> {
    let path = Path::new(text);
    let plain = !text.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    let mut found = Vec::new();
    if plain {
        walk(folder, path, &mut found);
    }
    found.sort();
    found
}

/// All files in a notebook's folder that its cells name.
pub fn data(notebook: &Notebook, folder: &Path) -> Vec<PathBuf> {
    let texts = program::program(notebook, "", "")
        .map(|program| program.texts)
        .unwrap_or_default();
    let files = texts.iter().flat_map(|text| named_files(folder, text));
    files.map(|(file, _)| file).collect()
}

fn walk(folder: &Path, path: &Path, found: &mut Vec<(PathBuf, u64)>) {
    let Ok(about) = std::fs::metadata(folder.join(path)) else {
        return;
    };
    if about.is_file() {
        found.push((path.to_owned(), about.len()));
    } else if about.is_dir() {
        let entries = std::fs::read_dir(folder.join(path)).into_iter().flatten().flatten();
        entries.for_each(|entry| walk(folder, &path.join(entry.file_name()), found));
    }
}

fn copy_data(folder: &Path, text: &str, to: &Path, exported: &mut Exported) -> Result<(), String> {
    let files = named_files(folder, text);
    let size: u64 = files.iter().map(|(_, size)| size).sum();
    if size > COPIED {
        exported.notes.push(format!(
            "{text} ({} MB) was not copied; the program looks for it in the folder where it is started",
            size / 1_000_000
        ));
        return Ok(());
    }
    for (file, _) in files {
        copy(&folder.join(&file), &to.join(&file))?;
        exported.data.push(file);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("lightcell-project-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn installation() -> Installation {
        Installation {
            src: Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
            libtorch: "/lt/lib".into(),
            libtch: "/tch".into(),
        }
    }

    fn notebook() -> Notebook {
        let text = r#"{"cells": [{"cell_type": "code", "source": "let a = csv(\"data/a.csv\")?;\nlet b = \"../secret\";\n%gpu"}], "nbformat": 4}"#;
        Notebook::parse(text).unwrap()
    }

    /// Every path in a carried crate's manifest points to what came along, and nothing is left of its tests.
    fn check_crate(folder: &Path) {
        let text = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(!text.contains("dev-dependencies"), "{text}");
        assert!(folder.join("src/lib.rs").is_file(), "{}", folder.display());
        let paths = text
            .split("path = \"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        for path in paths {
            assert!(folder.join(path).exists(), "{}: {path}", folder.display());
        }
    }

    #[test]
    fn crates_of_ours_come_along_when_they_are_asked_for() {
        let scratch = Scratch::new("extras");
        let asked = EXTRAS.map(|(name, _)| format!("%dep {name}"));
        let mut cells: Vec<&str> = asked.iter().map(String::as_str).collect();
        cells.push("let a = 1;");
        let notebook = Notebook::of_cells(&cells);
        let to = scratch.0.join("out");
        export(&notebook, &scratch.0.join("a.ipynb"), &to, &installation(), None).unwrap();
        let manifest = std::fs::read_to_string(to.join("Cargo.toml")).unwrap();
        for (name, part) in EXTRAS {
            let line = format!("\n{name} = {{ path = \"lightcell/{part}\" }}\n");
            assert!(manifest.contains(&line), "{manifest}");
            check_crate(&to.join(CARRIED).join(part));
        }
        // cargo finds all that it is made of, with the versions of the lock that came along, and asks nobody for it.
        let out = std::process::Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["metadata", "--offline", "--format-version", "1"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(&to)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let lock = std::fs::read_to_string(installation().src.join("Cargo.lock")).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        for name in ["lightcell", "zune-jpeg", "parquet", "tokenizers"] {
            let package = packages.iter().find(|package| package["name"] == name);
            let version = package.unwrap_or_else(|| panic!("{name}"))["version"].as_str().unwrap();
            let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&locked), "{name} {version}");
        }
    }

    #[test]
    fn a_project_stands_alone() {
        let scratch = Scratch::new("alone");
        let (from, to) = (scratch.0.join("work"), scratch.0.join("out"));
        write(&from.join("data/a.csv"), b"1,2\n").unwrap();
        write(&scratch.0.join("secret"), b"x").unwrap();
        let file = from.join("My Net (1).ipynb");
        let exported = export(&notebook(), &file, &to, &installation(), None).unwrap();
        assert_eq!(exported.name, "my-net--1");
        assert_eq!(exported.data, [PathBuf::from("data/a.csv")]);
        assert_eq!(exported.notes, ["%gpu in cell 1 is left out"]);
        for part in [
            "src/main.rs",
            "build.rs",
            "Cargo.lock",
            "lightcell/magics/fit/src/lib.rs",
            "data/a.csv",
            "README.md",
        ] {
            assert!(to.join(part).is_file(), "{part}");
        }
        for part in CRATES {
            check_crate(&to.join(CARRIED).join(part));
        }
        // Again over the earlier one; not into a folder with other things.
        export(&notebook(), &file, &to, &installation(), None).unwrap();
        let error = export(&notebook(), &file, &from, &installation(), None).unwrap_err();
        assert_eq!(
            error,
            format!(
                "{} holds other things already\nhint: name a folder that is empty or new",
                from.display()
            )
        );
    }

    #[test]
    fn a_name_is_one_that_cargo_takes() {
        let name = |file: &str| super::name(Path::new(file));
        assert_eq!(name("a/quickstart.ipynb"), "quickstart");
        assert_eq!(name("3 Layers.ipynb"), "notebook-3-layers");
        assert_eq!(name("日本.ipynb"), "notebook");
    }

    #[test]
    fn only_files_in_the_notebooks_folder_are_its_data() {
        let scratch = Scratch::new("named");
        write(&scratch.0.join("d/e/f"), b"1").unwrap();
        assert_eq!(named_files(&scratch.0, "d"), [(PathBuf::from("d/e/f"), 1)]);
        for text in ["", "../d", "/etc/hostname", "nothing", "."] {
            assert_eq!(named_files(&scratch.0, text), [], "{text}");
        }
    }
}
