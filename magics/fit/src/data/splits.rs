//! Parts of a dataset: at random, in folds, and with each class in the same share.

use super::dataset::{Dataset, Subset};
use super::random::SampleRng;
use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Indices of the samples to train with, and of those to test with.
pub type Split = (Vec<usize>, Vec<usize>);

/// Takes a dataset apart at random, as `torch.utils.data.random_split`: into parts of these sizes, or these shares, when they
/// sum to 1 (what rounding leaves goes to the first parts).
///
/// ```
/// use lightcell::prelude::*;
/// let x = Tensor::arange(10, (Kind::Float, Device::Cpu));
/// let data = TensorDataset::new(x.shallow_clone(), x)?;
/// let parts = random_split(data, &[0.7, 0.3], 42)?;
/// assert_eq!((parts[0].len(), parts[1].len()), (7, 3));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// When the sizes do not sum to the number of samples.
pub fn random_split<D: Dataset>(dataset: D, lengths: &[f64], seed: u64) -> Result<Vec<Subset<Arc<D>>>> {
    let samples = dataset.len();
    let sizes = sizes(samples, lengths)?;
    let order = SampleRng::new(seed).permutation(samples);
    let (dataset, mut rest) = (Arc::new(dataset), order.as_slice());
    let part = |size: usize| {
        let (part, left) = rest.split_at(size.min(rest.len()));
        rest = left;
        Subset::new(dataset.clone(), part.to_vec())
    };
    sizes.into_iter().map(part).collect()
}

fn sizes(samples: usize, lengths: &[f64]) -> Result<Vec<usize>> {
    let sum: f64 = lengths.iter().sum();
    let positive = lengths.iter().all(|length| *length >= 0.0);
    if positive && (sum - 1.0).abs() < 1e-9 && samples != 1 {
        let mut sizes: Vec<usize> = lengths.iter().map(|share| (samples as f64 * share) as usize).collect();
        let left = samples - sizes.iter().sum::<usize>().min(samples);
        for at in 0..left {
            let count = sizes.len();
            sizes[at % count] += 1;
        }
        return Ok(sizes);
    }
    if !positive || sum != samples as f64 || lengths.iter().any(|length| length.fract() != 0.0) {
        return Err(Error::new(
            Kind::Option,
            format!("parts of {lengths:?} do not make up {samples} samples"),
        )
        .hint("sizes sum to the number of samples, shares to 1"));
    }
    Ok(lengths.iter().map(|length| *length as usize).collect())
}

/// Indices to train and to test with, as scikit-learn's `train_test_split`: a share of the samples is for the test, rounded
/// up. With labels, each class has the same share in both.
///
/// ```
/// use lightcell::prelude::*;
/// let labels = [0, 0, 0, 0, 1, 1, 1, 1];
/// let (train, test) = train_test_split(8, 0.25, Some(&labels), 1)?;
/// assert_eq!((train.len(), test.len()), (6, 2));
/// assert_eq!(test.iter().map(|index| labels[*index]).sum::<i64>(), 1);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// When a part would be empty, or a class has fewer than two samples.
pub fn train_test_split(samples: usize, test_size: f64, stratify: Option<&[i64]>, random_state: u64) -> Result<Split> {
    let test = (samples as f64 * test_size).ceil();
    if !(test_size > 0.0 && test_size < 1.0) || test as usize >= samples {
        return Err(Error::new(
            Kind::Option,
            format!("a test_size of {test_size} leaves one part of {samples} samples empty"),
        )
        .hint("it is the share of the samples that the test gets, between 0 and 1"));
    }
    let test = test as usize;
    let mut random = SampleRng::new(random_state);
    let Some(labels) = stratify else {
        let mut order = random.permutation(samples);
        let train = order.split_off(test);
        return Ok((train, order));
    };
    let classes = by_class(samples, labels, 2, "the training and the test")?;
    if test < classes.len() || samples - test < classes.len() {
        return Err(Error::new(
            Kind::Option,
            format!(
                "a test_size of {test_size} makes a part of {} samples, too few for {} classes",
                test.min(samples - test),
                classes.len()
            ),
        ));
    }
    // The whole part of each class's share, and one more for those with the largest rest.
    let share = |class: &Vec<usize>| class.len() as f64 * test as f64 / samples as f64;
    let mut sizes: Vec<usize> = classes.iter().map(|(_, class)| share(class) as usize).collect();
    let mut rests: Vec<usize> = random.permutation(classes.len());
    rests.sort_by(|a, b| share(&classes[*b].1).fract().total_cmp(&share(&classes[*a].1).fract()));
    let left = test - sizes.iter().sum::<usize>();
    for class in rests.into_iter().take(left) {
        sizes[class] += 1;
    }
    let (mut train, mut tested) = (Vec::new(), Vec::new());
    for ((_, class), size) in classes.iter().zip(sizes) {
        let order = random.permutation(class.len());
        for (at, place) in order.into_iter().enumerate() {
            let part = if at < size { &mut tested } else { &mut train };
            part.push(class[place]);
        }
    }
    // Mixed, so that classes do not come one after the other.
    let mut mixed = |part: Vec<usize>| -> Vec<usize> {
        let order = random.permutation(part.len());
        order.into_iter().map(|at| part[at]).collect()
    };
    Ok((mixed(train), mixed(tested)))
}

