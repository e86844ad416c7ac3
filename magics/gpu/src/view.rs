//! A snapshot in words, as HTML and as JSON.

use crate::{DeviceInfo, Snapshot, Torch};
use lightcell_events::escape;
use std::fmt::Write;

const HEAD: [&str; 6] = ["device", "name", "memory", "use", "power", "temp"];

/// In words: a table of devices, their processes, the machine, and what `%fit` will use.
pub fn to_text(seen: &Snapshot, torch: &Torch) -> String {
    let mut text = format!("{}\n", title(seen, torch));
    if !seen.devices.is_empty() {
        let mut rows: Vec<[String; 6]> = vec![HEAD.map(str::to_owned)];
        rows.extend(seen.devices.iter().map(row));
        let widths: Vec<usize> = (0..6)
            .map(|c| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &rows {
            let cells: Vec<_> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        for (device, line) in processes(seen) {
            let _ = writeln!(text, "  cuda:{device}  {line}");
        }
    }
    let _ = writeln!(text, "{}", machine(seen));
    let _ = writeln!(text, "{}", verdict(seen, torch));
    text
}

/// The same as HTML: one table, the page's own colours, no script.
pub fn to_html(seen: &Snapshot, torch: &Torch) -> String {
    let mut html = format!(
        "<div style=\"font-size:13px;line-height:1.5\"><div><b>{}</b></div>",
        escape(&title(seen, torch))
    );
    if !seen.devices.is_empty() {
        html.push_str("<table style=\"border-collapse:collapse;font-variant-numeric:tabular-nums\"><tr>");
        for name in HEAD {
            let _ = write!(
                html,
                "<th style=\"text-align:left;padding:1px 12px 1px 0;background:none\">{name}</th>"
            );
        }
        html.push_str("</tr>");
        for device in &seen.devices {
            html.push_str("<tr>");
            for cell in row(device) {
                let _ = write!(
                    html,
                    "<td style=\"text-align:left;padding:1px 12px 1px 0;background:none\">{}</td>",
                    escape(&cell)
                );
            }
            html.push_str("</tr>");
        }
        html.push_str("</table>");
        for (device, line) in processes(seen) {
            let _ = write!(html, "<div>cuda:{device} · {}</div>", escape(&line));
        }
    }
    let _ = write!(html, "<div>{}</div>", escape(&machine(seen)));
    let _ = write!(
        html,
        "<div>{}</div></div>",
        escape(&verdict(seen, torch)).replace('\n', "<br>")
    );
    html
}

/// As JSON, for programs.
pub fn to_json(seen: &Snapshot, torch: &Torch) -> String {
    let value = serde_json::json!({
        "snapshot": seen,
        "libtorch": torch,
        "missing": seen.missing.clone().or_else(|| torch.missing(seen.cuda.as_deref())),
        "fit_device": fit_device(seen, torch),
    });
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

fn title(seen: &Snapshot, torch: &Torch) -> String {
    let mut parts = vec![seen.machine.host.clone()];
    parts.extend(seen.driver.as_ref().map(|driver| format!("driver {driver}")));
    parts.extend(seen.cuda.as_ref().map(|cuda| format!("CUDA {cuda}")));
    if !torch.version.is_empty() {
        parts.push(format!(
            "libtorch {} ({})",
            torch.version,
            if torch.cuda_library { "CUDA" } else { "CPU" }
        ));
    }
    parts.join(" · ")
}

fn row(device: &DeviceInfo) -> [String; 6] {
    let memory = match (device.memory_used, device.memory_total) {
        (Some(used), Some(total)) => format!("{} / {}", gib(used), gib(total)),
        _ => "-".to_owned(),
    };
    [
        format!("cuda:{}", device.index),
        device.name.clone(),
        memory,
        device
            .utilization
            .map_or("-".to_owned(), |percent| format!("{percent} %")),
        power(device).unwrap_or_else(|| "-".to_owned()),
        temperature(device).unwrap_or_else(|| "-".to_owned()),
    ]
}

pub(crate) fn power(device: &DeviceInfo) -> Option<String> {
    let power = device.power?;
    Some(match device.power_limit {
        Some(limit) => format!("{power:.0} / {limit:.0} W"),
        None => format!("{power:.0} W"),
    })
}

pub(crate) fn temperature(device: &DeviceInfo) -> Option<String> {
    device.temperature.map(|degrees| format!("{degrees} °C"))
}

fn processes(seen: &Snapshot) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    for device in &seen.devices {
        for process in &device.processes {
            let mut line = format!("pid {}", process.pid);
            if let Some(name) = &process.name {
                let _ = write!(line, " {name}");
            }
            if let Some(user) = &process.user {
                let _ = write!(line, " of {user}");
            }
            if let Some(memory) = process.memory {
                let _ = write!(line, ", {}", gib(memory));
            }
            if process.ours {
                line.push_str(" (this kernel)");
            }
            lines.push((device.index, line));
        }
    }
    lines
}

fn machine(seen: &Snapshot) -> String {
    let machine = &seen.machine;
    let mut line = format!("CPU: {}, {} cores", machine.cpu, machine.cores);
    if let Some(load) = machine.load {
        let _ = write!(line, ", load {load:.1}");
    }
    if let (Some(available), Some(total)) = (machine.memory_available, machine.memory_total) {
        let _ = write!(line, " · memory: {} free of {}", gib(available), gib(total));
    }
    line
}

/// `cuda:0` or `cpu`.
fn fit_device(seen: &Snapshot, torch: &Torch) -> &'static str {
    if seen.devices.is_empty() || torch.missing(seen.cuda.as_deref()).is_some() {
        "cpu"
    } else {
        "cuda:0"
    }
}

fn verdict(seen: &Snapshot, torch: &Torch) -> String {
    match seen.missing.clone().or_else(|| torch.missing(seen.cuda.as_deref())) {
        Some(link) => format!("%fit will use: cpu ({} cores): {link}", seen.machine.cores),
        None => format!(
            "%fit will use: cuda:0 ({})",
            seen.devices
                .first()
                .map(|device| device.name.as_str())
                .unwrap_or_default()
        ),
    }
}

pub(crate) fn gib(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib >= 10.0 {
        format!("{gib:.0} GiB")
    } else {
        format!("{gib:.1} GiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Machine, MissingLink, ProcessInfo};

    fn machine() -> Machine {
        Machine {
            host: "box".into(),
            cpu: "X <1>".into(),
            cores: 2,
            load: Some(0.5),
            memory_total: Some(24 << 30),
            memory_available: Some(20 << 30),
        }
    }

    fn two() -> Snapshot {
        let first = DeviceInfo {
            index: 0,
            name: "Big".into(),
            memory_used: Some(1 << 30),
            memory_total: Some(80 << 30),
            utilization: Some(37),
            power: Some(101.4),
            power_limit: Some(700.0),
            temperature: Some(41),
            processes: vec![ProcessInfo {
                pid: 7,
                user: Some("ann".into()),
                name: Some("worker".into()),
                memory: Some(1 << 30),
                ours: true,
            }],
            ..DeviceInfo::default()
        };
        let second = DeviceInfo {
            index: 1,
            name: "Small".into(),
            ..DeviceInfo::default()
        };
        Snapshot {
            machine: machine(),
            driver: Some("580.1".into()),
            cuda: Some("13.0".into()),
            devices: vec![first, second],
            missing: None,
        }
    }

    fn torch() -> Torch {
        Torch {
            version: "2.13.0".into(),
            cuda_library: true,
            cuda: Some("13.0".into()),
            load_error: None,
        }
    }

    #[test]
    fn two_devices_in_words() {
        assert_eq!(
            to_text(&two(), &torch()),
            "box · driver 580.1 · CUDA 13.0 · libtorch 2.13.0 (CUDA)\n\
             device  name   memory            use   power        temp\n\
             cuda:0  Big    1.0 GiB / 80 GiB  37 %  101 / 700 W  41 °C\n\
             cuda:1  Small  -                 -     -            -\n  \
             cuda:0  pid 7 worker of ann, 1.0 GiB (this kernel)\n\
             CPU: X <1>, 2 cores, load 0.5 · memory: 20 GiB free of 24 GiB\n\
             %fit will use: cuda:0 (Big)\n"
        );
    }

    #[test]
    fn without_a_device_it_says_why_and_shows_the_cpu() {
        let seen = Snapshot {
            machine: machine(),
            driver: None,
            cuda: None,
            devices: Vec::new(),
            missing: Some(MissingLink::NoDevice),
        };
        let torch = Torch {
            cuda_library: false,
            ..torch()
        };
        let text = to_text(&seen, &torch);
        assert!(
            text.ends_with("%fit will use: cpu (2 cores): this machine has no NVIDIA device\n"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&to_json(&seen, &torch)).unwrap();
        assert_eq!(
            (json["fit_device"].as_str(), json["missing"]["link"].as_str()),
            (Some("cpu"), Some("no_device"))
        );
    }

    #[test]
    fn a_libtorch_without_cuda_is_named() {
        let text = to_text(
            &two(),
            &Torch {
                cuda_library: false,
                ..torch()
            },
        );
        assert!(
            text.contains("%fit will use: cpu (2 cores): libtorch is the build for the CPU, without CUDA\nhint: "),
            "{text}"
        );
    }

    #[test]
    fn html_is_escaped() {
        let html = to_html(&two(), &torch());
        assert!(
            html.contains("X &lt;1&gt;") && !html.contains("<1>") && html.contains("(this kernel)"),
            "{html}"
        );
    }
}
