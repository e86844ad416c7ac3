//! `%fit` and `%gpu` in a notebook.

use lightcell_tests::{Cell, Kernel, Scratch, file};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const MODEL: &str = r#"
use lightcell::prelude::*;
hparams! { Hp { hidden: i64 = 64, lr: f64 = 5e-3 } }
struct Net { l1: Linear, l2: Linear }
impl LightningModule for Net {
    type HParams = Hp;
    type Batch = (Tensor, Tensor);
    fn new(p: &Path, hp: &Hp) -> Net {
        Net { l1: linear(p / "l1", 4, hp.hidden), l2: linear(p / "l2", hp.hidden, 2) }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        self.l2.forward(&self.l1.forward(x).relu())
    }
    fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
        let loss = self.forward(x).cross_entropy_for_logits(y);
        cx.log("train_loss", &loss);
        Ok(loss)
    }
    fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
        let out = self.forward(x);
        cx.log("val_loss", &out.cross_entropy_for_logits(y));
        Ok(())
    }
    fn configure_optimizers(&self, hp: &Hp) -> Optim { adam(hp.lr) }
}
"#;

const DATA: &str = r#"
let x = Tensor::randn([4000, 4], (Kind::Float, Device::Cpu));
let y = x.sum_dim_intlist(1, false, Kind::Float).gt(0.0).to_kind(Kind::Int64);
let (train, val) = TensorDataset::new(x.shallow_clone(), y.shallow_clone())?.split(0.9)?;
let data = Data::new(train).val(val).batch_size(8);
"#;

fn trained() -> Kernel {
    trained_in(Path::new("."))
}

fn trained_in(folder: &Path) -> Kernel {
    let mut kernel = Kernel::start_in(folder, &[]);
    kernel.ok(MODEL);
    kernel.ok(DATA);
    kernel
}

fn plots(cell: &Cell) -> Vec<&Value> {
    cell.messages
        .iter()
        .filter(|(kind, _)| kind == "display_data" || kind == "update_display_data")
        .map(|(_, content)| content)
        .collect()
}

