//! Curves over epochs, with `plotters`.

use crate::figure::PALETTE;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::sync::Once;

/// How a curve looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Training, blue.
    Train,
    /// Training step by step, pale blue, thin.
    Step,
    /// Validation, orange.
    Validation,
    /// Anything else, green.
    Other,
    /// One of several of a kind, in a colour of its own; after six they come again.
    Nth(usize),
}

impl Tone {
    fn colour(self) -> RGBAColor {
        match self {
            Tone::Train => RGBColor(52, 128, 206).to_rgba(),
            Tone::Step => RGBColor(52, 128, 206).mix(0.35),
            Tone::Validation => RGBColor(226, 122, 46).to_rgba(),
            Tone::Other => RGBColor(46, 158, 98).to_rgba(),
            Tone::Nth(number) => PALETTE[number % PALETTE.len()].to_rgba(),
        }
    }
}

/// A curve. Points that are no numbers are passed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// For the legend; empty for none.
    pub name: String,
    /// How it looks.
    pub tone: Tone,
    /// Points, by x.
    pub points: Vec<(f64, f64)>,
}

/// A chart with named axes.
///
/// ```
/// use lightcell_plot::{Chart, Curve, Tone};
/// let curve = Curve { name: "train_loss".into(), tone: Tone::Train, points: vec![(1.0, 2.0), (2.0, 1.0)] };
/// let chart = Chart { x: "epoch".into(), y: "loss".into(), curves: vec![curve], ..Chart::default() };
/// assert!(chart.svg((320, 200)).contains("train_loss"));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// Name of the x axis.
    pub x: String,
    /// Name of the y axis.
    pub y: String,
    /// Curves, drawn in this order.
    pub curves: Vec<Curve>,
    /// A point to mark: the best epoch, a suggestion.
    pub mark: Option<(f64, f64)>,
    /// Whether x is drawn by its logarithm; points that are not above 0 are then passed over.
    pub log_x: bool,
    /// Small charts in rows of three below it, for what has another scale. They make the picture higher.
    pub panels: Vec<Chart>,
}

/// Small charts in a row, and how high they are.
const IN_A_ROW: usize = 3;
const PANEL: u32 = 150;

/// Sizes of what stands around the curves.
struct Style {
    font: i32,
    margin: i32,
    left: i32,
    below: i32,
    x_labels: usize,
    y_labels: usize,
    /// Curves of so many points have each of them marked.
    marked: usize,
}

const LARGE: Style = Style {
    font: 13,
    margin: 8,
    left: 62,
    below: 38,
    x_labels: 8,
    y_labels: 6,
    marked: 40,
};
const SMALL: Style = Style {
    font: 11,
    margin: 4,
    left: 48,
    below: 20,
    x_labels: 4,
    y_labels: 4,
    marked: 1,
};

const GREY: RGBColor = RGBColor(136, 136, 136);

/// The name under which the shipped font is known to the bitmap backend, and any viewer's own to SVG.
const FONT: &str = "sans-serif";

pub(crate) fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let font = include_bytes!("../font/DejaVuSans-Latin.ttf");
        // The file is part of the program; a test draws with it.
        let _ = plotters::style::register_font(FONT, FontStyle::Normal, font);
    });
}

/// Pixels of red, green, blue and opacity, of what is drawn on nothing.
pub(crate) fn transparent(size: (u32, u32), draw: &dyn Fn(&DrawingArea<BitMapBackend, Shift>)) -> Vec<u8> {
    // plotters draws opaque pixels: drawn once on black and once on white, the difference is the opacity.
    let on = |colour: RGBColor| -> Vec<u8> {
        let mut pixels = vec![0u8; (size.0 * size.1 * 3) as usize];
        {
            let root = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
            let _ = root.fill(&colour);
            draw(&root);
            let _ = root.present();
        }
        pixels
    };
    let (black, white) = (on(BLACK), on(WHITE));
    let mut rgba = Vec::with_capacity(black.len() / 3 * 4);
    for (b, w) in black.chunks_exact(3).zip(white.chunks_exact(3)) {
        let alpha = 255 - (0..3).map(|i| w[i].saturating_sub(b[i])).max().unwrap_or(0);
        for value in b {
            let plain = if alpha == 0 {
                0
            } else {
                (u32::from(*value) * 255 / u32::from(alpha)).min(255)
            };
            rgba.push(plain as u8);
        }
        rgba.push(alpha);
    }
    rgba
}

/// The PNG file of such pixels.
pub(crate) fn encode(size: (u32, u32), rgba: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    // It is drawn once, behind the last frame, and stays in the notebook: small counts, not fast. Lines on nothing are smallest
    // unfiltered.
    let encoder = PngEncoder::new_with_quality(&mut file, CompressionType::Best, FilterType::NoFilter);
    let _ = image::ImageEncoder::write_image(encoder, rgba, size.0, size.1, image::ColorType::Rgba8);
    file
}

