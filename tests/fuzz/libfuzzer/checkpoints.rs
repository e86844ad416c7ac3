//! libFuzzer on files of torch.save and pickles; started by `tests/fuzz/run checkpoints`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lightcell_fuzz::checkpoints(data));
