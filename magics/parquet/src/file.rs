//! Files in parts: row groups of Parquet, record batches of Arrow.

use crate::{columns, sizes};
use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use arrow_schema::Schema;
use lightcell::{Error, ErrorKind, Result, Table};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A file and where its parts are.
pub(crate) struct Parts {
    pub path: PathBuf,
    format: Format,
    pub schema: Schema,
    /// The rows before each part, and at the end those of all.
    pub begins: Vec<usize>,
}

enum Format {
    Parquet(ArrowReaderMetadata),
    Arrow,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, parts) = (self.rows(), self.begins.len() - 1);
        write!(f, "{}: {rows} rows in {parts} parts", self.path.display())
    }
}

fn fault(path: &Path, what: impl Display) -> Error {
    // One line, whatever a decoder says.
    let what = what.to_string().lines().collect::<Vec<_>>().join(" ");
    Error::new(ErrorKind::Data, format!("{}: {what}", path.display()))
}

/// What decoders say of damaged bytes is usually an error; where it is a panic, it becomes one.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(fault(path, "the file is damaged")))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| {
        let folder = std::env::current_dir().unwrap_or_default();
        Error::new(ErrorKind::Data, format!("cannot read {}: {error}", path.display()))
            .hint(format!("relative paths start at {}", folder.display()))
    })
}

impl Parts {
    /// Reads the end of a file, where it says what it has.
    ///
    /// # Errors
    /// When the file cannot be read, is of another format, or damaged.
    pub fn open(path: &Path) -> Result<Parts> {
        let (mut file, mut magic) = (open(path)?, Vec::new());
        Read::by_ref(&mut file)
            .take(6)
            .read_to_end(&mut magic)
            .map_err(|error| fault(path, error))?;
        match magic.as_slice() {
            [b'P', b'A', b'R', b'1', ..] => guarded(path, || Parts::parquet(path)),
            b"ARROW1" => guarded(path, || Parts::arrow(path)),
            _ => Err(fault(path, "this is neither a Parquet nor an Arrow file")
                .hint("Parquet files begin with PAR1, Arrow's with ARROW1; a stream of Arrow's is not read")),
        }
    }

    fn parquet(path: &Path) -> Result<Parts> {
        let wrong = |error: parquet::errors::ParquetError| fault(path, error);
        let metadata = ArrowReaderMetadata::load(&open(path)?, ArrowReaderOptions::new()).map_err(wrong)?;
        let rows = metadata.metadata().row_groups().iter().map(|group| group.num_rows());
        let begins = begins(rows.map(|rows| usize::try_from(rows).unwrap_or(0)));
        Ok(Parts {
            path: path.to_owned(),
            schema: metadata.schema().as_ref().clone(),
            format: Format::Parquet(metadata),
            begins,
        })
    }

    fn arrow(path: &Path) -> Result<Parts> {
        // Before the reader, which already decodes dictionaries.
        let rows = sizes::rows(&open(path)?).map_err(|what| fault(path, what))?;
        let reader = FileReader::try_new(BufReader::new(open(path)?), None).map_err(|error| fault(path, error))?;
        Ok(Parts {
            path: path.to_owned(),
            format: Format::Arrow,
            schema: reader.schema().as_ref().clone(),
            begins: begins(rows.into_iter()),
        })
    }

    pub fn rows(&self) -> usize {
        self.begins.last().copied().unwrap_or(0)
    }

    /// The place of a column.
    ///
    /// # Errors
    /// When there is none of this name; the hint names those that there are.
    pub fn column(&self, name: &str) -> Result<usize> {
        let names = || self.schema.fields().iter().map(|field| field.name().as_str());
        names().position(|known| known == name).ok_or_else(|| {
            fault(&self.path, format!("there is no column `{name}`"))
                .hint(format!("the columns are {}", names().collect::<Vec<_>>().join(", ")))
        })
    }

