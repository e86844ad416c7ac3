//! What figures are made from: numbers, and labels.

use super::wrong;
use crate::error::Result;
use tch::{Device, Kind as TKind, Tensor};

/// What can be drawn as numbers: tensors of any kind, vectors and slices.
pub trait Numbers {
    /// The numbers in a row.
    ///
    /// # Errors
    /// libtorch's own.
    fn numbers(&self) -> Result<Vec<f64>>;
}

impl Numbers for Tensor {
    fn numbers(&self) -> Result<Vec<f64>> {
        let _guard = tch::no_grad_guard();
        let flat = self
            .f_to_device(Device::Cpu)?
            .f_to_kind(TKind::Double)?
            .f_reshape([-1])?;
        Ok(Vec::try_from(flat.f_contiguous()?)?)
    }
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Numbers for [$kind] {
            fn numbers(&self) -> Result<Vec<f64>> {
                Ok(self.iter().map(|value| *value as f64).collect())
            }
        }
        impl Numbers for Vec<$kind> {
            fn numbers(&self) -> Result<Vec<f64>> {
                self.as_slice().numbers()
            }
        }
        impl<const N: usize> Numbers for [$kind; N] {
            fn numbers(&self) -> Result<Vec<f64>> {
                self.as_slice().numbers()
            }
        }
    )*};
}
numbers!(f64, f32, i64, i32, u8, usize);

/// What stands under images: texts, a tensor of labels `[n]`, a tensor of scores `[n, classes]` of which the best counts, or
/// `()` for nothing.
pub trait Labels {
    /// One text an image.
    ///
    /// # Errors
    /// libtorch's own, and when a tensor has another number of dimensions.
    fn labels(&self) -> Result<Vec<String>>;
}

impl Labels for () {
    fn labels(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

impl Labels for Tensor {
    fn labels(&self) -> Result<Vec<String>> {
        Ok(classes_of(self)?.iter().map(i64::to_string).collect())
    }
}

impl<T: std::fmt::Display> Labels for [T] {
    fn labels(&self) -> Result<Vec<String>> {
        Ok(self.iter().map(T::to_string).collect())
    }
}

impl<T: std::fmt::Display> Labels for Vec<T> {
    fn labels(&self) -> Result<Vec<String>> {
        self.as_slice().labels()
    }
}

impl<T: std::fmt::Display, const N: usize> Labels for [T; N] {
    fn labels(&self) -> Result<Vec<String>> {
        self.as_slice().labels()
    }
}

/// Labels `[n]`, or the best class of each row of `[n, classes]`.
pub(super) fn classes_of(tensor: &Tensor) -> Result<Vec<i64>> {
    let tensor = match tensor.size()[..] {
        [_] => tensor.shallow_clone(),
        [_, _] => tensor.f_argmax(1, false)?,
        _ => {
            return Err(wrong(format!(
                "labels are [n] or scores [n, classes], not {:?}",
                tensor.size()
            )));
        }
    };
    Ok(Vec::try_from(
        tensor
            .f_to_device(Device::Cpu)?
            .f_to_kind(TKind::Int64)?
            .f_contiguous()?,
    )?)
}
