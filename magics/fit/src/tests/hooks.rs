//! Hooks: when they are called, what they may do, and how their faults are said.

use super::{data, in_turn, trainer};
use crate as lightcell;
use crate::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;

lightcell::hparams! { HookHp { fault: String = String::new(), p: f64 = 0.0 } }

thread_local! {
    static CALLS: Rc<RefCell<Vec<String>>> = Rc::default();
}

struct Hooked {
    layer: Linear,
    drop: Dropout,
    fault: String,
}

impl Hooked {
    fn called(&self, name: &str, cx: &mut Step) -> Result<()> {
        CALLS.with(|calls| {
            calls
                .borrow_mut()
                .push(format!("{name} {} {}", cx.epoch(), cx.global_step()))
        });
        if self.fault == name {
            return Err(std::io::Error::other("disk full").into());
        }
        if self.fault == format!("panic {name}") {
            panic!("at the disco");
        }
        if self.fault == format!("log {name}") {
            cx.log("extra", &7.5);
        }
        if self.fault == format!("wide {name}") {
            cx.log("wide", &Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)));
        }
        Ok(())
    }
}

macro_rules! called {
    (cx: $($hook:ident),*) => {
        $(fn $hook(&mut self, cx: &mut Step) -> Result<()> {
            self.called(stringify!($hook), cx)
        })*
    };
    (batch, cx: $($hook:ident),*) => {
        $(fn $hook(&mut self, (x, _): &Self::Batch, cx: &mut Step) -> Result<()> {
            assert_eq!(x.size()[1], 4);
            self.called(stringify!($hook), cx)
        })*
    };
}

impl LightningModule for Hooked {
    type HParams = HookHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &HookHp) -> Hooked {
        Hooked {
            layer: linear(p / "layer", 4, 2),
            drop: dropout(p, hp.p),
            fault: hp.fault.clone(),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layer.forward(&self.drop.forward(x))
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        self.called("training_step", cx)?;
        Ok(self.forward(x).cross_entropy_for_logits(y))
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        self.called("validation_step", cx)?;
        cx.log("val_loss", &self.forward(x).cross_entropy_for_logits(y));
        Ok(())
    }
    fn predict_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        Ok(self.forward(x))
    }
    fn configure_optimizers(&self, _: &HookHp) -> Optim {
        if self.fault == "optimizer" {
            panic!("no idea");
        }
        sgd(0.1, 0.0)
    }
    called!(
        cx: on_fit_start,
        on_fit_end,
        on_train_start,
        on_train_end,
        on_train_epoch_start,
        on_train_epoch_end,
        on_before_zero_grad,
        on_after_backward,
        on_before_optimizer_step,
        on_validation_start,
        on_validation_end,
        on_validation_epoch_start,
        on_validation_epoch_end,
        on_test_start,
        on_test_end,
        on_test_epoch_start,
        on_test_epoch_end,
        on_predict_start,
        on_predict_end,
        on_predict_epoch_start,
        on_predict_epoch_end
    );
    called!(
        batch, cx: on_train_batch_start,
        on_train_batch_end,
        on_validation_batch_start,
        on_validation_batch_end,
        on_test_batch_start,
        on_test_batch_end,
        on_predict_batch_start,
        on_predict_batch_end
    );
    fn on_before_backward(&mut self, loss: &Tensor, cx: &mut Step) -> Result<()> {
        assert!(loss.requires_grad());
        self.called("on_before_backward", cx)
    }
    fn on_save_checkpoint(&self, state: &mut Value) -> Result<()> {
        state["seen"] = 41.into();
        Ok(())
    }
    fn on_load_checkpoint(&mut self, state: &Value) -> Result<()> {
        CALLS.with(|calls| calls.borrow_mut().push(format!("on_load_checkpoint {}", state["seen"])));
        Ok(())
    }
}

fn fit(fault: &str) -> Result<Fit<Hooked>> {
    CALLS.with(|calls| calls.borrow_mut().clear());
    let hp = HookHp {
        fault: fault.to_owned(),
        ..HookHp::default()
    };
    trainer()
        .max_epochs(1)
        .limit_train_batches(2)
        .limit_val_batches(1)
        .fit::<Hooked, _>(&hp, &data())
}

fn fails(fault: &str) -> String {
    fit(fault).map(drop).unwrap_err().message().to_owned()
}

