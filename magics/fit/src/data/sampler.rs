//! In which order samples come. Each order is a function of seed and epoch.

use crate::error::{Error, Kind, Result};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Says which samples an epoch draws, and in which order: PyTorch's `Sampler`. What it says must depend on the seed and the
/// epoch alone, so that a run can go on in the middle of an epoch.
pub trait Sampler: Send + Sync + 'static {
    /// Number of samples that an epoch draws.
    fn len(&self) -> usize;

    /// Whether it draws none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices of the samples of an epoch.
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize>;
}

/// A stream of its own for each epoch: nothing else that draws random numbers moves it.
fn stream(seed: u64, epoch: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    random
}

/// The numbers below `samples`, in the order of this seed and epoch.
pub(crate) fn shuffled(samples: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples).collect();
    order.shuffle(&mut stream(seed, epoch));
    order
}

/// All samples, as the data set has them.
#[derive(Debug, Clone)]
pub struct SequentialSampler(usize);

impl SequentialSampler {
    /// Of so many samples.
    pub fn new(samples: usize) -> SequentialSampler {
        SequentialSampler(samples)
    }
}

impl Sampler for SequentialSampler {
    fn len(&self) -> usize {
        self.0
    }

    fn order(&self, _: u64, _: u64) -> Vec<usize> {
        (0..self.0).collect()
    }
}

/// All samples in a random order, or so many drawn with replacement.
///
/// ```
/// use lightcell::prelude::*;
/// let sampler = RandomSampler::new(5);
/// let mut order = sampler.order(1, 0);
/// order.sort();
/// assert_eq!(order, [0, 1, 2, 3, 4]);
/// assert_eq!(RandomSampler::new(5).replacement(true).num_samples(100).order(1, 0).len(), 100);
/// ```
#[derive(Debug, Clone)]
pub struct RandomSampler {
    samples: usize,
    replacement: bool,
    num_samples: usize,
}

impl RandomSampler {
    /// All of so many samples, each once.
    pub fn new(samples: usize) -> RandomSampler {
        RandomSampler {
            samples,
            replacement: false,
            num_samples: samples,
        }
    }

    /// Whether a sample may come again while others have not yet come.
    #[must_use]
    pub fn replacement(mut self, replacement: bool) -> RandomSampler {
        self.replacement = replacement;
        self
    }

    /// How many an epoch draws. Without replacement, more than there are come in several rounds.
    #[must_use]
    pub fn num_samples(mut self, num_samples: usize) -> RandomSampler {
        self.num_samples = num_samples;
        self
    }
}

impl Sampler for RandomSampler {
    fn len(&self) -> usize {
        if self.samples == 0 { 0 } else { self.num_samples }
    }

    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut random = stream(seed, epoch);
        if self.replacement {
            return (0..self.len()).map(|_| random.random_range(0..self.samples)).collect();
        }
        let mut order = Vec::with_capacity(self.len());
        while order.len() < self.len() {
            let mut round: Vec<usize> = (0..self.samples).collect();
            round.shuffle(&mut random);
            round.truncate(self.len() - order.len());
            order.append(&mut round);
        }
        order
    }
}

/// Draws samples with probabilities in proportion to weights: for classes of unequal size.
///
/// ```
/// use lightcell::prelude::*;
/// let sampler = WeightedRandomSampler::new(&[1.0, 0.0, 3.0], 1000)?;
/// let order = sampler.order(1, 0);
/// assert!(!order.contains(&1));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WeightedRandomSampler {
    weights: Vec<f64>,
    num_samples: usize,
    replacement: bool,
}

impl WeightedRandomSampler {
    /// So many samples of an epoch, drawn with replacement, with a weight for each sample of the data set.
    ///
    /// # Errors
    /// When a weight is negative or no number, or all are 0.
    pub fn new(weights: &[f64], num_samples: usize) -> Result<WeightedRandomSampler> {
        if let Some(at) = weights
            .iter()
            .position(|weight| !(weight.is_finite() && *weight >= 0.0))
        {
            return Err(Error::new(
                Kind::Option,
                format!(
                    "the weight of sample {at} is {}: weights are numbers from 0",
                    weights[at]
                ),
            ));
        }
        if weights.iter().all(|weight| *weight == 0.0) {
            return Err(Error::new(Kind::Option, "all weights of the samples are 0"));
        }
        Ok(WeightedRandomSampler {
            weights: weights.to_vec(),
            num_samples,
            replacement: true,
        })
    }

    /// With weights that give each class the same share, from the samples' labels.
    ///
    /// # Errors
    /// When there is no label.
    pub fn balanced(labels: &[i64], num_samples: usize) -> Result<WeightedRandomSampler> {
        let mut counts = std::collections::BTreeMap::<i64, usize>::new();
        for label in labels {
            *counts.entry(*label).or_default() += 1;
        }
        let weights: Vec<f64> = labels.iter().map(|label| 1.0 / counts[label] as f64).collect();
        WeightedRandomSampler::new(&weights, num_samples)
    }

