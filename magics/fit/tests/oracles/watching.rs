//! Callbacks that watch and change a run, against what PyTorch Lightning 2.6.1's do; `callbacks.py` beside this file wrote
//! `callbacks.json`. Row 18: the summary of a model.

use super::keeping::{Folder, files};
use super::{apart, equal, file, in_turn, largest, near, numbers, samples};
use lightcell::prelude::*;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

lightcell::hparams! { WatchHp { optimizer: String = "sgd".to_owned(), schedule: String = "none".to_owned(), norm: bool = false } }

struct Watched {
    l1: Linear,
    norm: Option<BatchNorm1d>,
    l2: Linear,
}

impl LightningModule for Watched {
    type HParams = WatchHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &WatchHp) -> Watched {
        Watched {
            l1: linear(p / "l1", 20, 32),
            norm: hp.norm.then(|| batch_norm1d(p / "norm", 32)),
            l2: linear(p / "l2", 32, 4),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.l1.forward(x);
        let x = match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        };
        self.l2.forward(&x.relu())
    }
    fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        Ok(self.forward(x).cross_entropy_for_logits(y))
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        cx.log("val_loss", &self.forward(x).cross_entropy_for_logits(y));
        Ok(())
    }
    fn configure_optimizers(&self, hp: &WatchHp) -> Optim {
        let optim = match hp.optimizer.as_str() {
            "groups" => adamw(0.1)
                .weight_decay(0.02)
                .group(ParamGroup::new("l1.*"))
                .group(ParamGroup::new("l2.*").lr(0.01)),
            "adam" => adam(0.01),
            _ => sgd(0.1, 0.9),
        };
        match hp.schedule.as_str() {
            "step" => optim.schedule(StepLR::new(3).gamma(0.5).per_step()),
            "epoch" => optim.schedule(ExponentialLR::new(0.5)),
            _ => optim,
        }
    }
}

struct Loaders(Arc<TensorDataset>);

impl DataModule for Loaders {
    type Batch = (Tensor, Tensor);
    fn train_dataloader(&self) -> DataLoader<Self::Batch> {
        DataLoader::new(self.0.clone()).batch_size(16)
    }
    fn val_dataloader(&self) -> Option<DataLoader<Self::Batch>> {
        Some(DataLoader::new(self.0.clone()).batch_size(64))
    }
}

fn data() -> Loaders {
    Loaders(Arc::new(samples(128, 20, 4)))
}

fn trainer(epochs: u64) -> Trainer {
    let trainer = Trainer::new().accelerator("cpu").seed(42).max_epochs(epochs);
    trainer.compat(Compat::Lightning)
}

fn golden(part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(&std::fs::read_to_string(file("callbacks.json")).unwrap()).unwrap();
    all[part].as_array().unwrap().clone()
}

fn hp(case: &Value, optimizer: &str) -> WatchHp {
    let text = |name: &str, default: &str| case[name].as_str().unwrap_or(default).to_owned();
    WatchHp {
        optimizer: text("optimizer", optimizer),
        schedule: text("schedule", "none"),
        norm: case["norm"].as_bool().unwrap_or(false),
    }
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Lightning's weights against those of a file.
fn state_apart(fit: &Fit<Watched>, theirs: &Value) -> f64 {
    let folder = Folder::new("state");
    std::fs::create_dir_all(&folder.0).unwrap();
    let path = folder.0.join("weights.safetensors");
    fit.save_weights(&path).unwrap();
    let ours = Tensor::read_safetensors(&path).unwrap();
    assert_eq!(ours.len(), theirs.as_object().unwrap().len());
    largest(ours.iter().map(|(name, tensor)| {
        let tensor = tensor.to_kind(Kind::Double).reshape([-1]);
        apart(&Vec::<f64>::try_from(&tensor).unwrap(), &numbers(&theirs[name]))
    }))
}

#[derive(Default)]
struct Noted {
    steps: Vec<u64>,
    lrs: Vec<f64>,
}

impl Callback for Noted {
    fn on_train_batch_start(&mut self, run: &mut Run) -> Result<()> {
        self.lrs.push(run.lr());
        Ok(())
    }
    fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
        self.steps.push(run.global_step());
        Ok(())
    }
}

