use super::*;
use tch::{Device, Kind as TKind, Tensor};

#[test]
fn settings_that_an_algorithm_lacks_or_that_mean_nothing_are_refused() {
    let error = |optim: Optim| optim.build(Vec::new()).map(drop).unwrap_err().to_string();
    assert_eq!(error(adam(0.1).nesterov()), "Adam has no setting `nesterov`");
    assert_eq!(error(sgd(0.1, 0.9).amsgrad().eps(1.0)), "SGD has no setting `amsgrad`");
    assert_eq!(
        error(sgd(0.1, 0.0).nesterov()),
        "Nesterov's momentum needs a momentum and no dampening\nhint: sgd(0.1, 0.9).nesterov()"
    );
    assert_eq!(
        error(adam(-0.1)),
        "the learning rate cannot be -0.1\nhint: it is at least 0"
    );
    assert_eq!(
        error(adam(f64::NAN)),
        "the learning rate cannot be NaN\nhint: it is at least 0"
    );
    assert_eq!(
        error(adamw(0.1).betas(0.9, 1.0)),
        "betas are at least 0 and below 1, not 1"
    );
    assert_eq!(
        error(rmsprop(0.1).alpha(-1.0)),
        "alpha cannot be -1\nhint: it is at least 0"
    );
    assert_eq!(
        error(adagrad(0.1).group(ParamGroup::new("a").lr(-1.0))),
        "the learning rate of group `a` cannot be -1\nhint: it is at least 0"
    );
}

fn parameter(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

/// Minimises (x - 3)² from 0.
fn minimise(optim: &Optim, steps: usize) -> f64 {
    let x = parameter(&[0.0]);
    let mut optimizer = optim.build(vec![("x".to_owned(), x.shallow_clone())]).unwrap();
    for _ in 0..steps {
        let loss = (&x - 3.0).square().sum(TKind::Float);
        optimizer.zero_grad();
        loss.backward();
        optimizer.step().unwrap();
    }
    f64::try_from(&x.detach().squeeze()).unwrap()
}

fn all() -> Vec<Optim> {
    vec![
        sgd(0.1, 0.0),
        sgd(0.02, 0.9),
        sgd(0.02, 0.9).nesterov(),
        sgd(0.02, 0.9).dampening(0.5),
        adam(0.1),
        adam(0.1).amsgrad(),
        adamw(0.1).weight_decay(0.0),
        rmsprop(0.02),
        rmsprop(0.01).momentum(0.5).centered(),
        adagrad(1.0),
    ]
}

#[test]
fn all_of_them_go_downhill() {
    let _turn = crate::tests::in_turn();
    for optim in all() {
        let x = minimise(&optim, 200);
        assert!((x - 3.0).abs() < 0.05, "{optim:?}: {x}");
    }
}

#[test]
fn one_step_of_sgd_is_exact() {
    let _turn = crate::tests::in_turn();
    // x - lr · 2 (x - 3) = 0 + 0.1 · 6
    assert!((minimise(&sgd(0.1, 0.0), 1) - 0.6).abs() < 1e-6);
}

#[test]
fn state_that_is_loaded_goes_on_bit_by_bit() {
    let _turn = crate::tests::in_turn();
    for optim in all() {
        let run = |x: &Tensor, optimizer: &mut Optimizer, steps: usize| {
            for _ in 0..steps {
                optimizer.zero_grad();
                (x.sin() * Tensor::from_slice(&[1.0f32, 2.0]))
                    .sum(TKind::Float)
                    .backward();
                optimizer.step().unwrap();
            }
        };
        let made = |x: &Tensor| optim.build(vec![("x".to_owned(), x.shallow_clone())]).unwrap();
        let x = parameter(&[0.3, -0.7]);
        let mut first = made(&x);
        run(&x, &mut first, 3);
        let y = x.detach().copy().set_requires_grad(true);
        let mut second = made(&y);
        second.load_state(&first.state()).unwrap();
        run(&x, &mut first, 3);
        run(&y, &mut second, 3);
        assert_eq!(x, y, "{optim:?}");
        let names = |optimizer: &Optimizer| optimizer.state().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&first), names(&second));
    }
}

#[test]
fn state_that_does_not_fit_is_refused_whole() {
    let _turn = crate::tests::in_turn();
    let x = parameter(&[1.0, 2.0]);
    let mut optimizer = adam(0.1).build(vec![("x".to_owned(), x.shallow_clone())]).unwrap();
    assert!(optimizer.state().is_empty());
    x.sum(TKind::Float).backward();
    optimizer.step().unwrap();
    let state = optimizer.state();
    let names: Vec<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x.step", "x.exp_avg", "x.exp_avg_sq"]);
    let copy = |state: &[(String, Tensor)]| {
        state
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect::<Vec<_>>()
    };
    let mut error = |state: Vec<(String, Tensor)>| optimizer.load_state(&state).unwrap_err().to_string();
    assert_eq!(
        error(copy(&state[..2])),
        "the state of x is not whole: Adam needs step, exp_avg, exp_avg_sq"
    );
    let mut other = copy(&state);
    other[1].1 = Tensor::zeros([3], (TKind::Float, Device::Cpu));
    assert_eq!(error(other), "x.exp_avg has the shape [3], the parameter [2]");
    let mut other = copy(&state);
    other[0].1 = Tensor::zeros([3], (TKind::Float, Device::Cpu));
    assert_eq!(error(other), "x.step must have one element, not the shape [3]");
    let mut other = copy(&state);
    other.push(("y.step".to_owned(), Tensor::from(1.0f32)));
    assert_eq!(
        error(other),
        "Adam has nothing called y.step here\nhint: the state is that of another model or optimizer"
    );
    assert_eq!(optimizer.state().len(), 3);
}

