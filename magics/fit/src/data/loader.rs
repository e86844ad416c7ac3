//! The loader: a dataset, an order, and the batches they make.

use super::collate::Collate;
use super::dataset::{BatchOf, Dataset};
use super::random::{self, Draw};
use super::sampler::{Sampler, SequentialSampler, shuffled};
use super::threads;
use super::workers::Workers;
use crate::batch::Batch;
use crate::error::{Error, Kind, Result};
use crate::optim::Kernels;
use crate::steps::guarded;
use std::any::Any;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

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

/// A batch whose type only [`Batches`] knows. What follows is compiled once, in this library, and not for each type of
/// batch in the user's crate: a cell with `%fit` is there sooner.
pub(super) type Erased = Box<dyn Any + Send>;

/// A dataset of any type, with what makes batches of its samples.
pub(super) trait Load: Send + Sync {
    fn samples(&self) -> usize;
    /// The batch of these samples, in page-locked memory if it is asked for.
    fn load(&self, draws: &[Draw], pin_memory: bool) -> Result<Erased>;
}

struct Collated<D, C> {
    dataset: D,
    collate: C,
}

/// Loads samples one by one, each with its own random numbers; what goes wrong says where.
fn items<D: Dataset>(dataset: &D, draws: &[Draw]) -> Result<Vec<D::Item>> {
    let load = |draw: &Draw| {
        guarded(|| random::within(*draw, || dataset.get(draw.index))).map_err(|error| {
            let name = guarded(|| Ok(dataset.describe(draw.index))).ok().flatten();
            let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
            error.at(&format!("sample {}{name}", draw.index))
        })
    };
    draws.iter().map(load).collect()
}

impl<D, C, B> Load for Collated<D, C>
where
    D: Dataset,
    C: Fn(Vec<D::Item>) -> Result<B> + Send + Sync,
    B: Batch,
{
    fn samples(&self) -> usize {
        self.dataset.len()
    }

    fn load(&self, draws: &[Draw], pin_memory: bool) -> Result<Erased> {
        let items = items(&self.dataset, draws)?;
        guarded(|| Ok(Box::new(pinned((self.collate)(items)?, pin_memory)?) as Erased))
    }
}

/// A dataset whose samples have a usual way to be one batch.
struct Usual<D>(D);

impl<D: Dataset> Load for Usual<D>
where
    D::Item: Collate,
{
    fn samples(&self) -> usize {
        self.0.len()
    }

    fn load(&self, draws: &[Draw], pin_memory: bool) -> Result<Erased> {
        let indices: Vec<usize> = draws.iter().map(|draw| draw.index).collect();
        let batch: BatchOf<D> = match guarded(|| self.0.get_batch(&indices).transpose())? {
            Some(batch) => batch,
            None => {
                let items = items(&self.0, draws)?;
                guarded(|| Collate::collate(items))?
            }
        };
        Ok(Box::new(pinned(batch, pin_memory)?))
    }
}

fn pinned<B: Batch>(batch: B, pin_memory: bool) -> Result<B> {
    if pin_memory { batch.pin_memory() } else { Ok(batch) }
}

/// Takes a dataset apart into batches: PyTorch's `DataLoader`.
pub struct DataLoader<B: Batch> {
    loader: Loader,
    batch: PhantomData<fn() -> B>,
}

/// What a loader is besides the type of its batches.
#[derive(Clone)]
struct Loader {
    source: Arc<dyn Load>,
    sampler: Option<Arc<dyn Sampler>>,
    batch_size: usize,
    shuffle: bool,
    drop_last: bool,
    num_workers: usize,
    prefetch_factor: usize,
    pin_memory: bool,
}

impl<B: Batch> Clone for DataLoader<B> {
    /// Over the same dataset.
    fn clone(&self) -> DataLoader<B> {
        DataLoader {
            loader: self.loader.clone(),
            batch: PhantomData,
        }
    }
}

impl<B: Batch> std::fmt::Debug for DataLoader<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (samples, batches, size) = (self.samples(), self.len(), self.loader.batch_size);
        write!(f, "DataLoader: {samples} samples in {batches} batches of {size}")
    }
}

