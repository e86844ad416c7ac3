//! How long training takes here, in a bare `tch` loop and, where Python has them, in a bare PyTorch loop and in Lightning:
//!
//! `cargo run --release -p lightcell --example speed -- [--rounds N] [--threads N] [--python PATH] [--only mnist|tiny]`
//!
//! Two models: MNIST's 784-128-10 with Adam and batches of 64, of which one epoch is timed, and a tiny one, of which 4,000
//! steps are timed, so that what a step costs beside its arithmetic shows. The data are random numbers of MNIST's size: times
//! do not depend on them. Ours and Lightning do all that a run usually does: shuffle, log, validate, write a table of metrics
//! and a checkpoint, show a bar (on a terminal). "Ours, plain" does what the bare loop does. All take turns, in rounds, with
//! the same number of threads; raw samples are printed, and medians.

use lightcell::prelude::*;
use lightcell::tch::nn::{self, Module, OptimizerConfig};
use std::process::Command;
use std::time::Instant;

lightcell::hparams! { Hp { inputs: i64 = 784, hidden: i64 = 128, outputs: i64 = 10 } }

struct Mlp {
    l1: Linear,
    l2: Linear,
}

impl LightningModule for Mlp {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &Hp) -> Mlp {
        Mlp {
            l1: linear(p / "l1", hp.inputs, hp.hidden),
            l2: linear(p / "l2", hp.hidden, hp.outputs),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.l2.forward(&self.l1.forward(x).relu())
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        Ok(loss)
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        let out = self.forward(x);
        cx.log("val_loss", &out.cross_entropy_for_logits(y));
        cx.log("val_acc", &out.accuracy_for_logits(y));
        Ok(())
    }
    fn configure_optimizers(&self, _: &Hp) -> Optim {
        adam(1e-3)
    }
}

/// A model and its data.
struct Task {
    name: &'static str,
    hp: Hp,
    samples: i64,
    validation: i64,
    batch: i64,
}

impl Task {
    fn set(&self, samples: i64) -> Result<TensorDataset> {
        let x = Tensor::randn([samples, self.hp.inputs], (Kind::Float, Device::Cpu));
        let y = Tensor::randint(self.hp.outputs, [samples], (Kind::Int64, Device::Cpu));
        TensorDataset::new(x, y)
    }

    fn steps(&self) -> i64 {
        (self.samples + self.batch - 1) / self.batch
    }

    /// Seconds of one epoch in a loop on tch alone.
    fn bare(&self, train: &TensorDataset) -> Result<f64> {
        let vars = nn::VarStore::new(Device::Cpu);
        let net = nn::seq()
            .add(nn::linear(
                vars.root() / "l1",
                self.hp.inputs,
                self.hp.hidden,
                Default::default(),
            ))
            .add_fn(Tensor::relu)
            .add(nn::linear(
                vars.root() / "l2",
                self.hp.hidden,
                self.hp.outputs,
                Default::default(),
            ));
        let mut optimizer = nn::Adam::default().build(&vars, 1e-3)?;
        let begun = Instant::now();
        let order = Tensor::randperm(self.samples, (Kind::Int64, Device::Cpu));
        let (mut at, mut sum) = (0, 0.0);
        while at < self.samples {
            let indices = order.narrow(0, at, self.batch.min(self.samples - at));
            let (x, y) = (train.x().index_select(0, &indices), train.y().index_select(0, &indices));
            let loss = net.forward(&x).cross_entropy_for_logits(&y);
            optimizer.backward_step(&loss);
            sum += loss.double_value(&[]);
            at += self.batch;
        }
        assert!(sum.is_finite());
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Seconds of one epoch here. `whole`: with all that a run usually does; otherwise as in the bare loop.
    fn ours(&self, data: &Data, whole: bool) -> Result<f64> {
        let folder = std::env::temp_dir().join(format!("lightcell-speed-{}", std::process::id()));
        let trainer = Trainer::new().max_epochs(1).accelerator("cpu").seed(1);
        let trainer = if whole {
            let keep = ModelCheckpoint::new().monitor("val_loss");
            trainer.logger(CsvLogger::new(&folder)).callback(keep)
        } else {
            trainer.limit_val_batches(0)
        };
        let begun = Instant::now();
        let fit = trainer.fit::<Mlp, _>(&self.hp, data)?;
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(fit.step_losses.len() as i64, self.steps());
        if whole {
            std::fs::remove_dir_all(&folder)?;
        }
        Ok(seconds)
    }
}

/// The value of a flag.
fn flag(name: &str) -> Option<String> {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).cloned()
}

