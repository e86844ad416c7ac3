//! Files to tensors and datasets: tables (CSV), NumPy's arrays, safetensors, texts, and MNIST's format (IDX).

mod arrays;
mod format;
mod rows;
mod table;

pub use arrays::{NpyDataset, npy, npz, safetensors};
pub use format::CsvFormat;
pub use rows::{CsvDataset, TextDataset, TokenWindows};
pub use table::{Column, Table};

use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use tch::{Kind as TKind, Tensor};

/// A file, unpacked when its name ends in `.gz`.
///
/// # Errors
/// When it cannot be opened; the hint says where relative paths start.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(|error| {
        let folder = std::env::current_dir()
            .map(|dir| dir.display().to_string())
            .unwrap_or_default();
        Error::new(Kind::Data, format!("cannot read {}: {error}", path.display()))
            .hint(format!("relative paths start at {folder}"))
    })?;
    let reader = BufReader::new(file);
    Ok(if path.extension().is_some_and(|ext| ext == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    })
}

/// Reads a table of numbers into a tensor `[rows, columns]` of `Kind::Float`. A first row without any number is a header
/// and left out.
///
/// # Errors
/// When the file cannot be read, is empty, has rows of different length, or a cell that is no number; the message says
/// in which row and column, counted from 1 with the header.
///
/// ```
/// use lightcell::prelude::*;
/// let file = std::env::temp_dir().join(format!("lightcell-doc-{}.csv", std::process::id()));
/// std::fs::write(&file, "height,weight\n1.8,70\n1.6,55\n").unwrap();
/// let table = csv(&file)?;
/// assert_eq!((table.size(), table.double_value(&[1, 1])), (vec![2, 2], 55.0));
/// # std::fs::remove_file(file).unwrap();
/// # Ok::<(), Error>(())
/// ```
pub fn csv(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(::csv::Trim::All)
        .from_reader(open(path)?);
    let (mut values, mut columns, mut header) = (Vec::<f32>::new(), 0, 0);
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|error| csv_error(path, row, &error))?;
        if row == 0
            && record.iter().all(|cell| cell.parse::<f32>().is_err())
            && record.iter().any(|cell| !cell.is_empty())
        {
            header = 1;
            continue;
        }
        columns = record.len();
        for (column, cell) in record.iter().enumerate() {
            let value = cell.parse().map_err(|_| {
                Error::new(
                    Kind::Data,
                    format!(
                        "{}: row {}, column {}: `{}` is no number",
                        path.display(),
                        row + 1,
                        column + 1,
                        short(cell)
                    ),
                )
            })?;
            values.push(value);
        }
    }
    if values.is_empty() {
        let what = if header == 1 {
            "has a header but no row of numbers"
        } else {
            "is empty"
        };
        return Err(Error::new(Kind::Data, format!("{} {what}", path.display())));
    }
    let rows = (values.len() / columns) as i64;
    Ok(Tensor::from_slice(&values).view([rows, columns as i64]))
}

/// A cell for a message: a quote that is never closed makes a cell of the rest of the file.
fn short(cell: &str) -> String {
    let start: String = cell.lines().next().unwrap_or_default().chars().take(40).collect();
    if start.len() < cell.len() {
        format!("{start}…")
    } else {
        start
    }
}

fn csv_error(path: &Path, rows: usize, error: &::csv::Error) -> Error {
    let what = match error.kind() {
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("row {} has {len} columns, the rows before it {expected_len}", rows + 1)
        }
        ::csv::ErrorKind::Utf8 { .. } => format!("row {} is no text", rows + 1),
        ::csv::ErrorKind::Io(error) => format!("after row {rows}: {error}"),
        _ => error.to_string(),
    };
    Error::new(Kind::Data, format!("{}: {what}", path.display()))
}

