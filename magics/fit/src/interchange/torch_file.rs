//! Tensors in files of `torch.save`.

use crate::checkpoint::file;
use crate::error::{Error, Kind, Result};
use lightcell_pickle::{Archive, DType, Storage, Value};
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind as TKind, Tensor};

impl From<lightcell_pickle::Error> for Error {
    fn from(error: lightcell_pickle::Error) -> Error {
        Error::new(Kind::Data, error.to_string())
    }
}

/// Whether a file was written by `torch.save`.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn is_one(path: &Path) -> Result<bool> {
    Archive::is_one(path).map_err(|error| cannot_read(path, error.into()))
}

pub(crate) fn cannot_read(path: &Path, error: Error) -> Error {
    error.at(&format!("cannot read {}", path.display()))
}

fn kind(dtype: DType) -> Result<TKind> {
    Ok(match dtype {
        DType::F64 => TKind::Double,
        DType::F32 => TKind::Float,
        DType::F16 => TKind::Half,
        DType::BF16 => TKind::BFloat16,
        DType::I64 => TKind::Int64,
        DType::I32 => TKind::Int,
        DType::I16 => TKind::Int16,
        DType::I8 => TKind::Int8,
        DType::U8 => TKind::Uint8,
        DType::Bool => TKind::Bool,
        DType::C64 => TKind::ComplexFloat,
        DType::C128 => TKind::ComplexDouble,
        DType::F8E4M3FN => TKind::Float8e4m3fn,
        DType::F8E5M2 => TKind::Float8e5m2,
        other => return Err(Error::new(Kind::Data, format!("tch has no {}", other.name()))),
    })
}

fn dtype(name: &str, kind: TKind) -> Result<DType> {
    Ok(match kind {
        TKind::Double => DType::F64,
        TKind::Float => DType::F32,
        TKind::Half => DType::F16,
        TKind::BFloat16 => DType::BF16,
        TKind::Int64 => DType::I64,
        TKind::Int => DType::I32,
        TKind::Int16 => DType::I16,
        TKind::Int8 => DType::I8,
        TKind::Uint8 => DType::U8,
        TKind::Bool => DType::Bool,
        TKind::ComplexFloat => DType::C64,
        TKind::ComplexDouble => DType::C128,
        TKind::Float8e4m3fn => DType::F8E4M3FN,
        TKind::Float8e5m2 => DType::F8E5M2,
        other => {
            let error = format!("{name} is of Kind::{other:?}, which a file of torch.save cannot hold here");
            return Err(Error::new(Kind::Data, error));
        }
    })
}

/// An open file and the storages that were read of it: tensors that share one there share it here.
pub(crate) struct Reader {
    archive: Archive,
    storages: HashMap<(String, TKind), Tensor>,
}

impl Reader {
    /// Opens a file and reads its object.
    ///
    /// # Errors
    /// When it cannot be read, or holds what is not read.
    pub fn open(path: &Path) -> Result<(Reader, Value)> {
        let open = || -> Result<(Reader, Value)> {
            let mut archive = Archive::open(path)?;
            let object = archive.object()?;
            let storages = HashMap::new();
            Ok((Reader { archive, storages }, object))
        };
        open().map_err(|error| cannot_read(path, error))
    }

    /// A tensor of the file.
    ///
    /// # Errors
    /// When its numbers are not there.
    pub fn tensor(&mut self, described: &lightcell_pickle::Tensor) -> Result<Tensor> {
        let kind = kind(described.dtype)?;
        let key = (described.storage.clone(), kind);
        let storage = match self.storages.get(&key) {
            Some(storage) => storage.shallow_clone(),
            None => {
                let bytes = self.archive.storage(described)?;
                let count = described.storage_len as i64;
                let storage = Tensor::f_from_data_size(&bytes, &[count], kind)?;
                self.storages.insert(key, storage.shallow_clone());
                storage
            }
        };
        let signed = |list: &[u64]| -> Vec<i64> { list.iter().map(|n| *n as i64).collect() };
        let (size, stride) = (signed(&described.size), signed(&described.stride));
        Ok(storage.f_as_strided(&size[..], &stride[..], described.offset as i64)?)
    }
}

/// The tensors of a `state_dict`: the file's object, its entry `state_dict`, or the one that is named.
///
/// # Errors
/// When the file cannot be read, or there is none.
pub(crate) fn state_dict(path: &Path, entry: Option<&str>) -> Result<Vec<(String, Tensor)>> {
    let (mut reader, object) = Reader::open(path)?;
    let found = find(&object, entry).and_then(|found| tensors(&mut reader, found));
    found.map_err(|error| cannot_read(path, error))
}

