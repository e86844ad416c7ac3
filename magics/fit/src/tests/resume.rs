//! Checkpoints: a run that is read back goes on as if it had never stopped, and what goes wrong with files.

use super::{Folder, in_turn, points, trainer};
use crate as lightcell;
use crate::prelude::*;
use lightcell_events::run::Status;
use std::cell::RefCell;
use std::rc::Rc;

lightcell::hparams! { RHp { hidden: i64 = 8, schedule: String = "cosine".to_owned(), lr: f64 = 0.01 } }

thread_local! {
    /// What was trained on: the sum of each batch.
    static SEEN: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

pub(super) struct Net {
    pub(super) l1: Linear,
    norm: BatchNorm1d,
    drop: Dropout,
    l2: Linear,
}

impl LightningModule for Net {
    type HParams = RHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &RHp) -> Net {
        Net {
            l1: linear(p / "l1", 4, hp.hidden),
            norm: batch_norm1d(p / "norm", hp.hidden),
            drop: dropout(p, 0.3),
            l2: linear(p / "l2", hp.hidden, 2),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.l2
            .forward(&self.drop.forward(&self.norm.forward(&self.l1.forward(x)).relu()))
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        SEEN.with(|seen| seen.borrow_mut().push(x.sum(Kind::Double).double_value(&[])));
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        cx.log("lr", &cx.lr());
        Ok(loss)
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        cx.log("val_loss", &self.forward(x).cross_entropy_for_logits(y));
        Ok(())
    }
    fn configure_optimizers(&self, hp: &RHp) -> Optim {
        match hp.schedule.as_str() {
            "plateau" => sgd(hp.lr, 0.9).schedule(ReduceLROnPlateau::new("val_loss").patience(0)),
            "lbfgs" => lbfgs(hp.lr),
            _ => adam(hp.lr).warmup(3).cosine(),
        }
    }
}

/// 16 batches in an epoch.
pub(super) fn data() -> Data {
    let (train, val) = points(200).split(0.8).unwrap();
    Data::new(train).val(val).batch_size(10)
}

/// All that a run is: bit by bit, when compared as text.
pub(super) fn all(fit: &Fit<Net>) -> Vec<String> {
    let exact = |tensor: &Tensor| {
        let tensor = tensor.detach().contiguous();
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        format!("{bytes:?}")
    };
    let mut all: Vec<String> = fit
        .store
        .state_dict()
        .iter()
        .map(|(name, tensor)| format!("{name} {}", exact(tensor)))
        .collect();
    all.extend(
        fit.optimizer
            .state()
            .iter()
            .map(|(name, tensor)| format!("optim {name} {}", exact(tensor))),
    );
    all.push(format!(
        "{:?} {:?}",
        fit.optimizer.schedule_state(),
        fit.optimizer.lrs()
    ));
    all.push(format!("{:?}", fit.step_losses));
    all.extend(
        fit.history
            .iter()
            .map(|record| format!("{} {} {:?}", record.epoch, record.step, record.metrics)),
    );
    all.push(format!(
        "{} {} {:?} {:?}",
        fit.progress.epoch, fit.progress.step, fit.progress.partial, fit.progress.scaler
    ));
    all
}

/// Saves after each batch, and keeps how many batches had been seen by then.
struct EachBatch(std::path::PathBuf, Rc<RefCell<Vec<(std::path::PathBuf, usize)>>>);

impl Callback for EachBatch {
    fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
        let path = self.0.join(format!("{}-{}.safetensors", run.epoch(), run.batch_idx()));
        run.save_checkpoint(&path);
        let seen = SEEN.with(|seen| seen.borrow().len());
        self.1.borrow_mut().push((path, seen));
        Ok(())
    }
}

