//! A run as far as it has come.

use crate::chart::{Chart, Curve, Tone};
use lightcell_events::run::{Level, Metrics, RunEvent, Stage, Status};
use std::collections::BTreeMap;

/// So many points of a curve are drawn: more cannot be told apart.
const DRAWN: usize = 320;
const DRAWN_SMALL: usize = 60;
/// So many small charts stand below that of the losses.
const PANELS: usize = 3;
/// From so many step losses on they are drawn pale, with their smoothed course on top, which has at most so many points.
const SMOOTHED: usize = 60;
const DRAWN_SMOOTH: usize = 100;
/// The smoothed course is the mean over this part of the run so far, around each point.
const WINDOW: usize = 30;
/// So many step losses are kept; then every other one goes.
const KEPT: usize = 50_000;

/// A run, from its events.
#[derive(Debug, Clone, Default)]
pub struct RunRecord {
    pub(crate) model: String,
    pub(crate) device: String,
    pub(crate) parameters: u64,
    pub(crate) hparams: serde_json::Value,
    pub(crate) log_dir: Option<String>,
    /// The device's load now, in a line.
    pub(crate) load: Option<String>,
    pub(crate) first_epoch: u64,
    pub(crate) max_epochs: u64,
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) current: Option<Current>,
    pub(crate) notes: Vec<(Level, String)>,
    pub(crate) end: Option<End>,
    /// The optimizer's steps so far.
    step: u64,
    steps: Vec<(f64, f64)>,
    /// The name of the loss in them.
    step_name: String,
    /// Their smoothed course, of a run whose steps are thinned out already.
    smoothed: Vec<(f64, f64)>,
    /// Every so many step events one is kept.
    stride: usize,
    seen: usize,
}

/// A finished epoch.
#[derive(Debug, Clone)]
pub(crate) struct Epoch {
    pub epoch: u64,
    pub metrics: Metrics,
    pub seconds: f64,
}

/// Where the run is.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub stage: Stage,
    pub epoch: u64,
    pub batch: u64,
    pub batches: u64,
    pub metrics: Metrics,
    pub rate: f64,
}

/// How it ended.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub status: Status,
    pub epochs: u64,
    pub step: u64,
    pub seconds: f64,
}

