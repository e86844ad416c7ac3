//! Files that are read in parts: tables and texts larger than memory. A first pass notes where parts of the file begin;
//! then each row is read when it is asked for, in any order, by any thread.

use super::CsvFormat;
use super::{csv_error, open, short};
use crate::data::{Dataset, SharedTensor};
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// One place is noted for so many rows: a billion rows take half a gigabyte.
const STRIDE: usize = 16;

/// Where the rows of a file are.
#[derive(Debug)]
struct Places {
    file: File,
    path: PathBuf,
    /// Of every so many rows, and of the end.
    offsets: Vec<u64>,
    rows: usize,
}

impl Places {
    /// The bytes in which a row is, and how many rows come before it there.
    fn part(&self, index: usize) -> Result<(Vec<u8>, usize)> {
        let at = index / STRIDE;
        if index >= self.rows {
            return Err(Error::new(
                Kind::Data,
                format!("there is no row {index} among {}", self.rows),
            ));
        }
        let (begin, end) = (self.offsets[at], self.offsets[at + 1]);
        let mut bytes = vec![0; (end - begin) as usize];
        self.file.read_exact_at(&mut bytes, begin).map_err(|error| {
            Error::new(Kind::Data, format!("{}: {error}", self.path.display()))
                .hint("did the file change since it was opened?")
        })?;
        Ok((bytes, index % STRIDE))
    }
}

/// Opens a file whose rows are to be read one by one.
fn plain(path: &Path) -> Result<File> {
    open(path)?;
    if path.extension().is_some_and(|ext| ext == "gz") {
        return Err(Error::new(
            Kind::Data,
            format!("{} is compressed: its rows cannot be read one by one", path.display()),
        )
        .hint("unpack it (`gunzip`), or read it whole: `Table::read_csv(path)?`"));
    }
    Ok(File::open(path)?)
}

/// A CSV file on disk as a dataset of its rows, each read when it is asked for: for tables larger than memory. A sample is
/// the inputs `[columns]` and the target, a number, of `Kind::Float`.
///
/// ```
/// use lightcell::prelude::*;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-rows-{}.csv", std::process::id()));
/// std::fs::write(&path, "x,y,target\n1,2,3\n4,5,9\n")?;
/// let data = CsvDataset::open(&path, "target")?;
/// let (x, y) = data.get(1)?;
/// assert_eq!((Vec::<f32>::try_from(&x).unwrap(), y), (vec![4.0, 5.0], 9.0));
/// let loader = DataLoader::new(data).batch_size(2).shuffle(true).num_workers(1);
/// # assert_eq!(loader.len(), 1);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct CsvDataset {
    places: Places,
    format: CsvFormat,
    names: Vec<String>,
    target: usize,
    /// Rows before the first that counts.
    header: usize,
}

impl CsvDataset {
    /// Over a file with a header; all columns but the target are inputs.
    ///
    /// # Errors
    /// When the file cannot be read, has no such column, or rows of different length.
    pub fn open(path: impl AsRef<Path>, target: &str) -> Result<CsvDataset> {
        CsvDataset::open_with(path, target, CsvFormat::new())
    }

    /// Over a file that is written in another way. Columns of one without a header are called `0`, `1` and so on.
    ///
    /// # Errors
    /// As [`open`](CsvDataset::open).
    pub fn open_with(path: impl AsRef<Path>, target: &str, format: CsvFormat) -> Result<CsvDataset> {
        let path = path.as_ref();
        let mut reader = format.reader(std::io::BufReader::new(plain(path)?));
        let (mut names, mut offsets, mut rows, mut header) = (Vec::new(), Vec::new(), 0, 0);
        let mut record = ::csv::StringRecord::new();
        loop {
            let more = reader
                .read_record(&mut record)
                .map_err(|error| csv_error(path, rows + header, &error))?;
            if !more {
                break;
            }
            if names.is_empty() {
                if format.is_header(&record) {
                    names = record.iter().map(str::to_owned).collect();
                    header = 1;
                    continue;
                }
                names = (0..record.len()).map(|column| column.to_string()).collect();
            }
            if rows % STRIDE == 0 {
                offsets.push(record.position().map_or(0, ::csv::Position::byte));
            }
            rows += 1;
        }
        let file = File::open(path)?;
        offsets.push(file.metadata()?.len());
        if rows == 0 {
            return Err(Error::new(Kind::Data, format!("{} has no row", path.display())));
        }
        let target = names.iter().position(|name| name == target).ok_or_else(|| {
            Error::new(Kind::Data, format!("{}: there is no column `{target}`", path.display()))
                .hint(format!("the columns are {}", names.join(", ")))
        })?;
        let places = Places {
            file,
            path: path.to_owned(),
            offsets,
            rows,
        };
        Ok(CsvDataset {
            places,
            format,
            names,
            target,
            header,
        })
    }

