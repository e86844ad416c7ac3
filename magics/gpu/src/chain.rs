//! The chain from a device to a tensor on it, and which of its links is missing.

use crate::nvml::NoNvml;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// A missing link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "link", content = "detail", rename_all = "snake_case")]
pub enum MissingLink {
    /// The machine has no NVIDIA device.
    NoDevice,
    /// There is a device but no driver.
    NoDriver,
    /// The driver is loaded but NVML's library is not there.
    DriverWithoutNvml(String),
    /// The driver's library and its kernel module are of different versions.
    DriverMismatch,
    /// NVML says something else.
    Nvml(String),
    /// libtorch was built for the CPU.
    CpuOnlyLibtorch,
    /// libtorch_cuda cannot be loaded.
    CudaNotLoadable(String),
    /// The driver is older than the CUDA that libtorch was built for.
    DriverTooOld {
        /// What the driver serves.
        driver: String,
        /// What libtorch needs.
        needed: String,
    },
}

impl fmt::Display for MissingLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissingLink::NoDevice => write!(f, "this machine has no NVIDIA device"),
            MissingLink::NoDriver => write!(
                f,
                "there is an NVIDIA device but its driver is not loaded\nhint: install the driver, or restart after an update"
            ),
            MissingLink::DriverWithoutNvml(why) => {
                write!(
                    f,
                    "the NVIDIA driver is loaded but its library NVML is not found ({why})\nhint: install the driver's user libraries (libnvidia-ml.so.1)"
                )
            }
            MissingLink::DriverMismatch => {
                write!(
                    f,
                    "the NVIDIA driver was updated: its library and its kernel module are of different versions\nhint: restart the machine"
                )
            }
            MissingLink::Nvml(why) => write!(f, "NVML does not answer: {why}\nhint: `nvidia-smi` should say the same"),
            MissingLink::CpuOnlyLibtorch => {
                write!(
                    f,
                    "libtorch is the build for the CPU, without CUDA\nhint: `lightcell setup` fetches the CUDA build now that there is a driver"
                )
            }
            MissingLink::CudaNotLoadable(why) => write!(
                f,
                "libtorch_cuda cannot be loaded: {why}\nhint: `lightcell setup` mends it"
            ),
            MissingLink::DriverTooOld { driver, needed } => {
                write!(
                    f,
                    "the driver serves CUDA {driver}, libtorch was built for CUDA {needed}\nhint: update the NVIDIA driver"
                )
            }
        }
    }
}

/// Why NVML does not answer, seen from the machine below `root`.
pub(crate) fn missing(root: &Path, error: NoNvml) -> MissingLink {
    let driver = root.join("proc/driver/nvidia/version").exists();
    match error {
        NoNvml::NoDriver if has_device(root) => MissingLink::NoDriver,
        NoNvml::NoDriver => MissingLink::NoDevice,
        NoNvml::Mismatch => MissingLink::DriverMismatch,
        NoNvml::Failed(why) => MissingLink::Nvml(why),
        NoNvml::NotLoaded(why) if driver => MissingLink::DriverWithoutNvml(why),
        NoNvml::NotLoaded(_) if has_device(root) => MissingLink::NoDriver,
        NoNvml::NotLoaded(_) => MissingLink::NoDevice,
    }
}

/// Whether there is a display or compute controller of NVIDIA on the PCI bus.
fn has_device(root: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(root.join("sys/bus/pci/devices")) else {
        return false;
    };
    let is = |path: &Path, name: &str, start: &str| {
        std::fs::read_to_string(path.join(name)).is_ok_and(|text| text.trim().starts_with(start))
    };
    entries
        .flatten()
        .any(|entry| is(&entry.path(), "vendor", "0x10de") && is(&entry.path(), "class", "0x03"))
}

/// What is known of libtorch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Torch {
    /// Such as `2.13.0`.
    pub version: String,
    /// libtorch_cuda.so is there.
    pub cuda_library: bool,
    /// CUDA version it was built for, such as `13.0`.
    pub cuda: Option<String>,
    /// Why libtorch_cuda could not be loaded, if it was tried.
    pub load_error: Option<String>,
}

