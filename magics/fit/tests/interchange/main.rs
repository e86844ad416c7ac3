//! Row 14 of the list of oracles: checkpoints of PyTorch Lightning 2.6.1 (`make.py`), read here; and what we write, read by
//! Lightning where there is a Python with it (`LIGHTCELL_TEST_TORCH`; these tests are ignored otherwise).

use lightcell::prelude::*;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

const OPTIMIZERS: [&str; 5] = ["sgd", "adam", "adamw", "rmsprop", "adagrad"];

/// libtorch's random generator is one for the process: tests take turns. One thread, as where the numbers were made.
fn in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    lightcell::tch::set_num_threads(1);
    guard
}

lightcell::hparams! { Hp { hidden: i64 = 32, optimizer: String = "adam".to_owned() } }

struct Net {
    l1: Linear,
    bn: BatchNorm1d,
    l2: Linear,
}

impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);

    fn new(p: &Path, hp: &Hp) -> Net {
        Net {
            l1: linear(p / "l1", 20, hp.hidden),
            bn: batch_norm1d(p / "bn", hp.hidden),
            l2: linear(p / "l2", hp.hidden, 4),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.l2.forward(&self.bn.forward(&self.l1.forward(x)).relu())
    }
    fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        Ok(self.forward(x).cross_entropy_for_logits(y))
    }
    fn configure_optimizers(&self, hp: &Hp) -> Optim {
        match hp.optimizer.as_str() {
            "sgd" => sgd(0.05, 0.9),
            "adam" => adam(1e-3),
            "adamw" => adamw(1e-2).amsgrad(),
            "rmsprop" => rmsprop(1e-3).momentum(0.9).centered(),
            "adagrad" => adagrad(0.05),
            "groups" => adam(1e-3).group(ParamGroup::new("l2.*").lr(1e-2)),
            other => panic!("{other}"),
        }
    }
}

struct Samples;

impl DataModule for Samples {
    type Batch = (Tensor, Tensor);
    fn train_dataloader(&self) -> DataLoader<Self::Batch> {
        let (x, y) = samples();
        DataLoader::new(TensorDataset::new(x, y).unwrap()).batch_size(16)
    }
}

fn samples() -> (Tensor, Tensor) {
    let cpu = (Kind::Float, Device::Cpu);
    lightcell::tch::manual_seed(7);
    let x = Tensor::randn([256, 20], cpu);
    let y = x.matmul(&Tensor::randn([20, 4], cpu)).argmax(1, false);
    (x, y)
}

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "interchange", name]
        .iter()
        .collect()
}

fn golden() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file("golden.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

fn apart(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |a: f64, b| if b > a || b.is_nan() { b } else { a })
}

fn logits(net: &Net) -> Vec<f64> {
    let _guard = lightcell::tch::no_grad_guard();
    let y = net.forward(&samples().0.narrow(0, 0, 3)).flatten(0, -1);
    Vec::<f64>::try_from(&y.to_kind(Kind::Double)).unwrap()
}

fn hp(optimizer: &str) -> Hp {
    Hp {
        hidden: 8,
        optimizer: optimizer.to_owned(),
    }
}

fn trainer(epochs: u64) -> Trainer {
    Trainer::new().accelerator("cpu").seed(42).max_epochs(epochs)
}

/// A file that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("lightcell-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn oracle_14_a_run_of_lightning_goes_on_here() {
    let _turn = in_turn();
    let golden = golden();
    for name in OPTIMIZERS {
        let path = file(&format!("{name}.ckpt"));
        let loaded = Net::load_from_checkpoint(&path).unwrap();
        assert_eq!(loaded.hparams, hp(name));
        let at = apart(&logits(&loaded.model), &numbers(&golden[name]["logits"]));
        let fit = trainer(3).ckpt_path(&path).fit::<Net, _>(&hp(name), &Samples).unwrap();
        let theirs = numbers(&golden[name]["next"]);
        let losses = apart(&fit.step_losses, &theirs);
        println!(
            "{name}: logits differ by {at:e}, the next {} losses by {losses:e}",
            theirs.len()
        );
        assert!(at <= 1e-5 && losses <= 1e-6, "{name}: {at:e}, {losses:e}");
        assert_eq!(
            format!("{fit:?}").split(": ").nth(1).map(|s| s.contains("48 steps")),
            Some(true),
            "{fit:?}"
        );
    }
}

