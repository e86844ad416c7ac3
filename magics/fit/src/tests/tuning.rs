//! Searches before a run: afterwards all is as it was, bit by bit, whatever came of them.

use super::resume::{Net, RHp, all, data};
use super::{in_turn, trainer};
use crate as lightcell;
use crate::prelude::*;

fn random_state() -> Tensor {
    lightcell_torch::rng_state(Device::Cpu).unwrap()
}

fn quiet() -> LrFind {
    LrFind::new().update_attr(false)
}

#[test]
fn a_search_leaves_the_model_and_the_random_state_as_they_were() {
    let _turn = in_turn();
    // Amid an epoch and a window, with dropout, running statistics, an optimizer that remembers and a plateau.
    for schedule in ["cosine", "plateau", "lbfgs"] {
        let hp = RHp {
            schedule: schedule.to_owned(),
            ..RHp::default()
        };
        let accumulate = if schedule == "lbfgs" { 1 } else { 3 };
        let trainer = trainer().accumulate_grad_batches(accumulate);
        let mut fit = trainer
            .clone()
            .max_epochs(2)
            .max_steps(7)
            .fit::<Net, _>(&hp, &data())
            .unwrap();
        let straight = {
            let mut other = trainer
                .clone()
                .max_epochs(2)
                .max_steps(7)
                .fit::<Net, _>(&hp, &data())
                .unwrap();
            trainer.clone().max_epochs(1).go_on(&mut other, &data()).unwrap();
            all(&other)
        };
        // Making data draws numbers.
        let data = data();
        let (before, random) = (all(&fit), random_state());
        let tuner = Tuner::new(&trainer);
        let found = tuner.lr_find(&mut fit, &data, &quiet().num_training(40)).unwrap();
        assert!(found.lrs.len() <= 40 && found.lrs.len() == found.losses.len());
        assert_eq!(all(&fit), before, "{schedule}");
        assert_eq!(random_state(), random, "{schedule}");
        let size = tuner.scale_batch_size(
            &mut fit,
            |size| data.clone().batch_size(size),
            &ScaleBatchSize::new().init_val(16),
        );
        assert_eq!(size.unwrap(), 160);
        assert_eq!(all(&fit), before, "{schedule}");
        assert_eq!(random_state(), random, "{schedule}");
        trainer.clone().max_epochs(1).go_on(&mut fit, &data).unwrap();
        assert_eq!(all(&fit), straight, "{schedule}");
    }
}

#[test]
fn a_suggestion_becomes_the_hyperparameter_and_the_optimizers_rate() {
    let _turn = in_turn();
    let mut fit = Fit::<Net>::build(RHp::default(), &trainer()).unwrap();
    let found = Tuner::new(&trainer())
        .lr_find(&mut fit, &data(), &LrFind::new())
        .unwrap();
    let suggestion = found.suggestion().unwrap();
    assert_eq!(fit.hparams.lr, suggestion);
    // The warm-up begins with a third.
    assert!((fit.optimizer().lr() / (suggestion / 3.0) - 1.0).abs() < 1e-12);
    assert_eq!(fit.hparams.hidden, RHp::default().hidden);
    let text = found.to_string();
    assert!(
        text.contains("; suggestion: ") && text.contains(" learning rates from 1.0e-8 to "),
        "{text}"
    );
    let again = Fit::<Net>::build(fit.hparams.clone(), &trainer()).unwrap();
    assert_eq!(all(&fit), all(&again));
}

lightcell::hparams! { TuneHp { fault: u8 = 0, batch_size: usize = 1 } }

/// Fails as it is told to: `fault` 1 with an error at the third step, 2 with a loss that is no number from the first step
/// on, 3 from the 30th, 4 when a batch has more than 40 samples.
struct Faulty {
    layer: Linear,
    fault: u8,
}

impl LightningModule for Faulty {
    type HParams = TuneHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &TuneHp) -> Faulty {
        Faulty {
            layer: linear(p / "l", 4, 2),
            fault: hp.fault,
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layer.forward(x)
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.forward(x).cross_entropy_for_logits(y);
        match self.fault {
            1 if cx.global_step() == 2 => Err(Error::new(crate::ErrorKind::Model, "boom")),
            2 => Ok(loss * f64::NAN),
            3 if cx.global_step() >= 30 => Ok(loss * f64::NAN),
            4 if x.size()[0] > 40 => {
                // As libtorch says it: more memory than any machine has.
                let _ = Tensor::f_zeros([1 << 50], (Kind::Float, Device::Cpu))?;
                Ok(loss)
            }
            _ => Ok(loss),
        }
    }
    fn configure_optimizers(&self, _: &TuneHp) -> Optim {
        sgd(0.1, 0.9)
    }
}

