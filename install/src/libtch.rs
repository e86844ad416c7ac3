//! libtch: torch-sys's C++ and that of `lightcell-torch`, compiled once into one shared library, so that no notebook
//! compiles it.

use crate::place::{self, Libtorch, Place, output};
use crate::preflight::Tools;
use crate::ui::{self, Step};
use anyhow::{Context, Result};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Builds it, if it is not there for this libtorch and these sources; gives its folder.
pub fn provide(place: &Place, tools: &Tools, src: &Path, libtorch: &Libtorch) -> Result<PathBuf> {
    let lock = src.join("Cargo.lock");
    let text = std::fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let version = locked(&text, "torch-sys").context("torch-sys is not in Cargo.lock")?;
    let mut hasher = DefaultHasher::new();
    (&version, &libtorch.version, &libtorch.path).hash(&mut hasher);
    let own = src.join(OWN);
    for name in ["shim.cpp", "shim.h"] {
        let file = own.join(name);
        let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        text.hash(&mut hasher);
    }
    let folder = place.join(format!("libtch/{:016x}", hasher.finish()));
    let library = folder.join("libtch.so");
    if is_whole(&library) {
        ui::already("libtch", "is there");
        return Ok(folder);
    }
    let sources = torch_sys(tools, src)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    place::remove_partial(&folder);
    let step = Step::new("libtch (torch-sys's C++, about a minute)");
    let work = folder.join(format!(".build.partial-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let files = [
        sources.join("torch_api_generated.cpp"),
        sources.join("torch_api.cpp"),
        own.join("shim.cpp"),
    ];
    let built = compile(place, tools, &files, libtorch, &work).and_then(|object| {
        std::fs::rename(object, &library).with_context(|| format!("cannot write {}", library.display()))
    });
    let _ = std::fs::remove_dir_all(&work);
    built?;
    step.done("built");
    Ok(folder)
}

/// Where the C++ of `lightcell-torch` lies in the sources.
const OWN: &str = "magics/torch/src";

/// Whether a file is a library with tch's functions and ours that was not cut: the table of its sections lies at its end.
pub fn is_whole(library: &Path) -> bool {
    let Ok(file) = std::fs::read(library) else { return false };
    let number = |at: usize, bytes: usize| {
        file.get(at..at + bytes)
            .map(|part| part.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (Some(table), Some(size), Some(count)) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2)) else {
        return false;
    };
    let has = |symbol: &[u8]| file.windows(symbol.len()).any(|part| part == symbol);
    file.starts_with(b"\x7fELF")
        && table.saturating_add(size * count) <= file.len() as u64
        && has(b"at_manual_seed\0")
        && has(b"lightcell_torch_error\0")
}

/// A package's version in a Cargo.lock.
fn locked(lock: &str, package: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("\nname = \"{package}\"\nversion = \""))?;
    rest.split_once('"').map(|(version, _)| version.to_owned())
}