/// The samples of each class, classes in the order in which they come.
fn by_class(samples: usize, labels: &[i64], least: usize, what: &str) -> Result<Vec<(i64, Vec<usize>)>> {
    if labels.len() != samples {
        return Err(Error::new(
            Kind::Data,
            format!("{samples} samples but {} labels", labels.len()),
        ));
    }
    let (mut classes, mut places) = (Vec::<(i64, Vec<usize>)>::new(), HashMap::new());
    for (index, label) in labels.iter().enumerate() {
        let place = *places.entry(*label).or_insert_with(|| {
            classes.push((*label, Vec::new()));
            classes.len() - 1
        });
        classes[place].1.push(index);
    }
    match classes.iter().find(|(_, class)| class.len() < least) {
        Some((label, class)) => Err(Error::new(
            Kind::Data,
            format!("class {label} has {} samples: too few for {what}", class.len()),
        )
        .hint("leave its samples out, or split without regard to classes")),
        None => Ok(classes),
    }
}

/// Folds of a dataset, each of which is the test once: scikit-learn's `KFold`.
///
/// ```
/// use lightcell::prelude::*;
/// for (train, test) in KFold::new(5).shuffle(42).split(23)? {
///     assert_eq!(train.len() + test.len(), 23);
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KFold {
    n_splits: usize,
    seed: Option<u64>,
}

impl KFold {
    /// So many folds, of samples next to each other.
    pub fn new(n_splits: usize) -> KFold {
        KFold { n_splits, seed: None }
    }

    /// Folds of samples at random.
    #[must_use]
    pub fn shuffle(mut self, random_state: u64) -> KFold {
        self.seed = Some(random_state);
        self
    }

    /// The parts of each fold.
    ///
    /// # Errors
    /// When there are fewer than two folds, or fewer samples than folds.
    pub fn split(&self, samples: usize) -> Result<Vec<Split>> {
        enough(self.n_splits, samples)?;
        let order = match self.seed {
            Some(seed) => SampleRng::new(seed).permutation(samples),
            None => (0..samples).collect(),
        };
        let mut fold_of = vec![0; samples];
        let mut places = order.into_iter();
        for fold in 0..self.n_splits {
            let size = samples / self.n_splits + usize::from(fold < samples % self.n_splits);
            places.by_ref().take(size).for_each(|index| fold_of[index] = fold);
        }
        Ok(parts(self.n_splits, &fold_of))
    }
}

/// Folds with each class in the same share: scikit-learn's `StratifiedKFold`.
///
/// ```
/// use lightcell::prelude::*;
/// let labels = [0, 0, 0, 0, 0, 0, 1, 1, 1];
/// for (_, test) in StratifiedKFold::new(3).shuffle(42).split(&labels)? {
///     assert_eq!(test.iter().map(|index| labels[*index]).sum::<i64>(), 1);
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StratifiedKFold {
    n_splits: usize,
    seed: Option<u64>,
}

impl StratifiedKFold {
    /// So many folds; each class's samples go into them in their order.
    pub fn new(n_splits: usize) -> StratifiedKFold {
        StratifiedKFold { n_splits, seed: None }
    }

    /// Folds of samples at random.
    #[must_use]
    pub fn shuffle(mut self, random_state: u64) -> StratifiedKFold {
        self.seed = Some(random_state);
        self
    }

    /// The parts of each fold, from the samples' labels.
    ///
    /// # Errors
    /// When there are fewer than two folds, or a class has fewer samples than there are folds.
    pub fn split(&self, labels: &[i64]) -> Result<Vec<Split>> {
        let folds = self.n_splits;
        enough(folds, labels.len())?;
        let classes = by_class(labels.len(), labels, folds, &format!("{folds} folds"))?;
        // Sorted by class, the samples are dealt out to the folds like cards: no fold has two more of a class, nor in all.
        let (mut fold_of, mut dealt) = (vec![0; labels.len()], 0);
        let mut random = self.seed.map(SampleRng::new);
        for (_, class) in &classes {
            let mut shares = vec![0; folds];
            for _ in class {
                shares[dealt % folds] += 1;
                dealt += 1;
            }
            let mut deal: Vec<usize> = Vec::with_capacity(class.len());
            for (fold, share) in shares.into_iter().enumerate() {
                deal.extend(std::iter::repeat_n(fold, share));
            }
            if let Some(random) = &mut random {
                let order = random.permutation(deal.len());
                deal = order.into_iter().map(|at| deal[at]).collect();
            }
            class.iter().zip(deal).for_each(|(index, fold)| fold_of[*index] = fold);
        }
        Ok(parts(folds, &fold_of))
    }
}

