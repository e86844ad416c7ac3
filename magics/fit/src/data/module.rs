//! What a run is fed with.

use super::dataset::TensorDataset;
use super::loader::DataLoader;
use crate::batch::Batch;
use std::sync::Arc;
use tch::Tensor;

/// What a run is fed with: PyTorch Lightning's `LightningDataModule`. A loader is one, and so are two and three of them: for
/// training, validation and test.
///
/// ```
/// use lightcell::prelude::*;
/// let x = Tensor::arange(10, (Kind::Float, Device::Cpu));
/// let (train, val) = TensorDataset::new(x.shallow_clone(), x)?.split(0.8)?;
/// let data = (DataLoader::new(train).batch_size(4).shuffle(true), DataLoader::new(val).batch_size(4));
/// assert_eq!(data.val_dataloader().unwrap().len(), 1);
/// # Ok::<(), Error>(())
/// ```
pub trait DataModule {
    /// What a step gets; the model's `Batch`.
    type Batch: Batch;

    /// The training data.
    fn train_dataloader(&self) -> DataLoader<Self::Batch>;

    /// The validation data, if there are any.
    fn val_dataloader(&self) -> Option<DataLoader<Self::Batch>> {
        None
    }

    /// The test data, if there are any.
    fn test_dataloader(&self) -> Option<DataLoader<Self::Batch>> {
        None
    }

    /// The data to predict from; the test data when it is not written.
    fn predict_dataloader(&self) -> Option<DataLoader<Self::Batch>> {
        self.test_dataloader()
    }
}

impl<B: Batch> DataModule for DataLoader<B> {
    type Batch = B;

    fn train_dataloader(&self) -> DataLoader<B> {
        self.clone()
    }
}

impl<B: Batch> DataModule for (DataLoader<B>, DataLoader<B>) {
    type Batch = B;

    fn train_dataloader(&self) -> DataLoader<B> {
        self.0.clone()
    }

    fn val_dataloader(&self) -> Option<DataLoader<B>> {
        Some(self.1.clone())
    }
}

impl<B: Batch> DataModule for (DataLoader<B>, DataLoader<B>, DataLoader<B>) {
    type Batch = B;

    fn train_dataloader(&self) -> DataLoader<B> {
        self.0.clone()
    }

    fn val_dataloader(&self) -> Option<DataLoader<B>> {
        Some(self.1.clone())
    }

    fn test_dataloader(&self) -> Option<DataLoader<B>> {
        Some(self.2.clone())
    }
}

/// Datasets in memory as a [`DataModule`]: training data, shuffled each epoch, and optionally validation and test data.
///
/// ```
/// use lightcell::prelude::*;
/// let x = Tensor::randn([100, 4], (Kind::Float, Device::Cpu));
/// let y = Tensor::zeros([100], (Kind::Int64, Device::Cpu));
/// let (train, test) = TensorDataset::new(x, y)?.split(0.8)?;
/// let data = Data::new(train).val(test).batch_size(32);
/// assert_eq!(data.train_dataloader().len(), 3);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Data {
    train: Arc<TensorDataset>,
    val: Option<Arc<TensorDataset>>,
    test: Option<Arc<TensorDataset>>,
    batch_size: usize,
}

impl Data {
    /// With training data; batches of 64.
    pub fn new(train: TensorDataset) -> Data {
        Data {
            train: Arc::new(train),
            val: None,
            test: None,
            batch_size: 64,
        }
    }

    /// Adds validation data.
    #[must_use]
    pub fn val(mut self, val: TensorDataset) -> Data {
        self.val = Some(Arc::new(val));
        self
    }

    /// Adds test data.
    #[must_use]
    pub fn test(mut self, test: TensorDataset) -> Data {
        self.test = Some(Arc::new(test));
        self
    }

    /// Sets the number of samples in a batch.
    #[must_use]
    pub fn batch_size(mut self, size: usize) -> Data {
        self.batch_size = size;
        self
    }

    fn loader(&self, dataset: &Arc<TensorDataset>) -> DataLoader<(Tensor, Tensor)> {
        DataLoader::new(dataset.clone()).batch_size(self.batch_size)
    }
}

impl DataModule for Data {
    type Batch = (Tensor, Tensor);

    fn train_dataloader(&self) -> DataLoader<Self::Batch> {
        self.loader(&self.train).shuffle(true)
    }

    fn val_dataloader(&self) -> Option<DataLoader<Self::Batch>> {
        self.val.as_ref().map(|val| self.loader(val))
    }

    fn test_dataloader(&self) -> Option<DataLoader<Self::Batch>> {
        self.test.as_ref().map(|test| self.loader(test))
    }
}
