//! Samples to batches.

use crate::batch::Batch;
use crate::error::{Error, Kind, Result};
use tch::Tensor;

/// A sample that several of make a batch: PyTorch's `default_collate`. Tensors of one shape are stacked along a new first
/// dimension, numbers become a tensor, tuples a tuple of batches.
///
/// ```
/// use lightcell::prelude::*;
/// let sample = |x: f32, label: i64| (Tensor::from_slice(&[x, x]), label);
/// let (x, y) = Collate::collate(vec![sample(1.0, 0), sample(2.0, 1)])?;
/// assert_eq!((x.size(), y.size()), (vec![2, 2], vec![2]));
/// # Ok::<(), Error>(())
/// ```
pub trait Collate: Send + Sized + 'static {
    /// What the samples make together.
    type Batch: Batch;

    /// The samples as one batch.
    ///
    /// # Errors
    /// When they do not fit together.
    fn collate(items: Vec<Self>) -> Result<Self::Batch>;
}

impl Collate for Tensor {
    type Batch = Tensor;

    fn collate(items: Vec<Tensor>) -> Result<Tensor> {
        if let Some(first) = items.first()
            && let Some(at) = items
                .iter()
                .position(|item| item.size() != first.size() || item.kind() != first.kind())
        {
            let said = |tensor: &Tensor| format!("{:?} of Kind::{:?}", tensor.size(), tensor.kind());
            return Err(Error::new(
                Kind::Shape,
                format!(
                    "samples do not fit into one tensor: the batch's first is {}, its {} {}",
                    said(first),
                    ordinal(at + 1),
                    said(&items[at])
                ),
            )
            .hint("make them of one size, or fill them up: `DataLoader::with_collate(data, |items| …pad_sequence(&items, 0.0)…)`"));
        }
        Ok(Tensor::f_stack(&items, 0)?)
    }
}

fn ordinal(n: usize) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

macro_rules! number_items {
    ($($number:ty),*) => {
        $(impl Collate for $number {
            type Batch = Tensor;

            fn collate(items: Vec<$number>) -> Result<Tensor> {
                Ok(Tensor::from_slice(&items))
            }
        })*
    };
}

number_items!(i64, i32, u8, f32, f64, bool);

macro_rules! tuple_items {
    ($(($($part:ident $list:ident),+))*) => {
        $(#[allow(non_snake_case)]
        impl<$($part: Collate),+> Collate for ($($part,)+) {
            type Batch = ($($part::Batch,)+);

            fn collate(items: Vec<Self>) -> Result<Self::Batch> {
                $(let mut $list = Vec::with_capacity(items.len());)+
                for ($($part,)+) in items {
                    $($list.push($part);)+
                }
                Ok(($($part::collate($list)?,)+))
            }
        })*
    };
}

tuple_items!((A a, B b)(A a, B b, C c)(A a, B b, C c, D d));

/// Tensors `[length, …]` of different lengths as one `[n, longest, …]`, filled up with a value at their ends:
/// `torch.nn.utils.rnn.pad_sequence` with `batch_first`.
///
/// ```
/// use lightcell::prelude::*;
/// let words = [Tensor::from_slice(&[1i64, 2, 3]), Tensor::from_slice(&[4i64])];
/// let padded = pad_sequence(&words, 0.0)?;
/// assert_eq!(Vec::<Vec<i64>>::try_from(&padded).unwrap(), [[1, 2, 3], [4, 0, 0]]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// When there is none, or their further dimensions or kinds differ.
pub fn pad_sequence(sequences: &[Tensor], padding_value: f64) -> Result<Tensor> {
    let Some(first) = sequences.first() else {
        return Err(Error::new(Kind::Data, "there is no sequence to fill up"));
    };
    let rest = |tensor: &Tensor| tensor.size().get(1..).map(<[i64]>::to_vec);
    for (at, sequence) in sequences.iter().enumerate() {
        if sequence.dim() == 0 || rest(sequence) != rest(first) || sequence.kind() != first.kind() {
            return Err(Error::new(
                Kind::Shape,
                format!(
                    "sequence {at} is {:?} of Kind::{:?}, the first {:?} of Kind::{:?}: only their first dimension may differ",
                    sequence.size(),
                    sequence.kind(),
                    first.size(),
                    first.kind()
                ),
            ));
        }
    }
    let longest = sequences.iter().map(|sequence| sequence.size()[0]).max().unwrap_or(0);
    let mut size = vec![sequences.len() as i64, longest];
    size.extend(rest(first).unwrap_or_default());
    let padded = Tensor::f_full(&size, padding_value, (first.kind(), first.device()))?;
    for (at, sequence) in sequences.iter().enumerate() {
        let mut place = padded.f_select(0, at as i64)?.f_narrow(0, 0, sequence.size()[0])?;
        place.f_copy_(sequence)?;
    }
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind as TKind};

    #[test]
    fn samples_make_batches_of_their_kind() {
        let _turn = crate::tests::in_turn();
        let (a, (b, c)) = Collate::collate(vec![(1.5f32, (2i64, true)), (2.5, (3, false))]).unwrap();
        assert_eq!(
            (a.kind(), b.kind(), c.kind()),
            (TKind::Float, TKind::Int64, TKind::Bool)
        );
        assert_eq!(Vec::<i64>::try_from(&b).unwrap(), [2, 3]);
        let three = Tensor::collate((0..3).map(|i| Tensor::from(i as f32).view([1, 1])).collect()).unwrap();
        assert_eq!(three.size(), [3, 1, 1]);
    }

    #[test]
    fn samples_that_do_not_fit_together_are_named() {
        let _turn = crate::tests::in_turn();
        let zeros = |n: i64| Tensor::zeros([n], (TKind::Float, Device::Cpu));
        let error = Tensor::collate(vec![zeros(2), zeros(2), zeros(3)]).unwrap_err();
        assert_eq!(
            error.message(),
            "samples do not fit into one tensor: the batch's first is [2] of Kind::Float, its 3rd [3] of Kind::Float"
        );
        assert_eq!(
            (ordinal(11), ordinal(21), ordinal(112)),
            ("11th".into(), "21st".into(), "112th".into())
        );
        let error = pad_sequence(&[zeros(2), zeros(2).view([1, 2])], 0.0).unwrap_err();
        assert!(
            error.message().starts_with("sequence 1 is [1, 2] of Kind::Float"),
            "{error}"
        );
        assert!(pad_sequence(&[], 0.0).is_err());
        assert!(pad_sequence(&[Tensor::from(1.0)], 0.0).is_err());
    }
}