impl<B: Batch> DataLoader<B> {
    /// Batches of one sample, in order. A dataset that several loaders share is given as `Arc`.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let x = Tensor::arange(10, (Kind::Float, Device::Cpu));
    /// let loader = DataLoader::new(TensorDataset::new(x.shallow_clone(), x)?).batch_size(4).shuffle(true);
    /// let sizes: Vec<i64> = loader.epoch(1, 0).map(|batch| Ok(batch?.len())).collect::<Result<_>>()?;
    /// assert_eq!(sizes, [4, 4, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new<D: Dataset>(dataset: D) -> DataLoader<B>
    where
        D::Item: Collate<Batch = B>,
    {
        DataLoader::over(Arc::new(Usual(dataset)))
    }

    /// With a function of one's own that makes a batch of samples, PyTorch's `collate_fn`. It runs on the workers.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// struct Words;
    /// impl Dataset for Words {
    ///     type Item = Tensor;
    ///     fn len(&self) -> usize { 3 }
    ///     fn get(&self, index: usize) -> Result<Tensor> { Ok(Tensor::arange(index as i64 + 1, (Kind::Int64, Device::Cpu))) }
    /// }
    /// let loader = DataLoader::with_collate(Words, |words| pad_sequence(&words, -1.0)).batch_size(3);
    /// assert_eq!(loader.epoch(1, 0).next().unwrap()?.size(), [3, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn with_collate<D: Dataset>(
        dataset: D,
        collate: impl Fn(Vec<D::Item>) -> Result<B> + Send + Sync + 'static,
    ) -> DataLoader<B> {
        DataLoader::over(Arc::new(Collated { dataset, collate }))
    }

    fn over(source: Arc<dyn Load>) -> DataLoader<B> {
        let loader = Loader {
            source,
            sampler: None,
            batch_size: 1,
            shuffle: false,
            drop_last: false,
            num_workers: 0,
            prefetch_factor: 2,
            pin_memory: false,
        };
        DataLoader {
            loader,
            batch: PhantomData,
        }
    }

    /// Sets the number of samples in a batch; the last one may be smaller.
    #[must_use]
    pub fn batch_size(mut self, size: usize) -> DataLoader<B> {
        self.loader.batch_size = size.max(1);
        self
    }

    /// Whether each epoch has an order of its own.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> DataLoader<B> {
        self.loader.shuffle = shuffle;
        self
    }

    /// Which samples an epoch draws, and in which order; it takes the place of [`shuffle`](DataLoader::shuffle).
    #[must_use]
    pub fn sampler(mut self, sampler: impl Sampler) -> DataLoader<B> {
        self.loader.sampler = Some(Arc::new(sampler));
        self
    }

    /// Whether a last batch with fewer samples is left out.
    #[must_use]
    pub fn drop_last(mut self, drop_last: bool) -> DataLoader<B> {
        self.loader.drop_last = drop_last;
        self
    }

    /// So many threads load batches ahead of the training; with 0, as it is at first, each is loaded when it is needed. The
    /// batches and their order are the same with any number. The threads end with the pass over the data. In a job of
    /// Slurm there are no more of them than the job has processors.
    #[must_use]
    pub fn num_workers(mut self, num_workers: usize) -> DataLoader<B> {
        self.loader.num_workers = num_workers;
        self
    }

    /// How many batches each worker may be ahead; 2 at first.
    #[must_use]
    pub fn prefetch_factor(mut self, prefetch_factor: usize) -> DataLoader<B> {
        self.loader.prefetch_factor = prefetch_factor.max(1);
        self
    }

    /// Whether batches are put into page-locked memory, by the workers if there are any, so that copies to a CUDA device go on
    /// beside the computation: PyTorch's `pin_memory`. Without such a device nothing is done.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let x = Tensor::arange(10, (Kind::Float, Device::Cpu));
    /// let loader = DataLoader::new(TensorDataset::new(x.shallow_clone(), x)?).batch_size(5).pin_memory(true);
    /// assert_eq!(loader.epoch(1, 0).next().unwrap()?.len(), 5);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn pin_memory(mut self, pin_memory: bool) -> DataLoader<B> {
        self.loader.pin_memory = pin_memory;
        self
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.loader.batches()
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of samples of the dataset.
    pub fn samples(&self) -> usize {
        self.loader.source.samples()
    }

    /// The batches of an epoch. The order is a function of seed and epoch alone.
    pub fn epoch(&self, seed: u64, epoch: u64) -> Batches<B> {
        Batches::of(self.loader.epoch(seed, epoch))
    }

    /// The batches of a pass in the order asked for.
    ///
    /// # Errors
    /// libtorch's own.
    pub(crate) fn pass(&self, order: Order) -> Result<Batches<B>> {
        self.loader.pass(order).map(Batches::of)
    }
}

