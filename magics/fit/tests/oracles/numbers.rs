//! Rows 15 and 16: runs that compute with other numbers than float32, and the scaler of the loss.

use super::curves::weights_apart;
use super::*;

/// The network of the other rows with PyTorch's own cross entropy: tch's computes in float32 whatever it gets.
struct Numbers {
    net: Net,
    overflow_at: Option<u64>,
}

lightcell::hparams! {
    NumbersHp { optimizer: String = "sgd".to_owned(), overflow_at: Option<u64> = None }
}

impl LightningModule for Numbers {
    type HParams = NumbersHp;
    type Batch = (Tensor, Tensor);

    fn new(p: &Path, hp: &NumbersHp) -> Numbers {
        Numbers {
            net: Net::new(p, &Hp::default()),
            overflow_at: hp.overflow_at,
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.net.forward(x)
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let (weights, mean) = (None::<Tensor>, lightcell::tch::Reduction::Mean);
        let loss = self.forward(x).cross_entropy_loss(y, weights, mean, -100, 0.0);
        // Scaled, it is infinite.
        Ok(match self.overflow_at == Some(cx.global_step()) {
            true => loss * 1e35,
            false => loss,
        })
    }
    fn configure_optimizers(&self, hp: &NumbersHp) -> Optim {
        match hp.optimizer.as_str() {
            "scaled" => adam(1e-2).schedule(StepLR::new(3).gamma(0.5).per_step()),
            other => curves::optimizer(other),
        }
    }
}

fn data() -> Loaders {
    in_order(samples(256, 20, 4), 16)
}

/// The first losses must be equal; the others, and the parameters, within the tolerance.
fn compare(precision: Precision, name: &str, optimizer: &str, tolerance: f64) {
    let hp = NumbersHp {
        optimizer: optimizer.to_owned(),
        ..NumbersHp::default()
    };
    let trainer = trainer().max_epochs(3).precision(precision);
    let fit = trainer.fit::<Numbers, _>(&hp, &data()).unwrap();
    let name = format!("{name}_{optimizer}");
    let theirs = numbers(&golden()["precision"][&name]);
    let losses = apart(&fit.step_losses, &theirs);
    let weights = weights_apart(&fit.model.net, &tensors("precision.safetensors"), &name);
    let first = (fit.step_losses[0] - theirs[0]).abs();
    near(15, &format!("{name}: first loss"), first, 1e-6);
    near(15, &format!("{name}: losses"), losses, tolerance);
    near(15, &format!("{name}: parameters"), weights, tolerance);
    let kind = fit.model.net.l1.weight.kind();
    let expected = match precision {
        Precision::F64True => Kind::Double,
        Precision::Bf16True => Kind::BFloat16,
        Precision::F16True => Kind::Half,
        _ => Kind::Float,
    };
    assert_eq!((kind, fit.precision()), (expected, precision));
}

#[test]
fn oracle_15_bf16_mixed_curves() {
    let _turn = in_turn();
    for optimizer in ["sgd", "adam"] {
        compare(Precision::Bf16Mixed, "bf16_mixed", optimizer, 1e-3);
    }
}

#[test]
fn oracle_15_true_precisions() {
    let _turn = in_turn();
    for optimizer in ["sgd", "adam"] {
        compare(Precision::F64True, "f64_true", optimizer, 1e-12);
        compare(Precision::Bf16True, "bf16_true", optimizer, 5e-2);
    }
    compare(Precision::F16True, "f16_true", "sgd", 1e-2);
}

fn scaler_trace(name: &str, trainer: Trainer) {
    let theirs = golden()["scaler"][name].as_array().unwrap().clone();
    let hp = NumbersHp {
        optimizer: "scaled".to_owned(),
        overflow_at: Some(5),
    };
    let straight = trainer.clone().max_epochs(1).fit::<Numbers, _>(&hp, &data()).unwrap();
    // Step by step, to see the scale after each; that the run is in parts changes nothing.
    let trainer = trainer.max_epochs(1).max_steps(1);
    let mut parts = trainer.fit::<Numbers, _>(&hp, &data()).unwrap();
    for (step, expected) in theirs.iter().enumerate() {
        let scaler = parts.grad_scaler().unwrap();
        assert_eq!(
            scaler.scale(),
            expected["scale"].as_f64().unwrap(),
            "{name}, step {step}"
        );
        let skipped = theirs[..=step].iter().filter(|one| one["skipped"] == true).count();
        assert_eq!(scaler.skipped_steps(), skipped as u64, "{name}, step {step}");
        let loss = expected["loss"].as_f64().unwrap();
        let apart = (parts.step_losses[step] - loss).abs() / loss.max(1.0);
        near(16, &format!("scaler, {name}: losses"), apart, 1e-3);
        if step + 1 < theirs.len() {
            let lr = theirs[step + 1]["lr"].as_f64().unwrap();
            assert_eq!(parts.optimizer().lr(), lr, "{name}, step {step}");
            trainer.go_on(&mut parts, &data()).unwrap();
        }
    }
    assert_eq!(straight.step_losses, parts.step_losses);
    assert_eq!(straight.grad_scaler(), parts.grad_scaler());
    let theirs = tensors("precision.safetensors");
    let weights = weights_apart(&straight.model.net, &theirs, &format!("scaler_{name}"));
    near(16, &format!("scaler, {name}: parameters"), weights, 1e-3);
    equal(16, &format!("scaler, {name}: scale, steps left out, rate"));
    assert_eq!(
        weights_apart(&parts.model.net, &theirs, &format!("scaler_{name}")),
        weights
    );
}

#[test]
fn oracle_16_scaler_trace() {
    let _turn = in_turn();
    let trainer = || trainer().precision(Precision::F16Mixed);
    scaler_trace("defaults", trainer().grad_scaler(GradScaler::new()));
    let growing = GradScaler::new()
        .init_scale(1024.0)
        .growth_interval(4)
        .growth_factor(4.0)
        .backoff_factor(0.25);
    scaler_trace("growing", trainer().grad_scaler(growing).gradient_clip_val(0.05));
}