    /// Whether a sample may come again.
    ///
    /// # Errors
    /// Without replacement, when there are fewer samples with a weight than are to be drawn.
    pub fn replacement(mut self, replacement: bool) -> Result<WeightedRandomSampler> {
        let there = self.weights.iter().filter(|weight| **weight > 0.0).count();
        if !replacement && there < self.num_samples {
            return Err(Error::new(
                Kind::Option,
                format!(
                    "{} samples cannot be drawn without replacement: {there} have a weight",
                    self.num_samples
                ),
            ));
        }
        self.replacement = replacement;
        Ok(self)
    }
}

impl Sampler for WeightedRandomSampler {
    fn len(&self) -> usize {
        self.num_samples
    }

    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut random = stream(seed, epoch);
        if !self.replacement {
            // Efraimidis and Spirakis' keys: the order of exponential waiting times with the weights as rates.
            let mut keys: Vec<(f64, usize)> = Vec::with_capacity(self.weights.len());
            for (at, weight) in self.weights.iter().enumerate() {
                let wait = -(1.0 - random.random::<f64>()).ln() / weight;
                if *weight > 0.0 {
                    keys.push((wait, at));
                }
            }
            keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            return keys.into_iter().take(self.num_samples).map(|(_, at)| at).collect();
        }
        let mut sum = 0.0;
        let ends: Vec<f64> = self
            .weights
            .iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        let last = self.weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0);
        (0..self.num_samples)
            .map(|_| {
                let place = random.random::<f64>() * sum;
                ends.partition_point(|end| *end <= place).min(last)
            })
            .collect()
    }
}

/// Some samples, in a random order.
#[derive(Debug, Clone)]
pub struct SubsetRandomSampler(Vec<usize>);

impl SubsetRandomSampler {
    /// Of these indices.
    pub fn new(indices: Vec<usize>) -> SubsetRandomSampler {
        SubsetRandomSampler(indices)
    }
}

impl Sampler for SubsetRandomSampler {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let order = shuffled(self.0.len(), seed, epoch);
        order.into_iter().map(|at| self.0[at]).collect()
    }
}

/// The share of one of several processes, as PyTorch's: every `num_replicas`-th sample of the order that all of them have.
///
/// ```
/// use lightcell::prelude::*;
/// let share = |rank| DistributedSampler::new(5, 2, rank).map(|sampler| sampler.shuffle(false).order(1, 0));
/// // The first sample comes twice, so that both have as many.
/// assert_eq!((share(0)?, share(1)?), (vec![0, 2, 4], vec![1, 3, 0]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DistributedSampler {
    samples: usize,
    num_replicas: usize,
    rank: usize,
    shuffle: bool,
    uneven: Uneven,
}

/// What is done when the samples cannot be shared out evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uneven {
    Repeat,
    Drop,
    Keep,
}

impl DistributedSampler {
    /// The share of process `rank` among `num_replicas`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn new(samples: usize, num_replicas: usize, rank: usize) -> Result<DistributedSampler> {
        if rank >= num_replicas {
            return Err(Error::new(
                Kind::Option,
                format!("there is no rank {rank} among {num_replicas} processes: ranks count from 0"),
            ));
        }
        Ok(DistributedSampler {
            samples,
            num_replicas,
            rank,
            shuffle: true,
            uneven: Uneven::Repeat,
        })
    }

    /// Whether each epoch has an order of its own; true at first.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> DistributedSampler {
        self.shuffle = shuffle;
        self
    }

    /// Whether the last samples are left out when they cannot be shared out evenly. Otherwise the first come again, so that
    /// all processes make as many steps.
    #[must_use]
    pub fn drop_last(mut self, drop_last: bool) -> DistributedSampler {
        self.uneven = if drop_last { Uneven::Drop } else { Uneven::Repeat };
        self
    }

    /// Leaves shares unequal: each sample comes exactly once, as a metric over all processes wants it.
    #[must_use]
    pub fn unpadded(mut self) -> DistributedSampler {
        self.uneven = Uneven::Keep;
        self
    }
}

