//! The devices of a machine as nvidia-smi shows them, read through NVML in the calling process; where there is none, which
//! link of the chain is missing. No CUDA context is made, so looking costs no device memory and works while a cell
//! trains.
//!
//! ```
//! let seen = lightcell_gpu::snapshot(&[]);
//! assert!(!seen.devices.is_empty() || seen.missing.is_some());
//! ```

mod chain;
mod choice;
mod machine;
mod nvml;
mod panel;
mod view;

pub use chain::{MissingLink, Torch};
pub use choice::{Choice, least_used, visible};
pub use machine::Machine;
pub use panel::Panel;
pub use view::{to_html, to_json, to_text};

use serde::Serialize;

/// What was seen at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Name, processor and memory of the machine.
    pub machine: Machine,
    /// Version of the NVIDIA driver.
    pub driver: Option<String>,
    /// Highest CUDA version that the driver serves, such as `13.0`.
    pub cuda: Option<String>,
    /// The devices.
    pub devices: Vec<DeviceInfo>,
    /// Why there are none.
    pub missing: Option<MissingLink>,
}

/// A device. What NVML does not tell of it is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct DeviceInfo {
    /// From 0.
    pub index: u32,
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// NVML's own name for it.
    pub uuid: Option<String>,
    /// Bytes in use.
    pub memory_used: Option<u64>,
    /// Bytes in all.
    pub memory_total: Option<u64>,
    /// Percent of the time in which a kernel ran.
    pub utilization: Option<u32>,
    /// Watts.
    pub power: Option<f64>,
    /// Watts.
    pub power_limit: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Processes that compute on it.
    pub processes: Vec<ProcessInfo>,
}

/// A process on a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: u32,
    /// Who runs it.
    pub user: Option<String>,
    /// Its program.
    pub name: Option<String>,
    /// Bytes of device memory.
    pub memory: Option<u64>,
    /// It belongs to this kernel.
    pub ours: bool,
}

/// Looks. `ours` are the processes of this kernel, to be marked.
pub fn snapshot(ours: &[u32]) -> Snapshot {
    let machine = machine::look();
    match nvml::look(ours) {
        Ok(seen) if !seen.devices.is_empty() => Snapshot {
            machine,
            driver: seen.driver,
            cuda: seen.cuda,
            devices: seen.devices,
            missing: None,
        },
        Ok(seen) => Snapshot {
            machine,
            driver: seen.driver,
            cuda: seen.cuda,
            devices: Vec::new(),
            missing: Some(MissingLink::NoDevice),
        },
        Err(error) => Snapshot {
            machine,
            driver: None,
            cuda: None,
            devices: Vec::new(),
            missing: Some(chain::missing(std::path::Path::new("/"), error)),
        },
    }
}
