//! Writing a model as an ONNX file, for programs without PyTorch or Rust: `torch.onnx.export`.
//!
//! Opset 17. The first dimension of input and output, the batch, may have any size; the others are those of the example. The
//! graph is that of a model that is not trained: batch normalisation uses its running values, dropout is left out.

mod graph;

pub use graph::Graph;

use crate::checkpoint::file;
use crate::error::{Error, Kind, Result};
use crate::flow::{Eager, FlowModule};
use std::io::Write;
use std::path::Path;
use tch::Tensor;

/// What a file may have at most: protocol buffers count their bytes with 31 bits.
const LARGEST: usize = i32::MAX as usize;

/// Writes a model for inputs like this example; input and output are called `x` and `y`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::{models::lenet, onnx};
/// # let path = std::env::temp_dir().join(format!("lightcell-doc-{}.onnx", std::process::id()));
/// let store = Store::new(Device::Cpu);
/// let net = lenet(store.root(), 10);
/// onnx::export(&net, &Tensor::zeros([1, 1, 28, 28], (Kind::Float, Device::Cpu)), &path)?;
/// # assert!(std::fs::metadata(&path)?.len() > 4 * 61_706);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// When the model cannot be run with the example, its file would be larger than 2 GB, or it cannot be written.
pub fn export(model: &impl FlowModule, example: &Tensor, path: impl AsRef<Path>) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let mut graph = Graph::new(example)?;
    let input = graph.input();
    let (output, shape) = crate::steps::guarded(|| {
        let output = model.flow(&mut graph, &input);
        Ok((output, model.flow(&mut Eager, example)))
    })
    .map_err(|error| error.at("the model cannot be run with the example"))?;
    if output.shape() != shape.size() {
        let error = format!(
            "the graph gives {:?} for the example, the model {:?}",
            output.shape(),
            shape.size()
        );
        return Err(Error::new(Kind::Model, error).hint("write the forward pass only with the steps of `Flow`"));
    }
    let bytes = graph.finish(&output)?;
    if bytes.len() > LARGEST {
        let error = format!("the model has {} bytes, and an ONNX file at most 2 GB", bytes.len());
        return Err(Error::new(Kind::Data, error));
    }
    file::replace(path.as_ref(), |file| Ok(file.write_all(&bytes)?))
}
