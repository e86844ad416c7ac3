//! Draws figures: images, matrices, curves, clouds of points, histograms.

use crate::chart::{encode, legend, number, register_font, transparent};
use base64::Engine;
use lightcell_events::figure::{Content, Figure, Pixels, Series};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Write;

const GREY: RGBColor = RGBColor(136, 136, 136);
const RED: RGBColor = RGBColor(214, 69, 65);
const FONT: &str = "sans-serif";
/// Mid-tones that are told apart by most who see fewer colours.
pub(crate) const PALETTE: [RGBColor; 6] = [
    RGBColor(52, 128, 206),
    RGBColor(226, 122, 46),
    RGBColor(46, 158, 98),
    RGBColor(168, 100, 190),
    RGBColor(205, 85, 110),
    RGBColor(40, 155, 165),
];
/// Space for a title.
const HEAD: u32 = 30;

type Area<'a, B> = DrawingArea<B, Shift>;
type Axes<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Pixels and where they are put: left, top, width, height.
type Placed<'a> = (&'a Pixels, [u32; 4]);

/// A figure that can be drawn.
///
/// ```
/// use lightcell_events::figure::{Content, Figure};
/// let content = Content::Histogram { low: 0.0, high: 1.0, counts: vec![2, 5, 3] };
/// let figure = Figure { title: "heights".into(), content, ..Figure::default() };
/// let picture = lightcell_plot::Picture::new(&figure).unwrap();
/// assert!(picture.svg().contains("heights") && !picture.png().is_empty());
/// ```
#[derive(Debug)]
pub struct Picture<'a> {
    figure: &'a Figure,
    size: (u32, u32),
    placed: Vec<Placed<'a>>,
}