#[test]
fn a_run_that_ends_with_its_kernel_goes_on_in_the_next() {
    let _turn = in_turn();
    let folder = Folder::new("leave");
    let trainer = || trainer().max_epochs(2).default_root_dir(&*folder);
    let straight = trainer().fit::<Net, _>(&RHp::default(), &data()).unwrap();
    let mut fit = Fit::<Net>::build(RHp::default(), &trainer()).unwrap();
    let (notes, asked) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(0)));
    let heard = notes.clone();
    let outside = crate::progress::Outside {
        emit: Box::new(move |event| {
            if let lightcell_events::run::RunEvent::Note { text, .. } = event {
                heard.borrow_mut().push(text.clone());
            }
            true
        }),
        // Amid the first epoch.
        stop: Box::new(move || {
            *asked.borrow_mut() += 1;
            *asked.borrow() > 9
        }),
        leave: Box::new(|| true),
    };
    assert!(fit.run_within(&trainer(), &data(), outside).is_none());
    assert_eq!(fit.progress.status, Status::Stopped);
    assert!(fit.progress.partial.is_some());
    let file = folder.join("checkpoints/hpc_ckpt.safetensors");
    assert_eq!(
        notes.take(),
        [format!(
            "the kernel ends soon, so the run stopped after its batch and wrote {}; in a new kernel, the same command with \
             `--ckpt-path last` goes on from there",
            file.display()
        )]
    );
    drop(fit);
    tch::manual_seed(12345);
    let resumed = trainer()
        .seed(99)
        .ckpt_path("last")
        .fit::<Net, _>(&RHp::default(), &data())
        .unwrap();
    assert_eq!(all(&resumed), all(&straight));
}

#[test]
fn a_run_that_cannot_be_written_says_so() {
    let _turn = in_turn();
    let folder = Folder::new("leave-not");
    std::fs::write(folder.join("file"), "").unwrap();
    let trainer = trainer().max_epochs(1).default_root_dir(folder.join("file"));
    let mut fit = Fit::<Net>::build(RHp::default(), &trainer).unwrap();
    let notes = Rc::new(RefCell::new(Vec::new()));
    let heard = notes.clone();
    let outside = crate::progress::Outside {
        emit: Box::new(move |event| {
            if let lightcell_events::run::RunEvent::Note { text, .. } = event {
                heard.borrow_mut().push(text.clone());
            }
            true
        }),
        stop: Box::new(|| true),
        leave: Box::new(|| true),
    };
    assert!(fit.run_within(&trainer, &data(), outside).is_none());
    let notes = notes.take();
    assert!(
        notes[0].starts_with("the kernel ends soon, and the run could not be written: cannot make "),
        "{notes:?}"
    );
}

fn resumes(hp: &RHp, trainer: &Trainer, every: usize, first: usize) {
    resumes_with(hp, &|| trainer.clone(), every, first);
}

/// As above, with callbacks of its own for each run.
pub(super) fn resumes_with(hp: &RHp, trainer: &dyn Fn() -> Trainer, every: usize, first: usize) {
    let folder = Folder::new("resume");
    let kept = Rc::new(RefCell::new(Vec::new()));
    SEEN.with(|seen| seen.borrow_mut().clear());
    let straight = trainer().fit::<Net, _>(hp, &data()).unwrap();
    let order = SEEN.with(|seen| seen.take());
    let watched = trainer().callback(EachBatch(folder.to_path_buf(), kept.clone()));
    let with_files = watched.fit::<Net, _>(hp, &data()).unwrap();
    assert_eq!(all(&with_files), all(&straight), "writing checkpoints changes the run");
    SEEN.with(|seen| seen.borrow_mut().clear());
    let kept = kept.take();
    for (path, seen) in kept.iter().skip(first).step_by(every) {
        // The generator and the seed of a new process are others.
        tch::manual_seed(12345);
        let resumed = trainer().seed(99).ckpt_path(path).fit::<Net, _>(hp, &data()).unwrap();
        let rest = SEEN.with(|seen| seen.take());
        assert_eq!(rest, order[*seen..], "{}", path.display());
        assert_eq!(all(&resumed), all(&straight), "{}", path.display());
    }
}

#[test]
fn oracle_13_a_run_in_two_parts_is_one_run_bit_by_bit() {
    let _turn = in_turn();
    // 16 batches in windows of 3: 5 whole ones and one of a single batch. Every fourth batch is at each place of a window in
    // turn, and the last of an epoch is among them.
    let windows = trainer()
        .max_epochs(2)
        .accumulate_grad_batches(3)
        .gradient_clip_val(0.5);
    resumes(&RHp::default(), &windows, 4, 3);
    let plateau = RHp {
        schedule: "plateau".to_owned(),
        lr: 0.5,
        ..RHp::default()
    };
    resumes(&plateau, &trainer().max_epochs(3).accumulate_grad_batches(2), 7, 0);
    let lbfgs = RHp {
        schedule: "lbfgs".to_owned(),
        lr: 0.1,
        ..RHp::default()
    };
    resumes(&lbfgs, &trainer().max_epochs(2).limit_train_batches(3), 1, 0);
}

