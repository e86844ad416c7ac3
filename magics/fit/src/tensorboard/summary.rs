//! What TensorBoard shows, as its `Summary` messages: numbers, histograms, images, texts, hyperparameters. Bytes are those
//! that `torch.utils.tensorboard` writes; pictures are coded by ourselves.

use super::proto::Message;
use crate::error::{Error, Kind, Result};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use lightcell_events::run::Metrics;
use serde_json::Value;
use std::io::Write;
use tch::{Device, Kind as TKind, Tensor};

/// A summary of one value: its tag, then what `fill` adds.
fn summary(tag: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    let value = fill(Message::default().text(1, tag));
    Message::default().message(1, &value)
}

/// Metadata that name a plugin, with its own data.
fn plugin(name: &str, content: &Message) -> Message {
    let data = Message::default().text(1, name);
    let data = if content.0.is_empty() {
        data
    } else {
        data.message(2, content)
    };
    Message::default().message(1, &data)
}

/// A number. TensorBoard keeps it as a float of 32 bits.
pub(super) fn scalar(tag: &str, value: f64) -> Message {
    summary(tag, |message| message.float(2, value as f32))
}

/// A text, in Markdown.
pub(super) fn text(tag: &str, text: &str) -> Message {
    const STRING: i64 = 7;
    let one = Message::default().message(2, &Message::default().int(1, 1));
    let tensor = Message::default().int(1, STRING).message(2, &one);
    let tensor = tensor.bytes(8, text.as_bytes());
    summary(&format!("{tag}/text_summary"), |message| {
        message
            .message(8, &tensor)
            .message(9, &plugin("text", &Message::default()))
    })
}

/// The borders of TensorBoard's histograms: 0, and from 1e-12 on a tenth more each, on both sides.
fn borders() -> Vec<f64> {
    let mut right = Vec::new();
    let mut value = 1e-12;
    while value < 1e20 {
        right.push(value);
        value *= 1.1;
    }
    let left = right.iter().rev().map(|value| -value);
    left.chain([0.0]).chain(right.iter().copied()).collect()
}

/// The distribution of a tensor's numbers.
///
/// # Errors
/// When it has none, or one is no finite number.
pub(super) fn histogram(tag: &str, tensor: &Tensor) -> Result<Message> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(TKind::Double)?;
    let values: Vec<f64> = Vec::try_from(&flat.f_reshape([-1])?)?;
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        let what = if values.is_empty() {
            "no number"
        } else {
            "a number that is not finite"
        };
        return Err(Error::new(
            Kind::Data,
            format!("`{tag}` cannot be shown as a histogram: it has {what}"),
        ));
    }
    let borders = borders();
    let mut counts = vec![0.0; borders.len() - 1];
    for value in &values {
        // A bin has its left border; the last has both.
        let at = borders.partition_point(|border| border <= value);
        let at = if at == borders.len() && *value == borders[at - 1] {
            at - 1
        } else {
            at
        };
        if (1..borders.len()).contains(&at) {
            counts[at - 1] += 1.0;
        }
    }
    let first = counts.iter().position(|count| *count > 0.0).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count > 0.0).unwrap_or(0);
    // One empty bin before the first: a bin is known by its right border alone.
    let mut bins = vec![if first > 0 { counts[first - 1] } else { 0.0 }];
    bins.extend(&counts[first..=last]);
    let fold = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(0.0);
    let histogram = Message::default()
        .double_unless_zero(1, fold(f64::min))
        .double_unless_zero(2, fold(f64::max))
        .double_unless_zero(3, values.len() as f64)
        .double_unless_zero(4, values.iter().sum())
        .double_unless_zero(5, values.iter().map(|value| value * value).sum())
        .doubles(6, &borders[first..=last + 1])
        .doubles(7, &bins);
    Ok(summary(tag, |message| message.message(5, &histogram)))
}

