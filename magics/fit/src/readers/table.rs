//! Tables with names and types: text, numbers and gaps in them.

use super::{CsvFormat, csv_error, open, short};
use crate::data::TensorDataset;
use crate::error::{Error, Kind, Result};
use std::fmt;
use std::path::Path;
use tch::Tensor;

/// A column's values. What is missing in it is known apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Whole numbers, if all of them are.
    Int(Vec<i64>),
    /// Numbers, if all of them are; missing ones are NaN.
    Float(Vec<f64>),
    /// Texts.
    Text(Vec<String>),
}

impl Column {
    fn kind(&self) -> &'static str {
        match self {
            Column::Int(_) => "int",
            Column::Float(_) => "float",
            Column::Text(_) => "text",
        }
    }

    fn cell(&self, row: usize) -> String {
        match self {
            Column::Int(values) => values[row].to_string(),
            Column::Float(values) => values[row].to_string(),
            Column::Text(values) => values[row].clone(),
        }
    }

    fn of_rows(&self, rows: &[usize]) -> Column {
        match self {
            Column::Int(values) => Column::Int(rows.iter().map(|row| values[*row]).collect()),
            Column::Float(values) => Column::Float(rows.iter().map(|row| values[*row]).collect()),
            Column::Text(values) => Column::Text(rows.iter().map(|row| values[*row].clone()).collect()),
        }
    }
}

/// A table in memory: columns with names, each of whole numbers, numbers or text, with what is missing known.
///
/// ```
/// use lightcell::prelude::*;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-table-{}.csv", std::process::id()));
/// std::fs::write(&path, "length,width,species\n5.1,3.5,setosa\n6.2,2.9,virginica\n5.0,3.4,setosa\n")?;
/// let iris = Table::read_csv(&path)?;
/// assert_eq!(iris.names(), ["length", "width", "species"]);
/// let x = iris.floats(&["length", "width"])?;
/// let (y, classes) = iris.labels("species")?;
/// assert_eq!((x.size(), Vec::<i64>::try_from(&y).unwrap()), (vec![3, 2], vec![0, 1, 0]));
/// assert_eq!(classes, ["setosa", "virginica"]);
/// // The same in one: all other columns are inputs.
/// assert_eq!(iris.classification("species")?.0.len(), 3);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Table {
    /// For messages.
    source: String,
    names: Vec<String>,
    columns: Vec<Column>,
    /// Rows of each column without a value, ascending.
    missing: Vec<Vec<usize>>,
    /// Where each row stood in the file, counted from 1 with the header.
    lines: Vec<u64>,
    /// What stands before the fraction of a number.
    decimal: u8,
}

impl Table {
    /// Reads a CSV file, also one compressed with gzip. A first row without any number is a header; without one, columns are
    /// called `0`, `1` and so on. A column's type is what all of its cells are.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or has rows of different length; the message says which row.
    pub fn read_csv(path: impl AsRef<Path>) -> Result<Table> {
        Table::read_csv_with(path, &CsvFormat::new())
    }

