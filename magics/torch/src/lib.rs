//! What a trainer needs of libtorch and tch does not have: autocast with a type of numbers, the state of random
//! generators, the statistics of CUDA's allocator, unscaling of gradients, fused steps of optimizers, deterministic
//! algorithms, the search for anomalies. A small file of C++ behind `shim.h`; its faults come back as [`Error`] values.
//!
//! The switches (`set_…`) hold for the whole process, as in libtorch.

mod fused;
mod sys;

pub use fused::{AdamSettings, SgdSettings, fused_adam, fused_sgd};

use std::ffi::{CStr, c_int};
use std::fmt;
use std::marker::PhantomData;
use tch::{Device, Kind, Tensor};

/// What libtorch said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The device has no memory left.
    OutOfMemory(String),
    /// Anything else.
    Torch(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::OutOfMemory(text) | Error::Torch(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

// None of what calls C++ is inlined into other crates: those may not be able to link it.
#[inline(never)]
fn checked(status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: a text of this thread's, which ends with 0 and stays until the next failure here.
    let text = unsafe { CStr::from_ptr(sys::lightcell_torch_error()) };
    let text = text.to_string_lossy().into_owned();
    Err(match status {
        2 => Error::OutOfMemory(text),
        _ => Error::Torch(text),
    })
}

fn number(device: Device) -> Result<c_int> {
    match device {
        Device::Cpu => Ok(-1),
        Device::Cuda(index) => {
            c_int::try_from(index).map_err(|_| Error::Torch(format!("there is no CUDA device {index}")))
        }
        other => Err(Error::Torch(format!(
            "{other:?} is not supported, only the CPU and CUDA"
        ))),
    }
}

/// The libtorch with whose headers this crate's C++ was compiled, such as `2.13.0`.
///
/// ```
/// assert!(lightcell_torch::libtorch_version().starts_with("2."));
/// ```
#[inline(never)]
pub fn libtorch_version() -> &'static str {
    // SAFETY: a constant text that ends with 0.
    let text = unsafe { CStr::from_ptr(sys::lightcell_torch_version()) };
    text.to_str().unwrap_or("unknown")
}

/// Loads the part of libtorch that is CUDA's, where there is a driver and a libtorch with it; whether it did. A program does
/// not link it, so that it runs everywhere. It must come before the first question about CUDA: libtorch remembers the
/// answer. The trainer does it when it looks for a device.
///
/// ```
/// let loaded = lightcell_torch::load_cuda()?;
/// assert!(loaded || !tch::Cuda::is_available());
/// # Ok::<(), lightcell_torch::Error>(())
/// ```
///
/// # Errors
/// When it is there and cannot be loaded: one of NVIDIA's libraries is missing, for example.
#[inline(never)]
pub fn load_cuda() -> Result<bool> {
    // A Linux of its own, or one inside Windows.
    let driver = ["/proc/driver/nvidia/version", "/dev/dxg"];
    if !driver.iter().any(|file| std::path::Path::new(file).exists()) {
        return Ok(false);
    }
    load_cuda_library()
}

#[inline(never)]
fn load_cuda_library() -> Result<bool> {
    let mut loaded = 0;
    // SAFETY: the pointer is to a value that outlives the call. Of what runs when a library is loaded, libtorch's is made for
    // it.
    checked(unsafe { sys::lightcell_torch_load_cuda(&mut loaded) })?;
    Ok(loaded != 0)
}

/// While it lives, libtorch computes matrix products and the like in a shorter type on this thread, and what needs it in
/// float32 (`torch.autocast`). Regions may be nested; the inner one must end first.
///
/// ```
/// use lightcell_torch::Autocast;
/// use tch::{Device, Kind, Tensor};
///
/// let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
/// {
///     let _autocast = Autocast::new(Device::Cpu, Kind::BFloat16, true)?;
///     assert_eq!(x.matmul(&x).kind(), Kind::BFloat16);
/// }
/// assert_eq!(x.matmul(&x).kind(), Kind::Float);
/// # Ok::<(), lightcell_torch::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "autocast ends when this is dropped"]
pub struct Autocast {
    device: c_int,
    before: sys::Autocast,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Autocast {
    /// Begins, for operations on this kind of device. `kind` is `Kind::BFloat16` or `Kind::Half`. With `cache`, a weight is
    /// cast once for all its uses until the outermost region ends, and its gradients are summed in the shorter type:
    /// PyTorch's default; Lightning does without.
    ///
    /// # Errors
    /// With another kind, or a device that is neither CPU nor CUDA.
    #[inline(never)]
    pub fn new(device: Device, kind: Kind, cache: bool) -> Result<Autocast> {
        // PyTorch's numbers of its types.
        let kind = match kind {
            Kind::Half => 5,
            Kind::BFloat16 => 15,
            other => {
                return Err(Error::Torch(format!("autocast knows BFloat16 and Half, not {other:?}")));
            }
        };
        let device = number(device)?;
        let mut before = sys::Autocast::default();
        // SAFETY: the pointer is to a value that outlives the call.
        checked(unsafe { sys::lightcell_torch_autocast_enter(device, kind, cache.into(), &mut before) })?;
        Ok(Autocast {
            device,
            before,
            _thread: PhantomData,
        })
    }
}

impl Drop for Autocast {
    #[inline(never)]
    fn drop(&mut self) {
        // SAFETY: the pointer is to a value that outlives the call. Its status says no more than that libtorch knows the
        // device, which it did when this began.
        unsafe { sys::lightcell_torch_autocast_leave(self.device, &self.before) };
    }
}

/// The state of a device's random generator: bytes in a tensor on the CPU.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// let state = lightcell_torch::rng_state(Device::Cpu)?;
/// let first = Tensor::rand([3], (Kind::Float, Device::Cpu));
/// lightcell_torch::set_rng_state(Device::Cpu, &state)?;
/// assert_eq!(Tensor::rand([3], (Kind::Float, Device::Cpu)), first);
/// # Ok::<(), lightcell_torch::Error>(())
/// ```
///
/// # Errors
/// When the device is not there.
#[inline(never)]
pub fn rng_state(device: Device) -> Result<Tensor> {
    let mut state = std::ptr::null_mut();
    // SAFETY: the pointer is to a value that outlives the call.
    checked(unsafe { sys::lightcell_torch_rng_state(number(device)?, &mut state) })?;
    // SAFETY: the call went well, so this is a tensor of its own, which nothing else frees.
    Ok(unsafe { Tensor::from_ptr(state) })
}

/// Sets what [`rng_state`] gave.
///
/// # Errors
/// When the device is not there, or the tensor is no state of such a generator.
#[inline(never)]
pub fn set_rng_state(device: Device, state: &Tensor) -> Result<()> {
    // SAFETY: the tensor outlives the call, which copies from it.
    checked(unsafe { sys::lightcell_torch_set_rng_state(number(device)?, state.as_ptr()) })
}

/// What CUDA's allocator has of a device's memory, in bytes (`torch.cuda.memory_stats`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryStats {
    /// In tensors.
    pub allocated: i64,
    /// The most that was in tensors since [`reset_peak_memory_stats`].
    pub allocated_peak: i64,
    /// Taken from the driver: in tensors, or kept for new ones.
    pub reserved: i64,
    /// The most that was reserved.
    pub reserved_peak: i64,
    /// In tensors, or waiting for a stream that still uses them.
    pub active: i64,
    /// The most that was active.
    pub active_peak: i64,
    /// How often the cache was emptied because the driver had no memory left.
    pub alloc_retries: i64,
    /// How often there was none then either.
    pub ooms: i64,
}

/// The allocator's statistics of a CUDA device.
///
/// # Errors
/// For the CPU, whose allocator keeps none, and when the device is not there.
///
/// ```
/// let error = lightcell_torch::memory_stats(tch::Device::Cpu).unwrap_err();
/// assert_eq!(error.to_string(), "the CPU's allocator keeps no statistics");
/// ```
#[inline(never)]
pub fn memory_stats(device: Device) -> Result<MemoryStats> {
    let mut stats = MemoryStats::default();
    // SAFETY: the pointer is to a value of the form that the header says, which outlives the call.
    checked(unsafe { sys::lightcell_torch_memory_stats(number(device)?, &mut stats) })?;
    Ok(stats)
}

/// Lets the peaks of a CUDA device's statistics begin from what they are now.
///
/// # Errors
/// As [`memory_stats`].
#[inline(never)]
pub fn reset_peak_memory_stats(device: Device) -> Result<()> {
    // SAFETY: a plain call.
    checked(unsafe { sys::lightcell_torch_reset_peak_memory(number(device)?) })
}

/// Gives memory that a CUDA device's allocator keeps for new tensors back to the driver.
///
/// # Errors
/// As [`memory_stats`].
#[inline(never)]
pub fn empty_cache(device: Device) -> Result<()> {
    // SAFETY: a plain call.
    checked(unsafe { sys::lightcell_torch_empty_cache(number(device)?) })
}

/// Multiplies gradients in place by the number in `factor`, and sets `found_inf` to 1 when a number of theirs was infinite
/// or none (`torch._amp_foreach_non_finite_check_and_unscale_`). All are on one device; `found_inf` and `factor` are
/// float32 with one element.
///
/// ```
/// use tch::Tensor;
/// let (a, b) = (Tensor::from_slice(&[8f32, 4.0]), Tensor::from_slice(&[f32::INFINITY]));
/// let (found, factor) = (Tensor::from(0f32), Tensor::from(0.25f32));
/// lightcell_torch::unscale(std::slice::from_ref(&a), &found, &factor)?;
/// assert_eq!((Vec::<f32>::try_from(&a).unwrap(), f32::try_from(&found).unwrap()), (vec![2.0, 1.0], 0.0));
/// lightcell_torch::unscale(&[a, b], &found, &factor)?;
/// assert_eq!(f32::try_from(&found).unwrap(), 1.0);
/// # Ok::<(), lightcell_torch::Error>(())
/// ```
///
/// # Errors
/// When the tensors are of other types, or on different devices.
#[inline(never)]
pub fn unscale(gradients: &[Tensor], found_inf: &Tensor, factor: &Tensor) -> Result<()> {
    let list: Vec<_> = gradients.iter().map(Tensor::as_ptr).collect();
    // SAFETY: the list and its tensors outlive the call. Their numbers change behind shared references, as in all of tch's
    // functions in place.
    checked(unsafe { sys::lightcell_torch_unscale(list.as_ptr(), list.len(), found_inf.as_ptr(), factor.as_ptr()) })
}

/// Whether libtorch takes only algorithms that give the same numbers each time
/// (`torch.use_deterministic_algorithms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deterministic {
    /// The fastest algorithm.
    #[default]
    Off,
    /// Where there is none, the operation warns on standard error and goes on.
    Warn,
    /// Where there is none, the operation fails.
    On,
}