#[test]
fn learning_rates_are_logged_under_lightnings_names_at_its_steps() {
    let _turn = in_turn();
    for case in golden("monitor") {
        let settings = &case["settings"];
        let on = |name: &str| settings[name].as_bool().unwrap_or(false);
        let mut monitor = LearningRateMonitor::new()
            .log_momentum(on("log_momentum"))
            .log_weight_decay(on("log_weight_decay"));
        match settings["logging_interval"].as_str() {
            Some("epoch") => monitor = monitor.logging_interval(Interval::Epoch),
            Some("step") => monitor = monitor.logging_interval(Interval::Step),
            _ => {}
        }
        let folder = Folder::new("rates");
        let trainer = trainer(2)
            .accumulate_grad_batches(count(&case["accumulate"]))
            .log_every_n_steps(3)
            .logger(CsvLogger::new(&folder.0))
            .callback(monitor);
        trainer.fit::<Watched, _>(&hp(&case, "sgd"), &data()).unwrap();
        let table = std::fs::read_to_string(folder.0.join("lightning_logs/version_0/metrics.csv")).unwrap();
        let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let header = lines.next().unwrap();
        let step = header.iter().position(|name| *name == "step").unwrap();
        let mut rates = Vec::new();
        for row in lines {
            let named = header
                .iter()
                .zip(&row)
                .filter(|(name, value)| name.starts_with("lr-") && !value.is_empty());
            rates.extend(
                named.map(|(name, value)| {
                    json!([row[step].parse::<u64>().unwrap(), name, value.parse::<f64>().unwrap()])
                }),
            );
        }
        rates.sort_by_key(|rate| (rate[0].as_u64(), rate[1].as_str().unwrap().to_owned()));
        // Lightning logs a step of several batches several times.
        let mut theirs = case["rates"].as_array().unwrap().clone();
        if case["accumulate"] != json!(1) {
            theirs.dedup();
        }
        assert_eq!(rates.len(), theirs.len(), "{case}: {rates:?}");
        for (ours, theirs) in rates.iter().zip(&theirs) {
            assert_eq!((&ours[0], &ours[1]), (&theirs[0], &theirs[1]), "{case}");
            let (ours, theirs) = (ours[2].as_f64().unwrap(), theirs[2].as_f64().unwrap());
            near(8, "logged rates", (ours - theirs).abs() / theirs.abs(), 1e-12);
        }
    }
}

#[test]
fn stochastic_weight_averaging_is_lightnings() {
    let _turn = in_turn();
    for case in golden("swa") {
        let settings = &case["settings"];
        let mut swa = StochasticWeightAveraging::new(settings["swa_lrs"].as_f64().unwrap());
        swa = match &settings["swa_epoch_start"] {
            Value::Number(number) if number.is_u64() => swa.swa_epoch_start(count(&settings["swa_epoch_start"])),
            Value::Number(number) => swa.swa_epoch_start(number.as_f64().unwrap()),
            _ => swa,
        };
        if let Some(epochs) = settings["annealing_epochs"].as_u64() {
            swa = swa.annealing_epochs(epochs);
        }
        if settings["annealing_strategy"] == json!("linear") {
            swa = swa.annealing_strategy(AnnealingStrategy::Linear);
        }
        let noted = Rc::new(RefCell::new(Noted::default()));
        let trainer = trainer(count(&case["epochs"])).callback(swa).callback(noted.clone());
        let fit = trainer.fit::<Watched, _>(&hp(&case, "sgd"), &data()).unwrap();
        let about = format!("{settings} {} {}", case["norm"], case["schedule"]);
        let theirs = numbers(&case["lrs"]);
        let lrs = largest(noted.borrow().lrs.iter().zip(&theirs).map(|(a, b)| (a / b - 1.0).abs()));
        assert_eq!(noted.borrow().lrs.len(), theirs.len());
        let losses = apart(&fit.step_losses, &numbers(&case["losses"]));
        let weights = state_apart(&fit, &case["state"]);
        println!("{about}: rates differ by {lrs:e}, losses by {losses:e}, weights by {weights:e}");
        near(2, "averaged weights (SWA): rates", lrs, 1e-12);
        near(2, "averaged weights (SWA): losses", losses, 1e-5);
        near(2, "averaged weights (SWA): parameters", weights, 1e-5);
    }
}