/// As pytorch-lightning 2.6.1 calls them, the check of the validation step included.
#[test]
fn hooks_are_called_in_lightnings_order() {
    let _turn = in_turn();
    fit("").unwrap();
    let calls = CALLS.with(|calls| calls.take());
    let validation = |step: u64| {
        [
            "on_validation_start",
            "on_validation_epoch_start",
            "on_validation_batch_start",
            "validation_step",
            "on_validation_batch_end",
            "on_validation_epoch_end",
            "on_validation_end",
        ]
        .map(|name| format!("{name} 0 {step}"))
    };
    let batch = |step: u64| {
        [
            "on_train_batch_start",
            "training_step",
            "on_before_zero_grad",
            "on_before_backward",
            "on_after_backward",
            "on_before_optimizer_step",
            "on_train_batch_end",
        ]
        .map(|name| format!("{name} 0 {step}"))
    };
    let one = |text: &str| vec![text.to_owned()];
    let expected = [
        one("on_fit_start 0 0"),
        validation(0).to_vec(),
        one("on_train_start 0 0"),
        one("on_train_epoch_start 0 0"),
        batch(0).to_vec(),
        batch(1).to_vec(),
        validation(2).to_vec(),
        one("on_train_epoch_end 0 2"),
        one("on_train_end 1 2"),
        one("on_fit_end 1 2"),
    ];
    assert_eq!(calls, expected.concat());
}

#[test]
fn a_hooks_fault_names_it_and_on_fit_end_still_comes() {
    let _turn = in_turn();
    assert_eq!(fails("on_fit_start"), "on_fit_start: disk full");
    assert_eq!(CALLS.with(|calls| calls.take()).last().unwrap(), "on_fit_end 0 0");
    assert_eq!(fails("on_fit_end"), "on_fit_end: disk full");
    assert_eq!(fails("on_train_epoch_end"), "on_train_epoch_end: disk full");
    assert_eq!(
        fails("panic on_validation_epoch_end"),
        "on_validation_epoch_end: panic: at the disco"
    );
    assert_eq!(
        fails("on_train_batch_start"),
        "batch 1 of epoch 1 (step 1, shapes [32, 4], [32]): on_train_batch_start: disk full"
    );
    assert_eq!(
        fails("panic on_train_batch_end"),
        "batch 1 of epoch 1 (step 1, shapes [32, 4], [32]): on_train_batch_end: panic: at the disco"
    );
    assert_eq!(
        fails("validation_step"),
        "batch 1 of the sanity check (shapes [32, 4], [32]): disk full"
    );
    assert_eq!(
        CALLS.with(|calls| calls.take()).last().unwrap(),
        "on_fit_end 0 0",
        "no epoch begins"
    );
    assert_eq!(fails("optimizer"), "configure_optimizers: panic: no idea");
}

#[test]
fn what_hooks_log_stands_in_the_epochs_record() {
    let _turn = in_turn();
    for name in [
        "on_train_epoch_start",
        "on_train_epoch_end",
        "on_validation_epoch_end",
        "on_train_batch_start",
        "on_train_batch_end",
    ] {
        assert_eq!(
            fit(&format!("log {name}")).unwrap().history[0].metrics["extra"],
            7.5,
            "{name}"
        );
    }
    assert_eq!(
        fails("log on_fit_start"),
        "on_fit_start: `extra` cannot be logged here: it belongs to no step and no epoch"
    );
}

#[test]
fn only_single_numbers_are_logged() {
    let _turn = in_turn();
    let wide = "`wide` cannot be logged: it must have one element, not the shape [2, 3]";
    let error = fit("wide training_step").map(drop).unwrap_err();
    assert_eq!(
        error.message(),
        format!("batch 1 of epoch 1 (step 1, shapes [32, 4], [32]): {wide}")
    );
    assert_eq!(
        error.hint_text(),
        Some("log its mean: `cx.log(\"wide\", &value.mean(Kind::Float))`")
    );
    assert_eq!(
        fails("wide validation_step"),
        format!("batch 1 of the sanity check (shapes [32, 4], [32]): {wide}")
    );
    assert_eq!(fails("wide on_train_epoch_end"), format!("on_train_epoch_end: {wide}"));
}

#[test]
fn dropout_is_off_outside_of_training_and_its_stream_is_the_epochs() {
    let _turn = in_turn();
    let hp = HookHp {
        p: 0.5,
        ..HookHp::default()
    };
    let fit = |data: &Data, epochs: u64| trainer().max_epochs(epochs).fit::<Hooked, _>(&hp, data).unwrap();
    let (mut short, long) = (fit(&data(), 2), fit(&data(), 4));
    let x = Tensor::ones([8, 4], (Kind::Float, Device::Cpu));
    assert_eq!(short.model.forward(&x), short.model.forward(&x));
    trainer().max_epochs(2).go_on(&mut short, &data()).unwrap();
    assert_eq!(short.step_losses, long.step_losses);
    // Data for validation move nothing.
    let (train, _) = super::points(200).split(0.8).unwrap();
    assert_eq!(fit(&Data::new(train).batch_size(32), 4).step_losses, long.step_losses);
    let mut twice = fit(&data(), 1);
    let out = twice.predict(&data().test_dataloader().unwrap()).unwrap();
    assert_eq!((out.size(), out.requires_grad()), (vec![50, 2], false));
}

