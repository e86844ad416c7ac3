//! TorchScript modules: a network of somebody's, with its code, from one file.

use super::torch_file::Reader;
use crate::error::{Error, Kind, Result};
use std::path::Path;
use tch::{CModule, Device, Tensor};

/// A module that Python wrote with `torch.jit.save`, as a frozen part of a model: it computes features, in eval mode and
/// without gradients. It has no place among the model's parameters, so neither an optimizer nor a checkpoint sees it.
///
/// A TorchScript file holds code, which libtorch runs: load only files that you trust.
///
/// ```
/// use lightcell::prelude::*;
/// # use lightcell::tch::CModule;
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-script-{}.pt", std::process::id()));
/// # let x = Tensor::ones([1, 2], (Kind::Float, Device::Cpu));
/// # CModule::create_by_tracing("Double", "forward", &[x], &mut |x| vec![&x[0] + &x[0]])?.save(&path)?;
/// // In Python: torch.jit.save(torch.jit.script(model), path)
/// let features = ScriptModule::load(&path, Device::Cpu)?;
/// let x = Tensor::from_slice(&[1f32, 2.0]).view([1, 2]);
/// assert_eq!(features.forward(&x)?, x * 2.0);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct ScriptModule {
    module: CModule,
}

impl ScriptModule {
    /// Loads a module onto a device: `torch.jit.load`, then `eval()`.
    ///
    /// # Errors
    /// When the file cannot be read or is no TorchScript module.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<ScriptModule> {
        let path = path.as_ref();
        let cannot = |error: Error| error.at(&format!("cannot load {}", path.display()));
        // libtorch's own message for a file that is not there is about its archive.
        std::fs::File::open(path).map_err(|error| cannot(error.into()))?;
        let load = || -> Result<ScriptModule> {
            let mut module = CModule::load_on_device(path, device)?;
            module.f_set_eval()?;
            for (_, parameter) in module.named_parameters()? {
                let _ = parameter.set_requires_grad(false);
            }
            Ok(ScriptModule { module })
        };
        load().map_err(|error| match error.kind() {
            // Nothing is wrong with the file.
            Kind::Device | Kind::Memory => cannot(error),
            _ => cannot(Error::new(Kind::Data, what_it_is(path, &error)))
                .hint("it must be a TorchScript module: in Python, `torch.jit.save(torch.jit.script(model), path)`"),
        })
    }

    /// What the module gives for an input, without gradients.
    ///
    /// # Errors
    /// Those of the module's own code, with the inputs' shapes, and when it gives anything but one tensor.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_all(&[x])
    }

    /// What it gives for several inputs.
    ///
    /// # Errors
    /// See [`forward`](ScriptModule::forward).
    pub fn forward_all(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        self.module.forward_ts(inputs).map_err(|error| {
            let shapes: Vec<String> = inputs.iter().map(|input| format!("{:?}", input.size())).collect();
            said(&error.to_string()).at(&format!("the TorchScript module, given {}", shapes.join(", ")))
        })
    }

    /// Its parameters by name, which are not trained.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn named_parameters(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(self.module.named_parameters()?)
    }
}

/// What a file is that libtorch does not take for a module.
fn what_it_is(path: &Path, error: &Error) -> String {
    use std::io::Read;
    let mut begin = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4).read_to_end(&mut begin));
    match (read, &begin[..]) {
        (Ok(_), []) => "the file is empty".to_owned(),
        (Ok(_), [b'P', b'K', ..]) if Reader::open(path).is_ok() => {
            "it is a file of torch.save, not a TorchScript module".to_owned()
        }
        (Ok(_), [b'P', b'K', ..]) => {
            // What follows are guesses, which a user cannot act on.
            let first = error.message().split(". ").next().unwrap_or_default();
            format!("it is damaged, or no TorchScript module: {first}")
        }
        _ => "it is no TorchScript module".to_owned(),
    }
}

/// What a module's code said: the last line of its stack, in plain words.
fn said(text: &str) -> Error {
    if text.contains("did not return a tensor") {
        return Error::new(Kind::Model, "it gives something else than one tensor")
            .hint("in Python, wrap it in a module whose `forward` returns one tensor");
    }
    let raised = |line: &str| line.trim_start().strip_prefix("RuntimeError: ").map(str::to_owned);
    match text.lines().rev().find_map(raised) {
        Some(line) => Error::from_torch(&line),
        None => Error::from_torch(text),
    }
}
