//! Models, their inputs, and weights that are made from their names, as `make.py` makes them.

use lightcell::models::*;
use lightcell::prelude::*;
use lightcell::{FlowModule, onnx};

/// Any of the models.
pub enum Model {
    LeNet(LeNet),
    ResNet(ResNet),
    MobileNetV2(MobileNetV2),
    Vit(VisionTransformer),
    UNet(UNet),
    Tagger(LstmTagger),
    Gpt(Gpt),
}

/// The same for each of the models.
macro_rules! each {
    ($model:expr, $net:ident => $code:expr) => {
        match $model {
            Model::LeNet($net) => $code,
            Model::ResNet($net) => $code,
            Model::MobileNetV2($net) => $code,
            Model::Vit($net) => $code,
            Model::UNet($net) => $code,
            Model::Tagger($net) => $code,
            Model::Gpt($net) => $code,
        }
    };
}

impl Model {
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let _guard = lightcell::tch::no_grad_guard();
        each!(self, net => net.forward(x))
    }

    #[allow(dead_code)]
    pub fn export(&self, example: &Tensor, path: &std::path::Path) -> Result<()> {
        each!(self, net => exported(net, example, path))
    }
}

fn exported(net: &impl FlowModule, example: &Tensor, path: &std::path::Path) -> Result<()> {
    onnx::export(net, example, path)
}

pub const NAMES: [&str; 9] = [
    "lenet",
    "resnet18",
    "resnet34",
    "resnet50",
    "mobilenet_v2",
    "vit_b_16",
    "unet",
    "lstm_tagger",
    "gpt",
];

pub fn model(name: &str, p: Path) -> Model {
    match name {
        "lenet" => Model::LeNet(lenet(p, 10)),
        "resnet18" => Model::ResNet(resnet18(p, 10)),
        "resnet34" => Model::ResNet(resnet34(p, 10)),
        "resnet50" => Model::ResNet(resnet50(p, 10)),
        "mobilenet_v2" => Model::MobileNetV2(mobilenet_v2(p, 10)),
        "vit_b_16" => Model::Vit(vit_b_16(p, 10)),
        "unet" => Model::UNet(unet(p, 3, 2)),
        "lstm_tagger" => Model::Tagger(lstm_tagger(p, 50, 16, 12, 5)),
        "gpt" => Model::Gpt(GptConfig::new(65, 16).layers(2).heads(2).embed(32).build(p)),
        other => panic!("{other}"),
    }
}

fn scrambled(name: &str, count: usize) -> impl Iterator<Item = u32> {
    let seed = name.bytes().fold(2_166_136_261u32, |seed, byte| {
        (seed ^ u32::from(byte)).wrapping_mul(16_777_619)
    });
    (0..count as u32).map(move |at| {
        let mut x = at.wrapping_add(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    })
}

/// Between -1 and 1, changed by a factor and a summand.
fn numbers(name: &str, shape: &[i64], factor: f64, summand: f64) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let numbers =
        scrambled(name, count).map(|n| (summand + factor * (f64::from(n) / f64::from(1u32 << 31) - 1.0)) as f32);
    Tensor::from_slice(&numbers.collect::<Vec<f32>>()).view(shape)
}

fn value(name: &str, tensor: &Tensor) -> Tensor {
    let shape = tensor.size();
    let (factor, summand) = match name.rsplit('.').next().unwrap_or(name) {
        "num_batches_tracked" => return Tensor::from(7i64),
        "running_var" => (0.4, 1.0),
        "running_mean" => (0.2, 0.0),
        "weight" if shape.len() == 1 => (0.3, 1.0),
        _ if shape.len() < 2 => (0.1, 0.0),
        _ => ((3.0 / (tensor.numel() as f64 / shape[0] as f64)).sqrt(), 0.0),
    };
    numbers(name, &shape, factor, summand)
}

/// Gives all parameters and buffers their values.
pub fn fill(store: &Store) {
    let _guard = lightcell::tch::no_grad_guard();
    for (name, mut tensor) in store.state_dict() {
        tensor.copy_(&value(&name, &tensor));
    }
}

pub fn input(name: &str) -> Tensor {
    let shape: &[i64] = match name {
        "lenet" => &[2, 1, 28, 28],
        "vit_b_16" => &[1, 3, 224, 224],
        "unet" => &[1, 3, 16, 24],
        "lstm_tagger" => &[2, 7],
        "gpt" => &[2, 16],
        _ => &[1, 3, 64, 64],
    };
    let tokens = match name {
        "lstm_tagger" => 50,
        "gpt" => 65,
        _ => return numbers("x", shape, 1.0, 0.0),
    };
    let count = shape.iter().product::<i64>() as usize;
    let all: Vec<i64> = scrambled("x", count).map(|n| i64::from(n % tokens)).collect();
    Tensor::from_slice(&all).view(shape)
}