impl Loader {
    fn batches(&self) -> usize {
        let samples = self
            .sampler
            .as_ref()
            .map_or(self.source.samples(), |sampler| sampler.len());
        match self.drop_last {
            true => samples / self.batch_size,
            false => samples.div_ceil(self.batch_size),
        }
    }

    fn epoch(&self, seed: u64, epoch: u64) -> Loading {
        let samples = self.source.samples();
        let order = match &self.sampler {
            Some(sampler) => sampler.order(seed, epoch),
            None if self.shuffle => shuffled(samples, seed, epoch),
            None => SequentialSampler::new(samples).order(seed, epoch),
        };
        self.loading(order, seed, epoch)
    }

    fn pass(&self, order: Order) -> Result<Loading> {
        let samples = self.source.samples();
        let in_order = |seed| {
            let order = match &self.sampler {
                Some(sampler) => sampler.order(seed, 0),
                None => (0..samples).collect(),
            };
            self.loading(order, seed, 0)
        };
        let shuffle = match order {
            Order::Own { seed, epoch } => return Ok(self.epoch(seed, epoch)),
            Order::Sequential => return Ok(in_order(0)),
            Order::Pytorch { shuffle } => shuffle,
        };
        // Each iterator draws a seed for its workers, even when it has none, and shuffles or not.
        let seed = random::drawn()? as u64;
        if !self.shuffle || !shuffle || self.sampler.is_some() {
            return Ok(in_order(seed));
        }
        let order = Kernels::load()?.permutation(samples as i64, random::drawn()?)?;
        let order = order.into_iter().map(|index| index as usize).collect();
        Ok(self.loading(order, seed, 0))
    }

    fn loading(&self, mut order: Vec<usize>, seed: u64, epoch: u64) -> Loading {
        if self.drop_last {
            order.truncate(order.len() / self.batch_size * self.batch_size);
        }
        let times = repeats(&order, self.source.samples());
        Loading {
            pass: Pass {
                source: self.source.clone(),
                order,
                times,
                batch_size: self.batch_size,
                seed,
                epoch,
                pin_memory: self.pin_memory,
            },
            at: 0,
            num_workers: self.num_workers,
            prefetch_factor: self.prefetch_factor,
            workers: None,
        }
    }
}

/// How often each place's sample came before it, when one comes twice.
fn repeats(order: &[usize], samples: usize) -> Option<Vec<u64>> {
    let mut seen = vec![false; samples];
    let twice = order.iter().any(|index| match seen.get_mut(*index) {
        Some(seen) => std::mem::replace(seen, true),
        None => false,
    });
    twice.then(|| {
        let mut counts = HashMap::<usize, u64>::new();
        let count = |index: &usize| {
            let count = counts.entry(*index).or_default();
            *count += 1;
            *count - 1
        };
        order.iter().map(count).collect()
    })
}

/// A pass over the data: what its batches are made of.
pub(super) struct Pass {
    source: Arc<dyn Load>,
    order: Vec<usize>,
    times: Option<Vec<u64>>,
    batch_size: usize,
    seed: u64,
    epoch: u64,
    pub pin_memory: bool,
}

