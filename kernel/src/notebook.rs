//! The notebook that this kernel runs for: its file, as far as it is known here, and its lock.

use crate::executor::{Executor, Ground};
use crate::home::{Home, Rustc};
use crate::lockfile;
use crate::words;
use jupyter_protocol::{Media, MediaType};
use lightcell_ipynb::Notebook;
use lightcell_ipynb::lock::{self, Lock, Versions};
use std::path::{Path, PathBuf};

/// The notebook's file, as Jupyter's server (or `lightcell run`) names it.
pub fn file() -> Option<PathBuf> {
    let named = std::env::var_os("JPY_SESSION_NAME").map(PathBuf::from);
    named.filter(|file| file.is_absolute() && file.is_file())
}

/// Lets what cells ask for resolve to the versions of the notebook's lock, and says what else it was made with and differs.
pub fn open(ground: &Ground) -> Option<String> {
    let text = std::fs::read_to_string(file()?).ok()?;
    let lock = Lock::of(&Notebook::parse(&text).ok()?)?;
    if let Err(error) = lockfile::lock(&ground.session.path, &lock.packages) {
        tracing::warn!("the notebook's lock is not used: {error}");
    }
    let differences = lock.made_with.differences(&here(&ground.home, &ground.rustc));
    let lines = differences
        .iter()
        .map(|line| format!("note: the notebook was {line}\n"));
    Some(lines.collect()).filter(|note: &String| !note.is_empty())
}

/// What runs here.
fn here(home: &Home, rustc: &Rustc) -> Versions {
    Versions {
        lightcell: env!("CARGO_PKG_VERSION").to_owned(),
        rustc: Versions::of_rustc(&rustc.version),
        libtorch: home.setup.libtorch.version.clone(),
    }
}

impl Executor {
    /// `%lock`: shows what this kernel was made of, in a form that the notebook's file keeps.
    pub(crate) fn lock(&self, clear: bool) {
        let (ground, store) = (&self.ground, self.store());
        let resolved = match clear {
            true => String::new(),
            false => lockfile::built(&ground.session.path),
        };
        let common = std::fs::read_to_string(store.join("Cargo.lock")).unwrap_or_default();
        let lock = Lock::new(here(&ground.home, &ground.rustc), &resolved, &common);
        let parts = vec![
            MediaType::Plain(shown(&lock, clear, file().as_deref())),
            MediaType::Other((lock::MIME.to_owned(), lock.to_json())),
        ];
        let parent = self.shared.now.parent();
        self.shared.publisher.display(Media::new(parts), None, parent.as_ref());
    }
}

/// A lock in words.
fn shown(lock: &Lock, clear: bool, file: Option<&Path>) -> String {
    let Versions {
        lightcell,
        rustc,
        libtorch,
    } = &lock.made_with;
    let crates = lock.crates();
    let mut text = format!(
        "lock: {}, rustc {rustc}, libtorch {libtorch}, Lightcell {lightcell}\n",
        words::number(crates.len(), "crate")
    );
    for (name, version) in &crates {
        text += &format!("  {name} {version}\n");
    }
    text += match (clear, file) {
        (true, _) => "Save the notebook; a new kernel then takes the newest versions that cells allow.\n",
        (false, Some(_)) => "It is kept with this output: save the notebook, and a new kernel takes these versions.\n",
        (false, None) => {
            "It is kept with this output. The notebook's file is not known here: `lightcell run` and Jupyter's server use it.\n"
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_says_what_it_holds_and_what_to_do_next() {
        let made_with = Versions {
            lightcell: "0.1.0".into(),
            rustc: "1.95.0".into(),
            libtorch: "2.13.0".into(),
        };
        let lock = Lock::new(
            made_with,
            "version = 4\n\n[[package]]\nname = \"either\"\nversion = \"1.2.3\"\nsource = \"x\"\n",
            "",
        );
        assert_eq!(
            shown(&lock, false, Some(Path::new("/a.ipynb"))),
            "lock: 1 crate, rustc 1.95.0, libtorch 2.13.0, Lightcell 0.1.0\n  either 1.2.3\n\
             It is kept with this output: save the notebook, and a new kernel takes these versions.\n"
        );
        assert!(shown(&lock, false, None).contains("file is not known here"));
        assert!(shown(&lock, true, None).contains("the newest versions that cells allow"));
    }
}
