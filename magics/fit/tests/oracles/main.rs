//! Numbers of PyTorch 2.13.0, written by `make.py`, against ours. The tests are named after the rows of the list of oracles
//! in which their tolerances stand; on the machine that made the numbers, differences are 0 unless a test says otherwise.

mod boards;
mod curves;
mod keeping;
mod layers;
mod metrics;
mod numbers;
mod rates;
mod schedules;
mod table;
mod transforms;
mod tuning;
mod validation;
mod watching;

use lightcell::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use table::{equal, near};

/// libtorch's random generator is one for the process: tests take turns. One thread, as where the numbers were made.
fn in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    lightcell::tch::set_num_threads(1);
    guard
}

/// A file with their numbers: one of those here, or made anew by `all.py` in the folder that LIGHTCELL_ORACLES names.
fn file(name: &str) -> PathBuf {
    match std::env::var_os("LIGHTCELL_ORACLES").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder).join(name),
        None => [env!("CARGO_MANIFEST_DIR"), "tests", "oracles", name].iter().collect(),
    }
}

fn golden() -> Value {
    let text = std::fs::read_to_string(file("golden.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(file(name)).unwrap().into_iter().collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// The largest of some differences. One that is no number must not pass for none, as it does with `f64::max`.
fn largest(differences: impl IntoIterator<Item = f64>) -> f64 {
    let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
    differences.into_iter().fold(0.0, larger)
}

/// The largest difference of two lists, absolute.
fn apart(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    largest(ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()))
}

/// The largest difference of two tensors, absolute.
fn tensors_apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    (ours.detach() - theirs)
        .abs()
        .max()
        .to_kind(Kind::Double)
        .double_value(&[])
}

/// Points, and the largest of random linear functions of them as their class.
fn samples(count: i64, inputs: i64, classes: i64) -> TensorDataset {
    let cpu = (Kind::Float, Device::Cpu);
    lightcell::tch::manual_seed(7);
    let x = Tensor::randn([count, inputs], cpu);
    let teacher = Tensor::randn([inputs, classes], cpu);
    let y = x.matmul(&teacher).argmax(1, false);
    TensorDataset::new(x, y).unwrap()
}

lightcell::hparams! {
    Hp { optimizer: String = "sgd".to_owned(), inputs: i64 = 20, hidden: i64 = 32, classes: i64 = 4, dropout: f64 = 0.0 }
}

struct Net {
    l1: Linear,
    l2: Linear,
    drop: Dropout,
}

impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);

    fn new(p: &Path, hp: &Hp) -> Net {
        Net {
            l1: linear(p / "l1", hp.inputs, hp.hidden),
            l2: linear(p / "l2", hp.hidden, hp.classes),
            drop: dropout(p, hp.dropout),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.l1.forward(x).relu();
        self.l2.forward(&self.drop.forward(&hidden))
    }
    fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        Ok(self.forward(x).cross_entropy_for_logits(y))
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        let out = self.forward(x);
        cx.log("val_loss", &out.cross_entropy_for_logits(y));
        cx.log("val_acc", &out.accuracy_for_logits(y));
        Ok(())
    }
    fn configure_optimizers(&self, hp: &Hp) -> Optim {
        curves::optimizer(&hp.optimizer)
    }
}

/// Loaders as they are in `make.py`.
struct Loaders {
    train: Arc<TensorDataset>,
    val: Option<Arc<TensorDataset>>,
    batch_size: usize,
    shuffle: bool,
}

impl DataModule for Loaders {
    type Batch = (Tensor, Tensor);

    fn train_dataloader(&self) -> DataLoader<Self::Batch> {
        DataLoader::new(self.train.clone())
            .batch_size(self.batch_size)
            .shuffle(self.shuffle)
    }
    fn val_dataloader(&self) -> Option<DataLoader<Self::Batch>> {
        let val = self.val.clone()?;
        Some(DataLoader::new(val).batch_size(64))
    }
}

fn in_order(train: TensorDataset, batch_size: usize) -> Loaders {
    Loaders {
        train: Arc::new(train),
        val: None,
        batch_size,
        shuffle: false,
    }
}

fn trainer() -> Trainer {
    Trainer::new().accelerator("cpu").seed(42)
}