#[test]
fn a_checkpoint_of_lightnings_callback_counts_its_epoch() {
    let _turn = in_turn();
    let fit = trainer(3)
        .ckpt_path(file("callback.ckpt"))
        .fit::<Net, _>(&hp("adam"), &Samples)
        .unwrap();
    assert_eq!((fit.step_losses.len(), fit.history.len()), (16, 1));
    assert_eq!(fit.history[0].epoch, 2);
}

#[test]
fn a_state_dict_of_pytorch_is_loaded_by_name() {
    let _turn = in_turn();
    let mut net = Net::build(hp("adam")).unwrap();
    net.load_weights(file("weights.pt")).unwrap();
    let weights = StateDict::load(file("weights.pt")).unwrap();
    assert_eq!(weights.len(), 9);
    assert_eq!(&net.model.l1.weight, weights.get("l1.weight").unwrap());
    assert_eq!(net.model.bn.num_batches_tracked.int64_value(&[]), 32);
    // Of another size: all that does not fit is said, and nothing is changed.
    let mut other = Net::build(Hp::default()).unwrap();
    let before = other.model.l2.bias.as_ref().unwrap().copy();
    let error = other.load_weights(file("weights.pt")).unwrap_err();
    assert!(
        error.message().contains(
            "weights.pt does not fit: of another shape: bn.bias ([8] in the file, [32] in the model), bn.running_mean"
        ),
        "{error}"
    );
    assert_eq!(other.model.l2.bias.as_ref().unwrap(), &before);
    // A new last layer keeps its own weights.
    let mut net = Net::build(hp("adam")).unwrap();
    let head = net.model.l2.weight.copy();
    net.load_weights_except(file("weights.pt"), "l2.*").unwrap();
    assert_eq!(&net.model.l2.weight, &head);
    assert_eq!(&net.model.l1.weight, weights.get("l1.weight").unwrap());
}

#[test]
fn what_is_written_for_pytorch_is_read_here_as_it_was() {
    let _turn = in_turn();
    let fit = trainer(2).fit::<Net, _>(&hp("adamw"), &Samples).unwrap();
    for (name, whole) in [("a.pt", false), ("a.safetensors", false), ("a.ckpt", true)] {
        let scratch = Scratch::new(name);
        match whole {
            true => fit.save_as_lightning(&scratch.0).unwrap(),
            false => fit.save_weights(&scratch.0).unwrap(),
        }
        let loaded = Net::load_from_checkpoint(&scratch.0);
        let loaded = if whole {
            let loaded = loaded.unwrap();
            assert_eq!(loaded.hparams, hp("adamw"));
            loaded
        } else {
            let mut loaded = Net::build(hp("adamw")).unwrap();
            loaded.load_weights(&scratch.0).unwrap();
            loaded
        };
        assert_eq!(logits(&loaded.model), logits(&fit.model), "{name}");
        if whole {
            // Bit for bit as the run itself goes on.
            let mut straight = trainer(3).fit::<Net, _>(&hp("adamw"), &Samples).unwrap();
            let on = trainer(3)
                .ckpt_path(&scratch.0)
                .fit::<Net, _>(&hp("adamw"), &Samples)
                .unwrap();
            assert_eq!(on.step_losses, straight.step_losses.split_off(32));
        }
    }
}

