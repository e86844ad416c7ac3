//! What can go wrong, in plain words, with what to do about it.

use std::fmt;

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a message of one or two lines and, where there is one, a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Data that cannot be read, or are not what they should be.
    Data,
    /// Tensors whose shapes do not fit.
    Shape,
    /// A class label outside of the model's classes.
    Label,
    /// A device that is not there.
    Device,
    /// The device has no memory left.
    Memory,
    /// A loss that is no number.
    NonFinite,
    /// An option with a wrong value.
    Option,
    /// The model's own code failed.
    Model,
    /// Anything else that libtorch said.
    Torch,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where it happened, before the message.
    #[must_use]
    pub fn at(mut self, place: &str) -> Error {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message, without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do, if that is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What libtorch said, in plain words: its own first line, without the frames of its C++.
    pub fn from_torch(text: &str) -> Error {
        let line = first_line(text);
        if let Some(rest) = after(line, "mat1 and mat2 shapes cannot be multiplied (") {
            let shapes = rest.trim_end_matches(')');
            let (a, b) = shapes.split_once(" and ").unwrap_or((shapes, "?"));
            return Error::new(
                Kind::Shape,
                format!("shapes do not fit: the input is {a}, the layer's weight {b}"),
            )
            .hint("the input's last number and the weight's first must be equal: look at the layer's input size");
        }
        if let Some(rest) = after(line, "Target ")
            && let Some((label, _)) = rest.split_once(" is out of bounds")
        {
            return Error::new(Kind::Label, format!("label {label} is outside of the model's classes"))
                .hint("labels count from 0: the last layer needs as many outputs as there are classes");
        }
        if line.contains("device-side assert triggered") {
            return Error::new(Kind::Label, "an index was outside of its range on the GPU, usually a label outside of the model's classes; the GPU cannot be used until the kernel is restarted")
                .hint("restart the kernel, then check the labels with `TensorDataset::new(x, y)?.classes(10)?`, or train with `--accelerator cpu`, which names the label");
        }
        if line.contains("index out of range in self") {
            return Error::new(
                Kind::Label,
                "an index is outside of the table: of an embedding's entries, for example",
            )
            .hint("indices count from 0 and must be less than the number of entries");
        }
        if line.contains("Expected all tensors to be on the same device") {
            return Error::new(Kind::Device, "tensors are on different devices")
                .hint("make new tensors where the input is: `(Kind::Float, x.device())`");
        }
        if line.contains("out of memory") || line.contains("DefaultCPUAllocator: can't allocate memory") {
            return Error::new(Kind::Memory, "the device has no memory left").hint("use a smaller batch size");
        }
        if line.contains("expected scalar type")
            || line.contains("Expected floating point type")
            || line.contains("target dtype")
            || line.contains("Found dtype")
            || line.contains("must have the same dtype")
        {
            return Error::new(Kind::Shape, format!("element types do not fit: {line}"))
                .hint("inputs are usually Kind::Float and labels Kind::Int64: convert with `.to_kind(…)`");
        }
        let shape = [
            "The size of tensor a",
            "shape",
            "size mismatch",
            "Expected input batch_size",
            "Sizes of tensors must match",
            "expected input[",
            "target tensor expected",
        ];
        if shape.iter().any(|words| line.contains(words)) {
            return Error::new(Kind::Shape, format!("shapes do not fit: {line}"));
        }
        Error::new(Kind::Torch, line)
    }
}

