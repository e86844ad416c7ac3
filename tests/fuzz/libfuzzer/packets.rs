//! libFuzzer on packets; started by `tests/fuzz/run packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lightcell_fuzz::packets(data));
