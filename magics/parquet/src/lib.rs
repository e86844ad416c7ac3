//! Parquet and Arrow files as tables and datasets of the training library. A crate of its own, as what it stands on takes
//! half a minute to compile: a notebook adds it with `%dep lightcell-parquet`.
//!
//! Read are Parquet files (uncompressed, Snappy, gzip, LZ4, Zstandard) and Arrow's file format, which pandas calls Feather.
//! Which of the two a file is stands in its first bytes.

mod columns;
mod dataset;
mod file;
mod sizes;

pub use dataset::{ArrowDataset, RowGroupSampler};
pub use file::{read_arrow, read_arrow_columns};
