//! Arrow's types as the columns of a table. Done here and not by `arrow-cast`, which takes as long to compile as all else.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::{DataType, Schema, TimeUnit};
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
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Kind::Text,
        DataType::Time32(_) | DataType::Time64(_) => Kind::Text,
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

/// What is wrong in a row, counted from 0.
type Wrong = (usize, String);

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
    pub fn add(&mut self, array: &ArrayRef) -> std::result::Result<(), Wrong> {
        let before = self.rows;
        // The gaps of a dictionary are in its values too.
        let gaps = array.logical_nulls();
        let is_gap = |row: usize| gaps.as_ref().is_some_and(|gaps| gaps.is_null(row));
        self.missing
            .extend((0..array.len()).filter(|row| is_gap(*row)).map(|row| before + row));
        let added = match self.kind {
            Kind::Int => ints(array, &is_gap).map(|values| self.ints.extend(values)),
            Kind::Float => floats(array, &is_gap).map(|values| self.floats.extend(values)),
            Kind::Text => texts(array, &is_gap).map(|values| self.texts.extend(values)),
        };
        added.map_err(|(row, what)| (before + row, what))?;
        self.rows += array.len();
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

fn other(array: &dyn Array) -> Wrong {
    (0, format!("the column is of {} here", array.data_type()))
}

/// The values of a dictionary in the rows' order; `nothing` where there is none.
fn spread<T: Clone>(
    array: &dyn Array,
    nothing: T,
    is_gap: &dyn Fn(usize) -> bool,
    read: impl FnOnce(&ArrayRef) -> std::result::Result<Vec<T>, Wrong>,
) -> std::result::Result<Vec<T>, Wrong> {
    let Some(dictionary) = array.as_any_dictionary_opt() else {
        return Err(other(array));
    };
    if dictionary.values().is_empty() {
        return Ok(vec![nothing; array.len()]);
    }
    let keys = dictionary.normalized_keys();
    let values = read(dictionary.values()).map_err(|(value, what)| {
        let row = keys.iter().position(|key| *key == value).unwrap_or(0);
        (row, what)
    })?;
    let value = |(row, key): (usize, usize)| match is_gap(row) {
        true => nothing.clone(),
        false => values[key].clone(),
    };
    Ok(keys.iter().copied().enumerate().map(value).collect())
}

/// The values of a column of numbers, as they lie there.
fn numbers<P: ArrowPrimitiveType, T>(array: &dyn Array, change: impl Fn(P::Native) -> T) -> Vec<T> {
    array
        .as_primitive::<P>()
        .values()
        .iter()
        .map(|value| change(*value))
        .collect()
}

fn gaps_of(array: &ArrayRef) -> impl Fn(usize) -> bool + '_ {
    |row| array.is_null(row)
}

fn ints(array: &ArrayRef, is_gap: &dyn Fn(usize) -> bool) -> std::result::Result<Vec<i64>, Wrong> {
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().values().iter().map(i64::from).collect(),
        DataType::Int8 => numbers::<Int8Type, _>(array, i64::from),
        DataType::Int16 => numbers::<Int16Type, _>(array, i64::from),
        DataType::Int32 => numbers::<Int32Type, _>(array, i64::from),
        DataType::Int64 => numbers::<Int64Type, _>(array, |value| value),
        DataType::UInt8 => numbers::<UInt8Type, _>(array, i64::from),
        DataType::UInt16 => numbers::<UInt16Type, _>(array, i64::from),
        DataType::UInt32 => numbers::<UInt32Type, _>(array, i64::from),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>().values();
            let fits = |(row, value): (usize, &u64)| match i64::try_from(*value) {
                Ok(value) => Ok(value),
                // What lies where there is no value means nothing.
                Err(_) if is_gap(row) => Ok(0),
                Err(_) => Err((row, "the number is too large".to_owned())),
            };
            values
                .iter()
                .enumerate()
                .map(fits)
                .collect::<std::result::Result<_, _>>()?
        }
        DataType::Dictionary(..) => spread(array, 0, is_gap, |values| ints(values, &gaps_of(values)))?,
        _ => return Err(other(array)),
    })
}

