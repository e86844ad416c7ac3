//! With which numbers a model computes.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::path::Store;
use lightcell_torch::Autocast;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;
use tch::{Device, Kind};

/// The numbers that a model computes with, under PyTorch Lightning's names ([`Trainer::precision`](crate::Trainer::precision)).
///
/// *Mixed*: parameters, gradients and the optimizer stay in float32, and the steps run under autocast, in which libtorch
/// computes matrix products and convolutions in the shorter type and what needs it in float32. *True*: parameters and
/// buffers are of this type, with the optimizer's state, and batches are converted to it.
///
/// ```
/// use lightcell::prelude::*;
/// assert_eq!("bf16-mixed".parse(), Ok(Precision::Bf16Mixed));
/// assert_eq!(Precision::F64True.to_string(), "64-true");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// `32-true`: float32, the default.
    #[default]
    F32True,
    /// `64-true`: float64. tch's `cross_entropy_for_logits` computes in float32 even so; `cross_entropy_loss` does not.
    F64True,
    /// `bf16-mixed`: bfloat16 under autocast. It has float32's range, so it needs no scaler.
    Bf16Mixed,
    /// `16-mixed`: float16 under autocast, with a [`GradScaler`](crate::GradScaler). On the CPU, `bf16-mixed` takes its place
    /// with a warning, as in Lightning.
    F16Mixed,
    /// `bf16-true`: bfloat16.
    Bf16True,
    /// `16-true`: float16, without a scaler: small gradients vanish. Adam's `eps` of 1e-8 is 0 in it: set a larger one, such as
    /// `adam(1e-3).eps(1e-4)`.
    F16True,
}

const NAMES: [(Precision, &str, &str); 6] = [
    (Precision::F32True, "32-true", "32"),
    (Precision::F64True, "64-true", "64"),
    (Precision::Bf16Mixed, "bf16-mixed", "bf16"),
    (Precision::F16Mixed, "16-mixed", "16"),
    (Precision::Bf16True, "bf16-true", ""),
    (Precision::F16True, "16-true", ""),
];

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(precision, ..)| precision == self);
        f.write_str(name.map_or("", |(_, name, _)| name))
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Precision> {
        let found = NAMES.iter().find(|(_, name, short)| [*name, *short].contains(&text));
        found
            .filter(|_| !text.is_empty())
            .map(|(precision, ..)| *precision)
            .ok_or_else(|| {
                let names: Vec<&str> = NAMES.iter().map(|(_, name, _)| *name).collect();
                Error::new(crate::ErrorKind::Option, format!("`{text}` is no precision")).hint(names.join(", "))
            })
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Precision, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| {
            let names = error.hint_text().unwrap_or_default();
            serde::de::Error::custom(format!("{}: it is one of {names}", error.message()))
        })
    }
}

impl Precision {
    /// What it is on this device.
    pub(crate) fn on(self, device: Device, own_scaler: bool) -> Precision {
        match self {
            Precision::F16Mixed if device == Device::Cpu && !own_scaler => Precision::Bf16Mixed,
            other => other,
        }
    }

    /// What parameters are.
    pub(crate) fn weights(self) -> Kind {
        match self {
            Precision::F64True => Kind::Double,
            Precision::Bf16True => Kind::BFloat16,
            Precision::F16True => Kind::Half,
            Precision::F32True | Precision::Bf16Mixed | Precision::F16Mixed => Kind::Float,
        }
    }

    /// Begins a step: autocast, where it is wanted, until what this gives is dropped. As in Lightning, each use of a weight
    /// casts it anew.
    pub(crate) fn enter(self, device: Device) -> Result<Option<Autocast>> {
        let kind = match self {
            Precision::Bf16Mixed => Kind::BFloat16,
            Precision::F16Mixed => Kind::Half,
            _ => return Ok(None),
        };
        Ok(Some(Autocast::new(device, kind, false)?))
    }

    /// Runs a step within autocast, where it is wanted.
    pub(crate) fn within<T>(self, device: Device, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let _autocast = self.enter(device)?;
        step()
    }

    /// A batch as the model takes it: float32 stays what the data are, as in Lightning.
    pub(crate) fn input<B: Batch>(self, batch: B) -> Result<B> {
        match self {
            Precision::F32True | Precision::Bf16Mixed | Precision::F16Mixed => Ok(batch),
            _ => batch.convert_floats(self.weights()),
        }
    }

    /// Makes parameters and buffers what they are to be. They stay the same tensors: layers and optimizer hold them.
    pub(crate) fn convert(self, store: &Store) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let kind = self.weights();
        for (_, mut tensor) in store.state_dict() {
            if tensor.is_floating_point() && tensor.kind() != kind {
                let converted = tensor.f_to_kind(kind)?;
                tensor.f_set_data(&converted)?;
            }
        }
        Ok(())
    }
}

impl From<lightcell_torch::Error> for Error {
    fn from(error: lightcell_torch::Error) -> Error {
        match error {
            // It is known by its type in C++, however it is worded.
            lightcell_torch::Error::OutOfMemory(_) => Error::from_torch("out of memory"),
            other => Error::from_torch(&other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Trainer;
    use tch::Tensor;

    #[test]
    fn names_are_lightnings() {
        for (precision, name, short) in NAMES {
            assert_eq!(name.parse(), Ok(precision));
            assert_eq!(precision.to_string(), name);
            assert!(short.is_empty() || short.parse() == Ok(precision));
        }
        let error = "fp16".parse::<Precision>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`fp16` is no precision\nhint: 32-true, 64-true, bf16-mixed, 16-mixed, bf16-true, 16-true"
        );
        assert!("".parse::<Precision>().is_err());
        let trainer = Trainer::from_json(r#"{"precision": "bf16-mixed"}"#).unwrap();
        assert_eq!(
            trainer,
            Trainer::from_json("{}").unwrap().precision(Precision::Bf16Mixed)
        );
        let error = Trainer::from_json(r#"{"precision": "8"}"#).unwrap_err();
        assert!(
            error
                .message()
                .contains("`8` is no precision: it is one of 32-true, 64-true, bf16-mixed"),
            "{error}"
        );
    }

    #[test]
    fn no_memory_is_known_however_it_is_worded() {
        let error = Error::from(lightcell_torch::Error::OutOfMemory("Allocation on device".to_owned()));
        assert_eq!(error.kind(), crate::ErrorKind::Memory);
        let error = Error::from(lightcell_torch::Error::Torch("something else\nframe #0".to_owned()));
        assert_eq!(error.message(), "something else");
    }

    #[test]
    fn batches_are_converted_when_the_model_is_of_that_type() {
        let batch = || (Tensor::from_slice(&[1.5f32]), vec![Tensor::from_slice(&[3i64])]);
        let kinds = |precision: Precision| {
            let (x, y) = precision.input(batch()).unwrap();
            (x.kind(), y[0].kind())
        };
        assert_eq!(kinds(Precision::F64True), (Kind::Double, Kind::Int64));
        assert_eq!(kinds(Precision::Bf16True), (Kind::BFloat16, Kind::Int64));
        assert_eq!(kinds(Precision::F16Mixed), (Kind::Float, Kind::Int64));
        let double = Tensor::from(1.5f64);
        assert_eq!(Precision::F32True.input(double).unwrap().kind(), Kind::Double);
    }
}
