//! Writes the output of a made-up run to a folder, to look at: `cargo run -p lightcell-plot --example frame -- DIR`.

use lightcell_events::run::{RunEvent, Stage};
use lightcell_plot::RunRecord;

fn main() -> std::io::Result<()> {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".into()));
    let mut record = RunRecord::default();
    let run = || "r".to_owned();
    record.apply(&RunEvent::Started {
        version: 1,
        run: run(),
        model: "Mlp".into(),
        device: "cpu".into(),
        first_epoch: 0,
        max_epochs: 20,
        train_batches: 40,
        val_batches: 5,
        parameters: 9_610,
        hparams: Default::default(),
        log_dir: None,
    });
    for epoch in 0..14u64 {
        for batch in 1..=40u64 {
            let x = epoch as f64 + batch as f64 / 40.0;
            let loss = 2.3 * (-x / 3.0).exp() + 0.1 + 0.08 * (x * 37.0).sin().abs();
            let metrics = [("train_loss".to_owned(), loss)].into();
            record.apply(&RunEvent::Step {
                run: run(),
                stage: Stage::Train,
                epoch,
                batch,
                batches: 40,
                step: epoch * 40 + batch,
                metrics,
                rate: 512.0,
            });
        }
        let x = epoch as f64 + 1.0;
        let (train, val) = (2.3 * (-x / 3.0).exp() + 0.13, 2.2 * (-x / 3.2).exp() + 0.16 + 0.004 * x);
        let metrics = [("train_loss", train), ("val_loss", val), ("val_acc", 1.0 - val / 3.0)]
            .map(|(n, v)| (n.to_owned(), v))
            .into();
        record.apply(&RunEvent::Epoch {
            run: run(),
            epoch,
            step: (epoch + 1) * 40,
            metrics,
            seconds: 0.4,
        });
    }
    let begun = std::time::Instant::now();
    let svg = record.svg();
    let drawn = begun.elapsed();
    let png = record.png();
    println!(
        "{}\nsvg {drawn:?} {} bytes, png {:?} {} bytes",
        record.text(),
        svg.len(),
        begun.elapsed() - drawn,
        png.len()
    );
    std::fs::write(folder.join("frame.html"), record.html())?;
    std::fs::write(folder.join("frame.svg"), svg)?;
    std::fs::write(folder.join("frame.png"), png)
}
