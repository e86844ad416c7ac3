//! Datasets: samples that can be reached by number, and datasets made of others.

use super::collate::Collate;
use super::random::{self, SampleRng};
use crate::error::{Error, Kind, Result};
use crate::transforms::Transform;
use std::ops::Deref;
use std::sync::Arc;
use tch::{IndexOp, Tensor};

/// What a dataset's samples make together.
pub(crate) type BatchOf<D> = <<D as Dataset>::Item as Collate>::Batch;

/// Samples that can be reached by number: PyTorch's map-style `Dataset`. Worker threads share it, so a tensor in it is a
/// [`SharedTensor`].
///
/// ```
/// use lightcell::prelude::*;
///
/// /// Windows of a series, each with the number that follows it.
/// struct Windows { series: SharedTensor, width: i64 }
///
/// impl Dataset for Windows {
///     type Item = (Tensor, Tensor);
///     fn len(&self) -> usize {
///         (self.series.size()[0] - self.width) as usize
///     }
///     fn get(&self, index: usize) -> Result<Self::Item> {
///         let (from, to) = (index as i64, index as i64 + self.width);
///         Ok((self.series.i(from..to), self.series.i(to)))
///     }
/// }
///
/// let series = Tensor::arange(100, (Kind::Float, Device::Cpu)).into();
/// let loader = DataLoader::new(Windows { series, width: 8 }).batch_size(32).shuffle(true).num_workers(2);
/// let (x, y) = loader.epoch(1, 0).next().unwrap()?;
/// assert_eq!((x.size(), y.size()), (vec![32, 8], vec![32]));
/// # Ok::<(), Error>(())
/// ```
pub trait Dataset: Send + Sync + 'static {
    /// A sample: usually `(Tensor, Tensor)` or `(Tensor, i64)`, an input and its target.
    type Item: Send + 'static;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample of this index, from 0.
    ///
    /// # Errors
    /// When it cannot be read. The loader adds the index.
    fn get(&self, index: usize) -> Result<Self::Item>;

    /// Several samples as one batch, where there is a faster way than one by one.
    fn get_batch(&self, _indices: &[usize]) -> Option<Result<<Self::Item as Collate>::Batch>>
    where
        Self::Item: Collate,
    {
        None
    }

    /// What a message calls a sample beside its index: its file, for example.
    fn describe(&self, _index: usize) -> Option<String> {
        None
    }

    /// The dataset with each sample changed when it is loaded, on the loader's worker if it has workers.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let x = Tensor::arange(4, (Kind::Float, Device::Cpu));
    /// let data = TensorDataset::new(x.shallow_clone(), x)?.map(|(x, y)| Ok((x * 2.0, y)));
    /// assert_eq!(data.get(3)?.0.double_value(&[]), 6.0);
    /// # Ok::<(), Error>(())
    /// ```
    fn map<T, F>(self, change: F) -> Map<Self, impl Fn(Self::Item, &mut SampleRng) -> Result<T> + Send + Sync + 'static>
    where
        Self: Sized,
        T: Send + 'static,
        F: Fn(Self::Item) -> Result<T> + Send + Sync + 'static,
    {
        Map {
            dataset: self,
            change: move |item, _: &mut SampleRng| change(item),
        }
    }

    /// As [`map`](Dataset::map), with random numbers that are the sample's own: for augmentation.
    fn map_random<T, F>(self, change: F) -> Map<Self, F>
    where
        Self: Sized,
        T: Send + 'static,
        F: Fn(Self::Item, &mut SampleRng) -> Result<T> + Send + Sync + 'static,
    {
        Map { dataset: self, change }
    }

    /// The dataset with each sample's image, the first of the two, changed by a transform when it is loaded.
    #[allow(
        clippy::type_complexity,
        reason = "a closure's type has no name that would be shorter"
    )]
    fn transform<T, R>(
        self,
        transform: R,
    ) -> Map<Self, impl Fn((Tensor, T), &mut SampleRng) -> Result<(Tensor, T)> + Send + Sync + 'static>
    where
        Self: Sized + Dataset<Item = (Tensor, T)>,
        T: Send + 'static,
        R: Transform,
    {
        let change = move |(image, target), random: &mut SampleRng| Ok((transform.apply(image, random)?, target));
        Map { dataset: self, change }
    }
}

