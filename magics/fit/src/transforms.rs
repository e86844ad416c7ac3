//! Changes of images on their way into a batch, under torchvision's names. Images are tensors `[channels, height, width]` of
//! bytes (`Kind::Uint8`) or of numbers from 0 to 1 (`Kind::Float`). They run where the loader loads: on its workers, if it
//! has some. What is random is a function of the run's seed, the epoch and the sample.
//!
//! ```
//! use lightcell::prelude::*;
//! use lightcell::transforms::*;
//!
//! let augment = Compose::new()
//!     .then(RandomCrop::new(32).padding(4))
//!     .then(RandomHorizontalFlip::new(0.5))
//!     .then(Normalize::new(&[0.5, 0.5, 0.5], &[0.25, 0.25, 0.25]));
//! let images = Tensor::zeros([10, 3, 32, 32], (Kind::Uint8, Device::Cpu));
//! let labels = Tensor::zeros([10], (Kind::Int64, Device::Cpu));
//! let data = TensorDataset::new(images, labels)?.transform(augment);
//! let (x, _) = DataLoader::new(data).batch_size(4).num_workers(2).epoch(1, 0).next().unwrap()?;
//! assert_eq!((x.size(), x.kind()), (vec![4, 3, 32, 32], Kind::Float));
//! assert_eq!(x.min().double_value(&[]), -2.0);
//! # Ok::<(), Error>(())
//! ```

mod bytes;
mod color;
mod geometry;

pub use color::{ColorJitter, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation};
pub use geometry::{CenterCrop, RandomCrop, RandomErasing, RandomHorizontalFlip, Resize};

use crate::data::SampleRng;
use crate::error::{Error, Kind, Result};
use tch::{Kind as TKind, Tensor};

/// A change of an image.
pub trait Transform: Send + Sync + 'static {
    /// The image changed; what is random is drawn from the sample's own numbers.
    ///
    /// # Errors
    /// When it is no image, or too small.
    fn apply(&self, image: Tensor, random: &mut SampleRng) -> Result<Tensor>;
}

/// Transforms one after the other.
#[derive(Default)]
pub struct Compose(Vec<Box<dyn Transform>>);

impl std::fmt::Debug for Compose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compose of {} transforms", self.0.len())
    }
}

impl Compose {
    /// None at first.
    pub fn new() -> Compose {
        Compose::default()
    }

    /// Adds one at the end.
    #[must_use]
    pub fn then(mut self, transform: impl Transform) -> Compose {
        self.0.push(Box::new(transform));
        self
    }
}

impl Transform for Compose {
    fn apply(&self, image: Tensor, random: &mut SampleRng) -> Result<Tensor> {
        let mut image = image;
        for transform in &self.0 {
            image = transform.apply(image, random)?;
        }
        Ok(image)
    }
}

/// Channels, height and width.
fn size(image: &Tensor) -> Result<(i64, i64, i64)> {
    match image.size()[..] {
        [channels, height, width] if channels > 0 && height > 0 && width > 0 => Ok((channels, height, width)),
        ref other => Err(Error::new(
            Kind::Shape,
            format!("an image is [channels, height, width], not {other:?}"),
        )),
    }
}

/// Bytes to numbers from 0 to 1; others stay as they are. torchvision's `ConvertImageDtype`, or `ToDtype` with `scale`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvertImageDtype;

impl Transform for ConvertImageDtype {
    fn apply(&self, image: Tensor, _: &mut SampleRng) -> Result<Tensor> {
        floats(image)
    }
}

fn floats(image: Tensor) -> Result<Tensor> {
    if image.kind() == TKind::Uint8 {
        let table: [f32; 256] = std::array::from_fn(|byte| byte as f32 / 255.0);
        let channels = size(&image).map_or(0, |(channels, ..)| channels as usize);
        if channels > 0
            && let Some(numbers) = bytes::mapped(&image, &vec![table; channels])?
        {
            return Ok(numbers);
        }
    }
    Ok(match image.kind() {
        TKind::Uint8 => image.f_to_kind(TKind::Float)?.f_div_scalar_(255.0)?,
        TKind::Float => image,
        _ => image.f_to_kind(TKind::Float)?,
    })
}

/// Numbers with a mean of 0 and a deviation of 1, from the means and deviations of each channel. Bytes are brought to 0 to 1
/// first.
#[derive(Debug, Clone)]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalize {
    /// With the mean and the deviation of each channel, of numbers from 0 to 1.
    pub fn new(mean: &[f32], std: &[f32]) -> Normalize {
        Normalize {
            mean: mean.to_vec(),
            std: std.to_vec(),
        }
    }
}

impl Transform for Normalize {
    fn apply(&self, image: Tensor, _: &mut SampleRng) -> Result<Tensor> {
        let (channels, ..) = size(&image)?;
        if [self.mean.len(), self.std.len()] != [channels as usize; 2] {
            return Err(Error::new(
                Kind::Shape,
                format!(
                    "an image of {channels} channels is not normalised with {} means and {} deviations",
                    self.mean.len(),
                    self.std.len()
                ),
            ));
        }
        if self.std.contains(&0.0) {
            return Err(Error::new(Kind::Option, "a deviation of 0 cannot be normalised away"));
        }
        // In one pass over the numbers: x / (255 std) - mean / std.
        let scale = if image.kind() == TKind::Uint8 { 255.0 } else { 1.0 };
        let factors: Vec<f32> = self.std.iter().map(|std| 1.0 / (scale * std)).collect();
        let shifts: Vec<f32> = self.mean.iter().zip(&self.std).map(|(mean, std)| -mean / std).collect();
        let of_bytes = |(factor, shift): (&f32, &f32)| std::array::from_fn(|byte| byte as f32 * factor + shift);
        let tables: Vec<[f32; 256]> = factors.iter().zip(&shifts).map(of_bytes).collect();
        if let Some(numbers) = bytes::mapped(&image, &tables)? {
            return Ok(numbers);
        }
        let column = |values: &[f32]| Tensor::from_slice(values).f_view([channels, 1, 1]);
        let image = image.f_to_kind(TKind::Float)?;
        Ok(column(&shifts)?.f_addcmul(&image, &column(&factors)?)?)
    }
}

#[cfg(test)]
mod tests;
