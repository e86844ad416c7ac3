//! Two small crates by which a cell uses what the warm store has built: cargo knows nothing of what is behind them. When a
//! cell asks for a crate (`:dep tokio`), cargo would otherwise give crates of the training library more features, compile
//! all that depends on them anew, and variables of the old types would be lost with it.
//!
//! The stub's build script tells rustc where the library is: in the session's own target folder, beside the stub.

use crate::home::{Home, Rustc};
use anyhow::{Context, Result};
use lightcell_ipynb::project::EXTRAS;
use std::path::{Path, PathBuf};

/// A crate, what it is behind its stub, and the folder of its sources.
pub const CRATES: [(&str, &str, &str); 2] = [
    ("lightcell", "lightcell", "magics/fit"),
    ("lightcell-cell", "lightcell_cell", "kernel/cell"),
];

/// Name of the folder in the installation.
pub const FOLDER: &str = "stubs";

/// What the training library links. The linker would read libtorch's hundred thousands of names for each cell, which takes
/// longer than all else it does; it finds these small texts first. At run time a cell has the libraries through the
/// training library's own.
const LIBRARIES: [&str; 3] = ["tch", "torch_cpu", "c10"];
/// For the linker, in the place of such a library: what is linked anyway.
const STAND_IN: &str = "INPUT ( -lc )\n";

/// Where the stubs of a store are.
pub fn folder(home: &Home, rustc: &Rustc) -> Result<PathBuf> {
    let store = home.store(rustc)?;
    let key = store.file_name().context("a store without a name")?;
    Ok(home.root.join(FOLDER).join(key))
}

/// Writes them.
pub fn write(home: &Home, folder: &Path) -> Result<()> {
    let stand_ins = folder.join("lib");
    std::fs::create_dir_all(&stand_ins).with_context(|| format!("cannot make {}", stand_ins.display()))?;
    for name in LIBRARIES {
        let file = stand_ins.join(format!("lib{name}.so"));
        std::fs::write(&file, STAND_IN).with_context(|| format!("cannot write {}", file.display()))?;
    }
    for (name, library, _) in CRATES {
        let folder = folder.join(name);
        let path = |file: &str| folder.join(file);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let put = |file: &str, text: String| {
            std::fs::write(path(file), text).with_context(|| format!("cannot write {}", path(file).display()))
        };
        let head =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\nbuild = \"build.rs\"\n");
        put("Cargo.toml", head + "\n[lib]\npath = \"lib.rs\"\n\n[workspace]\n")?;
        put(
            "lib.rs",
            format!("extern crate lightcell_session;\npub use lightcell_session::{library}::*;\n"),
        )?;
        // cargo replaces the folder that the value begins with when the target folder is another one.
        let mut script = "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
             println!(\"cargo::rustc-link-search=all={}/../../../deps\", std::env::var(\"OUT_DIR\").unwrap());\n"
            .to_owned();
        for library in [stand_ins.clone()].into_iter().chain(home.libraries()) {
            script.push_str(&format!(
                "    println!(\"cargo::rustc-link-search=native={{}}\", {:?});\n",
                library.to_string_lossy()
            ));
        }
        put("build.rs", script + "}\n")?;
    }
    Ok(())
}

/// A cell's text with where the crates of ours are that it asks for ([`EXTRAS`]); `None` when it asks for none.
///
/// Such a crate's manifest here names the stub where its own names the training library's sources: with these, its tables
/// would be of other types than those of the cells.
pub fn located(home: &Home, rustc: &Rustc, cell: &str) -> Result<Option<String>> {
    let mut found = false;
    let mut text = String::with_capacity(cell.len());
    for line in cell.split_inclusive('\n') {
        match extra(line) {
            Some((name, part)) => {
                found = true;
                let path = write_extra(name, &home.setup.src.join(part), &folder(home, rustc)?)?;
                text.push_str(&format!(":dep {name} = {{ path = {:?} }}\n", path.to_string_lossy()));
            }
            None => text.push_str(line),
        }
    }
    Ok(found.then_some(text))
}

/// The crate of ours that a `:dep` line asks for. One that says where its own is means another.
fn extra(line: &str) -> Option<(&'static str, &'static str)> {
    let rest = line.trim_end().strip_prefix(":dep ")?;
    let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
    let elsewhere = ["path", "git"].iter().any(|key| value.contains(key));
    let of = EXTRAS.into_iter().find(|(extra, _)| *extra == name.trim());
    of.filter(|_| !elsewhere)
}