impl<D: Dataset> Dataset for Arc<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        (**self).get(index)
    }

    fn get_batch(&self, indices: &[usize]) -> Option<Result<BatchOf<D>>>
    where
        D::Item: Collate,
    {
        (**self).get_batch(indices)
    }

    fn describe(&self, index: usize) -> Option<String> {
        (**self).describe(index)
    }
}

/// A tensor that threads read together. It is used as a [`Tensor`]; who changes its numbers in place, through a tensor that
/// shares its memory, changes them under the readers' hands.
#[derive(Debug)]
pub struct SharedTensor(Tensor);

// SAFETY: libtorch's tensors may be read by several threads at once (their reference counts are atomic), and no method here
// gives out a mutable one. What tch's `Send` allows already, writing through a tensor that shares memory, is the only way to
// a race, and is named above.
unsafe impl Sync for SharedTensor {}

impl From<Tensor> for SharedTensor {
    fn from(tensor: Tensor) -> SharedTensor {
        SharedTensor(tensor)
    }
}

impl Deref for SharedTensor {
    type Target = Tensor;
    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// Inputs and targets in two tensors, sample by sample along their first dimension.
#[derive(Debug)]
pub struct TensorDataset {
    x: SharedTensor,
    y: SharedTensor,
}

impl TensorDataset {
    /// From inputs `[n, …]` and targets `[n, …]`.
    ///
    /// # Errors
    /// When the numbers of samples differ.
    pub fn new(x: Tensor, y: Tensor) -> Result<TensorDataset> {
        let samples = |tensor: &Tensor| tensor.size().first().copied().unwrap_or(0);
        if samples(&x) != samples(&y) {
            return Err(Error::new(
                Kind::Data,
                format!(
                    "{} inputs but {} targets (shapes {:?} and {:?})",
                    samples(&x),
                    samples(&y),
                    x.size(),
                    y.size()
                ),
            ));
        }
        Ok(TensorDataset {
            x: x.into(),
            y: y.into(),
        })
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
        let flat = self.y.reshape([-1]);
        let wrong = flat.lt(0).logical_or(&flat.ge(classes)).nonzero();
        if wrong.size()[0] > 0 {
            let first = wrong.int64_value(&[0, 0]);
            let label = flat.int64_value(&[first]);
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
        self.of(&super::sampler::shuffled(self.len(), seed, 0))
    }

    /// Copies of the samples with these indices.
    fn of(&self, indices: &[usize]) -> TensorDataset {
        let indices = index_tensor(indices);
        TensorDataset {
            x: self.x.index_select(0, &indices).into(),
            y: self.y.index_select(0, &indices).into(),
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
        let n = self.len() as i64;
        let first = (n as f64 * fraction).round() as i64;
        let part = |from: i64, to: i64| TensorDataset {
            x: self.x.i(from..to).into(),
            y: self.y.i(from..to).into(),
        };
        Ok((part(0, first), part(first, n)))
    }

    /// The samples with these indices, as a dataset of their own: for the parts that [`KFold`](crate::KFold) and
    /// [`train_test_split`](crate::train_test_split) give.
    ///
    /// # Errors
    /// When there is no sample of such an index.
    pub fn select(&self, indices: &[usize]) -> Result<TensorDataset> {
        inside(indices, self.len())?;
        Ok(self.of(indices))
    }
}

fn index_tensor(indices: &[usize]) -> Tensor {
    let indices: Vec<i64> = indices.iter().map(|index| *index as i64).collect();
    Tensor::from_slice(&indices)
}

/// Checks that indices are those of samples.
fn inside(indices: &[usize], samples: usize) -> Result<()> {
    match indices.iter().find(|index| **index >= samples) {
        Some(index) => Err(Error::new(
            Kind::Data,
            format!("there is no sample {index} among {samples}: indices count from 0"),
        )),
        None => Ok(()),
    }
}

impl Dataset for TensorDataset {
    type Item = (Tensor, Tensor);

    fn len(&self) -> usize {
        self.x.size().first().map_or(0, |n| *n as usize)
    }

    fn get(&self, index: usize) -> Result<(Tensor, Tensor)> {
        inside(&[index], self.len())?;
        Ok((self.x.f_select(0, index as i64)?, self.y.f_select(0, index as i64)?))
    }

    fn get_batch(&self, indices: &[usize]) -> Option<Result<(Tensor, Tensor)>> {
        let indices = index_tensor(indices);
        let both = || Ok((self.x.f_index_select(0, &indices)?, self.y.f_index_select(0, &indices)?));
        Some(both())
    }
}

/// A dataset whose samples are changed when they are loaded; [`Dataset::map`] makes it.
#[derive(Debug, Clone)]
pub struct Map<D, F> {
    dataset: D,
    change: F,
}

impl<D, F, T> Dataset for Map<D, F>
where
    D: Dataset,
    T: Send + 'static,
    F: Fn(D::Item, &mut SampleRng) -> Result<T> + Send + Sync + 'static,
{
    type Item = T;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn get(&self, index: usize) -> Result<T> {
        let item = self.dataset.get(index)?;
        random::current(|random| (self.change)(item, random))
    }

    fn describe(&self, index: usize) -> Option<String> {
        self.dataset.describe(index)
    }
}

/// Some samples of a dataset, in the order of their indices.
///
/// ```
/// use lightcell::prelude::*;
/// let x = Tensor::arange(10, (Kind::Float, Device::Cpu));
/// let part = Subset::new(TensorDataset::new(x.shallow_clone(), x)?, vec![7, 2])?;
/// assert_eq!((part.len(), part.get(0)?.0.double_value(&[])), (2, 7.0));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Subset<D> {
    dataset: D,
    indices: Vec<usize>,
}

impl<D: Dataset> Subset<D> {
    /// Of these indices. A dataset that several parts share is given as `Arc`.
    ///
    /// # Errors
    /// When there is no sample of such an index.
    pub fn new(dataset: D, indices: Vec<usize>) -> Result<Subset<D>> {
        inside(&indices, dataset.len())?;
        Ok(Subset { dataset, indices })
    }

