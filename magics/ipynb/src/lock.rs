//! What a notebook was made with: the versions of the toolchain and of libtorch, and those of the crates that its cells ask
//! for. It stands in the notebook's metadata, or in the output of the cell with `%lock`: a kernel cannot write metadata, but
//! what it shows is saved with the notebook by every front end.

use crate::Notebook;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The type of an output that holds a lock.
pub const MIME: &str = "application/vnd.lightcell.lock+json";
/// Where a notebook's metadata hold it.
const KEY: &str = "lightcell";

/// What can make a notebook behave differently elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions {
    /// Such as `0.1.0`.
    pub lightcell: String,
    /// Such as `1.95.0`.
    pub rustc: String,
    /// Such as `2.13.0`.
    pub libtorch: String,
}

impl Versions {
    /// The version in what `rustc --version` or `rustc -vV` says.
    pub fn of_rustc(said: &str) -> String {
        said.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }

    /// What differs here, a line each; what is not known says nothing.
    pub fn differences(&self, here: &Versions) -> Vec<String> {
        let all = [
            ("Lightcell", &self.lightcell, &here.lightcell),
            ("rustc", &self.rustc, &here.rustc),
            ("libtorch", &self.libtorch, &here.libtorch),
        ];
        let differ = all
            .into_iter()
            .filter(|(_, there, here)| there != here && !there.is_empty() && !here.is_empty());
        differ
            .map(|(what, there, here)| format!("made with {what} {there}, here is {here}: numbers may differ a little"))
            .collect()
    }
}

/// A notebook's lock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    /// What it was made with.
    pub made_with: Versions,
    /// Crates that its cells asked for, and what these need, in the form of Cargo.lock.
    pub packages: String,
}

impl Lock {
    /// A lock of what `Cargo.lock` says beyond another one, which every installation has. Crates in folders are left out: they
    /// have no version that somebody else could find.
    pub fn new(made_with: Versions, lock: &str, common: &str) -> Lock {
        let common: BTreeSet<String> = packages(common).map(identity).collect();
        let own =
            packages(lock).filter(|package| package.contains("\nsource = ") && !common.contains(&identity(package)));
        Lock {
            made_with,
            packages: written(own),
        }
    }

    /// The lock of a notebook: the newest, which is that in an output, else that in its metadata.
    pub fn of(notebook: &Notebook) -> Option<Lock> {
        let cells = notebook.value["cells"].as_array().into_iter().flatten();
        let outputs = cells.filter_map(|cell| cell["outputs"].as_array()).flatten();
        let mut shown = outputs.filter_map(|output| Lock::read(&output["data"][MIME]));
        shown
            .next_back()
            .or_else(|| Lock::read(&notebook.value["metadata"][KEY]))
    }

    fn read(value: &Value) -> Option<Lock> {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        value["rustc"].as_str()?;
        let lines = value["lock"].as_array().into_iter().flatten();
        let lines: Vec<&str> = lines.filter_map(Value::as_str).collect();
        Some(Lock {
            made_with: Versions {
                lightcell: text("lightcell"),
                rustc: text("rustc"),
                libtorch: text("libtorch"),
            },
            packages: lines.join("\n"),
        })
    }

    /// As it stands in a notebook; the crates line by line, so that git shows which have changed.
    pub fn to_json(&self) -> Value {
        let made_with = &self.made_with;
        json!({
            "lightcell": made_with.lightcell, "rustc": made_with.rustc, "libtorch": made_with.libtorch,
            "lock": self.packages.lines().collect::<Vec<_>>(),
        })
    }

    /// Writes it into a notebook's metadata.
    pub fn keep(&self, notebook: &mut Notebook) {
        if notebook.value["metadata"].is_object() {
            notebook.value["metadata"][KEY] = self.to_json();
        }
    }

    /// Names and versions of its crates.
    pub fn crates(&self) -> Vec<(String, String)> {
        packages(&self.packages).filter_map(name_and_version).collect()
    }
}

/// All packages of the first Cargo.lock, and those of the second that it lacks.
pub fn union(first: &str, second: &str) -> String {
    if first.is_empty() {
        return second.to_owned();
    }
    let there: BTreeSet<String> = packages(first).map(identity).collect();
    let more = packages(second).filter(|package| !there.contains(&identity(package)));
    format!("{}\n\n{}", first.trim_end(), written(more))
        .trim_end()
        .to_owned()
        + "\n"
}

