//! Datasets and the loader that takes them apart into shuffled batches.

use crate::batch::Batch;
use crate::error::{Error, Kind, Result};
use crate::optim::Kernels;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use std::rc::Rc;
use tch::{IndexOp, Tensor};

/// Samples that can be reached by number.
pub trait Dataset: 'static {
    /// What a batch of samples is.
    type Batch: Batch;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples with these numbers, as one batch.
    ///
    /// # Errors
    /// When a sample cannot be read.
    fn batch(&self, indices: &[i64]) -> Result<Self::Batch>;
}

impl<D: Dataset> Dataset for Rc<D> {
    type Batch = D::Batch;

    fn len(&self) -> usize {
        (**self).len()
    }

    fn batch(&self, indices: &[i64]) -> Result<Self::Batch> {
        (**self).batch(indices)
    }
}

/// Inputs and targets in two tensors, sample by sample along their first dimension.
#[derive(Debug)]
pub struct TensorDataset {
    x: Tensor,
    y: Tensor,
}

impl TensorDataset {
    /// From inputs `[n, …]` and targets `[n, …]`.
    ///
    /// # Errors
    /// When the numbers of samples differ.
    pub fn new(x: Tensor, y: Tensor) -> Result<TensorDataset> {
        if x.len() != y.len() {
            return Err(Error::new(
                Kind::Data,
                format!(
                    "{} inputs but {} targets (shapes {:?} and {:?})",
                    x.len(),
                    y.len(),
                    x.size(),
                    y.size()
                ),
            ));
        }
        Ok(TensorDataset { x, y })
    }

    /// The inputs.
    pub fn x(&self) -> &Tensor {
        &self.x
    }

    /// The targets.
    pub fn y(&self) -> &Tensor {
        &self.y
    }

    /// Checks that the targets are labels of so many classes: whole numbers from 0. A GPU cannot say which label was wrong,
    /// and fails for good.
    ///
    /// # Errors
    /// When they are of another kind than `Kind::Int64`, or one is outside; the message says which.
    pub fn classes(self, classes: i64) -> Result<TensorDataset> {
        if self.y.kind() != tch::Kind::Int64 {
            return Err(Error::new(
                Kind::Label,
                format!("labels are of Kind::Int64, not Kind::{:?}", self.y.kind()),
            )
            .hint("convert them: `y.to_kind(Kind::Int64)`"));
        }
        let wrong = self
            .y
            .reshape([-1])
            .lt(0)
            .logical_or(&self.y.reshape([-1]).ge(classes))
            .nonzero();
        if wrong.size()[0] > 0 {
            let first = wrong.int64_value(&[0, 0]);
            let label = self.y.reshape([-1]).int64_value(&[first]);
            return Err(Error::new(
                Kind::Label,
                format!(
                    "{} labels are outside of 0 to {}; the first is {label}, at {first}",
                    wrong.size()[0],
                    classes - 1
                ),
            )
            .hint("labels count from 0"));
        }
        Ok(self)
    }

    /// The same samples in an order that depends on the seed alone.
    #[must_use]
    pub fn shuffled(&self, seed: u64) -> TensorDataset {
        let order = Tensor::from_slice(&order(self.len(), Some((seed, 0))));
        TensorDataset {
            x: self.x.index_select(0, &order),
            y: self.y.index_select(0, &order),
        }
    }

    /// Two datasets: the first `fraction` of the samples, and the rest, in the order they have.
    ///
    /// # Errors
    /// When the fraction is not between 0 and 1.
    pub fn split(&self, fraction: f64) -> Result<(TensorDataset, TensorDataset)> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::new(
                Kind::Option,
                format!("a fraction is between 0 and 1, not {fraction}"),
            ));
        }
        let n = self.x.len();
        let first = (n as f64 * fraction).round() as i64;
        let part = |from: i64, to: i64| TensorDataset {
            x: self.x.i(from..to),
            y: self.y.i(from..to),
        };
        Ok((part(0, first), part(first, n)))
    }
}

impl Dataset for TensorDataset {
    type Batch = (Tensor, Tensor);

    fn len(&self) -> usize {
        self.x.len() as usize
    }

    fn batch(&self, indices: &[i64]) -> Result<(Tensor, Tensor)> {
        let indices = Tensor::from_slice(indices);
        Ok((self.x.f_index_select(0, &indices)?, self.y.f_index_select(0, &indices)?))
    }
}

/// The numbers of all samples, in the order of this seed and epoch.
fn order(samples: usize, shuffle: Option<(u64, u64)>) -> Vec<i64> {
    let mut order: Vec<i64> = (0..samples as i64).collect();
    if let Some((seed, epoch)) = shuffle {
        // A stream of its own for each epoch: nothing else that draws random numbers moves it.
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(epoch);
        order.shuffle(&mut random);
    }
    order
}

