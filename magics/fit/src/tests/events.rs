//! What a run sends while it runs, and the stop button.

use super::{Hp, Net, data, in_turn, trainer};
use crate::looping::Progress;
use crate::prelude::*;
use crate::progress::Outside;
use lightcell_events::run::{RunEvent, Stage, Status, decode, encode};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A notebook: keeps the events; the stop button is pressed when `press` says so of an event.
pub(super) fn notebook(press: impl Fn(&RunEvent) -> bool + 'static) -> (Outside, Rc<RefCell<Vec<RunEvent>>>) {
    let (events, pressed) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
    let (kept, stop) = (events.clone(), pressed.clone());
    let emit = move |event: &RunEvent| {
        pressed.set(pressed.get() || press(event));
        // As it arrives at the kernel.
        kept.borrow_mut().push(decode(&encode(event)).unwrap());
        true
    };
    (
        Outside {
            emit: Box::new(emit),
            stop: Box::new(move || stop.get()),
            leave: Box::new(|| false),
        },
        events,
    )
}

fn run(
    trainer: Trainer,
    hp: Hp,
    press: impl Fn(&RunEvent) -> bool + 'static,
) -> (Fit<Net>, Vec<RunEvent>, Option<Error>) {
    let mut fit = Fit::<Net>::build(hp, &trainer).unwrap();
    let (outside, events) = notebook(press);
    let error = fit.run_within(&trainer, &data(), outside);
    let events = events.take();
    (fit, events, error)
}