    /// The names of the inputs.
    pub fn input_names(&self) -> Vec<&str> {
        let inputs = self
            .names
            .iter()
            .enumerate()
            .filter(|(column, _)| *column != self.target);
        inputs.map(|(_, name)| name.as_str()).collect()
    }
}

impl Dataset for CsvDataset {
    type Item = (Tensor, f32);

    fn len(&self) -> usize {
        self.places.rows
    }

    fn get(&self, index: usize) -> Result<(Tensor, f32)> {
        let (bytes, skip) = self.places.part(index)?;
        let mut reader = self.format.reader(bytes.as_slice());
        let row = index + self.header;
        let record = match reader.records().nth(skip) {
            Some(record) => record.map_err(|error| csv_error(&self.places.path, row, &error))?,
            None => return Err(Error::new(Kind::Data, format!("row {} is gone", row + 1)).hint("did the file change?")),
        };
        let (mut x, mut y) = (Vec::with_capacity(self.names.len()), 0.0);
        for (column, (cell, name)) in record.iter().zip(&self.names).enumerate() {
            let Some(number) = self.format.number(cell) else {
                let what = match self.format.is_missing(cell) {
                    true => "there is no value".to_owned(),
                    false => format!("`{}` is no number", short(cell)),
                };
                let place = format!("row {}, column {} ({name})", row + 1, column + 1);
                return Err(Error::new(Kind::Data, format!("{place}: {what}")));
            };
            match column == self.target {
                true => y = number as f32,
                false => x.push(number as f32),
            }
        }
        Ok((Tensor::from_slice(&x), y))
    }

    fn describe(&self, _: usize) -> Option<String> {
        Some(self.places.path.display().to_string())
    }
}

/// The lines of a text file as a dataset, each read when it is asked for: for texts larger than memory.
///
/// ```
/// use lightcell::prelude::*;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-lines-{}.txt", std::process::id()));
/// std::fs::write(&path, "to be\nor not to be\n")?;
/// let lengths = TextDataset::open(&path)?.map(|line| Ok(line.len() as i64));
/// assert_eq!((lengths.len(), lengths.get(1)?), (2, 12));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct TextDataset(Places);

impl TextDataset {
    /// Over the lines of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<TextDataset> {
        use std::io::BufRead;
        let path = path.as_ref();
        let mut reader = std::io::BufReader::with_capacity(1 << 16, plain(path)?);
        let (mut at, mut rows, mut offsets, mut within) = (0u64, 0, Vec::new(), false);
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            for byte in bytes {
                if !within && rows % STRIDE == 0 {
                    offsets.push(at);
                }
                within = *byte != b'\n';
                rows += usize::from(!within);
                at += 1;
            }
            let read = bytes.len();
            reader.consume(read);
        }
        // The last line may end with the file.
        rows += usize::from(within);
        offsets.push(at);
        Ok(TextDataset(Places {
            file: File::open(path)?,
            path: path.to_owned(),
            offsets,
            rows,
        }))
    }
}

impl Dataset for TextDataset {
    type Item = String;

    fn len(&self) -> usize {
        self.0.rows
    }

    fn get(&self, index: usize) -> Result<String> {
        let (bytes, skip) = self.0.part(index)?;
        let line = bytes.split(|byte| *byte == b'\n').nth(skip).unwrap_or_default();
        let line = std::str::from_utf8(line)
            .map_err(|_| Error::new(Kind::Data, format!("line {} is no text in UTF-8", index + 1)))?;
        Ok(line.trim_end_matches('\r').to_owned())
    }

    fn describe(&self, _: usize) -> Option<String> {
        Some(self.0.path.display().to_string())
    }
}

/// A text as a dataset of windows for a model that predicts the next token: a sample is `length` tokens and those that
/// follow each of them, both `[length]` of `Kind::Int64`.
///
/// ```
/// use lightcell::prelude::*;
/// let tokens: Vec<i64> = "hello".bytes().map(i64::from).collect();
/// let windows = TokenWindows::new(&tokens, 3)?;
/// let (x, y) = windows.get(1)?;
/// assert_eq!(Vec::<i64>::try_from(&x).unwrap(), [101, 108, 108]);
/// assert_eq!(Vec::<i64>::try_from(&y).unwrap(), [108, 108, 111]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct TokenWindows {
    tokens: SharedTensor,
    length: usize,
    stride: usize,
}

impl TokenWindows {
    /// Windows of so many tokens, one beginning at each token.
    ///
    /// # Errors
    /// When there are not enough tokens for one window.
    pub fn new(tokens: &[i64], length: usize) -> Result<TokenWindows> {
        if length == 0 || tokens.len() <= length {
            return Err(Error::new(
                Kind::Data,
                format!(
                    "{} tokens are too few for windows of {length} and the token after them",
                    tokens.len()
                ),
            ));
        }
        Ok(TokenWindows {
            tokens: Tensor::from_slice(tokens).into(),
            length,
            stride: 1,
        })
    }

    /// So many tokens from the beginning of a window to that of the next.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> TokenWindows {
        self.stride = stride.max(1);
        self
    }
}

