//! Callbacks that change a run: their states are part of a checkpoint, and what cannot be is refused.

use super::resume::{Net, RHp, all, data, resumes_with};
use super::{Folder, in_turn, trainer};
use crate::prelude::*;
use lightcell_events::run::Status;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

fn plateau() -> RHp {
    RHp {
        schedule: "plateau".to_owned(),
        ..RHp::default()
    }
}

#[test]
fn oracle_13_a_run_that_averages_its_weights_resumes_bit_by_bit() {
    let _turn = in_turn();
    // Before the average begins, while the rate changes, and at the end of epochs.
    let swa = || {
        StochasticWeightAveraging::new(0.005)
            .swa_epoch_start(2)
            .annealing_epochs(3)
    };
    resumes_with(&plateau(), &|| trainer().max_epochs(4).callback(swa()), 9, 2);
    let ema = || {
        EMAWeightAveraging::new()
            .decay(0.7)
            .update_every_n_steps(3)
            .update_starting_at_step(4)
    };
    resumes_with(&plateau(), &|| trainer().max_epochs(2).callback(ema()), 6, 1);
    let windows = || GradientAccumulationScheduler::new([(0, 3), (1, 5)]);
    resumes_with(&RHp::default(), &|| trainer().max_epochs(3).callback(windows()), 9, 1);
}

#[test]
fn a_checkpoint_has_the_averaged_weights_as_the_model() {
    let _turn = in_turn();
    let folder = Folder::new("averaged");
    let path = folder.join("run.safetensors");
    let ema = Rc::new(RefCell::new(EMAWeightAveraging::new().decay(0.5)));
    struct Save(std::path::PathBuf, Rc<RefCell<Vec<(String, Tensor)>>>);
    impl Callback for Save {
        fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
            if run.global_step() == 5 {
                run.save_checkpoint(&self.0);
                let copies = run.state_dict().into_iter().map(|(name, tensor)| (name, tensor.copy()));
                *self.1.borrow_mut() = copies.collect();
            }
            Ok(())
        }
    }
    let trained = Rc::new(RefCell::new(Vec::new()));
    let base = || trainer().max_epochs(1);
    let watched = base()
        .callback(ema.clone())
        .callback(Save(path.clone(), trained.clone()));
    watched.fit::<Net, _>(&plateau(), &data()).unwrap();
    let file: std::collections::HashMap<String, Tensor> =
        Tensor::read_safetensors(&path).unwrap().into_iter().collect();
    for (name, tensor) in trained.borrow().iter() {
        assert_eq!(file[&format!("current.{name}")], *tensor, "{name}");
    }
    assert_ne!(file["model.l1.weight"], file["current.l1.weight"]);
    // Who loads weights gets the average; so does a run without the callback.
    let mut other = Fit::<Net>::build(plateau(), &trainer()).unwrap();
    other.load_weights(&path).unwrap();
    let weight = |fit: &Fit<Net>| fit.model.l1.weight.detach();
    assert_eq!(weight(&other), file["model.l1.weight"]);
    let without = base()
        .max_epochs(0)
        .ckpt_path(&path)
        .fit::<Net, _>(&plateau(), &data())
        .unwrap();
    assert_eq!(weight(&without), file["model.l1.weight"]);
}

#[test]
fn a_run_that_the_user_stops_keeps_its_own_weights_and_goes_on() {
    let _turn = in_turn();
    use crate::progress::Outside;
    let straight = {
        let trainer = trainer().max_epochs(2).callback(EMAWeightAveraging::new().decay(0.5));
        trainer.fit::<Net, _>(&plateau(), &data()).unwrap()
    };
    // Stopped amid a validation, when model and average have changed places.
    let trainer = trainer().max_epochs(2).callback(EMAWeightAveraging::new().decay(0.5));
    let mut fit = Fit::<Net>::build(plateau(), &trainer).unwrap();
    let pressed = Rc::new(std::cell::Cell::new(0));
    let stop = pressed.clone();
    let outside = Outside {
        emit: Box::new(|_| true),
        stop: Box::new(move || {
            stop.set(stop.get() + 1);
            // 2 batches of the check before, 16 of training, one question after them, then the first of validation.
            stop.get() == 20
        }),
        leave: Box::new(|| false),
    };
    assert!(fit.run_within(&trainer, &data(), outside).is_none());
    assert_eq!((fit.progress.status, fit.progress.epoch), (Status::Stopped, 1));
    trainer.clone().max_epochs(1).go_on(&mut fit, &data()).unwrap();
    let weights = |fit: &Fit<Net>| all(fit).into_iter().take(12).collect::<Vec<_>>();
    assert_eq!(weights(&fit), weights(&straight));
}

