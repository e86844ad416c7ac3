//! Quick looks: each function makes a [`Figure`] from numbers. Nothing is drawn here; in a notebook the kernel draws.

use crate::error::{Error, Kind, Result};
use lightcell_cell::Figure;
use lightcell_events::figure::{self as data, Content, Pixels, Series};
use tch::{Device, Kind as TKind, Tensor};

/// Images are shown with at most so many pixels on a side; larger ones are thinned.
const SIDE: i64 = 512;
/// Images in a grid.
const GRID: i64 = 64;
/// Points of a line; of more, the lowest and highest of each stretch are kept.
const POINTS: usize = 2000;
/// Points of a cloud.
const CLOUD: usize = 5000;

/// What can be drawn as numbers: tensors of any kind, vectors and slices.
pub trait Numbers {
    /// The numbers in a row.
    ///
    /// # Errors
    /// libtorch's own.
    fn numbers(&self) -> Result<Vec<f64>>;
}

impl Numbers for Tensor {
    fn numbers(&self) -> Result<Vec<f64>> {
        let _guard = tch::no_grad_guard();
        let flat = self
            .f_to_device(Device::Cpu)?
            .f_to_kind(TKind::Double)?
            .f_reshape([-1])?;
        Ok(Vec::try_from(flat.f_contiguous()?)?)
    }
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Numbers for [$kind] {
            fn numbers(&self) -> Result<Vec<f64>> {
                Ok(self.iter().map(|value| *value as f64).collect())
            }
        }
        impl Numbers for Vec<$kind> {
            fn numbers(&self) -> Result<Vec<f64>> {
                self.as_slice().numbers()
            }
        }
        impl<const N: usize> Numbers for [$kind; N] {
            fn numbers(&self) -> Result<Vec<f64>> {
                self.as_slice().numbers()
            }
        }
    )*};
}
numbers!(f64, f32, i64, i32, u8, usize);

/// What stands under images: texts, a tensor of labels `[n]`, a tensor of scores `[n, classes]` of which the best counts, or
/// `()` for nothing.
pub trait Labels {
    /// One text an image.
    ///
    /// # Errors
    /// libtorch's own, and when a tensor has another number of dimensions.
    fn labels(&self) -> Result<Vec<String>>;
}

