//! A small U-Net (Ronneberger et al. 2015) with batch normalisation: a class for each place of a picture.

use crate::flow::{Flow, FlowModule};
use crate::layers::{
    BatchNorm2d, Conv2d, ConvTranspose2d, MaxPool2d, batch_norm2d, conv_transpose2d, conv2d, max_pool2d,
};
use crate::path::Path;

/// How many times the picture is halved.
const DEPTH: i64 = 3;
/// Channels at its full size.
const WIDTH: i64 = 16;

/// Down to an eighth of the size and up again, with ways across.
#[derive(Debug)]
pub struct UNet {
    down: Vec<Double>,
    middle: Double,
    up: Vec<(ConvTranspose2d, Double)>,
    /// To the classes.
    pub head: Conv2d,
    pool: MaxPool2d,
}

/// Two convolutions of 3 × 3, each normalised, with relu.
#[derive(Debug)]
struct Double([(Conv2d, BatchNorm2d); 2]);

fn double(path: &Path, inputs: i64, outputs: i64) -> Double {
    path.module("DoubleConv");
    let part = |number: i64, inputs: i64| {
        let conv = Conv2d::config(inputs, outputs, 3).bias(false);
        (
            conv.build(path / format!("conv{number}")).padding(1),
            batch_norm2d(path / format!("bn{number}"), outputs),
        )
    };
    Double([part(1, inputs), part(2, outputs)])
}

/// Makes a [`UNet`] from `channels` to `num_classes`: 16, 32, 64 and 128 channels. Shape: `[n, channels, h, w]`, of sizes
/// that are multiples of 8, to `[n, num_classes, h, w]`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::unet;
/// let store = Store::new(Device::Cpu);
/// let net = unet(store.root(), 3, 2);
/// assert_eq!(net.forward(&Tensor::zeros([1, 3, 32, 24], (Kind::Float, Device::Cpu))).size(), [1, 2, 32, 24]);
/// ```
pub fn unet(path: Path, channels: i64, num_classes: i64) -> UNet {
    path.module("UNet");
    let (downs, ups) = (&path / "down", &path / "up");
    downs.module("ModuleList");
    let mut inputs = channels;
    let mut width = WIDTH;
    let mut down = Vec::new();
    for at in 0..DEPTH {
        down.push(double(&(&downs / at), inputs, width));
        (inputs, width) = (width, width * 2);
    }
    let middle = double(&(&path / "middle"), inputs, width);
    ups.module("ModuleList");
    let mut up = Vec::new();
    for at in 0..DEPTH {
        let path = &ups / at;
        path.module("Up");
        let half = width / 2;
        up.push((
            conv_transpose2d(&path / "up", width, half, 2).stride(2),
            double(&(&path / "conv"), width, half),
        ));
        width = half;
    }
    UNet {
        down,
        middle,
        up,
        head: conv2d(&path / "head", WIDTH, num_classes, 1),
        pool: max_pool2d(2),
    }
}

impl FlowModule for Double {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let mut x = f.same(x);
        for (conv, norm) in &self.0 {
            x = f.conv2d(conv, &x);
            x = f.batch_norm2d(norm, &x);
            x = f.relu(&x);
        }
        x
    }
}

impl FlowModule for UNet {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let mut x = f.same(x);
        let mut across = Vec::new();
        for part in &self.down {
            let out = part.flow(f, &x);
            x = f.max_pool2d(&self.pool, &out);
            across.push(out);
        }
        x = self.middle.flow(f, &x);
        for ((up, part), across) in self.up.iter().zip(across.iter().rev()) {
            let larger = f.conv_transpose2d(up, &x);
            let both = f.cat(across, &larger, 1);
            x = part.flow(f, &both);
        }
        f.conv2d(&self.head, &x)
    }
}