    /// The samples' indices in the whole dataset.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    fn whole(&self, index: usize) -> Result<usize> {
        inside(&[index], self.indices.len()).map(|()| self.indices[index])
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        self.dataset.get(self.whole(index)?)
    }

    fn get_batch(&self, indices: &[usize]) -> Option<Result<BatchOf<D>>>
    where
        D::Item: Collate,
    {
        let whole: Result<Vec<usize>> = indices.iter().map(|index| self.whole(*index)).collect();
        match whole {
            Ok(whole) => self.dataset.get_batch(&whole),
            Err(error) => Some(Err(error)),
        }
    }

    fn describe(&self, index: usize) -> Option<String> {
        let whole = self.whole(index).ok()?;
        let described = self.dataset.describe(whole);
        Some(described.unwrap_or_else(|| format!("{whole} of the whole dataset")))
    }
}

/// Datasets one after the other.
#[derive(Debug, Clone)]
pub struct ConcatDataset<D> {
    datasets: Vec<D>,
    /// The index behind the last sample of each.
    ends: Vec<usize>,
}

impl<D: Dataset> ConcatDataset<D> {
    /// Of these, in their order.
    pub fn new(datasets: Vec<D>) -> ConcatDataset<D> {
        let mut end = 0;
        let ends = datasets.iter().map(|dataset| {
            end += dataset.len();
            end
        });
        let ends = ends.collect();
        ConcatDataset { datasets, ends }
    }

    fn place(&self, index: usize) -> Result<(&D, usize)> {
        inside(&[index], self.len())?;
        let at = self.ends.partition_point(|end| *end <= index);
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        Ok((&self.datasets[at], index - begin))
    }
}

impl<D: Dataset> Dataset for ConcatDataset<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        let (dataset, index) = self.place(index)?;
        dataset.get(index)
    }

    fn describe(&self, index: usize) -> Option<String> {
        let (dataset, index) = self.place(index).ok()?;
        dataset.describe(index)
    }
}

#[cfg(test)]
mod tests;
