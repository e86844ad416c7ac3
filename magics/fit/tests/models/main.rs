//! The models against PyTorch 2.13.0 and torchvision (`make.py`): names, shapes, initial weights and logits.

mod formula;
// The example's own `main` is not called here.
#[path = "../../examples/logits.rs"]
#[allow(dead_code)]
mod logits;

use formula::{NAMES, fill, input, model};
use lightcell::onnx;
use lightcell::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// libtorch's random generator is one for the process: tests take turns. One thread, as where the numbers were made.
fn in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    lightcell::tch::set_num_threads(1);
    guard
}

fn golden() -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/models.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// What the example `logits` makes of weights and an input in files.
fn example(name: &str, weights: &std::path::Path, input: &std::path::Path, output: &std::path::Path) -> Tensor {
    // Of the GPT, heads are not to be seen in the weights.
    let model = if name == "gpt" { "gpt:2" } else { name };
    let paths = [weights, input, output].map(|path| path.display().to_string());
    let args: Vec<String> = std::iter::once(model.to_owned()).chain(paths).collect();
    let said = logits::call(&args).unwrap();
    let y = StateDict::load(output).unwrap();
    let y = y.get("y").unwrap();
    assert_eq!(said, format!("{}: y of shape {:?}", output.display(), y.size()));
    y.shallow_clone()
}

/// The tensor `x` as the only one in a file.
fn save_input(x: &Tensor, path: &std::path::Path) {
    let store = Store::new(Device::Cpu);
    let _ = store.root().buffer("x", x);
    store.save_weights(path).unwrap();
}

#[test]
fn names_and_shapes_are_pytorchs_and_logits_equal() {
    let _turn = in_turn();
    let golden = golden();
    let folder = Folder::new("logits");
    let file = |name: &str| folder.0.join(name);
    for name in NAMES {
        let store = Store::new(Device::Cpu);
        let net = model(name, store.root());
        store.check().unwrap();
        let names: Vec<(String, Vec<i64>)> = serde_json::from_value(golden[name]["names"].clone()).unwrap();
        let ours = store.state_dict().into_iter();
        let ours: Vec<(String, Vec<i64>)> = ours.map(|(name, tensor)| (name, tensor.size())).collect();
        assert_eq!(ours, names, "{name}");
        fill(&store);
        let y = net.forward(&input(name));
        let shape: Vec<i64> = serde_json::from_value(golden[name]["shape"].clone()).unwrap();
        assert_eq!(y.size(), shape, "{name}");
        let theirs: Vec<f64> = serde_json::from_value(golden[name]["y"].clone()).unwrap();
        let y = y.flatten(0, -1).to_kind(Kind::Double);
        let y = Vec::<f64>::try_from(&y.narrow(0, 0, theirs.len() as i64)).unwrap();
        let apart = y.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        let apart = apart.fold(0.0, |a: f64, b| if b > a || b.is_nan() { b } else { a });
        let largest = theirs.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        println!("{name}: logits up to {largest:.3} differ by {apart:e}");
        assert!(apart <= 1e-5, "{name}: {apart:e}");
        // The same from the command line, through files; `y` is what was compared with PyTorch's.
        store.save_weights(file("w.safetensors")).unwrap();
        save_input(&input(name), &file("x.safetensors"));
        let read = example(
            name,
            &file("w.safetensors"),
            &file("x.safetensors"),
            &file("y.safetensors"),
        );
        assert_eq!(read.size(), shape, "{name}");
        let read = Vec::<f64>::try_from(
            &read
                .flatten(0, -1)
                .to_kind(Kind::Double)
                .narrow(0, 0, theirs.len() as i64),
        );
        let apart = read.unwrap().iter().zip(&theirs).fold(0.0, |most: f64, (a, b)| {
            let apart = (a - b).abs();
            if apart > most || apart.is_nan() { apart } else { most }
        });
        assert!(apart <= 1e-5, "{name} from files: {apart:e}");
    }
}

