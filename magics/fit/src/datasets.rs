//! Known data sets, ready to train with. Each reads its files from a folder, and downloads those that are not there with
//! `curl`; an interrupted download goes on where it stopped, and each file's SHA-256 is checked. Before a download, source
//! and licence are shown on standard error.

mod cifar;
mod files;
mod mnist;
mod tables;
mod text;

pub use cifar::cifar10;
pub use mnist::{Mnist, fashion_mnist, mnist};
pub use tables::{TableSet, breast_cancer, diabetes, digits, iris, wine};
pub use text::{CharTokenizer, TextSet, tiny_shakespeare};

use crate::data::TensorDataset;
use std::fmt;

/// What a data set is, who made it, and on what terms it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// Who made it, and where it is described.
    pub source: &'static str,
    /// The licence, or that none is stated.
    pub licence: &'static str,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Source: {}. Licence: {}.", self.name, self.source, self.licence)
    }
}

/// Images to train and to test with.
#[derive(Debug)]
pub struct ImageSet {
    /// Images and labels to train with.
    pub train: TensorDataset,
    /// Images and labels to test with.
    pub test: TensorDataset,
    /// The classes' names, in the order of their labels.
    pub classes: Vec<&'static str>,
    /// Source and licence.
    pub about: About,
}