/// What decides the order of a pass over the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// A seed and an epoch, nothing else.
    Own { seed: u64, epoch: u64 },
    /// As the data set has them.
    Sequential,
    /// libtorch's generator, asked as PyTorch's `DataLoader` asks it.
    Pytorch {
        /// Whether a loader that shuffles does so.
        shuffle: bool,
    },
}

/// A draw from libtorch's generator, as `torch.empty((), dtype=torch.int64).random_().item()`.
fn drawn() -> Result<i64> {
    let drawn = Tensor::f_empty([1], (tch::Kind::Int64, tch::Device::Cpu))?.f_random_()?;
    Ok(drawn.f_int64_value(&[0])?)
}

/// Takes a dataset apart into batches.
pub struct DataLoader<B: Batch> {
    dataset: Rc<dyn Dataset<Batch = B>>,
    batch_size: usize,
    shuffle: bool,
}

impl<B: Batch> Clone for DataLoader<B> {
    /// Over the same dataset.
    fn clone(&self) -> DataLoader<B> {
        DataLoader {
            dataset: self.dataset.clone(),
            batch_size: self.batch_size,
            shuffle: self.shuffle,
        }
    }
}

impl<B: Batch> DataLoader<B> {
    /// Batches of one sample, in order. A dataset that several loaders share is given as `Rc`.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let x = Tensor::arange(10, (Kind::Float, Device::Cpu));
    /// let loader = DataLoader::new(TensorDataset::new(x.shallow_clone(), x)?).batch_size(4).shuffle(true);
    /// let sizes: Vec<i64> = loader.epoch(1, 0).map(|batch| Ok(batch?.len())).collect::<Result<_>>()?;
    /// assert_eq!(sizes, [4, 4, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(dataset: impl Dataset<Batch = B>) -> DataLoader<B> {
        DataLoader {
            dataset: Rc::new(dataset),
            batch_size: 1,
            shuffle: false,
        }
    }

    /// Sets the number of samples in a batch; the last one may be smaller.
    #[must_use]
    pub fn batch_size(mut self, size: usize) -> DataLoader<B> {
        self.batch_size = size.max(1);
        self
    }

    /// Whether each epoch has an order of its own.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> DataLoader<B> {
        self.shuffle = shuffle;
        self
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.dataset.len().div_ceil(self.batch_size)
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.dataset.len()
    }

    /// The batches of an epoch. The order is a function of seed and epoch alone.
    pub fn epoch(&self, seed: u64, epoch: u64) -> Batches<B> {
        self.batches(order(self.dataset.len(), self.shuffle.then_some((seed, epoch))))
    }

    /// The batches of a pass in the order asked for.
    ///
    /// # Errors
    /// libtorch's own.
    pub(crate) fn pass(&self, order: Order) -> Result<Batches<B>> {
        let in_order = || self.batches(self::order(self.dataset.len(), None));
        let shuffle = match order {
            Order::Own { seed, epoch } => return Ok(self.epoch(seed, epoch)),
            Order::Sequential => return Ok(in_order()),
            Order::Pytorch { shuffle } => shuffle,
        };
        // Each iterator draws a seed for its workers, even when it has none, and shuffles or not.
        drawn()?;
        if !self.shuffle || !shuffle {
            return Ok(in_order());
        }
        let order = Kernels::load()?.permutation(self.dataset.len() as i64, drawn()?)?;
        Ok(self.batches(order))
    }

    fn batches(&self, order: Vec<i64>) -> Batches<B> {
        Batches {
            dataset: self.dataset.clone(),
            order,
            batch_size: self.batch_size,
            at: 0,
        }
    }
}

/// The batches of one epoch.
pub struct Batches<B: Batch> {
    dataset: Rc<dyn Dataset<Batch = B>>,
    order: Vec<i64>,
    batch_size: usize,
    at: usize,
}

impl<B: Batch> Batches<B> {
    /// Leaves so many batches out, without loading them.
    pub(crate) fn skip_batches(&mut self, batches: u64) {
        let samples = usize::try_from(batches)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.batch_size);
        self.at = self.at.saturating_add(samples).min(self.order.len());
    }
}

impl<B: Batch> Iterator for Batches<B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Result<B>> {
        let end = self.order.len().min(self.at + self.batch_size);
        if self.at == end {
            return None;
        }
        let indices = &self.order[self.at..end];
        self.at = end;
        Some(self.dataset.batch(indices))
    }
}