#[test]
fn oracle_13_so_it_is_in_other_precisions() {
    let _turn = in_turn();
    let windows = || {
        trainer()
            .max_epochs(2)
            .accumulate_grad_batches(3)
            .gradient_clip_val(0.5)
    };
    // The scale rises amid the run, and falls where a gradient is beyond float16.
    let scaler = GradScaler::new().init_scale(2_097_152.0).growth_interval(3);
    let half = windows().precision(Precision::F16Mixed).grad_scaler(scaler);
    let fit = half.fit::<Net, _>(&RHp::default(), &data()).unwrap();
    let scaler = fit.grad_scaler().unwrap();
    assert!(
        scaler.skipped_steps() > 0 && scaler.skipped_steps() < fit.progress.step,
        "{scaler:?}"
    );
    resumes(&RHp::default(), &half, 9, 3);
    resumes(&RHp::default(), &windows().precision(Precision::Bf16Mixed), 11, 0);
    resumes(&RHp::default(), &windows().precision(Precision::Bf16True), 11, 2);
    resumes(&RHp::default(), &windows().precision(Precision::F64True), 11, 1);
}

#[test]
fn lightnings_order_goes_on_after_an_epoch_from_the_generators_state() {
    let _turn = in_turn();
    let folder = Folder::new("lightning");
    let path = folder.join("a.safetensors");
    let trainer = |epochs| trainer().max_epochs(epochs).compat(Compat::Lightning);
    let hp = RHp {
        schedule: "plateau".to_owned(),
        ..RHp::default()
    };
    let straight = trainer(3).fit::<Net, _>(&hp, &data()).unwrap();
    trainer(1).fit::<Net, _>(&hp, &data()).unwrap().save(&path).unwrap();
    tch::manual_seed(12345);
    let resumed = trainer(3).ckpt_path(&path).fit::<Net, _>(&hp, &data()).unwrap();
    assert_eq!(all(&resumed), all(&straight));
}

#[test]
fn oracle_13_eight_steps_and_eight_are_sixteen() {
    let _turn = in_turn();
    let folder = Folder::new("eight");
    let path = folder.join("eight.safetensors");
    // A rate that does not depend on the length of the run.
    let hp = RHp {
        schedule: "plateau".to_owned(),
        ..RHp::default()
    };
    for accumulate in [1, 3] {
        let base = || trainer().max_epochs(9).accumulate_grad_batches(accumulate);
        let straight = base().max_steps(16).fit::<Net, _>(&hp, &data()).unwrap();
        let first = base().max_steps(8).fit::<Net, _>(&hp, &data()).unwrap();
        assert_eq!(first.progress.step, 8);
        first.save(&path).unwrap();
        let second = base()
            .max_steps(16)
            .ckpt_path(&path)
            .fit::<Net, _>(&hp, &data())
            .unwrap();
        assert_eq!(all(&second), all(&straight), "{accumulate}");
        // In memory, steps count from here.
        let mut on = base().max_steps(8).fit::<Net, _>(&hp, &data()).unwrap();
        let left = 9 - on.progress.epoch;
        base().max_epochs(left).max_steps(8).go_on(&mut on, &data()).unwrap();
        assert_eq!(all(&on), all(&straight), "{accumulate}");
    }
}

#[test]
fn a_run_that_was_stopped_amid_an_epoch_goes_on_there() {
    let _turn = in_turn();
    struct Stop(u64);
    impl Callback for Stop {
        fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
            if run.epoch() == 1 && run.batch_idx() == self.0 {
                run.stop("enough");
            }
            Ok(())
        }
    }
    let hp = RHp {
        schedule: "plateau".to_owned(),
        ..RHp::default()
    };
    let base = || trainer().accumulate_grad_batches(3);
    let straight = base().max_epochs(3).fit::<Net, _>(&hp, &data()).unwrap();
    let mut fit = base()
        .max_epochs(3)
        .callback(Stop(6))
        .fit::<Net, _>(&hp, &data())
        .unwrap();
    assert_eq!(
        (fit.history.len(), fit.progress.epoch, fit.progress.status),
        (1, 1, Status::Completed)
    );
    base().max_epochs(2).go_on(&mut fit, &data()).unwrap();
    assert_eq!(all(&fit), all(&straight));
}

