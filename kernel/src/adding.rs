//! Shows in the cell how far the compilation of crates is that `:dep` or `%dep` asked for.

use crate::executor::Shared;
use crate::now::Phase;
use crate::publish;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is shown of a cell.
struct Shown {
    /// Of its output.
    id: String,
    begun: Instant,
    done: usize,
}

/// Reads what evcxr says of crates that it compiles.
#[derive(Default)]
pub struct Adding {
    /// The session's Cargo.lock.
    lock: PathBuf,
    /// Crates that were there before the cell.
    before: BTreeSet<String>,
    shown: Option<Shown>,
}

impl Adding {
    /// For the session in this folder, which began with the crates of a warm store.
    pub fn new(session: &Path, store: &Path) -> Adding {
        Adding {
            lock: session.join("Cargo.lock"),
            before: packages(&store.join("Cargo.lock")),
            shown: None,
        }
    }

    /// A line of evcxr's: `Compiling rand v0.9.0`.
    pub fn line(&mut self, shared: &Shared, line: &str) {
        // Of the crate that the kernel puts around them nobody has asked.
        let compiling = crate::prepare::compiling(line).filter(|name| !name.starts_with(crate::libraries::NAME));
        let Some(name) = compiling else { return };
        let (parent, count) = {
            let state = shared.now.lock();
            // Before the first cell the kernel's own crates are compiled, if any.
            if !state.executing || state.phase != Phase::Building {
                return;
            }
            (state.parent.clone(), state.count)
        };
        let is_new = self.shown.is_none();
        let shown = self.shown.get_or_insert_with(|| Shown {
            id: format!("lightcell-adding-{count}"),
            begun: Instant::now(),
            done: 0,
        });
        shown.done += 1;
        let new = packages(&self.lock).difference(&self.before).count().max(shown.done);
        let text = publish::text(format!(
            "compiling {name} (crate {} of {new}), {} s",
            shown.done,
            shown.begun.elapsed().as_secs()
        ));
        if is_new {
            shared.publisher.display(text, Some(&shown.id), parent.as_ref());
        } else {
            shared.publisher.update(text, &shown.id, parent.as_ref());
        }
    }

    /// The cell's build is over, well or badly.
    pub fn end(&mut self, shared: &Shared, built: bool) {
        // cargo has run in a process of its own, which has no log.
        if let Some(note) = self.lock.parent().and_then(crate::cache::take_note) {
            tracing::warn!("{note}");
        }
        let Some(shown) = self.shown.take() else { return };
        self.before = packages(&self.lock);
        let (parent, seconds) = (shared.now.parent(), shown.begun.elapsed().as_secs_f64());
        let crates = crate::words::number(shown.done, "crate");
        let text = if built {
            format!("compiled {crates} in {seconds:.1} s")
        } else {
            format!("stopped after {crates}, {seconds:.1} s; what is compiled is kept")
        };
        shared.publisher.update(publish::text(text), &shown.id, parent.as_ref());
    }
}

/// Packages of a Cargo.lock, with their versions.
fn packages(lock: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(lock).unwrap_or_default();
    text.split("[[package]]")
        .skip(1)
        .map(|entry| entry.lines().take(3).collect::<Vec<_>>().join(" "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::packages;

    #[test]
    fn packages_are_told_apart_by_version() {
        let file = std::env::temp_dir().join(format!("lightcell-lock-{}", std::process::id()));
        let entry = |name: &str, version: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n");
        let text = format!(
            "version = 4\n\n{}{}{}",
            entry("a", "1.0.0"),
            entry("a", "2.0.0"),
            entry("b", "1.0.0")
        );
        std::fs::write(&file, text).unwrap();
        assert_eq!(packages(&file).len(), 3);
        std::fs::remove_file(&file).unwrap();
        assert!(packages(&file).is_empty());
    }
}