#[test]
fn hooks_of_tests_and_predictions_are_called_in_order_and_checkpoints_keep_state() {
    let _turn = in_turn();
    let mut fit = fit("").unwrap();
    let calls = |run: &mut dyn FnMut()| {
        CALLS.with(|calls| calls.borrow_mut().clear());
        run();
        CALLS.with(|calls| calls.take())
    };
    let stage = |name: &str, batches: usize, step: &[&str]| {
        let hook = |text: String| format!("{text} 1 2");
        let batch = [
            &[format!("on_{name}_batch_start")],
            &step.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..],
        ];
        let batch = [batch.concat(), vec![format!("on_{name}_batch_end")]].concat();
        let mut all = vec![format!("on_{name}_start"), format!("on_{name}_epoch_start")];
        (0..batches).for_each(|_| all.extend(batch.clone()));
        all.extend([format!("on_{name}_epoch_end"), format!("on_{name}_end")]);
        all.into_iter().map(hook).collect::<Vec<_>>()
    };
    // The model has no test step: it is tested with its validation step.
    assert_eq!(
        calls(&mut || drop(fit.test(&data()).unwrap())),
        stage("test", 2, &["validation_step"])
    );
    let loader = data().test_dataloader().unwrap();
    assert_eq!(
        calls(&mut || drop(fit.predict(&loader).unwrap())),
        stage("predict", 2, &[])
    );
    let one = trainer().limit_val_batches(1);
    let mut validate = || drop(one.validate(&mut fit, &data()).unwrap());
    assert_eq!(calls(&mut validate), stage("validation", 1, &["validation_step"]));
    let folder = super::Folder::new("hookstate");
    let path = folder.join("a.safetensors");
    fit.save(&path).unwrap();
    let resumed = trainer().max_epochs(1).ckpt_path(&path);
    resumed.go_on(&mut fit, &data()).unwrap();
    let calls = CALLS.with(|calls| calls.take());
    assert!(calls.contains(&"on_load_checkpoint 41".to_owned()), "{calls:?}");
}

#[test]
fn a_window_of_batches_is_zeroed_and_stepped_once() {
    let _turn = in_turn();
    CALLS.with(|calls| calls.borrow_mut().clear());
    let accumulating = trainer().max_epochs(1).accumulate_grad_batches(3).limit_val_batches(0);
    accumulating.fit::<Hooked, _>(&HookHp::default(), &data()).unwrap();
    let calls = CALLS.with(|calls| calls.take());
    let count = |name: &str| calls.iter().filter(|call| call.starts_with(name)).count();
    let counts = [
        "on_before_zero_grad",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
    ];
    assert_eq!(counts.map(count), [2, 5, 5, 2]);
}

#[test]
fn batches_can_be_changed_on_their_way() {
    let _turn = in_turn();
    struct Shifted(Linear, Vec<f64>);
    impl LightningModule for Shifted {
        type HParams = HookHp;
        type Batch = (Tensor, Tensor);
        fn new(p: &Path, _: &HookHp) -> Shifted {
            Shifted(linear(p / "l", 4, 2), Vec::new())
        }
        fn forward(&self, x: &Tensor) -> Tensor {
            self.0.forward(x)
        }
        fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
            self.1.push(x.double_value(&[0, 0]));
            Ok(self.forward(x).cross_entropy_for_logits(y))
        }
        fn on_before_batch_transfer(&mut self, (x, y): Self::Batch, stage: Stage) -> Result<Self::Batch> {
            let value = if stage == Stage::Train { 3.0 } else { 1.0 };
            Ok((x * 0.0 + value, y))
        }
        fn on_after_batch_transfer(&mut self, (x, y): Self::Batch, _: Stage) -> Result<Self::Batch> {
            if self.1.len() == 2 {
                panic!("no more");
            }
            Ok((x * 2.0, y))
        }
    }
    let mut fit = Fit::<Shifted>::build(HookHp::default(), &trainer()).unwrap();
    let error = trainer().go_on(&mut fit, &data()).unwrap_err();
    assert_eq!(fit.model.1, [6.0, 6.0]);
    assert_eq!(
        error.message(),
        "batch 3 of epoch 1 (step 3): on_after_batch_transfer: panic: no more"
    );
}
