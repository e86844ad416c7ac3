//! libtorch: the one that is named, one that is there, or the wheel that pip fetches.

use crate::place::{self, Libtorch, Place, on_path, output};
use crate::preflight::Tools;
use crate::ui::{self, problem};
use crate::wheels;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// The version that tch 0.26 is made for.
pub const VERSION: &str = "2.13.0";

/// Finds or fetches it.
pub fn provide(place: &Place, tools: &Tools) -> Result<Libtorch> {
    if let Some(named) = place::set("LIBTORCH") {
        let named = std::path::absolute(named)?;
        let found = inspect(&named).ok_or_else(|| {
            problem(
                format!("LIBTORCH names {}, where there is no libtorch", named.display()),
                "name the folder that holds lib/ and include/, or unset LIBTORCH",
            )
        })?;
        check(&found, "LIBTORCH")?;
        ui::already(
            "libtorch",
            &format!("{} named by LIBTORCH ({})", found.version, found.variant),
        );
        return Ok(found);
    }
    let variant = variant()?;
    let target = place.join(format!("libtorch/{VERSION}-{variant}"));
    place::remove_partial(&place.join("libtorch"));
    // What is in use stays while it suffices: one that LIBTORCH named once, or CUDA's where the driver is on other nodes.
    if let Some(found) = place
        .setup()
        .and_then(|old| inspect(&old.libtorch.path))
        .filter(|found| suits(&found.version) && found.path != target.join("torch"))
        && is_whole_in(place, &found)
        && (found.variant == variant || variant == "cpu" && place::set("LIGHTCELL_LIBTORCH").is_none())
    {
        ui::already(
            "libtorch",
            &format!(
                "{} ({}) is there ({})",
                found.version,
                found.variant,
                found.path.display()
            ),
        );
        return Ok(found);
    }
    if let Some(found) =
        inspect(&target.join("torch")).filter(|found| suits(&found.version) && is_whole(&target, variant))
    {
        ui::already("libtorch", &format!("{VERSION} ({variant}) is there"));
        return Ok(Libtorch {
            variant: variant.to_owned(),
            ..found
        });
    }
    if let Some(found) =
        of_python().filter(|found| suits(&found.version) && (variant == "cpu" || found.variant == "cuda"))
    {
        ui::already(
            "libtorch",
            &format!(
                "{} of the Python package torch ({})",
                found.version,
                found.path.display()
            ),
        );
        return Ok(found);
    }
    wheels::fetch(place, tools, variant, &target)?;
    inspect(&target.join("torch")).context("libtorch is not where it was put")
}

/// `cuda` where there is an NVIDIA driver, else `cpu`; `LIGHTCELL_LIBTORCH` decides otherwise, as for an image that is made
/// on one machine for another.
pub fn variant() -> Result<&'static str> {
    choice(std::env::var("LIGHTCELL_LIBTORCH").ok().as_deref(), driver())
}

fn choice(wish: Option<&str>, driver: bool) -> Result<&'static str> {
    match wish {
        Some("cpu") => Ok("cpu"),
        Some("cuda") => Ok("cuda"),
        None | Some("") => Ok(if driver { "cuda" } else { "cpu" }),
        Some(other) => Err(problem(
            format!("LIGHTCELL_LIBTORCH is {other}"),
            "set it to cpu or cuda, or unset it",
        )),
    }
}

/// Whether there is an NVIDIA driver.
pub fn driver() -> bool {
    Path::new("/proc/driver/nvidia/version").exists()
}

/// Whether tch works with this version: patch releases keep the interface.
pub fn suits(version: &str) -> bool {
    crate::preflight::numbers(version) == crate::preflight::numbers(VERSION)
}

/// What lies in a folder, if it is a libtorch.
pub fn inspect(folder: &Path) -> Option<Libtorch> {
    let lib = folder.join("lib");
    if !lib.join("libtorch_cpu.so").is_file() || !folder.join("include").is_dir() {
        return None;
    }
    let version = std::fs::read_to_string(folder.join("build-version"))
        .ok()
        .or_else(|| {
            let text = std::fs::read_to_string(folder.join("version.py")).ok()?;
            Some(
                text.lines()
                    .find_map(|line| line.strip_prefix("__version__ = '"))?
                    .trim_end_matches('\'')
                    .to_owned(),
            )
        })
        .map(|text| text.trim().split('+').next().unwrap_or_default().to_owned())
        .or_else(|| of_header(&std::fs::read_to_string(folder.join("include/torch/headeronly/version.h")).ok()?))
        .or_else(|| {
            of_header(&std::fs::read_to_string(folder.join("include/torch/csrc/api/include/torch/version.h")).ok()?)
        })?;
    let variant = if lib.join("libtorch_cuda.so").is_file() {
        "cuda"
    } else {
        "cpu"
    };
    Some(Libtorch {
        path: folder.to_owned(),
        version,
        variant: variant.to_owned(),
    })
}

