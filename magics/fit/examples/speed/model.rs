//! The networks of the table, as one module: what a user writes for it, no more.

use lightcell::prelude::*;

lightcell::hparams! { Hp { kind: String = "mnist".to_owned(), log: bool = true } }

/// Sizes of the two networks of linear layers: inputs, hidden, outputs.
pub const MNIST: [i64; 3] = [784, 128, 10];
pub const TINY: [i64; 3] = [16, 16, 2];
/// The transformer's: words, length of a text, size of a vector, heads, numbers between its linear layers, layers.
pub const WORDS: i64 = 100;
pub const LENGTH: i64 = 32;
pub const WIDTH: i64 = 64;

enum Body {
    Mlp(Linear, Linear),
    Cnn(Conv2d, Conv2d, MaxPool2d, Linear),
    Transformer(Embedding, TransformerEncoder, Linear),
}

pub struct Net {
    body: Body,
    log: bool,
}

/// The two sizes of one, by its name.
pub fn sizes(kind: &str) -> [i64; 3] {
    if kind == "tiny" { TINY } else { MNIST }
}

impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &Hp) -> Net {
        let body = match hp.kind.as_str() {
            "cnn" => Body::Cnn(
                conv2d(p / "c1", 1, 16, 3).padding(1),
                conv2d(p / "c2", 16, 32, 3).padding(1),
                max_pool2d(2),
                linear(p / "l", 32 * 7 * 7, 10),
            ),
            "transformer" => {
                let layer = TransformerConfig::new(WIDTH, 4).dim_feedforward(128).batch_first();
                Body::Transformer(
                    embedding(p / "e", WORDS, WIDTH),
                    transformer_encoder(p / "t", layer, 2),
                    linear(p / "l", WIDTH, 10),
                )
            }
            kind => {
                let [inputs, hidden, outputs] = sizes(kind);
                Body::Mlp(linear(p / "l1", inputs, hidden), linear(p / "l2", hidden, outputs))
            }
        };
        Net { body, log: hp.log }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        match &self.body {
            Body::Mlp(l1, l2) => l2.forward(&l1.forward(x).relu()),
            Body::Cnn(c1, c2, pool, l) => {
                let x = pool.forward(&c1.forward(x).relu());
                let x = pool.forward(&c2.forward(&x).relu());
                l.forward(&x.flatten(1, -1))
            }
            Body::Transformer(e, t, l) => {
                let x = t.forward(&e.forward(x));
                l.forward(&x.mean_dim(1, false, Kind::Float))
            }
        }
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.forward(x).cross_entropy_for_logits(y);
        if self.log {
            cx.log("train_loss", &loss);
        }
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
