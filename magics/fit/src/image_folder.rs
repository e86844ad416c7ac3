//! Images in folders, one for each class. With the crate's feature `image`, which brings decoders of PNG and JPEG.

use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};
use tch::{Kind as TKind, Tensor};

/// Endings of files that are read.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Reads a PNG or JPEG file into a tensor `[3, height, width]` of `Kind::Uint8`: red, green, blue.
///
/// # Errors
/// When the file cannot be read, or decoded; the message names it.
pub fn read_image(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let wrong = |what: String| Error::new(Kind::Data, format!("{}: {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    decode(&bytes).map_err(|error| wrong(format!("cannot be decoded: {}", error.message())))
}

/// The image in the bytes of a PNG or JPEG file.
///
/// # Errors
/// When they are none, or damaged.
fn decode(bytes: &[u8]) -> Result<Tensor> {
    let wrong =
        |error: ::image::ImageError| Error::new(Kind::Data, error.to_string().lines().collect::<Vec<_>>().join(" "));
    let image = ::image::load_from_memory(bytes).map_err(wrong)?.into_rgb8();
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let pixels = Tensor::f_from_data_size(&image, &[height, width, 3], TKind::Uint8)?;
    // A view: resizing reads pixels with their channels beside each other faster.
    Ok(pixels.f_permute([2, 0, 1])?)
}

/// Images in folders named after their classes: torchvision's `ImageFolder`. A sample is the image, `[3, height, width]` of
/// `Kind::Uint8`, and the number of its class in the order of the names.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::transforms::*;
/// # let folder = std::env::temp_dir().join(format!("lightcell-doc-images-{}", std::process::id()));
/// # for class in ["cats", "dogs"] {
/// #     std::fs::create_dir_all(folder.join(class))?;
/// #     image::RgbImage::new(40, 30).save(folder.join(class).join("1.png")).unwrap();
/// # }
/// let images = ImageFolder::new(&folder)?;
/// assert_eq!(images.classes(), ["cats", "dogs"]);
/// let small = images.transform(Compose::new().then(Resize::new(24)).then(CenterCrop::new(24)));
/// let (x, y) = DataLoader::new(small).batch_size(2).num_workers(2).epoch(1, 0).next().unwrap()?;
/// assert_eq!((x.size(), y.size()), (vec![2, 3, 24, 24], vec![2]));
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageFolder {
    classes: Vec<String>,
    files: Vec<(PathBuf, i64)>,
}

impl ImageFolder {
    /// All PNG and JPEG files below the folders in a folder. Names that begin with a dot are left out.
    ///
    /// # Errors
    /// When there is no such folder, it has no folders, or one of them no image; the message names all that have none.
    pub fn new(folder: impl AsRef<Path>) -> Result<ImageFolder> {
        let folder = folder.as_ref();
        let entries = listed(folder)?;
        let classes: Vec<PathBuf> = entries.into_iter().filter(|path| path.is_dir()).collect();
        let names: Vec<String> = classes.iter().map(|path| name(path)).collect();
        if classes.is_empty() {
            return Err(Error::new(Kind::Data, format!("{} has no folders", folder.display()))
                .hint("each class has a folder of its own with its images: `folder/cats/1.jpg`"));
        }
        let (mut files, mut empty) = (Vec::new(), Vec::new());
        for (label, class) in classes.iter().enumerate() {
            let before = files.len();
            images(class, label as i64, &mut files)?;
            if files.len() == before {
                empty.push(names[label].as_str());
            }
        }
        if !empty.is_empty() {
            return Err(Error::new(
                Kind::Data,
                format!("{} has no image of the class {}", folder.display(), empty.join(", ")),
            )
            .hint(format!("images are files that end in {}", ENDINGS.join(", "))));
        }
        Ok(ImageFolder { classes: names, files })
    }

    /// The classes' names, in the order of their labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The label of each sample, for samplers and splits.
    pub fn labels(&self) -> Vec<i64> {
        self.files.iter().map(|(_, label)| *label).collect()
    }

    /// The file of a sample.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.files.get(index).map(|(path, _)| path.as_path())
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is in a folder, sorted.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |error: std::io::Error| {
        let here = std::env::current_dir()
            .map(|here| here.display().to_string())
            .unwrap_or_default();
        Error::new(Kind::Data, format!("cannot read {}: {error}", folder.display()))
            .hint(format!("relative paths start at {here}"))
    };
    let entries = std::fs::read_dir(folder).map_err(wrong)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(wrong)?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn images(folder: &Path, label: i64, files: &mut Vec<(PathBuf, i64)>) -> Result<()> {
    for path in listed(folder)? {
        if path.is_dir() {
            images(&path, label, files)?;
            continue;
        }
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if ENDINGS.contains(&ending.as_str()) {
            files.push((path, label));
        }
    }
    Ok(())
}

impl Dataset for ImageFolder {
    type Item = (Tensor, i64);

    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<(Tensor, i64)> {
        let Some((path, label)) = self.files.get(index) else {
            return Err(Error::new(
                Kind::Data,
                format!("there is no sample {index} among {}", self.files.len()),
            ));
        };
        let bytes = std::fs::read(path).map_err(|error| Error::new(Kind::Data, format!("cannot be read: {error}")))?;
        let image = decode(&bytes).map_err(|error| error.at("the image cannot be decoded"))?;
        Ok((image, *label))
    }

    fn describe(&self, index: usize) -> Option<String> {
        self.path(index).map(|path| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataLoader;
    use crate::readers::tests::Folder;

    fn save(folder: &Folder, path: &str, width: u32) {
        let path = folder.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x, y| ::image::Rgb([x as u8, y as u8, 7]);
        ::image::RgbImage::from_fn(width, 3, pixel).save(path).unwrap();
    }

    #[test]
    fn folders_are_classes() {
        let _turn = crate::tests::in_turn();
        let folder = Folder::new("imagefolder");
        for path in ["dog/b.png", "dog/a.PNG", "cat/deep/c.jpg", "cat/.hidden.png"] {
            save(&folder, path, 5);
        }
        folder.file("readme.txt", b"no class");
        let images = ImageFolder::new(&folder.0).unwrap();
        assert_eq!(
            (images.classes(), images.labels()),
            (&["cat".to_owned(), "dog".to_owned()][..], vec![0, 1, 1])
        );
        assert!(images.path(1).unwrap().ends_with("dog/a.PNG"));
        let (image, label) = images.get(2).unwrap();
        assert_eq!((image.size(), label), (vec![3, 3, 5], 1));
        let pixel = [0, 1, 2].map(|channel| image.int64_value(&[channel, 2, 4]));
        assert_eq!(pixel, [4, 2, 7]);
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let _turn = crate::tests::in_turn();
        let folder = Folder::new("badimages");
        let error = ImageFolder::new(&folder.0).unwrap_err();
        assert!(error.message().ends_with("has no folders"), "{error}");
        save(&folder, "cat/1.png", 4);
        std::fs::create_dir_all(folder.0.join("dog")).unwrap();
        std::fs::create_dir_all(folder.0.join("eel")).unwrap();
        let error = ImageFolder::new(&folder.0).unwrap_err();
        assert!(
            error.message().ends_with("has no image of the class dog, eel"),
            "{error}"
        );
        let whole = std::fs::read(folder.0.join("cat/1.png")).unwrap();
        std::fs::write(folder.0.join("dog/2.png"), &whole[..whole.len() / 2]).unwrap();
        std::fs::write(folder.0.join("eel/3.jpg"), b"no image").unwrap();
        let images = ImageFolder::new(&folder.0).unwrap();
        for workers in [0, 2] {
            let loader = DataLoader::new(images.clone()).num_workers(workers);
            let results: Vec<_> = loader.epoch(1, 0).collect();
            assert!(results[0].is_ok());
            for (at, file) in [(1, "dog/2.png"), (2, "eel/3.jpg")] {
                let message = results[at].as_ref().unwrap_err().message().to_owned();
                let path = folder.0.join(file).display().to_string();
                assert!(
                    message.starts_with(&format!("sample {at} ({path}): the image cannot be decoded: ")),
                    "{message}"
                );
            }
        }
        let error = read_image(folder.0.join("eel/3.jpg")).unwrap_err();
        assert!(error.message().contains("3.jpg: cannot be decoded"), "{error}");
        assert!(
            read_image(folder.0.join("eel/4.jpg"))
                .unwrap_err()
                .message()
                .contains("cannot be read")
        );
    }
}
