//! Checkpoints, early stopping and tables of metrics, against what PyTorch Lightning 2.6.1 does with the same lists.

use super::{equal, file, in_turn};
use lightcell::prelude::*;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::{Path as FilePath, PathBuf};
use std::rc::Rc;

lightcell::hparams! { ScriptHp { values: Vec<f64> = Vec::new(), step_metric: bool = false } }

/// Logs the value of the epoch as `val_loss`.
pub(super) struct Scripted {
    layer: Linear,
    hp: ScriptHp,
}

impl LightningModule for Scripted {
    type HParams = ScriptHp;
    type Batch = Tensor;
    fn new(p: &Path, hp: &ScriptHp) -> Scripted {
        Scripted {
            layer: linear(p / "layer", 1, 1),
            hp: hp.clone(),
        }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layer.forward(x)
    }
    fn training_step(&mut self, x: &Tensor, cx: &mut Step) -> Result<Tensor> {
        if self.hp.step_metric {
            cx.log("train_loss", &(cx.global_step() as f64 / 8.0));
        }
        Ok(self.forward(x).sum(Kind::Float))
    }
    fn validation_step(&mut self, _: &Tensor, cx: &mut Step) -> Result<()> {
        cx.log("val_loss", &self.hp.values[cx.epoch() as usize]);
        if self.hp.step_metric && cx.epoch() > 0 {
            cx.log("late", &1.0);
        }
        Ok(())
    }
    fn configure_optimizers(&self, _: &ScriptHp) -> Optim {
        sgd(0.0, 0.0)
    }
}

struct Ones(usize);

impl Dataset for Ones {
    type Item = Tensor;
    fn len(&self) -> usize {
        self.0
    }
    fn get(&self, _: usize) -> Result<Tensor> {
        Ok(Tensor::ones([1], (Kind::Float, Device::Cpu)))
    }
}

pub(super) struct Batches(pub usize);

impl DataModule for Batches {
    type Batch = Tensor;
    fn train_dataloader(&self) -> DataLoader<Tensor> {
        DataLoader::new(Ones(self.0))
    }
    fn val_dataloader(&self) -> Option<DataLoader<Tensor>> {
        Some(DataLoader::new(Ones(1)))
    }
}

fn golden() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file("lightning.json")).unwrap()).unwrap()
}