    /// Reads a CSV file that is written in another way.
    ///
    /// # Errors
    /// As [`read_csv`](Table::read_csv).
    pub fn read_csv_with(path: impl AsRef<Path>, format: &CsvFormat) -> Result<Table> {
        let path = path.as_ref();
        let mut reader = format.reader(open(path)?);
        let (mut names, mut cells, mut lines) = (None, Vec::<Vec<String>>::new(), Vec::new());
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|error| csv_error(path, row, &error))?;
            if row == 0 {
                cells.resize(record.len(), Vec::new());
                if format.is_header(&record) {
                    names = Some(record.iter().map(str::to_owned).collect::<Vec<_>>());
                    continue;
                }
            }
            lines.push(row as u64 + 1);
            for (column, cell) in cells.iter_mut().zip(record.iter()) {
                column.push(cell.to_owned());
            }
        }
        if lines.is_empty() {
            let what = if names.is_some() {
                "has a header but no row"
            } else {
                "is empty"
            };
            return Err(Error::new(Kind::Data, format!("{} {what}", path.display())));
        }
        let names = names.unwrap_or_else(|| (0..cells.len()).map(|column| column.to_string()).collect());
        let (columns, missing) = cells.into_iter().map(|cells| typed(cells, format)).unzip();
        let table = Table {
            source: path.display().to_string(),
            names,
            columns,
            missing,
            lines,
            decimal: format.decimal,
        };
        table.check_names()?;
        Ok(table)
    }

    /// Of columns that are there already.
    ///
    /// # Errors
    /// When they are of different length, or two have one name.
    pub fn new(columns: Vec<(String, Column)>) -> Result<Table> {
        let length = |column: &Column| match column {
            Column::Int(values) => values.len(),
            Column::Float(values) => values.len(),
            Column::Text(values) => values.len(),
        };
        let rows = columns.first().map_or(0, |(_, column)| length(column));
        if let Some((name, column)) = columns.iter().find(|(_, column)| length(column) != rows) {
            return Err(Error::new(
                Kind::Data,
                format!("column `{name}` has {} rows, the first {rows}", length(column)),
            ));
        }
        let missing = columns.iter().map(|(_, column)| match column {
            Column::Float(values) => (0..rows).filter(|row| values[*row].is_nan()).collect(),
            _ => Vec::new(),
        });
        let missing = missing.collect();
        let (names, columns) = columns.into_iter().unzip();
        let table = Table {
            source: "the table".to_owned(),
            names,
            columns,
            missing,
            lines: (1..=rows as u64).collect(),
            decimal: b'.',
        };
        table.check_names()?;
        Ok(table)
    }

    /// Of columns that a reader of other files has made: what messages call the table, and of each column the rows, from 0,
    /// that have no value. A column of numbers with such rows is [`Column::Float`].
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let species = Column::Text(vec!["cat".into(), String::new()]);
    /// let table = Table::with_missing("pets.db", vec![("species".into(), species, vec![1])])?;
    /// assert_eq!(table.labels("species").unwrap_err().message(), "pets.db: row 2, column 1 (species): there is no label");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Table::new), and when there is no row that is said to have no value.
    pub fn with_missing(source: impl Into<String>, columns: Vec<(String, Column, Vec<usize>)>) -> Result<Table> {
        let (columns, missing): (Vec<_>, Vec<_>) = columns
            .into_iter()
            .map(|(name, column, missing)| ((name, column), missing))
            .unzip();
        let mut table = Table::new(columns)?;
        table.source = source.into();
        for (known, mut rows) in table.missing.iter_mut().zip(missing) {
            known.append(&mut rows);
            known.sort_unstable();
            known.dedup();
            if known.last().is_some_and(|row| *row >= table.lines.len()) {
                let rows = table.lines.len();
                return Err(Error::new(
                    Kind::Data,
                    format!("{}: a row beyond its {rows} has no value", table.source),
                ));
            }
        }
        Ok(table)
    }

    fn check_names(&self) -> Result<()> {
        let again = (1..self.names.len()).find(|at| self.names[..*at].contains(&self.names[*at]));
        match again {
            Some(at) => Err(self.fault(format!("two columns are called `{}`", self.names[at]))),
            None => Ok(()),
        }
    }

    fn fault(&self, what: impl fmt::Display) -> Error {
        Error::new(Kind::Data, format!("{}: {what}", self.source))
    }

    /// `row 3, column 2 (age)`.
    fn place(&self, row: usize, column: usize) -> String {
        format!(
            "row {}, column {} ({})",
            self.lines[row],
            column + 1,
            self.names[column]
        )
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The columns' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The names of the columns of numbers, without the one named: the usual inputs of a model.
    pub fn number_names(&self, without: &str) -> Vec<&str> {
        let numbers = |(name, column): (&'_ String, &Column)| name != without && !matches!(column, Column::Text(_));
        let columns = self.names.iter().zip(&self.columns);
        columns
            .filter(|(name, column)| numbers((name, column)))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    fn index(&self, name: &str) -> Result<usize> {
        self.names.iter().position(|known| known == name).ok_or_else(|| {
            self.fault(format!("there is no column `{name}`"))
                .hint(format!("the columns are {}", self.names.join(", ")))
        })
    }

    /// A column.
    ///
    /// # Errors
    /// When there is none of this name; the hint names those that there are.
    pub fn column(&self, name: &str) -> Result<&Column> {
        Ok(&self.columns[self.index(name)?])
    }

    /// The rows, from 0, in which a column has no value.
    ///
    /// # Errors
    /// When there is no column of this name.
    pub fn missing(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.missing[self.index(name)?])
    }

    /// Without the rows in which any column has no value.
    #[must_use]
    pub fn drop_missing(&self) -> Table {
        let mut gaps = vec![false; self.len()];
        self.missing.iter().flatten().for_each(|row| gaps[*row] = true);
        let rows: Vec<usize> = (0..self.len()).filter(|row| !gaps[*row]).collect();
        self.select(&rows)
    }

    /// With a number in the place of each value that a column lacks.
    ///
    /// # Errors
    /// When there is no column of numbers of this name.
    pub fn fill_missing(mut self, name: &str, value: f64) -> Result<Table> {
        let at = self.index(name)?;
        let missing = std::mem::take(&mut self.missing[at]);
        match &mut self.columns[at] {
            Column::Float(values) => missing.iter().for_each(|row| values[*row] = value),
            Column::Int(_) => {}
            Column::Text(_) => return Err(self.fault(format!("column `{name}` is of text, not of numbers"))),
        }
        Ok(self)
    }

    /// Some rows, by their numbers from 0.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Table {
        let missing = self.missing.iter().map(|gaps| {
            let gap = |(_, row): &(usize, &usize)| gaps.binary_search(row).is_ok();
            rows.iter().enumerate().filter(gap).map(|(at, _)| at).collect()
        });
        Table {
            columns: self.columns.iter().map(|column| column.of_rows(rows)).collect(),
            missing: missing.collect(),
            lines: rows.iter().map(|row| self.lines[*row]).collect(),
            names: self.names.clone(),
            source: self.source.clone(),
            decimal: self.decimal,
        }
    }

    /// Columns of numbers as a tensor `[rows, columns]` of `Kind::Float`.
    ///
    /// # Errors
    /// When a cell is empty or no number; the message says in which row and column, counted from 1 with the header.
    pub fn floats(&self, names: &[&str]) -> Result<Tensor> {
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let at = self.index(name)?;
            if let Some(row) = self.missing[at].first() {
                return Err(self
                    .fault(format!("{}: there is no value", self.place(*row, at)))
                    .hint(format!(
                        "`table.drop_missing()` leaves such rows out, `table.fill_missing(\"{name}\", value)?` puts a number there"
                    )));
            }
            columns.push(match &self.columns[at] {
                Column::Int(values) => values.iter().map(|value| *value as f32).collect::<Vec<f32>>(),
                Column::Float(values) => values.iter().map(|value| *value as f32).collect(),
                Column::Text(values) => {
                    let format = CsvFormat::new().decimal(self.decimal);
                    let wrong = values
                        .iter()
                        .position(|cell| format.number(cell).is_none())
                        .unwrap_or(0);
                    return Err(self
                        .fault(format!(
                            "{}: `{}` is no number",
                            self.place(wrong, at),
                            short(&values[wrong])
                        ))
                        .hint("`OneHotEncoder` makes numbers of texts, `table.labels(…)?` makes classes of them"));
                }
            });
        }
        let (rows, width) = (self.len(), columns.len());
        let mut values = Vec::with_capacity(rows * width);
        for row in 0..rows {
            values.extend(columns.iter().map(|column| column[row]));
        }
        Ok(Tensor::from_slice(&values).f_view([rows as i64, width as i64])?)
    }

    /// A column's cells as text.
    ///
    /// # Errors
    /// When there is no column of this name.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let column = self.column(name)?;
        Ok((0..self.len()).map(|row| column.cell(row)).collect())
    }

    /// A column as labels `[rows]` of `Kind::Int64`, and the classes that they count, sorted: as scikit-learn's
    /// `LabelEncoder`.
    ///
    /// # Errors
    /// When a cell is empty.
    pub fn labels(&self, name: &str) -> Result<(Tensor, Vec<String>)> {
        let mut classes = self.texts(name)?;
        match self.column(name)? {
            Column::Text(_) => classes.sort(),
            // In the order of numbers, not of their digits.
            _ => classes.sort_by(|a, b| {
                let value = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
                value(a).total_cmp(&value(b))
            }),
        }
        classes.dedup();
        let names: Vec<&str> = classes.iter().map(String::as_str).collect();
        let labels = self.labels_among(name, &names)?;
        Ok((labels, classes))
    }

    /// A column as labels, of classes that are known: those of the training data, for example.
    ///
    /// # Errors
    /// When a cell is empty or no class; the message says in which row.
    pub fn labels_among(&self, name: &str, classes: &[&str]) -> Result<Tensor> {
        let at = self.index(name)?;
        if let Some(row) = self.missing[at].first() {
            return Err(self.fault(format!("{}: there is no label", self.place(*row, at))));
        }
        let places: std::collections::HashMap<&str, i64> = classes.iter().copied().zip(0..).collect();
        let mut labels = Vec::with_capacity(self.len());
        for (row, cell) in self.texts(name)?.into_iter().enumerate() {
            let Some(label) = places.get(cell.as_str()) else {
                return Err(Error::new(
                    Kind::Label,
                    format!(
                        "{}: {}: `{}` is none of the classes {}",
                        self.source,
                        self.place(row, at),
                        short(&cell),
                        listed(classes)
                    ),
                ));
            };
            labels.push(*label);
        }
        Ok(Tensor::from_slice(&labels))
    }

    /// All columns of numbers as inputs, and one column as classes, with their names.
    ///
    /// # Errors
    /// As [`floats`](Table::floats) and [`labels`](Table::labels).
    pub fn classification(&self, target: &str) -> Result<(TensorDataset, Vec<String>)> {
        let (labels, classes) = self.labels(target)?;
        let x = self.floats(&self.number_names(target))?;
        Ok((TensorDataset::new(x, labels)?, classes))
    }

    /// All columns of numbers but one as inputs, and that one, `[rows, 1]`, as what is to be predicted.
    ///
    /// # Errors
    /// As [`floats`](Table::floats).
    pub fn regression(&self, target: &str) -> Result<TensorDataset> {
        let y = self.floats(&[target])?;
        TensorDataset::new(self.floats(&self.number_names(target))?, y)
    }
}

