//! A tensor's values as text, in the form in which PyTorch writes them: four digits, columns, a large one cut to the first
//! and last three of each dimension. Below them stands what `{:?}` says: shape and kind.

use lightcell_cell::Rich;
use tch::{Device, Kind, Tensor};

/// Digits behind the point.
const PRECISION: usize = 4;
/// With more elements than this a tensor is cut.
const THRESHOLD: usize = 1000;
/// So many are left at each end of a dimension that is cut.
const EDGE: i64 = 3;
/// Characters in a line.
const WIDTH: usize = 80;

/// Says to the notebook how a tensor is shown, when the library is loaded: nobody calls it.
#[used]
// SAFETY: the section holds addresses of functions without arguments, which the loader calls once, before anything else of
// the library; this one only writes into a static of another crate.
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = register;

extern "C" fn register() {
    lightcell_cell::show_as::<Tensor>(|tensor| Rich::default().and_text(shown(tensor)));
}

/// Values, shape, kind, and where it is or that it has a gradient, if so.
fn shown(tensor: &Tensor) -> String {
    let mut about = format!("Tensor[{:?}, {:?}", tensor.size(), kind(tensor));
    if let Device::Cuda(index) = tensor.device() {
        about.push_str(&format!(", Cuda({index})"));
    }
    if tensor.requires_grad() {
        about.push_str(", requires_grad");
    }
    about.push(']');
    match values(tensor, 0) {
        Some(values) => format!("{values}\n{about}"),
        None => about,
    }
}

fn kind(tensor: &Tensor) -> Kind {
    tensor.f_kind().unwrap_or(Kind::Float)
}

/// The values, indented behind the first line; `None` for kinds without a form here (complex, quantised, sparse).
fn values(tensor: &Tensor, indent: usize) -> Option<String> {
    let tensor = tensor.f_detach().ok()?;
    let cut = tensor.numel() > THRESHOLD;
    let mut small = tensor.shallow_clone();
    for (at, length) in (0..).zip(tensor.size()) {
        if cut && length > 2 * EDGE {
            let ends = [
                small.f_narrow(at, 0, EDGE).ok()?,
                small.f_narrow(at, length - EDGE, EDGE).ok()?,
            ];
            small = Tensor::f_cat(&ends, at).ok()?;
        }
    }
    let flat = small
        .f_to_device(Device::Cpu)
        .ok()?
        .f_contiguous()
        .ok()?
        .f_view([-1])
        .ok()?;
    let elements = match kind(&tensor) {
        Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16 => {
            floats(&Vec::<f64>::try_from(flat.f_to_kind(Kind::Double).ok()?).ok()?)
        }
        Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64 => {
            let numbers = Vec::<i64>::try_from(flat.f_to_kind(Kind::Int64).ok()?).ok()?;
            aligned(numbers.iter().map(i64::to_string).collect())
        }
        Kind::Bool => {
            let numbers = Vec::<i64>::try_from(flat.f_to_kind(Kind::Int64).ok()?).ok()?;
            aligned(numbers.iter().map(|yes| (*yes != 0).to_string()).collect())
        }
        _ => return None,
    };
    let mut layout = Layout {
        cut,
        elements: elements.into_iter(),
        full: tensor.size(),
        shown: small.size(),
    };
    Some(layout.block(0, indent))
}

fn aligned(texts: Vec<String>) -> Vec<String> {
    let width = texts.iter().map(String::len).max().unwrap_or(0);
    texts.into_iter().map(|text| format!("{text:>width$}")).collect()
}

/// Whole numbers as `3.`, others with four digits, all as powers of ten when they are far apart, large or small.
fn floats(values: &[f64]) -> Vec<String> {
    let sizes = values
        .iter()
        .map(|value| value.abs())
        .filter(|size| size.is_finite() && *size > 0.0);
    let (least, most) = sizes.fold((f64::INFINITY, 0.0_f64), |(least, most), size| {
        (least.min(size), most.max(size))
    });
    let whole = values.iter().all(|value| !value.is_finite() || value.fract() == 0.0);
    let powers = most > 0.0 && (most / least > 1000.0 || most > 1e8 || (!whole && least < 1e-4));
    let text = |value: &f64| match value {
        value if value.is_nan() => "nan".to_owned(),
        value if value.is_infinite() => if *value > 0.0 { "inf" } else { "-inf" }.to_owned(),
        value if powers => power(*value),
        value if whole => format!("{value:.0}."),
        value => format!("{value:.PRECISION$}"),
    };
    // What is not finite, or zero, does not widen the others.
    let counts = values.iter().filter(|value| value.is_finite() && **value != 0.0);
    let width = counts.map(|value| text(value).len()).max().unwrap_or(0);
    values.iter().map(|value| format!("{:>width$}", text(value))).collect()
}

