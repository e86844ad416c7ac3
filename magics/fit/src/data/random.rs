//! Random numbers for what is done to samples: each sample has a stream of its own.

use crate::error::Result;
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

/// Random numbers of one sample. They are a function of the run's seed, the epoch and the sample's index (and of how often
/// the epoch had drawn the sample before), so that neither the number of workers nor going on from a checkpoint changes
/// what a random transform does.
///
/// ```
/// use lightcell::prelude::*;
/// let mut random = SampleRng::new(7);
/// let (x, n) = (random.uniform(-1.0, 1.0), random.below(10));
/// assert!((-1.0..1.0).contains(&x) && n < 10);
/// assert_eq!(SampleRng::new(7).uniform(-1.0, 1.0), x);
/// ```
#[derive(Debug, Clone)]
pub struct SampleRng(ChaCha8Rng);

/// A sample that is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draw {
    pub seed: u64,
    pub epoch: u64,
    pub index: usize,
    /// How often the epoch drew it before.
    pub time: u64,
}

impl SampleRng {
    /// The numbers of a seed alone.
    pub fn new(seed: u64) -> SampleRng {
        SampleRng(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn of(draw: Draw) -> SampleRng {
        let mut key = [0; 32];
        let words = [draw.seed, draw.epoch, draw.index as u64, draw.time];
        for (place, word) in key.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        SampleRng(ChaCha8Rng::from_seed(key))
    }

    /// A number from `low` to below `high`; `low`, when there is none.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + self.0.random::<f64>() * (high - low).max(0.0)
    }

    /// A whole number below `n`; 0, when there is none.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// A number of the standard normal distribution (Box and Muller's way).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.random::<f64>()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.0.random::<f64>()).cos()
    }

    /// The numbers below `n` in a random order.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut self.0);
        order
    }
}

thread_local! {
    /// Of the sample that this thread loads.
    static CURRENT: RefCell<Option<SampleRng>> = const { RefCell::new(None) };
}

/// Loads a sample with its own random numbers.
pub(crate) fn within<T>(draw: Draw, load: impl FnOnce() -> T) -> T {
    /// Takes the numbers away also when loading panics.
    struct Back(Option<SampleRng>);
    impl Drop for Back {
        fn drop(&mut self) {
            let before = self.0.take();
            CURRENT.with_borrow_mut(|current| *current = before);
        }
    }
    let _back = Back(CURRENT.replace(Some(SampleRng::of(draw))));
    load()
}

/// Gives the random numbers of the sample at hand; outside of a loader, a stream that libtorch's generator begins.
pub(crate) fn current<T>(draw: impl FnOnce(&mut SampleRng) -> Result<T>) -> Result<T> {
    let known = CURRENT.take();
    let within = known.is_some();
    let mut random = match known {
        Some(random) => random,
        None => SampleRng::new(drawn()? as u64),
    };
    let result = draw(&mut random);
    if within {
        CURRENT.set(Some(random));
    }
    result
}

/// A draw from libtorch's generator, as `torch.empty((), dtype=torch.int64).random_().item()`.
pub(crate) fn drawn() -> Result<i64> {
    let drawn = Tensor::f_empty([1], (Kind::Int64, Device::Cpu))?.f_random_()?;
    Ok(drawn.f_int64_value(&[0])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sample_has_a_stream_of_its_own() {
        let draw = Draw {
            seed: 1,
            epoch: 2,
            index: 3,
            time: 0,
        };
        let first = |draw| within(draw, || current(|random| Ok(random.uniform(0.0, 1.0))).unwrap());
        let value = first(draw);
        assert_eq!(first(draw), value);
        for other in [
            Draw { seed: 2, ..draw },
            Draw { epoch: 3, ..draw },
            Draw { index: 4, ..draw },
            Draw { time: 1, ..draw },
        ] {
            assert_ne!(first(other), value);
        }
        let two = within(draw, || {
            let next = || current(|random| Ok(random.uniform(0.0, 1.0))).unwrap();
            (next(), next())
        });
        assert_eq!(two.0, value);
        assert_ne!(two.0, two.1);
    }

    #[test]
    fn outside_of_a_loader_libtorchs_seed_rules() {
        let _turn = crate::tests::in_turn();
        let draw = || {
            tch::manual_seed(5);
            current(|random| Ok(random.below(1 << 40))).unwrap()
        };
        assert_eq!(draw(), draw());
    }

    #[test]
    fn the_distributions_are_what_they_say() {
        let mut random = SampleRng::new(1);
        let n = 20_000;
        let normal: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        let mean = normal.iter().sum::<f64>() / n as f64;
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let hits = (0..n).filter(|_| random.chance(0.3)).count() as f64 / n as f64;
        assert!((hits - 0.3).abs() < 0.02, "{hits}");
        assert_eq!(
            (random.below(0), random.below(1), random.uniform(2.0, 2.0)),
            (0, 0, 2.0)
        );
    }
}
