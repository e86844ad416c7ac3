//! What a file says of a tensor: which of a storage's numbers are its own.

use crate::{Result, fault};

/// The type of a tensor's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    C64,
    C128,
    F8E4M3FN,
    F8E5M2,
}

/// For each type: PyTorch's name, that of its storage's class where it has one, and the bytes of a number.
const TYPES: [(DType, &str, &str, u64); 14] = [
    (DType::F64, "float64", "DoubleStorage", 8),
    (DType::F32, "float32", "FloatStorage", 4),
    (DType::F16, "float16", "HalfStorage", 2),
    (DType::BF16, "bfloat16", "BFloat16Storage", 2),
    (DType::I64, "int64", "LongStorage", 8),
    (DType::I32, "int32", "IntStorage", 4),
    (DType::I16, "int16", "ShortStorage", 2),
    (DType::I8, "int8", "CharStorage", 1),
    (DType::U8, "uint8", "ByteStorage", 1),
    (DType::Bool, "bool", "BoolStorage", 1),
    (DType::C64, "complex64", "ComplexFloatStorage", 8),
    (DType::C128, "complex128", "ComplexDoubleStorage", 16),
    (DType::F8E4M3FN, "float8_e4m3fn", "", 1),
    (DType::F8E5M2, "float8_e5m2", "", 1),
];

impl DType {
    /// Bytes of a number.
    pub fn width(self) -> u64 {
        self.row().3
    }

    /// PyTorch's name: `float32`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The class of its storages, if there is one of its own.
    pub(crate) fn storage(self) -> Option<&'static str> {
        Some(self.row().2).filter(|name| !name.is_empty())
    }

    fn row(self) -> (DType, &'static str, &'static str, u64) {
        // All are in the table, which a test sees to.
        TYPES.into_iter().find(|row| row.0 == self).unwrap_or(TYPES[0])
    }

    pub(crate) fn named(name: &str) -> Option<DType> {
        TYPES.into_iter().find(|row| row.1 == name).map(|row| row.0)
    }

    pub(crate) fn of_storage(class: &str) -> Option<DType> {
        TYPES
            .into_iter()
            .find(|row| row.2 == class && !class.is_empty())
            .map(|row| row.0)
    }
}

/// A tensor: its shape, and where in a storage its numbers are. Several tensors may share a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The type of its numbers.
    pub dtype: DType,
    /// The key of its storage.
    pub storage: String,
    /// How many numbers the storage has.
    pub storage_len: u64,
    /// Which of them is its first.
    pub offset: u64,
    /// Its shape.
    pub size: Vec<u64>,
    /// For each dimension, how far its next number is.
    pub stride: Vec<u64>,
    /// Whether it is trained.
    pub requires_grad: bool,
}

impl Tensor {
    /// A tensor that is all of a storage, row by row.
    pub fn contiguous(dtype: DType, storage: &str, size: &[u64]) -> Tensor {
        let mut stride = vec![1; size.len()];
        for at in (1..size.len()).rev() {
            stride[at - 1] = stride[at] * size[at].max(1);
        }
        Tensor {
            dtype,
            storage: storage.to_owned(),
            storage_len: size.iter().product(),
            offset: 0,
            size: size.to_vec(),
            stride,
            requires_grad: false,
        }
    }

    /// Refuses a tensor whose numbers are not all in its storage, or that nobody can count.
    pub(crate) fn check(&self) -> Result<()> {
        let told = |what: &str| fault(format!("a tensor of shape {:?} {what}", self.size));
        if self.size.len() != self.stride.len() || self.size.len() > 64 {
            return told(&format!("has {} strides", self.stride.len()));
        }
        // Counted in bytes and with a sign, as libtorch counts.
        let most = i64::MAX as u64 / self.dtype.width();
        let numel = self.size.iter().try_fold(1u64, |n, size| n.checked_mul(*size));
        // What has no numbers may still have sizes that cannot be multiplied.
        let others = self.size.iter().filter(|size| **size > 0);
        let all = others.into_iter().try_fold(1u64, |n, size| n.checked_mul(*size));
        let (Some(numel), Some(all)) = (numel, all) else {
            return told("is too large");
        };
        if all > most || self.storage_len > most || self.offset > most || self.stride.iter().any(|s| *s > most) {
            return told("is too large");
        }
        if numel == 0 {
            return match self.offset > self.storage_len {
                true => told("begins outside of its storage"),
                false => Ok(()),
            };
        }
        let dims = self.size.iter().zip(&self.stride);
        let last = dims.into_iter().try_fold(self.offset, |at, (size, stride)| {
            at.checked_add((size - 1).checked_mul(*stride)?)
        });
        match last {
            Some(last) if last < self.storage_len => Ok(()),
            _ => told(&format!(
                "reaches outside of its storage of {} numbers",
                self.storage_len
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_in_the_table_once() {
        for row in TYPES {
            assert_eq!(row.0.name(), row.1);
            assert_eq!(DType::named(row.1), Some(row.0));
            if !row.2.is_empty() {
                assert_eq!(DType::of_storage(row.2), Some(row.0));
            }
        }
        assert_eq!(DType::of_storage(""), None);
    }

    #[test]
    fn a_tensor_outside_of_its_storage_is_refused() {
        let whole = Tensor::contiguous(DType::F32, "0", &[3, 4]);
        assert_eq!(whole.stride, [4, 1]);
        assert!(whole.check().is_ok());
        let said = |change: &dyn Fn(&mut Tensor)| {
            let mut tensor = whole.clone();
            change(&mut tensor);
            tensor.check().map_err(|error| error.to_string())
        };
        assert_eq!(said(&|t| t.stride = vec![1, 3]), Ok(()));
        let outside = "a tensor of shape [3, 4] reaches outside of its storage of 12 numbers";
        assert_eq!(said(&|t| t.offset = 1), Err(outside.to_owned()));
        assert_eq!(said(&|t| t.stride = vec![5, 1]), Err(outside.to_owned()));
        assert_eq!(
            said(&|t| t.stride = vec![1]),
            Err("a tensor of shape [3, 4] has 1 strides".to_owned())
        );
        for change in [u64::MAX, 1 << 62, 1 << 63] {
            assert!(said(&|t| t.size[0] = change).unwrap_err().ends_with("is too large"));
            assert!(said(&|t| t.stride[0] = change).unwrap_err().ends_with("is too large"));
            assert!(said(&|t| t.offset = change).unwrap_err().ends_with("is too large"));
        }
        // A scalar, an empty tensor, one number seen many times.
        assert_eq!(
            said(&|t| {
                t.size.clear();
                t.stride.clear();
                t.offset = 11;
            }),
            Ok(())
        );
        assert_eq!(said(&|t| t.size = vec![0, 4]), Ok(()));
        assert_eq!(said(&|t| (t.size, t.stride) = (vec![1 << 40, 12], vec![0, 1])), Ok(()));
        assert!(said(&|t| t.size = vec![0, u64::MAX, u64::MAX]).is_err());
    }
}
