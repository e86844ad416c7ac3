//! Logs how busy the machine is.

use super::{Callback, Run};
use crate::error::{Error, Kind, Result};
use tch::Device;

/// Gives the use of processor and memory to the loggers, before and after each batch whose step they write down
/// (`lightning.pytorch.callbacks.DeviceStatsMonitor`), as
/// `DeviceStatsMonitor.on_train_batch_start/cpu_percent`, `…/cpu_vm_percent`, `…/cpu_swap_percent`: of the whole machine, in
/// percent, the processor's since it was last looked at. On Linux, from `/proc`; elsewhere nothing is logged.
///
/// On CUDA it logs what libtorch's allocator says, in bytes: `allocated_bytes.all.current` and `.peak`, the same of
/// `reserved_bytes` and `active_bytes`, and the counts `num_alloc_retries` and `num_ooms`. How busy the GPU is, libtorch does
/// not know.
///
/// ```
/// use lightcell::prelude::*;
/// let trainer = Trainer::new().logger(TensorBoardLogger::new("runs")).callback(DeviceStatsMonitor::new());
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceStatsMonitor {
    cpu_stats: Option<bool>,
    /// Busy and all time of the processors when last looked at.
    seen: Option<(u64, u64)>,
}

impl DeviceStatsMonitor {
    /// Of the device that trains.
    pub fn new() -> DeviceStatsMonitor {
        DeviceStatsMonitor::default()
    }

    /// Whether the CPU's are logged: also when a GPU trains, or not at all. When it is not said, they are where the CPU trains.
    #[must_use]
    pub fn cpu_stats(mut self, log: bool) -> DeviceStatsMonitor {
        self.cpu_stats = Some(log);
        self
    }

    fn log(&mut self, hook: &str, run: &mut Run) {
        if !run.logs_step() {
            return;
        }
        let device = run
            .parameters()
            .first()
            .map_or(Device::Cpu, |(_, tensor)| tensor.device());
        let mut stats = Vec::new();
        if self.cpu_stats.unwrap_or(device == Device::Cpu) {
            stats.extend(self.cpu());
        }
        if device != Device::Cpu {
            stats.extend(allocator(device));
        }
        for (name, value) in stats {
            run.log(&format!("DeviceStatsMonitor.{hook}/{name}"), value);
        }
    }

    fn cpu(&mut self) -> Vec<(&'static str, f64)> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mut stats = Vec::new();
        if let Some(now) = processor(&read("/proc/stat")) {
            let (busy, all) = self.seen.unwrap_or(now);
            self.seen = Some(now);
            let (busy, all) = (now.0.saturating_sub(busy), now.1.saturating_sub(all));
            stats.push((
                "cpu_percent",
                if all > 0 { 100.0 * busy as f64 / all as f64 } else { 0.0 },
            ));
        }
        if let Some((memory, swap)) = memory(&read("/proc/meminfo")) {
            stats.extend([("cpu_vm_percent", memory), ("cpu_swap_percent", swap)]);
        }
        stats
    }
}

/// Busy and all time of all processors together (proc_stat(5)).
fn processor(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().map_while(|time| time.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in the first two already.
    let all: u64 = times.iter().take(8).sum();
    let idle: u64 = times.get(3)? + times.get(4).unwrap_or(&0);
    Some((all - idle, all))
}

/// Percent of memory and of swap that are used (proc_meminfo(5)).
fn memory(text: &str) -> Option<(f64, f64)> {
    let field = |name: &str| -> Option<f64> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let used = |all: f64, free: f64| if all > 0.0 { 100.0 * (all - free) / all } else { 0.0 };
    let swap = used(field("SwapTotal").unwrap_or(0.0), field("SwapFree").unwrap_or(0.0));
    Some((used(field("MemTotal")?, field("MemAvailable")?), swap))
}

/// What the device's allocator says, under PyTorch's names; nothing where it says nothing.
fn allocator(device: Device) -> Vec<(&'static str, f64)> {
    let Ok(stats) = lightcell_torch::memory_stats(device) else {
        return Vec::new();
    };
    [
        ("allocated_bytes.all.current", stats.allocated),
        ("allocated_bytes.all.peak", stats.allocated_peak),
        ("reserved_bytes.all.current", stats.reserved),
        ("reserved_bytes.all.peak", stats.reserved_peak),
        ("active_bytes.all.current", stats.active),
        ("active_bytes.all.peak", stats.active_peak),
        ("num_alloc_retries", stats.alloc_retries),
        ("num_ooms", stats.ooms),
    ]
    .map(|(name, value)| (name, value as f64))
    .to_vec()
}

impl Callback for DeviceStatsMonitor {
    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        if !run.logging {
            return Err(Error::new(Kind::Option, "DeviceStatsMonitor has no logger to write to")
                .hint("add one: `.logger(CsvLogger::new(\"runs\"))`, or `--logger csv`"));
        }
        self.cpu();
        Ok(())
    }

    fn on_train_batch_start(&mut self, run: &mut Run) -> Result<()> {
        self.log("on_train_batch_start", run);
        Ok(())
    }

    fn on_train_batch_end(&mut self, run: &mut Run) -> Result<()> {
        self.log("on_train_batch_end", run);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let stat = "cpu  100 10 40 800 50 0 0 0 7 0\ncpu0 1 2 3 4\n";
        assert_eq!(processor(stat), Some((150, 1000)));
        assert_eq!(processor("nothing"), None);
        let info = "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 250 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        assert_eq!(memory(info), Some((75.0, 0.0)));
        assert_eq!(memory("MemTotal: 1000 kB\n"), None);
    }
}