    /// Some columns of a part, in the file's order.
    ///
    /// # Errors
    /// When the part cannot be read.
    pub fn read(&self, part: usize, columns: &[usize]) -> Result<Vec<RecordBatch>> {
        guarded(&self.path, || {
            // Opened anew: descriptors that are made of one another share a place in the file, and threads read side by side.
            let file = open(&self.path)?;
            let wrong = |error: &dyn Display| {
                fault(&self.path, format!("part {} of the file: {error}", part + 1))
                    .hint("did the file change since it was opened?")
            };
            match &self.format {
                Format::Parquet(metadata) => {
                    let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
                    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
                        .with_row_groups(vec![part])
                        .with_projection(mask)
                        .with_batch_size(8192)
                        .build()
                        .map_err(|error| wrong(&error))?;
                    reader.map(|batch| batch.map_err(|error| wrong(&error))).collect()
                }
                Format::Arrow => {
                    let reader = FileReader::try_new(BufReader::new(file), Some(columns.to_vec()));
                    let mut reader = reader.map_err(|error| wrong(&error))?;
                    reader.set_index(part).map_err(|error| wrong(&error))?;
                    reader
                        .take(1)
                        .map(|batch| batch.map_err(|error| wrong(&error)))
                        .collect()
                }
            }
        })
    }
}

fn begins(rows: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut begins = vec![0];
    let mut all = 0;
    for rows in rows {
        all = rows.saturating_add(all);
        begins.push(all);
    }
    begins
}

/// Reads a Parquet or Arrow file into a table. Whole numbers and truth values become [`Int`](lightcell::Column::Int), or
/// [`Float`](lightcell::Column::Float) where some are missing; decimal numbers become floats, dates and times text.
///
/// ```
/// use lightcell_parquet::read_arrow;
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pets.parquet");
/// let pets = read_arrow(path)?;
/// assert_eq!(pets.names()[..2], ["weight", "age"]);
/// let (labels, classes) = pets.labels("species")?;
/// assert_eq!((labels.size(), classes), (vec![6], vec!["cat".to_owned(), "dog".to_owned()]));
/// # Ok::<(), lightcell::Error>(())
/// ```
///
/// # Errors
/// When the file cannot be read, has no row, or a column of a type that has no place in a table; the message says which.
pub fn read_arrow(path: impl AsRef<Path>) -> Result<Table> {
    let parts = Parts::open(path.as_ref())?;
    table(&parts, &(0..parts.schema.fields().len()).collect::<Vec<_>>())
}

/// Reads some columns of a Parquet or Arrow file; the others are not even decoded.
///
/// # Errors
/// As [`read_arrow`], and when there is no such column.
pub fn read_arrow_columns(path: impl AsRef<Path>, names: &[&str]) -> Result<Table> {
    let parts = Parts::open(path.as_ref())?;
    let mut columns = names
        .iter()
        .map(|name| parts.column(name))
        .collect::<Result<Vec<_>>>()?;
    columns.sort_unstable();
    columns.dedup();
    table(&parts, &columns)
}

fn table(parts: &Parts, columns: &[usize]) -> Result<Table> {
    if parts.rows() == 0 {
        return Err(fault(&parts.path, "there is no row in the file"));
    }
    let kinds = columns
        .iter()
        .map(|column| {
            columns::kind(&parts.schema, *column).map_err(|error| error.at(&parts.path.display().to_string()))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut builders: Vec<_> = kinds.into_iter().map(columns::Builder::new).collect();
    for part in 0..parts.begins.len() - 1 {
        for batch in parts.read(part, columns)? {
            for ((builder, array), column) in builders.iter_mut().zip(batch.columns()).zip(columns) {
                builder.add(array).map_err(|(row, what)| {
                    let name = parts.schema.field(*column).name();
                    fault(
                        &parts.path,
                        format!("row {}, column {} ({name}): {what}", row + 1, column + 1),
                    )
                })?;
            }
        }
    }
    let named = builders.into_iter().zip(columns).map(|(builder, column)| {
        let (values, missing) = builder.finish();
        (parts.schema.field(*column).name().clone(), values, missing)
    });
    Table::with_missing(parts.path.display().to_string(), named.collect())
}