#[test]
fn tensors_of_all_kinds_go_round() {
    let _turn = in_turn();
    let scratch = Scratch::new("kinds.pt");
    let base = Tensor::arange(12, (Kind::Float, Device::Cpu));
    let mut tensors: Vec<(String, Tensor)> = [
        Kind::Double,
        Kind::Float,
        Kind::Half,
        Kind::BFloat16,
        Kind::Int64,
        Kind::Int,
        Kind::Int16,
        Kind::Int8,
        Kind::Uint8,
        Kind::Bool,
        Kind::ComplexFloat,
        Kind::ComplexDouble,
        Kind::Float8e4m3fn,
        Kind::Float8e5m2,
    ]
    .into_iter()
    .map(|kind| (format!("{kind:?}"), base.to_kind(kind)))
    .collect();
    let named = |name: &str, tensor: Tensor| (name.to_owned(), tensor);
    tensors.push(named("scalar", Tensor::from(7i64)));
    tensors.push(named("empty", Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))));
    tensors.push(named("turned", base.view([3, 4]).tr()));
    tensors.push(named("part", base.narrow(0, 5, 4)));
    tensors.push(named("same", base.shallow_clone()));
    tensors.push(named("again", base.shallow_clone()));
    let store = Store::new(Device::Cpu);
    for (name, tensor) in &tensors {
        let _ = store.root().buffer(name, tensor);
    }
    store.save_weights(&scratch.0).unwrap();
    let back = StateDict::load(&scratch.0).unwrap();
    assert_eq!(back.len(), tensors.len());
    for (name, tensor) in &tensors {
        let read = back.get(name).unwrap();
        assert_eq!((read.kind(), read.size()), (tensor.kind(), tensor.size()), "{name}");
        let bytes = |tensor: &Tensor| {
            let tensor = tensor.contiguous();
            let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            tensor.copy_data_u8(&mut bytes, tensor.numel());
            bytes
        };
        assert_eq!(bytes(read), bytes(tensor), "{name}");
    }
    // What shared its numbers shares them again.
    assert_eq!(
        back.get("same").unwrap().data_ptr(),
        back.get("again").unwrap().data_ptr()
    );
}

#[test]
fn what_does_not_fit_is_said() {
    let _turn = in_turn();
    let said = |trainer: Trainer, hp: &Hp| {
        let error = trainer.fit::<Net, _>(hp, &Samples).unwrap_err().to_string();
        error.replace(&*file("").to_string_lossy(), "")
    };
    let theirs = |name: &str| trainer(3).ckpt_path(file(name));
    assert_eq!(
        said(theirs("adam.ckpt"), &hp("groups")),
        "adam.ckpt does not fit: its optimizer has groups of 6 parameters, and ours of 4 and 2\nhint: write the optimizer with the same parameter groups"
    );
    let other = said(theirs("sgd.ckpt"), &hp("adam"));
    assert!(other.starts_with("sgd.ckpt does not fit: "), "{other}");
    let none = said(theirs("weights.pt"), &hp("adam"));
    assert_eq!(
        none,
        "weights.pt holds no run of Lightning's\nhint: `fit.load_weights(path)` loads the tensors"
    );
    let entry = StateDict::load_entry(file("adam.ckpt"), "model")
        .unwrap_err()
        .to_string();
    assert!(
        entry.contains("it has no state_dict called `model`\nhint: its dictionaries are "),
        "{entry}"
    );
    let states = StateDict::load_entry(file("adam.ckpt"), "hyper_parameters").unwrap_err();
    assert!(states.message().ends_with("hidden is an int, not a tensor"), "{states}");
    let scratch = Scratch::new("damaged.ckpt");
    let whole = std::fs::read(file("adam.ckpt")).unwrap();
    std::fs::write(&scratch.0, &whole[..whole.len() - 100]).unwrap();
    let damaged = StateDict::load(&scratch.0).unwrap_err();
    assert!(
        damaged
            .message()
            .ends_with("its directory is missing: the file is not whole"),
        "{damaged}"
    );
    // LBFGS and a run that stands amid an epoch cannot be written.
    let part = trainer(1).max_steps(5).fit::<Net, _>(&hp("adam"), &Samples).unwrap();
    let error = part.save_as_lightning(&scratch.0).unwrap_err();
    assert!(error.message().starts_with("the run stands amid epoch 0"), "{error}");
}