impl Chart {
    /// As SVG, on nothing.
    pub fn svg(&self, size: (u32, u32)) -> String {
        let mut svg = String::new();
        let size = self.whole(size);
        {
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            self.draw(&root);
            let _ = root.present();
        }
        // For screen readers, and so that the picture shrinks with its column.
        let label = format!("chart of {} over {}", self.y, self.x);
        svg.replacen(
            "<svg ",
            &format!("<svg role=\"img\" aria-label=\"{label}\" style=\"max-width:100%\" "),
            1,
        )
    }

    /// As a PNG file, on nothing.
    pub fn png(&self, size: (u32, u32)) -> Vec<u8> {
        let size = self.whole(size);
        let mut rgba = transparent(size, &|root| self.draw(root));
        // Sixteen shades are enough for the edges of lines, and make the file a third smaller.
        for value in &mut rgba {
            *value = ((u16::from(*value) + 8) / 17 * 17) as u8;
        }
        encode(size, &rgba)
    }

    /// Its size, with that of the small charts below it.
    fn whole(&self, size: (u32, u32)) -> (u32, u32) {
        (size.0, size.1 + PANEL * self.panels.len().div_ceil(IN_A_ROW) as u32)
    }

    fn finite(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.curves
            .iter()
            .flat_map(|curve| curve.points.iter().copied())
            .filter(|(x, y)| x.is_finite() && y.is_finite() && (!self.log_x || *x > 0.0))
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) {
        register_font();
        let rows = self.panels.len().div_ceil(IN_A_ROW);
        let high = root.dim_in_pixel().1.saturating_sub(PANEL * rows as u32);
        let (above, below) = root.split_vertically(high);
        // An error here is one of the backend's (a font, a buffer): what is drawn so far is shown.
        let _ = self.try_draw(&above, &LARGE);
        for (panel, area) in self
            .panels
            .iter()
            .zip(below.split_evenly((rows.max(1), self.panels.len().clamp(1, IN_A_ROW))))
        {
            let _ = panel.try_draw(&area, &SMALL);
        }
    }

    fn try_draw<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        sizes: &Style,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let (mut x0, mut x1) = match self.log_x {
            true => (f64::INFINITY, f64::NEG_INFINITY),
            false => (0.0f64, 1.0f64),
        };
        let (mut y0, mut y1) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut smallest = f64::INFINITY;
        for (x, y) in self.finite() {
            (x0, x1) = (x0.min(x), x1.max(x));
            (y0, y1) = (y0.min(y), y1.max(y));
            smallest = smallest.min(if y > 0.0 { y } else { f64::INFINITY });
        }
        if y0 > y1 {
            (y0, y1) = (0.0, 1.0);
        }
        if self.log_x && x0 >= x1 {
            // Nothing, or one point only.
            (x0, x1) = if x0.is_finite() {
                (x0 / 10.0, x0 * 10.0)
            } else {
                (0.1, 1.0)
            };
        }
        let log = y0 > 0.0 && y1 / y0 > 100.0;
        let text = (FONT, sizes.font).into_font().color(&GREY);
        let named = || {
            let named = self.curves.iter().filter(|curve| !curve.name.is_empty());
            named.map(|curve| (curve.name.clone(), curve.tone.colour()))
        };
        let above = legend(root, named().collect(), sizes.margin, (sizes.left, sizes.font))?;
        let mut builder = ChartBuilder::on(root);
        builder
            .margin(sizes.margin)
            .margin_right(16)
            .margin_top(above)
            .x_label_area_size(sizes.below)
            .y_label_area_size(sizes.left);
        let grid = GREY.mix(0.22);
        let axis = GREY.mix(0.8);
        macro_rules! with {
            ($x:expr, $y:expr) => {{
                let mut chart = builder.build_cartesian_2d($x, $y)?;
                chart
                    .configure_mesh()
                    .x_desc(self.x.as_str())
                    .y_desc(self.y.as_str())
                    .axis_desc_style(text.clone())
                    .label_style(text.clone())
                    .bold_line_style(grid)
                    .light_line_style(TRANSPARENT)
                    .axis_style(axis)
                    .x_labels(sizes.x_labels)
                    .y_labels(sizes.y_labels)
                    .x_label_formatter(&|x| number(*x))
                    .y_label_formatter(&|y| number(*y))
                    .draw()?;
                for curve in &self.curves {
                    let points: Vec<_> = curve
                        .points
                        .iter()
                        .copied()
                        .filter(|(x, y)| {
                            x.is_finite() && y.is_finite() && (!log || *y > 0.0) && (!self.log_x || *x > 0.0)
                        })
                        .collect();
                    let style = curve
                        .tone
                        .colour()
                        .stroke_width(if curve.tone == Tone::Step { 1 } else { 2 });
                    if points.len() <= sizes.marked && curve.tone != Tone::Step {
                        chart.draw_series(
                            points
                                .iter()
                                .map(|point| Circle::new(*point, 3, curve.tone.colour().filled())),
                        )?;
                    }
                    chart.draw_series(LineSeries::new(points, style))?;
                }
                if let Some(mark) = self.mark.filter(|(x, y)| x.is_finite() && y.is_finite()) {
                    chart.draw_series([Circle::new(mark, 7, Tone::Validation.colour().stroke_width(2))])?;
                }
            }};
        }
        let pad = ((y1 - y0) * 0.06).max(y1.abs() * 1e-3).max(1e-9);
        let linear = (y0 - pad)..(y1 + pad);
        match (self.log_x, log) {
            (false, false) => with!(x0..x1, linear),
            (false, true) => with!(x0..x1, (y0..y1 * 1.05).log_scale()),
            (true, false) => with!((x0..x1).log_scale(), linear),
            (true, true) => with!((x0..x1).log_scale(), (y0..y1 * 1.05).log_scale()),
        }
        Ok(())
    }
}

