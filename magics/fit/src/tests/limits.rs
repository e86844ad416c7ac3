//! How long a run lasts, and how often it validates.

use super::{Hp, Net, data, in_turn, trainer};
use crate::prelude::*;
use std::time::Duration;

#[test]
fn a_run_ends_when_its_time_is_over_but_not_before_its_least() {
    let _turn = in_turn();
    let run = |trainer: Trainer| {
        let fit = trainer.max_epochs(3).fit::<Net, _>(&Hp::default(), &data()).unwrap();
        (fit.history.len(), fit.progress.step)
    };
    let none = || trainer().max_time(Duration::ZERO);
    assert_eq!(run(none()), (0, 1));
    assert_eq!(run(none().min_steps(7)), (1, 7));
    assert_eq!(run(none().min_epochs(2)), (2, 10));
    assert_eq!(run(trainer().max_time(Duration::from_secs(3600))), (3, 15));
    let error = Trainer::from_json(r#"{"max_time": "1:2"}"#).unwrap_err();
    assert!(
        error
            .message()
            .contains("max_time is seconds, or text of the form DD:HH:MM:SS"),
        "{error}"
    );
}

#[test]
fn validation_may_be_seldom_and_what_monitors_waits_for_it() {
    let _turn = in_turn();
    let stop = EarlyStopping::new("val_loss").patience(1).min_delta(1e9);
    let seldom = trainer().max_epochs(9).check_val_every_n_epoch(2).callback(stop);
    let fit = seldom.fit::<Net, _>(&Hp::default(), &data()).unwrap();
    let validated: Vec<bool> = fit
        .history
        .iter()
        .map(|record| record.metrics.contains_key("val_loss"))
        .collect();
    // The first value is better than none, the second is not by so much.
    assert_eq!(validated, [false, true, false, true]);
    let error = trainer()
        .check_val_every_n_epoch(0)
        .fit::<Net, _>(&Hp::default(), &data())
        .map(drop)
        .unwrap_err();
    assert_eq!(error.message(), "check-val-every-n-epoch cannot be 0");
    let error = trainer()
        .callback(EarlyStopping::new("f1"))
        .fit::<Net, _>(&Hp::default(), &data())
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "EarlyStopping monitors `f1`, which is not logged\nhint: logged is train_loss, val_acc, val_loss; `cx.log(\"f1\", &value)` logs it"
    );
}

#[test]
fn settings_bring_callbacks_and_files() {
    let _turn = in_turn();
    let folder = super::Folder::new("settings");
    let settings = serde_json::json!({
        "max_epochs": 9, "seed": 3, "accelerator": "cpu", "default_root_dir": &*folder, "logger": "csv", "log_every_n_steps": 2,
        "early_stopping": { "monitor": "val_loss", "min_delta": 1e9, "patience": 2 },
        "model_checkpoint": { "monitor": "val_acc", "mode": "max", "save_top_k": 2, "save_last": true },
    });
    let trainer = Trainer::from_json(&settings.to_string()).unwrap();
    let fit = trainer.fit::<Net, _>(&Hp::default(), &data()).unwrap();
    assert_eq!(fit.history.len(), 3);
    let run = folder.join("lightning_logs").join("version_0");
    assert_eq!(std::fs::read_dir(run.join("checkpoints")).unwrap().count(), 3);
    assert!(run.join("metrics.csv").exists() && fit.best_model_path().unwrap().starts_with(&run));
    // The last checkpoint is that of the newest epoch, among the best or not.
    let trainer = Trainer::from_json(&settings.to_string())
        .unwrap()
        .ckpt_path("last")
        .max_epochs(3);
    assert_eq!(trainer.fit::<Net, _>(&Hp::default(), &data()).unwrap().history.len(), 3);
    // A run that only tries writes nothing.
    let before = std::fs::read_dir(folder.join("lightning_logs")).unwrap().count();
    let trying = Trainer::from_json(&settings.to_string()).unwrap().fast_dev_run(1);
    trying.fit::<Net, _>(&Hp::default(), &data()).unwrap();
    assert_eq!(
        std::fs::read_dir(folder.join("lightning_logs")).unwrap().count(),
        before
    );
    let error = Trainer::from_json(r#"{"early_stopping": {"monitor": "a", "patients": 2}}"#).unwrap_err();
    assert!(error.message().contains("patients"), "{error}");
    // No checkpoint yet: the run begins.
    let nowhere = super::trainer()
        .max_epochs(1)
        .default_root_dir(folder.join("new"))
        .ckpt_path("best");
    assert_eq!(nowhere.fit::<Net, _>(&Hp::default(), &data()).unwrap().history.len(), 1);
}

#[test]
fn a_run_with_steps_or_a_time_alone_has_as_many_epochs_as_it_takes() {
    let _turn = in_turn();
    let run = |trainer: Trainer| {
        let fit = trainer.fit::<Net, _>(&Hp::default(), &data()).unwrap();
        (fit.history.len(), fit.progress.step)
    };
    // Five batches an epoch: more than the ten epochs that a run has by default.
    assert_eq!(run(trainer().max_steps(63)), (13, 63));
    assert_eq!(run(trainer().max_steps(63).max_epochs(2)), (2, 10));
    assert_eq!(run(trainer().max_steps(63).max_epochs(-1)), (13, 63));
    assert_eq!(run(trainer()), (10, 50));
    assert_eq!(run(trainer().max_time(Duration::ZERO).min_epochs(11)), (11, 55));
    let settings = |json: &str| Trainer::from_json(json).unwrap().epochs();
    assert_eq!(settings(r#"{"max_steps": -1}"#), 10);
    assert_eq!(settings(r#"{"max_steps": 5, "max_epochs": null}"#), u64::MAX);
}

#[test]
fn a_schedule_that_spans_the_run_must_know_its_length() {
    let _turn = in_turn();
    struct Cosine(Linear);
    impl LightningModule for Cosine {
        type HParams = Hp;
        type Batch = (Tensor, Tensor);
        fn new(p: &Path, _: &Hp) -> Cosine {
            Cosine(linear(p / "l", 4, 2))
        }
        fn forward(&self, x: &Tensor) -> Tensor {
            self.0.forward(x)
        }
        fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
            cx.log("lr", &cx.lr());
            Ok(self.forward(x).cross_entropy_for_logits(y))
        }
        fn configure_optimizers(&self, _: &Hp) -> Optim {
            adam(0.1).cosine()
        }
    }
    let error = trainer().max_epochs(-1).fit::<Cosine, _>(&Hp::default(), &data());
    assert_eq!(
        error.map(drop).unwrap_err().to_string(),
        "configure_optimizers: the schedule spans the run, and nothing says how long the run is\nhint: set max_epochs or max_steps, or the schedule's own length"
    );
    let fit = trainer()
        .max_steps(63)
        .fit::<Cosine, _>(&Hp::default(), &data())
        .unwrap();
    let lrs: Vec<f64> = fit.history.iter().map(|record| record.metrics["lr"]).collect();
    assert!(lrs.is_sorted_by(|a, b| a > b) && lrs[12] < 1e-3, "{lrs:?}");
}
