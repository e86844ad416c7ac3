//! Crates that cells ask for, as shared libraries of the session. A cell that links a crate itself carries its globals too:
//! a logger that one cell sets is not there in the next, and a task of tokio's finds no runtime. So a `:dep` makes a small
//! crate that holds what was asked for as one shared library, which all cells link; libraries of earlier cells stay as they
//! are, and a later one builds on them.
//!
//! Where it cannot be (the crate does not build so, or brings a library of its own in C), cells link the crate as cargo
//! would.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Begins the names of these crates.
pub const NAME: &str = "lightcell-shared-";

/// A crate that a cell asks for: its name and what stands behind the `=`.
pub type Asked = (String, String);

/// The crates that `:dep` lines ask for; `None` when there are none, or some that cannot be put into another manifest.
pub fn asked(cell: &str) -> Option<Vec<Asked>> {
    let mut list = Vec::new();
    for line in cell.lines() {
        let Some(rest) = line.trim_end().strip_prefix(":dep ") else {
            continue;
        };
        let (name, value) = rest.split_once('=').unwrap_or((rest, " \"*\""));
        let (name, value) = (name.trim(), value.trim());
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        // A crate in a folder of the user's changes with every edit, and what is loaded under a name stays.
        let is_foreign = value.contains("path");
        if !is_name || is_foreign || name.starts_with("lightcell") || value.is_empty() {
            return None;
        }
        list.push((name.to_owned(), value.to_owned()));
    }
    (!list.is_empty()).then_some(list)
}

/// The shared libraries of a session.
#[derive(Debug)]
pub struct Libraries {
    session: PathBuf,
    stubs: PathBuf,
    list: Vec<Library>,
    /// Names of crates that each cell links itself.
    unshared: BTreeSet<String>,
}

#[derive(Debug)]
struct Library {
    crates: Vec<Asked>,
    /// Of its file, once it is built: another one under the same name would not be loaded.
    built: Option<(u64, SystemTime)>,
}

impl Libraries {
    /// None yet.
    pub fn new(session: &Path, stubs: &Path) -> Libraries {
        Libraries {
            session: session.to_owned(),
            stubs: stubs.to_owned(),
            list: Vec::new(),
            unshared: BTreeSet::new(),
        }
    }

    /// Whether some of these are in none of the libraries, and could be.
    pub fn lack(&self, asked: &[Asked]) -> bool {
        let has = |one: &Asked| self.list.iter().any(|library| library.crates.contains(one));
        !asked.iter().all(|one| has(one) || self.unshared.contains(&one.0))
    }

    /// A library with these crates, on top of the earlier ones; gives what evcxr is to run.
    pub fn add(&mut self, asked: &[Asked]) -> Result<String> {
        let before = self.list.len();
        let earlier: Vec<usize> = (0..before).filter(|at| !self.list[*at].crates.is_empty()).collect();
        let mut crates = asked.to_vec();
        crates.retain(|(name, _)| !self.unshared.contains(name));
        self.write(before, &crates, &earlier)?;
        self.list.push(Library { crates, built: None });
        Ok(self.code(before))
    }

    /// One library with all crates so far, in the place of the earlier ones, which were compiled anew.
    pub fn renew(&mut self) -> Result<String> {
        let mut all: Vec<Asked> = Vec::new();
        for at in 0..self.list.len() {
            for one in std::mem::take(&mut self.list[at].crates) {
                all.retain(|(name, _)| *name != one.0);
                all.push(one);
            }
            self.write(at, &[], &[])?;
        }
        self.add(&all)
    }

    /// Forgets the last library for good: its crates bring C. What that compiled is there from now on, so that a cell that
    /// is run again could not tell.
    pub fn decline(&mut self) -> Result<()> {
        let last = self.list.last().into_iter().flat_map(|library| &library.crates);
        self.unshared.extend(last.map(|(name, _)| name.clone()));
        self.give_up()
    }

    /// Forgets the last library: it could not be built.
    pub fn give_up(&mut self) -> Result<()> {
        let Some(at) = self.list.len().checked_sub(1) else {
            return Ok(());
        };
        self.list[at].crates.clear();
        self.write(at, &[], &[])
    }

    /// Notes the files of the libraries; whether an earlier one is another now.
    pub fn have_changed(&mut self) -> bool {
        let deps = self.session.join("target/x86_64-unknown-linux-gnu/debug/deps");
        let mut changed = false;
        for (at, library) in self
            .list
            .iter_mut()
            .enumerate()
            .filter(|(_, library)| !library.crates.is_empty())
        {
            use std::os::unix::fs::MetadataExt;
            let file = deps.join(format!("lib{}.so", library_name(at)));
            let now = std::fs::metadata(file)
                .ok()
                .and_then(|meta| Some((meta.ino(), meta.modified().ok()?)));
            changed |= library.built.is_some() && library.built != now;
            library.built = now;
        }
        changed
    }

    fn code(&self, at: usize) -> String {
        let crates = &self.list[at].crates;
        let lines: String = crates
            .iter()
            .map(|(name, value)| format!(":dep {name} = {value}\n"))
            .collect();
        let folder = self.folder(at);
        format!(
            "{lines}:dep {NAME}{at} = {{ path = {:?} }}\nuse {} as _;\n",
            folder.to_string_lossy(),
            library_name(at)
        )
    }

