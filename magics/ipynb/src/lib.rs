//! A notebook as a file: its cells, its parameters, its outputs, and the program that its cells are.
//!
//! Pure text in and out: this crate runs nothing and knows neither Jupyter's protocol nor evcxr.
//!
//! ```
//! use lightcell_ipynb::Notebook;
//! let text = r#"{"cells": [{"cell_type": "code", "source": ["1 + 1"], "outputs": []}], "nbformat": 4}"#;
//! assert_eq!(Notebook::parse(text).unwrap().cells()[0].source, "1 + 1");
//! ```

mod dependency;
pub mod lock;
mod notebook;
pub mod parameters;
pub mod program;
pub mod project;

pub use dependency::dependency;
pub use notebook::{Cell, CellKind, Notebook};
