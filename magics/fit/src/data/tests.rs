//! The loader, alone and in a run.

use super::*;
use crate::error::{Error, Kind, Result};
use crate::prelude::{Device, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use tch::Kind as TKind;

fn numbers(n: i64) -> TensorDataset {
    let x = Tensor::arange(n, (TKind::Int64, Device::Cpu));
    TensorDataset::new(x.shallow_clone(), x).unwrap()
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
    let sizes = |loader: &DataLoader<(Tensor, Tensor)>| -> Vec<i64> {
        loader.epoch(1, 0).map(|batch| batch.unwrap().0.size()[0]).collect()
    };
    assert_eq!(sizes(&loader), [4, 4, 2]);
    assert_eq!(loader.len(), 3);
    let mut all = order(&loader, 1, 0);
    all.sort();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    let whole = loader.drop_last(true);
    assert_eq!((sizes(&whole), whole.len()), (vec![4, 4], 2));
    assert_eq!(format!("{whole:?}"), "DataLoader: 10 samples in 2 batches of 4");
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
    // That of earlier versions, whose checkpoints go on.
    let mut random = ChaCha8Rng::seed_from_u64(7);
    random.set_stream(3);
    let mut before: Vec<i64> = (0..50).collect();
    before.shuffle(&mut random);
    assert_eq!(first, before);
    assert_eq!(first[..8], [30, 33, 45, 18, 4, 6, 11, 36]);
    assert_eq!(order(&DataLoader::new(numbers(5)), 7, 3), [0, 1, 2, 3, 4]);
    let sampled = DataLoader::new(numbers(50)).sampler(SubsetRandomSampler::new(vec![3, 5]));
    assert_eq!(sampled.len(), 2);
    assert_eq!(
        order(&sampled, 1, 1).into_iter().collect::<HashSet<_>>(),
        HashSet::from([3, 5])
    );
}

/// Each sample with a random number of its own.
fn noisy() -> impl Dataset<Item = (i64, f64)> {
    numbers(37).map_random(|(x, _), random| Ok((x.int64_value(&[]), random.normal())))
}

#[test]
fn workers_change_nothing_but_the_time() {
    let _turn = crate::tests::in_turn();
    let draw = |workers: usize, skip: u64, epoch: u64| -> Vec<(Vec<i64>, Vec<f64>)> {
        let loader = DataLoader::new(noisy())
            .batch_size(5)
            .shuffle(true)
            .num_workers(workers);
        let mut batches = loader.prefetch_factor(workers.max(1)).epoch(3, epoch);
        batches.skip_batches(skip);
        let read = |batch: Result<(Tensor, Tensor)>| {
            let (x, y) = batch.unwrap();
            (Vec::try_from(&x).unwrap(), Vec::try_from(&y).unwrap())
        };
        batches.map(read).collect()
    };
    let alone = draw(0, 0, 1);
    assert_eq!(alone.len(), 8);
    for workers in [1, 2, 5, 20] {
        assert_eq!(draw(workers, 0, 1), alone, "{workers}");
    }
    // Going on in the middle of an epoch, too; another epoch has other numbers for the same samples.
    assert_eq!(draw(3, 2, 1), alone[2..]);
    assert!(draw(2, 8, 1).is_empty());
    let of = |batches: &[(Vec<i64>, Vec<f64>)], sample: i64| {
        let found = batches
            .iter()
            .find_map(|(x, y)| x.iter().position(|x| *x == sample).map(|at| y[at]));
        found.unwrap()
    };
    assert_ne!(of(&alone, 9), of(&draw(2, 0, 2), 9));
}

#[test]
fn a_sample_that_comes_twice_is_changed_in_two_ways() {
    let _turn = crate::tests::in_turn();
    let sampler = RandomSampler::new(2).replacement(true).num_samples(40);
    let loader = DataLoader::new(Subset::new(noisy(), vec![4, 5]).unwrap())
        .batch_size(40)
        .sampler(sampler);
    let (x, y) = loader.epoch(1, 0).next().unwrap().unwrap();
    let (x, y) = (Vec::<i64>::try_from(&x).unwrap(), Vec::<f64>::try_from(&y).unwrap());
    assert!(x.iter().all(|x| *x == 4 || *x == 5));
    assert_eq!(y.iter().map(|y| y.to_bits()).collect::<HashSet<_>>().len(), 40);
}

/// Waits until as many threads are in it as it is asked for, and counts how many batches were loaded.
struct Together {
    threads: usize,
    inside: Mutex<usize>,
    come: Condvar,
    loaded: AtomicUsize,
}

impl Dataset for Arc2<Together> {
    type Item = i64;
    fn len(&self) -> usize {
        1000
    }
    fn get(&self, index: usize) -> Result<i64> {
        let mut inside = self.0.inside.lock().unwrap();
        *inside += 1;
        self.0.come.notify_all();
        // As many as there are workers arrive, or the test hangs until its limit.
        let limit = std::time::Duration::from_secs(60);
        let wait = self
            .0
            .come
            .wait_timeout_while(inside, limit, |inside| *inside < self.0.threads);
        assert!(!wait.unwrap().1.timed_out(), "alone");
        self.0.loaded.fetch_add(1, Ordering::SeqCst);
        Ok(index as i64)
    }
}

struct Arc2<T>(Arc<T>);

#[test]
fn workers_work_side_by_side_not_too_far_ahead_and_end() {
    let _turn = crate::tests::in_turn();
    let seen = Arc::new(Together {
        threads: 3,
        inside: Mutex::default(),
        come: Condvar::new(),
        loaded: AtomicUsize::new(0),
    });
    let loader = DataLoader::new(Arc2(seen.clone())).num_workers(3).prefetch_factor(4);
    let mut batches = loader.epoch(1, 0);
    for expected in 0..5 {
        let batch = batches.next().unwrap().unwrap();
        assert_eq!(batch.int64_value(&[0]), expected);
    }
    drop(loader);
    // The threads hold the dataset; none is left behind the drop, which waits for them.
    drop(batches);
    assert_eq!(Arc::strong_count(&seen), 1);
    // Five used, twelve on their way.
    let loaded = seen.loaded.load(Ordering::SeqCst);
    assert!((5..=17).contains(&loaded), "{loaded}");
}

struct Bad;

impl Dataset for Bad {
    type Item = f32;
    fn len(&self) -> usize {
        10
    }
    fn get(&self, index: usize) -> Result<f32> {
        match index {
            4 => Err(Error::new(Kind::Data, "no image")),
            6 => panic!("out of ink"),
            _ => Ok(index as f32),
        }
    }
    fn describe(&self, index: usize) -> Option<String> {
        (index == 4).then(|| "cats/4.png".to_owned())
    }
}

#[test]
fn a_sample_that_cannot_be_loaded_is_named() {
    let _turn = crate::tests::in_turn();
    for workers in [0, 3] {
        let loader = DataLoader::new(Bad).batch_size(2).num_workers(workers);
        let results: Vec<_> = loader.epoch(1, 0).collect();
        assert_eq!(results.len(), 5);
        let message = |at: usize| results[at].as_ref().unwrap_err().message();
        assert_eq!(message(2), "sample 4 (cats/4.png): no image", "{workers}");
        assert_eq!(message(3), "sample 6: panic: out of ink", "{workers}");
        assert!(results[4].is_ok());
        let loader = DataLoader::new(Bad)
            .sampler(SubsetRandomSampler::new(vec![10]))
            .num_workers(workers);
        let error = loader.epoch(1, 0).next().unwrap().unwrap_err();
        assert_eq!(
            error.message(),
            "the sampler asks for sample 10 of 10: indices count from 0"
        );
        let loader = DataLoader::with_collate(Bad, |_| -> Result<Tensor> { panic!("no batch") });
        let error = loader.num_workers(workers).epoch(1, 0).next().unwrap().unwrap_err();
        assert_eq!(error.message(), "panic: no batch");
    }
}

/// A batch that says how often it was pinned.
#[derive(Debug)]
struct Pinned(Tensor, usize);

impl crate::batch::Batch for Pinned {
    fn len(&self) -> i64 {
        self.0.size()[0]
    }

    fn to_device(self, device: Device) -> Result<Pinned> {
        Ok(Pinned(crate::batch::Batch::to_device(self.0, device)?, self.1))
    }

    fn pin_memory(self) -> Result<Pinned> {
        Ok(Pinned(crate::batch::Batch::pin_memory(self.0)?, self.1 + 1))
    }

    fn shapes(&self) -> String {
        format!("{:?}", self.0.size())
    }
}

#[test]
fn batches_are_pinned_once_when_asked_for_by_workers_too() {
    let _turn = crate::tests::in_turn();
    let collate = |items: Vec<(Tensor, Tensor)>| {
        let x: Vec<Tensor> = items.into_iter().map(|(x, _)| x).collect();
        Ok(Pinned(Tensor::f_stack(&x, 0)?, 0))
    };
    for (asked, workers) in [(false, 0), (true, 0), (false, 2), (true, 2)] {
        let loader = DataLoader::with_collate(numbers(10), collate).batch_size(4);
        let loader = loader.pin_memory(asked).num_workers(workers);
        for (at, batch) in loader.epoch(1, 0).enumerate() {
            let batch = batch.unwrap();
            assert_eq!(batch.1, usize::from(asked), "{workers} workers");
            // Whether memory is locked is another matter: without a device it is not.
            assert_eq!(batch.0.int64_value(&[0]), 4 * at as i64);
        }
    }
}

/// Without a CUDA device, pinning copies nothing.
#[test]
fn without_a_device_nothing_is_pinned() {
    use crate::batch::Batch;
    let _turn = crate::tests::in_turn();
    if tch::Cuda::is_available() {
        return;
    }
    let x = Tensor::arange(4, (TKind::Float, Device::Cpu));
    let place = x.data_ptr();
    let (x, list) = (x.shallow_clone(), vec![x]).pin_memory().unwrap();
    assert_eq!((x.data_ptr(), list[0].data_ptr()), (place, place));
}
