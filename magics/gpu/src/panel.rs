//! The load of a machine over the last minute, for a panel that stays and for the line of a run.

use crate::view::gib;
use crate::{DeviceInfo, Snapshot};
use lightcell_events::escape;
use std::collections::VecDeque;
use std::fmt::Write;

/// So many samples are kept: a minute of them, one a second.
const KEPT: usize = 60;

/// Samples of a machine, taken about once a second by whoever holds it.
///
/// ```
/// let mut panel = lightcell_gpu::Panel::default();
/// panel.look();
/// assert!(panel.text().contains("memory") && panel.line("cpu").is_some());
/// ```
#[derive(Debug, Default)]
pub struct Panel {
    host: String,
    /// Oldest first.
    samples: VecDeque<Sample>,
    /// Ticks of all processors at the last sample: at work, and all.
    ticks: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Default)]
struct Sample {
    /// Share of all processors at work; `None` at the first look.
    cpu: Option<f64>,
    memory_used: Option<u64>,
    memory_total: Option<u64>,
    devices: Vec<DeviceInfo>,
}

/// One line of the panel.
struct Row {
    name: String,
    /// Shares from 0 to 1 of each sample.
    load: Vec<Option<f64>>,
    memory: Vec<Option<f64>>,
    /// What is now.
    use_now: String,
    memory_now: String,
    more: String,
}

impl Panel {
    /// Takes a sample.
    pub fn look(&mut self) {
        let seen = crate::snapshot(&[]);
        let ticks = std::fs::read_to_string("/proc/stat").ok().and_then(|text| ticks(&text));
        self.take(seen, ticks);
    }

    fn take(&mut self, seen: Snapshot, ticks: Option<(u64, u64)>) {
        let cpu = self.ticks.zip(ticks).and_then(|((busy, all), (busy_now, all_now))| {
            let all = all_now.checked_sub(all).filter(|all| *all > 0)?;
            Some((busy_now.saturating_sub(busy) as f64 / all as f64).min(1.0))
        });
        self.ticks = ticks;
        self.host = seen.machine.host;
        let (total, free) = (seen.machine.memory_total, seen.machine.memory_available);
        self.samples.push_back(Sample {
            cpu,
            memory_used: total.zip(free).map(|(total, free)| total.saturating_sub(free)),
            memory_total: total,
            devices: seen.devices,
        });
        if self.samples.len() > KEPT {
            self.samples.pop_front();
        }
    }

    fn rows(&self) -> Vec<Row> {
        let Some(now) = self.samples.back() else {
            return Vec::new();
        };
        let over = |value: &dyn Fn(&Sample) -> Option<f64>| self.samples.iter().map(value).collect::<Vec<_>>();
        let mut rows: Vec<Row> = now
            .devices
            .iter()
            .map(|device| {
                let of = |sample: &Sample| sample.devices.iter().find(|other| other.index == device.index).cloned();
                Row {
                    name: format!("cuda:{} {}", device.index, device.name),
                    load: over(&|sample| Some(f64::from(of(sample)?.utilization?) / 100.0)),
                    memory: over(&|sample| {
                        let device = of(sample)?;
                        share(device.memory_used, device.memory_total)
                    }),
                    use_now: percent(device.utilization.map(|percent| f64::from(percent) / 100.0)),
                    memory_now: of_all(device.memory_used, device.memory_total),
                    more: [crate::view::power(device), crate::view::temperature(device)]
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>()
                        .join(" · "),
                }
            })
            .collect();
        rows.push(Row {
            name: "CPU".to_owned(),
            load: over(&|sample| sample.cpu),
            memory: over(&|sample| share(sample.memory_used, sample.memory_total)),
            use_now: percent(now.cpu),
            memory_now: of_all(now.memory_used, now.memory_total),
            more: String::new(),
        });
        rows
    }

    fn title(&self) -> String {
        format!("{} · the last {} s", self.host, self.samples.len())
    }

    /// In words, with bars of text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.title());
        for row in self.rows() {
            let _ = write!(text, "{}\n  use    {} {}\n", row.name, bars(&row.load), row.use_now);
            let _ = writeln!(text, "  memory {} {}", bars(&row.memory), row.memory_now);
            if !row.more.is_empty() {
                let _ = writeln!(text, "  {}", row.more);
            }
        }
        text
    }

    /// The same as HTML, colours of the page, no script.
    pub fn html(&self) -> String {
        let mut html = format!(
            "<div style=\"font-size:13px;line-height:1.5\"><div><b>{}</b></div>\
             <table style=\"border-collapse:collapse;font-variant-numeric:tabular-nums\">",
            escape(&self.title())
        );
        for row in self.rows() {
            html.push_str("<tr>");
            let cell = |html: &mut String, content: &str| {
                let style = "text-align:left;padding:1px 12px 1px 0;background:none;white-space:nowrap";
                let _ = write!(html, "<td style=\"{style}\">{content}</td>");
            };
            cell(&mut html, &escape(&row.name));
            cell(
                &mut html,
                &format!("use {} {}", line(&row.load, &row.use_now), escape(&row.use_now)),
            );
            cell(
                &mut html,
                &format!(
                    "memory {} {}",
                    line(&row.memory, &row.memory_now),
                    escape(&row.memory_now)
                ),
            );
            cell(&mut html, &escape(&row.more));
            html.push_str("</tr>");
        }
        html + "</table></div>"
    }

    /// What is now on the device of a run, `cuda:0` or `cpu`, in a line. `None` before the first sample, or of a device
    /// that is not seen.
    pub fn line(&self, device: &str) -> Option<String> {
        let now = self.samples.back()?;
        if device == "cpu" {
            let mut parts = vec![format!("memory {}", of_all(now.memory_used, now.memory_total))];
            parts.splice(0..0, now.cpu.map(|cpu| format!("CPU {}", percent(Some(cpu)))));
            return Some(parts.join(" · "));
        }
        let index: u32 = device.strip_prefix("cuda:")?.parse().ok()?;
        let device = now.devices.iter().find(|device| device.index == index)?;
        let parts = [
            device.utilization.map(|percent| format!("{percent} %")),
            Some(format!("memory {}", of_all(device.memory_used, device.memory_total))),
            crate::view::power(device),
            crate::view::temperature(device),
        ];
        Some(format!(
            "cuda:{index} {}",
            parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
        ))
    }
}

