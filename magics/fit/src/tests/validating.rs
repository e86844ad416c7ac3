//! When a run validates, the check before it, and the settings that try a model out.

use super::{Folder, data, in_turn, trainer};
use crate as lightcell;
use crate::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;

lightcell::hparams! { SeenHp { broken: bool = false, draws: bool = false, skip: bool = false, root: bool = false } }

/// Writes down which samples it trains on, and when it validates.
struct Seen {
    layer: Linear,
    drop: Dropout,
    hp: SeenHp,
    list: Vec<String>,
}

fn sample(x: &Tensor) -> String {
    format!("{:.4}", x.double_value(&[0, 0]))
}

impl LightningModule for Seen {
    type HParams = SeenHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &SeenHp) -> Seen {
        Seen {
            layer: linear(p / "layer", 4, 2),
            drop: dropout(p, 0.3),
            hp: hp.clone(),
            list: Vec::new(),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layer.forward(&self.drop.forward(x))
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        self.list.push(sample(x));
        let out = self.forward(x);
        let loss = out.cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        // A root at 0 is a number, its derivative is infinite, and 0 times that is none.
        let root = (out.select(0, 0).select(0, 0) * 0.0).sqrt();
        Ok(if self.hp.root { loss + root } else { loss })
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        // As sampling does.
        if self.hp.draws {
            let _ = Tensor::rand([1], (Kind::Float, Device::Cpu));
        }
        if self.hp.broken {
            return Err(std::io::Error::other("no such metric").into());
        }
        assert_eq!(cx.sanity_checking(), cx.global_step() == 0);
        cx.log("val_loss", &self.forward(x).cross_entropy_for_logits(y));
        Ok(())
    }
    fn on_train_batch_start(&mut self, _: &Self::Batch, cx: &mut Step) -> Result<()> {
        if self.hp.skip && cx.batch_idx() == 2 {
            cx.skip_epoch();
        }
        Ok(())
    }
    fn on_validation_start(&mut self, cx: &mut Step) -> Result<()> {
        self.list.push(format!(
            "{} {}",
            if cx.sanity_checking() { "check" } else { "val" },
            cx.global_step()
        ));
        Ok(())
    }
}

fn fit(trainer: Trainer) -> Fit<Seen> {
    trainer.fit::<Seen, _>(&SeenHp::default(), &data()).unwrap()
}

fn refused(trainer: Trainer, hp: &SeenHp) -> String {
    trainer.fit::<Seen, _>(hp, &data()).map(drop).unwrap_err().to_string()
}

/// After which optimizer steps it validated.
fn validated(fit: &Fit<Seen>) -> Vec<u64> {
    let list = fit.model.list.iter();
    list.filter_map(|entry| entry.strip_prefix("val ")?.parse().ok())
        .collect()
}

#[test]
fn validations_come_where_lightning_has_them() {
    let _turn = in_turn();
    // Five training batches an epoch. pytorch-lightning 2.6.1 validates after the same steps.
    let run = |trainer: Trainer| validated(&fit(trainer.max_epochs(3)));
    assert_eq!(run(trainer()), [5, 10, 15]);
    assert_eq!(run(trainer().val_check_interval(0.4)), [2, 4, 7, 9, 12, 14]);
    assert_eq!(run(trainer().val_check_interval(3)), [3, 8, 13]);
    assert_eq!(run(trainer().val_check_interval(5)), [5, 10, 15]);
    // A share of less than a batch is a batch.
    assert_eq!(
        run(trainer().val_check_interval(0.1).limit_train_batches(2)),
        [1, 2, 3, 4, 5, 6]
    );
    let seldom = trainer().val_check_interval(3).check_val_every_n_epoch(2);
    assert_eq!(run(seldom), [8]);
    let across = trainer().val_check_interval(4).check_val_every_n_epoch(None);
    assert_eq!(run(across.clone()), [4, 8, 12]);
    assert_eq!(run(across.val_check_interval(7)), [7, 14]);
    assert_eq!(run(trainer().val_check_interval(9).fast_dev_run(2)), [2]);
    let error = |trainer: Trainer| refused(trainer, &SeenHp::default());
    assert_eq!(
        error(trainer().val_check_interval(6)),
        "val-check-interval is 6 batches, but an epoch has 5\nhint: use a smaller one, or count batches across epochs with `check-val-every-n-epoch none`"
    );
    assert_eq!(
        error(trainer().val_check_interval(0)),
        "val-check-interval cannot be 0\nhint: `limit-val-batches 0` never validates"
    );
    assert!(error(trainer().val_check_interval(1.5)).starts_with("val-check-interval cannot be 1.5\nhint: "));
    let json = r#"{"check_val_every_n_epoch": null, "val_check_interval": 4, "num_sanity_val_steps": -1}"#;
    let expected = Trainer::new().check_val_every_n_epoch(None).val_check_interval(4);
    assert_eq!(Trainer::from_json(json).unwrap(), expected.num_sanity_val_steps(-1));
}

