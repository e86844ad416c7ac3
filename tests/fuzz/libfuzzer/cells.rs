//! libFuzzer on cells; started by `tests/fuzz/run cells`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lightcell_fuzz::cells(data));