/// `1.0000e+05`
fn power(value: f64) -> String {
    let text = format!("{value:.PRECISION$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// Puts elements into brackets.
struct Layout {
    cut: bool,
    elements: std::vec::IntoIter<String>,
    full: Vec<i64>,
    shown: Vec<i64>,
}

impl Layout {
    fn block(&mut self, dim: usize, indent: usize) -> String {
        let Some(&shown) = self.shown.get(dim) else {
            return self.elements.next().unwrap_or_default();
        };
        let gap = (self.cut && self.full[dim] > 2 * EDGE).then_some(EDGE);
        let last = dim + 1 == self.shown.len();
        let mut parts = Vec::new();
        for at in 0..shown {
            if gap == Some(at) {
                parts.push(if last { " ..." } else { "..." }.to_owned());
            }
            parts.push(self.block(dim + 1, indent + 1));
        }
        let between = if last {
            return format!("[{}]", lines(&parts, indent));
        } else {
            format!(",{}{}", "\n".repeat(self.shown.len() - dim - 1), " ".repeat(indent + 1))
        };
        format!("[{}]", parts.join(&between))
    }
}

/// Elements in lines of equal length.
fn lines(parts: &[String], indent: usize) -> String {
    let width = parts
        .iter()
        .filter(|part| !part.ends_with("..."))
        .map(String::len)
        .max()
        .unwrap_or(0);
    let each = (WIDTH.saturating_sub(indent) / (width + 2)).max(1);
    let lines: Vec<String> = parts.chunks(each).map(|line| line.join(", ")).collect();
    lines.join(&format!(",\n{}", " ".repeat(indent + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PyTorch 2.13 prints, less its `tensor(…)`.
    #[test]
    fn values_are_written_as_pytorch_writes_them() {
        let float = |values: &[f32]| Tensor::from_slice(values);
        let count = |end: i64| Tensor::arange(end, (Kind::Float, Device::Cpu));
        for (tensor, text) in [
            (float(&[1.0, 2.0, 3.0]), "[1., 2., 3.]"),
            (
                Tensor::from_slice(&[1_i64, 20, 300, 4]).view([2, 2]),
                "[[  1,  20],\n        [300,   4]]",
            ),
            (float(&[0.00001, 1000.0, 2.0]), "[1.0000e-05, 1.0000e+03, 2.0000e+00]"),
            (float(&[3.5]).squeeze(), "3.5000"),
            (Tensor::from_slice(&[true, false]), "[ true, false]"),
            (float(&[]), "[]"),
            (
                Tensor::arange(2000, (Kind::Int64, Device::Cpu)),
                "[   0,    1,    2,  ..., 1997, 1998, 1999]",
            ),
            (float(&[f32::NAN, 1.5, f32::INFINITY]), "[   nan, 1.5000,    inf]"),
            (
                count(30) / 7.0,
                "[0.0000, 0.1429, 0.2857, 0.4286, 0.5714, 0.7143, 0.8571, 1.0000, 1.1429,\n        \
                 1.2857, 1.4286, 1.5714, 1.7143, 1.8571, 2.0000, 2.1429, 2.2857, 2.4286,\n        \
                 2.5714, 2.7143, 2.8571, 3.0000, 3.1429, 3.2857, 3.4286, 3.5714, 3.7143,\n        \
                 3.8571, 4.0000, 4.1429]",
            ),
            (
                count(8).view([2, 2, 2]),
                "[[[0., 1.],\n         [2., 3.]],\n\n        [[4., 5.],\n         [6., 7.]]]",
            ),
            (float(&[-1.5, 2.25]), "[-1.5000,  2.2500]"),
            (float(&[123456789.0, 1.0]), "[1.2346e+08, 1.0000e+00]"),
            (float(&[1.0, f32::INFINITY]), "[1., inf]"),
            (float(&[5e-4]).view([1, 1]), "[[0.0005]]"),
            (
                Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)),
                "[[0., 0., 0.],\n        [0., 0., 0.]]",
            ),
            (
                count(1100).view([11, 100]),
                "[[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 9.7000e+01, 9.8000e+01,\n         9.9000e+01],\n        \
                 [1.0000e+02, 1.0100e+02, 1.0200e+02,  ..., 1.9700e+02, 1.9800e+02,\n         1.9900e+02],\n        \
                 [2.0000e+02, 2.0100e+02, 2.0200e+02,  ..., 2.9700e+02, 2.9800e+02,\n         2.9900e+02],\n        ...,\n        \
                 [8.0000e+02, 8.0100e+02, 8.0200e+02,  ..., 8.9700e+02, 8.9800e+02,\n         8.9900e+02],\n        \
                 [9.0000e+02, 9.0100e+02, 9.0200e+02,  ..., 9.9700e+02, 9.9800e+02,\n         9.9900e+02],\n        \
                 [1.0000e+03, 1.0010e+03, 1.0020e+03,  ..., 1.0970e+03, 1.0980e+03,\n         1.0990e+03]]",
            ),
        ] {
            // As behind `tensor(`.
            assert_eq!(values(&tensor, 7).as_deref(), Some(text), "{tensor:?}");
        }
    }

    #[test]
    fn shape_and_kind_stand_below() {
        let tensor = Tensor::from_slice(&[1.0_f64, 2.5]).set_requires_grad(true);
        assert_eq!(shown(&tensor), "[1.0000, 2.5000]\nTensor[[2], Double, requires_grad]");
        let complex = Tensor::zeros([2], (Kind::ComplexFloat, Device::Cpu));
        assert_eq!(shown(&complex), "Tensor[[2], ComplexFloat]");
        let large = Tensor::zeros([100, 100], (Kind::Int, Device::Cpu));
        assert!(shown(&large).ends_with("\nTensor[[100, 100], Int]") && shown(&large).lines().count() == 8);
    }
}
