//! Magics for models beside `%fit`, and what `%fit`'s flags do, in a notebook.

use lightcell_tests::{Cell, Kernel, Scratch};
use serde_json::Value;

const MODEL: &str = r#"
use lightcell::prelude::*;
hparams! { Hp { hidden: i64 = 16, lr: f64 = 1e-4, fault: bool = false } }
struct Net { l1: Linear, l2: Linear, fault: bool }
impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &Hp) -> Net {
        Net { l1: linear(p / "l1", 4, hp.hidden), l2: linear(p / "l2", hp.hidden, 2), fault: hp.fault }
    }
    fn forward(&self, x: &Tensor) -> Tensor { self.l2.forward(&self.l1.forward(x).relu()) }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        assert!(!self.fault || cx.global_step() < 5, "no more");
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        Ok(loss)
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        let out = self.forward(x);
        cx.log("val_loss", &out.cross_entropy_for_logits(y));
        cx.log("val_acc", &out.accuracy_for_logits(y));
        Ok(())
    }
    fn predict_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<Tensor> { Ok(self.forward(x)) }
    fn configure_optimizers(&self, hp: &Hp) -> Optim { adam(hp.lr) }
}
"#;

const DATA: &str = r#"
let x = Tensor::arange(8000, (Kind::Float, Device::Cpu)).view([2000, 4]).sin();
let y = x.sum_dim_intlist(1, false, Kind::Float).gt(0.0).to_kind(Kind::Int64);
let all = TensorDataset::new(x.shallow_clone(), y.shallow_clone())?;
let (train, rest) = all.split(0.8)?;
let (val, test) = rest.split(0.5)?;
let data = Data::new(train).val(val).test(test).batch_size(50);
"#;

fn ready() -> Kernel {
    let mut kernel = Kernel::start();
    kernel.ok(MODEL);
    kernel.ok(DATA);
    kernel
}

/// The last frame of the only display that a cell has made.
fn shown(cell: &Cell) -> &Value {
    let displays = cell.all("display_data");
    assert_eq!(displays.len(), 1, "{displays:?}");
    let last = cell.all("update_display_data").pop().unwrap_or(displays[0]);
    &last["data"]
}

fn text(cell: &Cell) -> &str {
    shown(cell)["text/plain"].as_str().unwrap_or_default()
}

#[test]
fn a_model_is_validated_and_tested_and_predicts() {
    let mut kernel = ready();
    let scratch = Scratch::new("judged");
    let folder = scratch.0.to_string_lossy().into_owned();
    kernel.ok(&format!(
        "%fit Net data --epochs 3 --seed 1 --model-checkpoint val_acc --mode max --default-root-dir {folder}"
    ));
    let cell = kernel.ok("%validate fit data");
    let said = text(&cell);
    assert!(said.starts_with("validation · Net on cpu\ndone: 4 batches, "), "{said}");
    assert!(
        said.contains("\nValidate metric  DataLoader 0\nval_acc          0."),
        "{said}"
    );
    let html = shown(&cell)["text/html"].as_str().unwrap();
    assert!(html.contains("<table") && html.contains(">val_loss</td>"), "{html}");
    assert_eq!(
        kernel
            .ok("validate_results[\"val_loss\"] == fit.history.last().unwrap().metrics[\"val_loss\"]")
            .value(),
        "true"
    );
    // A type is the run in `fit`; a model without a test step is tested with its validation step.
    let said = text(&kernel.ok("%test Net data --limit-test-batches 2")).to_owned();
    assert!(
        said.contains("done: 2 batches") && said.contains("\ntest_acc "),
        "{said}"
    );
    assert_eq!(kernel.ok("test_results.len()").value(), "2");
    let said = text(&kernel.ok("%predict fit data")).to_owned();
    assert!(said.contains("predictions  [200, 2] Float"), "{said}");
    assert_eq!(kernel.ok("predictions.size()").value(), "[200, 2]");
    // With a checkpoint: that of the run, or a file, for which no run is needed.
    kernel.ok("%validate fit data --ckpt-path best");
    assert_eq!(
        kernel.ok("let best = fit.history.iter().map(|epoch| epoch.metrics[\"val_acc\"]).fold(0.0, f64::max);\n(best - validate_results[\"val_acc\"]).abs() < 1e-9").value(),
        "true"
    );
    kernel.ok(&format!(
        "fit.save(\"{folder}/run.safetensors\")?;\nlet tested = fit.test(&data)?[\"test_loss\"];\n%del fit"
    ));
    kernel.ok(&format!("%test Net data --ckpt-path {folder}/run.safetensors"));
    assert_eq!(kernel.ok("test_results[\"test_loss\"] == tested").value(), "true");
}

