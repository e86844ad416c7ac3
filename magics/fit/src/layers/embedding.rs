//! A table of vectors.

use super::{init, module};
use crate::error::{Error, Kind};
use crate::path::Path;
use crate::summarize::ran;
use tch::Tensor;

/// A vector for each of a number of entries.
#[derive(Debug)]
pub struct Embedding {
    /// `[entries, size]`
    pub weight: Tensor,
    padding_idx: i64,
}

/// Makes an [`Embedding`] of so many entries, each a vector of `size` numbers drawn from the standard normal distribution
/// (`torch.nn.Embedding`). Shape: `[…]` of `Kind::Int64` to `[…, size]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = embedding(store.root() / "e", 100, 16);
/// assert_eq!(layer.forward(&Tensor::from_slice(&[3i64, 99])).size(), [2, 16]);
/// ```
pub fn embedding(path: Path, entries: i64, size: i64) -> Embedding {
    Embedding::config(entries, size).build(path)
}

/// An [`Embedding`] that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingConfig {
    entries: i64,
    size: i64,
    padding_idx: Option<i64>,
}

impl EmbeddingConfig {
    /// Makes this entry zeros that are not trained, for padding.
    #[must_use]
    pub fn padding_idx(mut self, entry: i64) -> EmbeddingConfig {
        self.padding_idx = Some(entry);
        self
    }

    /// Makes the layer. A padding entry outside of the table makes the model an error.
    pub fn build(self, path: Path) -> Embedding {
        path.module("Embedding");
        let table = init::normal(&[self.entries, self.size]);
        let padding = self.padding_idx.filter(|entry| (0..self.entries).contains(entry));
        match (self.padding_idx, padding) {
            (_, Some(entry)) => drop(table.get(entry).fill_(0.0)),
            (Some(entry), None) => path.fault(
                Error::new(
                    Kind::Model,
                    format!("padding_idx {entry} is outside of the table's {} entries", self.entries),
                )
                .hint("entries count from 0"),
            ),
            (None, None) => {}
        }
        Embedding {
            weight: path.trained("weight", &table),
            padding_idx: padding.unwrap_or(-1),
        }
    }
}

impl Embedding {
    /// A table of so many vectors of this size.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let layer = Embedding::config(10, 4).padding_idx(0).build(store.root() / "e");
    /// assert_eq!(layer.forward(&Tensor::from_slice(&[0i64])).abs().max().double_value(&[]), 0.0);
    /// ```
    pub fn config(entries: i64, size: i64) -> EmbeddingConfig {
        EmbeddingConfig {
            entries,
            size,
            padding_idx: None,
        }
    }

    /// `[…]`, numbers of entries, to `[…, size]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = Tensor::embedding(&self.weight, x, self.padding_idx, false, false);
        ran(&self.weight, &y, || 0);
        y
    }
}

module!(Embedding);
