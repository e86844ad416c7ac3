//! CIFAR-10, in its binary version.

use super::files::{Remote, find_all};
use super::{About, ImageSet};
use crate::data::TensorDataset;
use crate::error::{Error, Kind, Result};
use std::path::Path;
use std::process::Command;
use tch::{Kind as TKind, Tensor};

const ABOUT: About = About {
    name: "CIFAR-10",
    source: "Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), www.cs.toronto.edu/~kriz/cifar.html",
    licence: "none is stated; the authors ask to cite the report",
};

const ARCHIVE: Remote = Remote {
    name: "cifar-10-binary.tar.gz",
    packed: "",
    sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
};

/// Where the archive puts its files.
const INSIDE: &str = "cifar-10-batches-bin";

/// A label and three planes of 32 by 32.
const RECORD: usize = 1 + 3 * 32 * 32;

/// Reads CIFAR-10's six binary files from `cifar-10-batches-bin` in a folder; without them, unpacks the archive that is there
/// with `tar`, or downloads it first (170 MB). Images are `[n, 3, 32, 32]` of `Kind::Uint8`, for
/// [`transforms`](crate::transforms): 50,000 to train with and 10,000 to test.
///
/// # Errors
/// When the archive is missing and cannot be downloaded, or a file is damaged.
pub fn cifar10(folder: impl AsRef<Path>) -> Result<ImageSet> {
    load(folder.as_ref(), &["https://www.cs.toronto.edu/~kriz"])
}

fn load(folder: &Path, mirrors: &[&str]) -> Result<ImageSet> {
    let train: Vec<_> = (1..=5).map(|part| format!("data_batch_{part}.bin")).collect();
    let inside = folder.join(INSIDE);
    let there = |name: &String| inside.join(name).is_file();
    if !train.iter().all(there) || !there(&"test_batch.bin".to_owned()) {
        let archive = find_all(folder, &ABOUT, &[ARCHIVE], mirrors).map_err(|error| {
            let message = error.message().to_owned();
            Error::new(error.kind(), message).hint(format!(
                "put the archive there, or {INSIDE} with data_batch_1.bin to data_batch_5.bin and test_batch.bin"
            ))
        })?;
        let unpacked = Command::new("tar")
            .arg("-xzf")
            .args(&archive)
            .arg("-C")
            .arg(folder)
            .output();
        let out = unpacked.map_err(|error| Error::new(Kind::Data, format!("cannot run tar: {error}")))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            return Err(Error::new(Kind::Data, format!("{}: {said}", archive[0].display())));
        }
    }
    let classes = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck";
    Ok(ImageSet {
        train: read(&inside, &train)?,
        test: read(&inside, &["test_batch.bin".to_owned()])?,
        classes: classes.split(',').collect(),
        about: ABOUT,
    })
}

fn read(folder: &Path, names: &[String]) -> Result<TensorDataset> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for name in names {
        let path = folder.join(name);
        let wrong = |what: String| Error::new(Kind::Data, format!("{}: {what}", path.display()));
        let bytes = std::fs::read(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if bytes.is_empty() || bytes.len() % RECORD != 0 {
            return Err(wrong(format!(
                "{} bytes are no images of {RECORD} bytes each",
                bytes.len()
            )));
        }
        for (at, record) in bytes.chunks_exact(RECORD).enumerate() {
            if record[0] > 9 {
                return Err(wrong(format!(
                    "the label of image {at} is {}, which is no class",
                    record[0]
                )));
            }
            labels.push(i64::from(record[0]));
            images.extend_from_slice(&record[1..]);
        }
    }
    let images = Tensor::f_from_data_size(&images, &[labels.len() as i64, 3, 32, 32], TKind::Uint8)?;
    TensorDataset::new(images, Tensor::from_slice(&labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::tests::Folder;

    #[test]
    fn files_in_a_folder_are_read_without_a_network() {
        let _turn = crate::tests::in_turn();
        let folder = Folder::new("cifar");
        let error = load(&folder.0, &[]).unwrap_err();
        assert!(
            error.message().contains("(there is no cifar-10-binary.tar.gz)"),
            "{error}"
        );
        assert!(error.hint_text().unwrap().contains("data_batch_5.bin"));
        let inside = folder.0.join(INSIDE);
        std::fs::create_dir_all(&inside).unwrap();
        let record = |label: u8| {
            let mut record = vec![label; RECORD];
            record[RECORD - 1] = 200;
            record
        };
        for part in 1..=5 {
            std::fs::write(
                inside.join(format!("data_batch_{part}.bin")),
                [record(part), record(0)].concat(),
            )
            .unwrap();
        }
        std::fs::write(inside.join("test_batch.bin"), record(9)).unwrap();
        let set = load(&folder.0, &[]).unwrap();
        assert_eq!(
            (set.train.x().size(), set.test.y().int64_value(&[0])),
            (vec![10, 3, 32, 32], 9)
        );
        assert_eq!(set.train.x().int64_value(&[8, 2, 31, 31]), 200);
        assert_eq!((set.train.y().int64_value(&[8]), set.classes[5]), (5, "dog"));
        std::fs::write(inside.join("test_batch.bin"), &record(9)[1..]).unwrap();
        assert!(
            load(&folder.0, &[])
                .unwrap_err()
                .message()
                .ends_with("3072 bytes are no images of 3073 bytes each")
        );
        std::fs::write(inside.join("test_batch.bin"), record(10)).unwrap();
        assert!(
            load(&folder.0, &[])
                .unwrap_err()
                .message()
                .ends_with("the label of image 0 is 10, which is no class")
        );
    }
}
