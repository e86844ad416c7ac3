//! Runs from outside: what a user sees of a model, a trainer and their faults.

use crate as lightcell;
use crate::prelude::*;
use lightcell_events::run::Status;
use std::sync::{Mutex, MutexGuard, PoisonError};

mod evaluating;
mod events;
mod faults;
mod hooks;
mod limits;
mod names;
mod optimizers;
mod precision;
mod resume;
mod tasks;
mod tuning;
mod validating;
mod watching;

/// libtorch's random generator is one for the process: tests that draw from it take turns.
pub(crate) fn in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Models of a few numbers: on a busy machine two threads wait for each other longer than they compute.
    tch::set_num_threads(1);
    guard
}

/// A folder that is removed at the end.
pub(crate) struct Folder(std::path::PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("lightcell-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl std::ops::Deref for Folder {
    type Target = std::path::Path;
    fn deref(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

lightcell::hparams! { Hp { hidden: i64 = 16, lr: f64 = 1e-2, fault: u8 = 0 } }

struct Net {
    l1: Linear,
    l2: Linear,
    fault: u8,
}

impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);

    fn new(p: &Path, hp: &Hp) -> Net {
        if hp.fault == 9 {
            panic!("no such layer");
        }
        let second = if hp.fault == 8 { p / "l1" } else { p / "l2" };
        Net {
            l1: linear(p / "l1", 4, hp.hidden),
            l2: linear(second, hp.hidden, 2),
            fault: hp.fault,
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.l2.forward(&self.l1.forward(x).relu())
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        if self.fault == 1 && cx.global_step() == 3 {
            panic!("boom");
        }
        let loss = self.forward(x).cross_entropy_for_logits(y);
        let loss = if self.fault == 2 && cx.global_step() == 3 {
            loss * f64::NAN
        } else {
            loss
        };
        cx.log("train_loss", &loss);
        Ok(match self.fault {
            3 => self.forward(x),
            4 => loss.detach(),
            _ => loss,
        })
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        let out = self.forward(x);
        assert!(!out.requires_grad(), "validation tracks gradients");
        cx.log("val_loss", &out.cross_entropy_for_logits(y));
        cx.log("val_acc", &out.accuracy_for_logits(y));
        if self.fault == 5 {
            cx.log("nothing", &f64::NAN);
        }
        Ok(())
    }
    fn configure_optimizers(&self, hp: &Hp) -> Optim {
        adam(hp.lr)
    }
}

fn points(n: i64) -> TensorDataset {
    tch::manual_seed(5);
    let x = Tensor::randn([n, 4], (Kind::Float, Device::Cpu));
    let y = x.sum_dim_intlist(1, false, Kind::Float).gt(0.0).to_kind(Kind::Int64);
    TensorDataset::new(x, y).unwrap()
}

fn data() -> Data {
    let (train, val) = points(200).split(0.8).unwrap();
    Data::new(train).val(val).test(points(50)).batch_size(32)
}

fn trainer() -> Trainer {
    Trainer::new().accelerator("cpu").seed(3)
}

fn with_fault(fault: u8) -> Error {
    let hp = Hp { fault, ..Hp::default() };
    trainer().fit::<Net, _>(&hp, &data()).map(drop).unwrap_err()
}

#[test]
fn a_model_learns_and_its_history_is_whole() {
    let _turn = in_turn();
    let mut fit = trainer().max_epochs(15).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    assert_eq!(fit.history.len(), 15);
    let last = fit.history.last().unwrap();
    assert_eq!(last.step, 15 * 5);
    assert_eq!(
        last.metrics.keys().collect::<Vec<_>>(),
        ["train_loss", "val_acc", "val_loss"]
    );
    assert!(last.metrics["val_acc"] > 0.85, "{:?}", fit.history);
    assert_eq!(fit.step_losses.len(), 75);
    assert!(fit.best().unwrap().metrics["val_loss"] <= last.metrics["val_loss"]);
    let test = fit.test(&data()).unwrap();
    assert!(test["test_acc"] > 0.85, "{test:?}");
    assert_eq!(fit.parameters()[0], ("l1.bias".to_owned(), vec![16]));
    assert!(
        format!("{fit:?}").starts_with("Net on cpu: 15 epochs, 75 steps, completed, train_loss"),
        "{fit:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_numbers() {
    let _turn = in_turn();
    let run = |seed| {
        trainer()
            .seed(seed)
            .max_epochs(2)
            .fit::<Net, _>(&Hp::default(), &data())
            .unwrap()
            .history[1]
            .metrics
            .clone()
    };
    let one = run(1);
    tch::manual_seed(77);
    assert_eq!(run(1), one);
    assert_ne!(run(2), one);
}

#[test]
fn epoch_means_are_weighted_by_batch_size() {
    let _turn = in_turn();
    // 40 validation samples in batches of 32 and 8: the mean over samples, not over batches.
    let fit = trainer().max_epochs(1).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    let (_, val) = points(200).split(0.8).unwrap();
    let exact = fit
        .model
        .forward(val.x())
        .cross_entropy_for_logits(val.y())
        .double_value(&[]);
    assert!((fit.history[0].metrics["val_loss"] - exact).abs() < 1e-6);
}

#[test]
fn limits_count_batches_and_steps() {
    let _turn = in_turn();
    let run = |trainer: Trainer| {
        let fit = trainer.max_epochs(2).fit::<Net, _>(&Hp::default(), &data()).unwrap();
        (fit.history.len(), fit.progress.step)
    };
    assert_eq!(run(trainer().limit_train_batches(2)), (2, 4));
    assert_eq!(run(trainer().limit_train_batches(0.4)), (2, 4));
    assert_eq!(run(trainer().max_steps(7)), (2, 7));
    assert_eq!(run(trainer().fast_dev_run(1)), (1, 1));
}

#[test]
fn what_a_step_does_wrong_is_said_with_place_and_shapes() {
    let _turn = in_turn();
    assert_eq!(
        with_fault(1).message(),
        "batch 4 of epoch 1 (step 4, shapes [32, 4], [32]): panic: boom"
    );
    let nan = with_fault(2);
    assert!(
        nan.message()
            .starts_with("the loss is NaN at step 4; the last good one was 0."),
        "{nan}"
    );
    assert!(nan.hint_text().unwrap().starts_with("a learning rate that is too high"));
    assert_eq!(
        with_fault(3).message(),
        "batch 1 of epoch 1 (step 1, shapes [32, 4], [32]): the loss must have one element, not the shape [32, 2]"
    );
    assert!(
        with_fault(4)
            .message()
            .ends_with("the loss does not depend on the parameters")
    );
    assert_eq!(
        with_fault(8).message(),
        "two parameters have the same name: l1.bias, l1.weight"
    );
    assert_eq!(
        with_fault(9).message(),
        "the model cannot be made: panic: no such layer"
    );
}

#[test]
fn wrong_data_are_said_in_plain_words() {
    let _turn = in_turn();
    let cpu = (Kind::Float, Device::Cpu);
    let fit = |x: Tensor, y: Tensor| {
        let data = Data::new(TensorDataset::new(x, y).unwrap());
        trainer().fit::<Net, _>(&Hp::default(), &data).map(drop).unwrap_err()
    };
    let labels = |value: i64| Tensor::full([10], value, (Kind::Int64, Device::Cpu));
    assert_eq!(
        fit(Tensor::zeros([10, 5], cpu), labels(0)).message(),
        "batch 1 of epoch 1 (step 1, shapes [10, 5], [10]): shapes do not fit: the input is 10x5, the layer's weight 4x16"
    );
    assert_eq!(
        fit(Tensor::zeros([10, 4], cpu), labels(7)).message(),
        "batch 1 of epoch 1 (step 1, shapes [10, 4], [10]): label 7 is outside of the model's classes"
    );
    assert_eq!(
        fit(
            Tensor::zeros([0, 4], cpu),
            Tensor::zeros([0], (Kind::Int64, Device::Cpu))
        )
        .message(),
        "there are no training data: the data set is empty"
    );
}

#[test]
fn a_run_goes_on_and_a_failed_start_keeps_it() {
    let _turn = in_turn();
    let options = r#"{"max_epochs": 3, "seed": 1, "accelerator": "cpu"}"#;
    let first = lightcell::notebook::fit::<Net, _>(&data(), options, None).unwrap();
    let second = lightcell::notebook::fit::<Net, _>(&data(), options, Some(first)).unwrap();
    assert_eq!(
        second.history.iter().map(|r| r.epoch).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
    let wrong = r#"{"accelerator": "tpu", "restart": true}"#;
    let kept = lightcell::notebook::fit::<Net, _>(&data(), wrong, Some(second)).unwrap();
    assert_eq!(kept.history.len(), 6);
    let elsewhere = r#"{"accelerator": "cuda:99"}"#;
    let kept = lightcell::notebook::fit::<Net, _>(&data(), elsewhere, Some(kept)).unwrap();
    assert_eq!((kept.history.len(), kept.progress.status), (6, Status::Completed));
    let nothing = Data::new(points(0));
    let kept = lightcell::notebook::fit::<Net, _>(&nothing, r#"{"restart": true}"#, Some(kept)).unwrap();
    assert_eq!(kept.history.len(), 6);
    let anew =
        lightcell::notebook::fit::<Net, _>(&data(), r#"{"max_epochs": 1, "restart": true}"#, Some(kept)).unwrap();
    assert_eq!(anew.history.len(), 1);
    assert!(lightcell::notebook::fit::<Net, _>(&data(), wrong, None).is_err());
}

#[test]
fn a_model_that_a_variable_holds_is_trained_with_its_own_hyperparameters() {
    let _turn = in_turn();
    let net = Net::build(Hp {
        hidden: 5,
        ..Hp::default()
    })
    .unwrap();
    assert_eq!(
        format!("{net:?}"),
        format!(
            "Net on {}: not trained",
            crate::trainer::device_name(net.progress.device)
        )
    );
    let options = r#"{"max_epochs": 2, "seed": 4, "accelerator": "cpu"}"#;
    let fit = lightcell::notebook::go_on(net, &data(), options).unwrap();
    assert_eq!((fit.hparams.hidden, fit.history.len()), (5, 2));
    assert_eq!(fit.parameters()[0], ("l1.bias".to_owned(), vec![5]));
    // The seed is the run's, from the first weight on.
    let same = trainer()
        .seed(4)
        .max_epochs(2)
        .fit::<Net, _>(
            &Hp {
                hidden: 5,
                ..Hp::default()
            },
            &data(),
        )
        .unwrap();
    assert_eq!(fit.step_losses, same.step_losses);
    let anew = lightcell::notebook::go_on(
        fit,
        &data(),
        r#"{"max_epochs": 1, "restart": true, "accelerator": "cpu"}"#,
    )
    .unwrap();
    assert_eq!((anew.hparams.hidden, anew.history.len()), (5, 1));
    // A weight that was set by hand is kept when nothing asks for another.
    let net = Net::build(Hp::default()).unwrap();
    {
        let _guard = tch::no_grad_guard();
        let _ = net.model.l1.weight.shallow_clone().fill_(0.5);
    }
    let fit = lightcell::notebook::go_on(net, &data(), r#"{"max_epochs": 0}"#).unwrap();
    assert_eq!(fit.model.l1.weight.double_value(&[0, 0]), 0.5);
}

#[test]
fn going_on_elsewhere_is_refused() {
    let _turn = in_turn();
    let mut fit = trainer().max_epochs(1).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    // As if it were on a GPU.
    fit.progress.device = Device::Cuda(0);
    let error = trainer().go_on(&mut fit, &data()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this run is on cuda:0 and cannot go on on cpu\nhint: `--restart` begins anew there"
    );
}

#[test]
fn limits_that_leave_nothing_are_said() {
    let _turn = in_turn();
    let error = |trainer: Trainer| {
        trainer
            .fit::<Net, _>(&Hp::default(), &data())
            .map(drop)
            .unwrap_err()
            .message()
            .to_owned()
    };
    assert_eq!(
        error(trainer().limit_train_batches(0.1)),
        "limit-train-batches leaves none of the 5 training batches"
    );
    assert_eq!(error(trainer().limit_val_batches(2.0)), "limit-val-batches cannot be 2");
    let fit = trainer()
        .max_epochs(1)
        .limit_val_batches(0)
        .fit::<Net, _>(&Hp::default(), &data())
        .unwrap();
    assert_eq!(fit.history[0].metrics.keys().collect::<Vec<_>>(), ["train_loss"]);
    // Steps are those of this run.
    let mut fit = trainer().max_steps(3).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    trainer().max_steps(4).go_on(&mut fit, &data()).unwrap();
    assert_eq!((fit.progress.step, fit.history.len()), (7, 2));
}

#[test]
fn going_on_equals_one_long_run() {
    let _turn = in_turn();
    let long = trainer().max_epochs(4).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    let mut short = trainer().max_epochs(2).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    assert!(short.run(&trainer().max_epochs(2), &data()).is_none());
    let metrics = |fit: &Fit<Net>| fit.history.iter().map(|r| r.metrics.clone()).collect::<Vec<_>>();
    assert_eq!(metrics(&long), metrics(&short));
}

#[test]
fn missing_steps_say_what_to_write() {
    let _turn = in_turn();
    struct Bare(Linear);
    impl LightningModule for Bare {
        type HParams = Hp;
        type Batch = (Tensor, Tensor);
        fn new(p: &Path, _: &Hp) -> Bare {
            Bare(linear(p / "l", 4, 2))
        }
        fn forward(&self, x: &Tensor) -> Tensor {
            self.0.forward(x)
        }
        fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
            Ok(self.forward(x).cross_entropy_for_logits(y))
        }
    }
    let mut fit = trainer().max_epochs(1).fit::<Bare, _>(&Hp::default(), &data()).unwrap();
    let error = fit.test(&data()).unwrap_err();
    assert_eq!(error.message(), "the model logs nothing about test data");
    let error = fit.predict(&data().train_dataloader()).unwrap_err();
    assert!(error.message().ends_with("the model has no predict_step"), "{error}");
    let error = fit.test(&Data::new(points(10))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there are no test data\nhint: `data.test(…)` adds them"
    );
}

#[test]
fn parameters_are_saved_whole_or_not_at_all() {
    let _turn = in_turn();
    let fit = trainer().max_epochs(1).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    let folder = Folder::new("save");
    let path = folder.join("weights.safetensors");
    let names = || {
        let mut names: Vec<_> = Tensor::read_safetensors(&path)
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        names.sort();
        names
    };
    fit.save_weights(&path).unwrap();
    assert_eq!(names(), ["l1.bias", "l1.weight", "l2.bias", "l2.weight"]);
    fit.save(&path).unwrap();
    assert_eq!(
        names()[..3],
        ["history.step_losses", "model.l1.bias", "model.l1.weight"]
    );
    let error = fit.save("/nonexistent/x.safetensors").unwrap_err();
    assert!(
        error.message().starts_with("cannot write /nonexistent/x.safetensors"),
        "{error}"
    );
}
