//! Faults of libtorch and losses that are no numbers, amid a run: what is said, and what is left.

use super::{Folder, Hp, Net, data, in_turn, points, trainer};
use crate as lightcell;
use crate::prelude::*;

lightcell::hparams! { FaultHp { fault: String = String::new(), at: u64 = 0 } }

struct Faulty {
    layer: Linear,
    hp: FaultHp,
}

impl LightningModule for Faulty {
    type HParams = FaultHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &FaultHp) -> Faulty {
        Faulty {
            layer: linear(p / "layer", 4, 2),
            hp: hp.clone(),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layer.forward(x)
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let out = self.forward(x);
        if cx.global_step() == self.hp.at {
            match self.hp.fault.as_str() {
                // What a user writes: tch's functions that panic.
                "memory" => drop(Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu))),
                "shape" => drop(out.matmul(&Tensor::zeros([5, 5], (Kind::Float, Device::Cpu)))),
                "label" => drop(out.cross_entropy_for_logits(&(y + 7))),
                "inf" => return Ok(out.cross_entropy_for_logits(y) * f64::INFINITY),
                _ => {}
            }
        }
        Ok(out.cross_entropy_for_logits(y))
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        cx.log("val_loss", &self.forward(x).cross_entropy_for_logits(y));
        Ok(())
    }
}

fn run(trainer: Trainer, fault: &str, at: u64) -> (Fit<Faulty>, Error) {
    let hp = FaultHp {
        fault: fault.to_owned(),
        at,
    };
    let mut fit = Fit::<Faulty>::build(hp, &trainer).unwrap();
    let error = trainer.go_on(&mut fit, &data()).unwrap_err();
    (fit, error)
}

#[test]
fn faults_of_libtorch_name_step_and_shapes_and_the_run_can_go_on() {
    let _turn = in_turn();
    for (fault, text) in [
        ("memory", "the device has no memory left: 4194304.0 GiB were wanted"),
        ("shape", "shapes do not fit: the input is 32x2, the layer's weight 5x5"),
        ("label", "outside of the model's classes"),
    ] {
        let (mut fit, error) = run(trainer().max_epochs(3), fault, 6);
        let place = "batch 2 of epoch 2 (step 7, shapes [32, 4], [32]): ";
        assert!(
            error.message().starts_with(place) && error.message().ends_with(text),
            "{error}"
        );
        assert!(error.hint_text().is_some(), "{error}");
        assert_eq!((fit.history.len(), fit.step_losses.len()), (1, 6));
        // The process is whole, and the model is as far as it came.
        fit.model.hp.at = 99;
        trainer().max_epochs(2).go_on(&mut fit, &data()).unwrap();
        assert_eq!(fit.history.len(), 3);
    }
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_at_its_step_and_names_what_is_kept() {
    let _turn = in_turn();
    let folder = Folder::new("nonfinite");
    let keep = ModelCheckpoint::new().dirpath(&*folder).save_last(true);
    let (fit, error) = run(trainer().max_epochs(3).callback(keep), "inf", 6);
    let good = fit.step_losses[5];
    assert_eq!(
        error.message(),
        format!(
            "the loss is inf at step 7; the last good one was {good:.4} at step 6; the checkpoint {} is kept",
            folder.join("last.safetensors").display()
        )
    );
    assert!(
        error
            .hint_text()
            .unwrap()
            .starts_with("a learning rate that is too high is the usual reason")
    );
    assert_eq!((fit.progress.step, fit.step_losses.len()), (6, 6));
    // It can be read, and the run goes on from it.
    let resumed = trainer().max_epochs(3).ckpt_path(folder.join("last.safetensors"));
    let resumed = resumed.fit::<Faulty, _>(&FaultHp::default(), &data()).unwrap();
    assert_eq!((resumed.history.len(), resumed.step_losses[5]), (3, good));
    let (_, error) = run(trainer(), "inf", 0);
    assert_eq!(
        error.message(),
        "the loss is inf at step 1; it was so from the first step"
    );
}

#[test]
fn data_that_are_no_numbers_are_blamed_for_it() {
    let _turn = in_turn();
    let set = points(64);
    let x = set.x().shallow_clone();
    let _ = x.get(40).fill_(f64::NAN);
    let data = Data::new(TensorDataset::new(x, set.y().shallow_clone()).unwrap()).batch_size(64);
    let error = trainer().fit::<Net, _>(&Hp::default(), &data).map(drop).unwrap_err();
    assert_eq!(
        error.message(),
        "the loss is NaN at step 1; it was so from the first step"
    );
    assert_eq!(
        error.hint_text(),
        Some(
            "the batch holds values that are no numbers: look for them with `x.isfinite().all()`, and replace or leave them out"
        )
    );
}
