//! Splitting and merging changes nothing; what metrics are not made for is refused; in a run, they are computed once.

use super::*;
use crate::data::SampleRng;
use crate::prelude::{Data, LightningModule, Linear, Path, Step, TensorDataset, Trainer, linear};
use std::cell::Cell;
use tch::Kind as TKind;

/// All metrics, made anew, each with inputs that fit it: scores of four classes, of one, numbers or logits of tokens.
fn all() -> Vec<(Box<dyn Metric>, &'static str)> {
    vec![
        (Box::new(Accuracy::multiclass(4)), "classes"),
        (
            Box::new(Accuracy::multiclass(4).average(Average::Macro).top_k(2)),
            "classes",
        ),
        (Box::new(Precision::multiclass(4).average(Average::Macro)), "classes"),
        (Box::new(Recall::multiclass(4).average(Average::Weighted)), "classes"),
        (Box::new(F1Score::binary()), "binary"),
        (Box::new(AUROC::binary()), "binary"),
        (Box::new(AUROC::multiclass(4)), "classes"),
        (
            Box::new(AveragePrecision::multiclass(4).average(Average::Weighted)),
            "classes",
        ),
        (Box::new(CalibrationError::multiclass(4)), "classes"),
        (Box::new(CalibrationError::binary().norm(Norm::L2)), "binary"),
        (Box::new(MeanSquaredError::new().squared(false)), "numbers"),
        (Box::new(MeanAbsoluteError::new()), "numbers"),
        (Box::new(R2Score::new()), "numbers"),
        (Box::new(Perplexity::new()), "tokens"),
    ]
}

fn samples(what: &str, n: usize, random: &mut SampleRng) -> (Tensor, Tensor) {
    let mut draw = |n: usize| -> Vec<f32> {
        (0..n)
            .map(|_| (random.uniform(0.0, 1.0) * 20.0).round() as f32 / 20.0)
            .collect()
    };
    let scores = |numbers: Vec<f32>, width: i64| Tensor::from_slice(&numbers).view([-1, width]);
    let labels = |numbers: Vec<f32>, classes: f32| {
        let labels: Vec<i64> = numbers
            .iter()
            .map(|x| ((x * classes) as i64).min(classes as i64 - 1))
            .collect();
        Tensor::from_slice(&labels)
    };
    match what {
        "classes" => (scores(draw(n * 4), 4).softmax(1, TKind::Float), labels(draw(n), 4.0)),
        "binary" => (Tensor::from_slice(&draw(n)), labels(draw(n), 2.0)),
        "tokens" => (scores(draw(n * 5), 5), labels(draw(n), 5.0)),
        _ => (scores(draw(n * 2), 2), scores(draw(n * 2), 2)),
    }
}

#[test]
fn batches_and_processes_change_nothing() {
    let _turn = crate::tests::in_turn();
    let mut random = SampleRng::new(5);
    for round in 0..12 {
        for (at, (whole, what)) in all().into_iter().enumerate() {
            let n = 2 + random.below(40);
            let (preds, target) = samples(what, n, &mut random);
            whole.update(&preds, &target).unwrap();
            // Three processes, each with batches of random sizes, some empty.
            let ranks: Vec<Box<dyn Metric>> = (0..3).map(|_| all().swap_remove(at).0).collect();
            let mut from = 0;
            while from < n {
                let size = random.below(n - from + 1).max(usize::from(random.chance(0.9)));
                let part = |tensor: &Tensor| tensor.narrow(0, from as i64, size as i64);
                ranks[random.below(3)].update(&part(&preds), &part(&target)).unwrap();
                from += size;
            }
            for rank in &ranks[1..] {
                ranks[0].merge_state(&rank.state()).unwrap();
            }
            let (all, parts) = (whole.compute().unwrap(), ranks[0].compute().unwrap());
            let exact = what != "numbers" && what != "tokens" && at != 8 && at != 9;
            let same = all.to_bits() == parts.to_bits() || (all.is_nan() && parts.is_nan());
            // Sums of counts are exact; sums of other numbers are, but for the order of their addition.
            let near = (all - parts).abs() <= 1e-6 * all.abs().max(1e-3);
            assert!(same || (!exact && near), "{round} {whole:?}: {all} {parts}");
            whole.reset();
            assert!(whole.state().is_empty() && whole.compute().unwrap().is_nan());
        }
    }
}