/// Where cargo keeps the sources of torch-sys.
fn torch_sys(tools: &Tools, src: &Path) -> Result<PathBuf> {
    let manifest = src.join("Cargo.toml");
    let metadata = |offline: bool| {
        let mut command = Command::new(&tools.cargo);
        command
            .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
            .arg(&manifest);
        if offline {
            command.arg("--offline");
        }
        output(&mut command)
    };
    let text = match metadata(true) {
        Ok(text) => text,
        Err(_) => {
            let step = Step::new("crates");
            let text = metadata(false).map_err(|error| {
                ui::problem(
                    format!("cargo cannot fetch the crates: {error}"),
                    "connect to the network, then run the same command again",
                )
            })?;
            step.done("fetched");
            text
        }
    };
    let value: serde_json::Value = serde_json::from_str(&text).context("cargo metadata gave no JSON")?;
    let package = value["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "torch-sys")
        .context("torch-sys is not in Cargo.lock")?;
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    Ok(manifest.with_file_name("libtch"))
}

/// Compiles the files, the longest first, as many side by side as there are processors, with the flags of torch-sys's own
/// build script, and links them.
fn compile(place: &Place, tools: &Tools, files: &[PathBuf], libtorch: &Libtorch, work: &Path) -> Result<PathBuf> {
    let include = libtorch.path.join("include");
    let lib = libtorch.path.join("lib");
    let name = |file: &Path| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let one = |file: &PathBuf| {
        let mut command = Command::new(&tools.cxx);
        command
            .args([
                "-std=c++17",
                "-O2",
                "-fPIC",
                "-w",
                "-D_GLIBCXX_USE_CXX11_ABI=1",
                "-DGLOG_USE_GLOG_EXPORT",
                "-I",
            ])
            .arg(&include)
            .arg("-I")
            .arg(include.join("torch/csrc/api/include"))
            .arg("-c")
            .arg(file)
            .arg("-o")
            .arg(work.join(format!("{}.o", name(file))));
        let log = place.join(format!("logs/{}.log", name(file)));
        place::run_logged(&mut command, &log, "the C++ compiler")
    };
    let processors = std::thread::available_parallelism().map_or(1, |number| number.get());
    let waiting = Mutex::new(files.iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        let compiling: Vec<_> = (0..processors.min(files.len()))
            .map(|_| scope.spawn(|| std::iter::from_fn(next).try_for_each(one)))
            .collect();
        compiling.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("the compiler's thread failed")))
        })
    })?;
    let library = work.join("libtch.so");
    let mut command = Command::new(&tools.cxx);
    command
        .args(["-shared", "-o"])
        .arg(&library)
        .args(files.iter().map(|file| work.join(format!("{}.o", name(file)))));
    command
        .arg("-L")
        .arg(&lib)
        .args(["-ltorch_cpu", "-lc10", "-ldl", "-Wl,-soname,libtch.so"])
        .arg(format!("-Wl,-rpath,{}", lib.display()));
    place::run_logged(&mut command, &place.join("logs/libtch-link.log"), "the linker")?;
    Ok(library)
}

/// Cargo's configuration above sources, store and sessions: it takes the place of the build scripts of torch-sys and
/// lightcell-torch, whose C++ is in libtch, and sets how dependencies of cells are compiled.
pub fn cargo_config(libtorch: &Libtorch, libtch: &Path) -> String {
    let text = |path: &Path| toml_text(&path.to_string_lossy());
    let lib = libtorch.path.join("lib");
    let search = toml_text(&format!("native={}", libtch.to_string_lossy()));
    format!(
        "# Written by `lightcell setup`.\n\n[target.x86_64-unknown-linux-gnu.tch]\n\
         rustc-link-lib = [\"dylib=tch\", \"dylib=torch_cpu\", \"dylib=c10\"]\n\
         rustc-link-search = [{search}, {}]\nlibtorch_lib = {}\n\n\
         [target.x86_64-unknown-linux-gnu.lightcell_torch]\n\
         rustc-link-lib = [\"dylib=tch\"]\nrustc-link-search = [{search}]\n\n\
         [profile.dev.package.\"*\"]\nopt-level = 3\ndebug = false\n",
        toml_text(&format!("native={}", lib.to_string_lossy())),
        text(&lib),
    )
}

fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_lock() {
        let lock = "[[package]]\nname = \"torch-sys\"\nversion = \"0.26.0\"\nsource = \"x\"\n";
        assert_eq!(locked(lock, "torch-sys").as_deref(), Some("0.26.0"));
        assert_eq!(locked(lock, "tch"), None);
    }

    #[test]
    fn a_cut_library_is_not_whole() {
        let scratch = crate::place::tests::Scratch::new("libtch");
        let (library, source) = (scratch.0.join("libtch.so"), scratch.0.join("x.c"));
        assert!(!is_whole(&library));
        std::fs::write(
            &source,
            "void at_manual_seed(long seed) { (void)seed; }\nvoid lightcell_torch_error(void) {}",
        )
        .unwrap();
        let mut compiler = Command::new(crate::preflight::cxx().unwrap());
        output(
            compiler
                .args(["-x", "c", "-shared", "-fPIC"])
                .arg(&source)
                .arg("-o")
                .arg(&library),
        )
        .unwrap();
        assert!(is_whole(&library));
        let whole = std::fs::read(&library).unwrap();
        std::fs::write(&library, &whole[..whole.len() - 1000]).unwrap();
        assert!(!is_whole(&library));
        // One of an older version, or of something else.
        for name in [&b"at_manual_seed"[..], b"lightcell_torch_error"] {
            let mut other = whole.clone();
            while let Some(at) = other.windows(name.len()).position(|part| part == name) {
                other[at] = b'x';
            }
            std::fs::write(&library, other).unwrap();
            assert!(!is_whole(&library));
        }
    }

    #[test]
    fn all_files_become_one_library_and_a_fault_in_one_is_said() {
        let scratch = crate::place::tests::Scratch::new("compile");
        let place = Place {
            root: scratch.0.clone(),
        };
        let cxx = crate::preflight::cxx().unwrap();
        // As small a libtorch as can be linked.
        let libtorch = Libtorch {
            path: scratch.0.join("torch"),
            version: "2.13.0".into(),
            variant: "cpu".into(),
        };
        let header = libtorch.path.join("include/torch/csrc/api/include/x.h");
        place::write(&header, b"#define RESULT 3\n").unwrap();
        for name in ["torch_cpu", "c10"] {
            let library = libtorch.path.join(format!("lib/lib{name}.so"));
            std::fs::create_dir_all(library.parent().unwrap()).unwrap();
            let mut empty = Command::new(&cxx);
            output(empty.args(["-x", "c", "-shared", "/dev/null", "-o"]).arg(&library)).unwrap();
        }
        let tools = Tools {
            cargo: "cargo".into(),
            rustc: "rustc".into(),
            rustc_version: String::new(),
            cxx,
            python: "python3".into(),
        };
        let file = |name: &str, text: &str| {
            let file = scratch.0.join(format!("{name}.cpp"));
            place::write(&file, format!("#include <x.h>\nextern \"C\" int {text}\n").as_bytes()).unwrap();
            file
        };
        let files = [
            file("one", "at_manual_seed() { return RESULT; }"),
            file("two", "two() { return RESULT; }"),
            file("three", "lightcell_torch_error() { return RESULT; }"),
        ];
        let work = scratch.0.join("work");
        std::fs::create_dir_all(&work).unwrap();
        assert!(is_whole(&compile(&place, &tools, &files, &libtorch, &work).unwrap()));
        file("two", "two() { return NOTHING_OF_THE_KIND; }");
        let error = compile(&place, &tools, &files, &libtorch, &work)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the C++ compiler failed\n"), "{error}");
        assert!(
            error.contains("NOTHING_OF_THE_KIND") && error.contains("\nhint: "),
            "{error}"
        );
    }

    #[test]
    fn cargos_configuration_names_the_libraries() {
        let libtorch = Libtorch {
            path: "/a b/torch".into(),
            version: "2.13.0".into(),
            variant: "cpu".into(),
        };
        let text = cargo_config(&libtorch, Path::new("/t/\"q\""));
        assert!(text.contains("rustc-link-search = [\"native=/t/\\\"q\\\"\", \"native=/a b/torch/lib\"]\nlibtorch_lib = \"/a b/torch/lib\"\n"), "{text}");
        let own = "[target.x86_64-unknown-linux-gnu.lightcell_torch]\nrustc-link-lib = [\"dylib=tch\"]\nrustc-link-search = [\"native=/t/\\\"q\\\"\"]\n";
        assert!(text.contains(own), "{text}");
    }
}
