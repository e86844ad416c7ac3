//! A data set's files: looked for in a folder, downloaded into it, checked.

use super::About;
use crate::error::{Error, Kind, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of a data set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote {
    /// Its name in the folder.
    pub name: &'static str,
    /// What is added to the name where it is downloaded from: `.gz` for one that is unpacked then.
    pub packed: &'static str,
    /// SHA-256 of the file as it stands in the folder.
    pub sha256: &'static str,
}

/// The paths of a data set's files, in the folder or downloaded into it.
///
/// # Errors
/// When a file is missing and cannot be downloaded, or is damaged; the message names all that are missing.
pub(super) fn find_all(folder: &Path, about: &About, files: &[Remote], mirrors: &[&str]) -> Result<Vec<PathBuf>> {
    let missing: Vec<&Remote> = files.iter().filter(|file| find(folder, file.name).is_none()).collect();
    if !missing.is_empty() && !mirrors.is_empty() {
        eprintln!("Downloading {about}");
    }
    for file in &missing {
        if let Err(error) = download(folder, file, mirrors) {
            let names: Vec<&str> = missing.iter().map(|file| file.name).collect();
            return Err(Error::new(
                Kind::Data,
                format!(
                    "{} is not in {} (there is no {}), and the download failed: {}",
                    about.name,
                    folder.display(),
                    names.join(", "),
                    error.message()
                ),
            )
            .hint(format!(
                "put {} there, or connect to the network and run the cell again: a download goes on where it stopped",
                if missing.len() == 1 { "the file" } else { "these files" }
            )));
        }
    }
    let gone = |file: &Remote| Error::new(Kind::Data, format!("{} is gone from {}", file.name, folder.display()));
    files
        .iter()
        .map(|file| find(folder, file.name).ok_or_else(|| gone(file)))
        .collect()
}

/// Under the usual name, compressed, or in the other spelling that is about of MNIST's.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [name.to_owned(), format!("{name}.gz"), name.replacen("-idx", ".idx", 1)]
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

fn download(folder: &Path, file: &Remote, mirrors: &[&str]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::new(Kind::Data, format!("cannot make {}: {error}", folder.display())))?;
    let beside = folder.join(format!(".{}{}.partial", file.name, file.packed));
    // One process downloads; another that wants the file waits and finds it.
    let lock = File::options().create(true).append(true).open(&beside)?;
    lock.lock()?;
    if find(folder, file.name).is_some() {
        return Ok(());
    }
    let mut last = Error::new(Kind::Data, "there is no mirror");
    for mirror in mirrors {
        match fetch(&format!("{mirror}/{}{}", file.name, file.packed), &beside, file, folder) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn fetch(address: &str, beside: &Path, file: &Remote, folder: &Path) -> Result<()> {
    let options = [
        "--fail",
        "--silent",
        "--show-error",
        "--location",
        "--connect-timeout",
        "10",
        "--speed-limit",
        "1000",
        "--speed-time",
        "30",
        // Where an earlier one stopped.
        "--continue-at",
        "-",
        "-o",
    ];
    let curl = Command::new("curl").args(options).arg(beside).arg(address).output();
    let out = curl.map_err(|error| Error::new(Kind::Data, format!("cannot run curl: {error}")))?;
    // What is there may be whole already: then the server has no range to give, and the sum decides.
    let content = content(beside, file);
    match content {
        Ok(content) if sum(&content) == file.sha256 => {
            let whole = folder.join(format!(".{}.whole", file.name));
            std::fs::write(&whole, &content)?;
            std::fs::rename(&whole, folder.join(file.name))?;
            let _ = std::fs::remove_file(beside);
            Ok(())
        }
        _ if !out.status.success() => {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            Err(Error::new(Kind::Data, said))
        }
        content => {
            // Another file, which nothing can be added to.
            File::create(beside)?;
            let found = content.map_or_else(
                |_| "it cannot be unpacked".to_owned(),
                |content| format!("its SHA-256 is {}", sum(&content)),
            );
            Err(Error::new(
                Kind::Data,
                format!("{address} is not the file it should be ({found})"),
            ))
        }
    }
}

fn content(path: &Path, file: &Remote) -> Result<Vec<u8>> {
    let (mut content, downloaded) = (Vec::new(), File::open(path)?);
    match file.packed {
        ".gz" => flate2::read::GzDecoder::new(downloaded).read_to_end(&mut content)?,
        _ => std::io::BufReader::new(downloaded).read_to_end(&mut content)?,
    };
    Ok(content)
}

fn sum(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::readers::tests::{Folder, gzip};

    pub const ABOUT: About = About {
        name: "Toy",
        source: "nobody",
        licence: "CC0",
    };

    /// SHA-256 of `content`.
    const SUM: &str = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";

    fn remote(name: &'static str, packed: &'static str, sha256: &'static str) -> Remote {
        Remote { name, packed, sha256 }
    }

    #[test]
    fn it_says_which_files_it_wants() {
        let folder = Folder::new("wanted");
        folder.file("a", b"");
        let files = ["a", "b", "c"].map(|name| remote(name, "", SUM));
        let error = find_all(&folder.0, &ABOUT, &files, &[]).unwrap_err();
        assert!(
            error.message().starts_with("Toy is not in ") && error.message().contains("(there is no b, c)"),
            "{error}"
        );
        assert!(error.hint_text().unwrap().starts_with("put these files there"));
        assert!(error.message().ends_with("there is no mirror"));
        folder.file("b.gz", b"");
        folder.file("c", b"");
        let found = find_all(&folder.0, &ABOUT, &files, &[]).unwrap();
        assert!(found[1].ends_with("b.gz"));
    }

    #[test]
    fn a_download_is_checked_and_put_in_its_place_whole() {
        let (mirror, target) = (Folder::new("mirror"), Folder::new("target"));
        mirror.file("good.gz", &gzip(b"content"));
        mirror.file("plain", b"content");
        let address = format!("file://{}", mirror.0.display());
        for (name, packed) in [("good", ".gz"), ("plain", "")] {
            download(
                &target.0,
                &remote(name, packed, SUM),
                &["file:///nonexistent", &address],
            )
            .unwrap();
            assert_eq!(std::fs::read(target.0.join(name)).unwrap(), b"content");
        }
        std::fs::remove_file(target.0.join("good")).unwrap();
        let bad = remote("good", ".gz", "00");
        let error = download(&target.0, &bad, &[&address]).unwrap_err();
        assert!(error.message().contains("is not the file it should be"), "{error}");
        assert!(!target.0.join("good").exists());
    }

    #[test]
    fn a_download_goes_on_where_it_stopped() {
        let (mirror, target) = (Folder::new("mirror2"), Folder::new("target2"));
        mirror.file("plain", b"xxxxent");
        let address = format!("file://{}", mirror.0.display());
        // The beginning is there: only the end is taken from the mirror.
        target.file(".plain.partial", b"cont");
        download(&target.0, &remote("plain", "", SUM), &[&address]).unwrap();
        assert_eq!(std::fs::read(target.0.join("plain")).unwrap(), b"content");
        assert_eq!(std::fs::read_dir(&target.0).unwrap().count(), 1);
        // All is there, but was not put in its place.
        std::fs::remove_file(target.0.join("plain")).unwrap();
        target.file(".plain.partial", b"content");
        download(&target.0, &remote("plain", "", SUM), &[&address]).unwrap();
        assert!(target.0.join("plain").exists());
    }
}