#[test]
fn what_is_wrong_with_a_pass_is_said_in_the_users_words() {
    let mut kernel = ready();
    kernel.ok("struct Other;\nlet number = 3;\nlet bare = Data::new(TensorDataset::new(x.shallow_clone(), y.shallow_clone())?);\nlet fixed = Net::build(Hp::default())?;");
    let text = kernel.err("%test Net data").traceback();
    assert!(
        text.contains("there is no run of `Net`") && text.contains("`%fit Net data` makes one"),
        "{text}"
    );
    kernel.ok("%fit Net data --epochs 1");
    for (code, what, hint) in [
        ("%test Nett data", "there is no model `Nett`", "did you mean Net?"),
        ("%test fit dta", "there is no variable `dta`", "did you mean data?"),
        (
            "%test fit data --ckpt best",
            "%test has no flag `--ckpt`",
            "did you mean --ckpt-path?",
        ),
        (
            "%test number data",
            "`number` is a i32, no model",
            "a run that %fit left",
        ),
        ("%test fit number", "`number` is no DataModule", "Data::new"),
        ("%test fixed data", "`fixed` cannot be changed", "let mut fixed"),
        ("%test fit bare", "there are no test data", "`data.test(…)` adds them"),
        (
            "%validate fit bare",
            "there are no validation data",
            "`data.val(…)` adds them",
        ),
        (
            "%test fit data --ckpt-path best",
            "there is no checkpoint `best`",
            "ModelCheckpoint",
        ),
        (
            "%test fit data --limit-test-batches 0",
            "leaves none of the 4 batches",
            "",
        ),
        ("%scale_batch_size fit number", "`number` ", ""),
        ("%lr_find fit data --min-lr 2", "lr-find cannot go from", "below max-lr"),
        ("%lr_find fit data --attr-name rate", "no number `rate`", "attr-name"),
    ] {
        let cell = kernel.err(code);
        let text = cell.traceback();
        assert!(text.contains(what), "{code}: {text}");
        assert!(text.contains(hint), "{code}: {text}");
        assert!(
            !text.contains("notebook::") && !text.contains("c10::") && text.lines().count() <= 8,
            "{code}: {text}"
        );
        assert_eq!(
            kernel.ok("(x.size()[0], fit.history.len())").value(),
            "(2000, 1)",
            "{code}"
        );
    }
}

#[test]
fn the_stop_button_ends_a_pass_and_a_search_after_their_batch() {
    let mut kernel = ready();
    kernel.ok("%fit Net data --epochs 1 --seed 1");
    kernel.ok("let many = || TensorDataset::new(x.repeat([400, 1]), y.repeat([400]));\nlet long = Data::new(many()?).val(many()?).test(many()?).batch_size(1);");
    let (cell, seconds) = kernel.stopped("%test fit long", "it/s");
    assert!(seconds < 20.0, "{seconds} s");
    assert!(
        cell.evalue().starts_with("the test was stopped after batch "),
        "{}",
        cell.traceback()
    );
    assert!(text(&cell).contains("\nstopped: "), "{}", text(&cell));
    // Also where Rust asked for it; then the display comes when it takes long.
    let (cell, _) = kernel.stopped("let late = fit.test(&long)?;", "it/s");
    assert!(
        cell.traceback().contains("the test was stopped after batch "),
        "{}",
        cell.traceback()
    );
    let before = kernel.ok("(fit.hparams.lr, fit.optimizer().lr())").value();
    let (cell, _) = kernel.stopped("%lr_find fit long --num-training 700000", "it/s");
    assert_eq!(
        cell.evalue(),
        "lr_find: the search was stopped; nothing has changed",
        "{}",
        cell.traceback()
    );
    assert_eq!(kernel.ok("(fit.hparams.lr, fit.optimizer().lr())").value(), before);
    assert_eq!(kernel.ok("(x.size()[0], fit.history.len())").value(), "(2000, 1)");
    // What takes no time and was asked for in Rust shows nothing of its own.
    assert!(
        kernel
            .ok("let result = fit.test(&data)?;")
            .all("display_data")
            .is_empty()
    );
}