#[test]
fn frozen_parts_stay_as_they_are() {
    let _turn = in_turn();
    let mut fit = trainer(1).fit::<Net, _>(&hp("adam"), &Samples).unwrap();
    assert_eq!(fit.freeze("bn.*").unwrap() + fit.freeze("l1.*").unwrap(), 4);
    let state = |fit: &Fit<Net>| -> Vec<Tensor> {
        let net = &fit.model;
        let list = [
            &net.l1.weight,
            &net.bn.running_mean,
            &net.bn.num_batches_tracked,
            &net.l2.weight,
        ];
        list.map(Tensor::copy).into()
    };
    let before = state(&fit);
    trainer(2).go_on(&mut fit, &Samples).unwrap();
    let after = state(&fit);
    assert_eq!(before[..3], after[..3]);
    assert_ne!(before[3], after[3]);
    assert!(fit.summary(1).contains("Non-trainable params"));
    assert_eq!(fit.unfreeze("*").unwrap(), 6);
    trainer(3).go_on(&mut fit, &Samples).unwrap();
    let last = state(&fit);
    assert!(after.iter().zip(&last).all(|(a, b)| a != b));
    let error = fit.freeze("body.*").unwrap_err().to_string();
    assert_eq!(
        error,
        "no parameter fits `body.*`\nhint: the parameters are l1.weight, l1.bias, bn.weight, bn.bias, l2.weight, l2.bias"
    );
}

#[test]
fn loaded_and_frozen_weights_stay_in_a_run_with_a_seed() {
    let _turn = in_turn();
    let mut fit = Net::build(hp("adam")).unwrap();
    fit.load_weights(file("weights.pt")).unwrap();
    fit.freeze("l1.*").unwrap();
    let before = fit.model.l1.weight.copy();
    trainer(1).seed(9).go_on(&mut fit, &Samples).unwrap();
    assert_eq!(fit.model.l1.weight, before);
    assert!(!fit.model.l1.weight.requires_grad());
    assert_eq!(fit.model.bn.num_batches_tracked.int64_value(&[]), 48);
}

#[test]
fn a_torchscript_module_computes_features_without_gradients() {
    let _turn = in_turn();
    let scratch = Scratch::new("script.pt");
    let cpu = (Kind::Float, Device::Cpu);
    let weight = Tensor::randn([3, 2], cpu);
    let example = Tensor::ones([1, 2], cpu);
    let mut traced = |inputs: &[Tensor]| vec![inputs[0].linear(&weight, None::<&Tensor>)];
    let module = lightcell::tch::CModule::create_by_tracing("Net", "forward", &[example], &mut traced);
    module.unwrap().save(&scratch.0).unwrap();
    let features = ScriptModule::load(&scratch.0, Device::Cpu).unwrap();
    let x = Tensor::randn([5, 2], cpu).set_requires_grad(true);
    let y = features.forward(&x).unwrap();
    assert_eq!(y, x.matmul(&weight.tr()).detach());
    assert!(!y.requires_grad());
    let error = features.forward(&Tensor::ones([1, 7], cpu)).unwrap_err();
    assert_eq!(
        error.message(),
        "the TorchScript module, given [1, 7]: shapes do not fit: the input is 1x7, the layer's weight 2x3"
    );
    let error = features.forward_all(&[&x, &x]).unwrap_err();
    assert!(
        error
            .message()
            .starts_with("the TorchScript module, given [5, 2], [5, 2]: ")
            && error.message().lines().count() == 1,
        "{error}"
    );
    // Each kind of file says what it is when it is taken for the other.
    let error = StateDict::load(&scratch.0).unwrap_err();
    assert!(
        error
            .message()
            .ends_with("it is a TorchScript module, not a file of torch.save"),
        "{error}"
    );
    let load = |path: &PathBuf| ScriptModule::load(path, Device::Cpu).unwrap_err();
    let error = load(&file("weights.pt"));
    assert_eq!(
        error.to_string(),
        format!(
            "cannot load {}: it is a file of torch.save, not a TorchScript module\n\
             hint: it must be a TorchScript module: in Python, `torch.jit.save(torch.jit.script(model), path)`",
            file("weights.pt").display()
        )
    );
    let missing = file("none.pt");
    assert_eq!(
        load(&missing).message(),
        format!(
            "cannot load {}: No such file or directory (os error 2)",
            missing.display()
        )
    );
    let whole = std::fs::read(&scratch.0).unwrap();
    for (bytes, said) in [
        (&whole[..whole.len() / 2], "it is damaged, or no TorchScript module: "),
        (&[][..], "the file is empty"),
        (&b"no module at all"[..], "it is no TorchScript module"),
    ] {
        std::fs::write(&scratch.0, bytes).unwrap();
        let error = load(&scratch.0);
        assert!(
            error
                .message()
                .starts_with(&format!("cannot load {}: {said}", scratch.0.display())),
            "{error}"
        );
        assert!(
            error.message().lines().count() == 1 && error.message().len() < 300,
            "{error}"
        );
    }
}