/// What the Python script beside this file measures: `name seconds`, line by line.
fn python(program: &str, task: &Task, threads: i32) -> Result<Vec<(String, f64)>> {
    let numbers = [
        task.hp.inputs,
        task.hp.hidden,
        task.hp.outputs,
        task.samples,
        task.validation,
        task.batch,
    ];
    let out = Command::new(program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/speed.py"))
        .arg(threads.to_string())
        .args(numbers.map(|number| number.to_string()))
        .env("OMP_NUM_THREADS", threads.to_string())
        // What this program needs to find its own libtorch is not for another.
        .env_remove("LD_LIBRARY_PATH")
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let read = |line: &str| {
        let (seconds, name) = line.strip_prefix("sample ")?.split_once(' ')?;
        Some((name.to_owned(), seconds.parse().ok()?))
    };
    let samples: Vec<(String, f64)> = text.lines().filter_map(read).collect();
    if samples.is_empty() {
        eprintln!("{program} gave no samples: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(samples)
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() -> Result<()> {
    let number = |name: &str, default: i32| flag(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rounds, threads) = (number("--rounds", 5), number("--threads", 2));
    lightcell::tch::set_num_threads(threads);
    let tiny = Hp {
        inputs: 16,
        hidden: 16,
        outputs: 2,
    };
    let tasks = [
        Task {
            name: "mnist",
            hp: Hp::default(),
            samples: 60_000,
            validation: 10_000,
            batch: 64,
        },
        Task {
            name: "tiny",
            hp: tiny,
            samples: 64_000,
            validation: 1_600,
            batch: 16,
        },
    ];
    let only = flag("--only");
    for task in tasks
        .iter()
        .filter(|task| only.as_deref().is_none_or(|only| only == task.name))
    {
        lightcell::tch::manual_seed(7);
        let data = Data::new(task.set(task.samples)?)
            .val(task.set(task.validation)?)
            .batch_size(task.batch as usize);
        let bare = task.set(task.samples)?;
        let mut table: Vec<(String, Vec<f64>)> = Vec::new();
        let mut take = |name: &str, seconds: f64| match table.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.1.push(seconds),
            None => table.push((name.to_owned(), vec![seconds])),
        };
        // The first pass of each warms caches and is not counted.
        task.bare(&bare)?;
        task.ours(&data, false)?;
        for _ in 0..rounds {
            take("bare tch", task.bare(&bare)?);
            take("ours, plain", task.ours(&data, false)?);
            take("ours", task.ours(&data, true)?);
            if let Some(program) = flag("--python") {
                for (name, seconds) in python(&program, task, threads)? {
                    take(&name, seconds);
                }
            }
        }
        let steps = task.steps();
        println!(
            "{}: one epoch of {steps} steps, {threads} threads, {rounds} rounds",
            task.name
        );
        let base = table.first().map_or(f64::NAN, |row| median(&row.1));
        for (name, samples) in &table {
            let middle = median(samples);
            let raw: Vec<String> = samples.iter().map(|seconds| format!("{seconds:.3}")).collect();
            println!(
                "  {name:<20} {middle:.3} s  {:>6.1} us/step  {:.2} of bare tch   [{}]",
                1e6 * middle / steps as f64,
                middle / base,
                raw.join(" ")
            );
        }
    }
    Ok(())
}