#[test]
fn the_moving_average_of_weights_is_lightnings() {
    let _turn = in_turn();
    for case in golden("ema") {
        let settings = &case["settings"];
        let mut ema = EMAWeightAveraging::new();
        if let Some(decay) = settings["decay"].as_f64() {
            ema = ema.decay(decay);
        }
        if let Some(every) = settings["update_every_n_steps"].as_u64() {
            ema = ema.update_every_n_steps(every);
        }
        if let Some(step) = settings["update_starting_at_step"].as_u64() {
            ema = ema.update_starting_at_step(step);
        }
        if let Some(epoch) = settings["update_starting_at_epoch"].as_u64() {
            ema = ema.update_starting_at_epoch(epoch);
        }
        let trainer = trainer(count(&case["epochs"])).callback(ema);
        let fit = trainer.fit::<Watched, _>(&hp(&case, "adam"), &data()).unwrap();
        let losses = apart(&fit.step_losses, &numbers(&case["losses"]));
        let weights = state_apart(&fit, &case["state"]);
        let ours: Vec<f64> = fit.history.iter().map(|record| record.metrics["val_loss"]).collect();
        let mut theirs = numbers(&case["validations"]);
        let mut skip = 0;
        if settings["update_every_n_steps"] == json!(0) {
            // Before the first update Lightning validates with the weights of the beginning.
            (skip, theirs[0]) = (1, f64::NAN);
        }
        let validations = apart(&ours[skip..], &theirs[skip..]);
        println!("{settings}: losses differ by {losses:e}, validations by {validations:e}, weights by {weights:e}");
        near(2, "averaged weights (EMA): losses", losses, 1e-5);
        near(2, "averaged weights (EMA): validations", validations, 1e-5);
        near(2, "averaged weights (EMA): parameters", weights, 1e-5);
    }
}

#[test]
fn windows_of_accumulation_change_with_lightnings_epochs() {
    let _turn = in_turn();
    for case in golden("accumulation") {
        let pairs: Vec<(u64, u64)> = serde_json::from_value(case["scheduling"].clone()).unwrap();
        let noted = Rc::new(RefCell::new(Noted::default()));
        let trainer = trainer(count(&case["epochs"]))
            .callback(GradientAccumulationScheduler::new(pairs))
            .callback(noted.clone());
        let fit = trainer.fit::<Watched, _>(&WatchHp::default(), &data()).unwrap();
        assert_eq!(json!(noted.borrow().steps), case["steps"]);
        // Of each window the mean loss.
        let mut theirs: Vec<(u64, Vec<f64>)> = Vec::new();
        let mut before = 0;
        let mut window = Vec::new();
        for (step, loss) in case["steps"].as_array().unwrap().iter().zip(numbers(&case["losses"])) {
            window.push(loss);
            if count(step) > before {
                before = count(step);
                theirs.push((before, std::mem::take(&mut window)));
            }
        }
        let theirs: Vec<f64> = theirs
            .iter()
            .map(|(_, losses)| losses.iter().sum::<f64>() / losses.len() as f64)
            .collect();
        let losses = apart(&fit.step_losses, &theirs);
        near(12, "windows that change: losses", losses, 1e-5);
    }
    let both = trainer(1)
        .accumulate_grad_batches(2)
        .callback(GradientAccumulationScheduler::new([(0, 2)]));
    let error = both
        .fit::<Watched, _>(&WatchHp::default(), &data())
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "accumulate-grad-batches is set by the trainer and by a callback\nhint: leave one of them out"
    );
}

/// The files before each batch and at the end.
struct Files(PathBuf, Rc<RefCell<Vec<Vec<String>>>>);

