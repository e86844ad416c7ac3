//! Rows 1, 2, 5 and 12: losses and parameters of runs without shuffling.

use super::*;

/// The optimizers of `make.py`, under its names: with `_fused` as ours are by default, else as PyTorch's are.
pub fn optimizer(name: &str) -> Optim {
    let (name, fused) = match name.strip_suffix("_fused") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let optim = match name {
        "sgd" => sgd(0.05, 0.9),
        "sgd_dampened" => sgd(0.05, 0.9).dampening(0.1).weight_decay(0.01),
        "sgd_nesterov" if fused => sgd(0.05, 0.9).nesterov().weight_decay(0.01),
        "sgd_nesterov" => sgd(0.05, 0.9).nesterov(),
        "adam" => adam(1e-3),
        "adam_decay" => adam(1e-2).betas(0.8, 0.99).eps(1e-6).weight_decay(0.05),
        "adamw_amsgrad" => adamw(1e-2).amsgrad(),
        "rmsprop" => rmsprop(1e-3),
        "rmsprop_centered" => rmsprop(1e-3).alpha(0.9).momentum(0.9).centered().weight_decay(0.01),
        "adagrad" => adagrad(0.05).lr_decay(0.01).initial_accumulator_value(0.1),
        "groups" => adamw(1e-2)
            .weight_decay(0.1)
            .group(ParamGroup::new("*.bias").weight_decay(0.0))
            .group(ParamGroup::new("l1.*").lr(1e-3)),
        "lbfgs" => lbfgs(0.5).max_iter(5).history_size(4),
        "one_cycle" => sgd(0.05, 0.9).schedule(OneCycleLR::new(0.2)),
        "adam_one_cycle" => adam(1e-3).schedule(OneCycleLR::new(0.01)),
        other => panic!("no optimizer is called {other}"),
    };
    // Without a word they are fused.
    if fused { optim } else { optim.fused(false) }
}

fn hparams(optimizer: &str) -> Hp {
    Hp {
        optimizer: optimizer.to_owned(),
        ..Hp::default()
    }
}

/// The largest difference of the parameters.
pub fn weights_apart(model: &Net, theirs: &HashMap<String, Tensor>, name: &str) -> f64 {
    let (l1, l2) = (&model.l1, &model.l2);
    let ours = [
        ("l1.weight", Some(&l1.weight)),
        ("l1.bias", l1.bias.as_ref()),
        ("l2.weight", Some(&l2.weight)),
        ("l2.bias", l2.bias.as_ref()),
    ];
    let differences = ours.map(|(key, tensor)| tensors_apart(tensor.unwrap(), &theirs[&format!("{name}.{key}")]));
    largest(differences)
}

fn compare(row: u32, name: &str, tolerance: f64) {
    let fit = trainer()
        .max_epochs(3)
        .fit::<Net, _>(&hparams(name), &in_order(samples(256, 20, 4), 16))
        .unwrap();
    let losses = apart(&fit.step_losses, &numbers(&golden()["curves"][name]));
    let weights = weights_apart(&fit.model, &tensors("weights.safetensors"), name);
    near(row, &format!("{name}: losses"), losses, tolerance);
    near(row, &format!("{name}: parameters"), weights, tolerance);
}

#[test]
fn oracle_01_sgd_curves() {
    let _turn = in_turn();
    for name in ["sgd", "sgd_dampened", "sgd_nesterov", "sgd_fused", "sgd_nesterov_fused"] {
        compare(1, name, 1e-6);
    }
}

#[test]
fn oracle_02_adaptive_curves() {
    let _turn = in_turn();
    for name in [
        "adam",
        "adam_decay",
        "adamw_amsgrad",
        "rmsprop",
        "rmsprop_centered",
        "adagrad",
        "adam_fused",
        "adam_decay_fused",
        "adamw_amsgrad_fused",
    ] {
        compare(2, name, 1e-5);
    }
}

