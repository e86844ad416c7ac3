//! MNIST by a network of two layers, without a notebook, with bars on the terminal:
//!
//! `cargo run --release -p lightcell --example mnist_mlp -- [--data DIR] [--max-epochs N] [--threads N] [--seed N]`
//!
//! It prints seconds per epoch and the accuracy on the test data. DIR holds MNIST's four IDX files; those that are not there
//! are downloaded into it. This is the network of the speed table (`examples/speed`).

use lightcell::prelude::*;

lightcell::hparams! { Hp { hidden: i64 = 128, lr: f64 = 1e-3 } }

struct Mlp {
    l1: Linear,
    l2: Linear,
}

impl LightningModule for Mlp {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &Hp) -> Mlp {
        Mlp {
            l1: linear(p / "l1", 784, hp.hidden),
            l2: linear(p / "l2", hp.hidden, 10),
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
    fn configure_optimizers(&self, hp: &Hp) -> Optim {
        adam(hp.lr)
    }
}

/// The value of a flag, or what holds without it.
fn flag<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    let args: Vec<String> = std::env::args().collect();
    let Some(at) = args.iter().position(|arg| arg == name) else {
        return Ok(default);
    };
    let value = args.get(at + 1).and_then(|text| text.parse().ok());
    value.ok_or_else(|| Error::new(lightcell::ErrorKind::Option, format!("{name} needs a value")))
}

fn run() -> Result<()> {
    let threads: i32 = flag("--threads", 0)?;
    if threads > 0 {
        lightcell::tch::set_num_threads(threads);
    }
    let folder: String = flag("--data", "data/mnist".to_owned())?;
    let trainer = Trainer::new()
        .max_epochs(flag("--max-epochs", 3)?)
        .seed(flag("--seed", 42)?);
    let digits = mnist(folder)?;
    // The last 5,000 of the 60,000 images choose nothing here, but they show how it would go on new ones.
    let (train, val) = digits.train.split(55.0 / 60.0)?;
    let data = Data::new(train).val(val).test(digits.test).batch_size(64);
    let mut fit = trainer.fit::<Mlp, _>(&Hp::default(), &data)?;
    let seconds: Vec<f64> = fit.history.iter().map(|record| record.seconds).collect();
    let mean = seconds.iter().sum::<f64>() / seconds.len().max(1) as f64;
    let result = fit.test(&data)?;
    println!("{result}");
    println!(
        "{mean:.2} s per epoch on {} threads; {:.2} % of the test images are read right",
        lightcell::tch::get_num_threads(),
        100.0 * result["test_acc"]
    );
    Ok(())
}

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}
