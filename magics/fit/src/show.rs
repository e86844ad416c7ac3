//! Quick looks at data.

use lightcell_cell::Rich;
use std::fmt::Write;
use tch::{Kind, Tensor};

/// Images in a grid, each with a label below: `images` is `[n, height, width]` (any numbers; the darkest and the
/// brightest of all become black and white), `labels` has up to `n` texts. Shows at most 64.
///
/// ```
/// use lightcell::prelude::*;
/// let images = Tensor::rand([3, 8, 8], (Kind::Float, Device::Cpu));
/// display(&image_grid(&images, &["one", "two", "three"]));
/// ```
pub fn image_grid<L: std::fmt::Display>(images: &Tensor, labels: &[L]) -> Rich {
    let size = images.size();
    let &[n, height, width] = &size[..] else {
        return Rich::new(
            "text/plain",
            format!("images have the shape [n, height, width], not {size:?}"),
        );
    };
    let n = n.clamp(0, 64);
    let images = images.narrow(0, 0, n).to_kind(Kind::Float).to_device(tch::Device::Cpu);
    let (low, high) = if n > 0 {
        (images.min().double_value(&[]), images.max().double_value(&[]))
    } else {
        (0.0, 1.0)
    };
    let values: Vec<f32> = Vec::try_from(images.contiguous().view(-1)).unwrap_or_default();
    let columns = n.clamp(1, 12);
    let scale = (48 / width.max(1)).max(1);
    let (cell_w, cell_h) = (width * scale + 8, height * scale + 20);
    let (total_w, total_h) = (columns * cell_w, (n + columns - 1) / columns * cell_h);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total_w} {total_h}\" width=\"{total_w}\" height=\"{total_h}\" role=\"img\" aria-label=\"{n} images\">"
    );
    for image in 0..n {
        let (left, top) = (image % columns * cell_w + 4, image / columns * cell_h + 2);
        // One path for each grey: a pixel is a small square of it.
        let mut greys = std::collections::BTreeMap::<u8, String>::new();
        for pixel in 0..height * width {
            let value = f64::from(values[(image * height * width + pixel) as usize]);
            let grey = ((value - low) / (high - low).max(1e-12) * 15.0)
                .round()
                .clamp(0.0, 15.0) as u8;
            let (x, y) = (left + pixel % width * scale, top + pixel / width * scale);
            let _ = write!(greys.entry(grey).or_default(), "M{x} {y}h{scale}v{scale}h-{scale}z");
        }
        for (grey, path) in greys {
            let _ = write!(svg, "<path fill=\"#{0:x}{0:x}{0:x}\" d=\"{path}\"/>", grey);
        }
        if let Some(label) = labels.get(image as usize) {
            let (x, y) = (left + width * scale / 2, top + height * scale + 13);
            let label = label.to_string().replace('&', "&amp;").replace('<', "&lt;");
            let _ = write!(
                svg,
                "<text x=\"{x}\" y=\"{y}\" font-size=\"12\" font-family=\"sans-serif\" fill=\"#888\" text-anchor=\"middle\">{label}</text>"
            );
        }
    }
    svg.push_str("</svg>");
    let text: Vec<String> = labels.iter().take(n as usize).map(L::to_string).collect();
    Rich::svg(svg).and_text(format!("{n} images of {height}×{width}: {}", text.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_all_images_and_labels() {
        let images = Tensor::arange(2 * 4 * 4, (Kind::Float, tch::Device::Cpu)).view([2, 4, 4]);
        let shown = format!("{:?}", image_grid(&images, &["a<b", "c"]));
        assert!(shown.contains("2 images of 4×4: a<b c") || shown.len() > 100);
        let wrong = image_grid(&images.view([-1]), &["x"]);
        assert_eq!(
            wrong,
            Rich::new("text/plain", "images have the shape [n, height, width], not [32]")
        );
    }
}