impl Pass {
    pub fn batches(&self) -> usize {
        self.order.len().div_ceil(self.batch_size)
    }

    pub fn draws(&self, batch: usize) -> Vec<Draw> {
        let from = batch * self.batch_size;
        let to = self.order.len().min(from + self.batch_size);
        let draw = |place: usize| Draw {
            seed: self.seed,
            epoch: self.epoch,
            index: self.order[place],
            time: self.times.as_ref().map_or(0, |times| times[place]),
        };
        (from..to).map(draw).collect()
    }

    pub fn source(&self) -> &Arc<dyn Load> {
        &self.source
    }

    /// Loads a batch here.
    ///
    /// # Errors
    /// When a sample cannot be loaded; the message names it.
    fn load(&self, batch: usize) -> Result<Erased> {
        load(&*self.source, &self.draws(batch), self.pin_memory)
    }
}

/// Loads the batch of these samples.
///
/// # Errors
/// When a sample cannot be loaded, or there is none of such an index; the message names it.
pub(super) fn load(source: &dyn Load, draws: &[Draw], pin_memory: bool) -> Result<Erased> {
    let samples = source.samples();
    match draws.iter().find(|draw| draw.index >= samples) {
        Some(draw) => Err(Error::new(
            Kind::Data,
            format!(
                "the sampler asks for sample {} of {samples}: indices count from 0",
                draw.index
            ),
        )),
        None => source.load(draws, pin_memory),
    }
}

/// The batches of one epoch.
pub struct Batches<B: Batch> {
    /// Behind a trait: what ends it is compiled here too.
    loading: Box<dyn Under>,
    batch: PhantomData<fn() -> B>,
}

/// A pass under way, for [`Batches`].
trait Under: Send {
    /// Leaves so many batches out, without loading them.
    fn skip(&mut self, batches: u64);
    /// The next batch.
    fn next(&mut self) -> Option<Result<Erased>>;
}

/// A pass under way.
struct Loading {
    pass: Pass,
    at: usize,
    num_workers: usize,
    prefetch_factor: usize,
    workers: Option<Workers>,
}

impl<B: Batch> Batches<B> {
    fn of(loading: Loading) -> Batches<B> {
        Batches {
            loading: Box::new(loading),
            batch: PhantomData,
        }
    }

    /// Leaves so many batches out, without loading them.
    pub(crate) fn skip_batches(&mut self, batches: u64) {
        self.loading.skip(batches);
    }
}

impl<B: Batch> Iterator for Batches<B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Result<B>> {
        let batch = self.loading.next()?;
        // The source of a `DataLoader<B>` makes batches of that type: see where they are made.
        let typed = |batch: Erased| batch.downcast().map(|batch| *batch).map_err(|_| mixed_up());
        Some(batch.and_then(typed))
    }
}

fn mixed_up() -> Error {
    Error::new(Kind::Data, "the loader made a batch of another type")
}

impl Under for Loading {
    fn skip(&mut self, batches: u64) {
        let batches = usize::try_from(batches).unwrap_or(usize::MAX);
        self.at = self.at.saturating_add(batches).min(self.pass.batches());
    }

    fn next(&mut self) -> Option<Result<Erased>> {
        if self.at >= self.pass.batches() {
            // The threads end with the last batch, not when someone lets go of this.
            self.workers = None;
            return None;
        }
        let batch = self.load();
        self.at += 1;
        Some(batch)
    }
}

impl Loading {
    /// # Errors
    /// When a sample cannot be loaded, or there can be no more threads.
    fn load(&mut self) -> Result<Erased> {
        if self.num_workers == 0 {
            return self.pass.load(self.at);
        }
        let workers = match &mut self.workers {
            Some(workers) => workers,
            none => {
                let threads = self
                    .num_workers
                    .min(self.pass.batches() - self.at)
                    .min(threads::allowed());
                none.insert(Workers::start(&self.pass, threads, self.at)?)
            }
        };
        workers.next(&self.pass, self.num_workers * self.prefetch_factor)
    }
}