impl Labels for () {
    fn labels(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

impl Labels for Tensor {
    fn labels(&self) -> Result<Vec<String>> {
        Ok(classes_of(self)?.iter().map(i64::to_string).collect())
    }
}

impl<T: std::fmt::Display> Labels for [T] {
    fn labels(&self) -> Result<Vec<String>> {
        Ok(self.iter().map(T::to_string).collect())
    }
}

impl<T: std::fmt::Display> Labels for Vec<T> {
    fn labels(&self) -> Result<Vec<String>> {
        self.as_slice().labels()
    }
}

impl<T: std::fmt::Display, const N: usize> Labels for [T; N] {
    fn labels(&self) -> Result<Vec<String>> {
        self.as_slice().labels()
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Data, what)
}

/// Labels `[n]`, or the best class of each row of `[n, classes]`.
fn classes_of(tensor: &Tensor) -> Result<Vec<i64>> {
    let tensor = match tensor.size()[..] {
        [_] => tensor.shallow_clone(),
        [_, _] => tensor.f_argmax(1, false)?,
        _ => {
            return Err(wrong(format!(
                "labels are [n] or scores [n, classes], not {:?}",
                tensor.size()
            )));
        }
    };
    Ok(Vec::try_from(
        tensor
            .f_to_device(Device::Cpu)?
            .f_to_kind(TKind::Int64)?
            .f_contiguous()?,
    )?)
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

fn bounds(values: &[f64]) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    values
        .iter()
        .fold(start, |(low, high), value| (low.min(*value), high.max(*value)))
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

/// So many points that they can be drawn: the lowest and the highest of each stretch.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
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

fn counted(y: Vec<f64>) -> Vec<(f64, f64)> {
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

/// How often a class (row) was predicted as which (column): predictions are labels `[n]` or scores `[n, classes]`, targets
/// labels `[n]`. `names` of the classes; those that are missing are numbers.
///
/// ```
/// use lightcell::prelude::*;
/// let (predicted, target) = (Tensor::from_slice(&[0i64, 1, 1]), Tensor::from_slice(&[0i64, 1, 0]));
/// let text = confusion_matrix(&predicted, &target, &["no", "yes"]).text();
/// assert!(text.contains("no   1    1"), "{text}");
/// ```
pub fn confusion_matrix<S: AsRef<str>>(predictions: &Tensor, target: &Tensor, names: &[S]) -> Figure {
    let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    made(
        "confusion_matrix",
        counts(predictions, target).and_then(|rows| matrix(rows, &names)),
    )
}

fn counts(predictions: &Tensor, target: &Tensor) -> Result<Vec<Vec<f64>>> {
    let (predicted, target) = (classes_of(predictions)?, classes_of(target)?);
    if predicted.len() != target.len() || target.is_empty() {
        return Err(wrong(format!(
            "{} predictions for {} targets",
            predicted.len(),
            target.len()
        )));
    }
    let all = || predicted.iter().chain(&target);
    let (lowest, highest) = (all().min().copied().unwrap_or(0), all().max().copied().unwrap_or(0));
    if lowest < 0 || highest > 200 {
        return Err(wrong(format!("labels are 0 to 200, not {lowest} to {highest}")));
    }
    let classes = highest as usize + 1;
    let mut rows = vec![vec![0.0; classes]; classes];
    for (predicted, target) in predicted.iter().zip(&target) {
        rows[*target as usize][*predicted as usize] += 1.0;
    }
    Ok(rows)
}

fn matrix(mut rows: Vec<Vec<f64>>, names: &[String]) -> Result<Content> {
    // Classes that have a name are there, even when they were neither seen nor predicted.
    let classes = rows.len().max(names.len());
    for row in &mut rows {
        row.resize(classes, 0.0);
    }
    rows.resize(classes, vec![0.0; classes]);
    let name = |at: usize| names.get(at).cloned().unwrap_or_else(|| at.to_string());
    Ok(Content::Matrix {
        classes: (0..classes).map(name).collect(),
        rows: finite_rows(rows)?,
    })
}

fn finite_rows(rows: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>> {
    finite(rows.concat())?;
    Ok(rows)
}

/// A computed matrix, for [`ConfusionMatrix::plot`](crate::metrics::ConfusionMatrix::plot).
pub(crate) fn of_matrix(matrix: &Tensor, names: &[String]) -> Result<Figure> {
    let rows = Vec::<Vec<f64>>::try_from(matrix)?;
    Ok(made("ConfusionMatrix", self::matrix(rows, names)))
}

/// The ROC curve with the area under it. Scores of yes and no are `[n]` or `[n, 2]`, those of more classes `[n, classes]`, each
/// class then against all others; probabilities or logits. Targets are labels `[n]`.
///
/// ```
/// use lightcell::prelude::*;
/// let (scores, target) = (Tensor::from_slice(&[0.1f32, 0.4, 0.35, 0.8]), Tensor::from_slice(&[0i64, 0, 1, 1]));
/// assert!(roc(&scores, &target).text().starts_with("AUC 0.750: "));
/// ```
pub fn roc(scores: &Tensor, target: &Tensor) -> Figure {
    made("roc", roc_content(scores, target))
        .x_label("false positive rate")
        .y_label("true positive rate")
}

fn roc_content(scores: &Tensor, target: &Tensor) -> Result<Content> {
    let classes = match scores.size()[..] {
        [_] | [_, 1] => 1,
        [_, classes] if classes > 1 => classes,
        _ => {
            return Err(wrong(format!(
                "scores are [n] or [n, classes], not {:?}",
                scores.size()
            )));
        }
    };
    let target = classes_of(&if target.dim() == 2 {
        target.f_reshape([-1])?
    } else {
        target.shallow_clone()
    })?;
    let _guard = tch::no_grad_guard();
    // Of logits, only probabilities compare over samples; those of probabilities are ranked as they were where there are two.
    let columns = match classes {
        1 => scores.f_reshape([-1, 1])?,
        2 => scores.f_select(1, 1)?.f_sub(&scores.f_select(1, 0)?)?.f_unsqueeze(1)?,
        _ if bounds(&finite(scores.numbers()?)?).0 < 0.0 => scores.f_softmax(1, TKind::Double)?,
        _ => scores.shallow_clone(),
    };
    let count = columns.size()[1];
    let mut series = Vec::new();
    for class in 0..count {
        let column = finite(columns.f_select(1, class)?.numbers()?)?;
        if column.len() != target.len() {
            return Err(wrong(format!("{} scores for {} targets", column.len(), target.len())));
        }
        let yes = if count == 1 { 1 } else { class };
        let (points, area) = crate::metrics::roc_points(&column, |at| target[at] == yes);
        if area.is_nan() && count == 1 {
            return Err(wrong("the targets are all of one class: there is no curve"));
        }
        let name = if count == 1 {
            String::new()
        } else {
            format!("class {class}, ")
        };
        if !area.is_nan() {
            series.push(Series {
                name: format!("{name}AUC {area:.3}"),
                points: thinned(points),
            });
        }
    }
    Ok(Content::Lines { series, diagonal: true })
}

#[cfg(test)]
mod tests {
    use super::*;

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
