//! Files larger than memory: their rows in any order, with the parts in use kept.

use crate::columns::{self, Builder, Kind};
use crate::file::Parts;
use lightcell::tch::Tensor;
use lightcell::{Column, Dataset, Error, ErrorKind, RandomSampler, Result, Sampler};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of decoded parts that are kept at first.
const KEPT: usize = 256 << 20;

/// A part of the file as numbers, row after row; NaN where there is none.
type Part = Arc<Vec<f32>>;
/// Each has a lock of its own, so that a part is decoded once and threads wait only for the part that they need.
type Slot = Arc<Mutex<Option<Part>>>;

/// A Parquet or Arrow file as a dataset of its rows, for tables larger than memory. A sample is the inputs `[columns]` and the
/// target, a number, of `Kind::Float`.
///
/// A file is decoded in parts (row groups of Parquet, record batches of Arrow); those used last are kept, up to
/// [`keep`](ArrowDataset::keep). For a file larger than that, [`row_groups`](ArrowDataset::row_groups) shuffles so that few
/// parts are needed at a time; `shuffle(true)` would decode a part for nearly each sample.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell_parquet::ArrowDataset;
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/numbers.parquet");
/// let data = ArrowDataset::open(path, "y")?;
/// assert_eq!((data.len(), data.input_names()), (1000, vec!["a", "b"]));
/// let order = data.row_groups(2);
/// let loader = DataLoader::new(data).batch_size(50).sampler(order).num_workers(2);
/// let (x, y) = loader.epoch(1, 0).next().unwrap()?;
/// assert_eq!((x.size(), y.size()), (vec![50, 2], vec![50]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct ArrowDataset {
    parts: Parts,
    target: usize,
    keep: usize,
    /// The parts in use, the last used at the end.
    kept: Mutex<VecDeque<(usize, Slot)>>,
}

impl ArrowDataset {
    /// Over a file; all columns but the target are inputs.
    ///
    /// # Errors
    /// When the file cannot be read, has no row, no such column, or a column that is not of numbers; the message says which.
    pub fn open(path: impl AsRef<Path>, target: &str) -> Result<ArrowDataset> {
        let parts = Parts::open(path.as_ref())?;
        let wrong = |what: String| Error::new(ErrorKind::Data, format!("{}: {what}", parts.path.display()));
        let target = parts.column(target)?;
        for (column, field) in parts.schema.fields().iter().enumerate() {
            let kind =
                columns::kind(&parts.schema, column).map_err(|error| error.at(&parts.path.display().to_string()))?;
            if kind == Kind::Text {
                let (name, kind) = (field.name(), field.data_type());
                return Err(
                    wrong(format!("column {} ({name}) is of {kind}, not of numbers", column + 1))
                        .hint("`read_arrow(path)?` reads it into a table, which makes labels of texts"),
                );
            }
        }
        if parts.rows() == 0 {
            return Err(wrong("there is no row in the file".to_owned()));
        }
        Ok(ArrowDataset {
            parts,
            target,
            keep: KEPT,
            kept: Mutex::default(),
        })
    }

    /// How many bytes of decoded parts are kept, 256 MB at first; the part in use is kept in any case.
    #[must_use]
    pub fn keep(mut self, bytes: usize) -> ArrowDataset {
        self.keep = bytes;
        self
    }

    /// The names of the inputs.
    pub fn input_names(&self) -> Vec<&str> {
        let fields = self.parts.schema.fields().iter().enumerate();
        let inputs = fields.filter(|(column, _)| *column != self.target);
        inputs.map(|(_, field)| field.name().as_str()).collect()
    }

    /// An order for training: the parts in a random order, and the rows of so many parts mixed among each other. Needs
    /// that many parts in memory, and one more while it goes to the next.
    pub fn row_groups(&self, mixed: usize) -> RowGroupSampler {
        RowGroupSampler {
            begins: self.parts.begins.clone(),
            mixed: mixed.max(1),
        }
    }

    fn width(&self) -> usize {
        self.parts.schema.fields().len()
    }

    /// A part, decoded once by however many threads want it.
    fn part(&self, part: usize) -> Result<Part> {
        let slot = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = match kept.iter().position(|(known, _)| *known == part) {
                Some(at) => kept.remove(at).map(|(_, slot)| slot).unwrap_or_default(),
                None => Slot::default(),
            };
            kept.push_back((part, slot.clone()));
            let rows = |part: usize| self.parts.begins[part + 1] - self.parts.begins[part];
            let bytes = |part: usize| rows(part).saturating_mul(self.width() * 4);
            let sizes = kept.iter().map(|(part, _)| bytes(*part));
            let mut all = sizes.fold(0, usize::saturating_add);
            while all > self.keep && kept.len() > 1 {
                all -= kept.pop_front().map_or(0, |(part, _)| bytes(part));
            }
            slot
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = &*slot {
            return Ok(part.clone());
        }
        let decoded = Arc::new(self.decode(part)?);
        *slot = Some(decoded.clone());
        Ok(decoded)
    }

