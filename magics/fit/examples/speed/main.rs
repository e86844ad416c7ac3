//! How long training takes here, in a bare `tch` loop and, where Python has them, in bare PyTorch loops and in Lightning:
//!
//! `cargo run --release -p lightcell --example speed -- [--rounds N] [--threads N] [--python PATH] [--only NAME] [--cpu]`
//!
//! One epoch of four models with Adam: MNIST's 784-128-10 (`mnist`), a tiny one of which 4,000 steps show what a step costs
//! beside its arithmetic (`tiny`), a small CNN (`cnn`) and a small transformer (`transformer`). The data are random numbers:
//! times do not depend on them. All take turns, in rounds, with the same number of threads; raw samples are printed, their
//! smallest and their median. `--cpu` measures the processors' time instead of the clock's, which on one thread says the same
//! also on a machine that is busy with other things.
//!
//! - "bare tch", "bare PyTorch, slices": a loop that takes its batches from tensors in memory, by index.
//! - "bare PyTorch, DataLoader": the loop that PyTorch's own tutorials show.
//! - "ours, silent": what the bare loop does; no value is logged. "ours, plain": with a loss that is logged.
//! - "ours", "Lightning": what a run usually does: shuffle, log, validate, write a table of metrics and a checkpoint, show
//!   a bar (on a terminal).

mod model;

use lightcell::prelude::*;
use lightcell::tch::nn::{self, Module, OptimizerConfig};
use model::{Hp, Net};
use std::process::Command;
use std::time::Instant;

/// Seconds since some moment: of the clock, or of the processors' work for this program.
fn now() -> f64 {
    if !std::env::args().any(|arg| arg == "--cpu") {
        static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        return BEGUN.get_or_init(Instant::now).elapsed().as_secs_f64();
    }
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split(' ')
            .next()
            .and_then(|number| number.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    threads.map(nanoseconds).sum::<f64>() / 1e9
}

/// A model and its data.
struct Task {
    name: &'static str,
    samples: i64,
    validation: i64,
    batch: i64,
}

const TASKS: [Task; 4] = [
    Task {
        name: "mnist",
        samples: 60_000,
        validation: 10_000,
        batch: 64,
    },
    Task {
        name: "tiny",
        samples: 64_000,
        validation: 1_600,
        batch: 16,
    },
    Task {
        name: "cnn",
        samples: 6_400,
        validation: 640,
        batch: 64,
    },
    Task {
        name: "transformer",
        samples: 6_400,
        validation: 640,
        batch: 64,
    },
];

/// How much of what a run does is done.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Silent,
    Plain,
    Whole,
}

impl Task {
    fn set(&self, samples: i64) -> Result<TensorDataset> {
        let float = (Kind::Float, Device::Cpu);
        let whole = (Kind::Int64, Device::Cpu);
        let [inputs, _, outputs] = model::sizes(self.name);
        let x = match self.name {
            "cnn" => Tensor::randn([samples, 1, 28, 28], float),
            "transformer" => Tensor::randint(model::WORDS, [samples, model::LENGTH], whole),
            _ => Tensor::randn([samples, inputs], float),
        };
        TensorDataset::new(x, Tensor::randint(outputs, [samples], whole))
    }

    fn steps(&self) -> i64 {
        (self.samples + self.batch - 1) / self.batch
    }

    /// Seconds of one epoch in a loop on tch alone.
    fn bare(&self, train: &TensorDataset) -> Result<f64> {
        let [inputs, hidden, outputs] = model::sizes(self.name);
        let vars = nn::VarStore::new(Device::Cpu);
        let net = nn::seq()
            .add(nn::linear(vars.root() / "l1", inputs, hidden, Default::default()))
            .add_fn(Tensor::relu)
            .add(nn::linear(vars.root() / "l2", hidden, outputs, Default::default()));
        let mut optimizer = nn::Adam::default().build(&vars, 1e-3)?;
        let begun = now();
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
        Ok(now() - begun)
    }

    /// Seconds of one epoch here.
    fn ours(&self, data: &Data, does: Does) -> Result<f64> {
        let folder = std::env::temp_dir().join(format!("lightcell-speed-{}", std::process::id()));
        let trainer = Trainer::new().max_epochs(1).accelerator("cpu").seed(1);
        let trainer = if does == Does::Whole {
            let keep = ModelCheckpoint::new().monitor("val_loss");
            trainer.logger(CsvLogger::new(&folder)).callback(keep)
        } else {
            trainer.limit_val_batches(0)
        };
        let hp = Hp {
            kind: self.name.to_owned(),
            log: does != Does::Silent,
        };
        let begun = now();
        let fit = trainer.fit::<Net, _>(&hp, data)?;
        let seconds = now() - begun;
        assert_eq!(fit.step_losses.len() as i64, self.steps());
        if does == Does::Whole {
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

/// What the Python script beside this file measures: `sample seconds name`, line by line.
fn python(program: &str, task: &Task, threads: i32) -> Result<Vec<(String, f64)>> {
    let numbers = [threads as i64, task.samples, task.validation, task.batch];
    let out = Command::new(program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/speed/speed.py"))
        .arg(task.name)
        .args(numbers.map(|number| number.to_string()))
        .args(std::env::args().filter(|arg| arg == "--cpu"))
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

/// The smallest, and the one in the middle.
fn smallest_and_median(samples: &[f64]) -> (f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[0], sorted[sorted.len() / 2])
}

fn main() -> Result<()> {
    let number = |name: &str, default: i32| flag(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rounds, threads) = (number("--rounds", 5), number("--threads", 2));
    lightcell::tch::set_num_threads(threads);
    let only = flag("--only");
    for task in TASKS
        .iter()
        .filter(|task| only.as_deref().is_none_or(|only| only == task.name))
    {
        lightcell::tch::manual_seed(7);
        let data = Data::new(task.set(task.samples)?)
            .val(task.set(task.validation)?)
            .batch_size(task.batch as usize);
        let bare = ["mnist", "tiny"]
            .contains(&task.name)
            .then(|| task.set(task.samples))
            .transpose()?;
        let mut table: Vec<(String, Vec<f64>)> = Vec::new();
        let mut take = |name: &str, seconds: f64| match table.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.1.push(seconds),
            None => table.push((name.to_owned(), vec![seconds])),
        };
        // The first pass of each warms caches and is not counted.
        task.ours(&data, Does::Plain)?;
        bare.as_ref().map(|bare| task.bare(bare)).transpose()?;
        for _ in 0..rounds {
            if let Some(bare) = &bare {
                take("bare tch", task.bare(bare)?);
            }
            take("ours, silent", task.ours(&data, Does::Silent)?);
            take("ours, plain", task.ours(&data, Does::Plain)?);
            take("ours", task.ours(&data, Does::Whole)?);
            if let Some(program) = flag("--python") {
                for (name, seconds) in python(&program, task, threads)? {
                    take(&name, seconds);
                }
            }
        }
        let steps = task.steps();
        println!(
            "{}: one epoch of {steps} steps, {threads} threads, {rounds} rounds{}",
            task.name,
            if std::env::args().any(|arg| arg == "--cpu") {
                ", processors' time"
            } else {
                ""
            }
        );
        for (name, samples) in &table {
            let (smallest, middle) = smallest_and_median(samples);
            let raw: Vec<String> = samples.iter().map(|seconds| format!("{seconds:.3}")).collect();
            println!(
                "  {name:<26} {smallest:.3} s, median {middle:.3}  {:>7.1} us/step   [{}]",
                1e6 * smallest / steps as f64,
                raw.join(" ")
            );
        }
    }
    Ok(())
}
