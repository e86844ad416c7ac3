//! What the calls of a pickle make: the fixed list of what PyTorch's files need.

use super::{Id, Machine, Node, StorageRef};
use crate::globals::Global;
use crate::tensor::{DType, Tensor};
use crate::value::Value;
use crate::{Result, fault};
use std::rc::Rc;

impl Machine<'_> {
    /// What a persistent id names: ('storage', class, key, device, length), and for old files how it is part of another.
    pub(super) fn storage(&self, id: Id) -> Result<Node> {
        let items = self.items(id)?;
        if !(5..=6).contains(&items.len()) || &*self.text(items[0])? != "storage" {
            return fault("a reference to a storage is not one");
        }
        let Node::Global(Global::Storage(dtype)) = self.node(items[1]) else {
            return fault("a storage is of no type");
        };
        if let Some(view) = items.get(5)
            && !matches!(self.node(*view), Node::Leaf(Value::None))
        {
            return fault("a storage is part of another, as before PyTorch 0.4");
        }
        Ok(Node::Storage(Box::new(StorageRef {
            dtype: *dtype,
            key: self.text(items[2])?,
            len: self.number(items[4])?,
        })))
    }

    /// What stands for the result of a call.
    pub(super) fn call(&self, of: Id, args: Id, depth: usize) -> Result<Node> {
        let Node::Global(global) = self.node(of) else {
            return fault("it calls what is no function");
        };
        let args = self.items(args)?;
        let first = args.first().copied();
        Ok(match global {
            Global::Dict => Node::Dict(match first {
                Some(from) => self.entries(from)?,
                None => Vec::new(),
            }),
            Global::Namespace => Node::Namespace(Vec::new()),
            Global::Set => Node::Set(match first {
                Some(items) => self.items(items)?.to_vec(),
                None => Vec::new(),
            }),
            Global::Size => Node::Tuple(match first {
                Some(items) => self.items(items)?.to_vec(),
                None => Vec::new(),
            }),
            Global::Path => {
                let parts: Vec<Rc<str>> = args.iter().map(|part| self.text(*part)).collect::<Result<_>>()?;
                let joined = parts.join("/");
                Node::Leaf(Value::text(
                    joined.strip_prefix("//").map_or(joined.as_str(), |_| &joined[1..]),
                ))
            }
            Global::Device => match (first, args.get(1)) {
                (Some(name), Some(index)) => {
                    Node::Leaf(Value::text(&format!("{}:{}", self.text(name)?, self.number(*index)?)))
                }
                (Some(name), None) => Node::Leaf(Value::Str(self.text(name)?)),
                (None, _) => return fault("a device has no name"),
            },
            Global::Encode | Global::Bytes => self.bytes_of(first)?,
            Global::Tensor => Node::Leaf(Value::Tensor(self.tensor(args)?)),
            Global::Parameter => {
                let (Some(data), Some(grad)) = (first, args.get(1)) else {
                    return fault("a parameter has no tensor");
                };
                let (Node::Leaf(Value::Tensor(tensor)), Node::Leaf(Value::Bool(requires_grad))) =
                    (self.node(data), self.node(*grad))
                else {
                    return fault("a parameter has no tensor");
                };
                Node::Leaf(Value::Tensor(Tensor {
                    requires_grad: *requires_grad,
                    ..tensor.clone()
                }))
            }
            Global::FromType => match args {
                [function, _, args, _] if depth < 2 => self.call(*function, *args, depth + 1)?,
                _ => return fault("a tensor is not made as PyTorch makes it"),
            },
            Global::Storage(_) | Global::DType(_) | Global::TensorClass => {
                return fault("it calls a type that makes nothing by itself");
            }
        })
    }

    fn entries(&self, id: Id) -> Result<Vec<(Id, Id)>> {
        match self.node(id) {
            Node::Dict(entries) => Ok(entries.clone()),
            _ => {
                let pair = |id: &Id| match self.items(*id)? {
                    [key, value] => Ok((*key, *value)),
                    _ => fault("an entry of a dictionary is no pair"),
                };
                self.items(id)?.iter().map(pair).collect()
            }
        }
    }

    fn bytes_of(&self, first: Option<Id>) -> Result<Node> {
        let Some(id) = first else {
            return Ok(Node::Leaf(Value::Bytes(Rc::from([]))));
        };
        match self.node(id) {
            Node::Leaf(Value::Bytes(bytes)) => Ok(Node::Leaf(Value::Bytes(bytes.clone()))),
            // Each byte is a character of Latin-1.
            Node::Leaf(Value::Str(text)) => {
                let bytes: Option<Rc<[u8]>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
                match bytes {
                    Some(bytes) => Ok(Node::Leaf(Value::Bytes(bytes))),
                    None => fault("bytes are not written as Latin-1"),
                }
            }
            _ => fault("bytes are missing"),
        }
    }

    /// storage, offset, size, stride, and then perhaps: requires_grad, hooks, type.
    fn tensor(&self, args: &[Id]) -> Result<Tensor> {
        let [storage, offset, size, stride, rest @ ..] = args else {
            return fault("a tensor has no storage or shape");
        };
        let Node::Storage(storage) = self.node(*storage) else {
            return fault("a tensor has no storage");
        };
        let said = rest.get(2).and_then(|id| match self.node(*id) {
            Node::Global(Global::DType(dtype)) => Some(*dtype),
            _ => None,
        });
        let (dtype, storage_len) = match (said, storage.dtype) {
            (Some(dtype), None) => (dtype, storage.len / dtype.width()),
            (None, Some(dtype)) => (dtype, storage.len),
            (Some(dtype), Some(same)) if dtype == same => (dtype, storage.len),
            (None, None) => (DType::U8, storage.len),
            (Some(dtype), Some(other)) => {
                return fault(format!(
                    "a tensor of {} is in a storage of {}",
                    dtype.name(),
                    other.name()
                ));
            }
        };
        let tensor = Tensor {
            dtype,
            storage: storage.key.to_string(),
            storage_len,
            offset: self.number(*offset)?,
            size: self.numbers(*size)?,
            stride: self.numbers(*stride)?,
            requires_grad: rest
                .first()
                .is_some_and(|id| matches!(self.node(*id), Node::Leaf(Value::Bool(true)))),
        };
        tensor.check()?;
        Ok(tensor)
    }
}