#[test]
fn what_a_metric_is_not_made_for_is_refused() {
    let _turn = crate::tests::in_turn();
    let zeros = |size: &[i64]| Tensor::zeros(size, (TKind::Float, Device::Cpu));
    let labels = |labels: &[i64]| Tensor::from_slice(labels);
    let said = |metric: &dyn Metric, preds: &Tensor, target: &Tensor| {
        let error = metric.update(preds, target).unwrap_err();
        (
            error.message().to_owned(),
            error.hint_text().unwrap_or_default().to_owned(),
        )
    };
    let accuracy = Accuracy::multiclass(3);
    assert_eq!(
        said(&accuracy, &zeros(&[2, 4]), &labels(&[0, 1])).0,
        "Accuracy: predictions of [2, 4] do not fit targets of [2]: they are [n, 3, …] for targets [n, …]"
    );
    let (message, hint) = said(&accuracy, &zeros(&[2, 3]), &labels(&[0, 3]));
    assert_eq!(
        (message.as_str(), hint.as_str()),
        ("Accuracy: label 3, at 1, is outside of 0 to 2", "labels count from 0")
    );
    assert_eq!(
        said(&accuracy, &labels(&[0, -1]), &labels(&[0, 1])).0,
        "Accuracy: predicted label -1, at 1, is outside of 0 to 2"
    );
    assert!(
        said(&accuracy, &zeros(&[2, 3]), &zeros(&[2]))
            .0
            .contains("targets are labels")
    );
    let (message, hint) = said(&F1Score::binary(), &(zeros(&[2]) + 1.5), &labels(&[0, 1]));
    assert_eq!(message, "F1Score: 1.5 is no probability");
    assert!(hint.contains(".logits()"));
    assert!(
        F1Score::binary()
            .logits()
            .update(&(zeros(&[2]) + 1.5), &labels(&[0, 1]))
            .is_ok()
    );
    let (message, hint) = said(&MeanSquaredError::new(), &zeros(&[2, 1]), &zeros(&[2]));
    assert_eq!(
        message,
        "MeanSquaredError: predictions of [2, 1] do not fit targets of [2]"
    );
    assert!(hint.contains("view_as"));
    assert!(
        said(&Perplexity::new(), &zeros(&[2, 3]), &labels(&[0, 1, 2]))
            .0
            .contains("one dimension more")
    );
    let other = Accuracy::multiclass(4);
    other.update(&labels(&[0]), &labels(&[0])).unwrap();
    accuracy.update(&labels(&[0]), &labels(&[0])).unwrap();
    assert!(
        accuracy
            .merge_state(&other.state())
            .unwrap_err()
            .message()
            .contains("other settings")
    );
    let auroc = AUROC::binary();
    auroc.update(&zeros(&[2]), &labels(&[1, 1])).unwrap();
    assert!(auroc.compute().unwrap().is_nan());
    auroc.update(&(zeros(&[1]) + f64::NAN), &labels(&[1])).unwrap();
    assert!(
        auroc
            .compute()
            .unwrap_err()
            .message()
            .starts_with("AUROC: a score is no number")
    );
}

thread_local! {
    /// How often the metric below was computed.
    static COMPUTED: Cell<usize> = const { Cell::new(0) };
}

/// Counts samples, and how often it is asked.
#[derive(Debug, Clone, Default)]
struct Counting {
    state: State,
}

impl Counting {
    fn added(&self, preds: &Tensor, _: &Tensor) -> Result<()> {
        self.state.add(&Tensor::from_slice(&[preds.size()[0] as f64]))
    }

    fn value(&self) -> Result<f64> {
        COMPUTED.set(COMPUTED.get() + 1);
        Ok(self.state.numbers()?.map_or(f64::NAN, |sums| sums[0]))
    }
}

metric!(Counting, sums);

#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct NoHp {}

struct Net(Linear, Counting, AUROC, Counting);

impl LightningModule for Net {
    type HParams = NoHp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, _: &NoHp) -> Net {
        Net(
            linear(p / "l", 2, 1),
            Counting::default(),
            AUROC::binary().logits(),
            Counting::default(),
        )
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.0.forward(x)
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let out = self.forward(x);
        self.3.update(x, y)?;
        cx.log("seen", &self.3);
        self.2.update(&out, y)?;
        cx.log("auroc", &self.2);
        Ok(out.view([-1]).binary_cross_entropy_with_logits(
            &y.to_kind(TKind::Float),
            None::<Tensor>,
            None::<Tensor>,
            tch::Reduction::Mean,
        ))
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        self.1.update(x, y)?;
        cx.log("val_seen", &self.1);
        Ok(())
    }
}

fn data() -> Data {
    let x = Tensor::arange(60, (TKind::Float, Device::Cpu)).view([30, 2]).sin();
    let y = x.select(1, 0).gt(0.2).to_kind(TKind::Int64);
    let (train, val) = TensorDataset::new(x, y).unwrap().split(0.7).unwrap();
    Data::new(train).val(val).batch_size(4)
}

fn trainer() -> Trainer {
    Trainer::new().accelerator("cpu").seed(3)
}

#[test]
fn a_logged_metric_is_computed_once_an_epoch_and_begins_anew() {
    let _turn = crate::tests::in_turn();
    COMPUTED.set(0);
    Counting::default().reset();
    let fit = trainer()
        .max_epochs(3)
        .fit::<Net, _>(&NoHp::default(), &data())
        .unwrap();
    for record in fit.history.iter() {
        // The batches of the sanity check do not count.
        assert_eq!((record.metrics["val_seen"], record.metrics["seen"]), (9.0, 21.0));
        assert!((0.0..=1.0).contains(&record.metrics["auroc"]));
    }
    assert_eq!(COMPUTED.get(), 6);
}

#[test]
fn metrics_of_an_epoch_in_two_parts_are_those_of_one() {
    let _turn = crate::tests::in_turn();
    let folder = crate::readers::tests::Folder::new("metricparts");
    let whole = trainer()
        .max_epochs(2)
        .fit::<Net, _>(&NoHp::default(), &data())
        .unwrap();
    // Six batches an epoch: the second is cut after its second.
    let cut = trainer().max_steps(8);
    let mut half = cut.fit::<Net, _>(&NoHp::default(), &data()).unwrap();
    let path = folder.0.join("half.safetensors");
    half.save(&path).unwrap();
    let longer = trainer().max_epochs(2);
    let resumed = longer
        .clone()
        .ckpt_path(&path)
        .fit::<Net, _>(&NoHp::default(), &data())
        .unwrap();
    // In the same process, with the same metrics, too.
    trainer().max_steps(4).go_on(&mut half, &data()).unwrap();
    for fit in [&resumed, &half] {
        let last = fit.history.last().unwrap();
        assert_eq!(last.metrics["seen"], 21.0);
        assert_eq!(last.metrics["auroc"], whole.history.last().unwrap().metrics["auroc"]);
    }
}
