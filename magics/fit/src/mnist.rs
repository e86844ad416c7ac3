//! MNIST, from a folder or downloaded into it. Yann LeCun, Corinna Cortes and Christopher J. C. Burges made it; it is
//! published under CC BY-SA 3.0.

use crate::data::TensorDataset;
use crate::error::{Error, Kind, Result};
use crate::readers::idx;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::{IndexOp, Kind as TKind};

/// MNIST: images as `[n, 784]` of `Kind::Float` between 0 and 1, labels as `[n]` of `Kind::Int64`.
#[derive(Debug)]
pub struct Mnist {
    /// 60,000 images.
    pub train: TensorDataset,
    /// 10,000 images.
    pub test: TensorDataset,
}

/// The four files, each with the SHA-256 of what is in it (not compressed).
const FILES: [(&str, &str); 4] = [
    (
        "train-images-idx3-ubyte",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    (
        "train-labels-idx1-ubyte",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    (
        "t10k-images-idx3-ubyte",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    (
        "t10k-labels-idx1-ubyte",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
];

/// Mirrors, in the order in which they are tried.
const MIRRORS: [&str; 2] = [
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
];

/// Reads MNIST's four IDX files from a folder; each may also be compressed (`.gz`). Files that are not there are
/// downloaded into it with `curl`, and checked.
///
/// # Errors
/// When a file is missing and cannot be downloaded, or is damaged; the message names all that are missing.
///
/// ```no_run
/// use lightcell::prelude::*;
/// let digits = mnist("data/mnist")?;
/// let (train, val) = digits.train.split(55.0 / 60.0)?;
/// let data = Data::new(train).val(val).test(digits.test).batch_size(64);
/// # Ok::<(), Error>(())
/// ```
pub fn mnist(folder: impl AsRef<Path>) -> Result<Mnist> {
    load(folder.as_ref(), &MIRRORS)
}

fn load(folder: &Path, mirrors: &[&str]) -> Result<Mnist> {
    let missing: Vec<_> = FILES.iter().filter(|(name, _)| find(folder, name).is_none()).collect();
    for (name, sum) in &missing {
        if let Err(error) = download(folder, name, sum, mirrors) {
            let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
            return Err(Error::new(Kind::Data, format!("MNIST is not in {} (there is no {}), and the download failed: {}", folder.display(), names.join(", "), error.message()))
                .hint("put the four IDX files there (as they are, or with .gz), or connect to the network and run the cell again"));
        }
    }
    let mut parts = Vec::new();
    for (name, _) in FILES {
        let path = find(folder, name)
            .ok_or_else(|| Error::new(Kind::Data, format!("{name} is gone from {}", folder.display())))?;
        parts.push(idx(path)?);
    }
    let dataset = |images: &tch::Tensor, labels: &tch::Tensor| -> Result<TensorDataset> {
        let n = images.size().first().copied().unwrap_or(0);
        TensorDataset::new(
            images.f_view([n, -1])?.to_kind(TKind::Float) / 255.0,
            labels.i(..).to_kind(TKind::Int64),
        )
    };
    Ok(Mnist {
        train: dataset(&parts[0], &parts[1])?,
        test: dataset(&parts[2], &parts[3])?,
    })
}

/// Under the usual name, compressed, or in the other spelling that is about.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [name.to_owned(), format!("{name}.gz"), name.replacen("-idx", ".idx", 1)]
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

fn download(folder: &Path, name: &str, sum: &str, mirrors: &[&str]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::new(Kind::Data, format!("cannot make {}: {error}", folder.display())))?;
    let beside = folder.join(format!(".{name}.partial-{}", std::process::id()));
    let mut last = Error::new(Kind::Data, "there is no mirror");
    for mirror in mirrors {
        let result = fetch(&format!("{mirror}/{name}.gz"), &beside, sum, &folder.join(name));
        let _ = std::fs::remove_file(&beside);
        match result {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn fetch(address: &str, beside: &Path, sum: &str, to: &Path) -> Result<()> {
    let curl = Command::new("curl")
        .args([
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
            "-o",
        ])
        .arg(beside)
        .arg(address)
        .output();
    let out = curl.map_err(|error| Error::new(Kind::Data, format!("cannot run curl: {error}")))?;
    if !out.status.success() {
        return Err(Error::new(
            Kind::Data,
            String::from_utf8_lossy(&out.stderr).trim().to_owned(),
        ));
    }
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(beside)?).read_to_end(&mut content)?;
    let found: String = Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found != sum {
        return Err(Error::new(
            Kind::Data,
            format!("{address} is not the file it should be (its SHA-256 is {found})"),
        ));
    }
    std::fs::write(beside, &content)?;
    Ok(std::fs::rename(beside, to)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::tests::{Folder, gzip};

    #[test]
    fn it_says_which_files_it_wants() {
        let folder = Folder::new("mnist");
        folder.file("train-images-idx3-ubyte", b"");
        let error = load(&folder.0, &[]).unwrap_err();
        assert!(
            error
                .message()
                .contains("(there is no train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte)"),
            "{error}"
        );
        assert!(error.hint_text().is_some());
    }

    #[test]
    fn a_download_is_checked_and_put_in_its_place_whole() {
        let (mirror, target) = (Folder::new("mirror"), Folder::new("target"));
        mirror.file("good.gz", &gzip(b"content"));
        let sum = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
        let address = format!("file://{}", mirror.0.display());
        download(&target.0, "good", sum, &["file:///nonexistent", &address]).unwrap();
        assert_eq!(std::fs::read(target.0.join("good")).unwrap(), b"content");
        let error = download(&target.0, "good", "00", &[&address]).unwrap_err();
        assert!(error.message().contains("is not the file it should be"), "{error}");
        assert_eq!(std::fs::read_dir(&target.0).unwrap().count(), 1);
    }
}
