//! How a CSV file is written.

/// How a CSV file is written, for [`Table::read_csv_with`].
///
/// ```
/// use lightcell::prelude::*;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-csv-{}.csv", std::process::id()));
/// std::fs::write(&path, "height;species\n1,5;cat\nunknown;dog\n")?;
/// let table = Table::read_csv_with(&path, &CsvFormat::new().delimiter(b';').decimal(b',').missing(&["unknown"]))?;
/// assert_eq!(table.fill_missing("height", 0.0)?.floats(&["height"])?.size(), [2, 1]);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CsvFormat {
    delimiter: u8,
    pub(super) decimal: u8,
    header: Option<bool>,
    missing: Vec<String>,
}

impl Default for CsvFormat {
    fn default() -> CsvFormat {
        CsvFormat {
            delimiter: b',',
            decimal: b'.',
            header: None,
            missing: ["", "NA", "N/A", "NaN", "nan", "null"].map(str::to_owned).to_vec(),
        }
    }
}

impl CsvFormat {
    /// Commas between cells, a point in numbers; a first row without any number is a header.
    pub fn new() -> CsvFormat {
        CsvFormat::default()
    }

    /// What stands between cells.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> CsvFormat {
        self.delimiter = delimiter;
        self
    }

    /// What stands before the fraction of a number.
    #[must_use]
    pub fn decimal(mut self, decimal: u8) -> CsvFormat {
        self.decimal = decimal;
        self
    }

    /// Whether the first row has the columns' names. When it is not said, it does if no cell of it is a number.
    #[must_use]
    pub fn header(mut self, header: bool) -> CsvFormat {
        self.header = Some(header);
        self
    }

    /// What a cell without a value says; at first nothing, `NA`, `N/A`, `NaN` and `null`.
    #[must_use]
    pub fn missing(mut self, words: &[&str]) -> CsvFormat {
        self.missing = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub(super) fn reader<R: std::io::Read>(&self, from: R) -> ::csv::Reader<R> {
        ::csv::ReaderBuilder::new()
            .has_headers(false)
            .trim(::csv::Trim::All)
            .delimiter(self.delimiter)
            .from_reader(from)
    }

    pub(super) fn number(&self, cell: &str) -> Option<f64> {
        let number = match self.decimal {
            b'.' => cell.parse::<f64>(),
            decimal => cell.replace(char::from(decimal), ".").parse(),
        };
        number.ok().filter(|number| number.is_finite())
    }

    pub(super) fn is_missing(&self, cell: &str) -> bool {
        self.missing.iter().any(|word| word == cell)
    }

    pub(super) fn is_header(&self, record: &::csv::StringRecord) -> bool {
        let words =
            || record.iter().all(|cell| self.number(cell).is_none()) && record.iter().any(|cell| !cell.is_empty());
        self.header.unwrap_or_else(words)
    }
}
