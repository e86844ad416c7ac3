//! What is done with a model outside of a run: what a notebook hears of it, and the stop button.

use super::evaluating::{Judge, JudgeHp};
use super::events::notebook;
use super::{Hp, Net, data, in_turn, trainer};
use crate::prelude::*;
use crate::progress::Reporter;
use crate::{ErrorKind, notebook as magics};
use lightcell_events::run::{RunEvent, Status, Task};

fn made() -> Fit<Net> {
    Fit::<Net>::build(Hp::default(), &trainer()).unwrap()
}

fn stages(events: &[RunEvent]) -> Vec<(Stage, u64, u64)> {
    let step = |event: &RunEvent| match event {
        RunEvent::Step {
            stage, batch, batches, ..
        } => Some((*stage, *batch, *batches)),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

fn status(events: &[RunEvent]) -> Status {
    match events.last() {
        Some(RunEvent::Finished {
            status, error: None, ..
        }) => *status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pass_tells_how_far_it_is_and_what_came_of_it() {
    let _turn = in_turn();
    let mut fit = made();
    let (outside, events) = notebook(|_| false);
    let result = trainer()
        .validate_within(&mut fit, &data(), &mut Reporter::showing(outside))
        .unwrap();
    let seen = events.take();
    assert!(
        matches!(&seen[0], RunEvent::TaskStarted { task: Task::Validate, shown: true, model, device, batches: 2, .. }
            if model == "Net" && device == "cpu"),
        "{:?}",
        seen[0]
    );
    // The last batch is always told.
    assert_eq!(stages(&seen).last(), Some(&(Stage::Validate, 2, 2)));
    let Some(RunEvent::Table { rows, .. }) = seen.iter().find(|event| matches!(event, RunEvent::Table { .. })) else {
        panic!("{seen:?}")
    };
    assert_eq!(rows[0], ["Validate metric", "DataLoader 0"]);
    let value = |name: &str| rows.iter().find(|row| row[0] == name).map(|row| row[1].clone());
    assert_eq!(value("val_loss"), Some(result["val_loss"].to_string()));
    assert_eq!(status(&seen), Status::Completed);
    assert!(seen.iter().all(|event| event.run() == seen[0].run()));

    let mut fit = Fit::<Judge>::build(JudgeHp::default(), &trainer()).unwrap();
    let (outside, events) = notebook(|_| false);
    let rows = trainer()
        .predict_within(&mut fit, &data(), &mut Reporter::new(outside))
        .unwrap();
    let seen = events.take();
    assert!(matches!(
        &seen[0],
        RunEvent::TaskStarted {
            task: Task::Predict,
            shown: false,
            ..
        }
    ));
    let shape = format!("{:?} Float", rows.size());
    assert!(
        seen.iter()
            .any(|event| matches!(event, RunEvent::Table { rows, .. } if rows[1] == ["predictions", &shape]))
    );
}

#[test]
fn stop_ends_a_pass_after_its_batch() {
    let _turn = in_turn();
    let mut fit = made();
    let data = data().batch_size(1);
    let (outside, events) = notebook(|event| matches!(event, RunEvent::Step { .. }));
    let error = trainer()
        .test_within(&mut fit, &data, &mut Reporter::new(outside))
        .unwrap_err();
    let seen = events.take();
    let (_, batch, batches) = *stages(&seen).last().unwrap();
    assert!(batch < batches, "{batch} of {batches}");
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert_eq!(
        error.message(),
        format!("the test was stopped after batch {batch} of {batches}; a part of it is no result")
    );
    assert_eq!(status(&seen), Status::Stopped);
    // The model is as it was, and is tested whole the next time.
    assert!(trainer().test(&mut fit, &data).is_ok());
}

#[test]
fn a_fault_ends_a_pass_as_failed() {
    let _turn = in_turn();
    let mut fit = made();
    let cpu = (tch::Kind::Float, Device::Cpu);
    let labels = Tensor::full([8], 7, (tch::Kind::Int64, Device::Cpu));
    let wrong = Data::new(TensorDataset::new(Tensor::zeros([8, 4], cpu), labels.copy()).unwrap());
    let wrong = wrong.val(TensorDataset::new(Tensor::zeros([8, 4], cpu), labels).unwrap());
    let (outside, events) = notebook(|_| false);
    let error = trainer()
        .validate_within(&mut fit, &wrong, &mut Reporter::new(outside))
        .unwrap_err();
    assert!(error.message().contains("outside of the model's classes"), "{error}");
    assert_eq!(status(&events.take()), Status::Failed);
}

#[test]
fn a_search_tells_its_steps_and_its_curve() {
    let _turn = in_turn();
    let mut fit = made();
    let (outside, events) = notebook(|_| false);
    let tuner = Tuner::new(&trainer());
    let found = tuner
        .lr_find_within(
            &mut fit,
            &data(),
            &LrFind::new().num_training(40),
            Reporter::showing(outside),
        )
        .unwrap();
    let seen = events.take();
    assert!(
        matches!(
            &seen[0],
            RunEvent::TaskStarted {
                task: Task::LrFind,
                batches: 40,
                ..
            }
        ),
        "{:?}",
        seen[0]
    );
    let steps = stages(&seen);
    assert!(
        !steps.is_empty() && steps.iter().all(|(_, step, all)| step <= all && *all == 40),
        "{steps:?}"
    );
    // One task: no run, no epochs.
    assert!(
        !seen
            .iter()
            .any(|event| matches!(event, RunEvent::Started { .. } | RunEvent::Epoch { .. }))
    );
    let RunEvent::LrCurve {
        points,
        suggestion,
        attr_name,
        ..
    } = &seen[seen.len() - 2]
    else {
        panic!("{seen:?}")
    };
    assert_eq!(points.len(), found.losses.len());
    assert_eq!(suggestion.unwrap().0, found.suggestion().unwrap());
    assert_eq!(
        (attr_name.as_deref(), fit.hparams.lr),
        (Some("lr"), found.suggestion().unwrap())
    );
    assert_eq!(status(&seen), Status::Completed);
}

#[test]
fn a_search_that_is_stopped_changes_nothing() {
    let _turn = in_turn();
    let mut fit = made();
    let weight = |fit: &Fit<Net>| Vec::<f32>::try_from(&fit.model.l1.weight.detach().reshape([-1])).unwrap();
    let before = weight(&fit);
    let (outside, events) = notebook(|event| matches!(event, RunEvent::Step { .. }));
    let tuner = Tuner::new(&trainer());
    let error = tuner
        .lr_find_within(
            &mut fit,
            &data(),
            &LrFind::new().num_training(10_000),
            Reporter::new(outside),
        )
        .unwrap_err();
    assert_eq!(error.message(), "lr_find: the search was stopped; nothing has changed");
    assert_eq!(status(&events.take()), Status::Stopped);
    assert_eq!((weight(&fit), fit.hparams.lr), (before.clone(), Hp::default().lr));
    // After its second size.
    let (outside, events) = notebook(|event| matches!(event, RunEvent::Table { rows, .. } if rows.len() == 3));
    let error = tuner
        .scale_batch_size_within(
            &mut fit,
            |size| data().batch_size(size),
            &ScaleBatchSize::new(),
            Reporter::new(outside),
        )
        .unwrap_err();
    assert_eq!(
        error.message(),
        "scale_batch_size: the search was stopped; nothing has changed"
    );
    let tables = events
        .take()
        .iter()
        .filter(|event| matches!(event, RunEvent::Table { .. }))
        .count();
    assert_eq!((tables, weight(&fit)), (2, before));
}

#[test]
fn sizes_are_listed_as_they_are_tried() {
    let _turn = in_turn();
    let mut fit = made();
    let (outside, events) = notebook(|_| false);
    let size = Tuner::new(&trainer())
        .scale_batch_size_within(
            &mut fit,
            |size| data().batch_size(size),
            &ScaleBatchSize::new().init_val(64).max_val(128),
            Reporter::new(outside),
        )
        .unwrap();
    let seen = events.take();
    let last = seen.iter().rev().find_map(|event| match event {
        RunEvent::Table { rows, .. } => Some(rows.clone()),
        _ => None,
    });
    let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
    assert_eq!(
        last.unwrap(),
        [
            row("batch size", "memory"),
            row("64", "fits"),
            row("128", "fits"),
            row("128", "to be used")
        ]
    );
    assert_eq!((size, status(&seen)), (128, Status::Completed));
}

#[test]
fn magics_take_their_settings_as_text() {
    let _turn = in_turn();
    let mut fit = magics::build::<Net>(r#"{"accelerator": "cpu", "seed": 1}"#).unwrap();
    let all = magics::validate(&mut fit, &data(), "{}").unwrap();
    let one = magics::validate(&mut fit, &data(), r#"{"limit_val_batches": 1}"#).unwrap();
    assert_ne!(all["val_loss"], one["val_loss"]);
    assert_eq!(magics::test(&mut fit, &data(), "{}").unwrap().len(), all.len());
    let mut judge = magics::build::<Judge>("{}").unwrap();
    let rows = magics::predict(&mut judge, &data(), r#"{"fast_dev_run": 1}"#).unwrap();
    assert_eq!(rows.size(), [32, 2]);
    let found = magics::lr_find(
        &mut fit,
        &data(),
        r#"{"compat": "lightning"}"#,
        r#"{"num_training": 30}"#,
    )
    .unwrap();
    assert_eq!(fit.hparams.lr, found.suggestion().unwrap());
    let size = magics::scale_batch_size(&mut fit, |size| data().batch_size(size), "{}", r#"{"max_val": 8}"#);
    assert_eq!(size.unwrap(), 8);
    let error = magics::lr_find(&mut fit, &data(), "{}", r#"{"min": 3}"#).unwrap_err();
    assert!(
        error
            .message()
            .starts_with("the search's settings cannot be read: unknown field `min`"),
        "{error}"
    );
    assert!(magics::test(&mut fit, &data(), r#"{"max_epoch": 3}"#).is_err());
}