impl<'a> Picture<'a> {
    /// Lays a figure out. `None`, when its pixels are not those that its sizes say, or are too many.
    pub fn new(figure: &'a Figure) -> Option<Picture<'a>> {
        let head = if figure.title.is_empty() { 0 } else { HEAD };
        let (size, placed) = match &figure.content {
            Content::Image { pixels, .. } => {
                let (width, height) = shown_size(pixels, 320)?;
                (
                    (width.max(160) + 16, height + head + 34),
                    vec![(pixels, [8, head + 8, width, height])],
                )
            }
            Content::HeatMap { pixels, .. } => {
                let (width, height) = shown_size(pixels, 400)?;
                let left = if figure.y.is_empty() { 14 } else { 34 };
                (
                    (left + width + 96, height.max(80) + head + 58),
                    vec![(pixels, [left, head + 8, width, height])],
                )
            }
            Content::Grid { images, .. } => grid(images, head)?,
            Content::Matrix { rows, .. } => {
                let side = matrix_side(rows.len());
                let all = side * u32::try_from(rows.len()).ok()?;
                ((all + 110, all + head + 62), Vec::new())
            }
            Content::Lines { diagonal: true, .. } => ((440, 400), Vec::new()),
            _ => ((640, 380), Vec::new()),
        };
        (size.0 < 6000 && size.1 < 6000).then_some(Picture { figure, size, placed })
    }

    /// As SVG, on nothing.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
            self.draw(&root);
            let _ = root.present();
        }
        let mut images = String::new();
        for (pixels, [left, top, width, height]) in &self.placed {
            let mut rgba = Vec::with_capacity(pixels.bytes.len() * 4);
            for (x, y) in (0..pixels.height).flat_map(|y| (0..pixels.width).map(move |x| (x, y))) {
                rgba.extend(self.colour(pixels, x, y));
                rgba.push(255);
            }
            let data = base64::engine::general_purpose::STANDARD.encode(encode((pixels.width, pixels.height), &rgba));
            let _ = writeln!(
                images,
                "<image x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" preserveAspectRatio=\"none\" \
                 style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>"
            );
        }
        // For screen readers, and so that the picture shrinks with its column. Pixels lie below what is drawn.
        let label = lightcell_events::escape(self.figure.text().lines().next().unwrap_or_default());
        let svg = svg.replacen(
            "<svg ",
            &format!("<svg role=\"img\" aria-label=\"{label}\" style=\"max-width:100%\" "),
            1,
        );
        match svg.find(">\n") {
            Some(at) => format!("{}>\n{images}{}", &svg[..at], &svg[at + 2..]),
            None => svg,
        }
    }

    /// As a PNG file, on nothing.
    pub fn png(&self) -> Vec<u8> {
        let mut below = vec![0u8; (self.size.0 * self.size.1 * 4) as usize];
        let at = |x: u32, y: u32| ((y * self.size.0 + x) * 4) as usize;
        for (pixels, [left, top, width, height]) in &self.placed {
            for (x, y) in (0..*height).flat_map(|y| (0..*width).map(move |x| (x, y))) {
                let colour = self.colour(pixels, x * pixels.width / width, y * pixels.height / height);
                let at = at(left + x, top + y);
                if let Some(place) = below.get_mut(at..at + 4) {
                    place[..3].copy_from_slice(&colour);
                    place[3] = 255;
                }
            }
        }
        let mut above = transparent(self.size, &|root| self.draw(root));
        for (above, below) in above.chunks_exact_mut(4).zip(below.chunks_exact(4)) {
            if above[3] < 128 && below[3] == 255 {
                above.copy_from_slice(below);
            }
        }
        encode(self.size, &above)
    }

    fn colour(&self, pixels: &Pixels, x: u32, y: u32) -> [u8; 3] {
        match self.figure.content {
            Content::HeatMap { .. } => warmth(f64::from(pixels.rgb(x, y)[0]) / 255.0),
            _ => pixels.rgb(x, y),
        }
    }

    fn draw<B: DrawingBackend>(&self, root: &Area<B>) {
        register_font();
        // An error here is one of the backend's (a font, a buffer): what is drawn so far is shown.
        let _ = self.try_draw(root);
    }

    fn try_draw<B: DrawingBackend>(&self, root: &Area<B>) -> Drawn<B> {
        let (width, height) = (self.size.0 as i32, self.size.1 as i32);
        let figure = self.figure;
        if !figure.title.is_empty() {
            write_at(root, &figure.title, (width / 2, 15), 15, HPos::Center, GREY)?;
        }
        match &figure.content {
            Content::Image { note, .. } => write_at(root, note, (8, height - 12), 12, HPos::Left, GREY),
            Content::HeatMap { low, high, note, .. } => self.beside_heat_map(root, *low, *high, note),
            Content::Grid {
                images, labels, wrong, ..
            } => {
                for (at, (_, [left, top, width, height])) in self.placed.iter().enumerate().take(images.len()) {
                    let (left, top, right, bottom) =
                        (*left as i32, *top as i32, (left + width) as i32, (top + height) as i32);
                    let is_wrong = wrong.get(at) == Some(&true);
                    if is_wrong {
                        let frame = Rectangle::new([(left - 2, top - 2), (right + 1, bottom + 1)], RED.stroke_width(2));
                        root.draw(&frame)?;
                    }
                    if let Some(label) = labels.get(at) {
                        let colour = if is_wrong { RED } else { GREY };
                        write_at(root, label, ((left + right) / 2, bottom + 11), 12, HPos::Center, colour)?;
                    }
                }
                Ok(())
            }
            Content::Matrix { rows, classes } => self.matrix(root, rows, classes),
            Content::Lines { series, diagonal } => {
                let range = if *diagonal { Some([0.0, 1.0, 0.0, 1.0]) } else { None };
                self.axes(root, series, range, *diagonal, false)
            }
            Content::Scatter { series } => self.axes(root, series, None, false, true),
            Content::Histogram { low, high, counts } => self.histogram(root, *low, *high, counts),
        }
    }

    fn beside_heat_map<B: DrawingBackend>(&self, root: &Area<B>, low: f64, high: f64, note: &str) -> Drawn<B> {
        let Some((_, [left, top, width, shown])) = self.placed.first() else {
            return Ok(());
        };
        let (left, top, width) = (*left as i32, *top as i32, *width as i32);
        let bar = left + width + 14;
        let height = (*shown as i32).max(60);
        for y in 0..height {
            let [r, g, b] = warmth(1.0 - f64::from(y) / f64::from(height - 1));
            root.draw(&Rectangle::new(
                [(bar, top + y), (bar + 13, top + y + 1)],
                RGBColor(r, g, b).filled(),
            ))?;
        }
        write_at(root, &number(high), (bar + 18, top + 6), 12, HPos::Left, GREY)?;
        write_at(root, &number(low), (bar + 18, top + height - 6), 12, HPos::Left, GREY)?;
        let bottom = self.size.1 as i32;
        write_at(
            root,
            &self.figure.x,
            (left + width / 2, bottom - 32),
            13,
            HPos::Center,
            GREY,
        )?;
        upright(root, &self.figure.y, (14, top + *shown as i32 / 2))?;
        write_at(root, note, (left, bottom - 12), 12, HPos::Left, GREY)
    }

    fn matrix<B: DrawingBackend>(&self, root: &Area<B>, rows: &[Vec<f64>], classes: &[String]) -> Drawn<B> {
        let side = matrix_side(rows.len()) as i32;
        let (left, top) = (
            96,
            if self.figure.title.is_empty() {
                6
            } else {
                HEAD as i32 + 4
            },
        );
        let n = rows.len() as i32;
        for (y, row) in rows.iter().enumerate() {
            // Shares of the class, so that rare classes are seen as well as common ones.
            let sum: f64 = row.iter().sum();
            for (x, value) in row.iter().enumerate() {
                let share = if sum > 0.0 { value / sum } else { 0.0 };
                let mix = |from: f64, to: f64| (from + (to - from) * share.sqrt()) as u8;
                let colour = RGBColor(mix(238.0, 24.0), mix(243.0, 84.0), mix(249.0, 160.0));
                let (x0, y0) = (left + x as i32 * side, top + y as i32 * side);
                root.draw(&Rectangle::new(
                    [(x0, y0), (x0 + side - 1, y0 + side - 1)],
                    colour.filled(),
                ))?;
                let ink = if share > 0.3 { WHITE } else { RGBColor(70, 76, 84) };
                let text = if value.fract() == 0.0 {
                    format!("{value:.0}")
                } else {
                    format!("{value:.2}")
                };
                if side >= 18 && (*value != 0.0 || side >= 30) {
                    let size = (side / 2 - text.len() as i32).clamp(8, 14);
                    write_at(root, &text, (x0 + side / 2, y0 + side / 2), size, HPos::Center, ink)?;
                }
            }
            let class = classes.get(y).map_or(String::new(), |name| cut(name, 10));
            write_at(
                root,
                &class,
                (left - 6, top + y as i32 * side + side / 2),
                12,
                HPos::Right,
                GREY,
            )?;
            let class = cut(&class, (side as usize / 7).max(2));
            write_at(
                root,
                &class,
                (left + y as i32 * side + side / 2, top + n * side + 10),
                12,
                HPos::Center,
                GREY,
            )?;
        }
        let x = if self.figure.x.is_empty() {
            "predicted"
        } else {
            &self.figure.x
        };
        let y = if self.figure.y.is_empty() {
            "true"
        } else {
            &self.figure.y
        };
        write_at(
            root,
            x,
            (left + n * side / 2, top + n * side + 32),
            13,
            HPos::Center,
            GREY,
        )?;
        upright(root, y, (12, top + n * side / 2))
    }

    fn axes<B: DrawingBackend>(
        &self,
        root: &Area<B>,
        series: &[Series],
        range: Option<[f64; 4]>,
        diagonal: bool,
        points: bool,
    ) -> Drawn<B> {
        let all = || series.iter().flat_map(|series| series.points.iter().copied());
        let [x0, x1, y0, y1] = range.unwrap_or_else(|| {
            let (x0, x1) = bounds(all().map(|point| point.0));
            let (y0, y1) = bounds(all().map(|point| point.1));
            let pad_x = if points { (x1 - x0) * 0.03 } else { 0.0 };
            [x0 - pad_x, x1 + pad_x, y0 - (y1 - y0) * 0.05, y1 + (y1 - y0) * 0.05]
        });
        let named = series.iter().enumerate().filter(|(_, series)| !series.name.is_empty());
        let named = named.take(12).map(|(at, series)| {
            let colour = PALETTE[at % PALETTE.len()].to_rgba();
            (cut(&series.name, 36), colour)
        });
        let above = legend(root, named.collect(), self.head(), (62, 13))?;
        let mut chart = self.mesh(root, above, x0..x1, y0..y1)?;
        if diagonal {
            let line = [(0.0, 0.0), (1.0, 1.0)];
            chart.draw_series(DashedLineSeries::new(line, 5, 5, GREY.mix(0.8).stroke_width(1)))?;
        }
        for (at, one) in series.iter().enumerate() {
            let colour = PALETTE[at % PALETTE.len()];
            if points {
                // Where many lie above each other, it gets darker.
                let ink = colour.mix(if one.points.len() > 300 { 0.45 } else { 0.8 }).filled();
                let size = if one.points.len() > 1000 { 2 } else { 3 };
                chart.draw_series(one.points.iter().map(|point| Circle::new(*point, size, ink)))?;
            } else {
                chart.draw_series(LineSeries::new(one.points.iter().copied(), colour.stroke_width(2)))?;
                if one.points.len() <= 30 && !diagonal {
                    chart.draw_series(one.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
                }
            }
        }
        Ok(())
    }

    fn histogram<B: DrawingBackend>(&self, root: &Area<B>, low: f64, high: f64, counts: &[u64]) -> Drawn<B> {
        let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
        let (low, high) = if high > low {
            (low, high)
        } else {
            (low - 0.5, low + 0.5)
        };
        let mut chart = self.mesh(root, self.head(), low..high, 0.0..most * 1.05)?;
        let width = (high - low) / counts.len().max(1) as f64;
        chart.draw_series(counts.iter().enumerate().map(|(at, count)| {
            let left = low + width * at as f64;
            let mut bar = Rectangle::new([(left, 0.0), (left + width, *count as f64)], PALETTE[0].filled());
            bar.set_margin(0, 0, 0, 1);
            bar
        }))?;
        Ok(())
    }

    /// Where what lies below the title may begin.
    fn head(&self) -> i32 {
        if self.figure.title.is_empty() { 10 } else { HEAD as i32 }
    }

    fn mesh<'b, B: DrawingBackend + 'b>(
        &self,
        root: &'b Area<B>,
        above: i32,
        x: std::ops::Range<f64>,
        y: std::ops::Range<f64>,
    ) -> Result<Axes<'b, B>, DrawingAreaErrorKind<B::ErrorType>> {
        let text = (FONT, 13).into_font().color(&GREY);
        let mut chart = ChartBuilder::on(root)
            .margin(8)
            .margin_right(16)
            .margin_top(above)
            .x_label_area_size(if self.figure.x.is_empty() { 26 } else { 40 })
            .y_label_area_size(if self.figure.y.is_empty() { 48 } else { 62 })
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(self.figure.x.as_str())
            .y_desc(self.figure.y.as_str())
            .axis_desc_style(text.clone())
            .label_style(text)
            .bold_line_style(GREY.mix(0.22))
            .light_line_style(TRANSPARENT)
            .axis_style(GREY.mix(0.8))
            .x_labels(if self.size.0 > 500 { 8 } else { 5 })
            .y_labels(6)
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .draw()?;
        Ok(chart)
    }
}