#[test]
fn a_learning_rate_is_found_drawn_and_used() {
    let mut kernel = ready();
    let cell = kernel.ok("%lr_find Net data --seed 1");
    let said = text(&cell);
    assert!(said.starts_with("lr_find · Net on cpu\ndone: "), "{said}");
    let data = shown(&cell);
    for kind in ["text/html", "image/svg+xml", "image/png"] {
        assert!(data[kind].as_str().is_some_and(|text| text.len() > 1000), "{kind}");
    }
    let svg = data["image/svg+xml"].as_str().unwrap();
    let suggestion = kernel
        .ok("format!(\"{:.2e}\", lr_finder.suggestion().unwrap())")
        .value();
    let suggestion = suggestion.trim_matches('"');
    assert!(
        svg.contains(&format!("suggestion {suggestion}")) && svg.contains("learning rate"),
        "{suggestion}: {svg}"
    );
    assert_eq!(
        cell.stdout(),
        format!(
            "suggested learning rate {suggestion}: `lr` of `fit` is set to it, and `%fit Net data` trains with it\n"
        )
    );
    assert_eq!(
        kernel
            .ok("(fit.hparams.lr == lr_finder.suggestion().unwrap(), fit.history.len())")
            .value(),
        "(true, 0)"
    );
    kernel.ok("%fit Net data --epochs 1 --seed 1");
    assert_eq!(
        kernel
            .ok("(fit.optimizer().lr() == lr_finder.suggestion().unwrap(), fit.history.len())")
            .value(),
        "(true, 1)"
    );
    // Lightning's algorithm is another one; the rate may stay as it is.
    let lr = kernel.ok("let ours = lr_finder.suggestion();\nfit.hparams.lr").value();
    let cell = kernel.ok("%lr_find Net data --restart --seed 1 --compat lightning --update-attr false");
    assert!(
        cell.stdout()
            .ends_with("nothing was changed, `lr_finder.suggestion()` has it\n"),
        "{}",
        cell.stdout()
    );
    assert_eq!(
        kernel
            .ok("(lr_finder.suggestion() == ours, fit.hparams.lr == Hp::default().lr)")
            .value(),
        "(false, true)"
    );
    assert_ne!(kernel.ok("fit.hparams.lr").value(), lr);
    // A search that fails says why; no variable has come or gone.
    kernel.ok("let mut bad = Net::build(Hp { fault: true, ..Hp::default() })?;\n%del fit");
    let cell = kernel.err("%lr_find bad data");
    assert!(
        cell.evalue().contains("panic: no more") && cell.evalue().contains("step 6"),
        "{}",
        cell.traceback()
    );
    assert_eq!(kernel.ok("(bad.hparams.lr, bad.history.len())").value(), "(0.0001, 0)");
    let cell = kernel.err("%lr_find Net data --num-training 5");
    assert!(
        cell.evalue().contains("too few to suggest one; nothing has changed"),
        "{}",
        cell.traceback()
    );
    assert!(
        !kernel.ok("%who").stdout().contains("fit "),
        "{}",
        kernel.ok("%who").stdout()
    );
}

