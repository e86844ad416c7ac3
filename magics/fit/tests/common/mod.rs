//! The network of tests that need a process of their own.

use lightcell::prelude::*;

lightcell::hparams! { Hp { inputs: i64 = 4, hidden: i64 = 8 } }

pub struct Net(Linear, Linear);

impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &Hp) -> Net {
        Net(linear(p / "a", hp.inputs, hp.hidden), linear(p / "b", hp.hidden, 2))
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.1.forward(&self.0.forward(x).relu())
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        Ok(loss)
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        cx.log("val_loss", &self.forward(x).cross_entropy_for_logits(y));
        Ok(())
    }
    fn configure_optimizers(&self, _: &Hp) -> Optim {
        adam(1e-3)
    }
}

/// Random inputs, all of one class.
pub fn samples(n: i64, inputs: i64) -> TensorDataset {
    let x = Tensor::randn([n, inputs], (Kind::Float, Device::Cpu));
    TensorDataset::new(x, Tensor::zeros([n], (Kind::Int64, Device::Cpu))).unwrap()
}