/// Colours from dark blue over green to yellow, by stops like those of matplotlib's viridis; as bright as the value is high.
fn warmth(value: f64) -> [u8; 3] {
    const STOPS: [[f64; 3]; 5] = [
        [68.0, 1.0, 84.0],
        [59.0, 82.0, 139.0],
        [33.0, 145.0, 140.0],
        [94.0, 201.0, 98.0],
        [253.0, 231.0, 37.0],
    ];
    let place = value.clamp(0.0, 1.0) * 4.0;
    let stop = (place as usize).min(3);
    std::array::from_fn(|i| {
        (STOPS[stop][i] + (STOPS[stop + 1][i] - STOPS[stop][i]) * (place - stop as f64)).round() as u8
    })
}

/// The size at which pixels are shown: small ones a whole number of times larger, so that none is wider than another.
fn shown_size(pixels: &Pixels, wanted: u32) -> Option<(u32, u32)> {
    if !pixels.whole() || pixels.width > 4096 || pixels.height > 4096 {
        return None;
    }
    let longest = pixels.width.max(pixels.height);
    let scale = (wanted / longest).max(1);
    Some((pixels.width * scale, pixels.height * scale))
}

/// The picture's size and the places of images in a grid.
fn grid(images: &[Pixels], head: u32) -> Option<((u32, u32), Vec<Placed<'_>>)> {
    let columns = (images.len() as u32).clamp(1, 8);
    let (width, height) = shown_size(images.first()?, 64)?;
    let (cell_w, cell_h) = (width.max(56) + 14, height + 28);
    let mut placed = Vec::new();
    for (at, image) in images.iter().enumerate() {
        let at = at as u32;
        image.whole().then_some(())?;
        let (left, top) = (
            at % columns * cell_w + (cell_w - width) / 2,
            head + 6 + at / columns * cell_h,
        );
        placed.push((image, [left, top, width, height]));
    }
    let rows = (images.len() as u32).div_ceil(columns);
    Some(((columns * cell_w, head + 6 + rows * cell_h), placed))
}

