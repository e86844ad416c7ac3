//! A figure as data: what is to be drawn, without how. It travels inside a display under [`MIME`]; the kernel draws it, so
//! no cell is compiled with a plotting library.
//!
//! ```
//! use lightcell_events::figure::{Content, Figure, Series};
//! let series = Series { name: "sin".into(), points: vec![(0.0, 0.0), (1.0, 0.84)] };
//! let figure = Figure { title: "waves".into(), content: Content::Lines { series: vec![series], diagonal: false }, ..Figure::default() };
//! assert_eq!(Figure::decode(&figure.encode()).unwrap(), figure);
//! assert!(figure.text().starts_with("waves\nsin: 2 points"));
//! ```

use serde::{Deserialize, Serialize};

/// The media type of a figure's JSON.
pub const MIME: &str = "application/vnd.lightcell.figure+json";
/// The media type of a request to save it: the name of the socket (abstract, datagrams) that waits for the answer, a line
/// break, and the path. The answer is empty when it is written, else what went wrong. A display with it is not shown.
pub const SAVE: &str = "application/vnd.lightcell.save";

/// A figure.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figure {
    /// Above it; may be empty.
    pub title: String,
    /// Name of the x axis; may be empty.
    pub x: String,
    /// Name of the y axis; may be empty.
    pub y: String,
    /// What is drawn.
    pub content: Content,
}

/// A line or a cloud of points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// For the legend; may be empty.
    pub name: String,
    /// Finite numbers.
    pub points: Vec<(f64, f64)>,
}

/// Pixels, row by row from the top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pixels {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 for grey, 3 for red, green and blue.
    pub channels: u32,
    /// `height · width · channels` bytes, in JSON as hexadecimal digits.
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

impl Pixels {
    /// Whether there are as many bytes as the size says.
    pub fn whole(&self) -> bool {
        let bytes = u64::from(self.width) * u64::from(self.height) * u64::from(self.channels);
        matches!(self.channels, 1 | 3) && bytes > 0 && self.bytes.len() as u64 == bytes
    }

    /// Red, green and blue of the pixel at a place within.
    pub fn rgb(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * self.width as usize + x as usize) * self.channels as usize;
        match (self.channels, self.bytes.get(at..at + self.channels as usize)) {
            (3, Some(&[r, g, b])) => [r, g, b],
            (_, Some(&[grey, ..])) => [grey; 3],
            _ => [0; 3],
        }
    }
}

/// What a figure shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// An image.
    Image {
        /// Its pixels.
        pixels: Pixels,
        /// Size and range of what it was made from, in words.
        note: String,
    },
    /// A matrix in colours.
    HeatMap {
        /// One channel: 0 is `low`, 255 is `high`.
        pixels: Pixels,
        /// The smallest value.
        low: f64,
        /// The largest.
        high: f64,
        /// Size of what it was made from, in words.
        note: String,
    },
    /// Images beside each other.
    Grid {
        /// Of one size.
        images: Vec<Pixels>,
        /// Under each image; may be fewer.
        labels: Vec<String>,
        /// Which are marked as wrong.
        wrong: Vec<bool>,
        /// How many there are and of which size, in words.
        note: String,
    },
    /// A confusion matrix.
    Matrix {
        /// Rows are true classes, columns predicted ones.
        rows: Vec<Vec<f64>>,
        /// Names of the classes.
        classes: Vec<String>,
    },
    /// Lines.
    Lines {
        /// Each with its own colour.
        series: Vec<Series>,
        /// Whether the line x = y is drawn, from 0 to 1.
        diagonal: bool,
    },
    /// Points.
    Scatter {
        /// Each with its own colour.
        series: Vec<Series>,
    },
    /// How often values lie where.
    Histogram {
        /// Where the first bar begins.
        low: f64,
        /// Where the last ends.
        high: f64,
        /// Number of values in each bar; all are of one width.
        counts: Vec<u64>,
    },
}

impl Default for Content {
    fn default() -> Content {
        Content::Lines {
            series: Vec::new(),
            diagonal: false,
        }
    }
}

impl Figure {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        // Cannot fail: no map, no type of ours that refuses.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Figure::encode`] wrote.
    ///
    /// # Errors
    /// When it is not JSON, or no figure.
    pub fn decode(bytes: &[u8]) -> Result<Figure, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The figure in words and block characters, for consoles, logs and screen readers.
    pub fn text(&self) -> String {
        let body = self.content.text();
        match self.title.as_str() {
            "" => body,
            title => format!("{title}\n{body}"),
        }
    }
}

/// A number with four digits that count.
fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e6).contains(&size) {
        let digits = if size >= 1.0 {
            3 - size.log10().floor().min(3.0) as usize
        } else {
            4
        };
        let text = format!("{value:.digits$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    } else {
        format!("{value:.2e}")
    }
}

/// The bounds of numbers.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A line of block characters, of finite values; at most 40.
pub fn sparkline(values: &[f64]) -> String {
    const WIDTH: usize = 40;
    if values.is_empty() {
        return String::new();
    }
    let (low, high) = range(values.iter().copied());
    let span = if high > low { high - low } else { 1.0 };
    let count = values.len().min(WIDTH);
    let of = |at: usize| values[at * (values.len() - 1) / (count - 1).max(1)];
    (0..count)
        .map(|at| BLOCKS[(((of(at) - low) / span) * 7.0).round().clamp(0.0, 7.0) as usize])
        .collect()
}