/// Writes names in their colours in rows from `top` on, and says where what lies below may begin. Above the axes they cover no
/// curve, however it runs.
pub(crate) fn legend<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    named: Vec<(String, RGBAColor)>,
    top: i32,
    (left, font): (i32, i32),
) -> Result<i32, DrawingAreaErrorKind<B::ErrorType>> {
    if named.is_empty() {
        return Ok(top);
    }
    let width = root.dim_in_pixel().0 as i32;
    let style = (FONT, font)
        .into_font()
        .color(&GREY)
        .pos(Pos::new(HPos::Left, VPos::Center));
    let (mut x, mut y) = (left, top + 9);
    for (name, colour) in named {
        let wide = 26 + root.estimate_text_size(&name, &style)?.0 as i32;
        if x > left && x + wide > width - 16 {
            (x, y) = (left, y + 17);
        }
        root.draw(&PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(3)))?;
        root.draw(&Text::new(name, (x + 26, y), style.clone()))?;
        x += wide + 18;
    }
    Ok(y + 15)
}

/// A number with as many digits as an axis needs.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{value:.0e}")
    } else {
        let text = format!(
            "{value:.*}",
            if size >= 100.0 {
                0
            } else if size >= 1.0 {
                2
            } else {
                4
            }
        );
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        let curve = Curve {
            name: "val_loss".into(),
            tone: Tone::Validation,
            points,
        };
        Chart {
            x: "epoch".into(),
            y: "loss".into(),
            curves: vec![curve],
            mark: Some((1.0, 1.0)),
            ..Chart::default()
        }
    }

    #[test]
    fn axes_and_curves_are_named() {
        let svg = chart(vec![(1.0, 2.0), (2.0, 1.0)]).svg((640, 360));
        for text in [
            ">\nepoch\n",
            ">\nloss\n",
            ">\nval_loss\n",
            "aria-label=\"chart of loss over epoch\"",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(!svg.contains("<script"));
    }

    #[test]
    fn small_charts_stand_below_in_rows_of_three() {
        let mut large = chart(vec![(1.0, 2.0), (2.0, 1.0)]);
        assert!(large.svg((640, 320)).contains("height=\"320\""));
        large.panels = (0..4)
            .map(|number| {
                let mut panel = chart(vec![(1.0, 2.0), (2.0, 1.0)]);
                panel.curves[0].name = format!("metric_{number}");
                panel
            })
            .collect();
        let svg = large.svg((640, 320));
        assert!(svg.contains("height=\"620\""), "{svg}");
        for number in 0..4 {
            assert!(svg.contains(&format!("metric_{number}")));
        }
        let png = image::load_from_memory(&large.png((640, 320))).unwrap();
        assert_eq!((png.width(), png.height()), (640, 620));
    }

    #[test]
    fn nothing_odd_makes_it_panic() {
        for points in [
            vec![],
            vec![(1.0, f64::NAN)],
            vec![(1.0, f64::INFINITY), (2.0, 1.0)],
            vec![(1.0, 0.0)],
            vec![(1.0, -1e300), (2.0, 1e300)],
            vec![(1.0, 1e-12), (2.0, 1e9)],
            vec![(1.0, 5.0), (1.0, 5.0)],
            vec![(0.0, 1.0), (-1.0, 1.0)],
            vec![(1e-8, 2.0), (1.0, 9.0)],
        ] {
            let mut chart = chart(points);
            for log_x in [false, true] {
                chart.log_x = log_x;
                assert!(chart.svg((320, 200)).ends_with("</svg>\n") || chart.svg((320, 200)).contains("</svg>"));
                assert!(!chart.png((320, 200)).is_empty());
            }
        }
    }

    #[test]
    fn a_png_has_the_size_shows_something_and_is_on_nothing() {
        let png = chart(vec![(1.0, 2.0), (2.0, 1.0)]).png((320, 200));
        let image = image::load_from_memory(&png).unwrap().to_rgba8();
        assert_eq!(image.dimensions(), (320, 200));
        assert_eq!(image.get_pixel(0, 0)[3], 0);
        let drawn = image.pixels().filter(|pixel| pixel[3] > 128).count();
        assert!(drawn > 300, "{drawn}");
        let orange = image
            .pixels()
            .filter(|p| p[3] == 255 && p[0] > 200 && p[2] < 90)
            .count();
        assert!(orange > 50, "{orange}");
    }

    #[test]
    fn numbers_on_axes_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (2.5, "2.5"),
            (10.0, "10"),
            (0.001, "0.001"),
            (1e-7, "1e-7"),
            (12345.0, "12345"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