#[test]
fn runs_lists_what_was_trained_and_joins_what_trains() {
    let folder = Scratch::new("runs");
    let mut kernel = trained_in(&folder.0);
    for none in ["%runs", "%fit --attach"] {
        let said = kernel.ok(none).all("display_data")[0].to_string();
        assert!(said.contains("no runs yet"), "{said}");
    }
    kernel.ok("%fit Net data --epochs 2 --seed 1 --logger csv");
    let beside = kernel.call(json!({
        "op": "beside", "long": "%fit Net data --epochs 100000 --restart --seed 1", "when": "val_loss",
        "quick": "%runs --sort val_loss", "stop_after": 4,
    }));
    assert_eq!(
        (
            &beside["replies"]["long"]["status"],
            &beside["replies"]["quick"]["status"]
        ),
        (&json!("ok"), &json!("ok"))
    );
    let order = beside["order"].as_array().unwrap();
    let of = |who: &str, kind: &str| -> Vec<&Value> {
        let of = order.iter().filter(|m| m[0] == who && m[1] == kind);
        of.map(|m| &m[3]).collect()
    };
    let shown = of("quick", "display_data");
    assert_eq!(shown.len(), 2, "the table, and the run");
    let table = shown[0]["data"]["text/plain"].as_str().unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].contains("hyperparameters") && lines[0].contains("val_loss"),
        "{table}"
    );
    assert!(
        table.contains("hidden=64") && table.contains("done") && table.contains("running"),
        "{table}"
    );
    // All it has shown so far, then live, and its last frame with the run's own.
    let text = |content: &Value| content["data"]["text/plain"].as_str().unwrap_or_default().to_owned();
    let joined = text(shown[1]);
    assert!(
        joined.contains("/100000") && joined.contains("val_loss") && !joined.contains("stopped"),
        "{joined}"
    );
    let updates = of("quick", "update_display_data");
    assert!(updates.len() >= 4, "{}", updates.len());
    let id = &shown[1]["transient"]["display_id"];
    assert!(updates.iter().all(|update| &update["transient"]["display_id"] == id));
    let own = of("long", "update_display_data");
    assert_ne!(&own[0]["transient"]["display_id"], id);
    let (last, own) = (text(updates[updates.len() - 1]), text(own[own.len() - 1]));
    assert!(last.contains("stopped: ") && last == own, "{last}\n{own}");
    // Afterwards: the last run as it ended, and no more of it. A later kernel of the folder knows them still, with their
    // curves; one elsewhere does not.
    for restarted in [false, true] {
        if restarted {
            kernel.call(json!({"op": "restart"}));
        }
        let cell = kernel.ok("%runs");
        assert_eq!(cell.all("display_data").len(), 2);
        assert!(cell.all("update_display_data").is_empty());
        let attached = kernel.ok("%fit --attach");
        for ended in [cell.all("display_data")[1], attached.all("display_data")[0]] {
            let ended = text(ended);
            assert!(ended.contains("stopped: ") && ended.contains("val_loss"), "{ended}");
        }
        let html = cell.all("display_data")[0]["data"]["text/html"].as_str().unwrap();
        let link = "<a href=\"lightning_logs/version_0/metrics.csv\">";
        assert!(html.contains(link) && html.matches("<tr>").count() == 3, "{html}");
        // Their curves side by side, and those of one.
        let cell = kernel.ok("%compare");
        let compared = &cell.all("display_data")[0]["data"];
        let (words, svg) = (
            compared["text/plain"].as_str().unwrap(),
            compared["image/svg+xml"].as_str().unwrap(),
        );
        for part in ["run 1", "run 2"] {
            assert!(words.contains(part) && svg.contains(part), "{words}");
        }
        assert!(
            svg.contains("val_loss") && svg.matches("<polyline").count() >= 2,
            "{svg}"
        );
        let cell = kernel.ok("%plot val_loss --runs 1 --save loss.svg train_loss");
        let words = text(cell.all("display_data")[0]);
        assert!(
            words.contains("val_loss") && words.contains("train_loss") && !words.contains("run 1"),
            "{words}"
        );
        assert!(
            std::fs::read_to_string(folder.0.join("loss.svg"))
                .unwrap()
                .contains("val_loss")
        );
    }
    for (magic, message) in [
        ("%plot accuracy", "no run has a metric `accuracy`: there are "),
        ("%compare --runs 1,9", "there is no run 9: there are 1 to 2"),
        ("%plot --save loss.pdf", "`"),
    ] {
        let error = kernel.err(magic);
        assert!(error.evalue().starts_with(message), "{}", error.evalue());
        assert!(error.traceback().contains("hint"), "{}", error.traceback());
    }
    kernel.ok(MODEL);
    kernel.ok(DATA);
    // The whole worker is gone amid a run, and nobody takes over: the run is over too, and the next task is shown.
    kernel.ok(&MODEL.replace("let loss =", "std::process::Command::new(\"kill\").args([\"-9\", &std::os::unix::process::parent_id().to_string()]).status().ok();\n        let loss ="));
    let crash = kernel.err("%fit Net data --epochs 100000 --restart");
    assert!(
        crash.traceback().contains("all variables are lost"),
        "{}",
        crash.traceback()
    );
    let cell = kernel.ok("%runs");
    let table = cell.all("display_data")[0]["data"]["text/plain"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(table.contains("failed") && !table.contains("running"), "{table}");
    let error = kernel.err("%runs --sort accuracy");
    assert!(
        error.evalue().starts_with("no run has a metric `accuracy`: there are "),
        "{}",
        error.evalue()
    );
}

