//! Metrics and folds against scikit-learn and torchmetrics (`metrics.py`).

use super::{apart, file, in_turn, numbers};
use lightcell::metrics::*;
use lightcell::prelude::{Kind, Result, Tensor};
use lightcell::{KFold, StratifiedKFold};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file("metrics.json")).unwrap()).unwrap()
}

fn tensor(value: &Value) -> Tensor {
    fn flat(value: &Value, shape: &mut Vec<i64>, depth: usize, out: &mut Vec<f64>) {
        match value.as_array() {
            Some(list) => {
                if shape.len() == depth {
                    shape.push(list.len() as i64);
                }
                list.iter().for_each(|value| flat(value, shape, depth + 1, out));
            }
            None => out.push(value.as_f64().unwrap()),
        }
    }
    let (mut shape, mut out) = (Vec::new(), Vec::new());
    flat(value, &mut shape, 0, &mut out);
    Tensor::from_slice(&out).view(&*shape)
}

fn scores_and_labels(part: &Value) -> (Tensor, Tensor) {
    let (scores, target) = (tensor(&part["scores"]), tensor(&part["target"]));
    (scores.to_kind(Kind::Float), target.to_kind(Kind::Int64))
}

/// Fed in three batches of unequal size.
fn value(metric: &dyn Metric, preds: &Tensor, target: &Tensor) -> f64 {
    let n = preds.size()[0];
    for (from, len) in [(0, 7), (7, n - 8), (n - 1, 1)] {
        metric
            .update(&preds.narrow(0, from, len), &target.narrow(0, from, len))
            .unwrap();
    }
    metric.compute().unwrap()
}

fn near(name: &str, ours: f64, theirs: &Value, tolerance: f64) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= tolerance, "{name}: {ours}, not {theirs}");
}

/// Of float32, as torchmetrics computes.
const SINGLE: f64 = 3e-7;
/// Of float64, as scikit-learn and we do.
const DOUBLE: f64 = 1e-12;

#[test]
fn of_one_of_several_classes() {
    let _turn = in_turn();
    let golden = &golden()["multiclass"];
    let (scores, target) = scores_and_labels(golden);
    for (name, average) in [
        ("micro", Average::Micro),
        ("macro", Average::Macro),
        ("weighted", Average::Weighted),
    ] {
        let metrics: [(&str, Box<dyn Metric>); 5] = [
            ("accuracy", Box::new(Accuracy::multiclass(5).average(average))),
            (
                "accuracy_top2",
                Box::new(Accuracy::multiclass(5).average(average).top_k(2)),
            ),
            ("precision", Box::new(Precision::multiclass(5).average(average))),
            ("recall", Box::new(Recall::multiclass(5).average(average))),
            ("f1", Box::new(F1Score::multiclass(5).average(average))),
        ];
        for (metric, ours) in metrics {
            let name = format!("{metric}_{name}");
            near(&name, value(&*ours, &scores, &target), &golden[&name], SINGLE);
        }
    }
    for (name, average) in [("macro", Average::Macro), ("weighted", Average::Weighted)] {
        let ours = value(&AUROC::multiclass(5).average(average), &scores, &target);
        near("auroc", ours, &golden[format!("auroc_{name}")], DOUBLE);
        let ours = value(&AveragePrecision::multiclass(5).average(average), &scores, &target);
        near(
            "average_precision",
            ours,
            &golden[format!("average_precision_{name}")],
            DOUBLE,
        );
    }
    let precision = Precision::multiclass(5);
    value(&precision, &scores, &target);
    assert!(
        apart(
            &precision.compute_classes().unwrap(),
            &numbers(&golden["precision_classes"])
        ) < DOUBLE
    );
    let auroc = AUROC::multiclass(5);
    value(&auroc, &scores, &target);
    for (ours, theirs) in auroc
        .compute_classes()
        .unwrap()
        .iter()
        .zip(golden["auroc_classes"].as_array().unwrap())
    {
        match theirs.is_null() {
            // A class without samples has no value.
            true => assert!(ours.is_nan()),
            false => near("auroc of a class", *ours, theirs, DOUBLE),
        }
    }
    let ignoring = Recall::multiclass(5).average(Average::Macro).ignore_index(0);
    near(
        "recall_ignore_0",
        value(&ignoring, &scores, &target),
        &golden["recall_ignore_0"],
        SINGLE,
    );
    for (name, normalize) in [("confusion", Normalize::None), ("confusion_true", Normalize::True)] {
        let matrix = ConfusionMatrix::multiclass(5).normalize(normalize);
        matrix.update(&scores, &target).unwrap();
        assert!(
            super::largest([(matrix.compute().unwrap() - tensor(&golden[name]))
                .abs()
                .max()
                .double_value(&[])])
                < DOUBLE
        );
    }
    for (name, norm) in [("l1", Norm::L1), ("l2", Norm::L2), ("max", Norm::Max)] {
        let ours = value(&CalibrationError::multiclass(5).norm(norm), &scores, &target);
        near(name, ours, &golden[format!("calibration_{name}")], SINGLE);
    }
}