/// Sets it. cuBLAS also needs the environment variable `CUBLAS_WORKSPACE_CONFIG=:4096:8` before its first use.
///
/// ```
/// use lightcell_torch::{Deterministic, deterministic_algorithms, set_deterministic_algorithms};
/// set_deterministic_algorithms(Deterministic::Warn)?;
/// assert_eq!(deterministic_algorithms()?, Deterministic::Warn);
/// set_deterministic_algorithms(Deterministic::Off)?;
/// # Ok::<(), lightcell_torch::Error>(())
/// ```
///
/// # Errors
/// libtorch's own.
#[inline(never)]
pub fn set_deterministic_algorithms(deterministic: Deterministic) -> Result<()> {
    let (on, warn) = (
        deterministic != Deterministic::Off,
        deterministic == Deterministic::Warn,
    );
    // SAFETY: a plain call.
    checked(unsafe { sys::lightcell_torch_set_deterministic(on.into(), warn.into()) })
}

/// What [`set_deterministic_algorithms`] set.
///
/// # Errors
/// libtorch's own.
#[inline(never)]
pub fn deterministic_algorithms() -> Result<Deterministic> {
    let (mut on, mut warn) = (0, 0);
    // SAFETY: the pointers are to values that outlive the call.
    checked(unsafe { sys::lightcell_torch_deterministic(&mut on, &mut warn) })?;
    Ok(match (on != 0, warn != 0) {
        (false, _) => Deterministic::Off,
        (true, true) => Deterministic::Warn,
        (true, false) => Deterministic::On,
    })
}

