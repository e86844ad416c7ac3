//! Which device a run is to take.

use crate::view::gib;
use crate::{DeviceInfo, Snapshot};

/// A device for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// As libtorch names it, `cuda:1`.
    pub device: String,
    /// Why, for the user.
    pub reason: String,
}

/// The devices that libtorch sees, in its order: those that `CUDA_VISIBLE_DEVICES` names, by number or by the beginning of
/// their UUID, up to the first that there is not; all of them where it is not set.
pub fn visible<'a>(seen: &'a Snapshot, named: Option<&str>) -> Vec<&'a DeviceInfo> {
    let Some(named) = named else {
        return seen.devices.iter().collect();
    };
    let find = |word: &str| {
        let word = word.trim();
        let by_uuid = |device: &&DeviceInfo| {
            !word.is_empty() && device.uuid.as_deref().is_some_and(|uuid| uuid.starts_with(word))
        };
        match word.parse::<u32>() {
            Ok(index) => seen.devices.iter().find(|device| device.index == index),
            Err(_) => seen.devices.iter().find(by_uuid),
        }
    };
    named.split(',').map_while(find).collect()
}

/// The least used of several devices: where this kernel computes already, else where others hold the least memory, of
/// these the least busy one. `None` where there is no choice.
///
/// ```
/// let seen = lightcell_gpu::snapshot(&[]);
/// let all = lightcell_gpu::visible(&seen, None);
/// assert_eq!(lightcell_gpu::least_used(&all).is_some(), all.len() > 1);
/// ```
pub fn least_used(devices: &[&DeviceInfo]) -> Option<Choice> {
    if devices.len() < 2 {
        return None;
    }
    let rank = |(ordinal, device): &(usize, &&DeviceInfo)| {
        let ours = device.processes.iter().any(|process| process.ours);
        let used = device.memory_used.unwrap_or(u64::MAX);
        (!ours, used, device.utilization.unwrap_or(100), *ordinal)
    };
    let (ordinal, chosen) = devices.iter().enumerate().min_by_key(rank)?;
    let others: Vec<String> = devices
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != ordinal)
        .map(|(ordinal, device)| format!("cuda:{ordinal} has {} in use{}", memory(device), users(device)))
        .collect();
    let why = match chosen.processes.iter().any(|process| process.ours) {
        true => "where this kernel computes already".to_owned(),
        false => format!("the least used of {}", devices.len()),
    };
    Some(Choice {
        device: format!("cuda:{ordinal}"),
        reason: format!("{why}; {}", others.join(", ")),
    })
}

fn memory(device: &DeviceInfo) -> String {
    device.memory_used.map_or("-".to_owned(), gib)
}

fn users(device: &DeviceInfo) -> String {
    let mut users: Vec<&str> = device
        .processes
        .iter()
        .filter_map(|process| process.user.as_deref())
        .collect();
    users.sort_unstable();
    users.dedup();
    match users.is_empty() {
        true => String::new(),
        false => format!(" by {}", users.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Machine, ProcessInfo};

    fn device(index: u32, used: u64, users: &[&str]) -> DeviceInfo {
        let process = |user: &&str| ProcessInfo {
            pid: 1,
            user: Some((*user).to_owned()),
            name: None,
            memory: None,
            ours: *user == "me",
        };
        DeviceInfo {
            index,
            uuid: Some(format!("GPU-{index}{index}")),
            memory_used: Some(used << 30),
            utilization: Some(0),
            processes: users.iter().map(process).collect(),
            ..DeviceInfo::default()
        }
    }

    fn chosen(devices: &[DeviceInfo]) -> Option<(String, String)> {
        least_used(&devices.iter().collect::<Vec<_>>()).map(|choice| (choice.device, choice.reason))
    }

    #[test]
    fn the_least_used_is_taken_and_the_users_of_the_others_are_named() {
        assert_eq!(chosen(&[device(0, 1, &[])]), None);
        assert_eq!(
            chosen(&[
                device(0, 20, &["bob", "ann", "bob"]),
                device(1, 1, &[]),
                device(2, 3, &["cat"])
            ]),
            Some((
                "cuda:1".into(),
                "the least used of 3; cuda:0 has 20 GiB in use by ann and bob, cuda:2 has 3.0 GiB in use by cat".into()
            ))
        );
        // A second run of this kernel goes where the first is.
        assert_eq!(
            chosen(&[device(0, 20, &["me"]), device(1, 0, &[])]).unwrap().1,
            "where this kernel computes already; cuda:1 has 0.0 GiB in use"
        );
        let mut busy = device(0, 1, &[]);
        busy.utilization = Some(90);
        assert_eq!(chosen(&[busy, device(1, 1, &[])]).unwrap().0, "cuda:1");
        assert_eq!(chosen(&[device(0, 1, &[]), device(1, 1, &[])]).unwrap().0, "cuda:0");
    }

    #[test]
    fn devices_are_counted_as_cuda_counts_them() {
        let seen = Snapshot {
            machine: Machine::default(),
            driver: None,
            cuda: None,
            devices: vec![device(0, 0, &[]), device(1, 0, &[]), device(2, 0, &[])],
            missing: None,
        };
        let indices = |named| {
            visible(&seen, named)
                .iter()
                .map(|device| device.index)
                .collect::<Vec<_>>()
        };
        assert_eq!(indices(None), [0, 1, 2]);
        assert_eq!(indices(Some("2,0")), [2, 0]);
        assert_eq!(indices(Some("GPU-11, 0")), [1, 0]);
        assert_eq!(indices(Some("1,7,0")), [1]);
        assert!(indices(Some("")).is_empty());
    }
}