#[test]
fn the_example_says_what_is_wrong_with_its_files() {
    let _turn = in_turn();
    let folder = Folder::new("wrong");
    let file = |name: &str| folder.0.join(name).display().to_string();
    let store = Store::new(Device::Cpu);
    let _net = model("lenet", store.root());
    store.save_weights(file("w.safetensors")).unwrap();
    save_input(&input("lenet"), std::path::Path::new(&file("x.safetensors")));
    let said = |model: &str, weights: &str, input: &str| {
        let args = [model.to_owned(), file(weights), file(input), file("y.safetensors")];
        logits::call(&args).unwrap_err()
    };
    let (code, text) = logits::call(&["lenet".to_owned()]).unwrap_err();
    assert!(code == 2 && text.starts_with("usage: logits MODEL"), "{text}");
    let (code, text) = said("alexnet", "w.safetensors", "x.safetensors");
    assert!(
        code == 1 && text.starts_with("there is no model called alexnet\nhint: lenet, "),
        "{text}"
    );
    let (_, text) = said("resnet18", "w.safetensors", "x.safetensors");
    assert_eq!(text, "the weights of resnet18 have no `fc.weight`");
    let (_, text) = said("lenet", "none.safetensors", "x.safetensors");
    assert!(text.contains("none.safetensors"), "{text}");
    let (_, text) = said("lenet", "w.safetensors", "w.safetensors");
    assert_eq!(text, format!("{} has no tensor `x`", file("w.safetensors")));
    // Names are strict.
    let more = Store::new(Device::Cpu);
    let _net = model("lenet", more.root());
    let _ = more.root().buffer("extra", &Tensor::from(1.0));
    more.save_weights(file("more.safetensors")).unwrap();
    let (_, text) = said("lenet", "more.safetensors", "x.safetensors");
    assert!(text.contains("extra"), "{text}");
    save_input(
        &Tensor::zeros([2, 1, 9, 28], (Kind::Float, Device::Cpu)),
        std::path::Path::new(&file("low.safetensors")),
    );
    let (_, text) = said("lenet", "w.safetensors", "low.safetensors");
    assert!(
        text.starts_with("lenet cannot be run with x of [2, 1, 9, 28]: "),
        "{text}"
    );
}

#[test]
fn the_same_seed_draws_pytorchs_weights() {
    let _turn = in_turn();
    let golden = golden();
    for name in ["lenet", "resnet18", "resnet50", "mobilenet_v2", "vit_b_16"] {
        lightcell::tch::manual_seed(3);
        let store = Store::new(Device::Cpu);
        let _net = model(name, store.root());
        let sums = store.parameters().into_iter().map(|(_, parameter)| {
            let sum = parameter.to_kind(Kind::Double).abs().sum(Kind::Double);
            sum.double_value(&[])
        });
        let (ours, theirs) = (sums.sum::<f64>(), golden[name]["drawn"].as_f64().unwrap());
        assert!((ours / theirs - 1.0).abs() < 1e-9, "{name}: {ours} {theirs}");
    }
}

#[test]
fn a_text_goes_on_as_the_model_says() {
    let _turn = in_turn();
    let store = Store::new(Device::Cpu);
    let formula::Model::Gpt(net) = model("gpt", store.root()) else {
        unreachable!()
    };
    fill(&store);
    let begin = Tensor::from_slice(&[5i64, 9]).view([1, 2]);
    let greedy = lightcell::models::Sampling {
        top_k: Some(1),
        ..Default::default()
    };
    // Longer than the model sees at once.
    let text = net.generate(&begin, 30, greedy).unwrap();
    assert_eq!(text.size(), [1, 32]);
    for at in [2, 10, 20, 31] {
        let seen = text.narrow(1, (at - 16).max(0), at.min(16));
        let likeliest = net.forward(&seen).select(1, -1).argmax(-1, false);
        assert_eq!(text.select(1, at), likeliest, "token {at}");
    }
    lightcell::tch::manual_seed(1);
    let one = net.generate(&begin, 20, Default::default()).unwrap();
    lightcell::tch::manual_seed(1);
    assert_eq!(one, net.generate(&begin, 20, Default::default()).unwrap());
    let said = |tokens: Tensor, sampling| net.generate(&tokens, 1, sampling).unwrap_err().message().to_owned();
    assert_eq!(
        said(Tensor::from_slice(&[65i64]).view([1, 1]), greedy),
        "token 65 is outside of the model's 65 tokens"
    );
    assert!(said(Tensor::from_slice(&[1i64]), greedy).starts_with("the text so far must be [n, time]"));
    let cold = lightcell::models::Sampling {
        temperature: 0.0,
        ..greedy
    };
    assert_eq!(
        said(begin, cold),
        "a temperature must be more than 0, and top_k at least 1"
    );
}

