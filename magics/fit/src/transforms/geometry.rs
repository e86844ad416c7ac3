//! Where an image's pixels go.

use super::{Transform, size};
use crate::data::SampleRng;
use crate::error::{Error, Kind, Result};
use tch::Tensor;

/// Another size, by means of the pixels around (bilinear with antialiasing, as torchvision's on tensors).
#[derive(Debug, Clone, Copy)]
pub struct Resize {
    height: i64,
    /// Without one, the shorter side becomes `height` and the other keeps its share.
    width: Option<i64>,
}

impl Resize {
    /// The shorter side becomes so long; the other keeps its share.
    pub fn new(size: i64) -> Resize {
        Resize {
            height: size,
            width: None,
        }
    }

    /// Height and width become these.
    pub fn exactly(height: i64, width: i64) -> Resize {
        Resize {
            height,
            width: Some(width),
        }
    }
}

impl Transform for Resize {
    fn apply(&self, image: Tensor, _: &mut SampleRng) -> Result<Tensor> {
        let (_, height, width) = size(&image)?;
        let wanted = match self.width {
            Some(width) => [self.height, width],
            None => {
                let longer = (self.height as f64 * height.max(width) as f64 / height.min(width) as f64) as i64;
                if height <= width {
                    [self.height, longer]
                } else {
                    [longer, self.height]
                }
            }
        };
        if wanted.iter().any(|side| *side < 1) {
            return Err(Error::new(
                Kind::Option,
                format!("an image cannot be resized to {wanted:?}"),
            ));
        }
        if wanted == [height, width] {
            return Ok(image);
        }
        // By way of the channels' last place libtorch sees when the colours of a pixel lie beside each other, and leaves them so.
        let images = image.f_permute([1, 2, 0])?.f_unsqueeze(0)?.f_permute([0, 3, 1, 2])?;
        Ok(images
            .f_internal_upsample_bilinear2d_aa(wanted, false, None, None)?
            .f_squeeze_dim(0)?)
    }
}

fn crop(image: &Tensor, top: i64, left: i64, height: i64, width: i64) -> Result<Tensor> {
    Ok(image.f_narrow(1, top, height)?.f_narrow(2, left, width)?)
}

/// With black (0) around: left, right, above, below.
fn padded(image: &Tensor, by: [i64; 4]) -> Result<Tensor> {
    Ok(image.f_constant_pad_nd(by)?)
}

/// The middle of an image, with black around one that is smaller.
#[derive(Debug, Clone, Copy)]
pub struct CenterCrop(i64, i64);

impl CenterCrop {
    /// A square with this side.
    pub fn new(side: i64) -> CenterCrop {
        CenterCrop(side, side)
    }

    /// Of this height and width.
    pub fn exactly(height: i64, width: i64) -> CenterCrop {
        CenterCrop(height, width)
    }
}

impl Transform for CenterCrop {
    fn apply(&self, image: Tensor, _: &mut SampleRng) -> Result<Tensor> {
        let (_, height, width) = size(&image)?;
        let (more_high, more_wide) = ((self.0 - height).max(0), (self.1 - width).max(0));
        let image = match more_high + more_wide {
            0 => image,
            _ => padded(
                &image,
                [more_wide / 2, (more_wide + 1) / 2, more_high / 2, (more_high + 1) / 2],
            )?,
        };
        let (_, height, width) = size(&image)?;
        let half = |more: i64| (more as f64 / 2.0).round_ties_even() as i64;
        crop(&image, half(height - self.0), half(width - self.1), self.0, self.1)
    }
}

/// A part of an image at a random place.
#[derive(Debug, Clone, Copy)]
pub struct RandomCrop {
    height: i64,
    width: i64,
    padding: i64,
}

impl RandomCrop {
    /// A square with this side.
    pub fn new(side: i64) -> RandomCrop {
        RandomCrop::exactly(side, side)
    }

    /// Of this height and width.
    pub fn exactly(height: i64, width: i64) -> RandomCrop {
        RandomCrop {
            height,
            width,
            padding: 0,
        }
    }

