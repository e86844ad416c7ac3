//! Memory stays flat over 10,000 steps. In a process of its own, because it looks at the size of the process.

mod common;

use common::{Hp, Net, samples};
use lightcell::prelude::*;

/// Resident memory of this process in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1024.0
}

/// A graph that stays alive at each step takes about 5 KiB of it: 40 MiB over these steps. What may stay is the history and
/// one number for each step.
#[test]
fn memory_is_flat_over_ten_thousand_steps() {
    let data = Data::new(samples(400, 4)).val(samples(400, 4)).batch_size(4);
    let trainer = Trainer::new().accelerator("cpu").seed(1);
    // A hundred batches an epoch, each followed by a few of validation.
    let settings = trainer.limit_val_batches(5).val_check_interval(50);
    let mut fit = settings
        .clone()
        .max_epochs(20)
        .fit::<Net, _>(&Hp::default(), &data)
        .unwrap();
    let before = resident();
    settings.max_epochs(100).go_on(&mut fit, &data).unwrap();
    let grown = resident() - before;
    assert_eq!(fit.step_losses.len(), 12_000);
    assert!(grown < 12.0, "{grown:.1} MiB more than {before:.1}");
}