#[test]
fn validation_amid_an_epoch_changes_nothing_in_training() {
    let _turn = in_turn();
    let (never, often) = (
        fit(trainer().max_epochs(2).limit_val_batches(0)),
        fit(trainer().max_epochs(2).val_check_interval(1)),
    );
    assert_eq!(never.step_losses, often.step_losses);
    assert_eq!(validated(&often), (1..=10).collect::<Vec<_>>());
    // The record has the newest.
    assert_eq!(
        often.history[1].metrics.keys().collect::<Vec<_>>(),
        ["train_loss", "val_loss"]
    );
    assert_eq!(
        often.history[1].metrics["val_loss"],
        fit(trainer().max_epochs(2)).history[1].metrics["val_loss"]
    );
}

#[test]
fn what_monitors_looks_after_each_validation() {
    let _turn = in_turn();
    let folder = Folder::new("within");
    let keep = ModelCheckpoint::new()
        .dirpath(&*folder)
        .save_top_k(-1)
        .monitor("val_loss");
    let stop = Rc::new(RefCell::new(EarlyStopping::new("val_loss").min_delta(1e9).patience(3)));
    let settings = || trainer().max_epochs(9).val_check_interval(2);
    let stopped = fit(settings().callback(keep).callback(stop.clone()));
    // The first is better than none; the fourth is the third without improvement, amid the second epoch.
    assert_eq!((validated(&stopped), stopped.progress.step), (vec![2, 4, 7, 9], 9));
    assert_eq!((stopped.history.len(), stop.borrow().stopped_epoch()), (1, 1));
    let mut names: Vec<String> = std::fs::read_dir(&*folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let name = |epoch: u64, step: u64| format!("epoch={epoch}-step={step}.safetensors");
    assert_eq!(names, [name(0, 2), name(0, 4), name(1, 7), name(1, 9)]);
    // From any of them the run goes on as if it had not stopped.
    let straight = fit(settings().max_epochs(3));
    for name in names {
        let resumed = fit(settings().max_epochs(3).ckpt_path(folder.join(&name)));
        assert_eq!(resumed.step_losses, straight.step_losses, "{name}");
        let metrics = |fit: &Fit<Seen>| fit.history.iter().map(|r| r.metrics.clone()).collect::<Vec<_>>();
        assert_eq!(metrics(&resumed), metrics(&straight), "{name}");
    }
}

#[test]
fn a_checkpoint_that_was_asked_for_before_a_validation_knows_it() {
    let _turn = in_turn();
    let folder = Folder::new("deferred");
    let keep = ModelCheckpoint::new()
        .dirpath(&*folder)
        .save_top_k(-1)
        .every_n_train_steps(2);
    let settings = || trainer().max_epochs(2).val_check_interval(2);
    let straight = fit(settings().callback(keep));
    let resumed = fit(settings().ckpt_path(folder.join("epoch=0-step=4.safetensors")));
    assert_eq!(validated(&resumed), [7, 9]);
    assert_eq!(
        resumed.history[0].metrics, straight.history[0].metrics,
        "the validation after step 4 is not lost"
    );
}

#[test]
fn the_check_before_the_first_epoch_shows_faults_and_leaves_no_trace() {
    let _turn = in_turn();
    let broken = SeenHp {
        broken: true,
        ..SeenHp::default()
    };
    assert_eq!(
        refused(trainer(), &broken),
        "batch 1 of the sanity check (shapes [32, 4], [32]): no such metric"
    );
    assert!(refused(trainer().num_sanity_val_steps(0), &broken).starts_with("validation batch 1 of epoch 1 "));
    assert_eq!(
        refused(trainer().num_sanity_val_steps(-2), &broken),
        "num-sanity-val-steps cannot be -2\nhint: -1 checks all validation batches, 0 none"
    );
    for compat in [Compat::None, Compat::Lightning] {
        let run = |steps: i64| {
            let hp = SeenHp {
                draws: true,
                ..SeenHp::default()
            };
            let settings = trainer().max_epochs(2).compat(compat).num_sanity_val_steps(steps);
            let fit = settings.fit::<Seen, _>(&hp, &data()).unwrap();
            (fit.step_losses, fit.model.list)
        };
        let (with, without) = (run(2), run(0));
        assert_eq!(with.1[0], "check 0");
        assert_eq!(with.1[1..], without.1[..], "{compat:?}: the order of the samples");
        assert_eq!(with.0, without.0, "{compat:?}");
    }
    // Neither a run that goes on nor one without data for it is checked.
    let mut on = fit(trainer().max_epochs(1));
    on.model.list.clear();
    trainer().max_epochs(1).go_on(&mut on, &data()).unwrap();
    assert_eq!(on.model.list[5..], ["val 10"]);
    let folder = Folder::new("sane");
    let path = folder.join("a.safetensors");
    on.save(&path).unwrap();
    let resumed = fit(trainer().max_epochs(3).ckpt_path(&path));
    assert_eq!(resumed.model.list.len(), 6);
    let none = fit(trainer().max_epochs(1).limit_val_batches(0));
    assert_eq!(none.model.list.len(), 5);
}

#[test]
fn an_epoch_can_be_left_early() {
    let _turn = in_turn();
    let hp = SeenHp {
        skip: true,
        ..SeenHp::default()
    };
    let short = trainer().max_epochs(2).fit::<Seen, _>(&hp, &data()).unwrap();
    assert_eq!((short.progress.step, short.history.len()), (4, 2));
    assert_eq!(validated(&short), [2, 4]);
    // The batches of a window that is not full make no step, and leave nothing behind.
    let accumulating = trainer().max_epochs(2).accumulate_grad_batches(4).limit_val_batches(0);
    let none = accumulating.fit::<Seen, _>(&hp, &data()).unwrap();
    assert_eq!((none.progress.step, none.step_losses.len()), (0, 0));
}

#[test]
fn overfitting_sees_the_same_few_batches_each_epoch() {
    let _turn = in_turn();
    for compat in [Compat::None, Compat::Lightning] {
        let base = || trainer().max_epochs(2).compat(compat).num_sanity_val_steps(0);
        let seen = |fit: Fit<Seen>| -> Vec<String> {
            let list = fit.model.list.into_iter();
            list.filter(|entry| !entry.starts_with("val")).collect()
        };
        let few = seen(fit(base().overfit_batches(2)));
        let (train, _) = super::points(200).split(0.8).unwrap();
        let first = [0, 32].map(|at| sample(&train.x().narrow(0, at, 1)));
        assert_eq!(few, [first.clone(), first].concat(), "{compat:?}");
        assert_eq!(seen(fit(base().overfit_batches(0.4))), few, "{compat:?}");
        let all = seen(fit(base()));
        assert_eq!((all.len(), all[..5] == all[5..]), (10, false), "{compat:?}");
        assert_eq!(seen(fit(base().overfit_batches(0))), all, "{compat:?}");
    }
}

#[test]
fn a_gradient_that_is_no_number_is_found_where_asked_for() {
    let _turn = in_turn();
    let hp = SeenHp {
        root: true,
        ..SeenHp::default()
    };
    let error = trainer()
        .detect_anomaly(true)
        .fit::<Seen, _>(&hp, &data())
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error.message(),
        "batch 1 of epoch 1 (step 1, shapes [32, 4], [32]): the derivative of Mul is NaN"
    );
    assert!(
        error
            .hint_text()
            .unwrap()
            .starts_with("the loss is a number but its derivative is none")
    );
    // Without it, the loss of the next step says so.
    let error = trainer().fit::<Seen, _>(&hp, &data()).map(drop).unwrap_err();
    assert!(
        error
            .message()
            .starts_with("the loss is NaN at step 2; the last good one was "),
        "{error}"
    );
    assert_eq!(
        error.hint_text(),
        Some(
            "parameters are no numbers any more, so an earlier step was too large: use a lower learning rate, or `gradient-clip-val 1`"
        )
    );
    // It changes no number of a run without fault, nor do the switches of cuDNN.
    let run = |trainer: Trainer| fit(trainer.max_epochs(1)).step_losses;
    let switched = trainer().detect_anomaly(true).deterministic(true).benchmark(false);
    assert_eq!(run(switched), run(trainer()));
    // They hold for the run alone.
    assert!(!lightcell_torch::detect_anomaly().unwrap());
    let before = lightcell_torch::deterministic_algorithms().unwrap();
    assert_eq!(before, lightcell_torch::Deterministic::Off);
}