pub(crate) fn tensors(reader: &mut Reader, dict: &Value) -> Result<Vec<(String, Tensor)>> {
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (name, value) in dict.entries().unwrap_or_default() {
        let (Some(name), Value::Tensor(described)) = (name.as_str(), value) else {
            let name = name
                .as_str()
                .map_or_else(|| format!("an entry named by {}", name.kind()), str::to_owned);
            let error = Error::new(Kind::Data, format!("{name} is {}, not a tensor", value.kind()));
            return Err(error.hint(parts(dict)));
        };
        let tensor = reader.tensor(described).map_err(|error| error.at(name))?;
        tensors.push((name.to_owned(), tensor));
    }
    Ok(tensors)
}

fn find<'a>(object: &'a Value, entry: Option<&str>) -> Result<&'a Value> {
    let found = match entry {
        Some(name) => object.get(name),
        None => object.get("state_dict").or(Some(object)),
    };
    match found {
        Some(dict) if dict.entries().is_some() => Ok(dict),
        Some(other) if entry.is_none() => {
            let error = format!("it holds {}, not a state_dict", other.kind());
            Err(Error::new(Kind::Data, error).hint("in Python: `torch.save(model.state_dict(), path)`"))
        }
        _ => {
            let error = format!("it has no state_dict called `{}`", entry.unwrap_or_default());
            Err(Error::new(Kind::Data, error).hint(parts(object)))
        }
    }
}

/// What to do with an object that is no `state_dict`.
fn parts(object: &Value) -> String {
    let entries = object.entries().unwrap_or_default().iter();
    let names: Vec<&str> = entries
        .filter(|(_, value)| value.entries().is_some())
        .filter_map(|(name, _)| name.as_str())
        .collect();
    match names.first() {
        Some(first) => format!(
            "its dictionaries are {}: `StateDict::load_entry(path, \"{first}\")` reads one",
            names.join(", ")
        ),
        None => "in Python: `torch.save(model.state_dict(), path)`".to_owned(),
    }
}

/// Objects that hold tensors, and the tensors' numbers, until they are written.
#[derive(Default)]
pub(crate) struct Writer {
    storages: Vec<(String, Tensor)>,
    /// Which tensor has which storage: those with the same numbers share one.
    known: HashMap<(usize, TKind, Vec<i64>, Vec<i64>), String>,
}

impl Writer {
    /// What stands for a tensor in the object.
    ///
    /// # Errors
    /// When its type of numbers cannot be written.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<Value> {
        let dtype = dtype(name, tensor.kind())?;
        let size: Vec<u64> = tensor.size().iter().map(|size| *size as u64).collect();
        let place = (
            tensor.data_ptr() as usize,
            tensor.kind(),
            tensor.size(),
            tensor.stride(),
        );
        // Nothing tells two empty tensors apart, or must.
        let known = self.known.get(&place).cloned();
        let key = known.unwrap_or_else(|| {
            let key = self.storages.len().to_string();
            self.storages.push((key.clone(), tensor.shallow_clone()));
            self.known.insert(place, key.clone());
            key
        });
        Ok(Value::Tensor(lightcell_pickle::Tensor::contiguous(dtype, &key, &size)))
    }

    /// A dictionary of tensors.
    ///
    /// # Errors
    /// See [`tensor`](Writer::tensor).
    pub fn dict(&mut self, tensors: &[(String, Tensor)]) -> Result<Value> {
        let mut entries = Vec::new();
        for (name, tensor) in tensors {
            entries.push((name.as_str(), self.tensor(name, tensor)?));
        }
        Ok(Value::dict(entries))
    }

    /// Writes the object with all that it refers to.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(self, path: &Path, object: &Value) -> Result<()> {
        file::replace(path, |to| {
            let mut fault = None;
            let storages = self.storages.iter().map_while(|(key, tensor)| {
                let bytes = file::bytes_of(tensor);
                match bytes {
                    Ok(bytes) => Some(Storage {
                        key: key.clone(),
                        bytes,
                    }),
                    Err(error) => {
                        fault = Some(error);
                        None
                    }
                }
            });
            lightcell_pickle::write(to, object, storages)?;
            fault.map_or(Ok(()), Err)
        })
    }
}

/// Writes a `state_dict` for `torch.load`.
///
/// # Errors
/// When a type of numbers cannot be written, or the file.
pub(crate) fn save(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let mut writer = Writer::default();
    let object = writer.dict(tensors)?;
    writer.write(path, &object)
}
