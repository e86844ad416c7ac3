//! Row 4: means over validation data. Row 6: the order of the samples, as PyTorch's `DataLoader` draws it.

use super::*;

#[test]
fn oracle_04_validation_means_are_weighted_by_size() {
    let _turn = in_turn();
    let hp = Hp {
        optimizer: "adam".to_owned(),
        dropout: 0.25,
        ..Hp::default()
    };
    let (train, val) = samples(456, 20, 4).split(256.0 / 456.0).unwrap();
    let data = Loaders {
        train: Arc::new(train),
        val: Some(Arc::new(val)),
        batch_size: 16,
        shuffle: true,
    };
    let fit = trainer()
        .max_epochs(3)
        .compat(Compat::Lightning)
        .fit::<Net, _>(&hp, &data)
        .unwrap();
    let golden = &golden()["validation"];
    // Shuffling and dropout draw from one generator: the losses agree only when every draw comes in its turn.
    let losses = apart(&fit.step_losses, &numbers(&golden["losses"]));
    near(4, "losses, shuffled and with dropout", losses, 1e-5);
    for (ours, theirs) in fit.history.iter().zip(golden["epochs"].as_array().unwrap()) {
        for name in ["val_loss", "val_acc"] {
            let difference = (ours.metrics[name] - theirs[name].as_f64().unwrap()).abs();
            near(4, &format!("{name} of each epoch"), difference, 1e-6);
        }
    }
}

/// Notes which samples it sees. Dropout draws between the batches, from the generator that also decides their order.
struct Numbers {
    l1: Linear,
    drop: Dropout,
    seen: Vec<i64>,
}

impl LightningModule for Numbers {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);

    fn new(p: &Path, _: &Hp) -> Numbers {
        Numbers {
            l1: linear(p / "l1", 1, 2),
            drop: dropout(p, 0.5),
            seen: Vec::new(),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.drop.forward(&self.l1.forward(&(x / 100)))
    }
    fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        self.seen
            .extend(Vec::<i64>::try_from(&x.flatten(0, -1).to_kind(Kind::Int64))?);
        Ok(self.forward(x).cross_entropy_for_logits(y))
    }
    fn validation_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<()> {
        let _ = self.forward(x);
        Ok(())
    }
    fn configure_optimizers(&self, _: &Hp) -> Optim {
        sgd(0.0, 0.0)
    }
}

#[test]
fn oracle_06_the_order_of_the_samples() {
    let _turn = in_turn();
    let x = Tensor::arange(100, (Kind::Float, Device::Cpu)).unsqueeze(1);
    let y = Tensor::zeros([100], (Kind::Int64, Device::Cpu));
    let all = Arc::new(TensorDataset::new(x, y).unwrap());
    for (name, val) in [("alone", None), ("with_validation", Some(all.clone()))] {
        let data = Loaders {
            train: all.clone(),
            val,
            batch_size: 8,
            shuffle: true,
        };
        let trainer = trainer().seed(3).max_epochs(3);
        let fit = trainer
            .clone()
            .compat(Compat::Lightning)
            .fit::<Numbers, _>(&Hp::default(), &data)
            .unwrap();
        let theirs: Vec<i64> = golden()["order"][name]
            .as_array()
            .unwrap()
            .iter()
            .map(|number| number.as_i64().unwrap())
            .collect();
        assert_eq!(fit.model.seen, theirs, "{name}");
        equal(6, "order of the samples");
        let ours = trainer.fit::<Numbers, _>(&Hp::default(), &data).unwrap();
        assert_ne!(ours.model.seen, theirs, "our own order depends on seed and epoch alone");
    }
}
