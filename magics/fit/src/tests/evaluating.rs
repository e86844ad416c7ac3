//! Judging a model outside of a run, and predicting with it.

use super::{Folder, Hp, Net, data, in_turn, points, trainer};
use crate as lightcell;
use crate::prelude::*;

lightcell::hparams! { JudgeHp { log_in_predict: bool = false, ragged: bool = false } }

/// Predicts, tests with a step of its own, and keeps a number in its checkpoints.
pub(super) struct Judge {
    layer: Linear,
    hp: JudgeHp,
    seen: i64,
}

impl LightningModule for Judge {
    type HParams = JudgeHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &JudgeHp) -> Judge {
        Judge {
            layer: linear(p / "layer", 4, 2),
            hp: hp.clone(),
            seen: 0,
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layer.forward(x)
    }
    fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        self.seen += x.size()[0];
        Ok(self.forward(x).cross_entropy_for_logits(y))
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        let out = self.forward(x);
        assert!(!out.requires_grad(), "validation tracks gradients");
        cx.log("val_loss", &out.cross_entropy_for_logits(y));
        Ok(())
    }
    fn test_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        let out = self.forward(x);
        assert!(!out.requires_grad(), "a test tracks gradients");
        cx.log("loss", &out.cross_entropy_for_logits(y));
        cx.log("acc", &out.accuracy_for_logits(y));
        cx.log("seen", &self.seen);
        Ok(())
    }
    fn predict_step(&mut self, (x, _): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let out = self.forward(x);
        assert!(!out.requires_grad(), "predictions track gradients");
        if self.hp.log_in_predict {
            cx.log("mean", &out.mean(Kind::Float));
        }
        Ok(if self.hp.ragged && cx.batch_idx() == 1 {
            out.narrow(1, 0, 1)
        } else {
            out
        })
    }
    fn on_save_checkpoint(&self, state: &mut Value) -> Result<()> {
        state["seen"] = self.seen.into();
        Ok(())
    }
    fn on_load_checkpoint(&mut self, state: &Value) -> Result<()> {
        self.seen = state["seen"].as_i64().unwrap_or(-1);
        Ok(())
    }
}

fn fit(trainer: Trainer, hp: JudgeHp) -> Fit<Judge> {
    trainer.fit::<Judge, _>(&hp, &data()).unwrap()
}

