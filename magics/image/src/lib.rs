//! Images in files for the training library: PNG and JPEG, one by one or in folders, one for each class. A crate of its own, as
//! decoders take long to compile: a notebook adds it with `%dep lightcell-image`. What changes images is in
//! [`lightcell::transforms`].

use lightcell::tch::{Kind as TKind, Tensor};
use lightcell::{Dataset, Error, ErrorKind, Result};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Endings of files that are read.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Reads a PNG or JPEG file into a tensor `[3, height, width]` of `Kind::Uint8`: red, green, blue.
///
/// # Errors
/// When the file cannot be read, or decoded; the message names it.
pub fn read_image(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let wrong = |what: String| Error::new(ErrorKind::Data, format!("{}: {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    decode(&bytes).map_err(|error| wrong(format!("cannot be decoded: {}", error.message())))
}

/// Writes an image, `[height, width]`, `[1, height, width]` or `[3, height, width]`, as a PNG file: bytes (`Kind::Uint8`), or
/// numbers from 0 to 1. torchvision's `write_png`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell_image::{read_image, write_png};
/// # let file = std::env::temp_dir().join(format!("lightcell-doc-{}.png", std::process::id()));
/// write_png(&file, &Tensor::full([20, 30], 0.5, (Kind::Float, Device::Cpu)))?;
/// let image = read_image(&file)?;
/// assert_eq!((image.size(), image.int64_value(&[2, 19, 29])), (vec![3, 20, 30], 128));
/// # std::fs::remove_file(&file)?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// When the tensor is no image, or the file cannot be written.
pub fn write_png(path: impl AsRef<Path>, image: &Tensor) -> Result<()> {
    let (path, size) = (path.as_ref(), image.size());
    let (height, width, color) = match size[..] {
        [height, width] | [1, height, width] => (height, width, png::ColorType::Grayscale),
        [3, height, width] => (height, width, png::ColorType::Rgb),
        _ => {
            let what = format!("an image is [height, width] or [1 or 3, height, width], not {size:?}");
            return Err(Error::new(ErrorKind::Shape, what));
        }
    };
    let image = match image.kind() {
        TKind::Uint8 => image.shallow_clone(),
        _ => (image.f_clamp(0.0, 1.0)? * 255.0).f_round()?.f_to_kind(TKind::Uint8)?,
    };
    let pixels = image
        .f_view([-1, height, width])?
        .f_permute([1, 2, 0])?
        .f_reshape([-1])?;
    let pixels = Vec::<u8>::try_from(&pixels)?;
    let wrong = |what: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Data,
            format!("{}: cannot be written: {what}", path.display()),
        )
    };
    let file = std::fs::File::create(path).map_err(|error| wrong(&error))?;
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), width as u32, height as u32);
    encoder.set_color(color);
    let mut writer = encoder.write_header().map_err(|error| wrong(&error))?;
    writer.write_image_data(&pixels).map_err(|error| wrong(&error))?;
    writer.finish().map_err(|error| wrong(&error))
}

/// The image in the bytes of a PNG or JPEG file, whatever its ending says.
///
/// # Errors
/// When they are none, or damaged.
fn decode(bytes: &[u8]) -> Result<Tensor> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => {
            let (width, height, pixels) = from_png(bytes).map_err(wrong)?;
            image(width, height, &pixels)
        }
        [0xff, 0xd8, ..] => from_jpeg(bytes),
        _ => Err(wrong("it is neither a PNG nor a JPEG file")),
    }
}

/// Pixels, row after row, as an image.
fn image(width: usize, height: usize, pixels: &[u8]) -> Result<Tensor> {
    let pixels = Tensor::f_from_data_size(pixels, &[height as i64, width as i64, 3], TKind::Uint8)?;
    // A view: resizing reads pixels with their channels beside each other faster.
    Ok(pixels.f_permute([2, 0, 1])?)
}

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Data, what.to_string().lines().collect::<Vec<_>>().join(" "))
}

/// Width, height and bytes, red, green and blue.
type Pixels = (usize, usize, Vec<u8>);

fn from_png(bytes: &[u8]) -> std::result::Result<Pixels, String> {
    let text = |error: png::DecodingError| error.to_string();
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(text)?;
    let size = reader.output_buffer_size().ok_or("it is too large")?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(size).map_err(|_| "it is too large")?;
    pixels.resize(size, 0);
    let frame = reader.next_frame(&mut pixels).map_err(text)?;
    pixels.truncate(frame.buffer_size());
    // What is transparent keeps the color that it has below.
    let rgb = match frame.color_type.samples() {
        1 => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
        2 => pixels.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        3 => pixels,
        _ => pixels
            .chunks_exact(4)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect(),
    };
    Ok((frame.width as usize, frame.height as usize, rgb))
}

/// Bytes of a decoder's memory that a thread keeps for its next image.
const KEPT: usize = 16 << 20;

thread_local! {
    /// The system takes longer to give new memory than it takes to fill it.
    static PIXELS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn from_jpeg(bytes: &[u8]) -> Result<Tensor> {
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(wrong)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| wrong("it says no size"))?;
    let size = 3 * width * height;
    let mut pixels = PIXELS.take();
    if pixels.len() < size {
        pixels = vec![0; size];
    }
    decoder.decode_into(&mut pixels[..size]).map_err(wrong)?;
    let image = image(width, height, &pixels[..size])?;
    if pixels.len() <= KEPT {
        PIXELS.set(pixels);
    }
    Ok(image)
}

