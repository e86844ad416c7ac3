//! Datasets made of others find their samples, and what does not fit is refused.

use super::*;
use tch::{Device, Kind as TKind};

fn numbers(n: i64) -> TensorDataset {
    let x = Tensor::arange(n, (TKind::Int64, Device::Cpu));
    TensorDataset::new(x.shallow_clone(), x).unwrap()
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let _turn = crate::tests::in_turn();
    let cpu = (TKind::Float, Device::Cpu);
    let error = TensorDataset::new(Tensor::zeros([3, 2], cpu), Tensor::zeros([4], cpu)).unwrap_err();
    assert_eq!(error.message(), "3 inputs but 4 targets (shapes [3, 2] and [4])");
    let error = numbers(4).split(1.5).unwrap_err();
    assert_eq!(error.message(), "a fraction is between 0 and 1, not 1.5");
    let error = Subset::new(numbers(4), vec![1, 4]).unwrap_err();
    assert_eq!(error.message(), "there is no sample 4 among 4: indices count from 0");
    assert!(numbers(4).get(4).is_err() && ConcatDataset::new(vec![numbers(4)]).get(4).is_err());
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
    assert_eq!(
        Vec::<i64>::try_from(numbers(5).select(&[4, 0, 4]).unwrap().x()).unwrap(),
        [4, 0, 4]
    );
}

#[test]
fn parts_and_chains_find_their_samples() {
    let _turn = crate::tests::in_turn();
    let chain = Arc::new(ConcatDataset::new(vec![numbers(3), numbers(0), numbers(2)]));
    let value = |index| chain.get(index).unwrap().0.int64_value(&[]);
    assert_eq!((0..5).map(value).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
    let part = Subset::new(chain, vec![4, 1]).unwrap();
    assert_eq!(part.get(0).unwrap().0.int64_value(&[]), 1);
    assert_eq!(part.describe(0).unwrap(), "4 of the whole dataset");
    let part = Subset::new(Arc::new(numbers(9)), vec![8, 3, 5]).unwrap();
    let (x, _) = part.get_batch(&[2, 0]).unwrap().unwrap();
    assert_eq!(Vec::<i64>::try_from(&x).unwrap(), [5, 8]);
}
