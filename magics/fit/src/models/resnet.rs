//! Residual networks (He et al. 2015), with torchvision's names and initialisation.

use crate::flow::{Flow, FlowModule};
use crate::layers::init;
use crate::layers::{BatchNorm2d, Conv2d, Linear, MaxPool2d, batch_norm2d, linear, max_pool2d};
use crate::path::Path;

/// A residual network.
#[derive(Debug)]
pub struct ResNet {
    /// 7 × 7, to 64 channels.
    pub conv1: Conv2d,
    /// After it.
    pub bn1: BatchNorm2d,
    layers: [Vec<Block>; 4],
    /// To the classes.
    pub fc: Linear,
    pool: MaxPool2d,
}

/// Convolutions with a way around them.
#[derive(Debug)]
struct Block {
    convs: Vec<(Conv2d, BatchNorm2d)>,
    downsample: Option<(Conv2d, BatchNorm2d)>,
}

/// Makes a [`ResNet`] of 18 layers (`torchvision.models.resnet18`). Shape: `[n, 3, h, w]` to `[n, num_classes]`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::resnet18;
/// let store = Store::new(Device::Cpu);
/// let net = resnet18(store.root() / "backbone", 1000);
/// assert_eq!(net.fc.weight.size(), [1000, 512]);
/// ```
pub fn resnet18(path: Path, num_classes: i64) -> ResNet {
    resnet(&path, [2, 2, 2, 2], false, num_classes)
}

/// Makes a [`ResNet`] of 34 layers (`torchvision.models.resnet34`). Shape: `[n, 3, h, w]` to `[n, num_classes]`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::resnet34;
/// let store = Store::new(Device::Cpu);
/// assert_eq!(resnet34(store.root(), 1000).fc.weight.size(), [1000, 512]);
/// ```
pub fn resnet34(path: Path, num_classes: i64) -> ResNet {
    resnet(&path, [3, 4, 6, 3], false, num_classes)
}

/// Makes a [`ResNet`] of 50 layers (`torchvision.models.resnet50`). Shape: `[n, 3, h, w]` to `[n, num_classes]`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::resnet50;
/// let store = Store::new(Device::Cpu);
/// assert_eq!(resnet50(store.root(), 1000).fc.weight.size(), [1000, 2048]);
/// ```
pub fn resnet50(path: Path, num_classes: i64) -> ResNet {
    resnet(&path, [3, 4, 6, 3], true, num_classes)
}

fn conv(path: Path, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Conv2d {
    let config = Conv2d::config(inputs, outputs, kernel).bias(false);
    config.build(path).stride(stride).padding(kernel / 2)
}

fn resnet(path: &Path, blocks: [i64; 4], bottleneck: bool, num_classes: i64) -> ResNet {
    path.module("ResNet");
    let expansion = if bottleneck { 4 } else { 1 };
    let conv1 = conv(path / "conv1", 3, 64, 7, 2);
    let bn1 = batch_norm2d(path / "bn1", 64);
    let mut inputs = 64;
    let mut width = 32;
    let mut number = 0;
    let layers = blocks.map(|count| {
        (width, number) = (width * 2, number + 1);
        let path = path / format!("layer{number}");
        path.module("Sequential");
        let mut layer = Vec::new();
        for at in 0..count {
            let stride = if at == 0 && number > 1 { 2 } else { 1 };
            layer.push(block(&path / at, inputs, width, expansion, stride));
            inputs = width * expansion;
        }
        layer
    });
    let net = ResNet {
        conv1,
        bn1,
        layers,
        fc: linear(path / "fc", 512 * expansion, num_classes),
        pool: max_pool2d(3).stride(2).padding(1),
    };
    let all = net.layers.iter().flatten();
    let inner = all.flat_map(|block| block.convs.iter().chain(&block.downsample).map(|(conv, _)| conv));
    for conv in std::iter::once(&net.conv1).chain(inner) {
        init::redraw(&conv.weight, &init::kaiming_fan_out(&conv.weight));
    }
    net
}

fn block(path: Path, inputs: i64, width: i64, expansion: i64, stride: i64) -> Block {
    let outputs = width * expansion;
    let bottleneck = expansion > 1;
    path.module(if bottleneck { "Bottleneck" } else { "BasicBlock" });
    // It is made first, and so drawn first.
    let downsample = (stride != 1 || inputs != outputs).then(|| {
        let path = &path / "downsample";
        path.module("Sequential");
        (
            conv(&path / 0, inputs, outputs, 1, stride),
            batch_norm2d(&path / 1, outputs),
        )
    });
    let sizes: &[(i64, i64, i64, i64)] = if bottleneck {
        &[(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
    } else {
        &[(inputs, width, 3, stride), (width, width, 3, 1)]
    };
    let convs = sizes.iter().enumerate().map(|(at, (inputs, outputs, kernel, stride))| {
        (
            conv(&path / format!("conv{}", at + 1), *inputs, *outputs, *kernel, *stride),
            batch_norm2d(&path / format!("bn{}", at + 1), *outputs),
        )
    });
    Block {
        convs: convs.collect(),
        downsample,
    }
}

impl FlowModule for Block {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let mut out = f.same(x);
        for (at, (conv, norm)) in self.convs.iter().enumerate() {
            if at > 0 {
                out = f.relu(&out);
            }
            out = f.conv2d(conv, &out);
            out = f.batch_norm2d(norm, &out);
        }
        let around = match &self.downsample {
            Some((conv, norm)) => {
                let around = f.conv2d(conv, x);
                f.batch_norm2d(norm, &around)
            }
            None => f.same(x),
        };
        let out = f.add(&out, &around);
        f.relu(&out)
    }
}

impl ResNet {
    /// What goes into the last layer: `[n, 512]`, or `[n, 2048]` of ResNet-50.
    pub fn features<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let x = f.conv2d(&self.conv1, x);
        let x = f.batch_norm2d(&self.bn1, &x);
        let x = f.relu(&x);
        let mut x = f.max_pool2d(&self.pool, &x);
        for block in self.layers.iter().flatten() {
            x = block.flow(f, &x);
        }
        f.mean_places(&x)
    }
}

impl FlowModule for ResNet {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let x = self.features(f, x);
        f.linear(&self.fc, &x)
    }
}