#[test]
#[ignore = "LIGHTCELL_TEST_TORCH is a Python with torch and pytorch-lightning"]
fn modules_that_python_wrote_compute_the_same_here() {
    let _turn = in_turn();
    let (script, numbers) = (Scratch::new("net.script.pt"), Scratch::new("net.xy.safetensors"));
    let out = Command::new(python())
        .arg(file("make.py"))
        .arg("script")
        .args([&script.0, &numbers.0])
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let features = ScriptModule::load(&script.0, Device::Cpu).unwrap();
    let xy = StateDict::load(&numbers.0).unwrap();
    let (x, theirs) = (xy.get("x").unwrap(), xy.get("y").unwrap());
    let apart = (features.forward(x).unwrap() - theirs).abs().max().double_value(&[]);
    assert!(apart <= 1e-6, "{apart:e}");
    // Its dropout is off, its batch normalisation does not learn.
    assert_eq!(features.forward(x).unwrap(), features.forward(x).unwrap());
    let error = features
        .forward(&Tensor::ones([2, 9], (Kind::Float, Device::Cpu)))
        .unwrap_err();
    assert_eq!(
        error.message(),
        "the TorchScript module, given [2, 9]: shapes do not fit: the input is 2x9, the layer's weight 4x6"
    );
    let pair = ScriptModule::load(script.0.with_extension("pair"), Device::Cpu).unwrap();
    let _ = std::fs::remove_file(script.0.with_extension("pair"));
    let error = pair.forward(x).unwrap_err();
    assert!(
        error.message().ends_with("it gives something else than one tensor"),
        "{error}"
    );
}

/// The Python whose Lightning reads what we wrote.
fn python() -> PathBuf {
    std::env::var_os("LIGHTCELL_TEST_TORCH")
        .expect("LIGHTCELL_TEST_TORCH is a Python with torch and pytorch-lightning")
        .into()
}

#[test]
#[ignore = "LIGHTCELL_TEST_TORCH is a Python with torch and pytorch-lightning"]
fn oracle_14_a_run_of_ours_goes_on_in_lightning() {
    let _turn = in_turn();
    for name in OPTIMIZERS {
        let scratch = Scratch::new(&format!("{name}.ckpt"));
        let fit = trainer(2).fit::<Net, _>(&hp(name), &Samples).unwrap();
        fit.save_as_lightning(&scratch.0).unwrap();
        let straight = trainer(3).fit::<Net, _>(&hp(name), &Samples).unwrap();
        let out = Command::new(python())
            .arg(file("make.py"))
            .arg("check")
            .arg(&scratch.0)
            .arg("3")
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        let seen: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&out.stderr)));
        assert_eq!(seen["hparams"], serde_json::json!({ "hidden": 8, "optimizer": name }));
        assert_eq!(
            (&seen["global_step"], &seen["epoch"]),
            (&serde_json::json!(48), &serde_json::json!(3))
        );
        let at = apart(&logits(&fit.model), &numbers(&seen["logits"]));
        let losses = apart(&straight.step_losses[32..], &numbers(&seen["next"]));
        println!("{name}: logits differ by {at:e}, the next losses by {losses:e}");
        assert!(at <= 1e-5 && losses <= 1e-6, "{name}: {at:e}, {losses:e}");
    }
}
