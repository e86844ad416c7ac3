//! NumPy's files (npy, npz) and safetensors.

use super::open;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tch::{Kind as TKind, Tensor};

/// No header comes near; a larger number is another kind of file.
const LONGEST_HEADER: usize = 1 << 20;

/// What an npy file says of its numbers.
#[derive(Debug, Clone, PartialEq)]
struct Header {
    kind: TKind,
    /// Whether the highest byte comes first.
    swapped: bool,
    /// Whether the first index moves fastest.
    fortran: bool,
    shape: Vec<i64>,
    /// Where the numbers begin.
    begin: u64,
}

impl Header {
    /// # Errors
    /// When it is no header of an npy file, or its numbers are of a type that there is no tensor of.
    fn read(from: &mut dyn Read) -> Result<Header> {
        let wrong = |what: &str| Error::new(Kind::Data, what);
        let none = "it is no npy file";
        let mut start = [0; 10];
        from.read_exact(&mut start).map_err(|_| wrong(none))?;
        if !start.starts_with(b"\x93NUMPY") || !(1..=3).contains(&start[6]) {
            return Err(wrong(none));
        }
        let (length, begin) = if start[6] == 1 {
            (usize::from(u16::from_le_bytes([start[8], start[9]])), 10)
        } else {
            let mut high = [0; 2];
            from.read_exact(&mut high).map_err(|_| wrong(none))?;
            (u32::from_le_bytes([start[8], start[9], high[0], high[1]]) as usize, 12)
        };
        if length > LONGEST_HEADER {
            return Err(wrong(none));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)
            .map_err(|_| wrong("it ends within its header"))?;
        let text = String::from_utf8_lossy(&text);
        let after = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}':"))?;
            Some(rest.trim_start())
        };
        let quoted = |rest: &str| {
            rest.strip_prefix('\'')?
                .split_once('\'')
                .map(|(word, _)| word.to_owned())
        };
        let descr = after("descr")
            .and_then(quoted)
            .ok_or_else(|| wrong("its numbers are of several types, which no tensor has"))?;
        let fortran = after("fortran_order").is_some_and(|rest| rest.starts_with("True"));
        let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
        let (shape, _) = shape.ok_or_else(|| wrong("its header names no shape"))?;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape: Option<Vec<i64>> = sizes.map(|size| size.parse().ok().filter(|size| *size >= 0)).collect();
        let kind = match descr.get(1..) {
            Some("f2") => TKind::Half,
            Some("f4") => TKind::Float,
            Some("f8") => TKind::Double,
            Some("i1") => TKind::Int8,
            Some("i2") => TKind::Int16,
            Some("i4") => TKind::Int,
            Some("i8") => TKind::Int64,
            Some("u1") => TKind::Uint8,
            Some("b1") => TKind::Bool,
            _ => {
                return Err(Error::new(
                    Kind::Data,
                    format!("its numbers are of NumPy's type `{descr}`, of which there is no tensor"),
                )
                .hint("convert them in Python: `array.astype('float32')`, for example"));
            }
        };
        Ok(Header {
            kind,
            swapped: descr.starts_with('>'),
            fortran,
            shape: shape.ok_or_else(|| wrong("its header names no shape"))?,
            begin: begin + length as u64,
        })
    }

    /// Bytes of all numbers; nothing, when nobody could hold them.
    fn bytes(&self) -> Option<usize> {
        let numbers = self.shape.iter().try_fold(1i64, |all, size| all.checked_mul(*size))?;
        usize::try_from(numbers)
            .ok()?
            .checked_mul(self.kind.elt_size_in_bytes())
    }

    /// Numbers of this shape.
    fn tensor(&self, mut bytes: Vec<u8>, shape: &[i64]) -> Result<Tensor> {
        let width = self.kind.elt_size_in_bytes();
        if self.swapped {
            bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        if !self.fortran {
            return Ok(Tensor::f_from_data_size(&bytes, shape, self.kind)?);
        }
        let reversed: Vec<i64> = shape.iter().rev().copied().collect();
        let axes: Vec<i64> = (0..shape.len() as i64).rev().collect();
        Ok(Tensor::f_from_data_size(&bytes, &reversed, self.kind)?
            .f_permute(&axes)?
            .f_contiguous()?)
    }
}

fn at(path: &Path) -> impl Fn(Error) -> Error {
    move |error| error.at(&path.display().to_string())
}