#[test]
fn a_timer_ends_a_run_and_counts_its_earlier_parts() {
    let _turn = in_turn();
    let run = |timer: Timer| {
        let timer = Rc::new(RefCell::new(timer));
        let trainer = trainer().max_epochs(3).callback(timer.clone());
        let fit = trainer.fit::<Net, _>(&plateau(), &data()).unwrap();
        (fit.history.len(), fit.progress.step, timer)
    };
    let (epochs, steps, timer) = run(Timer::new().duration(Duration::ZERO));
    // As in Lightning, a time that is over before the first batch lets none be trained.
    assert_eq!((epochs, steps), (0, 0));
    assert_eq!(timer.borrow().time_remaining(), Some(Duration::ZERO));
    let (epochs, _, timer) = run(Timer::new().duration(Duration::from_secs(3600)));
    assert_eq!(epochs, 3);
    let timer = timer.borrow();
    let (train, validate) = (timer.time_elapsed(Stage::Train), timer.time_elapsed(Stage::Validate));
    assert!(train > validate && validate > Duration::ZERO);
    assert_eq!(timer.time_elapsed(Stage::Train), train, "the run is over");
    assert!(Timer::new().time_remaining().is_none());
    // One nanosecond is over after the first batch, or the first epoch.
    let brief = || Timer::new().duration(Duration::from_nanos(1));
    assert!(run(brief()).1 <= 1);
    let mut resumed = Timer::new().duration(Duration::from_secs(100));
    resumed
        .load_state_dict(&serde_json::json!({ "time_elapsed": { "train": 99.5 } }))
        .unwrap();
    assert_eq!(resumed.time_elapsed(Stage::Train), Duration::from_millis(99_500));
    assert_eq!(resumed.time_remaining(), Some(Duration::from_millis(500)));
    let (epochs, steps, _) = {
        let mut spent = Timer::new()
            .duration(Duration::from_secs(100))
            .interval(Interval::Epoch);
        spent
            .load_state_dict(&serde_json::json!({ "time_elapsed": { "train": 100.0 } }))
            .unwrap();
        run(spent)
    };
    assert_eq!((epochs, steps), (0, 0));
}

#[test]
fn a_machine_is_watched_at_the_steps_that_are_logged() {
    let _turn = in_turn();
    let folder = Folder::new("machine");
    let trainer = trainer()
        .max_epochs(1)
        .log_every_n_steps(8)
        .logger(CsvLogger::new(&*folder))
        .callback(DeviceStatsMonitor::new());
    trainer.fit::<Net, _>(&plateau(), &data()).unwrap();
    let table = std::fs::read_to_string(folder.join("lightning_logs/version_0/metrics.csv")).unwrap();
    let header: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    for hook in ["on_train_batch_start", "on_train_batch_end"] {
        for name in ["cpu_percent", "cpu_vm_percent", "cpu_swap_percent"] {
            let column = header
                .iter()
                .position(|other| *other == format!("DeviceStatsMonitor.{hook}/{name}"))
                .unwrap();
            let step = header.iter().position(|other| *other == "step").unwrap();
            let rows = table.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
            let values: Vec<(u64, f64)> = rows
                .filter(|row| !row[column].is_empty())
                .map(|row| (row[step].parse().unwrap(), row[column].parse().unwrap()))
                .collect();
            assert_eq!(values.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [7, 15]);
            assert!(
                values.iter().all(|(_, value)| (0.0..=100.0).contains(value)),
                "{values:?}"
            );
        }
    }
    // Memory is always in use.
    assert!(table.lines().any(|row| row.contains("100.0") || row.contains('.')));
}

#[test]
fn a_summary_is_said_when_a_run_begins() {
    let _turn = in_turn();
    use lightcell_events::run::RunEvent;
    let trainer = trainer().max_epochs(1).callback(ModelSummary::new());
    let mut fit = Fit::<Net>::build(plateau(), &trainer).unwrap();
    let notes = Rc::new(RefCell::new(Vec::new()));
    let heard = notes.clone();
    let outside = crate::progress::Outside {
        emit: Box::new(move |event| {
            if let RunEvent::Note { text, .. } = event {
                heard.borrow_mut().push(text.clone());
            }
            true
        }),
        stop: Box::new(|| false),
        leave: Box::new(|| false),
    };
    assert!(fit.run_within(&trainer, &data(), outside).is_none());
    assert_eq!(notes.take(), [fit.summary(1)]);
}

#[test]
fn what_callbacks_cannot_do_is_said() {
    let _turn = in_turn();
    let error = |trainer: Trainer| {
        trainer
            .fit::<Net, _>(&plateau(), &data())
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let hint = "\nhint: add one: `.logger(CsvLogger::new(\"runs\"))`, or `--logger csv`";
    assert_eq!(
        error(trainer().callback(LearningRateMonitor::new())),
        format!("LearningRateMonitor has no logger to write to{hint}")
    );
    assert_eq!(
        error(trainer().callback(DeviceStatsMonitor::new())),
        format!("DeviceStatsMonitor has no logger to write to{hint}")
    );
    assert_eq!(
        error(trainer().callback(EMAWeightAveraging::new().decay(1.5))),
        "EMAWeightAveraging: the decay cannot be 1.5\nhint: it is between 0 and 1, usually 0.999"
    );
    assert_eq!(
        error(trainer().callback(StochasticWeightAveraging::new(0.1).swa_lrs(&[0.1, 0.2]))),
        "StochasticWeightAveraging has 2 learning rates, the optimizer 1 parameter groups\nhint: give one for all, or one for each; the first is that of the parameters in no group"
    );
    assert_eq!(
        error(trainer().callback(GradientAccumulationScheduler::new([(0, 0)]))),
        "accumulate-grad-batches cannot be 0\nhint: 1 makes a step of each batch"
    );
}
