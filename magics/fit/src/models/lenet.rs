//! LeNet-5 with relu and max pooling, as it is usually written today (LeCun et al. 1998).

use crate::flow::{Flow, FlowModule};
use crate::layers::{Conv2d, Linear, MaxPool2d, conv2d, linear, max_pool2d};
use crate::path::Path;

/// A small network for small grey pictures.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct LeNet {
    pub conv1: Conv2d,
    pub conv2: Conv2d,
    pub fc1: Linear,
    pub fc2: Linear,
    pub fc3: Linear,
    pool: MaxPool2d,
}

/// Makes a [`LeNet`]: two convolutions (6 and 16 channels, 5 × 5), three linear layers (120, 84, classes). Shape:
/// `[n, 1, 28, 28]` to `[n, num_classes]`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::lenet;
/// let store = Store::new(Device::Cpu);
/// let net = lenet(store.root(), 10);
/// assert_eq!(net.forward(&Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu))).size(), [2, 10]);
/// ```
pub fn lenet(path: Path, num_classes: i64) -> LeNet {
    path.module("LeNet");
    LeNet {
        conv1: conv2d(&path / "conv1", 1, 6, 5).padding(2),
        conv2: conv2d(&path / "conv2", 6, 16, 5),
        fc1: linear(&path / "fc1", 400, 120),
        fc2: linear(&path / "fc2", 120, 84),
        fc3: linear(&path / "fc3", 84, num_classes),
        pool: max_pool2d(2),
    }
}

impl FlowModule for LeNet {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let mut x = f.same(x);
        for conv in [&self.conv1, &self.conv2] {
            x = f.conv2d(conv, &x);
            x = f.relu(&x);
            x = f.max_pool2d(&self.pool, &x);
        }
        x = f.flatten(&x);
        for fc in [&self.fc1, &self.fc2] {
            x = f.linear(fc, &x);
            x = f.relu(&x);
        }
        f.linear(&self.fc3, &x)
    }
}
