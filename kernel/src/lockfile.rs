//! Keeps what a session's Cargo.lock has said once.
//!
//! For each `:dep` evcxr asks cargo about a package that depends on nothing else, and cargo then forgets the versions of all
//! other crates. Asked for them again it takes the newest, for which neither the warm store nor the cache has anything
//! compiled. So what cargo resolves is collected, and put back before it builds.

use lightcell_ipynb::lock::{identity, packages, prefer, union};
use std::collections::BTreeSet;
use std::path::Path;

/// In a session's folder: all packages that its Cargo.lock ever had.
const ALL: &str = ".Cargo.lock.all";
/// In a session's folder: its Cargo.lock after the last build that succeeded.
const GOOD: &str = ".Cargo.lock.good";
/// In a session's folder: the packages of the notebook's lock.
const LOCKED: &str = ".Cargo.lock.locked";

/// Has these packages, of the notebook's lock, go before what cargo finds newer.
///
/// # Errors
/// When the file cannot be written.
pub fn lock(session: &Path, packages: &str) -> std::io::Result<()> {
    std::fs::write(session.join(LOCKED), packages)
}

/// What stands in Cargo.lock since the last build that succeeded.
pub fn built(session: &Path) -> String {
    read(session, GOOD)
}

fn read(session: &Path, file: &str) -> String {
    std::fs::read_to_string(session.join(file)).unwrap_or_default()
}

/// Remembers what cargo has resolved.
pub fn collect(session: &Path) {
    let (all, now) = (read(session, ALL), read(session, "Cargo.lock"));
    let union = union(&now, &all);
    if union != all {
        let _ = std::fs::write(session.join(ALL), union);
    }
}

/// Remembers that the session was built with what stands in Cargo.lock now.
pub fn succeeded(session: &Path) {
    collect(session);
    let now = read(session, "Cargo.lock");
    if now != read(session, GOOD) {
        let _ = std::fs::write(session.join(GOOD), now);
    }
}

/// Puts back what Cargo.lock has lost since the last build. Packages too many do no harm: cargo takes them out again.
pub fn complete(session: &Path) {
    let now = read(session, "Cargo.lock");
    let good = read(session, GOOD);
    let there: BTreeSet<String> = packages(&now).map(identity).collect();
    if packages(&good).map(identity).any(|package| !there.contains(&package)) {
        // cargo has just looked at a crate by itself, and may have found a newer one than the notebook's.
        let all = prefer(&union(&now, &read(session, ALL)), &read(session, LOCKED), &good);
        // Without it cargo resolves anew, as it would have.
        let _ = std::fs::write(session.join("Cargo.lock"), all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)]) -> String {
        let text = packages.iter().map(|(name, version)| {
            format!("\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"registry\"\ndependencies = [\n \"x\",\n]\n")
        });
        format!("version = 4\n{}", text.collect::<String>())
    }

    #[test]
    fn what_cargo_forgot_comes_back_in_the_version_it_had() {
        let session = std::env::temp_dir().join(format!("lightcell-lockfile-{}", std::process::id()));
        std::fs::create_dir_all(&session).unwrap();
        let put = |packages: &[(&str, &str)]| std::fs::write(session.join("Cargo.lock"), lock(packages)).unwrap();
        let now = || read(&session, "Cargo.lock");
        complete(&session);
        assert_eq!(now(), "");
        put(&[("serde", "1.0.1"), ("rand", "0.8.0")]);
        complete(&session);
        succeeded(&session);
        // Two crates are asked about, one after the other.
        put(&[("dummy", "0.0.1"), ("either", "1.0.0")]);
        collect(&session);
        put(&[("dummy", "0.0.1"), ("rand", "0.9.0")]);
        collect(&session);
        complete(&session);
        let all = now();
        let found: Vec<_> = packages(&all)
            .map(|package| package.lines().take(3).collect::<Vec<_>>().concat())
            .collect();
        let wanted = |name: &str, version: &str| format!("name = \"{name}\"version = \"{version}\"");
        assert_eq!(
            found,
            [
                wanted("dummy", "0.0.1"),
                wanted("rand", "0.9.0"),
                wanted("either", "1.0.0"),
                wanted("serde", "1.0.1"),
                wanted("rand", "0.8.0"),
            ]
        );
        assert!(all.starts_with("version = 4\n") && all.matches("\"x\",").count() == 5);
        // As long as nothing is lost nothing is written, or no cell would be compiled without cargo.
        put(&[("serde", "1.0.1"), ("rand", "0.8.0"), ("more", "1.0.0")]);
        let before = now();
        complete(&session);
        assert_eq!(now(), before);
        // A notebook's lock goes before what cargo found.
        super::lock(&session, &lock(&[("rand", "0.8.0"), ("either", "0.9.9")])).unwrap();
        succeeded(&session);
        put(&[("dummy", "0.0.1"), ("either", "1.0.0")]);
        complete(&session);
        let versions = |name: &str| now().matches(&format!("name = \"{name}\"")).count();
        assert!(
            now().contains("version = \"0.9.9\"") && versions("either") == 1,
            "{}",
            now()
        );
        assert!(versions("more") == 1 && versions("rand") == 1, "{}", now());
        std::fs::remove_dir_all(session).unwrap();
    }
}
