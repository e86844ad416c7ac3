use super::*;
use crate::prelude::*;

fn scheduler(optim: &Optim) -> Scheduler {
    Scheduler::new(optim.plan.clone())
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    let error = |schedule: Schedule| {
        let optim = sgd(0.1, 0.9).schedule(schedule);
        optim.build(Vec::new()).map(drop).unwrap_err().to_string()
    };
    assert_eq!(
        error(StepLR::new(0).into()),
        "the step_size of StepLR cannot be 0\nhint: it counts from 1"
    );
    assert_eq!(
        error(OneCycleLR::new(0.1).pct_start(2.0).into()),
        "the pct_start of OneCycleLR is between 0 and 1, not 2"
    );
    assert_eq!(
        error(OneCycleLR::new(0.0).into()),
        "the max_lr of OneCycleLR cannot be 0\nhint: it is above 0"
    );
    assert_eq!(
        error(LinearLR::new().start_factor(0.0).into()),
        "LinearLR cannot go from factor 0 to 1\nhint: factors are between 0 and 1, the first is not 0"
    );
    assert_eq!(
        error(ReduceLROnPlateau::new("val_loss").factor(1.0).into()),
        "the factor of ReduceLROnPlateau is below 1, not 1"
    );
    assert_eq!(
        error(SequentialLR::new([ExponentialLR::new(0.9).into()], [3]).into()),
        "SequentialLR has 1 schedules and the milestones [3]\nhint: there is one milestone less than schedules, in rising order"
    );
    assert_eq!(
        error(SequentialLR::new([ReduceLROnPlateau::new("a").into()], []).into()),
        "ReduceLROnPlateau cannot be a part of SequentialLR: it has no fixed curve"
    );
    let error = adagrad(0.1)
        .schedule(OneCycleLR::new(0.1))
        .build(Vec::new())
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Adagrad has no momentum to cycle\nhint: OneCycleLR::new(…).cycle_momentum(false)"
    );
}

#[test]
fn a_warm_up_goes_before_a_schedule_of_steps() {
    let mut scheduler = scheduler(&sgd(1.0, 0.0).warmup(4).cosine());
    scheduler.begin_run(8, 1).unwrap();
    let mut lrs = Vec::new();
    for _ in 0..9 {
        lrs.push(scheduler.lr(1.0, 0));
        scheduler.after_step();
    }
    let expected = [0.25, 0.5, 0.75, 1.0, 1.0, 0.853_553, 0.5, 0.146_447, 0.0];
    assert!(
        lrs.iter().zip(expected).all(|(lr, want)| (lr - want).abs() < 1e-6),
        "{lrs:?}"
    );
    let error = scheduler.begin_run(3, 1).unwrap_err();
    assert_eq!(
        error.message(),
        "a warm-up of 4 steps leaves none of the run's 3 to the schedule"
    );
}

#[test]
fn a_schedule_over_the_run_begins_anew_when_the_run_was_whole() {
    let mut scheduler = scheduler(&sgd(1.0, 0.0).cosine());
    scheduler.begin_run(2, 1).unwrap();
    scheduler.after_step();
    assert!((scheduler.lr(1.0, 0) - 0.5).abs() < 1e-12);
    // Stopped after one of two steps: two more make three.
    scheduler.begin_run(2, 1).unwrap();
    assert!((scheduler.lr(1.0, 0) - 0.75).abs() < 1e-12);
    scheduler.after_step();
    scheduler.after_step();
    scheduler.begin_run(2, 1).unwrap();
    assert_eq!(scheduler.lr(1.0, 0), 1.0);
    // One that does not span the run goes on.
    let mut scheduler = Scheduler::new(sgd(1.0, 0.0).schedule(StepLR::new(1)).plan);
    scheduler.begin_run(2, 1).unwrap();
    scheduler.after_epoch();
    scheduler.begin_run(2, 1).unwrap();
    assert!((scheduler.lr(1.0, 0) - 0.1).abs() < 1e-12);
}

#[test]
fn frequency_counts_only_some() {
    let mut scheduler = scheduler(&sgd(1.0, 0.0).schedule(ExponentialLR::new(0.5).per_step().frequency(2)));
    scheduler.begin_run(10, 1).unwrap();
    let mut lrs = Vec::new();
    for _ in 0..5 {
        lrs.push(scheduler.lr(1.0, 0));
        scheduler.after_step();
    }
    assert_eq!(lrs, [1.0, 1.0, 0.5, 0.5, 0.25]);
}

#[test]
fn a_plateau_says_when_its_metric_is_missing_and_its_state_can_be_saved() {
    let optim = sgd(1.0, 0.0).schedule(ReduceLROnPlateau::new("val_loss").patience(0));
    let mut scheduler = scheduler(&optim);
    scheduler.begin_run(10, 10).unwrap();
    let metrics = |loss: f64| Metrics::from([("val_loss".to_owned(), loss)]);
    scheduler.after_epoch();
    let error = scheduler
        .after_validation(&[("train_loss".to_owned(), 1.0)].into(), &[1.0])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ReduceLROnPlateau watches `val_loss`, which was not logged\nhint: logged were train_loss"
    );
    for loss in [1.0, 2.0] {
        scheduler.after_validation(&metrics(loss), &[1.0]).unwrap();
    }
    assert!((scheduler.lr(1.0, 0) - 0.1).abs() < 1e-12);
    let saved = serde_json::to_string(scheduler.state()).unwrap();
    let mut other = Scheduler::new(optim.plan);
    other.load_state(serde_json::from_str(&saved).unwrap());
    assert_eq!(other.state(), scheduler.state());
    assert_eq!(other.lr(1.0, 0), scheduler.lr(1.0, 0));
}
