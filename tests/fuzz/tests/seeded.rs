//! The corpus and inputs made from it, with seeds that are always the same.

use lightcell_fuzz::Mutator;
use std::path::Path;

/// Enough to find a planted fault of a character, in a second.
const INPUTS: usize = 20_000;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Runs a check on the corpus, then on what is made of it; names the input that it fails on.
fn run(name: &str, check: fn(&[u8])) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty());
    let mut inputs = Mutator::new(0x5eed, corpus.clone());
    let made = (0..INPUTS).map(|_| inputs.next_input());
    for input in corpus.into_iter().chain(made) {
        if std::panic::catch_unwind(|| check(&input)).is_err() {
            panic!("{:?}", String::from_utf8_lossy(&input));
        }
    }
}

#[test]
fn cells_are_split_without_loss() {
    run("cells", lightcell_fuzz::cells);
}

#[test]
fn packets_go_round() {
    run("packets", lightcell_fuzz::packets);
}