/// libtorch's message proper: what comes before its stack, without the prefixes that tch and unwrap put before it.
fn first_line(text: &str) -> &str {
    let mut text = text;
    for prefix in [
        "called `Result::unwrap()` on an `Err` value: ",
        "Torch(\"",
        "Internal torch error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let end = ["\\n", "\n", "Exception raised from"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
        .unwrap_or(text.len());
    text[..end].trim().trim_end_matches("\")")
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.find(mark).map(|at| &text[at + mark.len()..])
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Error {
        Error::from_torch(&error.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::new(Kind::Data, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorchs_words_become_plain() {
        let shape = Error::from_torch(
            "called `Result::unwrap()` on an `Err` value: Torch(\"mat1 and mat2 shapes cannot be multiplied (64x64 and 63x128)\\nException raised from meta at x.cpp:1\")",
        );
        assert_eq!(
            shape.message(),
            "shapes do not fit: the input is 64x64, the layer's weight 63x128"
        );
        assert_eq!(shape.kind(), Kind::Shape);
        let label = Error::from_torch(
            "Internal torch error: Target 12 is out of bounds.\nException raised from nll at y.cpp:2",
        );
        assert_eq!(
            label.to_string(),
            "label 12 is outside of the model's classes\nhint: labels count from 0: the last layer needs as many outputs as there are classes"
        );
        let memory = Error::from_torch("CUDA out of memory. Tried to allocate 2 GiB");
        assert_eq!(memory.kind(), Kind::Memory);
        let kind = Error::from_torch("expected scalar type Long but found Float");
        assert!(kind.to_string().contains("convert with"), "{kind}");
        let fault = Error::from_torch(
            "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
        );
        assert_eq!(fault.kind(), Kind::Label);
        assert!(fault.hint_text().unwrap().starts_with("restart the kernel"));
        let devices = Error::from_torch(
            "Expected all tensors to be on the same device, but got mat2 is on cuda:0, different from other tensors on cpu",
        );
        assert_eq!(
            devices.to_string(),
            "tensors are on different devices\nhint: make new tensors where the input is: `(Kind::Float, x.device())`"
        );
        let other = Error::from_torch("something else\nframe #0: c10::Error");
        assert_eq!(other.message(), "something else");
    }

    #[test]
    fn real_errors_of_libtorch_are_understood() {
        use tch::{Kind as TKind, Tensor};
        let cpu = (TKind::Float, tch::Device::Cpu);
        let error = Tensor::ones([2, 3], cpu)
            .f_matmul(&Tensor::ones([4, 5], cpu))
            .unwrap_err();
        assert_eq!(
            Error::from(error).message(),
            "shapes do not fit: the input is 2x3, the layer's weight 4x5"
        );
        let logits = Tensor::ones([2, 3], cpu);
        let loss = |labels: &Tensor| {
            Error::from(
                logits
                    .f_cross_entropy_loss::<Tensor>(labels, None, tch::Reduction::Mean, -100, 0.0)
                    .unwrap_err(),
            )
        };
        assert_eq!(
            loss(&Tensor::from_slice(&[0i64, 7])).message(),
            "label 7 is outside of the model's classes"
        );
        assert_eq!(
            loss(&Tensor::from_slice(&[0i64, -1])).message(),
            "label -1 is outside of the model's classes"
        );
        assert_eq!(
            loss(&Tensor::from_slice(&[0i64])).message(),
            "shapes do not fit: Expected input batch_size (2) to match target batch_size (1)."
        );
        let kinds = loss(&Tensor::from_slice(&[0.0f32, 1.0]));
        assert!(
            kinds.to_string().starts_with("element types do not fit: ") && kinds.hint_text().is_some(),
            "{kinds}"
        );
        let table = Tensor::ones([3, 2], cpu);
        let error = Tensor::f_embedding(&table, &Tensor::from_slice(&[5i64]), -1, false, false).unwrap_err();
        assert!(
            Error::from(error)
                .message()
                .starts_with("an index is outside of the table")
        );
        let image = Tensor::ones([2, 3, 8, 8], cpu);
        let error = image
            .f_conv2d::<Tensor>(&Tensor::ones([4, 1, 3, 3], cpu), None, 1, 0, 1, 1)
            .unwrap_err();
        assert_eq!(Error::from(error).kind(), Kind::Shape);
        let error = Tensor::f_cat(&[&table, &Tensor::ones([3, 3], cpu)], 0).unwrap_err();
        assert_eq!(Error::from(error).kind(), Kind::Shape);
        // Whatever it is, it is short.
        for error in [
            image.f_view([7, 7]).unwrap_err(),
            image.f_softmax(9, tch::Kind::Float).unwrap_err(),
            Tensor::f_zeros([-1], cpu).unwrap_err(),
        ] {
            let error = Error::from(error);
            assert!(
                error.message().lines().count() == 1 && !error.message().contains("Exception raised"),
                "{error}"
            );
        }
    }
}
