//! libtorch: the one that is named, one that is there, or the wheel that pip fetches.

use crate::place::{self, Libtorch, Place, on_path, output};
use crate::preflight::Tools;
use crate::tch::{self, WORKING_TEXT};
use crate::ui::{self, problem};
use crate::wheels;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that is fetched.
pub const VERSION: &str = "2.13.0";

/// What `--torch` takes for the one that is fetched, whatever else there is.
const FETCH: &str = "fetch";

/// Finds or fetches it. `torch` is what `--torch` said.
pub fn provide(place: &Place, tools: &Tools, torch: Option<&Path>) -> Result<Libtorch> {
    let fetch = torch == Some(Path::new(FETCH));
    let said = torch.filter(|_| !fetch).map(|path| (path.to_owned(), "--torch"));
    let variable = || place::set("LIBTORCH").filter(|_| !fetch).map(|path| (path, "LIBTORCH"));
    if let Some((path, who)) = said.or_else(variable) {
        let found = named(&std::path::absolute(path)?, who)?;
        ui::already(
            "libtorch",
            &format!("{} ({}), {}", found.version, found.variant, origin(place, &found)),
        );
        return Ok(found);
    }
    let variant = variant()?;
    let target = place.join(format!("libtorch/{VERSION}-{variant}"));
    place::remove_partial(&place.join("libtorch"));
    // What is in use stays while it suffices: one that was named once, or CUDA's where the driver is on other nodes.
    if !fetch
        && let Some(found) = place
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
    if let Some(found) = on_path("python3")
        .filter(|_| !fetch)
        .and_then(|python| of_python(&python))
    {
        if !suits(&found.version) {
            ui::note(&format!(
                "the PyTorch of the Python on PATH is {}; Lightcell works with {WORKING_TEXT}, so it fetches {VERSION}",
                found.version
            ));
        } else if variant == "cpu" || found.variant == "cuda" {
            ui::already(
                "libtorch",
                &format!("{} ({}), {}", found.version, found.variant, origin(place, &found)),
            );
            return Ok(found);
        }
    }
    wheels::fetch(place, tools, variant, &target)?;
    inspect(&target.join("torch")).context("libtorch is not where it was put")
}

/// The libtorch that a path means: its own folder, that of the Python package torch or the one above, a Python, or the
/// folder of an environment with one.
fn named(path: &Path, who: &str) -> Result<Libtorch> {
    let folders = [path.to_owned(), path.join("torch")];
    let pythons = [path.to_owned(), path.join("bin/python3"), path.join("bin/python")];
    let found = folders.iter().find_map(|folder| inspect(folder)).or_else(|| {
        let mut pythons = pythons.iter().filter(|python| python.is_file());
        pythons.find_map(|python| of_python(python))
    });
    let leave_out = format!("leave {who} out and {VERSION} is fetched");
    let Some(found) = found else {
        if let Some(bare) = folders
            .iter()
            .find(|folder| folder.join("lib/libtorch_cpu.so").is_file())
        {
            return Err(problem(
                format!(
                    "{who} names {}, which has libtorch's libraries but not its headers, or no version",
                    bare.display()
                ),
                format!("name one with include/ and build-version or version.py, or {leave_out}"),
            ));
        }
        return Err(problem(
            format!("{who} names {}, where there is no libtorch", path.display()),
            format!("name a folder that holds lib/ and include/, or a Python that has PyTorch, or {leave_out}"),
        ));
    };
    if suits(&found.version) {
        return Ok(found);
    }
    Err(problem(
        format!(
            "{who} is libtorch {}; Lightcell works with {WORKING_TEXT}",
            found.version
        ),
        format!("name one of these, or {leave_out}"),
    ))
}

/// Where a libtorch is from, in words.
pub fn origin(place: &Place, found: &Libtorch) -> String {
    if found.path.starts_with(place.join("libtorch")) {
        return "fetched by setup".to_owned();
    }
    let of_python = found.path.ends_with("torch") && found.path.join("version.py").is_file();
    let what = if of_python {
        "of the Python package torch,"
    } else {
        "in"
    };
    format!("{what} {}", found.path.display())
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

/// Whether a version works.
pub fn suits(version: &str) -> bool {
    tch::of(version).is_some()
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

/// The torch of a Python. It is not imported, which takes seconds.
fn of_python(python: &Path) -> Option<Libtorch> {
    let code = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    inspect(&PathBuf::from(output(Command::new(python).args(["-c", code])).ok()?))
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
        assert_eq!(named(&scratch.0, "LIBTORCH").unwrap(), found);
        fake(&scratch.0, "2.9.1", false);
        assert_eq!(
            named(&scratch.0, "LIBTORCH").unwrap_err().to_string(),
            "LIBTORCH is libtorch 2.9.1; Lightcell works with 2.11, 2.12 and 2.13\n\
             hint: name one of these, or leave LIBTORCH out and 2.13.0 is fetched"
        );
    }

    #[test]
    fn a_path_can_be_that_of_a_python_or_its_environment() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("named");
        let package = scratch.0.join("env/lib/python3.12/site-packages/torch");
        fake(&package, "2.12.1", false);
        std::fs::remove_file(package.join("build-version")).unwrap();
        place::write(&package.join("version.py"), b"__version__ = '2.12.1+cu130'\n").unwrap();
        // A Python that says where it is.
        let python = scratch.0.join("env/bin/python3");
        place::write(&python, format!("#!/bin/sh\necho {}\n", package.display()).as_bytes()).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = Libtorch {
            path: package.clone(),
            version: "2.12.1".into(),
            variant: "cpu".into(),
        };
        for path in [&package, &package.join(".."), &python, &scratch.0.join("env")] {
            let here = named(path, "--torch").unwrap();
            assert_eq!(
                here.path.canonicalize().unwrap(),
                package.canonicalize().unwrap(),
                "{path:?}"
            );
            assert_eq!(here.version, found.version);
        }
        let place = Place {
            root: scratch.0.join("lc"),
        };
        assert_eq!(
            origin(&place, &found),
            format!("of the Python package torch, {}", package.display())
        );
        let own = Libtorch {
            path: place.join("libtorch/2.13.0-cpu/torch"),
            ..found.clone()
        };
        assert_eq!(origin(&place, &own), "fetched by setup");
        let other = Libtorch {
            path: "/opt/libtorch".into(),
            ..found
        };
        assert_eq!(origin(&place, &other), "in /opt/libtorch");
        // What is no libtorch, and one without headers.
        let nothing = scratch.0.join("nothing");
        assert_eq!(
            named(&nothing, "--torch").unwrap_err().to_string(),
            format!(
                "--torch names {}, where there is no libtorch\nhint: name a folder that holds lib/ and include/, or a \
                 Python that has PyTorch, or leave --torch out and 2.13.0 is fetched",
                nothing.display()
            )
        );
        std::fs::remove_dir_all(package.join("include")).unwrap();
        let error = named(&package, "--torch").unwrap_err().to_string();
        assert!(
            error.contains("which has libtorch's libraries but not its headers"),
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
        assert!(named(&scratch.0, "LIBTORCH").is_ok());
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