#[test]
fn a_batch_size_is_found_and_used() {
    let mut kernel = ready();
    let cell = kernel.ok("%scale_batch_size Net data --init-val 16 --max-val 64 --steps-per-trial 2");
    let said = text(&cell);
    assert!(
        said.contains(
            "\nbatch size  memory\n16          fits\n32          fits\n64          fits\n64          to be used\n"
        ),
        "{said}"
    );
    assert_eq!(
        cell.stdout(),
        "`batch_size` has the size: `let data = data.batch_size(batch_size);` sets it\n"
    );
    assert_eq!(kernel.ok("(batch_size, fit.history.len())").value(), "(64, 0)");
    kernel.ok("let data = data.batch_size(batch_size);");
    assert_eq!(kernel.ok("data.train_dataloader().len()").value(), "25");
}

#[test]
fn flags_of_callbacks_do_what_they_say() {
    let mut kernel = ready();
    let scratch = Scratch::new("flags");
    let folder = scratch.0.to_string_lossy().into_owned();
    let cell = kernel.ok(&format!(
        "%fit Net data --epochs 4 --seed 1 --logger csv --default-root-dir {folder} --log-every-n-steps 1 --lr-monitor \
         --device-stats --model-summary 1 --ema --ema-decay 0.9 --accumulation-schedule 0:4,2:1 --timer 00:01:00:00"
    ));
    let said = text(&cell);
    assert!(
        said.contains("done: 4 epochs") && said.contains("Trainable params"),
        "{said}"
    );
    // 32 batches: eight steps in each of the first two epochs, then 32.
    assert!(said.contains(" 80 steps"), "{said}");
    let head = kernel
        .ok(&format!("!head -1 $(find {folder} -name metrics.csv)"))
        .stdout();
    assert!(
        head.contains("lr-Adam") && head.contains("DeviceStatsMonitor."),
        "{head}"
    );
    // An average of the weights of all steps is the model; without it the same run ends elsewhere.
    let weights = "format!(\"{:.9}\", fit.model.l1.weight.abs().sum(Kind::Double).double_value(&[]))";
    let averaged = kernel.ok(weights).value();
    kernel.ok("%fit Net data --restart --epochs 4 --seed 1 --accumulation-schedule 0:4,2:1");
    let plain = kernel.ok(weights).value();
    assert_ne!(averaged, plain);
    // PyTorch's order of random numbers is another one.
    kernel.ok("%fit Net data --restart --epochs 4 --seed 1 --accumulation-schedule 0:4,2:1 --compat lightning");
    assert_ne!(kernel.ok(weights).value(), plain);
    kernel.ok("%fit Net data --restart --epochs 4 --seed 1 --accumulation-schedule 0:4,2:1 --swa-lrs 0.05 --swa-epoch-start 2");
    assert_ne!(kernel.ok(weights).value(), plain);
    for (code, what, hint) in [
        (
            "%fit Net data --patience 3",
            "`--patience` needs --early-stopping",
            "%fit? shows all flags",
        ),
        (
            "%fit Net data --lr-monitor",
            "`--lr-monitor` needs --logger",
            "%fit? shows all flags",
        ),
        (
            "%fit Net data --compat pytorch",
            "`pytorch` is no value for `--compat`",
            "none or lightning",
        ),
        (
            "%fit Net data --restart --ema --ema-decay 3",
            "the decay cannot be 3",
            "between 0 and 1",
        ),
    ] {
        let text = kernel.err(code).traceback();
        assert!(text.contains(what) && text.contains(hint), "{code}: {text}");
    }
    let list = kernel.ok("%lsmagic");
    let list = list.all("display_data")[0]["data"]["text/plain"].as_str().unwrap();
    for name in ["%validate", "%test", "%predict", "%lr_find", "%scale_batch_size"] {
        assert!(list.contains(name), "{name}: {list}");
    }
    let help = kernel.ok("%lr_find?").reply["payload"][0]["data"]["text/plain"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        help.starts_with("%lr_find MODEL DATA [flags]: suggest a learning rate"),
        "{help}"
    );
}