impl RunRecord {
    /// Takes an event. Events of another kind than this version knows are passed over by the decoder before.
    pub fn apply(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Started {
                model,
                device,
                first_epoch,
                max_epochs,
                parameters,
                hparams,
                log_dir,
                ..
            } => {
                *self = RunRecord {
                    model: model.clone(),
                    device: device.clone(),
                    first_epoch: *first_epoch,
                    max_epochs: *max_epochs,
                    parameters: *parameters,
                    hparams: hparams.clone(),
                    log_dir: log_dir.clone(),
                    stride: 1,
                    ..RunRecord::default()
                };
            }
            RunEvent::Step {
                stage,
                epoch,
                batch,
                batches,
                step,
                metrics,
                rate,
                ..
            } => {
                self.step = *step;
                if *stage == Stage::Train
                    && let Some((name, loss)) = metrics.iter().find(|(name, _)| is_loss(name))
                {
                    if self.step_name != *name {
                        self.step_name.clone_from(name);
                    }
                    self.step_loss(*epoch as f64 + *batch as f64 / (*batches).max(1) as f64, *loss);
                }
                self.current = Some(Current {
                    stage: *stage,
                    epoch: *epoch,
                    batch: *batch,
                    batches: *batches,
                    metrics: metrics.clone(),
                    rate: *rate,
                });
            }
            RunEvent::Epoch {
                epoch,
                metrics,
                seconds,
                ..
            } => {
                self.epochs.push(Epoch {
                    epoch: *epoch,
                    metrics: metrics.clone(),
                    seconds: *seconds,
                });
            }
            RunEvent::Checkpoint { .. } => {}
            // Of a task, which has a record of its own.
            RunEvent::TaskStarted { .. } | RunEvent::Table { .. } | RunEvent::LrCurve { .. } => {}
            RunEvent::Note { level, text, .. } => self.notes.push((*level, text.clone())),
            RunEvent::Finished {
                status,
                epochs,
                step,
                seconds,
                ..
            } => {
                // Of a run whose process ended nobody says how far it was.
                self.end = Some(End {
                    status: *status,
                    epochs: (*epochs).max(self.epochs.len() as u64),
                    step: (*step).max(self.step),
                    seconds: *seconds,
                });
            }
        }
    }

    fn step_loss(&mut self, x: f64, loss: f64) {
        if self.seen.is_multiple_of(self.stride.max(1)) && loss.is_finite() {
            self.steps.push((x, loss));
        }
        self.seen += 1;
        if self.steps.len() > KEPT {
            let mut index = 0;
            self.steps.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride = self.stride.max(1) * 2;
        }
    }

    /// Keeps of the steps what is drawn: for a run that is over.
    pub fn compact(&mut self) {
        self.smoothed = self.smooth();
        self.steps = thin(&self.steps);
    }

    /// The losses of the steps without their noise; empty when they are few.
    fn smooth(&self) -> Vec<(f64, f64)> {
        match self.smoothed.is_empty() {
            true if self.steps.len() > SMOOTHED => smooth(&self.steps),
            _ => self.smoothed.clone(),
        }
    }

    /// The losses of the steps as they are drawn, in words: a line of blocks, the first and the last.
    pub(crate) fn sparkline(&self) -> Option<String> {
        let smooth = self.smooth();
        let points = if smooth.is_empty() { &self.steps } else { &smooth };
        let values: Vec<f64> = points.iter().map(|point| point.1).collect();
        let (first, last) = (values.first()?, values.last()?);
        let line = lightcell_events::figure::sparkline(&values);
        (values.len() > 1).then(|| format!("{} {first:.4} {line} {last:.4}", self.step_name))
    }

    /// The device on which it trains, `cpu` or `cuda:0`.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What the device's load is now, in a line; shown while the run goes on.
    pub fn set_load(&mut self, load: Option<String>) {
        self.load = load;
    }

    /// The folder of the run's logger, if it has one.
    pub fn log_dir(&self) -> Option<&str> {
        self.log_dir.as_deref()
    }

    /// The newest value of a metric.
    pub(crate) fn last(&self, name: &str) -> Option<f64> {
        self.epochs
            .iter()
            .rev()
            .find_map(|epoch| epoch.metrics.get(name))
            .copied()
    }

    /// Names of all metrics of finished epochs.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .epochs
            .iter()
            .flat_map(|epoch| epoch.metrics.keys())
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Index of the epoch with the lowest validation loss, else training loss.
    pub(crate) fn best(&self) -> Option<usize> {
        let name = self
            .names()
            .into_iter()
            .filter(|name| is_loss(name))
            .max_by_key(|name| name.starts_with("val"))?
            .to_owned();
        let value = |epoch: &Epoch| epoch.metrics.get(&name).copied().filter(|value| value.is_finite());
        (0..self.epochs.len())
            .filter(|i| value(&self.epochs[*i]).is_some())
            .min_by(|a, b| {
                let (a, b) = (value(&self.epochs[*a]), value(&self.epochs[*b]));
                a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal)
            })
    }

    /// The loss curves. A run that logs no loss shows what it logs.
    pub fn chart(&self) -> Chart {
        let mut names = self.names();
        let any_loss = names.iter().any(|name| is_loss(name)) || !self.steps.is_empty();
        let others: Vec<&str> = names.iter().copied().filter(|name| is_loss(name) != any_loss).collect();
        names.retain(|name| is_loss(name) == any_loss);
        let mut curves = Vec::new();
        if !self.steps.is_empty() {
            curves.push(Curve {
                name: String::new(),
                tone: Tone::Step,
                points: thin(&self.steps),
            });
        }
        let smooth = self.smooth();
        if !smooth.is_empty() && !names.contains(&self.step_name.as_str()) {
            curves.push(Curve {
                name: self.step_name.clone(),
                tone: Tone::Train,
                points: smooth.clone(),
            });
        }
        for name in &names {
            let tone = match name {
                name if name.starts_with("val") => Tone::Validation,
                name if is_loss(name) => Tone::Train,
                _ => Tone::Other,
            };
            // The means of the epochs, which the table has, would be the same line with corners.
            let points = match *name == self.step_name && !smooth.is_empty() {
                true => smooth.clone(),
                false => thin(&self.points(name)),
            };
            curves.push(Curve {
                name: (*name).to_owned(),
                tone,
                points,
            });
        }
        if names.is_empty()
            && smooth.is_empty()
            && let Some(first) = curves.first_mut()
        {
            // The first epoch is not over.
            first.name.clone_from(&self.step_name);
        }
        let mark = self.best().filter(|_| self.epochs.len() > 1).and_then(|index| {
            let epoch = &self.epochs[index];
            let (_, value) = epoch
                .metrics
                .iter()
                .filter(|(name, _)| is_loss(name))
                .max_by_key(|(name, _)| name.starts_with("val"))?;
            Some(((epoch.epoch + 1) as f64, *value))
        });
        Chart {
            x: "epoch".to_owned(),
            y: if any_loss { "loss" } else { "metric" }.to_owned(),
            curves,
            mark,
            panels: self.panels(&others),
            ..Chart::default()
        }
    }

    /// Small charts of what has another scale than the loss, training and validation of a metric in one; the first three,
    /// as the table has all.
    fn panels(&self, names: &[&str]) -> Vec<Chart> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in names {
            let plain = ["train_", "val_", "test_"]
                .iter()
                .find_map(|stage| name.strip_prefix(stage));
            groups.entry(plain.unwrap_or(name)).or_default().push(name);
        }
        let curve = |name: &&str| Curve {
            name: (*name).to_owned(),
            tone: match name {
                name if name.starts_with("val") => Tone::Validation,
                name if name.starts_with("train") => Tone::Train,
                _ => Tone::Other,
            },
            points: thin_to(&self.points(name), DRAWN_SMALL),
        };
        let panel = |names: Vec<&str>| Chart {
            curves: names.iter().map(curve).collect(),
            ..Chart::default()
        };
        // One value says nothing that the table does not say.
        let groups = groups.into_values().filter(|_| self.epochs.len() > 1);
        groups.take(PANELS).map(panel).collect()
    }

    /// A metric over the finished epochs.
    pub(crate) fn points(&self, name: &str) -> Vec<(f64, f64)> {
        self.epochs
            .iter()
            .filter_map(|epoch| Some(((epoch.epoch + 1) as f64, *epoch.metrics.get(name)?)))
            .collect()
    }

    /// The chart as SVG.
    pub fn svg(&self) -> String {
        self.chart().svg((640, 320))
    }

    /// The chart as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        self.chart().png((640, 320))
    }
}

