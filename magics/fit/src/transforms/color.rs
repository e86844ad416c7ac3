//! What colours an image's pixels have.

use super::{Transform, floats, size};
use crate::data::SampleRng;
use crate::error::{Error, Kind, Result};
use tch::{Kind as TKind, Tensor};

/// A mixture of two images, `ratio` of the first, in the first's kind and range.
fn blend(image: &Tensor, other: &Tensor, ratio: f64) -> Result<Tensor> {
    let bytes = image.kind() == TKind::Uint8;
    let part = |of: &Tensor, share: f64| of.f_to_kind(TKind::Float)?.f_mul_scalar(share);
    let mixed = part(image, ratio)?.f_add(&part(other, 1.0 - ratio)?)?;
    let mixed = mixed.f_clamp(0.0, if bytes { 255.0 } else { 1.0 })?;
    Ok(mixed.f_to_kind(image.kind())?)
}

/// How bright each pixel is, `[1, height, width]`; of bytes, in whole numbers.
fn gray(image: &Tensor) -> Result<Tensor> {
    colors(image)?;
    let channel = |at: i64, share: f64| image.f_narrow(0, at, 1)?.f_to_kind(TKind::Float)?.f_mul_scalar(share);
    let gray = channel(0, 0.2989)?
        .f_add(&channel(1, 0.587)?)?
        .f_add(&channel(2, 0.114)?)?;
    Ok(match image.kind() {
        TKind::Uint8 => gray.f_floor()?,
        _ => gray,
    })
}

fn colors(image: &Tensor) -> Result<()> {
    match size(image)? {
        (3, ..) => Ok(()),
        (channels, ..) => Err(Error::new(
            Kind::Shape,
            format!("only an image of 3 channels has these colours, this one has {channels}"),
        )),
    }
}

/// Makes an image darker (below 1) or brighter.
///
/// # Errors
/// When it is no image.
pub fn adjust_brightness(image: &Tensor, factor: f64) -> Result<Tensor> {
    size(image)?;
    blend(image, &image.f_zeros_like()?, factor)
}

/// Makes differences of brightness smaller (below 1) or larger.
///
/// # Errors
/// When it is no image of three channels.
pub fn adjust_contrast(image: &Tensor, factor: f64) -> Result<Tensor> {
    let mean = gray(image)?.f_mean(TKind::Float)?;
    blend(image, &mean, factor)
}

/// Makes colours paler (below 1; 0 is gray) or stronger.
///
/// # Errors
/// When it is no image of three channels.
pub fn adjust_saturation(image: &Tensor, factor: f64) -> Result<Tensor> {
    blend(image, &gray(image)?, factor)
}

/// Turns colours on their circle by `factor`, of -0.5 to 0.5 turns.
///
/// # Errors
/// When it is no image of three channels.
pub fn adjust_hue(image: &Tensor, factor: f64) -> Result<Tensor> {
    colors(image)?;
    let kind = image.kind();
    let rgb = floats(image.shallow_clone())?;
    let (max, min) = (rgb.f_amax([0i64], true)?, rgb.f_amin([0i64], true)?);
    let range = max.f_sub(&min)?;
    // Of gray pixels the hue is 0.
    let gray = range.f_eq(0.0)?;
    let divisor = range.f_masked_fill(&gray, 1.0)?;
    let part = |at: i64| max.f_sub(&rgb.f_narrow(0, at, 1)?)?.f_div(&divisor);
    let (r, g, b) = (part(0)?, part(1)?, part(2)?);
    let is_red = max.f_eq_tensor(&rgb.f_narrow(0, 0, 1)?)?;
    let is_green = max.f_eq_tensor(&rgb.f_narrow(0, 1, 1)?)?;
    let of_blue = g.f_sub(&r)?.f_add_scalar(4.0)?;
    let of_green = r.f_sub(&b)?.f_add_scalar(2.0)?;
    let sixths = b
        .f_sub(&g)?
        .f_where_self(&is_red, &of_green.f_where_self(&is_green, &of_blue)?)?;
    let hue = sixths.f_div_scalar(6.0)?.f_add_scalar(1.0 + factor)?.f_remainder(1.0)?;
    // Back, without cases: each channel is max - range * clamp(min(k, 4 - k), 0, 1) with k = (n + 6 hue) mod 6.
    let channel = |n: f64| {
        let k = hue.f_mul_scalar(6.0)?.f_add_scalar(n)?.f_remainder(6.0)?;
        let share = k.f_minimum(&k.f_neg()?.f_add_scalar(4.0)?)?.f_clamp(0.0, 1.0)?;
        max.f_sub(&range.f_mul(&share)?)
    };
    let turned = Tensor::f_cat(&[channel(5.0)?, channel(3.0)?, channel(1.0)?], 0)?;
    Ok(match kind {
        TKind::Uint8 => turned.f_mul_scalar(255.999)?.f_to_kind(kind)?,
        _ => turned,
    })
}

/// Brightness, contrast, saturation and hue changed at random, in a random order.
#[derive(Debug, Clone, Copy, Default)]
pub struct ColorJitter {
    brightness: f64,
    contrast: f64,
    saturation: f64,
    hue: f64,
}

impl ColorJitter {
    /// None of them at first.
    pub fn new() -> ColorJitter {
        ColorJitter::default()
    }

    /// By a factor of `1 - brightness` to `1 + brightness`.
    #[must_use]
    pub fn brightness(mut self, brightness: f64) -> ColorJitter {
        self.brightness = brightness.max(0.0);
        self
    }

    /// By a factor of `1 - contrast` to `1 + contrast`.
    #[must_use]
    pub fn contrast(mut self, contrast: f64) -> ColorJitter {
        self.contrast = contrast.max(0.0);
        self
    }

    /// By a factor of `1 - saturation` to `1 + saturation`.
    #[must_use]
    pub fn saturation(mut self, saturation: f64) -> ColorJitter {
        self.saturation = saturation.max(0.0);
        self
    }

    /// By `-hue` to `hue` turns of the circle of colours; 0.5 at most.
    #[must_use]
    pub fn hue(mut self, hue: f64) -> ColorJitter {
        self.hue = hue.clamp(0.0, 0.5);
        self
    }
}

impl Transform for ColorJitter {
    fn apply(&self, image: Tensor, random: &mut SampleRng) -> Result<Tensor> {
        let mut image = image;
        let factor = |random: &mut SampleRng, by: f64| random.uniform((1.0 - by).max(0.0), 1.0 + by);
        for which in random.permutation(4) {
            image = match which {
                0 if self.brightness > 0.0 => adjust_brightness(&image, factor(random, self.brightness))?,
                1 if self.contrast > 0.0 => adjust_contrast(&image, factor(random, self.contrast))?,
                2 if self.saturation > 0.0 => adjust_saturation(&image, factor(random, self.saturation))?,
                3 if self.hue > 0.0 => adjust_hue(&image, random.uniform(-self.hue, self.hue))?,
                _ => image,
            };
        }
        Ok(image)
    }
}