/// Busy ticks and all ticks, from the first line of /proc/stat.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guests are counted within user.
    let fields: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let all: u64 = fields.iter().sum();
    Some((all - fields.get(3)? - fields.get(4)?, all))
}

fn share(part: Option<u64>, all: Option<u64>) -> Option<f64> {
    let all = all.filter(|all| *all > 0)?;
    Some(part? as f64 / all as f64)
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

fn of_all(part: Option<u64>, all: Option<u64>) -> String {
    match (part, all) {
        (Some(part), Some(all)) => format!("{} / {}", gib(part), gib(all)),
        _ => "-".to_owned(),
    }
}

/// Shares as bars of text.
fn bars(shares: &[Option<f64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |share: &Option<f64>| match share {
        Some(share) => BARS[((share.clamp(0.0, 1.0) * 8.0) as usize).min(7)],
        None => ' ',
    };
    shares.iter().map(bar).collect()
}

/// Shares as a small curve on nothing.
fn line(shares: &[Option<f64>], label: &str) -> String {
    const WIDTH: f64 = 120.0;
    const HEIGHT: f64 = 18.0;
    let mut points = String::new();
    let first = KEPT - shares.len().min(KEPT);
    for (index, share) in shares.iter().enumerate() {
        if let Some(share) = share {
            let x = (first + index) as f64 / (KEPT - 1) as f64 * WIDTH;
            let y = HEIGHT - 1.0 - share.clamp(0.0, 1.0) * (HEIGHT - 2.0);
            let _ = write!(points, "{x:.0},{y:.1} ");
        }
    }
    format!(
        "<svg role=\"img\" aria-label=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" style=\"vertical-align:middle\">\
         <path d=\"M0 {HEIGHT}H{WIDTH}\" stroke=\"#888\" stroke-opacity=\".4\"/>\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#3480ce\" stroke-width=\"1.5\"/></svg>",
        escape(label),
        points.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Machine;

    fn seen(load: u32) -> Snapshot {
        let device = DeviceInfo {
            index: 0,
            name: "Big <1>".into(),
            memory_used: Some(20 << 30),
            memory_total: Some(80 << 30),
            utilization: Some(load),
            power: Some(351.2),
            power_limit: Some(700.0),
            temperature: Some(41),
            ..DeviceInfo::default()
        };
        Snapshot {
            machine: Machine {
                host: "box".into(),
                memory_total: Some(24 << 30),
                memory_available: Some(18 << 30),
                ..Machine::default()
            },
            driver: None,
            cuda: None,
            devices: vec![device],
            missing: None,
        }
    }

    #[test]
    fn a_minute_is_kept_and_drawn() {
        let mut panel = Panel::default();
        assert_eq!(panel.line("cpu"), None);
        panel.take(seen(0), Some((0, 0)));
        panel.take(seen(50), Some((50, 200)));
        panel.take(seen(100), Some((250, 400)));
        assert_eq!(
            panel.text(),
            "box · the last 3 s\n\
             cuda:0 Big <1>\n  use    ▁▅█ 100 %\n  memory ▃▃▃ 20 GiB / 80 GiB\n  351 / 700 W · 41 °C\n\
             CPU\n  use     ▃█ 100 %\n  memory ▃▃▃ 6.0 GiB / 24 GiB\n"
        );
        let html = panel.html();
        assert!(
            html.contains("Big &lt;1&gt;") && html.matches("<polyline").count() == 4,
            "{html}"
        );
        assert!(html.contains("points=\"116,17.0 118,9.0 120,1.0\""), "{html}");
        assert_eq!(
            panel.line("cuda:0").as_deref(),
            Some("cuda:0 100 % · memory 20 GiB / 80 GiB · 351 / 700 W · 41 °C")
        );
        assert_eq!(
            panel.line("cpu").as_deref(),
            Some("CPU 100 % · memory 6.0 GiB / 24 GiB")
        );
        assert_eq!(panel.line("cuda:7"), None);
        for _ in 0..100 {
            panel.take(seen(1), None);
        }
        assert_eq!(panel.samples.len(), KEPT);
        assert!(panel.html().len() < 6_000, "{}", panel.html().len());
    }

    #[test]
    fn ticks_are_read_from_the_first_line() {
        let text = "cpu  10 1 5 80 4 0 1 0 7 7\ncpu0 1 2 3\n";
        assert_eq!(ticks(text), Some((17, 101)));
        assert_eq!(ticks("intr 5"), None);
    }
}