fn last(events: &[RunEvent]) -> (Status, u64, u64, Option<String>, Option<String>) {
    match events.last().unwrap() {
        RunEvent::Finished {
            status,
            epochs,
            step,
            error,
            hint,
            ..
        } => (*status, *epochs, *step, error.clone(), hint.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_sends_its_events_in_order() {
    let _turn = in_turn();
    let (_, events, error) = run(trainer().max_epochs(2), Hp::default(), |_| false);
    assert!(error.is_none());
    let RunEvent::Started {
        version,
        run,
        model,
        device,
        first_epoch,
        max_epochs,
        train_batches,
        val_batches,
        parameters,
        hparams,
        log_dir,
    } = &events[0]
    else {
        panic!("{:?}", events[0])
    };
    assert_eq!(
        (*version, model.as_str(), device.as_str()),
        (lightcell_events::run::VERSION, "Net", "cpu")
    );
    assert_eq!((*first_epoch, *max_epochs, *train_batches, *val_batches), (0, 2, 5, 2));
    assert_eq!(*log_dir, None);
    assert_eq!(
        (*parameters, &hparams["hidden"]),
        (4 * 16 + 16 + 16 * 2 + 2, &serde_json::json!(16))
    );
    // The last batch of each loop is always there.
    let mut kinds = Vec::new();
    for event in &events[1..] {
        match event {
            RunEvent::Step {
                stage,
                epoch,
                batch,
                batches,
                metrics,
                rate,
                run: name,
                ..
            } => {
                assert_eq!(name, run);
                assert!(*rate > 0.0 && !metrics.is_empty());
                if batch == batches {
                    kinds.push(format!("{stage:?} {epoch}"));
                }
            }
            RunEvent::Epoch {
                epoch, step, metrics, ..
            } => {
                assert_eq!((*step, metrics.len()), (5 * (epoch + 1), 3));
                kinds.push(format!("epoch {epoch}"));
            }
            _ => kinds.push("end".to_owned()),
        }
    }
    assert_eq!(
        kinds,
        [
            "Train 0",
            "Validate 0",
            "epoch 0",
            "Train 1",
            "Validate 1",
            "epoch 1",
            "end"
        ]
    );
    assert_eq!(last(&events), (Status::Completed, 2, 10, None, None));
}

#[test]
fn step_events_are_few() {
    let _turn = in_turn();
    let begun = std::time::Instant::now();
    let (_, events, _) = run(trainer().max_epochs(200), Hp::default(), |_| false);
    let steps = events
        .iter()
        .filter(|event| matches!(event, RunEvent::Step { batch, batches, .. } if batch < batches))
        .count() as f64;
    assert!(
        steps <= 20.0 * begun.elapsed().as_secs_f64() + 2.0,
        "{steps} in {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_failed_run_says_so_last() {
    let _turn = in_turn();
    let (fit, events, error) = run(
        trainer(),
        Hp {
            fault: 2,
            ..Hp::default()
        },
        |_| false,
    );
    let (status, epochs, step, message, hint) = last(&events);
    assert_eq!((status, epochs, step), (Status::Failed, 0, 3));
    assert_eq!(message.as_deref(), error.as_ref().map(Error::message));
    assert_eq!(hint.as_deref(), error.as_ref().and_then(Error::hint_text));
    assert_eq!(fit.step_losses.len(), 3);
    // The step that would have spoiled the parameters was not made.
    for (name, tensor) in fit.store.vars.variables() {
        assert_eq!(tensor.isfinite().all().int64_value(&[]), 1, "{name}");
    }
}

#[test]
fn a_metric_that_is_no_number_is_said_in_words() {
    let _turn = in_turn();
    let (fit, events, _) = run(
        trainer().max_epochs(2),
        Hp {
            fault: 5,
            ..Hp::default()
        },
        |_| false,
    );
    let notes: Vec<_> = events
        .iter()
        .filter_map(|event| {
            if let RunEvent::Note { text, .. } = event {
                Some(text.as_str())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(notes, ["nothing is NaN in epoch 1; such values are not drawn"]);
    assert!(fit.history[1].metrics["nothing"].is_nan());
}

#[test]
fn stop_in_training_ends_after_the_batch() {
    let _turn = in_turn();
    let mut fit = Fit::<Net>::build(Hp::default(), &trainer()).unwrap();
    let (mut outside, events) = notebook(|_| false);
    // Asked after each of the 2 batches of the check, of 5 + 2 batches and once between them: the twelfth time is the
    // second batch of epoch 2.
    let mut asked = 0;
    outside.stop = Box::new(move || {
        asked += 1;
        asked >= 12
    });
    assert!(fit.run_within(&trainer(), &data(), outside).is_none());
    let events = events.take();
    assert_eq!(last(&events), (Status::Stopped, 1, 7, None, None));
    assert!(
        matches!(events[events.len() - 2], RunEvent::Step { epoch: 1, batch: 2, .. }),
        "{events:?}"
    );
    assert_eq!((fit.history.len(), fit.step_losses.len()), (1, 7));
    assert!(!fit.store.mode.training());
}

#[test]
fn stop_in_validation_keeps_the_epoch_and_goes_on_after_it() {
    let _turn = in_turn();
    let pressed = |event: &RunEvent| {
        matches!(
            event,
            RunEvent::Step {
                stage: Stage::Train,
                epoch: 0,
                batch: 5,
                ..
            }
        )
    };
    let (mut fit, events, _) = run(trainer().max_epochs(3), Hp::default(), pressed);
    let (status, epochs, step, ..) = last(&events);
    assert_eq!((status, epochs, step), (Status::Stopped, 1, 5));
    assert_eq!(fit.history[0].metrics.keys().collect::<Vec<_>>(), ["train_loss"]);
    trainer().max_epochs(2).go_on(&mut fit, &data()).unwrap();
    let whole = trainer().max_epochs(3).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    assert_eq!(fit.step_losses, whole.step_losses);
    assert_eq!(
        fit.history.iter().map(|record| record.epoch).collect::<Vec<_>>(),
        [0, 1, 2]
    );
}

#[test]
fn stop_after_the_last_batch_of_all_is_no_stop() {
    let _turn = in_turn();
    let (_, events, _) = run(trainer().max_epochs(1), Hp::default(), |event| {
        matches!(event, RunEvent::Epoch { .. })
    });
    assert_eq!(last(&events).0, Status::Completed);
}

#[test]
fn data_that_cannot_be_loaded_are_an_error() {
    let _turn = in_turn();
    struct Broken;
    impl DataModule for Broken {
        type Batch = (Tensor, Tensor);
        fn train_dataloader(&self) -> DataLoader<Self::Batch> {
            panic!("no disk")
        }
    }
    struct Rotten(i64);
    impl Dataset for Rotten {
        type Item = (Tensor, Tensor);
        fn len(&self) -> usize {
            5
        }
        fn get(&self, _: usize) -> Result<Self::Item> {
            let x = Tensor::zeros([2], (Kind::Float, Device::Cpu));
            Ok((x.view([self.0, 7]), x))
        }
    }
    struct Late;
    impl DataModule for Late {
        type Batch = (Tensor, Tensor);
        fn train_dataloader(&self) -> DataLoader<Self::Batch> {
            DataLoader::new(Rotten(3)).batch_size(2)
        }
    }
    let error = trainer().fit::<Net, _>(&Hp::default(), &Broken).map(drop).unwrap_err();
    assert_eq!(error.message(), "the data cannot be loaded: panic: no disk");
    let error = trainer().fit::<Net, _>(&Hp::default(), &Late).map(drop).unwrap_err();
    assert_eq!(
        error.message(),
        "batch 1 of epoch 1 (step 1): sample 0: shapes do not fit: shape '[3, 7]' is invalid for input of size 2"
    );
}

#[test]
fn memory_is_flat() {
    let _turn = in_turn();
    let resident = || {
        let pages: f64 = std::fs::read_to_string("/proc/self/statm")
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        pages * 4096.0 / 1e6
    };
    let mut fit = trainer()
        .max_epochs(100)
        .fit::<Net, _>(&Hp::default(), &data())
        .unwrap();
    let before = resident();
    trainer().max_epochs(600).go_on(&mut fit, &data()).unwrap();
    // 3,000 steps and 1,200 validation batches: one leaked batch or graph each would be 4 MB and more.
    assert!(resident() - before < 2.0, "{before} MB, then {} MB", resident());
    let Progress { step, epoch, .. } = fit.progress;
    assert_eq!((step, epoch), (3500, 700));
}
