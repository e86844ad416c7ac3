//! MobileNetV2 (Sandler et al. 2018), with torchvision's names and initialisation.

use crate::flow::{Flow, FlowModule};
use crate::layers::init;
use crate::layers::{BatchNorm2d, Conv2d, Dropout, Linear, batch_norm2d, dropout, linear};
use crate::path::Path;
use tch::Tensor;

/// A network for small devices.
#[derive(Debug)]
pub struct MobileNetV2 {
    features: Vec<Part>,
    dropout: Dropout,
    /// To the classes.
    pub classifier: Linear,
}

/// Convolutions one after another, with a way around them or without.
#[derive(Debug)]
struct Part {
    /// Whether relu6 follows.
    convs: Vec<(Conv2d, BatchNorm2d, bool)>,
    around: bool,
}

/// How many times wider inside, channels, how many blocks, and the step of the first of them.
const BLOCKS: [(i64, i64, i64, i64); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Makes a [`MobileNetV2`] (`torchvision.models.mobilenet_v2`). Shape: `[n, 3, h, w]` to `[n, num_classes]`.
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::models::mobilenet_v2;
/// let store = Store::new(Device::Cpu);
/// let net = mobilenet_v2(store.root(), 10);
/// assert_eq!(net.forward(&Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu))).size(), [1, 10]);
/// ```
pub fn mobilenet_v2(path: Path, num_classes: i64) -> MobileNetV2 {
    path.module("MobileNetV2");
    let places = &path / "features";
    places.module("Sequential");
    let single = |at: usize, inputs: i64, outputs: i64, kernel: i64, stride: i64| Part {
        convs: vec![conv(&(&places / at), [inputs, outputs], kernel, stride, 1)],
        around: false,
    };
    let mut features = vec![single(0, 3, 32, 3, 2)];
    let mut inputs = 32;
    for (expansion, outputs, count, first) in BLOCKS {
        for at in 0..count {
            let stride = if at == 0 { first } else { 1 };
            let path = &places / features.len();
            features.push(inverted_residual(&path, inputs, outputs, expansion, stride));
            inputs = outputs;
        }
    }
    features.push(single(features.len(), inputs, 1280, 1, 1));
    let classifier = &path / "classifier";
    classifier.module("Sequential");
    let net = MobileNetV2 {
        features,
        dropout: dropout(&(&classifier / 0), 0.2),
        classifier: linear(classifier / 1, 1280, num_classes),
    };
    for (conv, ..) in net.features.iter().flat_map(|part| &part.convs) {
        init::redraw(&conv.weight, &init::kaiming_fan_out(&conv.weight));
    }
    init::redraw(&net.classifier.weight, &init::normal_as(&net.classifier.weight, 0.01));
    if let Some(bias) = &net.classifier.bias {
        init::redraw(bias, &Tensor::zeros_like(bias));
    }
    net
}

/// A convolution with its normalisation, and relu6 after it.
fn conv(
    path: &Path,
    [inputs, outputs]: [i64; 2],
    kernel: i64,
    stride: i64,
    groups: i64,
) -> (Conv2d, BatchNorm2d, bool) {
    path.module("Conv2dNormActivation");
    let config = Conv2d::config(inputs, outputs, kernel).groups(groups).bias(false);
    let conv = config.build(path / 0).stride(stride).padding(kernel / 2);
    (conv, batch_norm2d(path / 1, outputs), true)
}

fn inverted_residual(path: &Path, inputs: i64, outputs: i64, expansion: i64, stride: i64) -> Part {
    path.module("InvertedResidual");
    let path = path / "conv";
    path.module("Sequential");
    let hidden = inputs * expansion;
    let mut convs = Vec::new();
    if expansion != 1 {
        convs.push(conv(&(&path / 0), [inputs, hidden], 1, 1, 1));
    }
    convs.push(conv(&(&path / convs.len()), [hidden, hidden], 3, stride, hidden));
    let at = convs.len();
    let last = Conv2d::config(hidden, outputs, 1).bias(false).build(&path / at);
    convs.push((last, batch_norm2d(&path / (at + 1), outputs), false));
    Part {
        convs,
        around: stride == 1 && inputs == outputs,
    }
}

impl FlowModule for MobileNetV2 {
    fn flow<F: Flow>(&self, f: &mut F, x: &F::Value) -> F::Value {
        let mut x = f.same(x);
        for part in &self.features {
            let mut out = f.same(&x);
            for (conv, norm, active) in &part.convs {
                out = f.conv2d(conv, &out);
                out = f.batch_norm2d(norm, &out);
                if *active {
                    out = f.relu6(&out);
                }
            }
            x = if part.around { f.add(&x, &out) } else { out };
        }
        let x = f.mean_places(&x);
        let x = f.dropout(&self.dropout, &x);
        f.linear(&self.classifier, &x)
    }
}
