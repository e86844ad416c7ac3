//! What a known model gives for an input, with weights from a file:
//!
//!     cargo run --release -p lightcell --example logits -- MODEL WEIGHTS.safetensors INPUT.safetensors OUTPUT.safetensors
//!
//! MODEL is `lenet`, `resnet18`, `resnet34`, `resnet50`, `mobilenet_v2`, `vit_b_16`, `unet`, `lstm_tagger` or `gpt` (`gpt:6` of six
//! heads; without a number, of heads of 32 numbers). Names of the weights are strict, and their shapes say how many classes there are. The input is the tensor
//! `x`, the output `y`. WEIGHTS may also be a `.pt` or `.ckpt`.

use lightcell::models::*;
use lightcell::prelude::*;
use lightcell::tch::nn::Module;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    // What goes wrong is said below.
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    match call(&args) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err((code, text)) => {
            eprintln!("{text}");
            ExitCode::from(code)
        }
    }
}

/// What is printed, or the exit status and what is said.
pub fn call(args: &[String]) -> std::result::Result<String, (u8, String)> {
    let [model, weights, input, output] = args else {
        let usage = "usage: logits MODEL WEIGHTS.safetensors INPUT.safetensors OUTPUT.safetensors";
        return Err((2, usage.to_owned()));
    };
    let shape = run(model, weights, input, output).map_err(|error| (1, error.to_string()))?;
    Ok(format!("{output}: y of shape {shape:?}"))
}

fn run(model: &str, weights: &str, input: &str, output: &str) -> Result<Vec<i64>> {
    let weights = StateDict::load(weights)?;
    let inputs = StateDict::load(input)?;
    let x = inputs
        .get("x")
        .ok_or_else(|| Error::new(lightcell::ErrorKind::Data, format!("{input} has no tensor `x`")))?;
    let store = Store::new(Device::Cpu);
    let net = build(model, store.root(), &weights)?;
    store.check()?;
    store.load_state_dict(&weights)?;
    let _guard = lightcell::tch::no_grad_guard();
    let y = forward(&*net, x).map_err(|error| error.at(&format!("{model} cannot be run with x of {:?}", x.size())))?;
    let shape = y.size();
    let out = Store::new(Device::Cpu);
    let _ = out.root().buffer("y", &y);
    out.save_weights(output)?;
    Ok(shape)
}

/// Layers panic where libtorch refuses an input.
fn forward(net: &dyn Module, x: &Tensor) -> Result<Tensor> {
    catch_unwind(AssertUnwindSafe(|| net.forward(x))).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        Error::from_torch(text.unwrap_or("the model failed"))
    })
}

fn build(model: &str, p: Path, weights: &StateDict) -> Result<Box<dyn Module>> {
    let size = |name: &str, dim: usize| {
        let size = weights.get(name).and_then(|tensor| tensor.size().get(dim).copied());
        size.ok_or_else(|| {
            Error::new(
                lightcell::ErrorKind::Data,
                format!("the weights of {model} have no `{name}`"),
            )
        })
    };
    let (model, heads) = match model.split_once(':') {
        Some((model, heads)) => (model, heads.parse::<i64>().ok().filter(|heads| *heads > 0)),
        None => (model, None),
    };
    Ok(match model {
        "lenet" => Box::new(lenet(p, size("fc3.weight", 0)?)),
        "resnet18" => Box::new(resnet18(p, size("fc.weight", 0)?)),
        "resnet34" => Box::new(resnet34(p, size("fc.weight", 0)?)),
        "resnet50" => Box::new(resnet50(p, size("fc.weight", 0)?)),
        "mobilenet_v2" => Box::new(mobilenet_v2(p, size("classifier.1.weight", 0)?)),
        "vit_b_16" => Box::new(vit_b_16(p, size("heads.head.weight", 0)?)),
        "unet" => Box::new(unet(p, size("down.0.conv1.weight", 1)?, size("head.weight", 0)?)),
        "lstm_tagger" => Box::new(lstm_tagger(
            p,
            size("word_embeddings.weight", 0)?,
            size("word_embeddings.weight", 1)?,
            size("lstm.weight_hh_l0", 1)?,
            size("hidden2tag.weight", 0)?,
        )),
        "gpt" => {
            let embed = size("transformer.wte.weight", 1)?;
            let config = GptConfig::new(size("transformer.wte.weight", 0)?, size("transformer.wpe.weight", 0)?);
            let layers = (0..).take_while(|at| weights.get(&format!("transformer.h.{at}.ln_1.weight")).is_some());
            let config = config
                .layers(layers.count())
                .embed(embed)
                .heads(heads.unwrap_or((embed / 32).max(1)));
            Box::new(config.build(p))
        }
        other => {
            let error = Error::new(
                lightcell::ErrorKind::Option,
                format!("there is no model called {other}"),
            );
            return Err(
                error.hint("lenet, resnet18, resnet34, resnet50, mobilenet_v2, vit_b_16, unet, lstm_tagger or gpt")
            );
        }
    })
}
