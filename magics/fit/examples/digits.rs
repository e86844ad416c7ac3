//! Trains the quickstart's network without a notebook, with its progress on the terminal:
//! `cargo run --release -p lightcell --example digits -- notebooks/data/digits.csv.gz [--epochs N] [--seeds N]`.

use lightcell::prelude::*;

lightcell::hparams! { Hp { hidden: i64 = 256, lr: f64 = 1e-3 } }

struct Mlp {
    l1: Linear,
    l2: Linear,
}

impl LightningModule for Mlp {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &Hp) -> Mlp {
        Mlp {
            l1: linear(p / "l1", 64, hp.hidden),
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

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str, default: u64| {
        args.iter()
            .position(|a| a == name)
            .and_then(|at| args.get(at + 1)?.parse().ok())
            .unwrap_or(default)
    };
    let table = csv(args.first().map_or("notebooks/data/digits.csv.gz", String::as_str))?;
    let images = table.narrow(1, 0, 64) / 16.0;
    let labels = table.select(1, 64).to_kind(Kind::Int64);
    for seed in 0..flag("--seeds", 1) {
        let digits = TensorDataset::new(images.shallow_clone(), labels.shallow_clone())?.shuffled(flag("--split", 2));
        let (rest, test) = digits.split(0.8)?;
        let (train, val) = rest.split(0.9)?;
        let data = Data::new(train).val(val).test(test).batch_size(32);
        let hp = Hp {
            hidden: flag("--hidden", 256) as i64,
            lr: flag("--lr-e5", 100) as f64 * 1e-5,
        };
        let begun = std::time::Instant::now();
        let mut fit = Trainer::new()
            .max_epochs(flag("--epochs", 60))
            .seed(seed)
            .fit::<Mlp, _>(&hp, &data)?;
        let result = fit.test(&data)?;
        println!(
            "seed {seed}: test accuracy {:.1} % after {:.1} s",
            100.0 * result["test_acc"],
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
