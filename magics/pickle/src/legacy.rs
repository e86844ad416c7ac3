//! Files of before PyTorch 1.6, and of `_use_new_zipfile_serialization=False`: five pickles one after another, then the
//! storages. Much of what torchvision offers was written so.

use crate::tensor::DType;
use crate::unpickler;
use crate::value::Value;
use crate::{Result, fault};
use std::collections::HashMap;

/// What the first pickle holds, the lowest byte first.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Whether a file begins like one.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.len() > 14 && bytes[..4] == [0x80, 2, 0x8a, 10] && bytes[4..14] == MAGIC
}

/// Where in the file the numbers of each storage are: place and length.
pub(crate) type Places = HashMap<String, (u64, u64)>;

/// The object, and the places of its storages.
pub(crate) fn read(bytes: &[u8]) -> Result<(Value, Places)> {
    let mut at = 0;
    let mut next = || {
        let (value, length) = unpickler::read(&bytes[at..])?;
        at += length;
        Ok::<_, crate::Error>((value, at))
    };
    // The magic number, the version of the protocol, and the machine.
    next()?;
    next()?;
    let (machine, _) = next()?;
    if machine.get("little_endian") != Some(&Value::Bool(true)) {
        return fault("it was written on a machine with the other order of bytes");
    }
    let (object, _) = next()?;
    let (keys, begin) = next()?;
    let mut widths = HashMap::new();
    each_tensor(&object, &mut |storage, dtype| {
        widths.insert(storage.to_owned(), dtype.width());
    });
    let mut places = Places::new();
    let mut at = begin;
    for key in keys.items().unwrap_or_default() {
        let Some(key) = key.as_str() else {
            return fault("the name of a storage is no text");
        };
        let Some(count) = bytes.get(at..at + 8) else {
            return fault(format!("storage {key} is missing: the file is not whole"));
        };
        let mut number = [0; 8];
        number.copy_from_slice(count);
        let count = u64::from_le_bytes(number);
        let Some(width) = widths.get(key) else {
            return fault(format!("storage {key} is that of no tensor"));
        };
        let length = count.checked_mul(*width).and_then(|n| usize::try_from(n).ok());
        let end = length.and_then(|n| (at + 8).checked_add(n));
        let (Some(length), Some(end)) = (length, end.filter(|end| *end <= bytes.len())) else {
            return fault(format!(
                "storage {key} should have {count} numbers, and the file ends before"
            ));
        };
        places.insert(key.to_owned(), (at as u64 + 8, length as u64));
        at = end;
    }
    Ok((object, places))
}

fn each_tensor(value: &Value, visit: &mut dyn FnMut(&str, DType)) {
    match value {
        Value::Tensor(tensor) => visit(&tensor.storage, tensor.dtype),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => {
            items.iter().for_each(|item| each_tensor(item, visit));
        }
        Value::Dict(entries) => entries.iter().for_each(|(_, value)| each_tensor(value, visit)),
        _ => {}
    }
}
