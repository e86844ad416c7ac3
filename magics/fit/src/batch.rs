//! What a step gets: tensors, and what is made of them.

use crate::error::Result;
use std::fmt::Debug;
use tch::{Device, Kind, Tensor};

/// What one step gets. Its size is known, never guessed.
pub trait Batch: Debug + Send + 'static {
    /// Number of samples.
    fn len(&self) -> i64;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batch on another device.
    ///
    /// # Errors
    /// When the device has no memory left.
    fn to_device(self, device: Device) -> Result<Self>
    where
        Self: Sized;

    /// The batch with its floating-point numbers of another kind, and all others as they are. One of a type that does not say
    /// how stays as it is: its steps then convert what they take.
    ///
    /// # Errors
    /// When the device has no memory left.
    fn convert_floats(self, _kind: Kind) -> Result<Self>
    where
        Self: Sized,
    {
        Ok(self)
    }

    /// The batch in page-locked memory, from which a CUDA device copies while it computes; as it is where there is no such
    /// device, or for a type that does not say how. See [`DataLoader::pin_memory`](crate::DataLoader::pin_memory).
    ///
    /// # Errors
    /// When no more memory can be locked.
    fn pin_memory(self) -> Result<Self>
    where
        Self: Sized,
    {
        Ok(self)
    }

    /// Its shapes, for messages: `[64, 1, 28, 28], [64]`.
    fn shapes(&self) -> String;

    /// Whether all numbers in it are numbers: asked for when a loss is none, to say why.
    fn is_finite(&self) -> bool {
        true
    }
}

impl Batch for Tensor {
    fn len(&self) -> i64 {
        self.size().first().copied().unwrap_or(0)
    }

    fn to_device(self, device: Device) -> Result<Tensor> {
        if self.device() == device {
            Ok(self)
        } else if device.is_cuda() && self.device() == Device::Cpu {
            // As Lightning asks for it: from page-locked memory the copy goes on beside the computation, in the stream's
            // order; from other memory libtorch waits for it. A lock's memory is used again when the stream is past it.
            Ok(self.f_to_device_(device, self.kind(), true, false)?)
        } else {
            Ok(self.f_to_device(device)?)
        }
    }

    fn pin_memory(self) -> Result<Tensor> {
        if !tch::Cuda::is_available() || self.device() != Device::Cpu {
            return Ok(self);
        }
        Ok(self.f_pin_memory(Device::Cuda(0))?)
    }

    fn convert_floats(self, kind: Kind) -> Result<Tensor> {
        if self.is_floating_point() && self.kind() != kind {
            Ok(self.f_to_kind(kind)?)
        } else {
            Ok(self)
        }
    }

    fn shapes(&self) -> String {
        format!("{:?}", self.size())
    }

    fn is_finite(&self) -> bool {
        crate::looping::is_finite(self)
    }
}

// Not generic, so that it is compiled here and not in each cell.
fn joined(shapes: &[String]) -> String {
    shapes.join(", ")
}

macro_rules! tuple_batches {
    ($(($($part:ident),+))*) => {
        $(#[allow(non_snake_case)]
        impl<$($part: Batch),+> Batch for ($($part,)+) {
            fn len(&self) -> i64 {
                self.0.len()
            }

            fn to_device(self, device: Device) -> Result<Self> {
                let ($($part,)+) = self;
                Ok(($($part.to_device(device)?,)+))
            }

            fn pin_memory(self) -> Result<Self> {
                let ($($part,)+) = self;
                Ok(($($part.pin_memory()?,)+))
            }

            fn convert_floats(self, kind: Kind) -> Result<Self> {
                let ($($part,)+) = self;
                Ok(($($part.convert_floats(kind)?,)+))
            }

            fn shapes(&self) -> String {
                let ($($part,)+) = self;
                joined(&[$($part.shapes()),+])
            }

            fn is_finite(&self) -> bool {
                let ($($part,)+) = self;
                $($part.is_finite())&&+
            }
        })*
    };
}

tuple_batches!((A, B)(A, B, C)(A, B, C, D));

impl Batch for Vec<Tensor> {
    fn len(&self) -> i64 {
        self.first().map_or(0, Batch::len)
    }

    fn to_device(self, device: Device) -> Result<Self> {
        self.into_iter().map(|tensor| tensor.to_device(device)).collect()
    }

    fn pin_memory(self) -> Result<Self> {
        self.into_iter().map(Batch::pin_memory).collect()
    }

    fn convert_floats(self, kind: Kind) -> Result<Self> {
        self.into_iter().map(|tensor| tensor.convert_floats(kind)).collect()
    }

    fn shapes(&self) -> String {
        joined(&self.iter().map(Batch::shapes).collect::<Vec<_>>())
    }

    fn is_finite(&self) -> bool {
        self.iter().all(Batch::is_finite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn batches_may_be_of_several_tensors() {
        let _turn = crate::tests::in_turn();
        let tensor = |n: i64| Tensor::zeros([n, 2], (Kind::Float, Device::Cpu));
        let three = (tensor(3), tensor(3), tensor(1)).to_device(Device::Cpu).unwrap();
        assert_eq!((three.len(), three.shapes()), (3, "[3, 2], [3, 2], [1, 2]".to_owned()));
        let nested = (vec![tensor(5), tensor(2)], (tensor(1), tensor(1)))
            .to_device(Device::Cpu)
            .unwrap();
        assert_eq!(
            (nested.len(), nested.shapes()),
            (5, "[5, 2], [2, 2], [1, 2], [1, 2]".to_owned())
        );
        assert!(Vec::<Tensor>::new().is_empty());
    }
}
