//! `lightcell pack`: a notebook with the files that its cells name, as one archive; `lightcell unpack`: out of it again,
//! with a look at checksums and versions.

use crate::place::{self, Place, Setup};
use crate::run::read;
use crate::ui::{self, problem};
use anyhow::{Context, Result};
use lightcell_ipynb::lock::{Lock, Versions};
use lightcell_ipynb::{CellKind, Notebook};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use zip::write::FileOptions;

/// The archive's own file: what is in it, and what it was made with.
const MANIFEST: &str = "lightcell-manifest.json";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    notebook: String,
    made_with: MadeWith,
    files: Vec<Packed>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Packed {
    path: String,
    bytes: u64,
    sha256: String,
}

/// What can make a notebook behave differently elsewhere.
#[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
struct MadeWith {
    lightcell: String,
    rustc: String,
    libtorch: String,
}

/// What is installed here.
pub fn versions(setup: Option<&Setup>) -> Versions {
    Versions {
        lightcell: env!("CARGO_PKG_VERSION").to_owned(),
        rustc: Versions::of_rustc(setup.map(|setup| setup.rustc_version.as_str()).unwrap_or_default()),
        libtorch: setup.map(|setup| setup.libtorch.version.clone()).unwrap_or_default(),
    }
}

impl From<Versions> for MadeWith {
    fn from(all: Versions) -> MadeWith {
        MadeWith {
            lightcell: all.lightcell,
            rustc: all.rustc,
            libtorch: all.libtorch,
        }
    }
}

impl From<MadeWith> for Versions {
    fn from(all: MadeWith) -> Versions {
        Versions {
            lightcell: all.lightcell,
            rustc: all.rustc,
            libtorch: all.libtorch,
        }
    }
}

