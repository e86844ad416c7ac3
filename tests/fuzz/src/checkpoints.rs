//! Files of torch.save, and pickles alone.

use lightcell_pickle::{Archive, Storage, Value, write};
use std::collections::BTreeMap;
use std::io::Cursor;

/// What is read of a file is written, and read again as it was.
pub fn checkpoints(data: &[u8]) {
    if let Ok(value) = Value::from_pickle(data) {
        goes_round(&value);
    }
    let Ok(mut archive) = Archive::new(Cursor::new(data)) else {
        return;
    };
    let Ok(object) = archive.object() else {
        return;
    };
    let mut storages = BTreeMap::new();
    let mut whole = true;
    let mut open = vec![&object];
    while let Some(value) = open.pop() {
        match value {
            Value::Tensor(tensor) => match archive.storage(tensor) {
                Ok(bytes) => {
                    assert_eq!(bytes.len() as u64, tensor.storage_len * tensor.dtype.width());
                    storages.insert(tensor.storage.clone(), bytes);
                }
                Err(_) => whole = false,
            },
            Value::List(items) | Value::Tuple(items) => open.extend(items),
            Value::Dict(entries) => open.extend(entries.iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    goes_round(&object);
    let storages = storages.into_iter().map(|(key, bytes)| Storage { key, bytes });
    if let (true, Ok(written)) = (whole, write(Vec::new(), &object, storages)) {
        let mut again = Archive::new(Cursor::new(written)).unwrap();
        same(&again.object().unwrap(), &object);
    }
}

fn goes_round(value: &Value) {
    if let Ok(written) = value.to_pickle() {
        same(&Value::from_pickle(&written).unwrap(), value);
    }
}

/// Equal; a number that is none is not equal to itself, but its text is.
fn same(a: &Value, b: &Value) {
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}
