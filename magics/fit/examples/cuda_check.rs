//! What works on this machine's GPU: `cargo run --release -p lightcell --example cuda_check [--quick]`.
//!
//! For somebody with an NVIDIA card: each line of its table is a thing that was tried here and now, with the number that
//! it was judged by. Without a card the lines that need one say so, and the others are tried on the CPU. It ends with
//! status 1 when something was tried and failed, never because there is no card.

use lightcell::prelude::*;
use lightcell::{ErrorKind, tch, torch};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

lightcell::hparams! { Hp { model: String = "mlp".to_owned(), lr: f64 = 1e-3 } }

/// The three networks of the table.
enum Net {
    Mlp(Linear, Linear),
    Cnn(Conv2d, Conv2d, Linear),
    Transformer(Linear, TransformerEncoderLayer, Linear),
}

impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);

    fn new(p: &Path, hp: &Hp) -> Net {
        match hp.model.as_str() {
            "cnn" => Net::Cnn(
                conv2d(p / "c1", 1, 32, 3),
                conv2d(p / "c2", 32, 64, 3),
                linear(p / "out", 64 * 5 * 5, 10),
            ),
            // Rows of an image as a text of 28 words.
            "transformer" => Net::Transformer(
                linear(p / "in", 28, 128),
                TransformerConfig::new(128, 4)
                    .dim_feedforward(512)
                    .dropout(0.0)
                    .build(p / "layer"),
                linear(p / "out", 128, 10),
            ),
            _ => Net::Mlp(linear(p / "l1", 784, 1024), linear(p / "l2", 1024, 10)),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Net::Mlp(l1, l2) => l2.forward(&l1.forward(x).relu()),
            Net::Cnn(c1, c2, out) => {
                let x = c1.forward(&x.view([-1, 1, 28, 28])).relu().max_pool2d_default(2);
                let x = c2.forward(&x).relu().max_pool2d_default(2);
                out.forward(&x.flatten(1, -1))
            }
            Net::Transformer(first, layer, out) => {
                let x = first.forward(&x.view([-1, 28, 28]).transpose(0, 1));
                out.forward(&layer.forward(&x).mean_dim(0, false, None))
            }
        }
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        Ok(loss)
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        cx.log("val_acc", &self.forward(x).accuracy_for_logits(y));
        Ok(())
    }
    fn configure_optimizers(&self, hp: &Hp) -> Optim {
        adam(hp.lr)
    }
}

/// Images of noise whose class a random linear function decides.
fn data(samples: i64, batch_size: usize) -> Result<Data> {
    tch::manual_seed(7);
    let x = Tensor::randn([samples, 784], (Kind::Float, Device::Cpu));
    let teacher = Tensor::randn([784, 10], (Kind::Float, Device::Cpu));
    let y = x.matmul(&teacher).argmax(1, false);
    let (train, val) = TensorDataset::new(x, y)?.split(0.9)?;
    Ok(Data::new(train).val(val).batch_size(batch_size))
}

/// How a line of the table ended.
enum Outcome {
    Good(String),
    Bad(String),
    NotRun(&'static str),
}

struct Table {
    lines: Vec<(&'static str, Outcome)>,
}

impl Table {
    /// Tries something, shows how it ended.
    fn line(&mut self, name: &'static str, check: impl FnOnce() -> Result<(bool, String)>) {
        let outcome = match check() {
            Ok((true, text)) => Outcome::Good(text),
            Ok((false, text)) => Outcome::Bad(text),
            Err(error) => Outcome::Bad(error.to_string().replace('\n', "; ")),
        };
        self.show(name, outcome);
    }

    fn show(&mut self, name: &'static str, outcome: Outcome) {
        let (mark, text) = match &outcome {
            Outcome::Good(text) => ("ok", text.as_str()),
            Outcome::Bad(text) => ("FAILED", text.as_str()),
            Outcome::NotRun(why) => ("not run", *why),
        };
        println!("{name:<34} {mark:<8} {text}");
        self.lines.push((name, outcome));
    }