fn listed(classes: &[&str]) -> String {
    match classes.split_at_checked(10) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", first.join(", "), rest.len()),
        _ => classes.join(", "),
    }
}

/// A column of the type that all of its cells are, and the rows without a value.
fn typed(cells: Vec<String>, format: &CsvFormat) -> (Column, Vec<usize>) {
    let missing: Vec<usize> = (0..cells.len()).filter(|row| format.is_missing(&cells[*row])).collect();
    if missing.is_empty() && cells.iter().all(|cell| cell.parse::<i64>().is_ok()) {
        let values = cells.iter().filter_map(|cell| cell.parse().ok());
        return (Column::Int(values.collect()), missing);
    }
    let values: Option<Vec<f64>> = cells
        .iter()
        .map(|cell| match format.is_missing(cell) {
            true => Some(f64::NAN),
            false => format.number(cell),
        })
        .collect();
    match values {
        Some(values) if missing.len() < cells.len() => (Column::Float(values), missing),
        _ => (Column::Text(cells), missing),
    }
}

/// As it is shown: a cell that ends in a table does not print all of it.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let shown = self.len().min(SHOWN);
        let cell = |column: usize, row: usize| match self.missing[column].binary_search(&row) {
            Ok(_) => "-".to_owned(),
            Err(_) => self.columns[column].cell(row),
        };
        let rows = (0..shown).map(|row| (0..self.names.len()).map(|column| cell(column, row)).collect());
        let mut lines: Vec<Vec<String>> = vec![self.names.clone()];
        lines.push(self.columns.iter().map(|column| column.kind().to_owned()).collect());
        lines.extend(rows);
        let widths: Vec<usize> = (0..self.names.len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for line in lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  "))?;
        }
        write!(f, "{} rows, {} columns", self.len(), self.names.len())
    }
}

#[cfg(test)]
mod tests;
