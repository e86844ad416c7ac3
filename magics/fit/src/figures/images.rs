//! Images, grids of them, and matrices in colours.

use super::{Labels, Numbers, bounds, finite, made, wrong};
use crate::error::Result;
use lightcell_cell::Figure;
use lightcell_events::figure::{Content, Pixels};
use tch::{Kind as TKind, Tensor};

/// Images are shown with at most so many pixels on a side; larger ones are thinned.
const SIDE: i64 = 512;
/// Images in a grid.
const GRID: i64 = 64;

/// `[channels, height, width]` with at most [`SIDE`] pixels a side, and what it was in words.
fn planes(tensor: &Tensor) -> Result<(Tensor, String)> {
    let size = tensor.size();
    let planes = match size[..] {
        [_, _] => tensor.f_unsqueeze(0)?,
        [1 | 3, _, _] => tensor.shallow_clone(),
        [_, 1 | 3, _, _] => return Err(wrong(format!("{size:?} is a batch of images: show_grid shows them"))),
        _ => {
            return Err(wrong(format!(
                "an image is [height, width], [1, height, width] or [3, height, width], not {size:?}"
            )));
        }
    };
    let [_, height, width] = planes.size()[..] else {
        return Err(wrong("an image has two sides"));
    };
    let every = ((height.max(width) + SIDE - 1) / SIDE).max(1);
    let thinned = planes.f_slice(1, 0, height, every)?.f_slice(2, 0, width, every)?;
    let note = match every {
        1 => format!("{height}×{width}"),
        every => format!("{height}×{width}, every {every}th pixel"),
    };
    Ok((thinned, note))
}

/// The range that becomes black to white: bytes and numbers from 0 to 1 as they are, else from the smallest to the largest.
fn tones(kind: TKind, values: &[f64]) -> (f64, f64) {
    match (kind, bounds(values)) {
        (TKind::Uint8, _) => (0.0, 255.0),
        (TKind::Float | TKind::Double | TKind::Half | TKind::BFloat16, (low, high))
            if low >= 0.0 && (0.5..=1.0).contains(&high) =>
        {
            (0.0, 1.0)
        }
        (_, range) => range,
    }
}

/// Values as bytes, channels last.
fn pixels(planes: &Tensor, (low, high): (f64, f64), values: &[f64]) -> Pixels {
    let size = planes.size();
    let [channels, height, width] = [size[0], size[1], size[2]].map(|side| side as usize);
    let span = if high > low { high - low } else { 1.0 };
    let byte = |value: f64| ((value - low) / span * 255.0).round().clamp(0.0, 255.0) as u8;
    let place = |at: usize| values[at % channels * height * width + at / channels];
    Pixels {
        width: width as u32,
        height: height as u32,
        channels: channels as u32,
        bytes: (0..channels * height * width).map(|at| byte(place(at))).collect(),
    }
}

/// An image: `[height, width]` or `[1, height, width]` in grey, `[3, height, width]` in colours. Bytes and numbers from 0 to 1
/// are shown as they are, others from their smallest (black) to their largest (white). A large one is thinned and says so.
///
/// ```
/// use lightcell::prelude::*;
/// let image = Tensor::rand([3, 32, 32], (Kind::Float, Device::Cpu));
/// assert!(show(&image).title("noise").text().starts_with("noise\nimage of 32×32"));
/// assert_eq!(show(&image.view([-1])).problem(), Some("show: an image is [height, width], [1, height, width] or [3, height, width], not [3072]"));
/// ```
pub fn show(image: &Tensor) -> Figure {
    made("show", image_content(image))
}

fn image_content(image: &Tensor) -> Result<Content> {
    let (planes, size) = planes(image)?;
    let values = finite(planes.numbers()?)?;
    let (low, high) = bounds(&values);
    let pixels = pixels(&planes, tones(image.kind(), &values), &values);
    let note = format!("image of {size}, {low:.3} to {high:.3}");
    Ok(Content::Image { pixels, note })
}