impl Torch {
    /// The link that is missing between the devices and libtorch; `None` when there is none, or no device.
    pub fn missing(&self, driver_cuda: Option<&str>) -> Option<MissingLink> {
        if !self.cuda_library {
            return Some(MissingLink::CpuOnlyLibtorch);
        }
        if let Some(error) = &self.load_error {
            return Some(MissingLink::CudaNotLoadable(error.clone()));
        }
        // A driver of the same major version serves all its minor versions.
        let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match (driver_cuda, &self.cuda) {
            (Some(driver), Some(needed)) if major(driver) < major(needed) => Some(MissingLink::DriverTooOld {
                driver: driver.to_owned(),
                needed: needed.clone(),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(std::path::PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Root {
            let root = std::env::temp_dir().join(format!("lightcell-gpu-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Root(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const CARD: [(&str, &str); 2] = [
        ("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n"),
        ("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n"),
    ];

    #[test]
    fn each_missing_link_is_told_apart() {
        let not_loaded = || NoNvml::NotLoaded("no file".into());
        let none = Root::new(
            "none",
            &[
                ("sys/bus/pci/devices/0000:00:01.0/vendor", "0x8086\n"),
                ("sys/bus/pci/devices/0000:00:01.0/class", "0x030000\n"),
            ],
        );
        assert_eq!(missing(&none.0, not_loaded()), MissingLink::NoDevice);
        assert_eq!(missing(&none.0, NoNvml::NoDriver), MissingLink::NoDevice);
        let card = Root::new("card", &CARD);
        assert_eq!(missing(&card.0, not_loaded()), MissingLink::NoDriver);
        assert_eq!(missing(&card.0, NoNvml::NoDriver), MissingLink::NoDriver);
        let driver = Root::new("driver", &[CARD[0], CARD[1], ("proc/driver/nvidia/version", "NVRM")]);
        assert_eq!(
            missing(&driver.0, not_loaded()),
            MissingLink::DriverWithoutNvml("no file".into())
        );
        assert_eq!(missing(&driver.0, NoNvml::Mismatch), MissingLink::DriverMismatch);
        assert_eq!(
            missing(&driver.0, NoNvml::Failed("x".into())),
            MissingLink::Nvml("x".into())
        );
    }

    #[test]
    fn libtorchs_links_are_told_apart() {
        let torch = |cuda_library, load_error: Option<&str>| Torch {
            version: "2.13.0".into(),
            cuda_library,
            cuda: Some("13.0".into()),
            load_error: load_error.map(str::to_owned),
        };
        assert_eq!(
            torch(false, None).missing(Some("13.0")),
            Some(MissingLink::CpuOnlyLibtorch)
        );
        assert_eq!(
            torch(true, Some("libx")).missing(Some("13.0")),
            Some(MissingLink::CudaNotLoadable("libx".into()))
        );
        assert_eq!(
            torch(true, None).missing(Some("12.8")),
            Some(MissingLink::DriverTooOld {
                driver: "12.8".into(),
                needed: "13.0".into()
            })
        );
        assert_eq!(torch(true, None).missing(Some("13.2")), None);
    }

    #[test]
    fn every_link_says_what_to_do() {
        for link in [
            MissingLink::NoDriver,
            MissingLink::DriverWithoutNvml("x".into()),
            MissingLink::DriverMismatch,
            MissingLink::Nvml("x".into()),
            MissingLink::CpuOnlyLibtorch,
            MissingLink::CudaNotLoadable("x".into()),
            MissingLink::DriverTooOld {
                driver: "12".into(),
                needed: "13".into(),
            },
        ] {
            assert!(link.to_string().contains("\nhint: "), "{link}");
        }
        assert_eq!(MissingLink::NoDevice.to_string(), "this machine has no NVIDIA device");
    }
}
