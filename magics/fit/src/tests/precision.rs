//! Precisions: what computes in which type, what goes on from what, and the scaler in a run.

use super::{Folder, Hp, Net, data, in_turn, trainer};
use crate::prelude::*;
use crate::progress::Outside;
use lightcell_events::run::{Level, RunEvent};
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    /// Where a matrix product was computed, and of which kind it was.
    static SEEN: RefCell<Vec<(&'static str, Kind)>> = const { RefCell::new(Vec::new()) };
}

struct Watched(Linear);

impl Watched {
    fn see(&self, place: &'static str, x: &Tensor) -> Tensor {
        let out = self.0.forward(x);
        SEEN.with(|seen| seen.borrow_mut().push((place, out.kind())));
        out
    }
}

impl LightningModule for Watched {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, _: &Hp) -> Watched {
        Watched(linear(p / "l", 4, 2))
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.0.forward(x)
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.see("train", x).cross_entropy_for_logits(y);
        cx.log("train_mean", &self.forward(x).mean(None));
        Ok(loss)
    }
    fn validation_step(&mut self, (x, _): &Self::Batch, cx: &mut Step) -> Result<()> {
        cx.log("val_mean", &self.see("validate", x).mean(None));
        Ok(())
    }
    fn predict_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<Tensor> {
        Ok(self.see("predict", x))
    }
    fn on_train_batch_start(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<()> {
        let _ = self.see("hook", x);
        Ok(())
    }
}

fn seen(precision: Precision) -> Vec<(&'static str, Kind)> {
    SEEN.with(|seen| seen.borrow_mut().clear());
    let one = trainer()
        .max_epochs(1)
        .limit_train_batches(1)
        .limit_val_batches(1)
        .num_sanity_val_steps(0);
    let one = one.precision(precision);
    let mut fit = one.fit::<Watched, _>(&Hp::default(), &data()).unwrap();
    for (name, value) in &fit.history[0].metrics {
        assert!(value.is_finite() && *value != 0.0, "{precision}: {name} is {value}");
    }
    fit.test(&data()).unwrap();
    let _ = fit.predict(&data().test_dataloader().unwrap()).unwrap();
    let mut seen = SEEN.with(|seen| seen.take());
    seen.dedup();
    seen
}

#[test]
fn all_steps_compute_alike_and_hooks_as_ever() {
    let _turn = in_turn();
    let all = |steps: Kind, hook: Kind| {
        vec![
            ("hook", hook),
            ("train", steps),
            ("validate", steps),
            ("predict", steps),
        ]
    };
    assert_eq!(seen(Precision::F32True), all(Kind::Float, Kind::Float));
    assert_eq!(seen(Precision::Bf16Mixed), all(Kind::BFloat16, Kind::Float));
    for (precision, kind) in [
        (Precision::F64True, Kind::Double),
        (Precision::Bf16True, Kind::BFloat16),
        (Precision::F16True, Kind::Half),
    ] {
        assert_eq!(seen(precision), all(kind, kind));
    }
}

#[test]
fn a_step_that_panics_leaves_no_autocast_behind() {
    let _turn = in_turn();
    let hp = Hp {
        fault: 1,
        ..Hp::default()
    };
    let mixed = trainer().precision(Precision::Bf16Mixed);
    assert!(mixed.fit::<Net, _>(&hp, &data()).is_err());
    let ones = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
    assert_eq!(ones.matmul(&ones).kind(), Kind::Float);
}

#[test]
fn half_mixed_on_the_cpu_is_bfloat16_and_says_so() {
    let _turn = in_turn();
    let half = trainer().max_epochs(1).precision(Precision::F16Mixed);
    let mut fit = Fit::<Net>::build(Hp::default(), &half).unwrap();
    let notes = Rc::new(RefCell::new(Vec::new()));
    let kept = notes.clone();
    let emit = move |event: &RunEvent| {
        if let RunEvent::Note { level, text, .. } = event {
            kept.borrow_mut().push((*level, text.clone()));
        }
        true
    };
    let outside = Outside {
        emit: Box::new(emit),
        stop: Box::new(|| false),
        leave: Box::new(|| false),
    };
    assert_eq!(fit.run_within(&half, &data(), outside), None);
    let text = "precision 16-mixed is for GPUs: on the CPU, bf16-mixed takes its place";
    assert_eq!(*notes.borrow(), [(Level::Warning, text.to_owned())]);
    assert_eq!((fit.precision(), fit.grad_scaler()), (Precision::Bf16Mixed, None));
    let bf16 = trainer().max_epochs(1).precision(Precision::Bf16Mixed);
    let same = bf16.fit::<Net, _>(&Hp::default(), &data()).unwrap();
    assert_eq!(fit.step_losses, same.step_losses);
}