#[test]
fn lbfgs_goes_downhill_and_on_from_its_state() {
    let _turn = crate::tests::in_turn();
    let loss = |x: &Tensor| ((x - 3.0).square() * Tensor::from_slice(&[1.0f32, 20.0])).sum(TKind::Float);
    let step = |x: &Tensor, optimizer: &mut Optimizer| {
        let mut compute = |optimizer: &mut Optimizer| {
            optimizer.zero_grad();
            let loss = loss(x);
            loss.backward();
            Ok(loss.double_value(&[]))
        };
        let first = compute(optimizer).unwrap();
        optimizer.step_again(first, &mut compute).unwrap();
    };
    let made = |x: &Tensor| {
        let optim = lbfgs(0.5).max_iter(3).history_size(2);
        optim.build(vec![("x".to_owned(), x.shallow_clone())]).unwrap()
    };
    let x = parameter(&[0.0, 0.0]);
    let mut first = made(&x);
    assert!(
        first
            .step()
            .unwrap_err()
            .message()
            .starts_with("LBFGS steps only in a run")
    );
    step(&x, &mut first);
    step(&x, &mut first);
    let y = x.detach().copy().set_requires_grad(true);
    let mut second = made(&y);
    second.load_state(&first.state()).unwrap();
    step(&x, &mut first);
    step(&y, &mut second);
    assert_eq!(x, y);
    for _ in 0..20 {
        step(&x, &mut first);
    }
    assert!((&x - 3.0).abs().max().double_value(&[]) < 1e-3, "{x:?}");
    let mut state = first.state();
    state.pop();
    let error = first.load_state(&state).unwrap_err();
    assert!(
        error.message().starts_with("the state is not whole: LBFGS needs d, "),
        "{error}"
    );
    let error = lbfgs(1.0).weight_decay(0.1).build(Vec::new()).unwrap_err();
    assert_eq!(error.message(), "LBFGS has neither weight decay nor parameter groups");
}

#[test]
fn groups_have_rates_of_their_own_and_must_have_members() {
    let _turn = crate::tests::in_turn();
    let (weight, bias) = (parameter(&[1.0]), parameter(&[1.0]));
    let named = || {
        vec![
            ("l.weight".to_owned(), weight.shallow_clone()),
            ("l.bias".to_owned(), bias.shallow_clone()),
        ]
    };
    let optim = sgd(0.1, 0.0).weight_decay(1.0);
    let grouped = optim
        .clone()
        .group(ParamGroup::new("*.bias").lr(0.01).weight_decay(0.0));
    let mut optimizer = grouped.build(named()).unwrap();
    assert_eq!(optimizer.lrs(), [(String::new(), 0.1), ("*.bias".to_owned(), 0.01)]);
    (&weight + &bias).sum(TKind::Float).backward();
    optimizer.step().unwrap();
    assert!((weight.double_value(&[0]) - 0.8).abs() < 1e-6);
    assert!((bias.double_value(&[0]) - 0.99).abs() < 1e-6);
    let error = optim.group(ParamGroup::new("head.*")).build(named()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no parameter is left for the group `head.*`\nhint: the parameters are l.weight, l.bias"
    );
}

#[test]
fn a_parameter_without_a_gradient_stays() {
    let _turn = crate::tests::in_turn();
    let (used, unused) = (parameter(&[1.0]), parameter(&[1.0]));
    let frozen = parameter(&[1.0]).set_requires_grad(false);
    let named = [("a", &used), ("b", &unused), ("c", &frozen)];
    let named = named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
    let mut optimizer = adamw(0.1).build(named.into()).unwrap();
    assert!(!frozen.requires_grad());
    // Both have a gradient in the first step; in the second one of them has none, which is not a gradient of zero.
    (&used + &unused).sum(TKind::Float).backward();
    optimizer.step().unwrap();
    let before = unused.double_value(&[0]);
    optimizer.zero_grad();
    used.sum(TKind::Float).backward();
    optimizer.step().unwrap();
    assert_eq!((unused.double_value(&[0]), frozen.double_value(&[0])), (before, 1.0));
    assert!(used.double_value(&[0]) < before);
}

#[test]
fn gradients_are_clipped_by_norm_and_by_value() {
    let _turn = crate::tests::in_turn();
    let (a, b) = (parameter(&[0.0]), parameter(&[0.0]));
    let named = vec![("a".to_owned(), a.shallow_clone()), ("b".to_owned(), b.shallow_clone())];
    let mut optimizer = sgd(1.0, 0.0).build(named).unwrap();
    assert!(optimizer.clip_grad_norm(1.0).unwrap().is_none());
    let backward = |optimizer: &mut Optimizer| {
        optimizer.zero_grad();
        (&a * 3.0 + &b * -4.0).sum(TKind::Float).backward();
    };
    let grads = || (a.grad().double_value(&[0]), b.grad().double_value(&[0]));
    backward(&mut optimizer);
    let norm = optimizer.clip_grad_norm(10.0).unwrap().unwrap();
    assert_eq!((norm.double_value(&[]), grads()), (5.0, (3.0, -4.0)));
    optimizer.clip_grad_norm(1.0).unwrap();
    assert!((grads().0 - 0.6).abs() < 1e-6 && (grads().1 + 0.8).abs() < 1e-6);
    backward(&mut optimizer);
    optimizer.clip_grad_value(3.5).unwrap();
    assert_eq!(grads(), (3.0, -3.5));
}
