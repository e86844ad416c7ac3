//! Layers one after another.

use super::module;
use crate::making;
use crate::path::Path;
use tch::Tensor;
use tch::nn::{self, Module};

/// A [`Sequential`] that is yet to be made.
#[derive(Debug)]
pub struct SequentialBuilder<'a> {
    path: Path<'a>,
    chain: Sequential,
}

/// Layers one after another. They are numbered from 0, activations too, and named so: `0.weight`, `2.weight`.
#[derive(Debug)]
pub struct Sequential(Vec<Box<dyn Module>>);

/// Begins a chain of layers under `path` (`torch.nn.Sequential`); [`build`](SequentialBuilder::build) ends it.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let net = sequential(store.root() / "net")
///     .append(|p| linear(p, 4, 8))
///     .relu()
///     .append(|p| linear(p, 8, 2))
///     .build();
/// assert_eq!(net.forward(&Tensor::zeros([3, 4], (Kind::Float, Device::Cpu))).size(), [3, 2]);
/// let names: Vec<String> = store.parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]);
/// ```
pub fn sequential(path: Path) -> SequentialBuilder {
    path.module("Sequential");
    SequentialBuilder {
        path,
        chain: Sequential(Vec::new()),
    }
}

impl<'a> SequentialBuilder<'a> {
    /// Adds a layer, made under the path of its number.
    #[must_use]
    pub fn append<M: Module + 'static>(self, layer: impl FnOnce(Path<'a>) -> M) -> SequentialBuilder<'a> {
        let path = &self.path / self.chain.0.len();
        let layer = layer(path.clone());
        // One that has named itself keeps its name.
        path.module(making::own_name(std::any::type_name::<M>()));
        self.push(Box::new(layer))
    }

    /// Adds a function, which has a number as well.
    #[must_use]
    pub fn append_fn(self, function: impl Fn(&Tensor) -> Tensor + Send + 'static) -> SequentialBuilder<'a> {
        (&self.path / self.chain.0.len()).module("Function");
        self.push(Box::new(nn::func(function)))
    }

    /// Adds `relu`.
    #[must_use]
    pub fn relu(self) -> SequentialBuilder<'a> {
        (&self.path / self.chain.0.len()).module("ReLU");
        self.append_fn(|x| x.relu())
    }

    // Not generic, so that it is compiled here and not in each cell.
    fn push(mut self, layer: Box<dyn Module>) -> SequentialBuilder<'a> {
        self.chain.0.push(layer);
        self
    }

    /// The layers, to be kept in the model.
    pub fn build(self) -> Sequential {
        self.chain
    }
}

impl Sequential {
    /// What the last layer gives.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x))
    }

    /// Number of layers, functions included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no layer.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

module!(Sequential);