#[test]
fn all_that_does_not_fit_is_said_at_once() {
    let _turn = in_turn();
    let folder = Folder::new("fits");
    let path = folder.join("a.safetensors");
    let fit = trainer().max_epochs(1).fit::<Net, _>(&RHp::default(), &data()).unwrap();
    let mut state = fit.store.state_dict();
    state.retain(|(name, _)| name != "l1.bias" && name != "norm.weight");
    state.push(("l9.weight".to_owned(), Tensor::from(1.0)));
    state.push(("l9.bias".to_owned(), Tensor::from(1.0)));
    let position = state.iter().position(|(name, _)| name == "l2.weight").unwrap();
    state[position].1 = Tensor::zeros([3, 8], (Kind::Float, Device::Cpu));
    crate::checkpoint::file::write(&path, &state, &Default::default()).unwrap();
    let mut other = trainer().max_epochs(1).fit::<Net, _>(&RHp::default(), &data()).unwrap();
    let before = all(&other);
    let error = other.load_weights(&path).unwrap_err();
    assert_eq!(
        error.message().replace(&*path.to_string_lossy(), "FILE"),
        "FILE does not fit: missing: l1.bias, norm.weight; unexpected: l9.bias, l9.weight; of another shape: l2.weight ([3, 8] in the file, [2, 8] in the model)"
    );
    assert_eq!(all(&other), before);
    let error = trainer().ckpt_path(&path).go_on(&mut other, &data()).unwrap_err();
    assert_eq!(error.hint_text(), Some("`fit.load_weights(path)` loads the tensors"));
    // Another model: nothing of the run changes.
    fit.save(&path).unwrap();
    let wide = RHp {
        hidden: 9,
        ..RHp::default()
    };
    let error = trainer()
        .ckpt_path(&path)
        .fit::<Net, _>(&wide, &data())
        .map(drop)
        .unwrap_err();
    assert!(
        error
            .message()
            .contains("l1.weight ([8, 4] in the file, [9, 4] in the model)"),
        "{error}"
    );
    let error = trainer()
        .ckpt_path(folder.join("none"))
        .fit::<Net, _>(&wide, &data())
        .map(drop)
        .unwrap_err();
    assert!(error.message().contains("No such file"), "{error}");
}

#[test]
fn weights_go_to_another_model_and_back() {
    let _turn = in_turn();
    let folder = Folder::new("weights");
    let fit = trainer().max_epochs(1).fit::<Net, _>(&RHp::default(), &data()).unwrap();
    for (name, whole) in [("run", true), ("weights", false)] {
        let path = folder.join(format!("{name}.safetensors"));
        if whole {
            fit.save(&path).unwrap()
        } else {
            fit.save_weights(&path).unwrap()
        }
        let mut other = Fit::<Net>::build(RHp::default(), &trainer().seed(77)).unwrap();
        other.load_weights(&path).unwrap();
        assert_eq!(other.store.state_dict(), fit.store.state_dict());
        assert_eq!(other.progress.step, 0);
    }
}

#[test]
fn a_folder_that_cannot_be_written_ends_the_run_and_keeps_it() {
    let _turn = in_turn();
    let folder = Folder::new("readonly");
    // A file where the folder should be: refused whoever runs the test.
    let blocked = folder.join("file");
    std::fs::write(&blocked, "").unwrap();
    let mut fit = Fit::<Net>::build(RHp::default(), &trainer()).unwrap();
    let keep = ModelCheckpoint::new().dirpath(blocked.join("deep"));
    let error = trainer()
        .max_epochs(3)
        .callback(keep)
        .go_on(&mut fit, &data())
        .unwrap_err();
    assert!(error.message().starts_with("cannot make "), "{error}");
    assert_eq!(
        (fit.progress.status, fit.history.len(), fit.progress.step),
        (Status::Failed, 1, 16)
    );
    trainer().max_epochs(1).go_on(&mut fit, &data()).unwrap();
    assert_eq!(fit.history.len(), 2);
}
