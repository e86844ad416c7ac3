//! A hook that is misspelt is an error of the compiler that names the right one, however many hooks there are.

use super::Folder;
use std::process::Command;

/// The names of the trait's functions, from its source.
fn names() -> Vec<&'static str> {
    let source = include_str!("../module.rs");
    let lines = source.lines().filter_map(|line| line.strip_prefix("    fn "));
    lines.filter_map(|line| line.split('(').next()).collect()
}

#[test]
fn a_misspelt_hook_names_the_right_one() {
    let names = names();
    assert!(names.contains(&"training_step") && names.len() > 40, "{names:?}");
    let misspelt = [
        ("validation_steps", "validation_step"),
        ("train_step", "training_step"),
        ("on_train_epoch_ends", "on_train_epoch_end"),
        ("on_training_epoch_end", "on_train_epoch_end"),
        ("on_validate_epoch_end", "on_validation_epoch_end"),
        ("on_test_batch_ends", "on_test_batch_end"),
        ("on_before_zero_grads", "on_before_zero_grad"),
        ("on_after_backwards", "on_after_backward"),
        ("before_optimizer_step", "on_before_optimizer_step"),
        ("on_load_checkpoints", "on_load_checkpoint"),
        ("configure_optimizer", "configure_optimizers"),
        ("predicts_step", "predict_step"),
    ];
    let of =
        |list: &mut dyn Iterator<Item = &str>| list.map(|name| format!("    fn {name}() {{}}\n")).collect::<String>();
    let folder = Folder::new("names");
    let mut silent = Vec::new();
    for (wrong, right) in misspelt {
        let path = folder.join("m.rs");
        let source = format!(
            "pub trait LightningModule {{\n{}}}\npub struct M;\nimpl LightningModule for M {{\n{}}}\n",
            of(&mut names.iter().copied()),
            of(&mut [wrong].into_iter())
        );
        std::fs::write(&path, source).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let out = Command::new(rustc)
            .args([
                "--edition=2024",
                "--crate-type=lib",
                "--emit=metadata",
                "--color=never",
                "-o",
            ])
            .arg(folder.join("m.rmeta"))
            .arg(&path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(
            text.contains(&format!("method `{wrong}` is not a member of trait `LightningModule`")),
            "{text}"
        );
        if !text.contains(&format!("similar name: `{right}`")) {
            silent.push((wrong, text.into_owned()));
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}