fn floats(array: &ArrayRef, is_gap: &dyn Fn(usize) -> bool) -> std::result::Result<Vec<f64>, Wrong> {
    let mut values = match array.data_type() {
        DataType::Null => vec![f64::NAN; array.len()],
        DataType::Float16 => numbers::<Float16Type, _>(array, |value| value.to_f64()),
        DataType::Float32 => numbers::<Float32Type, _>(array, f64::from),
        DataType::Float64 => numbers::<Float64Type, _>(array, |value| value),
        DataType::Decimal32(..) => decimals::<Decimal32Type>(array),
        DataType::Decimal64(..) => decimals::<Decimal64Type>(array),
        DataType::Decimal128(..) => decimals::<Decimal128Type>(array),
        DataType::Decimal256(..) => decimals::<Decimal256Type>(array),
        DataType::Dictionary(..) => spread(array, f64::NAN, is_gap, |values| floats(values, &gaps_of(values)))?,
        _ => return Err(other(array)),
    };
    for (row, value) in values.iter_mut().enumerate() {
        if is_gap(row) {
            *value = f64::NAN;
        }
    }
    Ok(values)
}

/// By their text: no other way rounds to the nearest number at any size.
fn decimals<D: DecimalType>(array: &dyn Array) -> Vec<f64> {
    let array = array.as_primitive::<D>();
    (0..array.len())
        .map(|row| array.value_as_string(row).parse().unwrap_or(f64::NAN))
        .collect()
}

fn texts(array: &ArrayRef, is_gap: &dyn Fn(usize) -> bool) -> std::result::Result<Vec<String>, Wrong> {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().map(text).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(text).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(text).collect(),
        DataType::Date32 => days::<Date32Type>(array, is_gap)?,
        DataType::Date64 => days::<Date64Type>(array, is_gap)?,
        DataType::Time32(TimeUnit::Second) => times::<Time32SecondType>(array, is_gap)?,
        DataType::Time32(_) => times::<Time32MillisecondType>(array, is_gap)?,
        DataType::Time64(TimeUnit::Microsecond) => times::<Time64MicrosecondType>(array, is_gap)?,
        DataType::Time64(_) => times::<Time64NanosecondType>(array, is_gap)?,
        DataType::Timestamp(unit, zone) => {
            // With a zone they are counted in UTC.
            let end = if zone.is_some() { "Z" } else { "" };
            match unit {
                TimeUnit::Second => moments::<TimestampSecondType>(array, end, is_gap)?,
                TimeUnit::Millisecond => moments::<TimestampMillisecondType>(array, end, is_gap)?,
                TimeUnit::Microsecond => moments::<TimestampMicrosecondType>(array, end, is_gap)?,
                TimeUnit::Nanosecond => moments::<TimestampNanosecondType>(array, end, is_gap)?,
            }
        }
        DataType::Dictionary(..) => spread(array, String::new(), is_gap, |values| texts(values, &gaps_of(values)))?,
        _ => return Err(other(array)),
    })
}

/// A text for each row that has a value.
fn written(
    rows: usize,
    is_gap: &dyn Fn(usize) -> bool,
    text: impl Fn(usize) -> Option<String>,
) -> std::result::Result<Vec<String>, Wrong> {
    let one = |row: usize| match text(row) {
        _ if is_gap(row) => Ok(String::new()),
        Some(text) => Ok(text),
        None => Err((row, "the date or time is out of range".to_owned())),
    };
    (0..rows).map(one).collect()
}

fn days<P>(array: &dyn Array, is_gap: &dyn Fn(usize) -> bool) -> std::result::Result<Vec<String>, Wrong>
where
    P: ArrowPrimitiveType + ArrowTemporalType,
    i64: From<P::Native>,
{
    let array = array.as_primitive::<P>();
    written(array.len(), is_gap, |row| {
        array.value_as_date(row).map(|date| date.to_string())
    })
}

fn times<P>(array: &dyn Array, is_gap: &dyn Fn(usize) -> bool) -> std::result::Result<Vec<String>, Wrong>
where
    P: ArrowPrimitiveType + ArrowTemporalType,
    i64: From<P::Native>,
{
    let array = array.as_primitive::<P>();
    written(array.len(), is_gap, |row| {
        array.value_as_time(row).map(|time| time.to_string())
    })
}

fn moments<P>(array: &dyn Array, end: &str, is_gap: &dyn Fn(usize) -> bool) -> std::result::Result<Vec<String>, Wrong>
where
    P: ArrowPrimitiveType + ArrowTemporalType,
    i64: From<P::Native>,
{
    let array = array.as_primitive::<P>();
    // As ISO 8601 writes them: that is how these print for those who look into a program.
    let text = |row: usize| array.value_as_datetime(row).map(|moment| format!("{moment:?}{end}"));
    written(array.len(), is_gap, text)
}