/// A folder that is removed at the end.
pub(super) struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("lightcell-oracle-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn files(folder: &FilePath) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The files after each epoch's checkpoint.
struct Files(PathBuf, Rc<RefCell<Vec<Vec<String>>>>);

impl Callback for Files {
    fn on_train_epoch_start(&mut self, run: &mut Run) -> Result<()> {
        if run.epoch() > 0 {
            self.1.borrow_mut().push(files(&self.0));
        }
        Ok(())
    }
    fn on_fit_end(&mut self, _: &mut Run) -> Result<()> {
        self.1.borrow_mut().push(files(&self.0));
        Ok(())
    }
}

fn read(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// A number as the script writes it.
fn said(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else {
        json!(value.to_string().to_lowercase())
    }
}

fn name(path: Option<&FilePath>) -> String {
    path.map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn scripted(case: &Value) -> ScriptHp {
    ScriptHp {
        values: case["values"].as_array().unwrap().iter().map(read).collect(),
        ..ScriptHp::default()
    }
}

#[test]
fn oracle_10_checkpoints_are_named_kept_and_removed_as_lightnings() {
    let _turn = in_turn();
    for case in golden()["checkpoints"].as_array().unwrap() {
        let folder = Folder::new("checkpoints");
        let mut settings = case["settings"].clone();
        settings["dirpath"] = json!(folder.0);
        let keep: ModelCheckpoint = serde_json::from_value(settings).unwrap();
        let (keep, lists) = (Rc::new(RefCell::new(keep)), Rc::new(RefCell::new(Vec::new())));
        let hp = scripted(case);
        let trainer = Trainer::new().accelerator("cpu").max_epochs(hp.values.len() as u64);
        let trainer = trainer
            .callback(Files(folder.0.clone(), lists.clone()))
            .callback(keep.clone());
        let fit = trainer.fit::<Scripted, _>(&hp, &Batches(4)).unwrap();
        let keep = keep.borrow();
        let scores: Vec<Value> = keep
            .best_k_models()
            .iter()
            .map(|(path, score)| json!([name(Some(path)), said(*score)]))
            .collect();
        let about = case["settings"].to_string();
        assert_eq!(json!(lists.take()), case["files"], "{about}");
        assert_eq!(json!(scores), case["best_k_models"], "{about}");
        assert_eq!(
            name(keep.best_model_path()),
            case["best_model_path"].as_str().unwrap(),
            "{about}"
        );
        assert_eq!(name(fit.best_model_path().as_deref()), name(keep.best_model_path()));
        if case["settings"]["monitor"].is_string() {
            assert_eq!(
                keep.best_model_score().map(said).unwrap_or_default(),
                case["best_model_score"],
                "{about}"
            );
            // Lightning's has no value for "not yet" but infinity, and keeps an old one while it keeps all.
            if let Some(kth) = keep.kth_value().filter(|_| case["settings"]["save_top_k"] != json!(-1)) {
                assert_eq!(said(kth), case["kth_value"], "{about}");
            }
        }
        equal(10, "checkpoints: names, scores, what is removed and when");
        for file in files(&folder.0) {
            let again = Trainer::new()
                .accelerator("cpu")
                .max_epochs(0)
                .ckpt_path(folder.0.join(file));
            again.fit::<Scripted, _>(&hp, &Batches(4)).unwrap();
        }
    }
}

#[test]
fn oracle_11_a_run_stops_at_lightnings_epoch_for_lightnings_reason() {
    let _turn = in_turn();
    for case in golden()["stopping"].as_array().unwrap() {
        let mut settings = case["settings"].clone();
        settings["monitor"] = json!("val_loss");
        let stop: EarlyStopping = serde_json::from_value(settings).unwrap();
        let stop = Rc::new(RefCell::new(stop));
        let hp = scripted(case);
        let trainer = Trainer::new()
            .accelerator("cpu")
            .max_epochs(hp.values.len() as u64)
            .callback(stop.clone());
        let fit = trainer.fit::<Scripted, _>(&hp, &Batches(2)).unwrap();
        let stop = stop.borrow();
        let reason = serde_json::to_value(stop.stopping_reason()).unwrap();
        let ours = json!([fit.history.len(), stop.stopped_epoch(), reason, stop.wait_count()]);
        let theirs = json!([
            case["epochs"],
            case["stopped_epoch"],
            case["reason"],
            case["wait_count"]
        ]);
        assert_eq!(ours, theirs, "{} {}", case["values"], case["settings"]);
        equal(11, "early stopping: epoch, reason, waited");
        if let Some(best) = stop.best_score() {
            assert_eq!(
                said(best),
                case["best_score"],
                "{} {}",
                case["values"],
                case["settings"]
            );
        }
    }
}

fn table(path: &FilePath) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

#[test]
fn oracle_09_a_table_of_metrics_is_laid_out_as_lightnings() {
    let _turn = in_turn();
    let number = |value: &Value, name: &str| value[name].as_u64().unwrap();
    for case in golden()["tables"].as_array().unwrap() {
        let folder = Folder::new("table");
        let values = [0.5, 0.25, 0.125][..number(case, "epochs") as usize].to_vec();
        let hp = ScriptHp {
            values,
            step_metric: true,
        };
        let trainer = || {
            let trainer = Trainer::new()
                .accelerator("cpu")
                .log_every_n_steps(number(case, "log_every_n_steps"));
            trainer
                .accumulate_grad_batches(number(case, "accumulate_grad_batches"))
                .logger(CsvLogger::new(&folder.0))
        };
        let keep = ModelCheckpoint::new().save_top_k(-1);
        let data = Batches(number(case, "batches") as usize);
        trainer()
            .max_epochs(number(case, "epochs"))
            .callback(keep)
            .fit::<Scripted, _>(&hp, &data)
            .unwrap();
        let run = folder.0.join(case["folder"].as_str().unwrap());
        let whole = table(&run.join("metrics.csv"));
        assert_eq!(json!(whole), case["rows"], "{case}");
        let hparams: ScriptHp = serde_json::from_slice(&std::fs::read(run.join("hparams.json")).unwrap()).unwrap();
        assert_eq!(hparams, hp);
        equal(9, "metrics.csv: columns, rows, numbers");
        // On from the first epoch's checkpoint, in the same table: what comes again stands there once.
        let first = files(&run.join("checkpoints"))
            .into_iter()
            .find(|name| name.starts_with("epoch=0-"))
            .unwrap();
        let again = trainer()
            .max_epochs(number(case, "epochs"))
            .ckpt_path(run.join("checkpoints").join(first));
        again.fit::<Scripted, _>(&hp, &data).unwrap();
        assert_eq!(table(&run.join("metrics.csv")), whole);
        let newest = trainer().max_epochs(number(case, "epochs")).ckpt_path("last");
        newest.fit::<Scripted, _>(&hp, &data).unwrap();
        assert_eq!(table(&run.join("metrics.csv")), whole);
        // Another run has a table of its own.
        trainer().max_epochs(1).fit::<Scripted, _>(&hp, &data).unwrap();
        assert_eq!(files(run.parent().unwrap()), ["version_0", "version_1"]);
    }
}
