//! Optimizers and schedules in a run: what is counted, what is logged, and how faults are said.

use super::{data, in_turn, points, trainer};
use crate as lightcell;
use crate::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;

lightcell::hparams! { OptimHp { kind: String = String::new(), log: bool = false } }

thread_local! {
    static LRS: Rc<RefCell<Vec<f64>>> = Rc::default();
}

struct Scheduled {
    layer: Linear,
    norm: BatchNorm1d,
    hp: OptimHp,
}

impl LightningModule for Scheduled {
    type HParams = OptimHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &OptimHp) -> Scheduled {
        Scheduled {
            layer: linear(p / "layer", 4, 2),
            norm: batch_norm1d(p / "norm", 2),
            hp: hp.clone(),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.norm.forward(&self.layer.forward(x))
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        LRS.with(|lrs| lrs.borrow_mut().push(cx.lr()));
        if self.hp.log {
            cx.log("lr", &cx.lr());
        }
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        Ok(loss)
    }
    fn configure_optimizers(&self, _: &OptimHp) -> Optim {
        match self.hp.kind.as_str() {
            "nesterov" => adam(0.1).nesterov(),
            "plateau" => sgd(0.1, 0.0).schedule(ReduceLROnPlateau::new("val_loss")),
            "step" => sgd(0.1, 0.0).schedule(StepLR::new(1).gamma(0.5)),
            "lbfgs" => lbfgs(0.1),
            "warmup" => sgd(0.1, 0.0).warmup(50).cosine(),
            _ => sgd(0.1, 0.0).cosine(),
        }
    }
}

fn fit(trainer: &Trainer, kind: &str) -> Result<Fit<Scheduled>> {
    LRS.with(|lrs| lrs.borrow_mut().clear());
    let hp = OptimHp {
        kind: kind.to_owned(),
        log: kind == "step",
    };
    trainer.fit::<Scheduled, _>(&hp, &data())
}

fn lrs() -> Vec<f64> {
    LRS.with(|lrs| lrs.borrow().clone())
}

#[test]
fn the_learning_rate_is_in_the_history_when_it_is_logged() {
    let _turn = in_turn();
    let run = fit(&trainer().max_epochs(3), "step").unwrap();
    let logged: Vec<f64> = run.history.iter().map(|record| record.metrics["lr"]).collect();
    assert!(
        logged
            .iter()
            .zip([0.1, 0.05, 0.025])
            .all(|(lr, want)| (lr - want).abs() < 1e-12),
        "{logged:?}"
    );
    assert!((run.optimizer().lr() - 0.0125).abs() < 1e-12);
    let run = fit(&trainer().max_epochs(1), "").unwrap();
    assert_eq!(run.history[0].metrics.keys().collect::<Vec<_>>(), ["train_loss"]);
}

#[test]
fn a_window_of_batches_is_one_step() {
    let _turn = in_turn();
    // 5 batches in windows of 2, 2 and 1: 3 steps an epoch, over which the cosine falls.
    let run = fit(&trainer().max_epochs(2).accumulate_grad_batches(2), "").unwrap();
    assert_eq!((run.history[1].step, run.step_losses.len()), (6, 6));
    let cosine = |step: f64| 0.05 * (1.0 + (std::f64::consts::PI * step / 6.0).cos());
    let expected = [0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0].map(cosine);
    let got = lrs();
    assert!(
        got.len() == 10 && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
        "{got:?}"
    );
    assert!(run.optimizer().lr().abs() < 1e-12);
    let run = fit(&trainer().max_steps(4).accumulate_grad_batches(2), "").unwrap();
    assert_eq!(
        (run.progress.step, run.optimizer().schedule_state().total_steps),
        (4, 4)
    );
}

#[test]
fn going_on_begins_a_schedule_over_the_run_anew() {
    let _turn = in_turn();
    let mut run = fit(&trainer().max_epochs(1), "").unwrap();
    assert!(run.optimizer().lr().abs() < 1e-12);
    trainer().max_epochs(1).go_on(&mut run, &data()).unwrap();
    let got = lrs();
    assert_eq!((got.len(), got[0], got[5]), (10, 0.1, 0.1));
}

#[test]
fn faults_of_optimizers_and_schedules_are_said() {
    let _turn = in_turn();
    let error = |kind: &str| fit(&trainer().max_epochs(1), kind).map(drop).unwrap_err().to_string();
    assert_eq!(
        error("nesterov"),
        "configure_optimizers: Adam has no setting `nesterov`"
    );
    assert_eq!(
        error("plateau"),
        "ReduceLROnPlateau watches `val_loss`, which was not logged\nhint: logged were train_loss"
    );
    assert_eq!(
        error("warmup"),
        "configure_optimizers: a warm-up of 50 steps leaves none of the run's 5 to the schedule\nhint: use a shorter warm-up, or train longer"
    );
}

#[test]
fn lbfgs_steps_once_a_batch_and_accumulates_none() {
    let _turn = in_turn();
    let run = fit(&trainer().max_epochs(2), "lbfgs").unwrap();
    // Its further looks at a batch are neither steps nor losses of the run.
    assert_eq!((run.progress.step, run.step_losses.len()), (10, 10));
    assert!(lrs().len() > 20);
    let error = fit(&trainer().accumulate_grad_batches(2), "lbfgs")
        .map(drop)
        .unwrap_err();
    assert!(error.message().ends_with("it cannot accumulate batches"), "{error}");
}

#[test]
fn one_sample_cannot_be_normalised() {
    let _turn = in_turn();
    let data = Data::new(points(33)).batch_size(32);
    let error = trainer()
        .fit::<Scheduled, _>(&OptimHp::default(), &data)
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error.message(),
        "batch 2 of epoch 1 (step 2, shapes [1, 4], [1]): shapes do not fit: batch normalisation cannot be trained on one value of each channel (shape [1, 2]): use another batch size"
    );
}

#[test]
fn a_clipped_run_is_another_run() {
    let _turn = in_turn();
    let run = |trainer: Trainer| fit(&trainer.max_epochs(1), "").unwrap().step_losses;
    let plain = run(trainer());
    assert_eq!(run(trainer().gradient_clip_val(0.0)), plain);
    assert_eq!(run(trainer().gradient_clip_val(1e6)), plain);
    assert_ne!(run(trainer().gradient_clip_val(1e-3)), plain);
    let by_value = trainer()
        .gradient_clip_val(1e-3)
        .gradient_clip_algorithm(ClipAlgorithm::Value);
    assert_ne!(run(by_value), plain);
}