#[test]
fn of_yes_and_no() {
    let _turn = in_turn();
    let golden = &golden()["binary"];
    let (scores, target) = scores_and_labels(golden);
    let metrics: [(&str, Box<dyn Metric>, f64); 7] = [
        ("accuracy", Box::new(Accuracy::binary()), SINGLE),
        ("precision", Box::new(Precision::binary()), SINGLE),
        ("recall", Box::new(Recall::binary()), SINGLE),
        ("f1", Box::new(F1Score::binary()), SINGLE),
        (
            "f1_threshold",
            Box::new(F1Score::binary().threshold(f64::from(0.3f32))),
            SINGLE,
        ),
        ("auroc", Box::new(AUROC::binary()), DOUBLE),
        ("average_precision", Box::new(AveragePrecision::binary()), DOUBLE),
    ];
    for (name, ours, tolerance) in metrics {
        near(name, value(&*ours, &scores, &target), &golden[name], tolerance);
    }
    let matrix = ConfusionMatrix::binary();
    matrix.update(&scores.unsqueeze(1), &target).unwrap();
    assert_eq!(matrix.compute().unwrap(), tensor(&golden["confusion"]));
    for (name, norm) in [("l1", Norm::L1), ("l2", Norm::L2), ("max", Norm::Max)] {
        let ours = value(&CalibrationError::binary().n_bins(10).norm(norm), &scores, &target);
        near(name, ours, &golden[format!("calibration_{name}")], SINGLE);
    }
}

#[test]
fn of_numbers_and_tokens() {
    let _turn = in_turn();
    let golden = golden();
    let part = &golden["regression"];
    let (preds, target) = (tensor(&part["preds"]), tensor(&part["target"]));
    let metrics: [(&str, Box<dyn Metric>); 4] = [
        ("mse", Box::new(MeanSquaredError::new())),
        ("rmse", Box::new(MeanSquaredError::new().squared(false))),
        ("mae", Box::new(MeanAbsoluteError::new())),
        ("r2", Box::new(R2Score::new())),
    ];
    for (name, ours) in metrics {
        near(name, value(&*ours, &preds, &target), &part[name], 1e-9);
    }
    let first = value(&R2Score::new(), &preds.select(1, 0), &target.select(1, 0));
    near("r2_first", first, &part["r2_first"], DOUBLE);
    let part = &golden["perplexity"];
    let (logits, tokens) = (
        tensor(&part["logits"]).to_kind(Kind::Float),
        tensor(&part["tokens"]).to_kind(Kind::Int64),
    );
    for (name, ours) in [
        ("all", Perplexity::new()),
        ("without_0", Perplexity::new().ignore_index(0)),
    ] {
        ours.update(&logits.narrow(0, 0, 1), &tokens.narrow(0, 0, 1)).unwrap();
        ours.update(&logits.narrow(0, 1, 3), &tokens.narrow(0, 1, 3)).unwrap();
        near(name, ours.compute().unwrap(), &part[name], 3e-6);
    }
}

#[test]
fn folds() -> Result<()> {
    let golden = &golden()["folds"];
    let labels: Vec<i64> = numbers(&golden["labels"])
        .into_iter()
        .map(|label| label as i64)
        .collect();
    for (name, splits) in [
        ("kfold", KFold::new(4).split(labels.len())?),
        ("stratified", StratifiedKFold::new(4).split(&labels)?),
    ] {
        let theirs = golden[name].as_array().unwrap();
        assert_eq!(splits.len(), theirs.len());
        for ((_, test), theirs) in splits.iter().zip(theirs) {
            let test: Vec<f64> = test.iter().map(|index| *index as f64).collect();
            assert_eq!(test, numbers(theirs), "{name}");
        }
    }
    Ok(())
}