impl Dataset for TokenWindows {
    type Item = (Tensor, Tensor);

    fn len(&self) -> usize {
        (self.tokens.size()[0] as usize - self.length).div_ceil(self.stride)
    }

    fn get(&self, index: usize) -> Result<(Tensor, Tensor)> {
        let (begin, length) = ((index * self.stride) as i64, self.length as i64);
        let window = |begin| -> Result<Tensor> { Ok(self.tokens.f_narrow(0, begin, length)?) };
        Ok((window(begin)?, window(begin + 1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::tests::Folder;

    #[test]
    fn rows_come_in_any_order_also_with_quotes_over_lines() {
        let _turn = crate::tests::in_turn();
        let folder = Folder::new("csvrows");
        let mut text = "a,b,y\n".to_owned();
        for row in 0..100 {
            // Cells over several lines, blank lines between rows.
            text += &format!(
                "\"{row}\n\",{}.5,{}\n{}",
                row * 2,
                row * 3,
                if row % 7 == 0 { "\n" } else { "" }
            );
        }
        let data = CsvDataset::open(folder.file("t.csv", text.as_bytes()), "y").unwrap();
        assert_eq!((data.len(), data.input_names()), (100, vec!["a", "b"]));
        for row in [99, 0, 17, 16, 15, 64] {
            let (x, y) = data.get(row).unwrap();
            let row = row as f32;
            assert_eq!(
                (Vec::<f32>::try_from(&x).unwrap(), y),
                (vec![row, row * 2.0 + 0.5], row * 3.0)
            );
        }
        assert!(data.get(100).is_err());
    }

    #[test]
    fn a_bad_cell_says_where_it_is() {
        let folder = Folder::new("badrows");
        let open = |name: &str, text: &str| CsvDataset::open(folder.file(name, text.as_bytes()), "y");
        let data = open("t.csv", "a,y\n1,2\n3,x\n,4\n").unwrap();
        assert_eq!(
            data.get(1).unwrap_err().message(),
            "row 3, column 2 (y): `x` is no number"
        );
        assert_eq!(
            data.get(2).unwrap_err().message(),
            "row 4, column 1 (a): there is no value"
        );
        let error = open("u.csv", "a,b\n1,2\n").unwrap_err();
        assert!(error.message().ends_with("u.csv: there is no column `y`"), "{error}");
        assert_eq!(error.hint_text(), Some("the columns are a, b"));
        let error = open("v.csv", "a,y\n1,2\n3\n").unwrap_err();
        assert!(
            error.message().ends_with("row 3 has 1 columns, the rows before it 2"),
            "{error}"
        );
        assert!(open("w.csv", "a,y\n").unwrap_err().message().ends_with("has no row"));
        let error = open("x.csv.gz", "").unwrap_err();
        assert!(
            error
                .message()
                .ends_with("is compressed: its rows cannot be read one by one"),
            "{error}"
        );
        // Through the loader, with the file.
        let loader = crate::DataLoader::new(data);
        let error = loader.epoch(1, 0).nth(1).unwrap().unwrap_err();
        let path = folder.0.join("t.csv").display().to_string();
        assert_eq!(
            error.message(),
            format!("sample 1 ({path}): row 3, column 2 (y): `x` is no number")
        );
    }

    #[test]
    fn lines_are_read_one_by_one() {
        let folder = Folder::new("lines");
        let mut text: String = (0..50).map(|n| format!("line {n}\r\n")).collect();
        text += "\nlast";
        let lines = TextDataset::open(folder.file("t.txt", text.as_bytes())).unwrap();
        assert_eq!(lines.len(), 52);
        for n in [0, 49, 16, 31, 32] {
            assert_eq!(lines.get(n).unwrap(), format!("line {n}"));
        }
        assert_eq!(
            (lines.get(50).unwrap(), lines.get(51).unwrap()),
            (String::new(), "last".to_owned())
        );
        assert!(lines.get(52).is_err());
        assert_eq!(TextDataset::open(folder.file("e.txt", b"")).unwrap().len(), 0);
        let bad = TextDataset::open(folder.file("b.txt", b"ok\n\xff\n")).unwrap();
        assert_eq!(bad.get(1).unwrap_err().message(), "line 2 is no text in UTF-8");
    }

    #[test]
    fn windows_cover_a_text() {
        let _turn = crate::tests::in_turn();
        let windows = TokenWindows::new(&(0..10).collect::<Vec<i64>>(), 4).unwrap();
        assert_eq!(windows.len(), 6);
        let last = |windows: &TokenWindows| windows.get(windows.len() - 1).unwrap().1.int64_value(&[3]);
        assert_eq!(last(&windows), 9);
        let windows = windows.stride(4);
        assert_eq!((windows.len(), last(&windows)), (2, 8));
        let error = TokenWindows::new(&[1, 2], 2).unwrap_err();
        assert_eq!(
            error.message(),
            "2 tokens are too few for windows of 2 and the token after them"
        );
    }
}
