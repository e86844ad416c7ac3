//! The functions of `shim.h`.

use crate::MemoryStats;
use crate::fused::{AdamSettings, SgdSettings};
use std::ffi::{c_char, c_int};
use torch_sys::C_tensor;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Autocast {
    pub enabled: i32,
    pub kind: i32,
    pub cache: i32,
}

unsafe extern "C" {
    pub fn lightcell_torch_error() -> *const c_char;
    pub fn lightcell_torch_version() -> *const c_char;
    pub fn lightcell_torch_load_cuda(loaded: *mut c_int) -> c_int;
    pub fn lightcell_torch_autocast_enter(device: c_int, kind: c_int, cache: c_int, before: *mut Autocast) -> c_int;
    pub fn lightcell_torch_autocast_leave(device: c_int, before: *const Autocast) -> c_int;
    pub fn lightcell_torch_rng_state(device: c_int, state: *mut *mut C_tensor) -> c_int;
    pub fn lightcell_torch_set_rng_state(device: c_int, state: *const C_tensor) -> c_int;
    pub fn lightcell_torch_memory_stats(device: c_int, stats: *mut MemoryStats) -> c_int;
    pub fn lightcell_torch_reset_peak_memory(device: c_int) -> c_int;
    pub fn lightcell_torch_empty_cache(device: c_int) -> c_int;
    pub fn lightcell_torch_unscale(
        gradients: *const *const C_tensor,
        count: usize,
        found_inf: *const C_tensor,
        factor: *const C_tensor,
    ) -> c_int;
    pub fn lightcell_torch_fused_adam(
        settings: *const AdamSettings,
        tensors: *const *const C_tensor,
        count: usize,
        done: *mut c_int,
    ) -> c_int;
    pub fn lightcell_torch_fused_sgd(
        settings: *const SgdSettings,
        tensors: *const *const C_tensor,
        count: usize,
        done: *mut c_int,
    ) -> c_int;
    pub fn lightcell_torch_set_deterministic(on: c_int, warn_only: c_int) -> c_int;
    pub fn lightcell_torch_deterministic(on: *mut c_int, warn_only: *mut c_int) -> c_int;
    pub fn lightcell_torch_set_anomaly(on: c_int, check_nan: c_int) -> c_int;
    pub fn lightcell_torch_anomaly(on: *mut c_int, check_nan: *mut c_int) -> c_int;
}