fn faulty(fault: u8) -> Fit<Faulty> {
    let hp = TuneHp {
        fault,
        ..TuneHp::default()
    };
    Fit::build(hp, &trainer()).unwrap()
}

fn weights(fit: &Fit<Faulty>) -> Vec<Tensor> {
    fit.store
        .state_dict()
        .into_iter()
        .map(|(_, tensor)| tensor.copy())
        .collect()
}

#[test]
fn a_search_that_fails_says_why_and_changes_nothing() {
    let _turn = in_turn();
    let tuner = Tuner::new(&trainer());
    let error = |fault: u8, settings: &LrFind| {
        let (mut fit, data) = (faulty(fault), data());
        let (before, random) = (weights(&fit), random_state());
        let error = tuner.lr_find(&mut fit, &data, settings).map(drop).unwrap_err();
        assert_eq!(weights(&fit), before);
        assert_eq!(random_state(), random);
        assert_eq!(
            (fit.progress.step, fit.hparams.fault, fit.step_losses.len()),
            (0, fault, 0)
        );
        error.to_string()
    };
    let boom = error(1, &quiet());
    assert!(
        boom.starts_with("lr_find: batch 3 of epoch 1 (step 3, shapes [10, 4], [10]): boom"),
        "{boom}"
    );
    let nan = error(2, &quiet());
    assert!(nan.starts_with("lr_find: the loss is NaN at step 1"), "{nan}");
    assert_eq!(
        error(0, &LrFind::new()),
        "the hyperparameters have no number `lr` or `learning_rate`\nhint: name the one with the learning rate (attr-name), or look at the suggestion alone (update-attr false)"
    );
    assert_eq!(
        error(0, &quiet().num_training(11)),
        "lr_find: 11 learning rates were tried, too few to suggest one; nothing has changed\nhint: begin lower (min-lr), end later (early-stop-threshold), or make more steps (num-training)"
    );
    assert_eq!(
        error(0, &quiet().min_lr(2.0)),
        "lr-find cannot go from 2e0 to 1e0\nhint: min-lr is above 0 and below max-lr"
    );
    assert_eq!(
        error(0, &quiet().num_training(1)),
        "lr-find cannot have 1 steps\nhint: num-training is usually 100"
    );
    assert_eq!(
        error(0, &quiet().early_stop_threshold(Some(1.0))),
        "early-stop-threshold must be above 1\nhint: 4 ends the search when the loss is four times the lowest"
    );
    // A loss that becomes no number ends the search, which has its suggestion.
    let mut fit = faulty(3);
    let found = tuner.lr_find(&mut fit, &data(), &quiet()).unwrap();
    assert_eq!(found.lrs.len(), 30);
    assert!(found.suggestion().unwrap() <= found.lrs[29]);
}

#[test]
fn the_largest_batch_that_fits_is_found_by_what_libtorch_says() {
    let _turn = in_turn();
    let tuner = Tuner::new(&trainer());
    let mut fit = faulty(4);
    let before = weights(&fit);
    let search = |fit: &mut Fit<Faulty>, settings: &ScaleBatchSize| {
        tuner.scale_batch_size(fit, |size| data().batch_size(size), settings)
    };
    // 32 fits and 64 does not; of it, 5 % are left free.
    assert_eq!(search(&mut fit, &ScaleBatchSize::new()).unwrap(), 30);
    assert_eq!(fit.hparams.batch_size, 30);
    let exact = ScaleBatchSize::new().mode(BatchSizeMode::Binsearch).margin(0.0);
    assert_eq!(search(&mut fit, &exact).unwrap(), 40);
    assert_eq!(weights(&fit), before);
    let compat = Tuner::new(&trainer().compat(Compat::Lightning));
    let size = compat.scale_batch_size(&mut fit, |size| data().batch_size(size), &ScaleBatchSize::new());
    assert_eq!(size.unwrap(), 32);
    // Another fault is no question of memory.
    let mut other = faulty(1);
    let error = search(&mut other, &ScaleBatchSize::new()).unwrap_err();
    assert_eq!(
        error.message(),
        "scale_batch_size: batch size 2: batch 3 of epoch 1 (step 3, shapes [2, 4], [2]): boom"
    );
    assert_eq!(other.hparams.batch_size, 1);
}
