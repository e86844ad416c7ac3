//! Lines, points and bars.

use super::{Numbers, bounds, finite, made, wrong};
use crate::error::Result;
use lightcell_cell::Figure;
use lightcell_events::figure::{Content, Series};

/// Points of a line; of more, the lowest and highest of each stretch are kept.
pub(super) const POINTS: usize = 2000;
/// Points of a cloud.
const CLOUD: usize = 5000;

/// So many points that they can be drawn: the lowest and the highest of each stretch.
pub(super) fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points;
    }
    let stretch = points.len().div_ceil(POINTS / 2);
    let both = points.chunks(stretch).flat_map(|part| {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (part.iter().min_by(by), part.iter().max_by(by));
        let mut both: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both
    });
    both.collect()
}

fn pairs(x: Vec<f64>, y: Vec<f64>) -> Result<Vec<(f64, f64)>> {
    if x.len() != y.len() {
        return Err(wrong(format!("{} values of x and {} of y", x.len(), y.len())));
    }
    Ok(finite(x)?.into_iter().zip(finite(y)?).collect())
}

pub(super) fn counted(y: Vec<f64>) -> Vec<(f64, f64)> {
    y.into_iter()
        .enumerate()
        .map(|(at, value)| (at as f64, value))
        .collect()
}

/// A line through numbers, over their index.
///
/// ```
/// use lightcell::prelude::*;
/// let figure = plot(&[2.0, 1.0, 0.5]).title("loss").x_label("epoch");
/// assert_eq!(figure.text(), "loss\n3 points, 0.5 to 2 █▃▁");
/// ```
pub fn plot<Y: Numbers + ?Sized>(y: &Y) -> Figure {
    plot_lines(&[("", y)])
}

/// A line through points, in the order in which they come.
///
/// ```
/// use lightcell::prelude::*;
/// assert!(plot_xy(&[0.1, 0.2], &[1.0, 4.0]).problem().is_none());
/// ```
pub fn plot_xy<X: Numbers + ?Sized, Y: Numbers + ?Sized>(x: &X, y: &Y) -> Figure {
    let points = x.numbers().and_then(|x| pairs(x, y.numbers()?));
    let content = points.map(|points| Content::Lines {
        series: vec![Series {
            name: String::new(),
            points: thinned(points),
        }],
        diagonal: false,
    });
    made("plot_xy", content)
}

/// Several lines with their names, each over its index.
///
/// ```
/// use lightcell::prelude::*;
/// let figure = plot_lines(&[("train", &vec![3.0, 1.0]), ("val", &vec![4.0, 2.0])]);
/// assert!(figure.text().starts_with("train: 2 points"));
/// ```
pub fn plot_lines<Y: Numbers + ?Sized>(lines: &[(&str, &Y)]) -> Figure {
    let one = |(name, y): &(&str, &Y)| {
        let points = thinned(counted(finite(y.numbers()?)?));
        let name = (*name).to_owned();
        Ok(Series { name, points })
    };
    let series: Result<Vec<Series>> = lines.iter().map(one).collect();
    let content = series.map(|series| Content::Lines {
        series,
        diagonal: false,
    });
    made("plot", content)
}

/// Points. Of more than 5,000, every so manieth is drawn.
///
/// ```
/// use lightcell::prelude::*;
/// let (x, y) = (Tensor::from_slice(&[1.0, 2.0]), Tensor::from_slice(&[3.0, 5.0]));
/// assert_eq!(scatter(&x, &y).text(), "2 points, x 1 to 2, y 3 to 5");
/// assert_eq!(scatter(&x, &[1.0]).problem(), Some("scatter: 2 values of x and 1 of y"));
/// ```
pub fn scatter<X: Numbers + ?Sized, Y: Numbers + ?Sized>(x: &X, y: &Y) -> Figure {
    let content = x.numbers().and_then(|x| pairs(x, y.numbers()?)).map(|points| {
        let every = points.len().div_ceil(CLOUD).max(1);
        let name = if every > 1 {
            format!("{} points, every {every}th drawn", points.len())
        } else {
            String::new()
        };
        let points = points.into_iter().step_by(every).collect();
        Content::Scatter {
            series: vec![Series { name, points }],
        }
    });
    made("scatter", content)
}

/// How often values lie where, in 10 to 50 bars: as many as the root of their number.
///
/// ```
/// use lightcell::prelude::*;
/// assert!(histogram(&Tensor::randn([1000], (Kind::Float, Device::Cpu))).text().lines().count() == 32);
/// assert_eq!(histogram(&[1.0, f64::NAN]).problem(), Some("histogram: 1 of 2 values are NaN or infinite"));
/// ```
pub fn histogram<X: Numbers + ?Sized>(values: &X) -> Figure {
    let content = values.numbers().and_then(finite).map(|values| {
        let bars = ((values.len() as f64).sqrt().ceil() as usize).clamp(10, 50);
        let (low, high) = bounds(&values);
        let span = if high > low { high - low } else { 1.0 };
        let mut counts = vec![0; bars];
        for value in values {
            counts[(((value - low) / span * bars as f64) as usize).min(bars - 1)] += 1;
        }
        Content::Histogram { low, high, counts }
    });
    made("histogram", content)
}