impl Content {
    fn text(&self) -> String {
        let named = |name: &str| {
            if name.is_empty() {
                String::new()
            } else {
                format!("{name}: ")
            }
        };
        match self {
            Content::Image { note, .. } => note.clone(),
            Content::HeatMap { note, low, high, .. } => format!("{note}, {} to {}", short(*low), short(*high)),
            Content::Grid { labels, note, .. } if labels.is_empty() => note.clone(),
            Content::Grid { labels, note, .. } => format!("{note}: {}", labels.join(", ")),
            Content::Matrix { rows, classes } => matrix(rows, classes),
            Content::Lines { series, .. } => {
                let line = |series: &Series| {
                    let values: Vec<f64> = series.points.iter().map(|point| point.1).collect();
                    let (low, high) = range(values.iter().copied());
                    let (low, high) = (short(low), short(high));
                    format!(
                        "{}{} points, {low} to {high} {}",
                        named(&series.name),
                        values.len(),
                        sparkline(&values)
                    )
                };
                series.iter().map(line).collect::<Vec<_>>().join("\n")
            }
            Content::Scatter { series } => {
                let line = |series: &Series| {
                    let x = range(series.points.iter().map(|point| point.0));
                    let y = range(series.points.iter().map(|point| point.1));
                    let [x0, x1, y0, y1] = [x.0, x.1, y.0, y.1].map(short);
                    format!(
                        "{}{} points, x {x0} to {x1}, y {y0} to {y1}",
                        named(&series.name),
                        series.points.len()
                    )
                };
                series.iter().map(line).collect::<Vec<_>>().join("\n")
            }
            Content::Histogram { low, high, counts } => {
                let most = counts.iter().copied().max().unwrap_or(0).max(1);
                let width = (high - low) / counts.len().max(1) as f64;
                let bar = |(at, count): (usize, &u64)| {
                    let bar = "█".repeat((*count as f64 / most as f64 * 40.0).round() as usize);
                    format!("{:>9} {bar} {count}", short(low + width * at as f64))
                };
                counts.iter().enumerate().map(bar).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// A table of counts or shares.
fn matrix(rows: &[Vec<f64>], classes: &[String]) -> String {
    let mut table = vec![
        std::iter::once("true ╲ predicted".to_owned())
            .chain(classes.iter().cloned())
            .collect::<Vec<_>>(),
    ];
    for (row, class) in rows.iter().zip(classes) {
        table.push(
            std::iter::once(class.clone())
                .chain(row.iter().map(|value| short(*value)))
                .collect(),
        );
    }
    let width = |column: usize| {
        table
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..=classes.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ")
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes as hexadecimal digits: two characters a byte, where a list of numbers takes four.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |value: u8| char::from(b"0123456789abcdef"[value as usize]);
        let text: String = bytes
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect();
        serializer.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some((value(high)? * 16 + value(low)?) as u8),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.ok_or_else(|| D::Error::custom("pixels are pairs of hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_go_round_and_damaged_ones_are_refused() {
        let pixels = Pixels {
            width: 2,
            height: 1,
            channels: 3,
            bytes: vec![0, 15, 255, 16, 1, 2],
        };
        assert!(pixels.whole());
        assert_eq!(pixels.rgb(1, 0), [16, 1, 2]);
        let text = serde_json::to_string(&pixels).unwrap();
        assert!(text.contains("\"000fff100102\""), "{text}");
        assert_eq!(serde_json::from_str::<Pixels>(&text).unwrap(), pixels);
        for wrong in ["0", "zz", "00é"] {
            assert!(
                serde_json::from_str::<Pixels>(&text.replace("000fff100102", wrong)).is_err(),
                "{wrong}"
            );
        }
        let short = serde_json::from_str::<Pixels>(&text.replace("000fff100102", "00")).unwrap();
        assert!(!short.whole());
    }

    #[test]
    fn a_figure_in_words() {
        let matrix = Content::Matrix {
            rows: vec![vec![12.0, 0.0], vec![0.5, 1000.0]],
            classes: vec!["no".into(), "yes".into()],
        };
        assert_eq!(
            matrix.text(),
            "true ╲ predicted   no   yes\n              no   12     0\n             yes  0.5  1000"
        );
        let histogram = Content::Histogram {
            low: 0.0,
            high: 2.0,
            counts: vec![1, 2],
        };
        let half = "█".repeat(20);
        assert_eq!(
            histogram.text(),
            format!("        0 {half} 1\n        1 {half}{half} 2")
        );
        let line = Series {
            name: "a".into(),
            points: vec![(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)],
        };
        let lines = Content::Lines {
            series: vec![line.clone()],
            diagonal: false,
        };
        assert_eq!(lines.text(), "a: 3 points, 1 to 3 ▁█▅");
        let scatter = Content::Scatter { series: vec![line] };
        assert_eq!(scatter.text(), "a: 3 points, x 0 to 2, y 1 to 3");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 1234.5, 12.345, 0.5, -0.25, 1e-9, 3e7].map(short);
        assert_eq!(texts, ["0", "1234", "12.35", "0.5", "-0.25", "1.00e-9", "3.00e7"]);
    }
}
