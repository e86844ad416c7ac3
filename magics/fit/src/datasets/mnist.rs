//! MNIST and Fashion-MNIST: four files in IDX format each.

use super::files::{Remote, find_all};
use super::{About, ImageSet};
use crate::data::TensorDataset;
use crate::error::Result;
use crate::readers::idx;
use std::path::Path;
use tch::{IndexOp, Kind as TKind};

/// MNIST: images as `[n, 784]` of `Kind::Float` between 0 and 1, labels as `[n]` of `Kind::Int64`.
#[derive(Debug)]
pub struct Mnist {
    /// 60,000 images.
    pub train: TensorDataset,
    /// 10,000 images.
    pub test: TensorDataset,
}

const MNIST: About = About {
    name: "MNIST",
    source: "Yann LeCun, Corinna Cortes, Christopher J. C. Burges",
    licence: "CC BY-SA 3.0",
};

const FASHION: About = About {
    name: "Fashion-MNIST",
    source: "Zalando Research: Xiao, Rasul, Vollgraf (2017), github.com/zalandoresearch/fashion-mnist",
    licence: "MIT",
};

const fn packed(name: &'static str, sha256: &'static str) -> Remote {
    Remote {
        name,
        packed: ".gz",
        sha256,
    }
}

/// The sums are those of the unpacked files.
const MNIST_FILES: [Remote; 4] = [
    packed(
        "train-images-idx3-ubyte",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    packed(
        "train-labels-idx1-ubyte",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    packed(
        "t10k-images-idx3-ubyte",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    packed(
        "t10k-labels-idx1-ubyte",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
];

/// Mirrors, in the order in which they are tried.
const MNIST_MIRRORS: [&str; 2] = [
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
];

const fn plain(name: &'static str, sha256: &'static str) -> Remote {
    Remote {
        name,
        packed: "",
        sha256,
    }
}

/// The sums are those of the compressed files, which stay compressed.
const FASHION_FILES: [Remote; 4] = [
    plain(
        "train-images-idx3-ubyte.gz",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    plain(
        "train-labels-idx1-ubyte.gz",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    plain(
        "t10k-images-idx3-ubyte.gz",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    plain(
        "t10k-labels-idx1-ubyte.gz",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
];

const FASHION_MIRRORS: [&str; 2] = [
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
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
    let (train, test) = load(folder.as_ref(), &MNIST, &MNIST_FILES, &MNIST_MIRRORS)?;
    Ok(Mnist { train, test })
}

/// Reads Fashion-MNIST's four files from a folder, which must not be MNIST's, as their names are the same; or downloads them
/// into it. Images are `[n, 784]` of `Kind::Float` between 0 and 1.
///
/// # Errors
/// As [`mnist`].
pub fn fashion_mnist(folder: impl AsRef<Path>) -> Result<ImageSet> {
    let (train, test) = load(folder.as_ref(), &FASHION, &FASHION_FILES, &FASHION_MIRRORS)?;
    let classes = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot";
    Ok(ImageSet {
        train,
        test,
        classes: classes.split(',').collect(),
        about: FASHION,
    })
}

fn load(folder: &Path, about: &About, files: &[Remote; 4], mirrors: &[&str]) -> Result<(TensorDataset, TensorDataset)> {
    let paths = find_all(folder, about, files, mirrors)?;
    let parts = paths.into_iter().map(idx).collect::<Result<Vec<_>>>()?;
    let dataset = |images: &tch::Tensor, labels: &tch::Tensor| -> Result<TensorDataset> {
        let n = images.size().first().copied().unwrap_or(0);
        TensorDataset::new(
            images.f_view([n, -1])?.to_kind(TKind::Float) / 255.0,
            labels.i(..).to_kind(TKind::Int64),
        )
    };
    Ok((dataset(&parts[0], &parts[1])?, dataset(&parts[2], &parts[3])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::tests::{Folder, gzip};

    #[test]
    fn it_says_which_files_it_wants() {
        let folder = Folder::new("mnist");
        folder.file("train-images-idx3-ubyte", b"");
        let error = load(&folder.0, &MNIST, &MNIST_FILES, &[]).unwrap_err();
        assert!(
            error
                .message()
                .contains("(there is no train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte)"),
            "{error}"
        );
        assert!(error.hint_text().is_some());
    }

    #[test]
    fn files_in_a_folder_are_read_without_a_network() {
        let _turn = crate::tests::in_turn();
        let folder = Folder::new("fashion");
        let images = gzip(
            &[
                &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3][..],
                &[0, 51, 255, 1, 2, 3],
            ]
            .concat(),
        );
        let labels = gzip(&[0, 0, 8, 1, 0, 0, 0, 2, 9, 0]);
        for part in ["train", "t10k"] {
            folder.file(&format!("{part}-images-idx3-ubyte.gz"), &images);
            folder.file(&format!("{part}-labels-idx1-ubyte.gz"), &labels);
        }
        let set = fashion_mnist(&folder.0).unwrap();
        assert_eq!(
            Vec::<f32>::try_from(&set.test.x().select(0, 0)).unwrap(),
            [0.0, 0.2, 1.0]
        );
        assert_eq!(set.classes[set.train.y().int64_value(&[0]) as usize], "Ankle boot");
        assert!(set.about.to_string().ends_with("Licence: MIT."));
    }
}