impl Callback for Files {
    fn on_train_batch_start(&mut self, _: &mut Run) -> Result<()> {
        self.1.borrow_mut().push(files(&self.0));
        Ok(())
    }
    fn on_fit_end(&mut self, _: &mut Run) -> Result<()> {
        self.1.borrow_mut().push(files(&self.0));
        Ok(())
    }
}

#[test]
fn oracle_10_checkpoints_every_so_many_steps_are_lightnings() {
    let _turn = in_turn();
    for case in golden("checkpoints") {
        let folder = Folder::new("every");
        let mut settings = case["settings"].clone();
        (settings["dirpath"], settings["every_n_epochs"]) = (json!(folder.0), json!(0));
        let keep: ModelCheckpoint = serde_json::from_value(settings).unwrap();
        let (keep, lists) = (Rc::new(RefCell::new(keep)), Rc::new(RefCell::new(Vec::new())));
        let trainer = trainer(2)
            .accumulate_grad_batches(count(&case["accumulate"]))
            .callback(Files(folder.0.clone(), lists.clone()))
            .callback(keep.clone());
        trainer.fit::<Watched, _>(&WatchHp::default(), &data()).unwrap();
        assert_eq!(json!(lists.take()), case["files"], "{}", case["settings"]);
        let best = keep.borrow().best_model_path().unwrap().file_name().unwrap().to_owned();
        assert_eq!(json!(best.to_string_lossy()), case["best_model_path"]);
        equal(10, "checkpoints every so many steps: names and when");
    }
}

lightcell::hparams! { PlainHp { hidden: i64 = 300 } }

struct Plain {
    l1: Linear,
}

impl LightningModule for Plain {
    type HParams = PlainHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &PlainHp) -> Plain {
        let l1 = linear(p / "l1", 64, hp.hidden);
        batch_norm1d(p / "norm", hp.hidden);
        linear(p / "out", hp.hidden, 10);
        // At the root, as the library's own examples have it: no layer of the table.
        dropout(p, 0.5);
        Plain { l1 }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.l1.forward(x)
    }
    fn training_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        Ok(self.forward(x).mean(Kind::Float))
    }
}

struct Deep(Linear);

impl LightningModule for Deep {
    type HParams = PlainHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, _: &PlainHp) -> Deep {
        conv2d(p / "conv", 1, 8, 3);
        sequential(p / "net")
            .append(|p| linear(p, 64, 1200))
            .relu()
            .append(|p| linear(p, 1200, 2000))
            .append(|p| dropout(&p, 0.1))
            .append(|p| linear(p, 2000, 10))
            .build();
        let table = embedding(p / "embed", 100, 16);
        let _ = table.weight.set_requires_grad(false);
        gru(p / "gru", 16, 32);
        TransformerConfig::new(16, 2).dim_feedforward(32).build(p / "attention");
        layer_norm(p / "norm", &[16]);
        let _ = p.parameter("scale", &[7], lightcell::tch::nn::Init::Const(0.0));
        let unused = Store::new(Device::Cpu);
        Deep(linear(unused.root() / "unused", 1, 1))
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.0.forward(x)
    }
    fn training_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        Ok(self.forward(x).mean(Kind::Float))
    }
}

#[test]
fn oracle_18_a_models_summary_is_lightnings_text() {
    let _turn = in_turn();
    let all: Value = serde_json::from_str(&std::fs::read_to_string(file("callbacks.json")).unwrap()).unwrap();
    let depths = [0, 1, 2, -1];
    let theirs = |name: &str| {
        let texts = all["summary"][name].as_array().unwrap().clone();
        texts
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let plain = Plain::build(PlainHp::default()).unwrap();
    assert_eq!(depths.map(|depth| plain.summary(depth)), theirs("plain")[..]);
    let wide = Plain::build(PlainHp { hidden: 100_000 }).unwrap();
    assert_eq!(depths.map(|depth| wide.summary(depth)), theirs("wide")[..]);
    let deep = Deep::build(PlainHp::default()).unwrap();
    for (depth, theirs) in depths.into_iter().zip(theirs("deep")) {
        assert_eq!(deep.summary(depth), theirs, "\n{}\n{theirs}", deep.summary(depth));
    }
    equal(18, "a model's summary: text");
}
