//! libtorch's operations on lists of tensors, which tch does not have: called through TorchScript, of which `kernels.py`
//! makes the archive. One call changes all parameters of a group, with PyTorch's own arithmetic.

use crate::error::{Error, Kind, Result};
use tch::{CModule, IValue, Tensor};

/// The archive, loaded. One for each optimizer: a static would exist once in each cell.
#[derive(Debug)]
pub(crate) struct Kernels(CModule);

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg<'a> {
    Tensors(&'a [Tensor]),
    Refs(&'a [&'a Tensor]),
    Tensor(&'a Tensor),
    Float(f64),
    Int(i64),
    Bool(bool),
}

impl Arg<'_> {
    fn value(self) -> IValue {
        match self {
            Arg::Tensors(list) => IValue::TensorList(list.iter().map(Tensor::shallow_clone).collect()),
            Arg::Refs(list) => IValue::TensorList(list.iter().map(|tensor| tensor.shallow_clone()).collect()),
            Arg::Tensor(tensor) => IValue::Tensor(tensor.shallow_clone()),
            Arg::Float(number) => IValue::Double(number),
            Arg::Int(number) => IValue::Int(number),
            Arg::Bool(yes) => IValue::Bool(yes),
        }
    }
}

impl Kernels {
    /// # Errors
    /// When this libtorch cannot read the archive.
    pub fn load() -> Result<Kernels> {
        let module = CModule::load_data(&mut include_bytes!("kernels.pt").as_slice());
        Ok(Kernels(module.map_err(|error| {
            Error::from(error).at("the optimizers' kernels cannot be loaded")
        })?))
    }

    /// # Errors
    /// libtorch's own.
    pub fn call(&self, name: &str, args: &[Arg]) -> Result<IValue> {
        let args: Vec<IValue> = args.iter().map(|arg| arg.value()).collect();
        Ok(self.0.method_is(name, &args)?)
    }

    /// The order in which PyTorch's `RandomSampler` with this seed goes through so many samples.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn permutation(&self, samples: i64, seed: i64) -> Result<Vec<i64>> {
        let order = self.tensor("permutation", &[Arg::Int(samples), Arg::Int(seed)])?;
        Ok(Vec::try_from(&order)?)
    }

    /// # Errors
    /// libtorch's own.
    pub fn tensor(&self, name: &str, args: &[Arg]) -> Result<Tensor> {
        match self.call(name, args)? {
            IValue::Tensor(tensor) => Ok(tensor),
            other => Err(Error::new(Kind::Torch, format!("{name} gave no tensor but {other:?}"))),
        }
    }
}