/// The version in libtorch's own header.
fn of_header(text: &str) -> Option<String> {
    let number = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("#define TORCH_VERSION_")?.strip_prefix(name))?;
        line.trim().parse::<u32>().ok()
    };
    Some(format!(
        "{}.{}.{}",
        number("MAJOR ")?,
        number("MINOR ")?,
        number("PATCH ")?
    ))
}

fn check(found: &Libtorch, who: &str) -> Result<()> {
    if suits(&found.version) {
        return Ok(());
    }
    Err(problem(
        format!("{who} is libtorch {}; Lightcell's tch needs {VERSION}", found.version),
        format!("name a libtorch {VERSION}, or unset LIBTORCH and it is fetched"),
    ))
}

/// Whether nothing is missing, as far as it is ours.
pub fn is_whole_in(place: &Place, found: &Libtorch) -> bool {
    let ours = found.path.starts_with(place.join("libtorch"));
    !ours
        || found
            .path
            .parent()
            .is_some_and(|folder| is_whole(folder, &found.variant))
}

/// All that a variant needs is there: a killed run leaves nothing half-made, but users delete things.
fn is_whole(target: &Path, variant: &str) -> bool {
    let mut files = vec![
        "torch/lib/libtorch_cpu.so",
        "torch/lib/libc10.so",
        "torch/lib/libgomp.so.1",
        "torch/include/torch/csrc/api/include/torch/torch.h",
        "nvidia/cu13/lib/libcudart.so.13",
        "nvidia/cu13/lib/libcupti.so.13",
    ];
    if variant == "cuda" {
        files.push("torch/lib/libtorch_cuda.so");
    }
    files.iter().all(|file| target.join(file).is_file())
}

/// The torch of the Python on PATH (an active environment's, usually).
fn of_python() -> Option<Libtorch> {
    let python = on_path("python3")?;
    let code = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    inspect(Path::new(&output(Command::new(python).args(["-c", code])).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    fn fake(folder: &Path, version: &str, cuda: bool) {
        place::write(&folder.join("lib/libtorch_cpu.so"), b"").unwrap();
        place::write(&folder.join("include/x.h"), b"").unwrap();
        place::write(&folder.join("build-version"), version.as_bytes()).unwrap();
        if cuda {
            place::write(&folder.join("lib/libtorch_cuda.so"), b"").unwrap();
        }
    }

    #[test]
    fn a_libtorch_is_known_by_its_files() {
        let scratch = Scratch::new("torch");
        assert_eq!(inspect(&scratch.0), None);
        fake(&scratch.0, "2.13.0+cu130\n", true);
        let found = inspect(&scratch.0).unwrap();
        assert_eq!((found.version.as_str(), found.variant.as_str()), ("2.13.0", "cuda"));
        assert!(check(&found, "LIBTORCH").is_ok());
        fake(&scratch.0, "2.9.1", false);
        let error = check(&inspect(&scratch.0).unwrap(), "LIBTORCH")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("LIBTORCH is libtorch 2.9.1; Lightcell's tch needs 2.13.0\nhint: "),
            "{error}"
        );
    }

    #[test]
    fn the_version_is_read_from_the_header_where_no_file_says_it() {
        let scratch = Scratch::new("header");
        place::write(&scratch.0.join("lib/libtorch_cpu.so"), b"").unwrap();
        let header = scratch.0.join("include/torch/csrc/api/include/torch/version.h");
        place::write(&header, b"#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 1\n").unwrap();
        let found = inspect(&scratch.0).unwrap();
        assert_eq!((found.version.as_str(), found.variant.as_str()), ("2.13.1", "cpu"));
        assert!(check(&found, "LIBTORCH").is_ok());
        place::write(&header, b"#pragma once\n").unwrap();
        assert_eq!(inspect(&scratch.0), None);
    }

    #[test]
    fn the_driver_decides_unless_the_user_does() {
        assert_eq!(
            [choice(None, true), choice(None, false), choice(Some(""), true)].map(Result::unwrap),
            ["cuda", "cpu", "cuda"]
        );
        assert_eq!(
            [choice(Some("cpu"), true), choice(Some("cuda"), false)].map(Result::unwrap),
            ["cpu", "cuda"]
        );
        assert_eq!(
            choice(Some("gpu"), true).unwrap_err().to_string(),
            "LIGHTCELL_LIBTORCH is gpu\nhint: set it to cpu or cuda, or unset it"
        );
    }
}
