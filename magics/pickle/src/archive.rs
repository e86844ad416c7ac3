//! A file of `torch.save`.

use crate::tensor::Tensor;
use crate::value::Value;
use crate::{Error, Result, fault, legacy, pickler, unpickler, zip};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A pickle describes its tensors in about a hundred bytes each; one that is longer describes something else.
const LONGEST_PICKLE: u64 = 256 << 20;

/// The numbers of a storage, to be written.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The key by which tensors name it.
    pub key: String,
    /// Its numbers, little-endian.
    pub bytes: Vec<u8>,
}

/// A file, open for reading.
#[derive(Debug)]
pub struct Archive<F = File> {
    file: F,
    length: u64,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    /// Entries of a zip archive, by their names below its one folder.
    Zip(HashMap<String, zip::Entry>),
    /// The whole of an old file: its object, and where storages are.
    Legacy(Box<Value>, legacy::Places),
}

impl Archive {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read, or was not written by `torch.save`.
    pub fn open(path: impl AsRef<Path>) -> Result<Archive> {
        Archive::new(File::open(path)?)
    }

    /// Whether a file begins like one of `torch.save`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_one(path: impl AsRef<Path>) -> Result<bool> {
        let mut begin = Vec::new();
        File::open(path)?.take(64).read_to_end(&mut begin)?;
        Ok(zip::begins(&begin) || legacy::begins(&begin))
    }
}

impl<F: Read + Seek> Archive<F> {
    /// Reads from the beginning of something.
    ///
    /// # Errors
    /// When it cannot be read, or was not written by `torch.save`.
    pub fn new(mut file: F) -> Result<Archive<F>> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut begin = Vec::new();
        file.by_ref().take(64).read_to_end(&mut begin)?;
        if legacy::begins(&begin) {
            file.rewind()?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let (object, places) = legacy::read(&bytes)?;
            let parts = Parts::Legacy(Box::new(object), places);
            return Ok(Archive { file, length, parts });
        }
        if !zip::begins(&begin) {
            return fault("it is no file of torch.save");
        }
        let entries = zip::entries(&mut file, length)?;
        let folder = entries.iter().find_map(|entry| entry.name.strip_suffix("data.pkl"));
        let Some(folder) = folder.map(str::to_owned) else {
            return fault("it is a zip archive without a data.pkl, no file of torch.save");
        };
        let below = entries.into_iter().filter_map(|entry| {
            let name = entry.name.strip_prefix(&folder)?.to_owned();
            Some((name, entry))
        });
        let entries: HashMap<String, zip::Entry> = below.collect();
        if entries.contains_key("constants.pkl") {
            return fault("it is a TorchScript module, not a file of torch.save");
        }
        let mut archive = Archive {
            file,
            length,
            parts: Parts::Zip(entries),
        };
        if let Ok(order) = archive.entry("byteorder", 16)
            && order != b"little"
        {
            return fault("it was written on a machine with the other order of bytes");
        }
        Ok(archive)
    }

    /// An entry of a zip archive, if it is not longer than it may be.
    fn entry(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let Parts::Zip(entries) = &self.parts else {
            return fault(format!("{name} is missing"));
        };
        let Some(entry) = entries.get(name) else {
            return fault(format!("{name} is missing"));
        };
        if entry.size > most {
            return fault(format!("{name} has {} bytes, more than {most}", entry.size));
        }
        zip::read(&mut self.file, self.length, entry, entry.size)
    }

    /// The object that was saved.
    ///
    /// # Errors
    /// When the file is damaged, or names a type that is not read.
    pub fn object(&mut self) -> Result<Value> {
        if let Parts::Legacy(object, _) = &self.parts {
            return Ok((**object).clone());
        }
        let pickle = self.entry("data.pkl", LONGEST_PICKLE)?;
        Ok(unpickler::read(&pickle)?.0)
    }

    /// The bytes of all of a tensor's storage: `storage_len` numbers.
    ///
    /// # Errors
    /// When they are not in the file, or not as many.
    pub fn storage(&mut self, tensor: &Tensor) -> Result<Vec<u8>> {
        let key = &tensor.storage;
        let Some(count) = tensor.storage_len.checked_mul(tensor.dtype.width()) else {
            return fault(format!("storage {key} is too large"));
        };
        match &self.parts {
            Parts::Zip(entries) => {
                let Some(entry) = entries.get(&format!("data/{key}")) else {
                    return fault(format!("data/{key} is missing"));
                };
                zip::read(&mut self.file, self.length, entry, count)
            }
            Parts::Legacy(_, places) => {
                let Some((at, length)) = places.get(key).copied() else {
                    return fault(format!("storage {key} is missing"));
                };
                if count > length {
                    return fault(format!("storage {key} has {length} bytes, not {count}"));
                }
                self.file.seek(SeekFrom::Start(at))?;
                // Found within the file when it was opened.
                let mut bytes = vec![0; count as usize];
                self.file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// Writes an object with its storages, as `torch.save` does. Storages are taken one by one, so that they need not all be in
/// memory. Gives back what was written to.
///
/// # Errors
/// When it cannot be written, a tensor's numbers are not in its storage, or it names a storage of another length.
pub fn write<W: Write, S: IntoIterator<Item = Storage>>(to: W, object: &Value, storages: S) -> Result<W> {
    let mut archive = zip::Writer::new(BufWriter::new(to), 0);
    archive.add("archive/data.pkl", &pickler::write(object)?)?;
    archive.add("archive/.format_version", b"1")?;
    archive.add("archive/.storage_alignment", b"64")?;
    archive.add("archive/byteorder", b"little")?;
    for storage in storages {
        archive.add(&format!("archive/data/{}", storage.key), &storage.bytes)?;
    }
    archive.add("archive/version", b"3\n")?;
    archive
        .finish()?
        .into_inner()
        .map_err(|error| Error::Io(error.into_error()))
}