/// A matrix `[rows, columns]` in colours, from the smallest value to the largest. A large one is thinned and says so.
///
/// ```
/// use lightcell::prelude::*;
/// let weights = Tensor::eye(4, (Kind::Float, Device::Cpu));
/// assert_eq!(heat_map(&weights).x_label("input").text(), "matrix of 4×4, 0 to 1");
/// ```
pub fn heat_map(matrix: &Tensor) -> Figure {
    made("heat_map", heat_content(matrix))
}

fn heat_content(matrix: &Tensor) -> Result<Content> {
    let (planes, size) = match matrix.dim() {
        2 => planes(matrix)?,
        _ => {
            return Err(wrong(format!(
                "a heat map is of [rows, columns], not {:?}",
                matrix.size()
            )));
        }
    };
    let values = finite(planes.numbers()?)?;
    let (low, high) = bounds(&values);
    Ok(Content::HeatMap {
        pixels: pixels(&planes, (low, high), &values),
        low,
        high,
        note: format!("matrix of {size}"),
    })
}

/// Images in a grid, at most 64, with their labels and what was predicted; where the two differ, the image has a red frame and
/// both are named. Images are `[n, height, width]`, `[n, 1, height, width]` or `[n, 3, height, width]`; see [`Labels`] for the
/// rest.
///
/// ```
/// use lightcell::prelude::*;
/// let images = Tensor::rand([3, 8, 8], (Kind::Float, Device::Cpu));
/// assert_eq!(show_grid(&images, &[3, 4, 7], &[3, 9, 7]).text(), "3 images of 8×8, 1 wrong: 3, 9 (is 4), 7");
/// assert_eq!(show_grid(&images, &(), &()).text(), "3 images of 8×8");
/// ```
pub fn show_grid<L: Labels + ?Sized, P: Labels + ?Sized>(images: &Tensor, labels: &L, predictions: &P) -> Figure {
    let content = labels
        .labels()
        .and_then(|labels| grid_content(images, &labels, &predictions.labels()?));
    made("show_grid", content)
}

fn grid_content(images: &Tensor, labels: &[String], predictions: &[String]) -> Result<Content> {
    let size = images.size();
    let images = match size[..] {
        [_, _, _] => images.f_unsqueeze(1)?,
        [_, 1 | 3, _, _] => images.shallow_clone(),
        _ => {
            return Err(wrong(format!(
                "images are [n, height, width], [n, 1, height, width] or [n, 3, height, width], not {size:?}"
            )));
        }
    };
    let n = size[0];
    for (what, list) in [("labels", labels), ("predictions", predictions)] {
        if !list.is_empty() && list.len() as i64 != n {
            return Err(wrong(format!("{} {what} for {n} images", list.len())));
        }
    }
    let shown = images.f_narrow(0, 0, n.min(GRID))?;
    let values = finite(shown.numbers()?)?;
    let range = tones(images.kind(), &values);
    let mut grid = Vec::new();
    let mut of = String::new();
    for at in 0..n.min(GRID) {
        let (planes, size) = planes(&shown.f_get(at)?)?;
        grid.push(pixels(&planes, range, &planes.numbers()?));
        of = size;
    }
    let differ: Vec<bool> = labels
        .iter()
        .zip(predictions)
        .map(|(label, predicted)| label != predicted)
        .collect();
    let under = |at: usize| match (labels.get(at), predictions.get(at)) {
        (Some(label), Some(predicted)) if label != predicted => format!("{predicted} (is {label})"),
        (Some(text), _) | (None, Some(text)) => text.clone(),
        _ => String::new(),
    };
    let texts = labels.len().max(predictions.len()).min(grid.len());
    let mut note = format!("{n} images of {of}");
    if n > GRID {
        note.push_str(&format!(", the first {GRID} are shown"));
    }
    if !differ.is_empty() {
        note.push_str(&format!(", {} wrong", differ.iter().filter(|wrong| **wrong).count()));
    }
    Ok(Content::Grid {
        images: grid,
        labels: (0..texts).map(under).collect(),
        wrong: differ.into_iter().take(GRID as usize).collect(),
        note,
    })
}
