//! The types and functions that a file may name. None of them is called: each stands for a way to make a value.

use crate::tensor::DType;
use crate::{Result, fault};

/// One that may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    /// A dictionary; what else it is said to hold is left out, such as the `_metadata` of a state dict.
    Dict,
    /// An object that is its dictionary.
    Namespace,
    Set,
    /// A class whose object is a tuple: `torch.Size`.
    Size,
    /// A path: its parts.
    Path,
    /// `torch.device`: its name.
    Device,
    /// Bytes, as protocol 2 writes them.
    Encode,
    Bytes,
    /// A storage's class; without a type, one of bytes.
    Storage(Option<DType>),
    DType(DType),
    /// `_rebuild_tensor`, `_v2` and `_v3`.
    Tensor,
    Parameter,
    /// A tensor with Python's attributes.
    FromType,
    /// The class of a tensor, which `FromType` gets.
    TensorClass,
}

/// What this name stands for.
pub(crate) fn find(module: &str, name: &str) -> Result<Global> {
    Ok(match (module, name) {
        ("collections", "OrderedDict" | "Counter") => Global::Dict,
        (
            "pytorch_lightning.utilities.parsing"
            | "lightning.pytorch.utilities.parsing"
            | "lightning_fabric.utilities.data"
            | "lightning.fabric.utilities.data",
            "AttributeDict",
        ) => Global::Dict,
        ("argparse", "Namespace") | ("types", "SimpleNamespace") => Global::Namespace,
        ("builtins" | "__builtin__", "set" | "frozenset") => Global::Set,
        ("builtins" | "__builtin__", "bytes" | "bytearray") => Global::Bytes,
        ("_codecs", "encode") => Global::Encode,
        ("pathlib" | "pathlib._local", "PosixPath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath" | "Path") => {
            Global::Path
        }
        ("torch", "Size") => Global::Size,
        ("torch", "device") => Global::Device,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => Global::Tensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::Parameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::FromType,
        ("torch", "Tensor") | ("torch._tensor", "Tensor") | ("torch.nn.parameter", "Parameter" | "Buffer") => {
            Global::TensorClass
        }
        ("torch.storage", "UntypedStorage") | ("torch", "UntypedStorage") => Global::Storage(None),
        ("torch", name) if DType::of_storage(name).is_some() => Global::Storage(DType::of_storage(name)),
        ("torch", name) if DType::named(name).is_some() => match DType::named(name) {
            Some(dtype) => Global::DType(dtype),
            None => return refused(module, name),
        },
        _ => return refused(module, name),
    })
}

fn refused(module: &str, name: &str) -> Result<Global> {
    let short = |text: &str| text.chars().take(100).collect::<String>();
    fault(format!(
        "it names `{}.{}`, which is not among the types that are read (tensors, numbers, texts, lists, dictionaries)",
        short(module),
        short(name)
    ))
}