/// Images in folders named after their classes: torchvision's `ImageFolder`. A sample is the image, `[3, height, width]` of
/// `Kind::Uint8`, and the number of its class in the order of the names.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::transforms::*;
/// use lightcell_image::ImageFolder;
/// # let folder = std::env::temp_dir().join(format!("lightcell-doc-images-{}", std::process::id()));
/// # for class in ["cats", "dogs"] {
/// #     std::fs::create_dir_all(folder.join(class))?;
/// #     let image = Tensor::zeros([3, 30, 40], (Kind::Float, Device::Cpu));
/// #     lightcell_image::write_png(folder.join(class).join("1.png"), &image)?;
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
            return Err(
                Error::new(ErrorKind::Data, format!("{} has no folders", folder.display()))
                    .hint("each class has a folder of its own with its images: `folder/cats/1.jpg`"),
            );
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
                ErrorKind::Data,
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
        Error::new(ErrorKind::Data, format!("cannot read {}: {error}", folder.display()))
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
                ErrorKind::Data,
                format!("there is no sample {index} among {}", self.files.len()),
            ));
        };
        let bytes =
            std::fs::read(path).map_err(|error| Error::new(ErrorKind::Data, format!("cannot be read: {error}")))?;
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
    use lightcell::DataLoader;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("lightcell-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// As wide as it is said and 3 high: how far right, how far down, and 7.
    fn save(folder: &Folder, path: &str, width: u16) {
        let path = folder.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let places = (0..3).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels: Vec<u8> = places.flat_map(|(x, y)| [x as u8, y, 7]).collect();
        if path.extension().unwrap() == "jpg" {
            let encoder = jpeg_encoder::Encoder::new_file(&path, 100).unwrap();
            return encoder.encode(&pixels, width, 3, jpeg_encoder::ColorType::Rgb).unwrap();
        }
        let image = Tensor::from_slice(&pixels).view([3, i64::from(width), 3]);
        write_png(path, &image.permute([2, 0, 1])).unwrap();
    }

    #[test]
    fn every_kind_of_png_becomes_red_green_and_blue() {
        use png::{BitDepth, ColorType};
        let kinds = [
            (ColorType::Grayscale, BitDepth::Eight, vec![9], [9, 9, 9]),
            (ColorType::Grayscale, BitDepth::One, vec![0x80], [255, 255, 255]),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, vec![9, 0], [9, 9, 9]),
            (ColorType::Rgb, BitDepth::Sixteen, vec![1, 0, 2, 0, 3, 0], [1, 2, 3]),
            (ColorType::Rgba, BitDepth::Eight, vec![1, 2, 3, 100], [1, 2, 3]),
            (ColorType::Indexed, BitDepth::Eight, vec![1], [4, 5, 6]),
        ];
        for (color, depth, data, expected) in kinds {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
            encoder.set_color(color);
            encoder.set_depth(depth);
            encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
            let mut writer = encoder.write_header().unwrap();
            writer.write_image_data(&data).unwrap();
            writer.finish().unwrap();
            let image = decode(&bytes).unwrap();
            assert_eq!(image.size(), [3, 1, 1], "{color:?}");
            let pixel = [0, 1, 2].map(|channel| image.int64_value(&[channel, 0, 0]));
            assert_eq!(pixel, expected, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn jpegs_in_grey_and_color_are_read_and_damaged_ones_are_errors() {
        use jpeg_encoder::{ColorType, Encoder};
        let encoded = |pixels: &[u8], color| {
            let mut bytes = Vec::new();
            Encoder::new(&mut bytes, 100).encode(pixels, 16, 16, color).unwrap();
            bytes
        };
        for (bytes, expected) in [
            (encoded(&[90; 256], ColorType::Luma), [90, 90, 90]),
            (encoded(&[200, 30, 90].repeat(256), ColorType::Rgb), [200, 30, 90]),
        ] {
            let image = decode(&bytes).unwrap();
            for (channel, value) in expected.iter().enumerate() {
                let found = image.int64_value(&[channel as i64, 8, 8]);
                assert!((found - value).abs() <= 2, "{found} {value}");
            }
            assert!(decode(&bytes[..bytes.len() / 2]).is_err());
        }
        // Of a thread that reads several, a smaller image has nothing of the larger one before it.
        for side in [64u16, 8, 40] {
            let mut bytes = Vec::new();
            let pixels: Vec<u8> = [side as u8, 2 * side as u8, 7].repeat(usize::from(side).pow(2));
            Encoder::new(&mut bytes, 100)
                .encode(&pixels, side, side, ColorType::Rgb)
                .unwrap();
            let image = decode(&bytes).unwrap();
            assert_eq!(image.size(), [3, i64::from(side), i64::from(side)]);
            let means = image
                .to_kind(TKind::Float)
                .mean_dim([1, 2].as_slice(), false, TKind::Float);
            for (mean, value) in Vec::<f32>::try_from(&means).unwrap().iter().zip([side, 2 * side, 7]) {
                assert!((mean - f32::from(value)).abs() < 2.0, "{side}: {mean} {value}");
            }
        }
        let error = write_png(
            "/nonexistent/a.png",
            &Tensor::zeros([2, 2], (TKind::Uint8, lightcell::tch::Device::Cpu)),
        );
        assert!(error.unwrap_err().message().contains("a.png: cannot be written"));
        let error = write_png(
            "a.png",
            &Tensor::zeros([4, 2, 2], (TKind::Uint8, lightcell::tch::Device::Cpu)),
        );
        assert!(error.unwrap_err().message().ends_with("not [4, 2, 2]"));
    }

    #[test]
    fn folders_are_classes() {
        let folder = Folder::new("imagefolder");
        for path in ["dog/b.png", "dog/a.PNG", "cat/deep/c.jpg", "cat/.hidden.png"] {
            save(&folder, path, 5);
        }
        std::fs::write(folder.0.join("readme.txt"), b"no class").unwrap();
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
