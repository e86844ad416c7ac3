//! NVML, by the library of the driver or the one that `LIGHTCELL_NVML` names.

use crate::{DeviceInfo, ProcessInfo, machine};
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::ffi::OsString;

pub(crate) struct Seen {
    pub driver: Option<String>,
    pub cuda: Option<String>,
    pub devices: Vec<DeviceInfo>,
}

/// Why NVML does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoNvml {
    /// There is no such library, or it cannot be loaded.
    NotLoaded(String),
    /// It says that the driver is not there.
    NoDriver,
    /// Its version and the kernel module's differ.
    Mismatch,
    /// Something else.
    Failed(String),
}

fn open() -> Result<Nvml, NoNvml> {
    let named = std::env::var_os("LIGHTCELL_NVML").filter(|path| !path.is_empty());
    // The plain name is in the development package only; drivers install the one with the version.
    let names: Vec<OsString> = match named {
        Some(path) => vec![path],
        None => vec!["libnvidia-ml.so.1".into(), "libnvidia-ml.so".into()],
    };
    let mut last = NoNvml::NotLoaded("no library".to_owned());
    for name in &names {
        match Nvml::builder().lib_path(name).init() {
            Ok(nvml) => return Ok(nvml),
            Err(NvmlError::LibloadingError(error)) => last = NoNvml::NotLoaded(error.to_string()),
            Err(NvmlError::DriverNotLoaded) => return Err(NoNvml::NoDriver),
            Err(NvmlError::LibRmVersionMismatch) => return Err(NoNvml::Mismatch),
            Err(error) => return Err(NoNvml::Failed(error.to_string())),
        }
    }
    Err(last)
}

/// Asks afresh each time: a driver that comes or goes is noticed, and opening takes a millisecond.
pub(crate) fn look(ours: &[u32]) -> Result<Seen, NoNvml> {
    let nvml = open()?;
    let count = nvml.device_count().map_err(|error| NoNvml::Failed(error.to_string()))?;
    let cuda = nvml
        .sys_cuda_driver_version()
        .ok()
        .map(|version| format!("{}.{}", version / 1000, version % 1000 / 10));
    let devices = (0..count)
        .map(|index| match nvml.device_by_index(index) {
            Ok(device) => describe(index, &device, ours),
            Err(error) => DeviceInfo {
                index,
                name: format!("not readable: {error}"),
                ..DeviceInfo::default()
            },
        })
        .collect();
    Ok(Seen {
        driver: nvml.sys_driver_version().ok(),
        cuda,
        devices,
    })
}

fn describe(index: u32, device: &Device, ours: &[u32]) -> DeviceInfo {
    let watts = |milliwatts: u32| f64::from(milliwatts) / 1000.0;
    let memory = device.memory_info().ok();
    let processes = device.running_compute_processes().unwrap_or_default();
    DeviceInfo {
        index,
        name: device.name().unwrap_or_else(|_| "unknown".to_owned()),
        uuid: device.uuid().ok(),
        memory_used: memory.as_ref().map(|memory| memory.used),
        memory_total: memory.as_ref().map(|memory| memory.total),
        utilization: device.utilization_rates().ok().map(|rates| rates.gpu),
        power: device.power_usage().ok().map(watts),
        power_limit: device.enforced_power_limit().ok().map(watts),
        temperature: device.temperature(TemperatureSensor::Gpu).ok(),
        processes: processes
            .into_iter()
            .map(|process| ProcessInfo {
                pid: process.pid,
                user: machine::user_of(process.pid),
                name: machine::program_of(process.pid),
                memory: match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                },
                ours: ours.contains(&process.pid),
            })
            .collect(),
    }
}