    fn folder(&self, at: usize) -> PathBuf {
        self.session.join("shared").join(at.to_string())
    }

    fn write(&self, at: usize, crates: &[Asked], on: &[usize]) -> Result<()> {
        let folder = self.folder(at);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let cell = self.stubs.join("lightcell-cell");
        let mut manifest = format!(
            "[package]\nname = \"{NAME}{at}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[lib]\npath = \"lib.rs\"\n\
             crate-type = [\"dylib\"]\n\n[dependencies]\n"
        );
        let mut code = String::new();
        // What the training library has of these crates comes from there; an empty library has nothing of anything, or
        // there would be two with the stub.
        if !crates.is_empty() {
            manifest.push_str(&format!("lightcell-cell = {{ path = {:?} }}\n", cell.to_string_lossy()));
            code.push_str("extern crate lightcell_cell as _;\n");
        }
        for earlier in on {
            manifest.push_str(&format!(
                "{NAME}{earlier} = {{ path = {:?} }}\n",
                self.folder(*earlier).to_string_lossy()
            ));
            code.push_str(&format!("extern crate {} as _;\n", library_name(*earlier)));
        }
        for (name, value) in crates {
            manifest.push_str(&format!("{name} = {value}\n"));
            code.push_str(&format!("extern crate {} as _;\n", name.replace('-', "_")));
        }
        for (file, text) in [("Cargo.toml", manifest), ("lib.rs", code)] {
            let path = folder.join(file);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

fn library_name(at: usize) -> String {
    format!("{}{at}", NAME.replace('-', "_"))
}

/// What build scripts of the session have linked besides Rust, by their folders.
pub fn native(session: &Path) -> BTreeSet<PathBuf> {
    let build = session.join("target/x86_64-unknown-linux-gnu/debug/build");
    let folders = std::fs::read_dir(build).into_iter().flatten().flatten();
    let links = |folder: &PathBuf| {
        let text = std::fs::read_to_string(folder.join("output")).unwrap_or_default();
        text.lines().any(|line| {
            let command = line.strip_prefix("cargo:").unwrap_or(line);
            command.trim_start_matches(':').starts_with("rustc-link-lib")
        })
    };
    folders.map(|entry| entry.path()).filter(links).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Asked {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_a_cell_asks_for_is_read() {
        assert_eq!(
            asked(":dep log\n:dep rand = { version = \"0.9\" }\nlet x = 1;"),
            Some(vec![one("log", "\"*\""), one("rand", "{ version = \"0.9\" }")])
        );
        for cell in [
            "let x = 1;",
            ":dep ./mine",
            ":dep mine = { path = \"/x/mine\" }",
            ":dep lightcell = \"1\"",
        ] {
            assert_eq!(asked(cell), None, "{cell}");
        }
    }

    #[test]
    fn a_library_builds_on_the_earlier_ones_until_they_change() {
        let session = std::env::temp_dir().join(format!("lightcell-shared-{}", std::process::id()));
        let deps = session.join("target/x86_64-unknown-linux-gnu/debug/deps");
        std::fs::create_dir_all(&deps).unwrap();
        let mut libraries = Libraries::new(&session, Path::new("/stubs"));
        let build = |at: usize, text: &str| {
            let file = deps.join(format!("liblightcell_shared_{at}.so"));
            let _ = std::fs::rename(&file, file.with_extension("old"));
            std::fs::write(file, text).unwrap();
        };
        let text =
            |at: usize, file: &str| std::fs::read_to_string(session.join(format!("shared/{at}/{file}"))).unwrap();
        let log = [one("log", "\"*\"")];
        assert!(libraries.lack(&log));
        let code = libraries.add(&log).unwrap();
        assert!(
            code.starts_with(":dep log = \"*\"\n:dep lightcell-shared-0 = { path = ")
                && code.ends_with("use lightcell_shared_0 as _;\n"),
            "{code}"
        );
        assert!(!libraries.lack(&log));
        build(0, "a");
        assert!(!libraries.have_changed());
        libraries.add(&[one("my-crate", "\"1\"")]).unwrap();
        assert!(text(1, "lib.rs").contains("extern crate lightcell_shared_0 as _;\nextern crate my_crate as _;"));
        build(1, "b");
        assert!(!libraries.have_changed());
        build(0, "c");
        assert!(libraries.have_changed());
        let code = libraries.renew().unwrap();
        assert!(
            code.contains(":dep log = ") && code.contains(":dep my-crate = ") && code.contains("lightcell_shared_2"),
            "{code}"
        );
        assert!(!text(0, "lib.rs").contains("log") && !text(1, "Cargo.toml").contains("my-crate"));
        assert!(!text(2, "lib.rs").contains("lightcell_shared"));
        libraries.give_up().unwrap();
        assert!(libraries.lack(&log));
        libraries.add(&log).unwrap();
        libraries.decline().unwrap();
        assert!(!libraries.lack(&log) && !text(3, "lib.rs").contains("log"));
        let both = [log[0].clone(), one("other", "\"1\"")];
        assert!(libraries.lack(&both));
        let code = libraries.add(&both).unwrap();
        assert!(
            code.starts_with(":dep other") && !text(4, "lib.rs").contains("log"),
            "{code}"
        );
        std::fs::remove_dir_all(session).unwrap();
    }
}