fn array(from: &mut dyn Read) -> Result<Tensor> {
    let header = Header::read(from)?;
    let wanted = header.bytes();
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)
        .map_err(|error| Error::new(Kind::Data, format!("cannot be read: {error}")))?;
    if wanted != Some(bytes.len()) {
        let wanted = wanted.map_or_else(
            || "more bytes than there can be".to_owned(),
            |bytes| format!("{bytes} bytes"),
        );
        return Err(Error::new(
            Kind::Data,
            format!(
                "its header says {wanted} ({:?}), there are {}",
                header.shape,
                bytes.len()
            ),
        ));
    }
    header.tensor(bytes, &header.shape)
}

/// Reads a NumPy array (`numpy.save`) into a tensor of its shape and type.
///
/// # Errors
/// When the file cannot be read, is no npy file or shorter than it says, or its numbers are of a type that there is no
/// tensor of.
pub fn npy(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    array(&mut *open(path)?).map_err(at(path))
}

/// Reads the arrays of a NumPy archive (`numpy.savez`, also compressed) by their names.
///
/// # Errors
/// As [`npy`]; the message names the array.
pub fn npz(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    // For the message about a file that is not there.
    open(path)?;
    let none = |error: zip::result::ZipError| Error::new(Kind::Data, format!("it is no npz file ({error})"));
    let read = || {
        let mut archive = zip::ZipArchive::new(File::open(path)?).map_err(none)?;
        let mut arrays = BTreeMap::new();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(none)?;
            let name = entry.name().trim_end_matches(".npy").to_owned();
            let tensor = array(&mut entry).map_err(|error| error.at(&format!("array `{name}`")))?;
            arrays.insert(name, tensor);
        }
        Ok(arrays)
    };
    read().map_err(at(path))
}

/// Reads the tensors of a safetensors file by their names.
///
/// # Errors
/// When the file cannot be read, or is no safetensors file.
pub fn safetensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    open(path)?;
    Ok(crate::checkpoint::file::read_tensors(path)?.into_iter().collect())
}

/// A NumPy array on disk as a dataset of its rows, each read when it is asked for: for arrays larger than memory.
///
/// ```
/// use lightcell::prelude::*;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-npy-{}.npy", std::process::id()));
/// # let header = format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }");
/// # let numbers = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0].map(f32::to_le_bytes).concat();
/// # std::fs::write(&path, [b"\x93NUMPY\x01\x00\x76\x00".as_slice(), header.as_bytes(), &numbers].concat())?;
/// let rows = NpyDataset::open(&path)?;
/// assert_eq!((rows.len(), rows.get(2)?.double_value(&[1])), (3, 6.0));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct NpyDataset {
    file: File,
    path: PathBuf,
    header: Header,
    row: Vec<i64>,
    rows: usize,
    width: usize,
}

impl NpyDataset {
    /// Over the first dimension of an array.
    ///
    /// # Errors
    /// As [`npy`]; also when the array is a single number, or stored in Fortran's order, where a row is all over the file.
    pub fn open(path: impl AsRef<Path>) -> Result<NpyDataset> {
        let path = path.as_ref();
        open(path)?;
        let read = || {
            let mut file = File::open(path)?;
            let header = Header::read(&mut file)?;
            let (Some((rows, row)), false) = (header.shape.split_first(), header.fortran) else {
                let why = if header.fortran {
                    "it is stored in Fortran's order"
                } else {
                    "it is a single number"
                };
                return Err(Error::new(Kind::Data, format!("{why}: it has no rows to read one by one"))
                    .hint("save it with `numpy.save(path, numpy.ascontiguousarray(array))`, or read it whole: `npy(path)?`"));
            };
            let (there, wanted) = (file.metadata()?.len(), header.bytes());
            if wanted.map(|bytes| bytes as u64 + header.begin) != Some(there) {
                return Err(Error::new(
                    Kind::Data,
                    format!(
                        "its header says {:?}, which does not fit its {there} bytes",
                        header.shape
                    ),
                ));
            }
            let (rows, row) = (*rows as usize, row.to_vec());
            let width = wanted.unwrap_or(0) / rows.max(1);
            Ok(NpyDataset {
                file,
                path: path.to_owned(),
                header,
                row,
                rows,
                width,
            })
        };
        read().map_err(at(path))
    }
}

impl Dataset for NpyDataset {
    type Item = Tensor;

    fn len(&self) -> usize {
        self.rows
    }

    fn get(&self, index: usize) -> Result<Tensor> {
        let mut bytes = vec![0; self.width];
        let place = self.header.begin + (index * self.width) as u64;
        self.file.read_exact_at(&mut bytes, place)?;
        self.header.tensor(bytes, &self.row)
    }

