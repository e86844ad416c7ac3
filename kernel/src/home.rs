//! Where an installation lies, and what set-up wrote about it.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The installation's folder and what `setup.json` in it says.
#[derive(Debug, Clone)]
pub struct Home {
    /// `LIGHTCELL_HOME`, else `lightcell` in the user's data folder.
    pub root: PathBuf,
    /// What set-up found and made.
    pub setup: Setup,
}

/// `setup.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Setup {
    /// Cargo's own program, not rustup's proxy.
    pub cargo: PathBuf,
    /// rustc's own program.
    pub rustc: PathBuf,
    /// libtorch, as found or fetched.
    pub libtorch: Libtorch,
    /// Folder of libtch.so.
    pub libtch: PathBuf,
    /// Sources of the training library and the worker.
    pub src: PathBuf,
}

/// The libtorch in use.
#[derive(Debug, Clone, Deserialize)]
pub struct Libtorch {
    /// Folder with `lib/` and `include/`.
    pub path: PathBuf,
    /// Such as `2.13.0`.
    pub version: String,
}

impl Home {
    /// The folder, whether or not there is an installation in it.
    pub fn folder() -> Result<PathBuf> {
        if let Some(named) = std::env::var_os("LIGHTCELL_HOME").filter(|value| !value.is_empty()) {
            return Ok(PathBuf::from(named));
        }
        let data = match std::env::var_os("XDG_DATA_HOME").filter(|value| !value.is_empty()) {
            Some(data) => PathBuf::from(data),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".local/share"),
        };
        Ok(data.join("lightcell"))
    }

    /// Reads the installation.
    ///
    /// # Errors
    /// When set-up has not run, or what it wrote cannot be read.
    pub fn open() -> Result<Home> {
        let root = Home::folder()?;
        let file = root.join("setup.json");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!(
                    "Lightcell is not set up: there is no {}\nhint: run `lightcell setup`",
                    file.display()
                )
            }
            Err(error) => bail!("cannot read {}: {error}", file.display()),
        };
        let setup = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged\nhint: run `lightcell setup`", file.display()))?;
        Ok(Home { root, setup })
    }

    /// The worker for this rustc.
    pub fn worker(&self, rustc: &Rustc) -> Result<PathBuf> {
        let sources = self.setup.src.join("kernel");
        let key = key(&[
            &rustc.version,
            &digest(&sources.join("worker"))?,
            &digest(&sources.join("events"))?,
        ]);
        Ok(self.root.join("toolchains").join(key).join("lightcell-worker"))
    }

    /// The warm store for this rustc, libtorch and version of the sources.
    pub fn store(&self, rustc: &Rustc) -> Result<PathBuf> {
        let src = &self.setup.src;
        let key = key(&[
            &rustc.version,
            &self.setup.libtorch.version,
            &self.setup.libtorch.path.to_string_lossy(),
            &digest(&src.join("magics/fit"))?,
            &digest(&src.join("magics/gpu"))?,
            &digest(&src.join("magics/pickle"))?,
            &digest(&src.join("magics/torch"))?,
            &digest(&src.join("kernel/cell"))?,
            &digest(&src.join("kernel/events"))?,
            &digest(&src.join("kernel/session"))?,
            STORE_FORMAT,
        ]);
        Ok(self.root.join("store").join(key))
    }

    /// Folders of libraries that cells need: libtch and libtorch.
    pub fn libraries(&self) -> [PathBuf; 2] {
        [self.setup.libtch.clone(), self.setup.libtorch.path.join("lib")]
    }

    /// libtorch_cuda, where it is there and there is a driver for it.
    pub fn libtorch_cuda(&self) -> Option<PathBuf> {
        let cuda = self.setup.libtorch.path.join("lib/libtorch_cuda.so");
        (cuda.exists() && Path::new("/proc/driver/nvidia/version").exists()).then_some(cuda)
    }
}

/// Changes when the layout of a store changes.
const STORE_FORMAT: &str = "5";

/// The compiler that cells are compiled with.
#[derive(Debug, Clone)]
pub struct Rustc {
    /// Its program.
    pub path: PathBuf,
    /// `rustc -vV`.
    pub version: String,
    /// Folder of libstd.so.
    pub libdir: PathBuf,
}

impl Rustc {
    /// The rustc that evcxr is going to use here: rustup's choice for this folder, else the one on PATH, else the one
    /// that set-up found.
    pub fn find(setup: &Setup) -> Result<Rustc> {
        let rustup = std::process::Command::new("rustup").args(["which", "rustc"]).output();
        if let Ok(out) = rustup
            && out.status.success()
        {
            return Rustc::ask(Path::new(String::from_utf8_lossy(&out.stdout).trim()));
        }
        let on_path = std::env::var_os("PATH").and_then(|path| find("rustc", &path));
        Rustc::ask(&on_path.unwrap_or_else(|| setup.rustc.clone()))
    }

    /// Asks the compiler.
    pub fn ask(path: &Path) -> Result<Rustc> {
        let run = |args: &[&str]| -> Result<String> {
            let out = std::process::Command::new(path).args(args).output();
            let out = out.map_err(|error| {
                anyhow::anyhow!(
                    "cannot run the compiler {}: {error}\nhint: `lightcell doctor` says what is missing",
                    path.display()
                )
            })?;
            if !out.status.success() {
                bail!(
                    "{} {} failed: {}",
                    path.display(),
                    args.join(" "),
                    String::from_utf8_lossy(&out.stderr).trim()
                );
            }
            Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        };
        Ok(Rustc {
            path: path.to_owned(),
            version: run(&["-vV"])?,
            libdir: run(&["--print", "target-libdir"])?.into(),
        })
    }
}

/// A program in the folders of a PATH.
pub fn find(name: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn key(parts: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A digest of all files below a folder: names and contents.
fn digest(folder: &Path) -> Result<String> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, into)?;
            } else {
                into.push(path);
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    walk(folder, &mut files)
        .with_context(|| format!("cannot read {}\nhint: run `lightcell setup`", folder.display()))?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.strip_prefix(folder).unwrap_or(&file).hash(&mut hasher);
        std::fs::read(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