impl Sampler for DistributedSampler {
    fn len(&self) -> usize {
        match self.uneven {
            Uneven::Repeat => self.samples.div_ceil(self.num_replicas),
            Uneven::Drop => self.samples / self.num_replicas,
            Uneven::Keep => (self.samples + self.num_replicas - 1 - self.rank) / self.num_replicas,
        }
    }

    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let order = match self.shuffle {
            true => shuffled(self.samples, seed, epoch),
            false => (0..self.samples).collect(),
        };
        let mine = order.iter().cycle().skip(self.rank).step_by(self.num_replicas);
        mine.copied().take(self.len()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_function_of_seed_and_epoch() {
        let weights: Vec<f64> = (0..50).map(f64::from).collect();
        let samplers: Vec<Box<dyn Sampler>> = vec![
            Box::new(RandomSampler::new(50)),
            Box::new(RandomSampler::new(50).num_samples(120)),
            Box::new(RandomSampler::new(50).replacement(true)),
            Box::new(WeightedRandomSampler::new(&weights, 60).unwrap()),
            Box::new(
                WeightedRandomSampler::new(&weights, 30)
                    .unwrap()
                    .replacement(false)
                    .unwrap(),
            ),
            Box::new(SubsetRandomSampler::new((10..40).collect())),
            Box::new(DistributedSampler::new(50, 3, 1).unwrap()),
        ];
        for (at, sampler) in samplers.iter().enumerate() {
            let order = sampler.order(7, 3);
            assert_eq!(order, sampler.order(7, 3), "{at}");
            assert_ne!(order, sampler.order(7, 4), "{at}");
            assert_ne!(order, sampler.order(8, 3), "{at}");
            assert_eq!(order.len(), sampler.len(), "{at}");
            assert!(order.iter().all(|index| *index < 50), "{at}");
        }
        assert_eq!(SequentialSampler::new(3).order(1, 2), [0, 1, 2]);
        assert!(
            RandomSampler::new(0)
                .replacement(true)
                .num_samples(3)
                .order(1, 1)
                .is_empty()
        );
    }

    #[test]
    fn rounds_without_replacement_are_whole() {
        let mut order = RandomSampler::new(4).num_samples(10).order(1, 0);
        for round in order.chunks_mut(4) {
            round.sort();
            round
                .iter()
                .zip(round.iter().skip(1))
                .for_each(|(a, b)| assert_ne!(a, b));
        }
    }

    #[test]
    fn weights_are_kept_to() {
        let sampler = WeightedRandomSampler::new(&[1.0, 0.0, 3.0, 0.0], 20_000).unwrap();
        let order = sampler.order(1, 0);
        let share = order.iter().filter(|index| **index == 2).count() as f64 / 20_000.0;
        assert!((share - 0.75).abs() < 0.02, "{share}");
        assert!(order.iter().all(|index| index % 2 == 0));
        let order = WeightedRandomSampler::balanced(&[0, 0, 0, 7], 20_000)
            .unwrap()
            .order(1, 0);
        let share = order.iter().filter(|index| **index == 3).count() as f64 / 20_000.0;
        assert!((share - 0.5).abs() < 0.02, "{share}");
        let first = (0..2000).filter(|epoch| {
            let sampler = WeightedRandomSampler::new(&[1.0, 3.0], 2)
                .unwrap()
                .replacement(false)
                .unwrap();
            let order = sampler.order(1, *epoch);
            assert_eq!(order.iter().sum::<usize>(), 1);
            order[0] == 1
        });
        let share = first.count() as f64 / 2000.0;
        assert!((share - 0.75).abs() < 0.04, "{share}");
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let message = |result: Result<WeightedRandomSampler>| result.unwrap_err().message().to_owned();
        assert_eq!(
            message(WeightedRandomSampler::new(&[1.0, -1.0], 2)),
            "the weight of sample 1 is -1: weights are numbers from 0"
        );
        assert_eq!(
            message(WeightedRandomSampler::new(&[0.0], 2)),
            "all weights of the samples are 0"
        );
        assert_eq!(
            message(WeightedRandomSampler::new(&[1.0, 0.0], 2).unwrap().replacement(false)),
            "2 samples cannot be drawn without replacement: 1 have a weight"
        );
        assert_eq!(
            DistributedSampler::new(5, 2, 2).unwrap_err().message(),
            "there is no rank 2 among 2 processes: ranks count from 0"
        );
    }

    #[test]
    fn processes_share_out_all_samples() {
        for (samples, ranks) in [(10, 3), (9, 3), (2, 5), (0, 2)] {
            let all = |make: fn(DistributedSampler) -> DistributedSampler| {
                let share = |rank| make(DistributedSampler::new(samples, ranks, rank).unwrap()).order(1, 2);
                let shares: Vec<Vec<usize>> = (0..ranks).map(share).collect();
                let mut drawn = shares.concat();
                drawn.sort();
                (shares.iter().map(Vec::len).collect::<Vec<_>>(), drawn)
            };
            let (_, drawn) = all(DistributedSampler::unpadded);
            assert_eq!(drawn, (0..samples).collect::<Vec<_>>());
            let (sizes, mut drawn) = all(|sampler| sampler);
            drawn.dedup();
            assert_eq!(drawn, (0..samples).collect::<Vec<_>>());
            assert!(sizes.iter().all(|size| *size == samples.div_ceil(ranks)));
            let (sizes, drawn) = all(|sampler| sampler.drop_last(true));
            assert!(sizes.iter().all(|size| *size == samples / ranks));
            assert_eq!(drawn.len(), samples / ranks * ranks);
        }
    }
}
