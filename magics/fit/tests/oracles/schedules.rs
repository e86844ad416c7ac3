//! Row 8: learning rates of schedules, as a run has them, step by step or epoch by epoch.

use super::*;

lightcell::hparams! { ScheduleHp { name: String = String::new(), values: Vec<f64> = Vec::new() } }

/// Trains one number, notes the learning rates, and logs what it is told to.
struct Probe {
    weight: Tensor,
    values: Vec<f64>,
    lrs: Vec<f64>,
}

impl LightningModule for Probe {
    type HParams = ScheduleHp;
    type Batch = (Tensor, Tensor);

    fn new(p: &Path, hp: &ScheduleHp) -> Probe {
        Probe {
            weight: p.parameter("weight", &[1], lightcell::tch::nn::Init::Const(0.0)),
            values: hp.values.clone(),
            lrs: Vec::new(),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        x * &self.weight
    }
    fn training_step(&mut self, (x, _): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        self.lrs.push(cx.lr());
        Ok(self.forward(x).sum(Kind::Float))
    }
    fn validation_step(&mut self, _: &Self::Batch, cx: &mut Step) -> Result<()> {
        if let Some(value) = self.values.get(cx.epoch() as usize) {
            cx.log("value", value);
        }
        Ok(())
    }
    fn configure_optimizers(&self, hp: &ScheduleHp) -> Optim {
        sgd(0.3, 0.9).schedule(schedule(&hp.name))
    }
}

/// The schedules of `make.py`, under its names.
fn schedule(name: &str) -> Schedule {
    match name {
        "step" => StepLR::new(7).gamma(0.3).into(),
        "multi_step" => MultiStepLR::new([5, 20, 20, 41]).gamma(0.5).into(),
        "exponential" => ExponentialLR::new(0.93).into(),
        "linear" => LinearLR::new().total_iters(12).into(),
        "linear_down" => LinearLR::new().start_factor(1.0).end_factor(0.1).total_iters(40).into(),
        "polynomial" => PolynomialLR::new(50).power(2.0).into(),
        "cosine" => CosineAnnealingLR::new(25).eta_min(0.001).into(),
        "cosine_whole" => CosineAnnealingLR::whole_run().into(),
        "warm_restarts" => CosineAnnealingWarmRestarts::new(10).eta_min(0.01).into(),
        "warm_restarts_longer" => CosineAnnealingWarmRestarts::new(5).t_mult(2).into(),
        "one_cycle" => OneCycleLR::new(0.7).into(),
        "one_cycle_three" => OneCycleLR::new(0.7)
            .three_phase()
            .linear()
            .pct_start(0.4)
            .div_factor(10.0)
            .into(),
        "lambda" => LambdaLR::new(|t| 1.0 / (t + 1) as f64).into(),
        "sequential" => SequentialLR::new(
            [
                LinearLR::new().start_factor(0.1).total_iters(10).into(),
                CosineAnnealingLR::new(30).into(),
                ExponentialLR::new(0.8).into(),
            ],
            [10, 40],
        )
        .into(),
        "min" => ReduceLROnPlateau::new("value").patience(2).into(),
        "max" => ReduceLROnPlateau::new("value")
            .mode(PlateauMode::Max)
            .factor(0.5)
            .patience(1)
            .threshold(0.05, ThresholdMode::Abs)
            .cooldown(2)
            .min_lr(0.05)
            .into(),
        other => panic!("no schedule is called {other}"),
    }
}

fn rates(name: &str, values: Vec<f64>, batches: i64, epochs: u64) -> Vec<f64> {
    let zeros = || Tensor::zeros([batches], (Kind::Float, Device::Cpu));
    let both = Arc::new(TensorDataset::new(zeros(), zeros()).unwrap());
    let data = Loaders {
        val: (!values.is_empty()).then(|| both.clone()),
        train: both,
        batch_size: 1,
        shuffle: false,
    };
    let hp = ScheduleHp {
        name: name.to_owned(),
        values,
    };
    let fit = trainer().max_epochs(epochs).fit::<Probe, _>(&hp, &data).unwrap();
    fit.model.lrs
}

/// Relative to the larger of the rate and a millionth of the first one: PyTorch computes a cosine from its last value, so
/// that near its lowest point what is left of the rate is rounding.
fn compare(name: &str, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    let difference = largest(
        ours.iter()
            .zip(theirs)
            .map(|(a, b)| (a - b).abs() / b.abs().max(0.3e-6)),
    );
    near(8, &format!("{name}: rates"), difference, 1e-12);
}

#[test]
fn oracle_08_schedules() {
    let _turn = in_turn();
    for (name, theirs) in golden()["schedules"].as_object().unwrap() {
        let per_step = ["cosine_whole", "one_cycle", "one_cycle_three"].contains(&name.as_str());
        let (batches, epochs) = if per_step { (60, 1) } else { (1, 60) };
        compare(name, &rates(name, Vec::new(), batches, epochs), &numbers(theirs));
    }
}

#[test]
fn oracle_08_a_schedule_of_epochs_keeps_its_rate_within_one() {
    let _turn = in_turn();
    let theirs = numbers(&golden()["schedules"]["exponential"]);
    let each_twice: Vec<f64> = theirs.iter().flat_map(|rate| [*rate; 2]).collect();
    compare("exponential", &rates("exponential", Vec::new(), 2, 60), &each_twice);
}

#[test]
fn oracle_08_plateaus_look_at_each_epochs_validation() {
    let _turn = in_turn();
    let golden = &golden()["plateau"];
    let values = numbers(&golden["values"]);
    for name in ["min", "max"] {
        let theirs = numbers(&golden[name]);
        compare(name, &rates(name, values.clone(), 1, values.len() as u64), &theirs);
    }
}
