//! The kernelspec: how Jupyter finds and starts the kernel.

use crate::place::{self, Place, set};
use crate::preflight::Tools;
use crate::ui;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Its name.
pub const NAME: &str = "lightcell";

const LOGOS: [(&str, &[u8]); 3] = [
    ("logo-32x32.png", include_bytes!("../assets/logo-32x32.png")),
    ("logo-64x64.png", include_bytes!("../assets/logo-64x64.png")),
    ("logo-svg.svg", include_bytes!("../assets/logo-svg.svg")),
];

/// Writes it: beside its place, then in it.
pub fn install(place: &Place, tools: &Tools, target: &Path) -> Result<()> {
    write(target, &spec(place, tools))
}

/// Writes a kernelspec with our logo.
pub fn write(target: &Path, spec: &serde_json::Value) -> Result<()> {
    remove_partial(target);
    let text = serde_json::to_string_pretty(spec)? + "\n";
    let same = std::fs::read_to_string(target.join("kernel.json")).is_ok_and(|old| old == text)
        && LOGOS
            .iter()
            .all(|(name, content)| std::fs::read(target.join(name)).is_ok_and(|old| old == *content));
    if same {
        ui::already("kernelspec", &format!("is there ({})", target.display()));
        return Ok(());
    }
    let beside = place::beside(target);
    std::fs::create_dir_all(&beside).with_context(|| format!("cannot make {}", beside.display()))?;
    std::fs::write(beside.join("kernel.json"), text)?;
    for (name, content) in LOGOS {
        std::fs::write(beside.join(name), content)?;
    }
    if target.exists() {
        std::fs::remove_dir_all(target).with_context(|| format!("cannot replace {}", target.display()))?;
    }
    std::fs::rename(&beside, target).with_context(|| format!("cannot write {}", target.display()))?;
    ui::already("kernelspec", &format!("registered in {}", target.display()));
    Ok(())
}

/// What a killed run left beside it; the folder is shared with other kernels' specs.
fn remove_partial(target: &Path) {
    let Some(entries) = target.parent().and_then(|kernels| std::fs::read_dir(kernels).ok()) else {
        return;
    };
    for entry in entries.flatten().filter(|entry| {
        entry.file_name().to_string_lossy().starts_with(&format!(
            ".{}.partial-",
            target.file_name().unwrap_or_default().to_string_lossy()
        ))
    }) {
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

/// `kernel.json`. Paths and environment stand in it, because front ends are often started without the user's shell.
fn spec(place: &Place, tools: &Tools) -> serde_json::Value {
    let mut env = serde_json::Map::new();
    env.insert("LIGHTCELL_HOME".into(), json!(place.root));
    let cargo_bin = set("CARGO_HOME")
        .or_else(|| place::home().ok().map(|home| home.join(".cargo")))
        .map(|home| home.join("bin"));
    let mut path: Vec<PathBuf> = cargo_bin.into_iter().filter(|folder| folder.is_dir()).collect();
    path.extend(tools.cargo.parent().map(Path::to_owned));
    // The front end's own PATH stays in effect behind it. Front ends that do not fill it in find the linker in the
    // system's folders.
    let joined = std::env::join_paths(&path)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    env.insert(
        "PATH".into(),
        json!(format!("{joined}:${{PATH}}:/usr/local/bin:/usr/bin:/bin")),
    );
    for name in ["CARGO_HOME", "RUSTUP_HOME"] {
        if let Some(value) = set(name) {
            env.insert(name.into(), json!(value));
        }
    }
    json!({
        "argv": [place.join("bin/lightcell-kernel"), "--connection-file", "{connection_file}"],
        "display_name": "Rust (Lightcell)",
        "language": "rust",
        "interrupt_mode": "message",
        "env": env,
        "metadata": {"debugger": false},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    fn tools() -> Tools {
        Tools {
            cargo: "/c/bin/cargo".into(),
            rustc: "/c/bin/rustc".into(),
            rustc_version: String::new(),
            cxx: "c++".into(),
            python: "python3".into(),
        }
    }

    #[test]
    fn the_spec_is_what_jupyter_reads() {
        let scratch = Scratch::new("spec");
        let place = Place { root: "/lc".into() };
        let folder = scratch.0.join(NAME);
        // What a killed run left goes; other kernels' specs stay.
        std::fs::create_dir_all(scratch.0.join(".lightcell.partial-1")).unwrap();
        std::fs::create_dir_all(scratch.0.join("other")).unwrap();
        let install = || super::install(&place, &tools(), &folder).unwrap();
        install();
        let spec: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("kernel.json")).unwrap()).unwrap();
        assert_eq!(
            spec["argv"],
            json!(["/lc/bin/lightcell-kernel", "--connection-file", "{connection_file}"])
        );
        assert_eq!(
            (
                spec["display_name"].as_str(),
                spec["language"].as_str(),
                spec["interrupt_mode"].as_str()
            ),
            (Some("Rust (Lightcell)"), Some("rust"), Some("message"))
        );
        assert!(
            spec["env"]["PATH"]
                .as_str()
                .unwrap()
                .ends_with("/c/bin:${PATH}:/usr/local/bin:/usr/bin:/bin")
        );
        assert!(folder.join("logo-64x64.png").is_file());
        // Again, after one of its files is gone, and over an older one.
        install();
        std::fs::remove_file(folder.join("logo-svg.svg")).unwrap();
        std::fs::write(folder.join("logo-32x32.png"), "old").unwrap();
        install();
        assert!(
            LOGOS
                .iter()
                .all(|(name, content)| std::fs::read(folder.join(name)).unwrap() == *content)
        );
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 2);
    }
}
