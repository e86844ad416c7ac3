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
    fn on_fit_start(&mut self, cx: &mut Step) -> Result<()> {
        self.called("on_fit_start", cx)
    }
    fn on_fit_end(&mut self, cx: &mut Step) -> Result<()> {
        self.called("on_fit_end", cx)
    }
    fn on_train_epoch_start(&mut self, cx: &mut Step) -> Result<()> {
        self.called("on_train_epoch_start", cx)
    }
    fn on_train_epoch_end(&mut self, cx: &mut Step) -> Result<()> {
        self.called("on_train_epoch_end", cx)
    }
    fn on_train_batch_start(&mut self, _: &Self::Batch, cx: &mut Step) -> Result<()> {
        self.called("on_train_batch_start", cx)
    }
    fn on_train_batch_end(&mut self, _: &Self::Batch, cx: &mut Step) -> Result<()> {
        self.called("on_train_batch_end", cx)
    }
    fn on_validation_epoch_start(&mut self, cx: &mut Step) -> Result<()> {
        self.called("on_validation_epoch_start", cx)
    }
    fn on_validation_epoch_end(&mut self, cx: &mut Step) -> Result<()> {
        self.called("on_validation_epoch_end", cx)
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

#[test]
fn hooks_are_called_in_lightnings_order() {
    let _turn = in_turn();
    fit("").unwrap();
    let calls = CALLS.with(|calls| calls.take());
    let expected = [
        "on_fit_start 0 0",
        "on_train_epoch_start 0 0",
        "on_train_batch_start 0 0",
        "training_step 0 0",
        "on_train_batch_end 0 0",
        "on_train_batch_start 0 1",
        "training_step 0 1",
        "on_train_batch_end 0 1",
        "on_validation_epoch_start 0 2",
        "validation_step 0 2",
        "on_validation_epoch_end 0 2",
        "on_train_epoch_end 0 2",
        "on_fit_end 1 2",
    ];
    assert_eq!(calls, expected);
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
        "batch 1 of epoch 1 (shapes [32, 4], [32]): on_train_batch_start: disk full"
    );
    assert_eq!(
        fails("panic on_train_batch_end"),
        "batch 1 of epoch 1 (shapes [32, 4], [32]): on_train_batch_end: panic: at the disco"
    );
    assert_eq!(
        fails("validation_step"),
        "validation batch 1 of epoch 1 (shapes [32, 4], [32]): disk full"
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
        format!("batch 1 of epoch 1 (shapes [32, 4], [32]): {wide}")
    );
    assert_eq!(
        error.hint_text(),
        Some("log its mean: `cx.log(\"wide\", &value.mean(Kind::Float))`")
    );
    assert_eq!(
        fails("wide validation_step"),
        format!("validation batch 1 of epoch 1 (shapes [32, 4], [32]): {wide}")
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