pub(crate) fn is_loss(name: &str) -> bool {
    name.contains("loss")
}

/// At most [`DRAWN`] points: of each stretch the lowest and the highest, and the first and last of all, so that no spike
/// is lost.
pub(crate) fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    thin_to(points, DRAWN)
}

fn thin_to(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(most / 2 - 1);
    let mut thinned = vec![points[0]];
    for part in points.chunks(stretch) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        if let (Some(low), Some(high)) = (part.iter().min_by(by_value), part.iter().max_by(by_value)) {
            thinned.extend(if low.0 <= high.0 { [*low, *high] } else { [*high, *low] });
        }
    }
    thinned.push(points[points.len() - 1]);
    thinned
}

/// The course of noisy points: at each of at most [`DRAWN_SMOOTH`] places the mean of those around it.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sums = vec![0.0];
    for (_, y) in points {
        sums.push(sums[sums.len() - 1] + y);
    }
    let last = points.len() - 1;
    let half = (points.len() / WINDOW / 2).max(2);
    let places = DRAWN_SMOOTH.min(points.len());
    let at = |place: usize| {
        let index = place * last / (places - 1);
        // At the beginning as far to the one side as to the other, or a curve that falls would begin too low; at the end what is
        // there, or it would jump with each step.
        let reach = half.min(index);
        let (from, to) = (index - reach, (index + reach).min(last) + 1);
        (points[index].0, (sums[to] - sums[from]) / (to - from) as f64)
    };
    (0..places).map(at).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run of `done` epochs out of `all`, with validation.
    pub(crate) fn run(done: u64, all: u64) -> RunRecord {
        let mut record = RunRecord::default();
        record.apply(&RunEvent::Started {
            version: 1,
            run: "r".into(),
            model: "Mlp".into(),
            device: "cpu".into(),
            first_epoch: 0,
            max_epochs: all,
            train_batches: 10,
            val_batches: 2,
            parameters: 9_610,
            hparams: Default::default(),
            log_dir: None,
        });
        for epoch in 0..done {
            for batch in 1..=10 {
                let loss = 2.0 / (1.0 + epoch as f64 + batch as f64 / 10.0);
                record.apply(&RunEvent::Step {
                    run: "r".into(),
                    stage: Stage::Train,
                    epoch,
                    batch,
                    batches: 10,
                    step: epoch * 10 + batch,
                    metrics: [("train_loss".to_owned(), loss)].into(),
                    rate: 123.4,
                });
            }
            let loss = 2.0 / (2.0 + epoch as f64);
            let val = if epoch > 5 {
                0.4 + epoch as f64 * 0.01
            } else {
                loss * 1.1
            };
            let metrics = [("train_loss", loss), ("val_loss", val), ("val_acc", 1.0 - val / 3.0)]
                .map(|(n, v)| (n.to_owned(), v))
                .into();
            record.apply(&RunEvent::Epoch {
                run: "r".into(),
                epoch,
                step: epoch * 10 + 10,
                metrics,
                seconds: 0.5,
            });
        }
        record
    }

    #[test]
    fn thinning_keeps_ends_and_spikes() {
        let mut points: Vec<_> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        points[7_777].1 = 99.0;
        points[3_333].1 = -5.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= DRAWN + 2, "{}", thinned.len());
        assert_eq!((thinned[0], thinned[thinned.len() - 1]), (points[0], points[9_999]));
        assert!(thinned.contains(&points[7_777]) && thinned.contains(&points[3_333]));
        assert!(thinned.is_sorted_by_key(|(x, _)| *x));
    }

    #[test]
    fn the_best_epoch_is_the_one_with_the_lowest_validation_loss() {
        let record = run(10, 10);
        assert_eq!(record.best(), Some(5));
        assert_eq!(record.chart().mark.map(|(x, _)| x), Some(6.0));
    }

    #[test]
    fn many_steps_are_smoothed_over_their_pale_line() {
        let curves = |record: &RunRecord| {
            let curves = record.chart().curves.into_iter();
            curves
                .map(|curve| (curve.name, curve.tone, curve.points))
                .collect::<Vec<_>>()
        };
        // Few steps: their line, and the means of the epochs.
        let few = curves(&run(3, 3));
        assert_eq!((few[0].1, few[0].2.len()), (Tone::Step, 30));
        assert_eq!((few[1].1, few[1].2.len()), (Tone::Train, 3));
        let mut record = run(20, 20);
        for (at, point) in record.steps.iter_mut().enumerate() {
            point.1 = 1.0 - at as f64 / 1000.0 + if at % 2 == 0 { 0.3 } else { -0.3 };
        }
        let many = curves(&record);
        assert_eq!(
            many.iter().map(|curve| curve.1).collect::<Vec<_>>(),
            [Tone::Step, Tone::Train, Tone::Validation]
        );
        assert_eq!(
            (many[0].2.len(), many[1].0.as_str(), many[1].2.len()),
            (200, "train_loss", 100)
        );
        for (x, y) in &many[1].2[4..96] {
            let trend = 1.0 - (x * 10.0 - 1.0) / 1000.0;
            assert!((y - trend).abs() < 0.07, "{x} {y} {trend}");
        }
        // A run that is over keeps its course though its steps are thinned out; in the first epoch there are only steps.
        record.compact();
        assert_eq!(curves(&record)[1], many[1]);
        record.epochs.clear();
        assert_eq!(
            curves(&record).into_iter().map(|curve| curve.0).collect::<Vec<_>>(),
            ["", "train_loss"]
        );
    }

    #[test]
    fn other_metrics_stand_in_small_charts() {
        let mut record = run(3, 3);
        for epoch in &mut record.epochs {
            epoch.metrics.insert("train_acc".to_owned(), 0.5);
            epoch
                .metrics
                .insert("lr-Adam".to_owned(), 1e-3 / (epoch.epoch + 1) as f64);
        }
        let chart = record.chart();
        let names = |chart: &Chart| chart.curves.iter().map(|curve| curve.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&chart), ["", "train_loss", "val_loss"]);
        let panels: Vec<_> = chart.panels.iter().map(names).collect();
        assert_eq!(panels, [vec!["train_acc", "val_acc"], vec!["lr-Adam"]]);
        assert!(run(1, 3).chart().panels.is_empty());
    }

    #[test]
    fn a_long_run_stays_small() {
        let mut record = run(1, 10);
        for batch in 0..200_000u64 {
            let metrics = [("train_loss".to_owned(), 1.0)].into();
            record.apply(&RunEvent::Step {
                run: "r".into(),
                stage: Stage::Train,
                epoch: 1,
                batch,
                batches: 200_000,
                step: batch,
                metrics,
                rate: 1.0,
            });
        }
        assert!(record.steps.len() <= KEPT);
        assert!(record.svg().len() < 60_000, "{}", record.svg().len());
    }

    #[test]
    fn runs_without_loss_or_epochs_are_drawn_too() {
        assert!(RunRecord::default().svg().contains("epoch"));
        let mut record = run(0, 3);
        let metrics = [("reward".to_owned(), 1.0)].into();
        record.apply(&RunEvent::Epoch {
            run: "r".into(),
            epoch: 0,
            step: 1,
            metrics,
            seconds: 0.1,
        });
        assert!(record.svg().contains("reward"));
    }
}
