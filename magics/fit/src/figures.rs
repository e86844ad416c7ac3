//! Quick looks: each function makes a [`Figure`] from numbers. Nothing is drawn here; in a notebook the kernel draws.

mod classes;
mod curves;
mod images;
mod inputs;

pub(crate) use classes::of_matrix;
pub use classes::{confusion_matrix, roc};
pub use curves::{histogram, plot, plot_lines, plot_xy, scatter};
pub use images::{heat_map, show, show_grid};
pub use inputs::{Labels, Numbers};

use crate::error::{Error, Kind, Result};
use lightcell_cell::Figure;
use lightcell_events::figure::{self as data, Content};

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Data, what)
}

/// Refuses no numbers at all, and such as are none.
fn finite(values: Vec<f64>) -> Result<Vec<f64>> {
    if values.is_empty() {
        return Err(wrong("there is nothing to draw: it is empty"));
    }
    let odd = values.iter().filter(|value| !value.is_finite()).count();
    if odd > 0 {
        return Err(wrong(format!("{odd} of {} values are NaN or infinite", values.len())));
    }
    Ok(values)
}

/// A figure, or what stands in its place.
fn made(name: &str, content: Result<Content>) -> Figure {
    match content.map(|content| (serde_json::to_string(&content), content)) {
        Ok((Ok(json), content)) => {
            let figure = data::Figure {
                content,
                ..data::Figure::default()
            };
            Figure::new(json, figure.text())
        }
        Ok((Err(error), _)) => Figure::failed(format!("{name}: {error}")),
        Err(error) => {
            let line = error.to_string();
            Figure::failed(format!("{name}: {}", line.lines().next().unwrap_or_default()))
        }
    }
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    values
        .iter()
        .fold(start, |(low, high), value| (low.min(*value), high.max(*value)))
}

#[cfg(test)]
mod tests {
    use super::curves::{POINTS, counted, thinned};
    use super::*;
    use tch::{Device, Kind as TKind, Tensor};

    const CPU: (TKind, Device) = (TKind::Float, Device::Cpu);

    fn content(figure: &Figure) -> Content {
        assert_eq!(figure.problem(), None);
        data::Figure::decode(figure.json().as_bytes()).unwrap().content
    }

    #[test]
    fn pixels_lie_row_by_row_and_colours_together() {
        let image =
            Tensor::from_slice(&[0.0f32, 1.0, 0.5, 0.2, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0]).view([3, 2, 2]);
        let Content::Image { pixels, .. } = content(&show(&image)) else {
            panic!()
        };
        assert_eq!((pixels.width, pixels.height, pixels.rgb(1, 0)), (2, 2, [255, 0, 255]));
        assert_eq!(pixels.rgb(1, 1), [51, 255, 0]);
    }

    #[test]
    fn a_large_tensor_is_thinned_and_says_so() {
        let _turn = crate::tests::in_turn();
        let figure = show(&Tensor::rand([3000, 1000], CPU));
        assert!(
            figure.text().starts_with("image of 3000×1000, every 6th pixel"),
            "{}",
            figure.text()
        );
        assert!(figure.json().len() < 400_000, "{}", figure.json().len());
        assert!(plot(&Tensor::rand([1_000_000], CPU)).json().len() < 120_000);
        let lines = thinned(counted(
            (0..100_000).map(|i| if i == 777 { 9.0 } else { 0.0 }).collect(),
        ));
        assert!(lines.len() <= POINTS && lines.contains(&(777.0, 9.0)));
        let many = show_grid(&Tensor::rand([100, 4, 4], CPU), &(), &());
        assert_eq!(many.text(), "100 images of 4×4, the first 64 are shown");
    }

    #[test]
    fn what_cannot_be_drawn_is_one_line() {
        let nan = Tensor::from_slice(&[f32::NAN, 1.0, f32::INFINITY, 0.0]).view([2, 2]);
        let batch = Tensor::zeros([4, 3, 8, 8], CPU);
        let empty = Tensor::zeros([0, 4], CPU);
        let ones = Tensor::from_slice(&[1i64, 1]);
        for (figure, line) in [
            (show(&nan), "show: 2 of 4 values are NaN or infinite"),
            (
                show(&batch),
                "show: [4, 3, 8, 8] is a batch of images: show_grid shows them",
            ),
            (show(&empty), "show: there is nothing to draw: it is empty"),
            (
                heat_map(&batch),
                "heat_map: a heat map is of [rows, columns], not [4, 3, 8, 8]",
            ),
            (plot(&empty), "plot: there is nothing to draw: it is empty"),
            (
                show_grid(&nan, &(), &()),
                "show_grid: images are [n, height, width], [n, 1, height, width] or [n, 3, height, width], not [2, 2]",
            ),
            (show_grid(&batch, &[1, 2], &()), "show_grid: 2 labels for 4 images"),
            (
                roc(&Tensor::from_slice(&[0.5, 0.2]), &ones),
                "roc: the targets are all of one class: there is no curve",
            ),
            (
                confusion_matrix(&ones, &ones.narrow(0, 0, 1), &[""]),
                "confusion_matrix: 2 predictions for 1 targets",
            ),
        ] {
            assert_eq!(figure.problem(), Some(line));
        }
    }

    #[test]
    fn two_columns_of_logits_are_ranked_as_their_probability() {
        let logits = Tensor::from_slice(&[2.0f32, 1.0, 0.0, 3.0, 5.0, 4.5, 1.0, 0.0]).view([4, 2]);
        let target = Tensor::from_slice(&[0i64, 1, 1, 0]);
        assert!(roc(&logits, &target).text().starts_with("AUC 1.000"));
        let three = roc(&Tensor::eye(3, CPU), &Tensor::from_slice(&[0i64, 1, 2])).text();
        assert!(three.contains("class 2, AUC 1.000"), "{three}");
    }
}