    fn describe(&self, index: usize) -> Option<String> {
        Some(format!("row {index} of {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::tests::Folder;
    use std::io::Write;

    fn bytes(descr: &str, fortran: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(numbers);
        bytes
    }

    #[test]
    fn arrays_are_read_in_all_orders() {
        let folder = Folder::new("npy");
        let numbers = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let little = numbers.map(f32::to_le_bytes).concat();
        let big = numbers.map(f32::to_be_bytes).concat();
        let read = |content: &[u8]| npy(folder.file("a.npy", content)).unwrap();
        let rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        for content in [
            bytes("<f4", "False", "(2, 3)", &little),
            bytes(">f4", "False", "(2, 3)", &big),
        ] {
            assert_eq!(Vec::<Vec<f32>>::try_from(&read(&content)).unwrap(), rows);
        }
        let columns = read(&bytes("<f4", "True", "(3, 2)", &little));
        assert_eq!(
            Vec::<Vec<f32>>::try_from(&columns).unwrap(),
            [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]
        );
        let one = read(&bytes("|b1", "False", "()", &[1]));
        assert_eq!((one.size().len(), one.kind()), (0, TKind::Bool));
        let labels = read(&bytes(
            "<i8",
            "False",
            "(2,)",
            &[7i64, -1].map(i64::to_le_bytes).concat(),
        ));
        assert_eq!(Vec::<i64>::try_from(&labels).unwrap(), [7, -1]);
    }

    #[test]
    fn archives_are_read_by_name() {
        let folder = Folder::new("npz");
        let path = folder.0.join("a.npz");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in [
            ("x.npy", bytes("|u1", "False", "(3,)", &[1, 2, 3])),
            ("y.npy", b"bad".to_vec()),
        ] {
            archive.start_file(name, zip::write::FileOptions::default()).unwrap();
            archive.write_all(&content).unwrap();
            if name == "x.npy" {
                let half = folder.0.join("b.npz");
                let mut whole = zip::ZipWriter::new(File::create(&half).unwrap());
                whole.start_file(name, zip::write::FileOptions::default()).unwrap();
                whole.write_all(&content).unwrap();
                whole.finish().unwrap();
                assert_eq!(npz(half).unwrap()["x"].size(), [3]);
            }
        }
        archive.finish().unwrap();
        let error = npz(&path).unwrap_err();
        assert!(
            error.message().ends_with("a.npz: array `y`: it is no npy file"),
            "{error}"
        );
        assert!(npz(folder.file("c.npz", b"PK")).is_err());
    }

    #[test]
    fn what_is_no_array_says_why() {
        let folder = Folder::new("badnpy");
        let message = |content: &[u8]| {
            let error = npy(folder.file("a.npy", content)).unwrap_err();
            error.message().split_once("a.npy: ").unwrap().1.to_owned()
        };
        assert_eq!(message(b"hello"), "it is no npy file");
        assert_eq!(
            message(&bytes("<f4", "False", "(2,)", &[0; 7])),
            "its header says 8 bytes ([2]), there are 7"
        );
        assert_eq!(
            message(&bytes("<c8", "False", "(1,)", &[0; 8])),
            "its numbers are of NumPy's type `<c8`, of which there is no tensor"
        );
        let huge = bytes("<f8", "False", "(9223372036854775807, 9)", &[]);
        assert!(message(&huge).starts_with("its header says more bytes than there can be"));
        // Cut or changed anywhere: an error or a tensor, never a panic.
        let good = bytes("<f4", "True", "(3, 2)", &[1; 24]);
        for end in 0..good.len() {
            assert!(npy(folder.file("a.npy", &good[..end])).is_err(), "{end}");
        }
        for at in 0..good.len() {
            for byte in [0, b'\'', b'(', b'9', 255] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = npy(folder.file("a.npy", &bad));
            }
        }
    }

    #[test]
    fn rows_are_read_one_by_one() {
        let folder = Folder::new("npyrows");
        let content = bytes(
            "<i2",
            "False",
            "(4, 3)",
            &(0..12i16).flat_map(i16::to_le_bytes).collect::<Vec<_>>(),
        );
        let path = folder.file("a.npy", &content);
        let rows = NpyDataset::open(&path).unwrap();
        assert_eq!((rows.len(), rows.get(3).unwrap().int64_value(&[2])), (4, 11));
        assert!(rows.describe(3).unwrap().starts_with("row 3 of"));
        assert!(rows.get(4).is_err());
        let message = |content: &[u8]| {
            NpyDataset::open(folder.file("b.npy", content))
                .unwrap_err()
                .message()
                .to_owned()
        };
        assert!(message(&content[..content.len() - 1]).contains("does not fit its"));
        assert!(message(&bytes("<f4", "True", "(1, 1)", &[0; 4])).contains("Fortran's order"));
        assert!(message(&bytes("<f4", "False", "()", &[0; 4])).contains("single number"));
    }
}