    fn decode(&self, part: usize) -> Result<Vec<f32>> {
        let (rows, width) = (self.parts.begins[part + 1] - self.parts.begins[part], self.width());
        let all: Vec<usize> = (0..width).collect();
        let batches = self.parts.read(part, &all)?;
        let other = |found: usize| {
            let path = self.parts.path.display();
            let what = format!("{path}: part {} has {found} rows, not {rows}", part + 1);
            Error::new(ErrorKind::Data, what).hint("did the file change since it was opened?")
        };
        // Before there is memory for them: a damaged file may say anything.
        let found: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        if found != rows {
            return Err(other(found));
        }
        let mut numbers = vec![f32::NAN; rows * width];
        for column in 0..width {
            let mut builder = Builder::new(columns::kind(&self.parts.schema, column)?);
            for batch in &batches {
                let read = builder.add(batch.column(column));
                read.map_err(|(row, what)| self.fault(self.parts.begins[part] + row, column, &what))?;
            }
            let values: Vec<f32> = match builder.finish().0 {
                Column::Int(values) => values.into_iter().map(|value| value as f32).collect(),
                Column::Float(values) => values.into_iter().map(|value| value as f32).collect(),
                Column::Text(_) => Vec::new(),
            };
            if values.len() != rows {
                return Err(other(values.len()));
            }
            for (row, value) in values.into_iter().enumerate() {
                numbers[row * width + column] = value;
            }
        }
        Ok(numbers)
    }

    fn fault(&self, row: usize, column: usize, what: &str) -> Error {
        let name = self.parts.schema.field(column).name();
        let place = format!("row {}, column {} ({name})", row + 1, column + 1);
        Error::new(ErrorKind::Data, format!("{place}: {what}"))
    }

    /// Adds a row's inputs, and gives its target.
    fn row(&self, index: usize, x: &mut Vec<f32>) -> Result<f32> {
        let begins = &self.parts.begins;
        if index >= self.parts.rows() {
            let what = format!("there is no row {index} among {}", self.parts.rows());
            return Err(Error::new(ErrorKind::Data, what));
        }
        // Parts without rows begin where the next one does.
        let part = begins.partition_point(|begin| *begin <= index) - 1;
        let numbers = self.part(part)?;
        let from = (index - begins[part]) * self.width();
        let row = &numbers[from..from + self.width()];
        if let Some(column) = row.iter().position(|number| number.is_nan()) {
            return Err(self.fault(index, column, "there is no value"));
        }
        x.extend_from_slice(&row[..self.target]);
        x.extend_from_slice(&row[self.target + 1..]);
        Ok(row[self.target])
    }
}

impl Dataset for ArrowDataset {
    type Item = (Tensor, f32);

    fn len(&self) -> usize {
        self.parts.rows()
    }

    fn get(&self, index: usize) -> Result<(Tensor, f32)> {
        let mut x = Vec::with_capacity(self.width());
        let y = self.row(index, &mut x)?;
        Ok((Tensor::from_slice(&x), y))
    }

    fn get_batch(&self, indices: &[usize]) -> Option<Result<(Tensor, Tensor)>> {
        let (mut x, mut y) = (Vec::with_capacity(indices.len() * self.width()), Vec::new());
        for index in indices {
            // One by one, the loader says which sample it was.
            y.push(self.row(*index, &mut x).ok()?);
        }
        let size = [indices.len() as i64, self.width() as i64 - 1];
        let x = Tensor::from_slice(&x).f_view(size);
        Some(x.map(|x| (x, Tensor::from_slice(&y))).map_err(Error::from))
    }

    fn describe(&self, _: usize) -> Option<String> {
        Some(self.parts.path.display().to_string())
    }
}

/// A random order that needs few parts of a file at a time; see [`ArrowDataset::row_groups`].
#[derive(Debug, Clone)]
pub struct RowGroupSampler {
    begins: Vec<usize>,
    mixed: usize,
}

impl Sampler for RowGroupSampler {
    fn len(&self) -> usize {
        self.begins.last().copied().unwrap_or(0)
    }

    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let parts = RandomSampler::new(self.begins.len() - 1).order(seed, epoch);
        let mut order = Vec::with_capacity(self.len());
        for some in parts.chunks(self.mixed) {
            let rows: Vec<usize> = some
                .iter()
                .flat_map(|part| self.begins[*part]..self.begins[part + 1])
                .collect();
            // Another seed for each, or parts of one size would all be mixed alike.
            let seed = seed.wrapping_add(1 + some[0] as u64);
            order.extend(
                RandomSampler::new(rows.len())
                    .order(seed, epoch)
                    .into_iter()
                    .map(|at| rows[at]),
            );
        }
        order
    }
}
