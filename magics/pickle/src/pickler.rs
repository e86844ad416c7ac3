//! Writes a pickle of protocol 2, with the instructions that `torch.load(weights_only=True)` admits.

use crate::opcodes::*;
use crate::tensor::{DType, Tensor};
use crate::value::Value;
use crate::{Result, fault};

/// The pickle of an object.
pub(crate) fn write(object: &Value) -> Result<Vec<u8>> {
    let mut out = vec![PROTO, 2];
    value(&mut out, object)?;
    out.push(STOP);
    Ok(out)
}

fn value(out: &mut Vec<u8>, value: &Value) -> Result<()> {
    match value {
        Value::None => out.push(NONE),
        Value::Bool(true) => out.push(NEWTRUE),
        Value::Bool(false) => out.push(NEWFALSE),
        Value::Int(number) => whole(out, *number),
        Value::Long(bytes) => long(out, bytes)?,
        Value::Float(number) => {
            out.push(BINFLOAT);
            out.extend(number.to_be_bytes());
        }
        Value::Str(said) => text(out, said)?,
        Value::Bytes(bytes) => {
            let said: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            global(out, "_codecs", "encode");
            text(out, &said)?;
            text(out, "latin1")?;
            out.extend([TUPLE2, REDUCE]);
        }
        Value::List(items) => {
            out.extend([EMPTY_LIST, MARK]);
            all(out, items)?;
            out.push(APPENDS);
        }
        Value::Tuple(items) => tuple(out, items)?,
        Value::Set(items) => {
            global(out, "__builtin__", "set");
            out.extend([EMPTY_LIST, MARK]);
            all(out, items)?;
            out.extend([APPENDS, TUPLE1, REDUCE]);
        }
        Value::Dict(entries) => {
            out.extend([EMPTY_DICT, MARK]);
            for (key, entry) in entries {
                self::value(out, key)?;
                self::value(out, entry)?;
            }
            out.push(SETITEMS);
        }
        Value::Tensor(tensor) => self::tensor(out, tensor)?,
        Value::DType(dtype) => global(out, "torch", dtype.name()),
    }
    Ok(())
}

fn all(out: &mut Vec<u8>, items: &[Value]) -> Result<()> {
    items.iter().try_for_each(|item| value(out, item))
}

fn tuple(out: &mut Vec<u8>, items: &[Value]) -> Result<()> {
    if items.is_empty() {
        out.push(EMPTY_TUPLE);
        return Ok(());
    }
    out.push(MARK);
    all(out, items)?;
    out.push(TUPLE);
    Ok(())
}

fn whole(out: &mut Vec<u8>, number: i64) {
    if let Ok(short) = i32::try_from(number) {
        out.push(BININT);
        out.extend(short.to_le_bytes());
    } else {
        out.extend([LONG1, 8]);
        out.extend(number.to_le_bytes());
    }
}

fn long(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let Ok(count) = u8::try_from(bytes.len()) else {
        return fault(format!("a whole number of {} bytes cannot be written", bytes.len()));
    };
    out.extend([LONG1, count]);
    out.extend(bytes);
    Ok(())
}

fn text(out: &mut Vec<u8>, said: &str) -> Result<()> {
    let Ok(count) = u32::try_from(said.len()) else {
        return fault(format!("a text of {} bytes cannot be written", said.len()));
    };
    out.push(BINUNICODE);
    out.extend(count.to_le_bytes());
    out.extend(said.bytes());
    Ok(())
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.push(GLOBAL);
    out.extend(format!("{module}\n{name}\n").bytes());
}

fn tensor(out: &mut Vec<u8>, tensor: &Tensor) -> Result<()> {
    tensor.check()?;
    let numbers = |list: &[u64]| -> Vec<Value> { list.iter().map(|n| Value::Int(*n as i64)).collect() };
    // Types without a storage class of their own are made from bytes.
    let class = tensor.dtype.storage();
    let function = if class.is_some() {
        "_rebuild_tensor_v2"
    } else {
        "_rebuild_tensor_v3"
    };
    global(out, "torch._utils", function);
    out.extend([MARK, MARK]);
    text(out, "storage")?;
    match class {
        Some(class) => global(out, "torch", class),
        None => global(out, "torch.storage", "UntypedStorage"),
    }
    text(out, &tensor.storage)?;
    text(out, "cpu")?;
    let count = match class {
        Some(_) => tensor.storage_len,
        None => tensor.storage_len * tensor.dtype.width(),
    };
    whole(out, count as i64);
    out.extend([TUPLE, BINPERSID]);
    whole(out, tensor.offset as i64);
    tuple(out, &numbers(&tensor.size))?;
    tuple(out, &numbers(&tensor.stride))?;
    out.push(if tensor.requires_grad { NEWTRUE } else { NEWFALSE });
    global(out, "collections", "OrderedDict");
    out.extend([EMPTY_TUPLE, REDUCE]);
    if class.is_none() {
        dtype(out, tensor.dtype);
    }
    out.extend([TUPLE, REDUCE]);
    Ok(())
}

fn dtype(out: &mut Vec<u8>, dtype: DType) {
    global(out, "torch", dtype.name());
}
