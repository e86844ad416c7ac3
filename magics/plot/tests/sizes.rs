//! What a run leaves in the saved notebook, by how long it was.

use base64::Engine;
use lightcell_events::run::{RunEvent, Stage};
use lightcell_plot::RunRecord;

/// A run of ten epochs with this many updates, a noisy loss and four metrics an epoch.
fn run(updates: u64) -> RunRecord {
    let mut record = RunRecord::default();
    let id = || "r".to_owned();
    let batches = updates / 10;
    record.apply(&RunEvent::Started {
        version: 1,
        run: id(),
        model: "Net".into(),
        device: "cuda:0".into(),
        first_epoch: 0,
        max_epochs: 10,
        train_batches: batches,
        val_batches: 5,
        parameters: 1_250_000,
        hparams: serde_json::json!({"hidden": 256, "lr": 1e-3}),
        log_dir: None,
    });
    // Numbers as random as those of a run: a linear congruence.
    let mut seed = 1u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as f64 / f64::from(1u32 << 31)
    };
    for step in 0..updates {
        let x = step as f64 / updates as f64;
        record.apply(&RunEvent::Step {
            run: id(),
            stage: Stage::Train,
            epoch: step / batches,
            batch: step % batches + 1,
            batches,
            step: step + 1,
            metrics: [("train_loss".to_owned(), 2.3 * (-4.0 * x).exp() * (0.5 + noise()) + 0.05)].into(),
            rate: 812.0,
        });
        if (step + 1) % batches == 0 {
            let fall = 2.3 * (-4.0 * x).exp();
            let metrics = [
                ("train_loss", fall + 0.1),
                ("val_loss", fall + 0.15 * (1.0 + noise())),
                ("val_acc", 0.97 - fall / 3.0),
                ("train_acc", 0.98 - fall / 3.0),
                ("f1", 0.9 - fall / 4.0),
                ("lr", 1e-3 * (1.0 - x)),
            ];
            record.apply(&RunEvent::Epoch {
                run: id(),
                epoch: step / batches,
                step: step + 1,
                metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
                seconds: 0.4,
            });
        }
    }
    record
}

/// Bytes of the output as it stands in the file: SVG, HTML, text, and the PNG in base64.
fn saved(record: &RunRecord) -> [usize; 4] {
    let json = |text: String| serde_json::to_string(&text).unwrap().len();
    let png = base64::engine::general_purpose::STANDARD.encode(record.png());
    [record.svg(), record.html(), record.text(), png].map(json)
}

#[test]
fn a_run_leaves_less_than_100_kb_however_long_it_was() {
    println!("| updates | SVG | HTML | text | PNG | all |\n|--:|--:|--:|--:|--:|--:|");
    let mut sums = Vec::new();
    for updates in [10, 1_000, 100_000] {
        let [svg, html, text, png] = saved(&run(updates));
        let sum = svg + html + text + png;
        println!("| {updates} | {svg} | {html} | {text} | {png} | {sum} |");
        assert!(sum < 100_000, "{updates} updates: {sum}");
        sums.push(sum);
    }
    // Not the number of updates counts, but what can be drawn.
    assert!(sums[2] < sums[1] * 6 / 5, "{sums:?}");
}