/// What a run is fed with: PyTorch Lightning's `LightningDataModule`.
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
    train: Rc<TensorDataset>,
    val: Option<Rc<TensorDataset>>,
    test: Option<Rc<TensorDataset>>,
    batch_size: usize,
}

impl Data {
    /// With training data; batches of 64.
    pub fn new(train: TensorDataset) -> Data {
        Data {
            train: Rc::new(train),
            val: None,
            test: None,
            batch_size: 64,
        }
    }

    /// Adds validation data.
    #[must_use]
    pub fn val(mut self, val: TensorDataset) -> Data {
        self.val = Some(Rc::new(val));
        self
    }

    /// Adds test data.
    #[must_use]
    pub fn test(mut self, test: TensorDataset) -> Data {
        self.test = Some(Rc::new(test));
        self
    }

    /// Sets the number of samples in a batch.
    #[must_use]
    pub fn batch_size(mut self, size: usize) -> Data {
        self.batch_size = size;
        self
    }

    fn loader(&self, dataset: &Rc<TensorDataset>) -> DataLoader<(Tensor, Tensor)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind as TKind};

    fn numbers(n: i64) -> Rc<TensorDataset> {
        let x = Tensor::arange(n, (TKind::Int64, Device::Cpu));
        Rc::new(TensorDataset::new(x.shallow_clone(), x).unwrap())
    }

    fn order(loader: &DataLoader<(Tensor, Tensor)>, seed: u64, epoch: u64) -> Vec<i64> {
        loader
            .epoch(seed, epoch)
            .flat_map(|batch| Vec::<i64>::try_from(&batch.unwrap().0).unwrap())
            .collect()
    }

    #[test]
    fn every_sample_comes_once_and_the_last_batch_is_smaller() {
        let _turn = crate::tests::in_turn();
        let loader = DataLoader::new(numbers(10)).batch_size(4).shuffle(true);
        let sizes: Vec<_> = loader.epoch(1, 0).map(|b| b.unwrap().len()).collect();
        assert_eq!(sizes, [4, 4, 2]);
        assert_eq!(loader.len(), 3);
        let mut all = order(&loader, 1, 0);
        all.sort();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_is_a_function_of_seed_and_epoch() {
        let _turn = crate::tests::in_turn();
        let loader = DataLoader::new(numbers(50)).batch_size(8).shuffle(true);
        let first = order(&loader, 7, 3);
        tch::manual_seed(99);
        assert_eq!(order(&loader, 7, 3), first);
        assert_ne!(order(&loader, 7, 4), first);
        assert_ne!(order(&loader, 8, 3), first);
        assert_eq!(order(&DataLoader::new(numbers(5)), 7, 3), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let _turn = crate::tests::in_turn();
        let cpu = (TKind::Float, Device::Cpu);
        let error = TensorDataset::new(Tensor::zeros([3, 2], cpu), Tensor::zeros([4], cpu)).unwrap_err();
        assert_eq!(error.message(), "3 inputs but 4 targets (shapes [3, 2] and [4])");
        let error = numbers(4).split(1.5).unwrap_err();
        assert_eq!(error.message(), "a fraction is between 0 and 1, not 1.5");
    }

    #[test]
    fn labels_are_checked() {
        let _turn = crate::tests::in_turn();
        let with = |labels: &[i64]| {
            let y = Tensor::from_slice(labels);
            TensorDataset::new(y.shallow_clone(), y).unwrap().classes(10).map(drop)
        };
        assert!(with(&[0, 9, 3]).is_ok());
        assert_eq!(
            with(&[0, 10, -1]).unwrap_err().to_string(),
            "2 labels are outside of 0 to 9; the first is 10, at 1\nhint: labels count from 0"
        );
        let x = Tensor::zeros([3], (TKind::Float, Device::Cpu));
        let error = TensorDataset::new(x.shallow_clone(), x)
            .unwrap()
            .classes(10)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "labels are of Kind::Int64, not Kind::Float\nhint: convert them: `y.to_kind(Kind::Int64)`"
        );
    }

    #[test]
    fn a_split_keeps_all_samples_in_order() {
        let _turn = crate::tests::in_turn();
        let mixed = Vec::<i64>::try_from(numbers(10).shuffled(1).x()).unwrap();
        assert_ne!(mixed, (0..10).collect::<Vec<_>>());
        assert_eq!(mixed, Vec::<i64>::try_from(numbers(10).shuffled(1).y()).unwrap());
        let (a, b) = numbers(10).split(0.75).unwrap();
        assert_eq!((a.len(), b.len()), (8, 2));
        assert_eq!(Vec::<i64>::try_from(b.x()).unwrap(), [8, 9]);
    }
}
