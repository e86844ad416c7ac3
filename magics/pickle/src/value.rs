//! What a pickle holds.

use crate::tensor::{DType, Tensor};
use crate::{Result, pickler, unpickler};
use std::rc::Rc;

/// An object of Python's, as far as files of PyTorch and Lightning hold any.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// One that needs more than 64 bits: two's complement, the lowest byte first.
    Long(Rc<[u8]>),
    /// A number.
    Float(f64),
    /// A text, or a path.
    Str(Rc<str>),
    /// Bytes.
    Bytes(Rc<[u8]>),
    /// A list.
    List(Vec<Value>),
    /// A tuple, or a `torch.Size`.
    Tuple(Vec<Value>),
    /// A set, in the file's order.
    Set(Vec<Value>),
    /// A dictionary, ordered or not, or an object that is one: Lightning's `AttributeDict`, argparse's `Namespace`.
    Dict(Vec<(Value, Value)>),
    /// A tensor, or a parameter.
    Tensor(Tensor),
    /// A type of numbers, such as `torch.float32`.
    DType(DType),
}

impl Value {
    /// Reads a pickle alone, without the numbers of its tensors.
    ///
    /// ```
    /// use lightcell_pickle::Value;
    /// assert_eq!(Value::from_pickle(b"\x80\x02K\x07.")?, Value::Int(7));
    /// # Ok::<(), lightcell_pickle::Error>(())
    /// ```
    ///
    /// # Errors
    /// When it is damaged, or names a type that is not read.
    pub fn from_pickle(bytes: &[u8]) -> Result<Value> {
        Ok(unpickler::read(bytes)?.0)
    }

    /// Writes a pickle of protocol 2.
    ///
    /// # Errors
    /// When a text or whole number is too long, or a tensor reaches outside of its storage.
    pub fn to_pickle(&self) -> Result<Vec<u8>> {
        pickler::write(self)
    }

    /// A text.
    pub fn text(text: &str) -> Value {
        Value::Str(text.into())
    }

    /// A dictionary with these names.
    pub fn dict<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        let entry = |(name, value): (K, Value)| (Value::text(name.as_ref()), value);
        Value::Dict(entries.into_iter().map(entry).collect())
    }

    /// The entry of this name, if this is a dictionary and has one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let entries = self.entries()?;
        // Of two with one name the later counts.
        let mut found = entries.iter().rev().filter(|(key, _)| key.as_str() == Some(name));
        found.next().map(|(_, value)| value)
    }

    /// The entries, if this is a dictionary.
    pub fn entries(&self) -> Option<&[(Value, Value)]> {
        match self {
            Value::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items of a list or a tuple.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if this is one that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The number, if this is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// What kind of thing this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Long(_) => "an int",
            Value::Float(_) => "a float",
            Value::Str(_) => "a str",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "a list",
            Value::Tuple(_) => "a tuple",
            Value::Set(_) => "a set",
            Value::Dict(_) => "a dict",
            Value::Tensor(_) => "a tensor",
            Value::DType(_) => "a dtype",
        }
    }
}
