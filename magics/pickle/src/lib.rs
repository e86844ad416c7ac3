//! Reads and writes the files of `torch.save`: PyTorch's `.pt` and `.pth`, Lightning's `.ckpt`.
//!
//! Such a file is a zip archive: a pickle, which is a small program that builds an object, and the bytes of the tensors
//! beside it. Python's own reader of pickles calls any function that a file names. This one admits a fixed list
//! of types and functions that only make tensors and containers, and calls none: it builds a [`Value`].
//! All lengths are checked against the file before anything is allocated. It knows no libtorch; a tensor is a description of
//! where its numbers are.
//!
//! ```
//! use lightcell_pickle::{Archive, DType, Storage, Tensor, Value, write};
//! # let path = std::env::temp_dir().join(format!("lightcell-doc-pickle-{}.pt", std::process::id()));
//! let weight = Tensor::contiguous(DType::F32, "0", &[2, 2]);
//! let object = Value::dict([("weight", Value::Tensor(weight)), ("epoch", Value::Int(3))]);
//! let numbers: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|n| n.to_le_bytes()).collect();
//! write(std::fs::File::create(&path)?, &object, [Storage { key: "0".to_owned(), bytes: numbers.clone() }])?;
//!
//! let mut archive = Archive::open(&path)?;
//! let object = archive.object()?;
//! assert_eq!(object.get("epoch"), Some(&Value::Int(3)));
//! let Some(Value::Tensor(weight)) = object.get("weight") else { panic!() };
//! assert_eq!(archive.storage(weight)?, numbers);
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod globals;
mod legacy;
mod opcodes;
mod pickler;
mod tensor;
mod unpickler;
mod value;
mod zip;

pub use archive::{Archive, Storage, write};
pub use tensor::{DType, Tensor};
pub use value::Value;

/// What is wrong with a file, and where in it.
#[derive(Debug)]
pub enum Error {
    /// It cannot be read or written.
    Io(std::io::Error),
    /// It is not what it should be.
    Format(String),
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(error) => error.fmt(f),
            Error::Format(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error)
    }
}

fn fault<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Format(text.into()))
}