    /// The same, where there is a card.
    fn on_card(
        &mut self,
        card: Option<Device>,
        name: &'static str,
        check: impl FnOnce(Device) -> Result<(bool, String)>,
    ) {
        match card {
            Some(card) => self.line(name, || check(card)),
            None => self.show(name, Outcome::NotRun("there is no GPU here")),
        }
    }
}

fn trainer(device: Device) -> Trainer {
    let name = match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    };
    Trainer::new().accelerator(&name).seed(3).max_epochs(1)
}

fn hp(model: &str) -> Hp {
    Hp {
        model: model.to_owned(),
        ..Hp::default()
    }
}

fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

fn megabytes(bytes: i64) -> f64 {
    bytes as f64 / 1e6
}

/// The largest difference of two runs' losses.
fn apart(a: &Fit<Net>, b: &Fit<Net>) -> f64 {
    let pairs = a.step_losses.iter().zip(&b.step_losses);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Notes when each batch was handed over.
struct Clock(Rc<RefCell<Vec<Instant>>>);

impl Callback for Clock {
    fn on_train_batch_end(&mut self, _: &mut Run) -> Result<()> {
        self.0.borrow_mut().push(Instant::now());
        Ok(())
    }
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let loaded = torch::load_cuda();
    let seen = lightcell_gpu::snapshot(&[]);
    println!("libtorch {}, {}", torch::libtorch_version(), seen.machine.cpu);
    let mut table = Table { lines: Vec::new() };
    let card = tch::Cuda::is_available().then_some(Device::Cuda(0));
    if seen.devices.is_empty() && card.is_none() {
        println!("There is no GPU on this machine: what needs one is not run, the rest runs on the CPU.\n");
    } else {
        println!();
        table.line("NVML and libtorch see the same", || {
            let names: Vec<&str> = seen.devices.iter().map(|device| device.name.as_str()).collect();
            let count = tch::Cuda::device_count();
            let why = loaded
                .as_ref()
                .err()
                .map(|error| format!("; {error}"))
                .unwrap_or_default();
            let text = format!("NVML: {}; libtorch: {count}{why}", names.join(", "));
            Ok((count > 0 && (names.is_empty() || count <= names.len() as i64), text))
        });
    }
    let device = card.unwrap_or(Device::Cpu);
    let small = data(if quick { 2_000 } else { 20_000 }, 64)?;

    // Numbers.
    let reference = trainer(Device::Cpu).fit::<Net, _>(&hp("mlp"), &small)?;
    let last = |fit: &Fit<Net>| fit.step_losses.iter().rev().take(20).sum::<f64>() / 20.0;
    table.on_card(card, "a fit against the CPU's numbers", |card| {
        let fit = trainer(card).fit::<Net, _>(&hp("mlp"), &small)?;
        let first = (fit.step_losses[0] - reference.step_losses[0]).abs();
        let apart = apart(&fit, &reference);
        let text = format!("losses differ by {first:.1e} in the first step, by {apart:.1e} at most");
        Ok((first < 1e-4 && apart < 1e-2, text))
    });
    table.line("bf16-mixed against float32", || {
        let fit = trainer(device)
            .precision(Precision::Bf16Mixed)
            .fit::<Net, _>(&hp("mlp"), &small)?;
        let apart = (last(&fit) - last(&reference)).abs();
        Ok((
            apart < 0.05,
            format!("on {device:?}: the last losses differ by {apart:.4} in the mean"),
        ))
    });
    table.on_card(card, "16-mixed against float32", |card| {
        let fit = trainer(card)
            .precision(Precision::F16Mixed)
            .fit::<Net, _>(&hp("mlp"), &small)?;
        let apart = (last(&fit) - last(&reference)).abs();
        let scaler = fit.grad_scaler().map(|scaler| (scaler.scale(), scaler.skipped_steps()));
        let text = format!("the last losses differ by {apart:.4} in the mean; scale and steps left out: {scaler:?}");
        Ok((apart < 0.05 && scaler.is_some(), text))
    });
    table.line("the same seed gives the same bits", || {
        let run = || trainer(device).fit::<Net, _>(&hp("mlp"), &small);
        let apart = apart(&run()?, &run()?);
        Ok((apart == 0.0, format!("on {device:?}: losses differ by {apart:.1e}")))
    });
    table.line("the generator's state comes back", || {
        let draw = || Tensor::randn([1000], (Kind::Float, device));
        let state = torch::rng_state(device)?;
        let first = draw();
        torch::set_rng_state(device, &state)?;
        Ok((draw() == first, format!("on {device:?}, {} bytes", state.numel())))
    });

    // Memory.
    table.on_card(card, "allocator's statistics", |card| {
        torch::empty_cache(card)?;
        torch::reset_peak_memory_stats(card)?;
        let before = torch::memory_stats(card)?;
        let held = Tensor::f_zeros([64, 1024, 1024], (Kind::Float, card))?;
        let with = torch::memory_stats(card)?;
        drop(held);
        let after = torch::memory_stats(card)?;
        let grown = megabytes(with.allocated - before.allocated);
        let text = format!(
            "a tensor of 268 MB: {grown:.0} MB more in tensors, {:.0} MB reserved, peak {:.0} MB",
            megabytes(with.reserved),
            megabytes(after.allocated_peak)
        );
        let good = (grown - 268.4).abs() < 3.0 && after.allocated == before.allocated;
        Ok((good && after.allocated_peak >= with.allocated, text))
    });
    table.on_card(card, "going on after out of memory", |card| {
        let tried = Tensor::f_zeros([1 << 24, 1 << 16], (Kind::Float, card));
        let kind = tried.map(drop).map_err(|error| Error::from(error).kind());
        torch::empty_cache(card)?;
        let fit = trainer(card)
            .limit_train_batches(20)
            .fit::<Net, _>(&hp("mlp"), &small)?;
        let ooms = torch::memory_stats(card)?.ooms;
        let text = format!(
            "4 TB gave {kind:?}, counted {ooms}; then {} steps",
            fit.step_losses.len()
        );
        Ok((kind == Err(ErrorKind::Memory) && fit.step_losses.len() == 20, text))
    });

    // Overlap.
    table.on_card(card, "pinned copies do not wait", |card| {
        let host = Tensor::f_ones([64, 1024, 1024], (Kind::Float, Device::Cpu))?.f_pin_memory(card)?;
        let copy = || host.f_to_device_(card, Kind::Float, true, true);
        drop(copy()?);
        synchronize(card);
        let begun = Instant::now();
        let there = copy()?;
        let handed = begun.elapsed();
        synchronize(card);
        let whole = begun.elapsed();
        let right = f64::try_from(there.f_mean(Kind::Double)?)? == 1.0;
        let rate = 268.4e-3 / whole.as_secs_f64();
        let text = format!("handed over in {handed:.1?}, there after {whole:.1?} ({rate:.1} GB/s)");
        Ok((right && handed * 4 < whole, text))
    });
    table.on_card(card, "steps do not wait for the device", |card| {
        // Large steps: the host is through with its part long before the device is. One that waits in each is not.
        let large = data(512 * 60, 512)?;
        let times = Rc::new(RefCell::new(Vec::new()));
        let watched = trainer(card).limit_val_batches(0).callback(Clock(times.clone()));
        let begun = Instant::now();
        watched.fit::<Net, _>(&hp("transformer"), &large)?;
        synchronize(card);
        let end = Instant::now();
        let times = times.take();
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).skip(5).collect();
        let device = (end - begun).as_secs_f64() / times.len().max(1) as f64;
        // The terminal is told a few times a second, and the loss is read for it.
        let waiting = gaps.iter().filter(|gap| gap.as_secs_f64() > 0.5 * device).count();
        let text = format!(
            "{waiting} of {} steps waited; {:.2} ms a step on the device",
            gaps.len(),
            1e3 * device
        );
        Ok((waiting * 4 < gaps.len(), text))
    });

    // Speed. Nothing is judged.
    for (model, name) in [
        ("mlp", "samples a second: MLP"),
        ("cnn", "samples a second: CNN"),
        ("transformer", "samples a second: transformer"),
    ] {
        table.line(name, || {
            let large = data(if quick || card.is_none() { 2_560 } else { 51_200 }, 256)?;
            let mut texts = Vec::new();
            for precision in [Precision::F32True, Precision::Bf16Mixed, Precision::F16Mixed] {
                if precision == Precision::F16Mixed && card.is_none() {
                    continue;
                }
                let once = trainer(device).limit_val_batches(0).precision(precision);
                let mut fit = once.clone().limit_train_batches(3).fit::<Net, _>(&hp(model), &large)?;
                synchronize(device);
                let before = fit.step_losses.len();
                let begun = Instant::now();
                once.go_on(&mut fit, &large)?;
                synchronize(device);
                let samples = 256.0 * (fit.step_losses.len() - before) as f64;
                texts.push(format!("{precision} {:.0}", samples / begun.elapsed().as_secs_f64()));
            }
            Ok((true, format!("on {device:?}: {}", texts.join(", "))))
        });
    }

    let count = |wanted: fn(&Outcome) -> bool| table.lines.iter().filter(|(_, outcome)| wanted(outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Bad(_)));
    println!(
        "\n{} ok, {failed} failed, {} not run",
        count(|outcome| matches!(outcome, Outcome::Good(_))),
        count(|outcome| matches!(outcome, Outcome::NotRun(_)))
    );
    if failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}
