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
    /// The user stopped it, and a part of it is no result.
    Stopped,
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
        if let Some((before, _)) = line.split_once("' returned nan values")
            && let Some((_, operation)) = before.rsplit_once('\'')
        {
            let operation = operation
                .trim_end_matches(char::is_numeric)
                .trim_end_matches("Backward");
            return Error::new(Kind::Model, format!("the derivative of {operation} is NaN"))
                .hint("the loss is a number but its derivative is none: a root, norm or power at 0, or `where_self` over a branch that divides by 0");
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
        if out_of_memory(line) {
            return Error::new(Kind::Memory, format!("the device has no memory left{}", wanted(line)))
                .hint("use a smaller batch size; `accumulate-grad-batches` makes one step of several of them");
        }
        if let Some(fault) = device_fault(line) {
            return fault;
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

/// Whether libtorch, or one of the libraries that it calls, found no memory.
fn out_of_memory(line: &str) -> bool {
    [
        "out of memory",
        "can't allocate memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
        "not enough memory",
    ]
    .iter()
    .any(|words| line.contains(words))
}

/// How much memory was wanted, and how much was free, as far as the message says.
fn wanted(line: &str) -> String {
    let bytes = after(line, "tried to allocate ").and_then(|rest| rest.split_once(" bytes"));
    let wanted = match bytes.and_then(|(bytes, _)| bytes.parse::<f64>().ok()) {
        Some(bytes) if bytes >= f64::from(1 << 30) => Some(format!("{:.1} GiB", bytes / f64::from(1 << 30))),
        Some(bytes) => Some(format!("{:.1} MiB", bytes / f64::from(1 << 20))),
        None => after(line, "Tried to allocate ")
            .and_then(|rest| rest.split_once(". "))
            .map(|(size, _)| size.to_owned()),
    };
    let free = after(line, " of which ").and_then(|rest| rest.split_once(" is free"));
    match (wanted, free) {
        (Some(wanted), Some((free, _))) => format!(": {wanted} were wanted, {free} are free"),
        (Some(wanted), None) => format!(": {wanted} were wanted"),
        (None, _) => String::new(),
    }
}

/// A device that failed, or cannot be used at all.
fn device_fault(line: &str) -> Option<Error> {
    let words = |list: &[&str]| list.iter().any(|words| line.contains(words));
    if words(&["no kernel image is available", "CUDA driver version is insufficient"]) {
        return Some(
            Error::new(
                Kind::Device,
                "this libtorch cannot use the GPU: the driver or the GPU is too old for it",
            )
            .hint("`%gpu` shows driver and devices; update the driver, or use `--accelerator cpu`"),
        );
    }
    if words(&[
        "driver shutting down",
        "CUDA-capable device",
        "GPU is lost",
        "device unavailable",
        "busy or unavailable",
    ]) {
        return Some(
            Error::new(Kind::Device, "the GPU is not there any more, or another program has it for itself")
                .hint("look at `%gpu` and `nvidia-smi`; then restart the kernel and go on from a checkpoint with `--ckpt-path last`"),
        );
    }
    // Whatever was asked of it before: a message comes late.
    if words(&["CUDA error: ", "cuDNN error: ", "CUDNN_STATUS_", "CUBLAS_STATUS_"]) {
        return Some(
            Error::new(Kind::Device, format!("the GPU failed: {line}"))
                .hint("the step that is named may not be the one at fault; restart the kernel, and go on from a checkpoint with `--ckpt-path last`"),
        );
    }
    None
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
        assert_eq!(
            memory.to_string(),
            "the device has no memory left\nhint: use a smaller batch size; `accumulate-grad-batches` makes one step of several of them"
        );
        let memory = Error::from_torch(
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.20 GiB is free. Process 7 has 77 GiB in use.",
        );
        assert_eq!(
            memory.message(),
            "the device has no memory left: 2.50 GiB were wanted, 1.20 GiB are free"
        );
        for text in [
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        ] {
            assert_eq!(Error::from_torch(text).kind(), Kind::Memory, "{text}");
        }
        let fault = Error::from_torch("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might");
        assert_eq!(
            fault.to_string(),
            "the GPU failed: CUDA error: an illegal memory access was encountered\nhint: the step that is named may not be the one at fault; restart the kernel, and go on from a checkpoint with `--ckpt-path last`"
        );
        let lost = Error::from_torch("CUDA error: all CUDA-capable devices are busy or unavailable");
        assert_eq!(
            lost.to_string(),
            "the GPU is not there any more, or another program has it for itself\nhint: look at `%gpu` and `nvidia-smi`; then restart the kernel and go on from a checkpoint with `--ckpt-path last`"
        );
        let old = Error::from_torch("CUDA error: no kernel image is available for execution on the device");
        assert_eq!(
            old.to_string(),
            "this libtorch cannot use the GPU: the driver or the GPU is too old for it\nhint: `%gpu` shows driver and devices; update the driver, or use `--accelerator cpu`"
        );
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
        let error = Tensor::f_zeros([1 << 50], cpu).unwrap_err();
        assert_eq!(
            Error::from(error).message(),
            "the device has no memory left: 4194304.0 GiB were wanted"
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