#[test]
fn oracle_02_parameter_groups() {
    let _turn = in_turn();
    compare(2, "groups", 1e-5);
}

#[test]
fn oracle_02_lbfgs() {
    let _turn = in_turn();
    let fit = trainer()
        .max_epochs(3)
        .fit::<Net, _>(&hparams("lbfgs"), &in_order(samples(256, 20, 4), 64))
        .unwrap();
    let losses = apart(&fit.step_losses, &numbers(&golden()["lbfgs"]));
    let weights = weights_apart(&fit.model, &tensors("weights.safetensors"), "lbfgs");
    near(2, "lbfgs: losses", losses, 1e-5);
    near(2, "lbfgs: parameters", weights, 1e-5);
}

#[test]
fn oracle_05_golden_run() {
    let _turn = in_turn();
    let golden = golden();
    for name in ["sgd", "adam"] {
        let hp = Hp {
            inputs: 784,
            hidden: 64,
            classes: 10,
            ..hparams(name)
        };
        let fit = trainer()
            .max_epochs(3)
            .fit::<Net, _>(&hp, &in_order(samples(1024, 784, 10), 64))
            .unwrap();
        let losses = apart(&fit.step_losses, &numbers(&golden["large"][name]));
        near(5, &format!("larger run, {name}: losses"), losses, 1e-5);
    }
}

#[test]
fn oracle_08_one_cycle_changes_the_momentum_too() {
    let _turn = in_turn();
    compare(8, "one_cycle", 1e-6);
    compare(8, "adam_one_cycle", 1e-5);
}

#[test]
fn oracle_12_clipping_and_accumulation() {
    let _turn = in_turn();
    let theirs = tensors("weights.safetensors");
    let norms = &golden()["norms"];
    let norm = || trainer().gradient_clip_val(0.05);
    let cases = [
        ("clip_norm", norm()),
        (
            "clip_value",
            trainer()
                .gradient_clip_val(0.01)
                .gradient_clip_algorithm(ClipAlgorithm::Value),
        ),
        ("accumulate_4", trainer().accumulate_grad_batches(4)),
        ("accumulate_5", trainer().accumulate_grad_batches(5)),
        (
            "accumulate_5_lightning",
            trainer().accumulate_grad_batches(5).compat(Compat::Lightning),
        ),
        ("accumulate_5_clip", norm().accumulate_grad_batches(5)),
    ];
    for (name, trainer) in cases {
        let fit = trainer
            .max_epochs(2)
            .fit::<Net, _>(&hparams("sgd"), &in_order(samples(256, 20, 4), 16))
            .unwrap();
        let weights = weights_apart(&fit.model, &theirs, name);
        // Clipped to infinity, the gradients of the last step are only measured.
        let norm = fit.optimizer().clip_grad_norm(f64::MAX).unwrap().unwrap();
        let norm = (norm.double_value(&[]) - norms[name].as_f64().unwrap()).abs();
        near(12, &format!("{name}: parameters"), weights, 1e-6);
        near(12, &format!("{name}: norm of gradients"), norm, 1e-6);
    }
}

#[test]
fn oracle_12_four_batches_of_16_are_one_of_64() {
    let _turn = in_turn();
    let run = |batch_size: usize, accumulate: u64| {
        let fit = trainer()
            .max_epochs(1)
            .accumulate_grad_batches(accumulate)
            .fit::<Net, _>(&hparams("sgd"), &in_order(samples(256, 20, 4), batch_size))
            .unwrap();
        assert_eq!(fit.step_losses.len(), 4);
        fit
    };
    let (parts, whole) = (run(16, 4), run(64, 1));
    let weights = tensors_apart(&parts.model.l1.weight, &whole.model.l1.weight.detach());
    near(12, "4 batches of 16 and one of 64: parameters", weights, 1e-6);
    let losses = apart(&parts.step_losses, &whole.step_losses);
    near(12, "4 batches of 16 and one of 64: losses", losses, 1e-6);
}