#[test]
fn a_run_is_one_output_that_grows() {
    let mut kernel = trained();
    let cell = kernel.ok("%fit Net data --epochs 12 --seed 1");
    assert_eq!(cell.all("display_data").len(), 1);
    let updates = cell.all("update_display_data");
    assert!(updates.len() >= 3, "{} updates", updates.len());
    let id = &cell.all("display_data")[0]["transient"]["display_id"];
    assert!(updates.iter().all(|update| &update["transient"]["display_id"] == id));
    // Points of the longest curve in each frame.
    let points = |content: &Value| {
        let svg = content["data"]["image/svg+xml"].as_str().unwrap_or_default().to_owned();
        svg.split("points=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default().matches(',').count())
            .max()
            .unwrap_or(0)
    };
    // While it goes on, what the device does.
    let loads = |content: &&Value| {
        content["data"]["text/plain"]
            .as_str()
            .is_some_and(|text| text.contains("\nCPU "))
    };
    assert!(plots(&cell).iter().any(loads), "no frame says how busy the CPU is");
    let mut sizes: Vec<_> = plots(&cell).into_iter().map(points).collect();
    // Not each is longer than the one before: of many points fewer are drawn.
    assert!(sizes.first() < sizes.last(), "{sizes:?}");
    sizes.dedup();
    assert!(sizes.len() >= 3, "{sizes:?}");
    let last = &updates[updates.len() - 1]["data"];
    for kind in ["text/plain", "text/html", "image/svg+xml", "image/png"] {
        assert!(last[kind].as_str().is_some_and(|text| text.len() > 100), "{kind}");
    }
    let size: usize = last
        .as_object()
        .unwrap()
        .values()
        .map(|v| v.as_str().unwrap_or_default().len())
        .sum();
    assert!(size < 100_000, "{size} bytes");
    let text = last["text/plain"].as_str().unwrap();
    assert!(text.contains("done: 12 epochs") && text.contains("val_loss"), "{text}");
    assert!(
        last["image/svg+xml"].as_str().unwrap().contains("epoch")
            && last["image/svg+xml"].as_str().unwrap().contains("val_loss")
    );

    // The run is a variable, and goes on.
    assert_eq!(
        kernel.ok("(fit.history.len(), fit.best().is_some())").value(),
        "(12, true)"
    );
    let cell = kernel.ok("%fit Net data --epochs 1");
    assert!(
        plots(&cell)[0]["data"]["text/plain"]
            .as_str()
            .unwrap()
            .contains("epoch 13/13")
    );
    assert_eq!(
        kernel.ok("let out = fit.model.forward(&x);\nout.size()").value(),
        "[4000, 2]"
    );
    // Other settings begin anew; a model that was defined anew does as well.
    kernel.ok("%fit Net data --epochs 1 --restart");
    assert_eq!(kernel.ok("fit.history.len()").value(), "1");

    // Stop ends the run after its batch; model and history stay, the cell ends well.
    let (cell, seconds) = kernel.stopped("%fit Net data --epochs 100000", "epoch 3");
    assert_eq!(cell.reply["status"], "ok", "{}", cell.traceback());
    assert!(seconds < 20.0, "{seconds} s");
    let last = plots(&cell).last().unwrap()["data"]["text/plain"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(last.contains("stopped: "), "{last}");
    assert_eq!(
        kernel.ok("fit.history.len() >= 2 && x.size()[0] == 4000").value(),
        "true"
    );
}

#[test]
fn what_is_wrong_with_a_run_is_said_in_two_lines() {
    let mut kernel = trained();
    kernel.ok("%fit Net data --epochs 1 --limit-train-batches 5");
    kernel.ok("struct Other;\nlet number = 3;\nlet short = Data::new(TensorDataset::new(x.narrow(1, 0, 3), y.shallow_clone())?);\nlet labels = Data::new(TensorDataset::new(x.shallow_clone(), &y + 5)?);\nlet empty = Data::new(TensorDataset::new(x.narrow(0, 0, 0), y.narrow(0, 0, 0))?);");
    for (code, what, hint) in [
        (
            "%fit Net data --epoch 3",
            "%fit has no flag `--epoch`",
            "did you mean --epochs?",
        ),
        ("%fit Nett data", "there is no model `Nett`", "did you mean Net?"),
        ("%fit Net dta", "there is no variable `dta`", "did you mean data?"),
        (
            "%fit Other data",
            "`Other` is no LightningModule",
            "impl LightningModule for Other",
        ),
        ("%fit number data", "`number` is a i32, no model", "LightningModule"),
        (
            "%fit Net number",
            "`number` is nothing to train on: it is no DataModule",
            "Data::new",
        ),
        (
            "%fit Net short",
            "shapes do not fit: the input is 64x3, the layer's weight 4x64",
            "input size",
        ),
        (
            "%fit Net labels",
            "is outside of the model's classes",
            "labels count from 0",
        ),
        ("%fit Net empty", "the data set is empty", "shape of what you loaded"),
        (
            "%fit Net data --accelerator tpu --restart",
            "`tpu` is no accelerator",
            "auto, cpu, cuda",
        ),
    ] {
        let cell = kernel.err(code);
        let text = cell.traceback();
        assert!(text.contains(what), "{code}: {text}");
        assert!(text.contains(hint), "{code}: {text}");
        assert!(
            !text.contains("notebook::fit") && !text.contains("c10::") && text.lines().count() <= 8,
            "{code}: {text}"
        );
        // Variables and the run before are kept.
        assert_eq!(
            kernel.ok("(x.size()[0], fit.history.len())").value(),
            "(4000, 1)",
            "{code}"
        );
    }
    let panicking = MODEL
        .replace(
            "let out = self.forward(x);",
            "let out = self.forward(x); assert!(x.size()[0] > 99, \"too few\");",
        )
        .replace("Net", "Bad");
    kernel.ok(&panicking);
    let text = kernel
        .err("%fit Bad data --epochs 1 --limit-train-batches 2")
        .traceback();
    assert!(
        text.contains("batch 1 of the sanity check (shapes [8, 4], [8]): panic: too few"),
        "{text}"
    );
    assert_eq!(kernel.ok("y.size()").value(), "[4000]");
}

#[test]
fn gpu_answers_while_a_cell_runs() {
    let scratch = Scratch::new("nvml");
    let library = scratch.0.join("libnvidia-ml.so.1");
    let source = file("../magics/gpu/tests/fake_nvml.c");
    assert!(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .status()
            .unwrap()
            .success()
    );
    let me = std::process::id().to_string();
    let mut kernel = Kernel::start_with(&[("LIGHTCELL_NVML", &library.to_string_lossy()), ("FAKE_NVML_PID", &me)]);
    let cell = kernel.ok("%gpu");
    let data = &cell.all("display_data")[0]["data"];
    let text = data["text/plain"].as_str().unwrap();
    for part in [
        "driver 580.65.06",
        "CUDA 13.0",
        "Fake H100 <80GB>  20 GiB / 80 GiB",
        "cuda:1",
        "Fake A2",
        "351 / 700 W",
        "libtorch is the build for the CPU",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(data["text/html"].as_str().unwrap().contains("Fake H100 &lt;80GB&gt;"));
    let json: Value = serde_json::from_str(
        kernel.ok("%gpu --json").all("display_data")[0]["data"]["text/plain"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(json["snapshot"]["devices"].as_array().unwrap().len(), 2);
    assert_eq!(json["missing"]["link"], "cpu_only_libtorch");

    // Beside a cell that runs: its own busy, reply, idle and count; then the kernel is busy again; not aborted by the
    // other's failure.
    let long =
        "println!(\"{}\", \"go\".repeat(2)); std::thread::sleep(std::time::Duration::from_secs(3)); panic!(\"end\");";
    let answer = kernel.call(json!({"op": "beside", "long": long, "quick": "%gpu", "when": "gogo"}));
    let order: Vec<(String, String, String)> = answer["order"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            (
                m[0].as_str().unwrap().to_owned(),
                m[1].as_str().unwrap().to_owned(),
                m[2].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let at =
        |who: &str, kind: &str, state: &str| order.iter().position(|(w, k, s)| w == who && k == kind && s == state);
    let (busy, shown, idle) = (
        at("quick", "status", "busy"),
        at("quick", "display_data", ""),
        at("quick", "status", "idle"),
    );
    assert!(
        busy < shown && shown < idle && idle < at("long", "status", "idle"),
        "{order:?}"
    );
    let busy_again = order[idle.unwrap()..]
        .iter()
        .any(|(who, kind, state)| who == "long" && kind == "status" && state == "busy");
    assert!(busy_again, "{order:?}");
    assert_eq!(
        (
            answer["replies"]["long"]["status"].as_str(),
            answer["replies"]["quick"]["status"].as_str()
        ),
        (Some("error"), Some("ok"))
    );
    assert_ne!(
        answer["replies"]["long"]["execution_count"],
        answer["replies"]["quick"]["execution_count"]
    );
    assert!(answer["took"].as_f64().unwrap() < 3.0, "{}", answer["took"]);

    // A panel that goes on while a cell runs, until it is told to stand still.
    let answer = kernel.call(json!({
        "op": "beside", "when": "begun", "quick": "%gpu watch", "stop_after": 2,
        "long": "println!(\"begun\"); loop { std::thread::sleep(std::time::Duration::from_millis(10)); }",
    }));
    let shown: Vec<&Value> = answer["order"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message[0] == "quick" && message[3]["data"].is_object())
        .map(|message| &message[3])
        .collect();
    assert!(shown.len() >= 3, "{shown:?}");
    let id = &shown[0]["transient"]["display_id"];
    assert!(
        shown
            .iter()
            .all(|content| &content["transient"]["display_id"] == id && id.is_string())
    );
    let text = shown[shown.len() - 1]["data"]["text/plain"].as_str().unwrap();
    for part in ["cuda:0 Fake H100", "20 GiB / 80 GiB", "351 / 700 W", "CPU\n", "▃▃"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(shown[0]["data"]["text/html"].as_str().unwrap().contains("<polyline"));
    assert_eq!(kernel.ok("%gpu watch stop").stdout(), "the panel stands still\n");
    assert_eq!(
        kernel.ok("%gpu watch stop").stdout(),
        "no panel goes on; %gpu watch shows one\n"
    );
    // Which device a run takes.
    assert_eq!(kernel.ok("%gpu select").stdout(), "%fit takes auto\n");
    for (magic, message, hint) in [
        (
            "%gpu select 7",
            "there is no cuda:7",
            "there are cuda:0 to cuda:1; %gpu shows more",
        ),
        (
            "%gpu select x",
            "`x` is no device",
            "%gpu select cuda:1, 1, cpu, or auto for the least used one",
        ),
        (
            "%gpu select cuda:1",
            "libtorch cannot use cuda:1",
            "libtorch is the build for the CPU",
        ),
        ("%gpu wach", "%gpu has no action `wach`", "did you mean %gpu watch?"),
        (
            "%gpu all --json",
            "%gpu has no action `all --json`",
            "%gpu [--json | watch",
        ),
    ] {
        let error = kernel.err(magic);
        assert_eq!(error.evalue(), message);
        assert!(error.traceback().contains(hint), "{}", error.traceback());
    }
    let chosen = "%fit takes cpu from now on, unless it says --accelerator\n";
    assert_eq!(kernel.ok("%gpu select cpu").stdout(), chosen);
    assert_eq!(kernel.ok("%gpu select").stdout(), "%fit takes cpu\n");
    kernel.ok("use lightcell::prelude::*;\nlet ones = Tensor::ones([2], (Kind::Float, Device::Cpu));");
    assert_eq!(
        kernel.ok("%gpu free").stdout(),
        "no variable is a tensor on a CUDA device\nlibtorch sees no CUDA device, and so keeps no memory of one\n"
    );
}

#[test]
fn a_run_is_kept_in_files_and_goes_on_in_another_kernel() {
    let scratch = Scratch::new("checkpoints");
    let folder = scratch.0.to_string_lossy().into_owned();
    // The same data in both kernels.
    let data = "let x = Tensor::arange(8000, (Kind::Float, Device::Cpu)).view([2000, 4]).sin();\n\
                let y = x.sum_dim_intlist(1, false, Kind::Float).gt(0.0).to_kind(Kind::Int64);\n\
                let (train, val) = TensorDataset::new(x.shallow_clone(), y.shallow_clone())?.split(0.9)?;\n\
                let data = Data::new(train).val(val).batch_size(50);";
    let weights =
        "let total = fit.model.l1.weight.abs().sum(Kind::Double).double_value(&[]);\nformat!(\"{total:.12}\")";
    let mut kernel = Kernel::start();
    kernel.ok(MODEL);
    kernel.ok(data);
    kernel.ok(&format!(
        "%fit Net data --epochs 2 --seed 3 --default-root-dir {folder} --model-checkpoint val_loss --logger csv"
    ));
    let listed = kernel.ok(&format!("!find {folder} -type f | sort")).stdout();
    assert!(
        listed.contains("metrics.csv") && listed.contains(".safetensors"),
        "{listed}"
    );
    kernel.ok(&format!("fit.save(\"{folder}/run.safetensors\")?;"));
    kernel.ok("%fit Net data --epochs 2");
    let straight = kernel.ok(weights).value();
    // Without a word about files, none is written.
    let before = kernel.ok(&format!("!find {folder} -type f | wc -l")).stdout();
    kernel.ok("%fit Net data --epochs 1");
    assert_eq!(kernel.ok(&format!("!find {folder} -type f | wc -l")).stdout(), before);
    // In a new kernel, from the file: the same numbers as without a stop.
    let mut other = Kernel::start();
    other.ok(MODEL);
    other.ok(data);
    other.ok(&format!(
        "%fit Net data --epochs 4 --ckpt-path {folder}/run.safetensors"
    ));
    assert_eq!(other.ok("fit.history.len()").value(), "4");
    assert_eq!(other.ok(weights).value(), straight);
    let none = other.err("%fit Net data --restart --ckpt-path /lightcell/none.safetensors");
    assert!(
        none.evalue().contains("/lightcell/none.safetensors"),
        "{}",
        none.traceback()
    );
    // A metric that stands still ends the run.
    let stopped =
        other.ok("%fit Net data --restart --seed 1 --epochs 50 --early-stopping val_loss --mode max --patience 2");
    let last = stopped.all("update_display_data").last().unwrap()["data"]["text/plain"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(other.ok("fit.history.len()").value(), "3", "{last}");
    let wrong = other.err("%fit Net data --restart --epochs 1 --early-stopping val_los");
    assert!(wrong.evalue().contains("val_los"), "{}", wrong.traceback());
}