#[test]
fn models_that_cannot_be_made_say_why() {
    let _turn = in_turn();
    let fault = |make: &dyn Fn(Path)| {
        let store = Store::new(Device::Cpu);
        make(store.root());
        store.check().unwrap_err().to_string()
    };
    let small = lightcell::models::VitConfig::new(30, 16).layers(0);
    assert_eq!(
        fault(&|p| drop(small.build(p))),
        "a picture of 30 cannot be divided into patches of 16\nhint: the image size must be a multiple of the patch size"
    );
    let uneven = lightcell::models::GptConfig::new(5, 4).embed(10).heads(3).layers(1);
    assert_eq!(
        fault(&|p| drop(uneven.build(p))),
        "10 numbers in a token cannot be divided among 3 heads\nhint: `embed` must be a multiple of `heads`"
    );
}

#[test]
fn an_export_that_cannot_be_says_why() {
    let _turn = in_turn();
    let store = Store::new(Device::Cpu);
    let net = lightcell::models::lenet(store.root(), 3);
    let path = std::env::temp_dir().join(format!("lightcell-none-{}.onnx", std::process::id()));
    let said = |x: Tensor| onnx::export(&net, &x, &path).unwrap_err().to_string();
    let wrong = said(Tensor::zeros([1, 1, 20, 20], (Kind::Float, Device::Cpu)));
    assert!(
        wrong.starts_with("the model cannot be run with the example: shapes do not fit"),
        "{wrong}"
    );
    let kind = said(Tensor::zeros([1, 1, 28, 28], (Kind::Double, Device::Cpu)));
    assert!(
        kind.starts_with("an example of shape [1, 1, 28, 28] and Kind::Double"),
        "{kind}"
    );
    assert!(!path.exists());
}

/// A folder that is removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("lightcell-models-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `check.py`; gives what it prints.
fn python(what: &str, folder: &std::path::Path) -> String {
    let python = std::env::var_os("LIGHTCELL_TEST_TORCH").expect("LIGHTCELL_TEST_TORCH is a Python with torchvision");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/check.py");
    let out = std::process::Command::new(python)
        .args([script, what])
        .arg(folder)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
#[ignore = "LIGHTCELL_TEST_TORCH is a Python with torch, torchvision, safetensors, onnx and onnxruntime"]
fn random_weights_go_both_ways_and_graphs_run() {
    let _turn = in_turn();
    let folder = Folder::new("torch");
    let file = |name: &str, end: &str| folder.0.join(format!("{name}.{end}"));
    python("make", &folder.0);
    for name in NAMES {
        let xy = StateDict::load(file(name, "xy.safetensors")).unwrap();
        let (x, theirs) = (xy.get("x").unwrap(), xy.get("y").unwrap());
        for end in ["safetensors", "pt"] {
            let store = Store::new(Device::Cpu);
            let net = model(name, store.root());
            store
                .load_state_dict(&StateDict::load(file(name, end)).unwrap())
                .unwrap();
            let apart = (net.forward(x) - theirs).abs().max().double_value(&[]);
            println!("{name}: PyTorch's weights from {end}: logits differ by {apart:e}");
            assert!(apart <= 1e-5, "{name}: {apart:e}");
            let y = example(
                name,
                &file(name, end),
                &file(name, "xy.safetensors"),
                &file(name, "y.safetensors"),
            );
            let apart = (y - theirs).abs().max().double_value(&[]);
            assert!(apart <= 1e-5, "{name} from the command line, {end}: {apart:e}");
        }
        // Other weights than those, so that nothing is compared with itself.
        let store = Store::new(Device::Cpu);
        let net = model(name, store.root());
        store
            .load_state_dict(&StateDict::load(file(name, "pt")).unwrap())
            .unwrap();
        {
            let _guard = lightcell::tch::no_grad_guard();
            for (_, parameter) in store.parameters() {
                let noise = parameter.randn_like() * 0.01;
                let _ = parameter.shallow_clone().g_add_(&noise);
            }
        }
        let xy = Store::new(Device::Cpu);
        let _ = xy.root().buffer("x", x);
        let _ = xy.root().buffer("y", &net.forward(x));
        xy.save_weights(file(name, "ours.xy.safetensors")).unwrap();
        store.save_weights(file(name, "ours.safetensors")).unwrap();
        store.save_weights(file(name, "ours.pt")).unwrap();
        net.export(x, &file(name, "ours.onnx")).unwrap();
    }
    let seen: Value = serde_json::from_str(&python("verify", &folder.0)).unwrap();
    for name in NAMES {
        println!("{name}: ours in PyTorch and onnxruntime: {}", seen[name]);
        for (kind, apart) in seen[name].as_object().unwrap() {
            let limit = if kind.starts_with("onnx") { 1e-4 } else { 1e-5 };
            assert!(
                apart.as_f64().is_some_and(|apart| apart <= limit),
                "{name}: {kind} {apart}"
            );
        }
    }
}
