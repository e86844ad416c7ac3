//! Arrow's types as the columns of a table.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Schema};
use lightcell::{Column, Error, ErrorKind, Result};

/// What a column of a file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Float,
    Text,
}

/// What a column becomes.
///
/// # Errors
/// When its type has no place in a table; the message says which column and type.
pub(crate) fn kind(schema: &Schema, column: usize) -> Result<Kind> {
    let field = schema.field(column);
    of(field.data_type()).ok_or_else(|| {
        let what = format!("column {} ({}) is of {}", column + 1, field.name(), field.data_type());
        Error::new(ErrorKind::Data, format!("{what}, which has no place in a table"))
            .hint("name the columns to read: `read_arrow_columns(path, &[…])?`")
    })
}

fn of(kind: &DataType) -> Option<Kind> {
    Some(match kind {
        DataType::Boolean => Kind::Int,
        kind if kind.is_integer() => Kind::Int,
        DataType::Null => Kind::Float,
        kind if kind.is_floating() || kind.is_decimal() => Kind::Float,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        kind if kind.is_temporal() => Kind::Text,
        DataType::Dictionary(_, value) => return of(value),
        _ => return None,
    })
}

/// A column while it is read.
pub(crate) struct Builder {
    kind: Kind,
    ints: Vec<i64>,
    floats: Vec<f64>,
    texts: Vec<String>,
    missing: Vec<usize>,
    rows: usize,
}

impl Builder {
    pub fn new(kind: Kind) -> Builder {
        Builder {
            kind,
            ints: Vec::new(),
            floats: Vec::new(),
            texts: Vec::new(),
            missing: Vec::new(),
            rows: 0,
        }
    }

    /// More rows. What is wrong is said with its row, from 0.
    pub fn add(&mut self, array: &ArrayRef) -> std::result::Result<(), (usize, String)> {
        let to = match self.kind {
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Text => DataType::Utf8,
        };
        let before = self.rows;
        let options = CastOptions {
            safe: true,
            ..CastOptions::default()
        };
        let values = cast_with_options(array, &to, &options).map_err(|error| (before, error.to_string()))?;
        // What the conversion could not do became a gap; the gaps of a dictionary are in its values too.
        let gaps = array.logical_nulls();
        let is_gap = |row: usize| gaps.as_ref().is_some_and(|gaps| gaps.is_null(row));
        if let Some(row) = (0..values.len()).find(|row| values.is_null(*row) && !is_gap(*row)) {
            return Err((before + row, "the number is too large".to_owned()));
        }
        for row in 0..values.len() {
            if is_gap(row) {
                self.missing.push(before + row);
            }
        }
        match self.kind {
            Kind::Int => {
                let values = values.as_primitive::<Int64Type>();
                self.ints.extend(values.iter().map(|value| value.unwrap_or(0)));
            }
            Kind::Float => {
                let values = values.as_primitive::<Float64Type>();
                self.floats.extend(values.iter().map(|value| value.unwrap_or(f64::NAN)));
            }
            Kind::Text => {
                let values = values.as_string::<i32>();
                self.texts
                    .extend(values.iter().map(|value| value.unwrap_or_default().to_owned()));
            }
        }
        self.rows += values.len();
        Ok(())
    }

    /// The column, and the rows that have no value.
    pub fn finish(mut self) -> (Column, Vec<usize>) {
        let column = match self.kind {
            Kind::Int if self.missing.is_empty() => Column::Int(self.ints),
            Kind::Int => {
                let mut values: Vec<f64> = self.ints.into_iter().map(|value| value as f64).collect();
                self.missing.iter().for_each(|row| values[*row] = f64::NAN);
                Column::Float(values)
            }
            Kind::Float => Column::Float(std::mem::take(&mut self.floats)),
            Kind::Text => Column::Text(self.texts),
        };
        (column, self.missing)
    }
}
