//! Parts of the library that a cell asks for by name. They are compiled from the installation's sources, on the library that
//! the cells are linked with.

use lightcell_tests::{Kernel, file};

/// Reads Parquet into a table, and trains on a file row group by row group.
#[test]
fn a_cell_asks_for_the_reader_of_parquet_and_trains_on_a_file() {
    let mut kernel = Kernel::start();
    kernel.ok("use lightcell::prelude::*;\nlet before = Tensor::ones([2], (Kind::Float, Device::Cpu));");
    kernel.ok("%dep lightcell-parquet");
    let folder = file("../magics/parquet/tests");
    let folder = folder.display();
    kernel.ok("use lightcell_parquet::{ArrowDataset, read_arrow};");
    // A table is of the type that the cells know, and what was there before still is.
    let read =
        format!("let pets: Table = read_arrow(\"{folder}/pets.parquet\")?;\n(pets.len(), pets.labels(\"species\")?.1)");
    assert_eq!(kernel.ok(&read).value(), "(6, [\"cat\", \"dog\"])");
    assert_eq!(kernel.ok("before.size()").value(), "[2]");
    let missing = kernel.err(&format!("read_arrow(\"{folder}/none.parquet\")?"));
    assert!(missing.evalue().contains("none.parquet"), "{}", missing.traceback());
    kernel.ok("hparams! { Hp { lr: f64 = 0.01 } }\n\
         struct Line { l: Linear }\n\
         impl LightningModule for Line {\n\
             type HParams = Hp;\n\
             type Batch = (Tensor, Tensor);\n\
             fn new(p: &Path, _: &Hp) -> Line { Line { l: linear(p / \"l\", 2, 1) } }\n\
             fn forward(&self, x: &Tensor) -> Tensor { self.l.forward(x).squeeze_dim(1) }\n\
             fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {\n\
                 let x = x / Tensor::from_slice(&[1000f32, 7.0]);\n\
                 let loss = self.forward(&x).mse_loss(&(y / 3000.0), lightcell::tch::Reduction::Mean);\n\
                 cx.log(\"train_loss\", &loss);\n\
                 Ok(loss)\n\
             }\n\
             fn configure_optimizers(&self, hp: &Hp) -> Optim { adam(hp.lr) }\n\
         }");
    kernel.ok(&format!(
        "let rows = ArrowDataset::open(\"{folder}/numbers.parquet\", \"y\")?;\n\
         let order = rows.row_groups(2);\n\
         let data = DataLoader::new(rows).batch_size(50).sampler(order).num_workers(2);"
    ));
    kernel.ok("%fit Line data --epochs 20 --seed 1");
    let loss = kernel.ok("fit.step_losses.last().copied()").value();
    let loss: f64 = loss.trim_start_matches("Some(").trim_end_matches(')').parse().unwrap();
    assert!(loss < 1e-3, "{loss}");
}
