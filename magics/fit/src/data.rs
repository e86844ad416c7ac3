//! Datasets, samplers and the loader that makes batches of them, under PyTorch's names.

mod collate;
mod dataset;
mod loader;
mod module;
mod random;
mod sampler;
mod splits;
mod threads;
mod workers;

pub use collate::{Collate, pad_sequence};
pub use dataset::{ConcatDataset, Dataset, Map, SharedTensor, Subset, TensorDataset};
pub(crate) use loader::Order;
pub use loader::{Batches, DataLoader};
pub use module::{Data, DataModule};
pub use random::SampleRng;
pub use sampler::{
    DistributedSampler, RandomSampler, Sampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler,
};
pub use splits::{KFold, Split, StratifiedKFold, random_split, train_test_split};

#[cfg(test)]
mod tests;
