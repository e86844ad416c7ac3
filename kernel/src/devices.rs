//! `%gpu`: what is seen of the devices, a panel of them that stays, and which one a run is to take.

use crate::executor::Shared;
use crate::publish::{self, Parent, Publisher};
use crate::report::Report;
use lightcell_gpu::{DeviceInfo, Panel, Snapshot, Torch};
use lightcell_magics::{Call, nearest};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// From one sample of the load to the next.
const EVERY: Duration = Duration::from_secs(1);

/// A panel that somebody forgot goes on no longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

/// What may follow `%gpu`.
const ACTIONS: [&str; 3] = ["watch", "select", "free"];

/// Samples the load in a thread of its own, for as long as this is kept.
pub struct Sampler {
    /// Nothing is ever sent; the other end notices when it is gone.
    _kept: Sender<()>,
}

impl Sampler {
    /// Gives each sample to `each`, until that says `false`. `None` when there can be no thread.
    pub fn start(mut each: impl FnMut(&Panel) -> bool + Send + 'static) -> Option<Sampler> {
        let (kept, gone) = channel();
        let sample = move || {
            let mut panel = Panel::default();
            loop {
                panel.look();
                if !each(&panel) || gone.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(sample);
        thread.ok().map(|_| Sampler { _kept: kept })
    }
}

/// The panel that goes on, and the device that the user has chosen.
#[derive(Default)]
pub struct Devices {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watch: Option<Sampler>,
    selected: Option<String>,
}

impl Devices {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which device a run that begins is to take, and why if nobody has said so; `None` leaves it to the library.
    pub fn choose(&self) -> Option<(String, Option<String>)> {
        if let Some(selected) = self.lock().selected.clone() {
            return Some((selected, None));
        }
        if !torch().cuda_library {
            return None;
        }
        let seen = lightcell_gpu::snapshot(&ours());
        let choice = lightcell_gpu::least_used(&visible(&seen))?;
        let why = format!("training on {}, {}\n", choice.device, choice.reason);
        Some((choice.device, Some(why)))
    }

    fn watch(&self, publisher: &Publisher, parent: &Parent) {
        let (publisher, parent) = (publisher.clone(), parent.clone());
        let id = format!("lightcell-gpu-{}", parent.header.msg_id);
        let begun = Instant::now();
        let mut first = true;
        // The panel's first sample comes at once, but maybe after the cell's idle: front ends take it by its parent.
        let watch = Sampler::start(move |panel| {
            let media = publish::text_html(panel.text(), panel.html());
            match std::mem::take(&mut first) {
                true => publisher.display(media, Some(&id), Some(&parent)),
                false => publisher.update(media, &id, Some(&parent)),
            }
            begun.elapsed() < LONGEST
        });
        // One panel at a time: another ends here.
        self.lock().watch = watch;
    }

    fn select(&self, device: &str) -> Result<String, (String, String)> {
        let hint = "%gpu select cuda:1, 1, cpu, or auto for the least used one";
        let device = match device {
            "" => {
                let selected = self.lock().selected.clone();
                return Ok(format!("%fit takes {}\n", selected.as_deref().unwrap_or("auto")));
            }
            "auto" | "cpu" => device.to_owned(),
            other => match other.strip_prefix("cuda:").unwrap_or(other).parse::<usize>() {
                Ok(index) => format!("cuda:{index}"),
                Err(_) => return Err((format!("`{other}` is no device"), hint.to_owned())),
            },
        };
        if let Some(index) = device
            .strip_prefix("cuda:")
            .and_then(|index| index.parse::<usize>().ok())
        {
            let seen = lightcell_gpu::snapshot(&[]);
            let count = visible(&seen).len();
            if index >= count {
                let there = match count {
                    0 => "no CUDA device is seen".to_owned(),
                    1 => "there is cuda:0 only".to_owned(),
                    count => format!("there are cuda:0 to cuda:{}", count - 1),
                };
                return Err((format!("there is no {device}"), format!("{there}; %gpu shows more")));
            }
            if let Some(link) = torch().missing(seen.cuda.as_deref()) {
                return Err((format!("libtorch cannot use {device}"), link.to_string()));
            }
        }
        let said = match device.as_str() {
            "auto" => "%fit takes the least used device from now on\n".to_owned(),
            device => format!("%fit takes {device} from now on, unless it says --accelerator\n"),
        };
        self.lock().selected = (device != "auto").then_some(device);
        Ok(said)
    }
}

/// Answers `%gpu`, but not `%gpu free`, which is Rust that runs in its turn.
pub fn answer(call: &Call, shared: &Arc<Shared>, parent: &Parent) -> Result<(), Report> {
    let mut words = call.rest.1.split_whitespace();
    let action = words.next().unwrap_or_default();
    let rest = words.collect::<Vec<_>>().join(" ");
    let say = |text: &str| shared.publisher.stream(false, text, Some(parent));
    match (action, rest.as_str()) {
        ("", _) => show(call.switch("--json"), shared, parent),
        ("watch", "") => shared.devices.watch(&shared.publisher, parent),
        ("watch", "stop") => {
            let was = shared.devices.lock().watch.take();
            say(match was {
                Some(_) => "the panel stands still\n",
                None => "no panel goes on; %gpu watch shows one\n",
            });
        }
        ("select", device) => match shared.devices.select(device) {
            Ok(said) => say(&said),
            Err((message, hint)) => return Err(wrong(&message, &hint)),
        },
        _ => {
            let hint = match nearest(action, ACTIONS) {
                Some(close) if close != action => format!("did you mean %gpu {close}?"),
                _ => call.magic().usage.to_owned(),
            };
            return Err(wrong(&format!("%gpu has no action `{}`", call.rest.1.trim()), &hint));
        }
    }
    Ok(())
}

fn wrong(message: &str, hint: &str) -> Report {
    Report::plain("MagicError", message, Some(hint))
}

fn show(json: bool, shared: &Arc<Shared>, parent: &Parent) {
    let (seen, torch) = (lightcell_gpu::snapshot(&ours()), torch());
    let media = match json {
        true => publish::text(lightcell_gpu::to_json(&seen, &torch)),
        false => publish::text_html(
            lightcell_gpu::to_text(&seen, &torch),
            lightcell_gpu::to_html(&seen, &torch),
        ),
    };
    shared.publisher.display(media, None, Some(parent));
}

/// The devices that libtorch is going to see, in its order.
fn visible(seen: &Snapshot) -> Vec<&DeviceInfo> {
    lightcell_gpu::visible(seen, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
}

/// This kernel's processes.
fn ours() -> Vec<u32> {
    crate::now::descendants(std::process::id() as i32, |_| false)
        .into_iter()
        .filter_map(|pid| pid.try_into().ok())
        .collect()
}

static LOAD_ERROR: Mutex<Option<String>> = Mutex::new(None);

/// The worker could not load a library that it was told to.
pub fn preload_failed(problem: &str) {
    if problem.contains("cuda") {
        *LOAD_ERROR.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.to_owned());
    }
}

/// What is known of libtorch, without loading it.
fn torch() -> Torch {
    let Ok(home) = crate::home::Home::open() else {
        return Torch::default();
    };
    let libtorch = home.setup.libtorch;
    // The wheels of 2.13 are built for CUDA 13.0; the folder of its libraries is named after it.
    let cuda = libtorch
        .path
        .parent()
        .map(|folder| folder.join("nvidia/cu13").is_dir())
        .unwrap_or(false)
        .then(|| "13.0".to_owned());
    Torch {
        version: libtorch.version,
        cuda_library: libtorch.path.join("lib/libtorch_cuda.so").exists(),
        cuda,
        load_error: LOAD_ERROR.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}