    /// With so much black around the image first.
    #[must_use]
    pub fn padding(mut self, padding: i64) -> RandomCrop {
        self.padding = padding.max(0);
        self
    }
}

impl Transform for RandomCrop {
    fn apply(&self, image: Tensor, random: &mut SampleRng) -> Result<Tensor> {
        let image = match self.padding {
            0 => image,
            padding => padded(&image, [padding; 4])?,
        };
        let (_, height, width) = size(&image)?;
        if height < self.height || width < self.width {
            return Err(Error::new(
                Kind::Shape,
                format!(
                    "an image of {height} by {width} has no part of {} by {}",
                    self.height, self.width
                ),
            )
            .hint("resize it first, or give the crop a padding"));
        }
        let top = random.below((height - self.height + 1) as usize) as i64;
        let left = random.below((width - self.width + 1) as usize) as i64;
        crop(&image, top, left, self.height, self.width)
    }
}

/// Left and right exchanged, for a share of the images.
#[derive(Debug, Clone, Copy)]
pub struct RandomHorizontalFlip(f64);

impl RandomHorizontalFlip {
    /// With this probability.
    pub fn new(p: f64) -> RandomHorizontalFlip {
        RandomHorizontalFlip(p)
    }
}

impl Transform for RandomHorizontalFlip {
    fn apply(&self, image: Tensor, random: &mut SampleRng) -> Result<Tensor> {
        Ok(match random.chance(self.0) {
            true => image.f_flip([-1])?,
            false => image,
        })
    }
}

/// A random rectangle painted over, for a share of the images (Zhong and others, 2017).
#[derive(Debug, Clone, Copy)]
pub struct RandomErasing {
    p: f64,
    scale: (f64, f64),
    ratio: (f64, f64),
    value: f64,
}

impl RandomErasing {
    /// With this probability: a rectangle of 2 to 33 % of the image, 0.3 to 3.3 times as high as wide, with zeros.
    pub fn new(p: f64) -> RandomErasing {
        RandomErasing {
            p,
            scale: (0.02, 0.33),
            ratio: (0.3, 3.3),
            value: 0.0,
        }
    }

    /// Which share of the image the rectangle has, from and to.
    #[must_use]
    pub fn scale(mut self, from: f64, to: f64) -> RandomErasing {
        self.scale = (from, to);
        self
    }

    /// How much higher than wide it is, from and to.
    #[must_use]
    pub fn ratio(mut self, from: f64, to: f64) -> RandomErasing {
        self.ratio = (from, to);
        self
    }

    /// With what it is painted over.
    #[must_use]
    pub fn value(mut self, value: f64) -> RandomErasing {
        self.value = value;
        self
    }
}

impl Transform for RandomErasing {
    fn apply(&self, image: Tensor, random: &mut SampleRng) -> Result<Tensor> {
        if !random.chance(self.p) {
            return Ok(image);
        }
        let (_, height, width) = size(&image)?;
        // A rectangle that does not fit is drawn again, ten times at most, as torchvision does.
        for _ in 0..10 {
            let area = (height * width) as f64 * random.uniform(self.scale.0, self.scale.1);
            let ratio = random.uniform(self.ratio.0.ln(), self.ratio.1.ln()).exp();
            let (high, wide) = (
                (area * ratio).sqrt().round() as i64,
                (area / ratio).sqrt().round() as i64,
            );
            if high >= height || wide >= width {
                continue;
            }
            let top = random.below((height - high + 1) as usize) as i64;
            let left = random.below((width - wide + 1) as usize) as i64;
            // A copy: the image may be the dataset's own.
            let mut copy = image.f_empty_like()?;
            copy.f_copy_(&image)?;
            let _ = crop(&copy, top, left, high, wide)?.f_fill_(self.value)?;
            return Ok(copy);
        }
        Ok(image)
    }
}

/// For the tests of what is painted over.
#[cfg(test)]
pub(super) fn zeros(image: &Tensor) -> i64 {
    image.eq(0.0).sum(tch::Kind::Int64).int64_value(&[])
}