/// Writes the archive: the notebook, the files in its folder that its cells name, and `with`.
pub fn pack(notebook: &Path, with: &[PathBuf], out: Option<PathBuf>) -> Result<ExitCode> {
    let book = read(notebook)?;
    let folder = notebook.parent().unwrap_or(Path::new("."));
    let own = notebook.file_name().map(PathBuf::from).unwrap_or_default();
    let mut files = vec![own.clone()];
    files.extend(lightcell_ipynb::project::data(&book, folder));
    for more in with {
        let found = inside(folder, more)?;
        files.push(found);
    }
    files.sort();
    files.dedup();
    let out = out.unwrap_or_else(|| notebook.with_extension("zip"));
    let beside = place::beside(&out);
    let file = File::create(&beside).with_context(|| format!("cannot write {}", out.display()))?;
    let mut archive = zip::ZipWriter::new(file);
    let mut manifest = Manifest {
        notebook: own.to_string_lossy().into_owned(),
        made_with: versions(Place::find()?.setup().as_ref()).into(),
        files: Vec::new(),
    };
    for path in &files {
        let name = path.to_string_lossy().into_owned();
        let mut from = File::open(folder.join(path)).with_context(|| format!("cannot read {name}"))?;
        archive.start_file(&name, FileOptions::default().large_file(true))?;
        let (bytes, sha256) = copy(&mut from, &mut archive).with_context(|| format!("cannot pack {name}"))?;
        manifest.files.push(Packed {
            path: name,
            bytes,
            sha256,
        });
    }
    archive.start_file(MANIFEST, FileOptions::default())?;
    archive.write_all((serde_json::to_string_pretty(&manifest)? + "\n").as_bytes())?;
    archive.finish()?;
    std::fs::rename(&beside, &out).with_context(|| format!("cannot write {}", out.display()))?;
    println!("✓ {}", out.display());
    for file in &manifest.files {
        println!("  {} ({} bytes)", file.path, file.bytes);
    }
    if asks_for_crates(&book) && Lock::of(&book).is_none() {
        ui::note(
            "the notebook adds crates and holds no lock: run %lock in it and save it, and all get the same versions",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a cell adds a crate.
fn asks_for_crates(book: &Notebook) -> bool {
    let code = book.cells().into_iter().filter(|cell| cell.kind == CellKind::Code);
    let mut lines = code.flat_map(|cell| cell.source.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.any(|line| {
        [":dep ", "%dep "]
            .iter()
            .any(|start| line.trim_start().starts_with(start))
    })
}

/// A file that the user names, seen from the notebook's folder.
fn inside(folder: &Path, file: &Path) -> Result<PathBuf> {
    let all = std::fs::canonicalize(file);
    let all = all.map_err(|error| problem(format!("cannot read {}: {error}", file.display()), "name a file"))?;
    let root = std::fs::canonicalize(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })?;
    all.strip_prefix(&root).map(Path::to_owned).map_err(|_| {
        problem(
            format!("{} is not in the notebook's folder", file.display()),
            "put it there, as the notebook must find it there elsewhere, too",
        )
    })
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<(u64, String)> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok((bytes, hex));
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
}

/// Takes an archive apart into a folder, checks it, and says what differs from where it was made.
pub fn unpack(archive: &Path, to: Option<PathBuf>) -> Result<ExitCode> {
    let file = File::open(archive).map_err(|error| {
        problem(
            format!("cannot read {}: {error}", archive.display()),
            "name an archive that `lightcell pack` made",
        )
    })?;
    let not_ours = || {
        problem(
            format!(
                "{} is no archive of `lightcell pack`, or it is damaged",
                archive.display()
            ),
            "get it again",
        )
    };
    let mut zip = zip::ZipArchive::new(file).map_err(|_| not_ours())?;
    let manifest: Manifest = zip
        .by_name(MANIFEST)
        .ok()
        .and_then(|file| serde_json::from_reader(file).ok())
        .ok_or_else(not_ours)?;
    let to = to.unwrap_or_else(|| archive.with_extension(""));
    if std::fs::read_dir(&to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(problem(
            format!("{} holds other things already", to.display()),
            "name a folder that is empty or new",
        ));
    }
    for packed in &manifest.files {
        // An archive from elsewhere writes into its folder and nowhere else.
        let plain = Path::new(&packed.path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !plain {
            return Err(not_ours());
        }
        let target = to.join(&packed.path);
        std::fs::create_dir_all(target.parent().unwrap_or(&to))?;
        let mut from = zip.by_name(&packed.path).map_err(|_| not_ours())?;
        let mut file = File::create(&target).with_context(|| format!("cannot write {}", target.display()))?;
        let sha256 = copy(&mut from, &mut file).map(|(_, hash)| hash).ok();
        if sha256.as_ref() != Some(&packed.sha256) {
            std::fs::remove_file(&target)?;
            return Err(problem(
                format!("{} in the archive is damaged", packed.path),
                "get the archive again; what is whole was unpacked",
            ));
        }
    }
    println!("✓ {} files in {}", manifest.files.len(), to.display());
    let place = Place::find()?;
    let here = versions(place.setup().as_ref());
    Versions::from(manifest.made_with)
        .differences(&here)
        .iter()
        .for_each(|line| ui::note(line));
    println!(
        "  open it: {} lab {}",
        ui::me(&place),
        to.join(&manifest.notebook).display()
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn a_notebook_that_adds_crates_is_told_from_others() {
        let adds = |cell: &str| asks_for_crates(&Notebook::of_cells(&["let a = 1;", cell]));
        assert!(adds("%dep rand") && adds("use x;\n  :dep rand = \"1\"") && !adds("let b = \"%dep\";"));
    }

    #[test]
    fn what_is_packed_comes_out_again_and_damage_is_seen() {
        let scratch = Scratch::new("pack");
        let at = |path: &str| scratch.0.join(path);
        let cells =
            r#"{"cells": [{"cell_type": "code", "source": "csv(\"data/a.csv\")", "outputs": []}], "nbformat": 4}"#;
        place::write(&at("work/a.ipynb"), cells.as_bytes()).unwrap();
        place::write(&at("work/data/a.csv"), b"1,2\n").unwrap();
        place::write(&at("work/other.csv"), b"not named").unwrap();
        place::write(&at("work/best.safetensors"), b"weights").unwrap();
        place::write(&at("outside"), b"x").unwrap();
        pack(&at("work/a.ipynb"), &[at("work/best.safetensors")], Some(at("a.zip"))).unwrap();
        unpack(&at("a.zip"), Some(at("there"))).unwrap();
        let read = |path: &str| std::fs::read(at(path)).ok();
        for (path, from) in [
            ("there/a.ipynb", "work/a.ipynb"),
            ("there/data/a.csv", "work/data/a.csv"),
            ("there/best.safetensors", "work/best.safetensors"),
        ] {
            assert_eq!(read(path), read(from), "{path}");
        }
        assert!(read("there/other.csv").is_none());
        // Into a folder with other things: refused.
        let error = unpack(&at("a.zip"), Some(at("work"))).unwrap_err().to_string();
        assert!(error.contains("holds other things already\nhint: "), "{error}");
        let error = pack(&at("work/a.ipynb"), &[at("outside")], Some(at("b.zip")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("outside is not in the notebook's folder\nhint: "),
            "{error}"
        );
        // A byte of a file that is stored, not compressed: made so by another archiver.
        let file = File::create(at("c.zip")).unwrap();
        let mut archive = zip::ZipWriter::new(file);
        let manifest = Manifest {
            notebook: "a.ipynb".into(),
            made_with: MadeWith::default(),
            files: vec![Packed {
                path: "a.ipynb".into(),
                bytes: 1,
                sha256: "00".into(),
            }],
        };
        archive.start_file("a.ipynb", FileOptions::default()).unwrap();
        archive.write_all(b"x").unwrap();
        archive.start_file(MANIFEST, FileOptions::default()).unwrap();
        archive
            .write_all(serde_json::to_string(&manifest).unwrap().as_bytes())
            .unwrap();
        archive.finish().unwrap();
        let error = unpack(&at("c.zip"), Some(at("damaged"))).unwrap_err().to_string();
        assert!(
            error.starts_with("a.ipynb in the archive is damaged\nhint: "),
            "{error}"
        );
        let error = unpack(&at("outside"), None).unwrap_err().to_string();
        assert!(
            error.contains("is no archive of `lightcell pack`, or it is damaged"),
            "{error}"
        );
    }
}