/// The side of a confusion matrix's cell.
fn matrix_side(classes: usize) -> u32 {
    (420 / classes.max(1) as u32).clamp(8, 72)
}

/// Bounds that are not the same number.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    match (low.is_finite(), high > low) {
        (false, _) => (0.0, 1.0),
        (_, true) => (low, high),
        _ => (low - low.abs().max(1.0) * 0.5, low + low.abs().max(1.0) * 0.5),
    }
}

/// The first letters of a text.
fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let mut text: String = text.chars().take(letters.saturating_sub(1)).collect();
    text.push('…');
    text
}

fn write_at<B: DrawingBackend>(
    root: &Area<B>,
    text: &str,
    at: (i32, i32),
    size: i32,
    side: HPos,
    colour: RGBColor,
) -> Drawn<B> {
    let style = (FONT, size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(side, VPos::Center));
    root.draw(&Text::new(text.to_owned(), at, style))
}

fn upright<B: DrawingBackend>(root: &Area<B>, text: &str, at: (i32, i32)) -> Drawn<B> {
    let font = (FONT, 13).into_font().transform(FontTransform::Rotate270);
    let style = font.color(&GREY).pos(Pos::new(HPos::Center, VPos::Center));
    root.draw(&Text::new(text.to_owned(), at, style))
}

#[cfg(test)]
mod tests;