#[test]
fn a_run_goes_on_with_parameters_of_the_same_type() {
    let _turn = in_turn();
    let one = || trainer().max_epochs(1);
    // One that is not trained changes, weights that were set by hand included.
    let mut fit = Fit::<Net>::build(Hp::default(), &one()).unwrap();
    {
        let _guard = tch::no_grad_guard();
        let _ = fit.model.l1.weight.shallow_clone().fill_(0.5);
    }
    one()
        .precision(Precision::F64True)
        .max_epochs(0)
        .go_on(&mut fit, &data())
        .unwrap();
    assert_eq!(
        (fit.model.l1.weight.kind(), fit.model.l1.weight.double_value(&[0, 0])),
        (Kind::Double, 0.5)
    );
    one().precision(Precision::Bf16True).go_on(&mut fit, &data()).unwrap();
    let state = fit.optimizer().state();
    let (_, average) = state.iter().find(|(name, _)| name == "l1.weight.exp_avg").unwrap();
    assert_eq!(
        (fit.model.l1.weight.kind(), average.kind()),
        (Kind::BFloat16, Kind::BFloat16)
    );
    // Without a word about it, it stays what it is.
    one().go_on(&mut fit, &data()).unwrap();
    assert_eq!((fit.precision(), fit.history.len()), (Precision::Bf16True, 2));
    let error = one()
        .precision(Precision::Bf16Mixed)
        .go_on(&mut fit, &data())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "this run's parameters are those of precision bf16-true and cannot go on with bf16-mixed\nhint: `--restart` begins anew with it"
    );
    // Mixed or not, parameters are float32.
    let mut fit = one().fit::<Net, _>(&Hp::default(), &data()).unwrap();
    one().precision(Precision::Bf16Mixed).go_on(&mut fit, &data()).unwrap();
    one().precision(Precision::F32True).go_on(&mut fit, &data()).unwrap();
    assert_eq!(fit.history.len(), 3);
}

#[test]
fn what_a_scaler_cannot_do_is_said() {
    let _turn = in_turn();
    let error = |trainer: Trainer| {
        trainer
            .fit::<Net, _>(&Hp::default(), &data())
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let scaled = || trainer().grad_scaler(GradScaler::new());
    assert_eq!(
        error(scaled().precision(Precision::Bf16Mixed)),
        "precision bf16-mixed does not use a scaler\nhint: 16-mixed does; the others need none"
    );
    assert!(
        error(
            trainer()
                .precision(Precision::F16Mixed)
                .grad_scaler(GradScaler::new().init_scale(-1.0))
        )
        .starts_with("the scaler's init_scale")
    );
    struct Whole(Net);
    impl LightningModule for Whole {
        type HParams = Hp;
        type Batch = (Tensor, Tensor);
        fn new(p: &Path, hp: &Hp) -> Whole {
            Whole(Net::new(p, hp))
        }
        fn forward(&self, x: &Tensor) -> Tensor {
            self.0.forward(x)
        }
        fn training_step(&mut self, batch: &Self::Batch, cx: &mut Step) -> Result<Tensor> {
            self.0.training_step(batch, cx)
        }
        fn configure_optimizers(&self, _: &Hp) -> Optim {
            lbfgs(0.1)
        }
    }
    let trainer = scaled().precision(Precision::F16Mixed);
    let error = trainer.fit::<Whole, _>(&Hp::default(), &data()).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "LBFGS computes the loss of its batch several times a step: it cannot be trained with 16-mixed\nhint: bf16-mixed needs no scaler"
    );
}

#[test]
fn a_loss_beyond_float16_is_explained() {
    let _turn = in_turn();
    let hp = Hp {
        fault: 2,
        ..Hp::default()
    };
    let error = trainer()
        .precision(Precision::F16True)
        .fit::<Net, _>(&hp, &data())
        .map(drop)
        .unwrap_err();
    let hint = error.hint_text().unwrap();
    assert!(
        hint.ends_with("; with float16, a number above 65504 is infinite: bf16-mixed has the range of float32"),
        "{hint}"
    );
}

#[test]
fn files_without_a_scaler_still_load() {
    let _turn = in_turn();
    let folder = Folder::new("no-scaler");
    let path = folder.join("a.safetensors");
    let fit = trainer().max_epochs(1).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    fit.save(&path).unwrap();
    // As they were written before there were scalers and generators in them.
    let mut texts = crate::checkpoint::file::read_metadata(&path).unwrap();
    assert_eq!(texts.remove("scaler").as_deref(), Some("null"));
    let mut tensors = crate::checkpoint::file::read_tensors(&path).unwrap();
    tensors.retain(|(name, _)| !name.starts_with("rng."));
    crate::checkpoint::file::write(&path, &tensors, &texts).unwrap();
    let longer = trainer().max_epochs(2).ckpt_path(&path);
    let straight = trainer().max_epochs(2).fit::<Net, _>(&Hp::default(), &data()).unwrap();
    assert_eq!(
        longer.fit::<Net, _>(&Hp::default(), &data()).unwrap().step_losses,
        straight.step_losses
    );
    // What is no scaler is not taken for one.
    texts.insert("scaler".to_owned(), "{\"scale\": 1}".to_owned());
    crate::checkpoint::file::write(&path, &tensors, &texts).unwrap();
    let error = longer.fit::<Net, _>(&Hp::default(), &data()).map(drop).unwrap_err();
    assert!(error.message().starts_with("cannot read `scaler` in "), "{error}");
}