/// A picture `[height, width]`, or `[channels, height, width]` with 1, 3 or 4 channels; bytes, or numbers from 0 to 1.
///
/// # Errors
/// When it has another shape.
pub(super) fn image(tag: &str, tensor: &Tensor) -> Result<Message> {
    let fault = || {
        Error::new(
            Kind::Shape,
            format!("`{tag}` is no picture: its shape is {:?}", tensor.size()),
        )
        .hint("[height, width], or [channels, height, width] with 1, 3 or 4 channels")
    };
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?;
    let planes = if tensor.dim() == 2 {
        tensor.f_unsqueeze(0)?
    } else {
        tensor
    };
    let &[channels, height, width] = &planes.size()[..] else {
        return Err(fault());
    };
    if ![1, 3, 4].contains(&channels) || height == 0 || width == 0 {
        return Err(fault());
    }
    // As in PyTorch, grey becomes colour.
    let planes = if channels == 1 {
        planes.f_repeat([3, 1, 1])?
    } else {
        planes
    };
    let channels = channels.max(3);
    let bytes = if planes.kind() == TKind::Uint8 {
        planes
    } else {
        (planes.f_to_kind(TKind::Float)? * 255.0)
            .f_clamp(0.0, 255.0)?
            .f_to_kind(TKind::Uint8)?
    };
    let bytes = bytes.f_permute([1, 2, 0])?.f_contiguous()?;
    let pixels: Vec<u8> = Vec::try_from(&bytes.f_reshape([-1])?)?;
    let png = png(width as u32, height as u32, channels as u8, &pixels)?;
    let picture = Message::default()
        .int(1, height)
        .int(2, width)
        .int(3, channels)
        .bytes(4, &png);
    Ok(summary(tag, |message| message.message(4, &picture)))
}

/// A PNG file (www.w3.org/TR/png-3) of 8 bits per channel, no row filtered.
fn png(width: u32, height: u32, channels: u8, pixels: &[u8]) -> Result<Vec<u8>> {
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks(width as usize * channels as usize) {
        rows.write_all(&[0])?;
        rows.write_all(row)?;
    }
    let colour = if channels == 4 { 6 } else { 2 };
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, colour, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"IHDR", header), (b"IDAT", rows.finish()?), (b"IEND", Vec::new())] {
        file.extend((data.len() as u32).to_be_bytes());
        let mut sum = flate2::Crc::new();
        for part in [name.as_slice(), &data] {
            sum.update(part);
            file.extend(part);
        }
        file.extend(sum.sum().to_be_bytes());
    }
    Ok(file)
}

/// Hyperparameters with names such as `optimizer/lr`: what lies within is brought up.
fn flat(value: &Value, prefix: &str, all: &mut Vec<(String, Value)>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        match value {
            Value::Object(_) => flat(value, &name, all),
            Value::Null => {}
            Value::Array(_) => all.push((name, Value::String(value.to_string()))),
            _ => all.push((name, value.clone())),
        }
    }
}

/// Hyperparameters, and the names of the metrics that say how good they are: the three messages of TensorBoard's plugin.
pub(super) fn hparams(hparams: &Value, metrics: &Metrics) -> [Message; 3] {
    const SUCCESS: i64 = 1;
    let mut all = Vec::new();
    flat(hparams, "", &mut all);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut experiment = Message::default();
    let mut session = Message::default();
    for (name, value) in &all {
        // Types of TensorBoard's DataType; fields of google.protobuf.Value.
        let (kind, value) = match value {
            Value::Bool(yes) => (2, Message::default().bool(4, *yes)),
            Value::Number(number) => (3, Message::default().double(2, number.as_f64().unwrap_or(f64::NAN))),
            Value::String(text) => (1, Message::default().bytes(3, text.as_bytes())),
            _ => continue,
        };
        experiment = experiment.message(4, &Message::default().text(1, name).int(4, kind));
        session = session.message(1, &Message::default().text(1, name).message(2, &value));
    }
    for name in metrics.keys() {
        let name = Message::default().text(2, name);
        experiment = experiment.message(5, &Message::default().message(1, &name));
    }
    let end = Message::default().int(1, SUCCESS);
    [
        ("experiment", 2, experiment),
        ("session_start_info", 3, session),
        ("session_end_info", 4, end),
    ]
    .map(|(tag, field, content)| {
        let data = Message::default().message(field, &content);
        summary(&format!("_hparams_/{tag}"), |message| {
            message.message(9, &plugin("hparams", &data))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let _turn = crate::tests::in_turn();
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (TKind::Float, Device::Cpu));
        assert_eq!(
            image("a", &zeros(&[2, 3, 3])).unwrap_err().to_string(),
            "`a` is no picture: its shape is [2, 3, 3]\nhint: [height, width], or [channels, height, width] with 1, 3 or 4 channels"
        );
        assert!(image("a", &zeros(&[3])).is_err());
        assert_eq!(
            histogram("h", &zeros(&[0])).unwrap_err().message(),
            "`h` cannot be shown as a histogram: it has no number"
        );
        assert_eq!(
            histogram("h", &(zeros(&[2]) / 0.0)).unwrap_err().message(),
            "`h` cannot be shown as a histogram: it has a number that is not finite"
        );
    }
}