fn write_extra(name: &str, sources: &Path, stubs: &Path) -> Result<PathBuf> {
    let manifest = sources.join("Cargo.toml");
    let own = std::fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let to = stubs.join(name);
    std::fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    let file = to.join("Cargo.toml");
    let text = on_stub(name, &own, sources, stubs);
    // Written only when it is another: cargo compiles what has a new date. Beside and renamed: another kernel may read it.
    if std::fs::read_to_string(&file).ok().as_ref() != Some(&text) {
        let beside = to.join(format!(".{}", std::process::id()));
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &file))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(to)
}

/// The manifest of one of [`EXTRAS`] with the stub in the place of the training library.
fn on_stub(name: &str, own: &str, sources: &Path, stubs: &Path) -> String {
    let mut text = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\npath = {:?}\n\n[workspace]\n\n[dependencies]\n",
        sources.join("src/lib.rs").to_string_lossy()
    );
    let dependencies = own.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    for line in dependencies.take_while(|line| !line.starts_with('[')) {
        match line.starts_with("lightcell = ") {
            true => {
                let stub = stubs.join("lightcell");
                text.push_str(&format!("lightcell = {{ path = {:?} }}\n", stub.to_string_lossy()));
            }
            false => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

/// A manifest with the crates themselves in the place of their stubs, for the analyser; `None` when it has no stubs.
pub fn revealed(manifest: &str, sources: &Path) -> Option<String> {
    let mut changed = false;
    // Of the shared libraries no cell names anything.
    let named = manifest
        .lines()
        .filter(|line| !line.starts_with(crate::libraries::NAME));
    let lines = named.map(|line| {
        let ours = CRATES.into_iter().map(|(name, _, folder)| (name, folder));
        for (name, folder) in ours.chain(EXTRAS) {
            let is_stub = line.contains(&format!("/{FOLDER}/")) && line.contains(&format!("/{name}\""));
            if is_stub && let Some((before, _)) = line.split_once("path") {
                changed = true;
                return format!("{before}path = {:?} }}\n", sources.join(folder).to_string_lossy());
            }
        }
        format!("{line}\n")
    });
    let text: String = lines.collect();
    changed.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_of_ours_stands_on_the_stub() {
        let own = "[package]\nname = \"lightcell-parquet\"\n\n[dependencies]\nparquet = \"60\"\n\
                   lightcell = { path = \"../fit\" }\n\n[dev-dependencies]\nother = \"1\"\n";
        let text = on_stub(
            "lightcell-parquet",
            own,
            Path::new("/h/src/magics/parquet"),
            Path::new("/h/stubs/0a"),
        );
        assert!(text.contains("path = \"/h/src/magics/parquet/src/lib.rs\"\n"), "{text}");
        assert!(
            text.ends_with("[dependencies]\nparquet = \"60\"\nlightcell = { path = \"/h/stubs/0a/lightcell\" }\n\n"),
            "{text}"
        );
        // Each is there, and named as its manifest names it.
        for (name, folder) in EXTRAS {
            let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(folder)
                .join("Cargo.toml");
            let own = std::fs::read_to_string(manifest).unwrap();
            assert!(
                own.contains(&format!("name = \"{name}\"\n")) && own.contains("\nlightcell = "),
                "{own}"
            );
        }
        for (line, found) in [
            (":dep lightcell-parquet\n", true),
            (":dep lightcell-image = \"*\"", true),
            (":dep lightcell-image = { version = \"*\" }\n", true),
            (":dep lightcell-image = { path = \"../mine\" }\n", false),
            (":dep lightcell-images\n", false),
            ("let a = 1;", false),
        ] {
            assert_eq!(extra(line).is_some(), found, "{line}");
        }
        assert_eq!(
            revealed(
                "lightcell-parquet = { path = \"/h/stubs/0a/lightcell-parquet\" }\n",
                Path::new("/h/src")
            )
            .unwrap(),
            "lightcell-parquet = { path = \"/h/src/magics/parquet\" }\n"
        );
    }

    #[test]
    fn the_analyser_sees_what_is_behind_a_stub() {
        let manifest = "[dependencies]\nlightcell = { path = \"/h/stubs/0a/lightcell\" }\n\
                        lightcell-cell = { path = \"/h/stubs/0a/lightcell-cell\" }\nmine = { path = \"/x/lightcell\" }\n";
        assert_eq!(
            revealed(manifest, Path::new("/h/src")).unwrap(),
            "[dependencies]\nlightcell = { path = \"/h/src/magics/fit\" }\n\
             lightcell-cell = { path = \"/h/src/kernel/cell\" }\nmine = { path = \"/x/lightcell\" }\n"
        );
        assert_eq!(revealed("[dependencies]\nserde = \"1\"\n", Path::new("/h/src")), None);
    }
}
