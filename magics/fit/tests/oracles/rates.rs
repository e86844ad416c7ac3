//! Row 7, the other half: our own search for a learning rate, on four models, against what Lightning's suggests. Each is
//! trained with both suggestions; the table is printed (`-- --nocapture`).

use super::{in_order, in_turn, samples};
use lightcell::prelude::*;

lightcell::hparams! { RateHp { model: String = String::new(), lr: f64 = 1e-3 } }

/// 64 numbers as they are, as a picture of 8 by 8, or as 8 steps of 8.
enum Layers {
    Mlp(Linear, Linear),
    Cnn(Conv2d, BatchNorm2d, Linear),
    Gru(GRU, Linear),
}

struct Varied(Layers);

impl LightningModule for Varied {
    type HParams = RateHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &RateHp) -> Varied {
        Varied(match hp.model.as_str() {
            "CNN, Adam" => Layers::Cnn(
                conv2d(p / "conv", 1, 8, 3),
                batch_norm2d(p / "norm", 8),
                linear(p / "out", 8 * 6 * 6, 4),
            ),
            "GRU, AdamW" => Layers::Gru(
                lightcell::RecurrentConfig::new(8, 32).batch_first().gru(p / "gru"),
                linear(p / "out", 32, 4),
            ),
            _ => Layers::Mlp(linear(p / "l1", 64, 64), linear(p / "l2", 64, 4)),
        })
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        match &self.0 {
            Layers::Mlp(l1, l2) => l2.forward(&l1.forward(x).relu()),
            Layers::Cnn(conv, norm, out) => {
                let x = norm.forward(&conv.forward(&x.view([-1, 1, 8, 8]))).relu();
                out.forward(&x.flatten(1, -1))
            }
            Layers::Gru(gru, out) => out.forward(&gru.forward(&x.view([-1, 8, 8])).0.select(1, 7)),
        }
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        Ok(loss)
    }
    fn configure_optimizers(&self, hp: &RateHp) -> Optim {
        match hp.model.as_str() {
            "MLP, SGD" => sgd(hp.lr, 0.9),
            "GRU, AdamW" => adamw(hp.lr),
            _ => adam(hp.lr),
        }
    }
}

#[test]
fn oracle_07_our_own_suggestions_train_four_models_better() {
    let _turn = in_turn();
    let trainer = || Trainer::new().accelerator("cpu").seed(42).max_epochs(5);
    println!(
        "{:<12} {:>11} {:>8} {:>11} {:>8}",
        "", "Lightning's", "loss", "ours", "loss"
    );
    for model in ["MLP, SGD", "MLP, Adam", "CNN, Adam", "GRU, AdamW"] {
        // The mean loss of the fifth epoch with the rate that a search suggests.
        let loss = |compat: Compat| {
            let hp = RateHp {
                model: model.to_owned(),
                ..RateHp::default()
            };
            let data = in_order(samples(1024, 64, 4), 32);
            let mut net = Varied::build(hp).unwrap();
            let tuner = Tuner::new(&trainer().compat(compat));
            let found = tuner.lr_find(&mut net, &data, &LrFind::new()).unwrap();
            trainer().go_on(&mut net, &data).unwrap();
            (
                found.suggestion().unwrap(),
                net.history.last().unwrap().metrics["train_loss"],
            )
        };
        let ((their_lr, theirs), (our_lr, ours)) = (loss(Compat::Lightning), loss(Compat::None));
        println!("{model:<12} {their_lr:>11.2e} {theirs:>8.4} {our_lr:>11.2e} {ours:>8.4}");
        assert!(
            ours < 0.6 * theirs,
            "{model}: {ours} at {our_lr}, {theirs} at {their_lr}"
        );
    }
}
