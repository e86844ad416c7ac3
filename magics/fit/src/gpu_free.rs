//! What `%gpu free` becomes: which variables hold device memory, and the allocator's cache given back.

use tch::{Cuda, Device};

/// A variable: its name, the device of its tensor, bytes.
pub type Held<'a> = (&'a str, Device, usize);

/// Prints which of these variables hold memory of CUDA devices, the largest first, and gives what libtorch's allocator
/// keeps for new tensors back to the driver (`torch.cuda.empty_cache`).
///
/// ```
/// lightcell::notebook::gpu_free(&[("x", tch::Device::Cpu, 800)]);
/// ```
pub fn gpu_free(tensors: &[Held]) {
    print!("{}", said(tensors));
    let devices = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    if devices == 0 {
        println!("libtorch sees no CUDA device, and so keeps no memory of one");
    }
    for index in 0..devices as usize {
        println!("cuda:{index}: {}", freed(Device::Cuda(index)));
    }
}

/// The variables in words.
fn said(tensors: &[Held]) -> String {
    let mut held: Vec<&Held> = tensors.iter().filter(|(_, device, _)| device.is_cuda()).collect();
    if held.is_empty() {
        return "no variable is a tensor on a CUDA device\n".to_owned();
    }
    held.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
    let mut text = String::new();
    for (name, device, bytes) in held {
        let device = crate::trainer::device_name(*device);
        text.push_str(&format!(
            "{name} on {device}: {}; `%del {name}` frees it\n",
            size(*bytes as i64)
        ));
    }
    text
}

fn freed(device: Device) -> String {
    let reserved = || lightcell_torch::memory_stats(device);
    let result = reserved().and_then(|before| {
        lightcell_torch::empty_cache(device)?;
        Ok((before, reserved()?))
    });
    match result {
        Ok((before, after)) => format!(
            "{} given back, {} in tensors",
            size(before.reserved - after.reserved),
            size(after.allocated)
        ),
        Err(error) => error.to_string(),
    }
}

fn size(bytes: i64) -> String {
    const MIB: f64 = 1_048_576.0;
    match bytes as f64 / MIB {
        mib if mib >= 1024.0 => format!("{:.1} GiB", mib / 1024.0),
        mib => format!("{mib:.1} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_device_memory_is_named_the_largest_first() {
        let cuda = Device::Cuda(1);
        assert_eq!(
            said(&[("a", cuda, 1 << 20), ("b", Device::Cpu, 1 << 30), ("c", cuda, 3 << 30)]),
            "c on cuda:1: 3.0 GiB; `%del c` frees it\na on cuda:1: 1.0 MiB; `%del a` frees it\n"
        );
        assert_eq!(
            said(&[("b", Device::Cpu, 8)]),
            "no variable is a tensor on a CUDA device\n"
        );
    }
}
