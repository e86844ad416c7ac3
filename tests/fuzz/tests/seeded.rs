//! The corpus and inputs made from it, with seeds that are always the same.

use lightcell_fuzz::Mutator;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

/// Notes the largest piece of memory that this thread asked for: a length in an input must not decide it.
struct Noting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // While the thread ends there is nothing to note any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: all is done by the system's allocator; a cell without a destructor allocates nothing.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, size) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

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

#[test]
fn files_of_torch_are_read_or_refused() {
    run("checkpoints", |input| {
        LARGEST.set(0);
        lightcell_fuzz::checkpoints(input);
        let largest = LARGEST.get();
        assert!(
            largest <= 4 << 20,
            "{largest} bytes at once for an input of {}",
            input.len()
        );
    });
}