/// A Cargo.lock with the packages of another one, in whose favour other versions of the same crates go, but those in `kept`.
pub fn prefer(lock: &str, locked: &str, kept: &str) -> String {
    let names: BTreeSet<String> = packages(locked)
        .filter_map(name_and_version)
        .map(|pair| pair.0)
        .collect();
    let stay: BTreeSet<String> = packages(locked).chain(packages(kept)).map(identity).collect();
    let goes = |package: &&str| {
        let named = name_and_version(package).is_some_and(|(name, _)| names.contains(&name));
        named && !stay.contains(&identity(package))
    };
    let head = lock.split("[[package]]").next().unwrap_or_default();
    let rest = packages(lock).filter(|package| !goes(package));
    union(&format!("{head}{}", written(rest)), locked)
}

/// The packages of a Cargo.lock.
pub fn packages(lock: &str) -> impl Iterator<Item = &str> {
    lock.split("[[package]]").skip(1)
}

/// Name, version and source of a package.
pub fn identity(package: &str) -> String {
    let is_part = |line: &&str| {
        ["name = ", "version = ", "source = "]
            .iter()
            .any(|part| line.starts_with(part))
    };
    package.lines().filter(is_part).collect::<Vec<_>>().join("\n")
}

fn name_and_version(package: &str) -> Option<(String, String)> {
    let value = |key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    Some((value("name = ")?, value("version = ")?))
}

fn written<'a>(packages: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<String> = packages
        .map(|package| format!("[[package]]\n{}\n", package.trim()))
        .collect();
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)]) -> String {
        let text = packages.iter().map(|(name, version)| {
            format!(
                "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"registry\"\nchecksum = \"c\"\n"
            )
        });
        format!("version = 4\n{}", text.collect::<String>())
    }

    fn names(lock: &str) -> Vec<String> {
        let all = packages(lock).filter_map(name_and_version);
        all.map(|(name, version)| format!("{name} {version}")).collect()
    }

    fn versions(rustc: &str, libtorch: &str) -> Versions {
        Versions {
            lightcell: "0.1.0".into(),
            rustc: rustc.into(),
            libtorch: libtorch.into(),
        }
    }

    #[test]
    fn only_versions_that_differ_are_named() {
        let there = versions("1.95.0", "2.13.0");
        assert_eq!(there.differences(&versions("1.95.0", "2.13.0")), [""; 0]);
        assert_eq!(there.differences(&versions("", "")), [""; 0]);
        assert_eq!(
            there.differences(&versions("1.96.0", "2.13.0")),
            ["made with rustc 1.95.0, here is 1.96.0: numbers may differ a little"]
        );
        assert_eq!(Versions::of_rustc("rustc 1.95.0 (59807 2026-04-14)\nhost: x"), "1.95.0");
    }

    #[test]
    fn a_lock_is_what_cells_added_and_comes_back_from_the_notebook() {
        let all = lock(&[("tch", "0.26.0"), ("rand", "0.9.1"), ("mine", "0.1.0")]);
        let all = all.replace(
            "name = \"mine\"\nversion = \"0.1.0\"\nsource = \"registry\"\n",
            "name = \"mine\"\nversion = \"0.1.0\"\n",
        );
        let made = Lock::new(versions("1.95.0", "2.13.0"), &all, &lock(&[("tch", "0.26.0")]));
        assert_eq!(made.crates(), [("rand".to_owned(), "0.9.1".to_owned())]);
        let mut notebook = Notebook::of_cells(&["%lock"]);
        assert_eq!(Lock::of(&notebook), None);
        // In an output, as a front end saves it.
        let shown =
            json!([{"output_type": "display_data", "metadata": {}, "data": {"text/plain": "x", MIME: made.to_json()}}]);
        notebook.value["cells"][0]["outputs"] = shown;
        let read = Lock::of(&notebook).unwrap();
        assert_eq!((read.crates(), &read.made_with), (made.crates(), &made.made_with));
        assert!(read.packages.contains("checksum = \"c\""));
        // Cleaning takes the output away and not the lock.
        notebook.clean();
        assert_eq!(notebook.value["cells"][0]["outputs"], json!([]));
        assert_eq!(Lock::of(&notebook).map(|lock| lock.crates()), Some(made.crates()));
        let clean = notebook.text();
        notebook.clean();
        assert_eq!(notebook.text(), clean);
    }

    #[test]
    fn locked_versions_win_over_new_ones_and_not_over_built_ones() {
        let now = lock(&[("rand", "0.9.9"), ("libc", "0.2.1"), ("serde", "1.0.9")]);
        let locked = lock(&[("rand", "0.9.1"), ("serde", "1.0.1")]);
        let built = lock(&[("serde", "1.0.9")]);
        let all = prefer(&now, &locked, &built);
        assert_eq!(names(&all), ["libc 0.2.1", "serde 1.0.9", "rand 0.9.1", "serde 1.0.1"]);
        assert!(all.starts_with("version = 4\n"), "{all}");
        assert_eq!(names(&union(&now, &locked)).len(), 5);
        assert_eq!(union("", &now), now);
        assert_eq!(names(&prefer(&now, "", "")), names(&now));
    }
}