fn enough(folds: usize, samples: usize) -> Result<()> {
    if folds < 2 || samples < folds {
        return Err(
            Error::new(Kind::Option, format!("{samples} samples cannot be {folds} folds"))
                .hint("there are at least two folds, and a sample for each"),
        );
    }
    Ok(())
}

fn parts(folds: usize, fold_of: &[usize]) -> Vec<Split> {
    let part = |fold| (0..fold_of.len()).partition(|index| fold_of[*index] != fold);
    (0..folds).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_scikit_learns() {
        let tests = |splits: Vec<Split>| -> Vec<Vec<usize>> { splits.into_iter().map(|split| split.1).collect() };
        // KFold(3).split(range(8)) and StratifiedKFold(3).split(..., y), scikit-learn 1.7.
        assert_eq!(
            tests(KFold::new(3).split(8).unwrap()),
            [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]
        );
        let labels = [1, 0, 1, 0, 0, 1, 2, 2, 0, 1, 2];
        assert_eq!(
            tests(StratifiedKFold::new(3).split(&labels).unwrap()),
            [vec![0, 1, 2, 6], vec![3, 4, 5, 7], vec![8, 9, 10]]
        );
    }

    #[test]
    fn folds_take_each_sample_once_and_depend_on_the_seed() {
        let labels: Vec<i64> = (0..40).map(|i| i64::from(i % 4 == 0)).collect();
        for seed in [1, 2] {
            for splits in [
                KFold::new(4).shuffle(seed).split(40).unwrap(),
                StratifiedKFold::new(4).shuffle(seed).split(&labels).unwrap(),
            ] {
                let mut all: Vec<usize> = splits.iter().flat_map(|split| split.1.clone()).collect();
                all.sort();
                assert_eq!(all, (0..40).collect::<Vec<_>>());
                for (train, test) in splits {
                    assert!(test.iter().all(|index| !train.contains(index)) && train.len() == 30);
                }
            }
        }
        let fold = |seed| KFold::new(4).shuffle(seed).split(40).unwrap();
        assert_eq!(fold(1), fold(1));
        assert_ne!(fold(1), fold(2));
    }

    #[test]
    fn a_stratified_split_keeps_shares() {
        let labels: Vec<i64> = (0..100)
            .map(|i| {
                if i < 70 {
                    5
                } else if i < 95 {
                    6
                } else {
                    7
                }
            })
            .collect();
        let (train, test) = train_test_split(100, 0.2, Some(&labels), 3).unwrap();
        let count = |part: &[usize], label| part.iter().filter(|index| labels[**index] == label).count();
        assert_eq!([5, 6, 7].map(|label| count(&test, label)), [14, 5, 1]);
        assert_eq!([5, 6, 7].map(|label| count(&train, label)), [56, 20, 4]);
        assert_eq!(
            train_test_split(100, 0.2, Some(&labels), 3).unwrap(),
            (train.clone(), test)
        );
        assert_ne!(train_test_split(100, 0.2, Some(&labels), 4).unwrap().0, train);
        let (train, test) = train_test_split(10, 0.25, None, 1).unwrap();
        assert_eq!((train.len(), test.len()), (7, 3));
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let message = |error: Option<Error>| error.unwrap().message().to_owned();
        assert_eq!(
            message(StratifiedKFold::new(3).split(&[0, 0, 0, 4, 4]).err()),
            "class 4 has 2 samples: too few for 3 folds"
        );
        assert_eq!(message(KFold::new(1).split(5).err()), "5 samples cannot be 1 folds");
        assert_eq!(
            message(train_test_split(4, 1.0, None, 0).err()),
            "a test_size of 1 leaves one part of 4 samples empty"
        );
        assert_eq!(
            message(train_test_split(5, 0.4, Some(&[0, 0, 0, 0, 1]), 0).err()),
            "class 1 has 1 samples: too few for the training and the test"
        );
        assert_eq!(
            message(train_test_split(5, 0.4, Some(&[0]), 0).err()),
            "5 samples but 1 labels"
        );
        assert_eq!(sizes(10, &[0.5, 0.25, 0.25]).unwrap(), [6, 2, 2]);
        assert_eq!(sizes(10, &[4.0, 6.0]).unwrap(), [4, 6]);
        assert_eq!(
            message(sizes(10, &[4.0, 5.0]).err()),
            "parts of [4.0, 5.0] do not make up 10 samples"
        );
    }
}