/// Reads a file in MNIST's IDX format of unsigned bytes into a tensor of `Kind::Uint8` with the shape that the file
/// names.
///
/// # Errors
/// When the file cannot be read, is of another format, or shorter than it says.
///
/// ```
/// use lightcell::prelude::*;
/// let file = std::env::temp_dir().join(format!("lightcell-doc-{}.idx", std::process::id()));
/// // Bytes (8), one dimension, of three.
/// std::fs::write(&file, [0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]).unwrap();
/// assert_eq!(Vec::<u8>::try_from(&idx(&file)?).unwrap(), [5, 6, 7]);
/// # std::fs::remove_file(file).unwrap();
/// # Ok::<(), Error>(())
/// ```
pub fn idx(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let wrong = |what: String| Error::new(Kind::Data, format!("{}: {what}", path.display()));
    let mut bytes = Vec::new();
    open(path)?
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let Some(([0, 0, 8, dimensions], rest)) = bytes.split_first_chunk::<4>() else {
        return Err(wrong("no IDX file of unsigned bytes".to_owned()));
    };
    let (mut shape, mut rest) = (Vec::new(), rest);
    for _ in 0..*dimensions {
        let Some((size, next)) = rest.split_first_chunk::<4>() else {
            return Err(wrong("ends within its header".to_owned()));
        };
        shape.push(i64::from(u32::from_be_bytes(*size)));
        rest = next;
    }
    let expected = shape
        .iter()
        .try_fold(1i64, |all, size| all.checked_mul(*size))
        .unwrap_or(i64::MAX);
    if expected != rest.len() as i64 {
        return Err(wrong(format!(
            "its header says {expected} bytes ({shape:?}), there are {}",
            rest.len()
        )));
    }
    Tensor::f_from_data_size(rest, &shape, TKind::Uint8)
        .map_err(|_| wrong(format!("its header says {shape:?}, which is no shape")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;
    use std::path::PathBuf;

    pub(crate) struct Folder(pub PathBuf);

    impl Folder {
        pub fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("lightcell-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn tables_are_read_plain_and_compressed() {
        let folder = Folder::new("csv");
        let text = b"1,2,3\n4, 5 ,6e1\n";
        for path in [folder.file("a.csv", text), folder.file("a.csv.gz", &gzip(text))] {
            let table = csv(path).unwrap();
            assert_eq!(table.size(), [2, 3]);
            assert_eq!(table.double_value(&[1, 2]), 60.0);
        }
    }

    #[test]
    fn a_wrong_table_says_where() {
        let folder = Folder::new("badcsv");
        let message = |content: &[u8]| {
            csv(folder.file("t.csv", content))
                .unwrap_err()
                .message()
                .split_once("t.csv")
                .unwrap()
                .1
                .to_owned()
        };
        assert_eq!(message(b"1,2\n3,x\n"), ": row 2, column 2: `x` is no number");
        assert_eq!(message(b"1,2\n3\n"), ": row 2 has 1 columns, the rows before it 2");
        assert_eq!(message(b""), " is empty");
        assert_eq!(message(b"a,b\n"), " has a header but no row of numbers");
        assert_eq!(message(b"a,b\n1,2\n3,\n"), ": row 3, column 2: `` is no number");
        assert_eq!(message(b"1,2\n\xff,3\n"), ": row 2 is no text");
        assert_eq!(message(b"1,2\n3,\"4\n5,6\n"), ": row 2, column 2: `4…` is no number");
        let error = csv("/nonexistent/t.csv").unwrap_err();
        assert!(error.message().starts_with("cannot read /nonexistent/t.csv"), "{error}");
        assert!(error.hint_text().unwrap().starts_with("relative paths start at"));
        let cut = &gzip(b"1,2\n3,4\n")[..14];
        assert!(csv(folder.file("t.csv.gz", cut)).is_err());
    }

    #[test]
    fn a_header_is_left_out() {
        let folder = Folder::new("csvheader");
        let table = csv(folder.file("a.csv", b"\xef\xbb\xbfheight,weight\r\n1,2\r\n3,4\r\n\r\n")).unwrap();
        assert_eq!(Vec::<f32>::try_from(&table.view(-1)).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(table.size(), [2, 2]);
        // A number anywhere in the first row: it is a row, and its text an error.
        let error = csv(folder.file("b.csv", b"x,2\n1,2\n")).unwrap_err();
        assert!(
            error.message().ends_with("row 1, column 1: `x` is no number"),
            "{error}"
        );
    }

    /// Files with bytes changed, cut, doubled or inserted: a tensor or an error that names the file, never a panic.
    #[test]
    fn damaged_files_are_errors_and_no_panics() {
        use rand::{Rng, SeedableRng};
        let folder = Folder::new("damaged");
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let table: String = (0..40).map(|i| format!("{},{}.5,-{i}e-3\n", i, i % 7)).collect();
        let images = [&[0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 3][..], &[7; 60]].concat();
        let sources = [
            ("t.csv", table.clone().into_bytes()),
            ("t.csv.gz", gzip(table.as_bytes())),
            ("i", images.clone()),
            ("i.gz", gzip(&images)),
        ];
        let mut errors = 0;
        for round in 0..4000 {
            let (name, good) = &sources[round % sources.len()];
            let mut bytes = good.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len().max(1));
                match random.random_range(0..4) {
                    0 if at < bytes.len() => bytes[at] = random.random(),
                    1 => bytes.truncate(at),
                    2 => bytes.extend_from_within(at.min(bytes.len())..),
                    _ => bytes.insert(
                        at.min(bytes.len()),
                        [0, 255, b'\n', b'"', b','][random.random_range(0..5)],
                    ),
                }
            }
            let path = folder.file(name, &bytes);
            let read = if name.starts_with('t') { csv(&path) } else { idx(&path) };
            if let Err(error) = read {
                errors += 1;
                assert!(
                    error.message().contains(name) && error.message().lines().count() == 1,
                    "{error}"
                );
            }
        }
        assert!(errors > 1000, "{errors}");
    }

    #[test]
    fn idx_files_are_read_and_damaged_ones_refused() {
        let folder = Folder::new("idx");
        let good = [&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &[1, 2, 3, 4, 5, 6]].concat();
        let tensor = idx(folder.file("a", &good)).unwrap();
        assert_eq!(tensor.size(), [2, 3]);
        assert_eq!(tensor.int64_value(&[1, 2]), 6);
        // Cut anywhere, it is an error and no panic.
        for end in 0..good.len() {
            assert!(idx(folder.file("b", &good[..end])).is_err(), "{end}");
        }
        let huge = [0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(
            idx(folder.file("c", &huge))
                .unwrap_err()
                .message()
                .contains("its header says")
        );
        // No bytes at all, but sizes whose product overflows.
        let none = [&[0, 0, 8, 4][..], &[0; 4], &[255; 12]].concat();
        assert!(idx(folder.file("d", &none)).is_err());
    }
}