/// Lets the backward pass fail where it first computes a number that is none, with the name of the operation
/// (`torch.autograd.set_detect_anomaly`). Slow.
///
/// ```
/// use tch::{Kind, Tensor};
/// lightcell_torch::set_detect_anomaly(true)?;
/// let x = Tensor::from(-1f32).set_requires_grad(true);
/// let error = x.sqrt().f_backward().unwrap_err().to_string();
/// assert!(error.contains("'SqrtBackward0' returned nan values"), "{error}");
/// lightcell_torch::set_detect_anomaly(false)?;
/// # Ok::<(), lightcell_torch::Error>(())
/// ```
///
/// # Errors
/// libtorch's own.
#[inline(never)]
pub fn set_detect_anomaly(on: bool) -> Result<()> {
    // SAFETY: a plain call.
    checked(unsafe { sys::lightcell_torch_set_anomaly(on.into(), 1) })
}

/// What [`set_detect_anomaly`] set.
///
/// # Errors
/// libtorch's own.
#[inline(never)]
pub fn detect_anomaly() -> Result<bool> {
    let (mut on, mut check_nan) = (0, 0);
    // SAFETY: the pointers are to values that outlive the call.
    checked(unsafe { sys::lightcell_torch_anomaly(&mut on, &mut check_nan) })?;
    Ok(on != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones() -> Tensor {
        Tensor::ones([2, 2], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn autocast_ends_with_its_region_even_after_a_panic() {
        let kind = || ones().matmul(&ones()).kind();
        let outer = Autocast::new(Device::Cpu, Kind::BFloat16, true).unwrap();
        assert_eq!(kind(), Kind::BFloat16);
        let panicked = std::panic::catch_unwind(|| {
            let _inner = Autocast::new(Device::Cpu, Kind::Half, false).unwrap();
            assert_eq!(ones().matmul(&ones()).kind(), Kind::Half);
            panic!("in a step");
        });
        assert!(panicked.is_err());
        assert_eq!(kind(), Kind::BFloat16);
        // Another thread computes as before.
        assert_eq!(
            std::thread::spawn(|| ones().matmul(&ones()).kind()).join().unwrap(),
            Kind::Float
        );
        drop(outer);
        assert_eq!(kind(), Kind::Float);
        let error = Autocast::new(Device::Cpu, Kind::Double, false).unwrap_err();
        assert_eq!(error.to_string(), "autocast knows BFloat16 and Half, not Double");
    }

    #[test]
    fn faults_are_values() {
        let no_state = Tensor::from_slice(&[1u8, 2]);
        let error = set_rng_state(Device::Cpu, &no_state).unwrap_err();
        assert!(
            matches!(&error, Error::Torch(text) if !text.contains("frame #")),
            "{error}"
        );
        let (whole, factor) = (Tensor::from_slice(&[1i64]), Tensor::from(1f32));
        assert!(unscale(&[whole], &Tensor::from(0f32), &factor).is_err());
        assert!(rng_state(Device::Mps).is_err());
        if !tch::Cuda::is_available() {
            let error = memory_stats(Device::Cuda(0)).unwrap_err().to_string();
            assert_eq!(error, "there is no CUDA device 0: libtorch sees 0");
            assert!(rng_state(Device::Cuda(0)).is_err());
        }
    }

    #[test]
    fn libtorchs_cuda_is_looked_for_beside_it() {
        // Without a driver it is of no use, but it loads.
        let loaded = load_cuda_library().unwrap();
        assert!(loaded || !tch::Cuda::is_available());
    }

    #[test]
    fn a_generator_goes_on_from_its_state() {
        // Normal numbers are drawn in pairs, of which one may be left.
        let draw = || Tensor::randn([1], (Kind::Double, Device::Cpu));
        let _ = draw();
        let state = rng_state(Device::Cpu).unwrap();
        assert_eq!((state.kind(), state.size()), (Kind::Uint8, vec![5056]));
        let first = [draw(), draw(), draw()];
        set_rng_state(Device::Cpu, &state).unwrap();
        assert_eq!([draw(), draw(), draw()], first);
    }
}