#[test]
fn means_are_exact_over_unequal_batches() {
    let _turn = in_turn();
    let mut fit = fit(trainer().max_epochs(1), JudgeHp::default());
    // 50 samples in batches of 32 and 18.
    let all = points(50);
    let out = fit.model.forward(all.x());
    let exact = |value: Tensor| value.double_value(&[]);
    let result = fit.test(&data()).unwrap();
    assert!((result["loss"] - exact(out.cross_entropy_for_logits(all.y()))).abs() < 1e-6);
    assert!((result["acc"] - exact(out.accuracy_for_logits(all.y()))).abs() < 1e-6);
    assert_eq!(fit.validate(&data()).unwrap().keys().collect::<Vec<_>>(), ["val_loss"]);
    // What a run says of its last epoch is what is said afterwards.
    assert_eq!(
        fit.validate(&data()).unwrap()["val_loss"],
        fit.history[0].metrics["val_loss"]
    );
    let predicted = trainer().predict(&mut fit, &data()).unwrap();
    assert_eq!((predicted.size(), predicted.requires_grad()), (vec![50, 2], false));
    assert!((predicted - out.detach()).abs().max().double_value(&[]) < 1e-6);
    // A loader that shuffles predicts in the order of its data set.
    let loader = data().train_dataloader();
    let (train, _) = points(200).split(0.8).unwrap();
    let difference = fit.predict(&loader).unwrap() - fit.model.forward(train.x()).detach();
    assert!(difference.abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn limits_hold_outside_of_a_run() {
    let _turn = in_turn();
    let mut fit = fit(trainer().max_epochs(1), JudgeHp::default());
    let rows = |fit: &mut Fit<Judge>, trainer: Trainer| trainer.predict(fit, &data()).map(|rows| rows.size()[0]);
    assert_eq!(rows(&mut fit, trainer().limit_predict_batches(1)).unwrap(), 32);
    assert_eq!(rows(&mut fit, trainer().limit_predict_batches(0.5)).unwrap(), 32);
    assert_eq!(rows(&mut fit, trainer().fast_dev_run(1)).unwrap(), 32);
    assert_eq!(rows(&mut fit, trainer().limit_test_batches(1)).unwrap(), 50);
    assert_eq!(
        rows(&mut fit, trainer().limit_predict_batches(0))
            .unwrap_err()
            .message(),
        "limit-predict-batches leaves none of the 2 batches"
    );
    let half = trainer().limit_test_batches(1).test(&mut fit, &data()).unwrap();
    let first = points(50).split(0.64).unwrap().0;
    let exact = fit.model.forward(first.x()).cross_entropy_for_logits(first.y());
    assert!((half["loss"] - exact.double_value(&[])).abs() < 1e-6);
    let error = trainer().limit_test_batches(1.5).test(&mut fit, &data()).unwrap_err();
    assert_eq!(error.message(), "limit-test-batches cannot be 1.5");
}

#[test]
fn a_checkpoint_is_judged_and_the_run_stays_as_it_is() {
    let _turn = in_turn();
    let folder = Folder::new("judged");
    let keep = ModelCheckpoint::new()
        .monitor("val_loss")
        .dirpath(&*folder)
        .save_last(true);
    let mut fit = fit(trainer().max_epochs(3).callback(keep), JudgeHp::default());
    let weight = |fit: &Fit<Judge>| Vec::<f32>::try_from(&fit.model.layer.weight.detach().reshape([-1])).unwrap();
    let now = fit.test(&data()).unwrap();
    assert_eq!(now["seen"], 480.0);
    // The run goes on, away from its checkpoints.
    trainer().max_epochs(2).go_on(&mut fit, &data()).unwrap();
    let (before, newer) = (weight(&fit), fit.test(&data()).unwrap());
    assert_eq!(newer["seen"], 800.0);
    let last = || trainer().ckpt_path(folder.join("last.safetensors"));
    assert_eq!(
        last().test(&mut fit, &data()).unwrap(),
        now,
        "parameters and state are the file's"
    );
    assert_eq!(weight(&fit), before);
    assert_eq!(fit.test(&data()).unwrap(), newer);
    let best = trainer().ckpt_path("best");
    let validated = |best: &Trainer, fit: &mut Fit<Judge>| best.validate(fit, &data());
    let error = validated(&best, &mut fit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no checkpoint `best` in ./checkpoints\nhint: train with a `ModelCheckpoint`, or leave ckpt-path out: the model is judged as it is now"
    );
    // A run that goes on from a checkpoint gets the module's state back.
    let resumed = last().max_epochs(3);
    let mut resumed = resumed.fit::<Judge, _>(&JudgeHp::default(), &data()).unwrap();
    assert_eq!(resumed.test(&data()).unwrap(), now);
    // A file with parameters alone has no state; one of another model changes nothing.
    let path = folder.join("weights.safetensors");
    resumed.save_weights(&path).unwrap();
    assert_eq!(
        trainer().ckpt_path(&path).test(&mut fit, &data()).unwrap()["seen"],
        -1.0
    );
    let other = trainer().max_epochs(1).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    other.save(&path).unwrap();
    let error = trainer().ckpt_path(&path).test(&mut fit, &data()).unwrap_err();
    assert!(error.message().contains("missing: layer.bias, layer.weight"), "{error}");
    assert_eq!((weight(&fit), fit.model.seen), (before, 800));
}

#[test]
fn best_and_last_are_those_of_the_run() {
    let _turn = in_turn();
    let folder = Folder::new("bestlast");
    // The largest loss is the best here: that of the first epoch.
    let keep = ModelCheckpoint::new()
        .monitor("val_loss")
        .mode(MonitorMode::Max)
        .dirpath(&*folder)
        .save_last(true);
    let mut fit = fit(trainer().max_epochs(3).callback(keep), JudgeHp::default());
    let losses: Vec<f64> = fit.history.iter().map(|record| record.metrics["val_loss"]).collect();
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
    for (name, loss) in [("best", losses[0]), ("last", losses[2])] {
        let result = trainer().ckpt_path(name).validate(&mut fit, &data()).unwrap();
        assert_eq!(result["val_loss"], loss, "{name}");
    }
}

#[test]
fn faults_say_where_they_are() {
    let _turn = in_turn();
    let logs = JudgeHp {
        log_in_predict: true,
        ..JudgeHp::default()
    };
    let mut fit1 = fit(trainer().max_epochs(1), logs);
    assert_eq!(
        trainer().predict(&mut fit1, &data()).unwrap_err().message(),
        "prediction batch 1 (shapes [32, 4], [32]): `mean` cannot be logged here: predictions have no log"
    );
    let ragged = JudgeHp {
        ragged: true,
        ..JudgeHp::default()
    };
    let mut fit2 = fit(trainer().max_epochs(1), ragged);
    assert_eq!(
        trainer().predict(&mut fit2, &data()).unwrap_err().message(),
        "predictions cannot be joined: their shapes are [32, 2], [18, 1]"
    );
    let bare = Data::new(points(10));
    assert_eq!(
        trainer().predict(&mut fit2, &bare).unwrap_err().to_string(),
        "there are no data to predict from\nhint: `data.test(…)` adds them, or a DataModule's `predict_dataloader`"
    );
    assert_eq!(
        fit2.validate(&bare).unwrap_err().to_string(),
        "there are no validation data\nhint: `data.val(…)` adds them"
    );
    let empty = Data::new(points(10)).test(points(0));
    assert_eq!(
        fit2.test(&empty).unwrap_err().message(),
        "there are no test data: the data set is empty"
    );
    let wide = Data::new(points(10)).test(
        TensorDataset::new(
            Tensor::zeros([3, 5], (Kind::Float, Device::Cpu)),
            Tensor::zeros([3], (Kind::Int64, Device::Cpu)),
        )
        .unwrap(),
    );
    assert_eq!(
        fit2.test(&wide).unwrap_err().message(),
        "test batch 1 (shapes [3, 5], [3]): shapes do not fit: the input is 3x5, the layer's weight 4x2"
    );
}
