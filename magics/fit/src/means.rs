//! Means of what steps log, read from the device as seldom as possible, and metrics, computed once.

use crate::error::Result;
use crate::metrics::Metric;
use crate::module::{Step, Value};
use lightcell_events::run::Metrics;
use std::collections::BTreeMap;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// Means of logged values, weighted by the size of their batches.
#[derive(Debug)]
pub(crate) struct Means {
    sums: BTreeMap<String, (f64, f64)>,
    /// Logged and not yet read: reading waits for the device.
    pending: Vec<(String, Value, i64)>,
    newest: Metrics,
    metrics: BTreeMap<String, Rc<dyn Metric>>,
    /// States of metrics in earlier batches, for those that are not yet logged.
    earlier: States,
    /// On the CPU reading costs nothing, so nothing is kept back.
    at_once: bool,
}

/// States of metrics, each tensor with its shape.
pub(crate) type States = BTreeMap<String, Vec<(Vec<i64>, Vec<f64>)>>;

impl Drop for Means {
    /// A metric begins anew with each epoch, also after one that was cut or failed.
    fn drop(&mut self) {
        self.metrics.values().for_each(|metric| metric.reset());
    }
}

impl Means {
    pub fn new(device: Device) -> Means {
        Means {
            sums: BTreeMap::new(),
            pending: Vec::new(),
            newest: Metrics::new(),
            metrics: BTreeMap::new(),
            earlier: States::new(),
            at_once: device == Device::Cpu,
        }
    }

    /// Goes on with sums and metrics of earlier batches.
    pub fn with(device: Device, sums: BTreeMap<String, (f64, f64)>, earlier: States) -> Means {
        let mut means = Means::new(device);
        (means.sums, means.earlier) = (sums, earlier);
        means
    }

    /// The states of the metrics.
    ///
    /// # Errors
    /// When the device failed.
    pub fn states(&self) -> Result<States> {
        let number = |tensor: Tensor| {
            let flat = tensor
                .f_to_device(Device::Cpu)?
                .f_to_kind(Kind::Double)?
                .f_reshape([-1])?;
            Ok((tensor.size(), Vec::try_from(&flat)?))
        };
        let state = |metric: &Rc<dyn Metric>| metric.state().into_iter().map(number).collect::<Result<_>>();
        let mut states = self.earlier.clone();
        for (name, metric) in &self.metrics {
            states.insert(name.clone(), state(metric)?);
        }
        Ok(states)
    }

    /// Keeps a metric that was logged; what it had seen in earlier batches is added to it.
    fn keep(&mut self, name: String, metric: Rc<dyn Metric>) -> Result<()> {
        if let Some(earlier) = self.earlier.remove(&name) {
            let tensor = |(size, numbers): (Vec<i64>, Vec<f64>)| Ok(Tensor::from_slice(&numbers).f_view(&*size)?);
            let earlier = earlier.into_iter().map(tensor).collect::<Result<Vec<_>>>()?;
            metric
                .merge_state(&earlier)
                .map_err(|error| error.at(&format!("`{name}`")))?;
        }
        self.metrics.insert(name, metric);
        Ok(())
    }

    /// Sums and weights of what was read.
    pub fn sums(&self) -> &BTreeMap<String, (f64, f64)> {
        &self.sums
    }

    /// Takes what a step logged.
    ///
    /// # Errors
    /// When a metric of this name had other settings before the run was cut.
    pub fn take(&mut self, cx: &mut Step, len: i64) -> Result<()> {
        for (name, value) in cx.logged.drain(..) {
            match value {
                Value::Tensor(_) if !self.at_once => self.pending.push((name, value, len)),
                Value::Metric(metric) => self.keep(name, metric)?,
                value => self.add(name, value.read(), len),
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, value: f64, len: i64) {
        match self.sums.get_mut(&name) {
            Some((sum, weight)) => {
                *sum += value * len as f64;
                *weight += len as f64;
            }
            None => {
                self.sums.insert(name.clone(), (value * len as f64, len as f64));
            }
        }
        self.newest.insert(name, value);
    }

    /// Reads what is pending, in one copy.
    ///
    /// # Errors
    /// When the device failed.
    pub fn read(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let tensors: Vec<&Tensor> = pending
            .iter()
            .filter_map(|(_, value, _)| {
                if let Value::Tensor(tensor) = value {
                    Some(tensor)
                } else {
                    None
                }
            })
            .collect();
        let values = read_all(&tensors)?;
        for ((name, _, len), value) in pending.into_iter().zip(values) {
            self.add(name, value, len);
        }
        Ok(())
    }

    /// The newest values that were read. JSON knows no NaN: such values are left out.
    pub fn newest(&self) -> Metrics {
        self.newest
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(name, value)| (name.clone(), *value))
            .collect()
    }

    /// The means, and the values of the metrics.
    ///
    /// # Errors
    /// When the device failed, or a metric cannot be computed.
    pub fn means(&mut self) -> Result<Metrics> {
        self.read()?;
        let mut means: Metrics = self
            .sums
            .iter()
            .map(|(name, (sum, weight))| (name.clone(), sum / weight))
            .collect();
        for (name, metric) in &self.metrics {
            let value = metric.compute().map_err(|error| error.at(&format!("`{name}`")))?;
            means.insert(name.clone(), value);
        }
        Ok(means)
    }
}

/// The values of tensors with one element each, read in one copy.
///
/// # Errors
/// When the device failed.
pub(crate) fn read_all(tensors: &[impl AsRef<Tensor>]) -> Result<Vec<f64>> {
    let Some(first) = tensors.first() else {
        return Ok(Vec::new());
    };
    let device = first.as_ref().device();
    let mut flat = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        flat.push(
            tensor
                .as_ref()
                .f_to_device(device)?
                .f_to_kind(Kind::Double)?
                .f_reshape([1])?,
        );
    }
    let all = Tensor::f_cat(&flat, 0)?.f_to_device(Device::Cpu)?;
    Ok(Vec::try_from(&all)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lightcell_events::run::Stage;

    /// As if values came from a device with a queue.
    fn means(device: Device) -> Means {
        let mut means = Means::new(device);
        for (batch, (value, len)) in [(1.0, 3), (5.0, 1)].into_iter().enumerate() {
            let mut cx = Step::new(Stage::Train, 0, batch as u64, batch as u64);
            cx.logged.push(("a".to_owned(), Value::Tensor(Tensor::from(value))));
            cx.log("b", &(value * 2.0));
            let c = Tensor::from_slice(&[batch as i64]);
            cx.logged.push(("c".to_owned(), Value::Tensor(c)));
            means.take(&mut cx, len).unwrap();
        }
        means
    }

    #[test]
    fn they_are_weighted_by_batch_size_and_read_late_or_at_once() {
        let expected: Metrics = [("a".to_owned(), 2.0), ("b".to_owned(), 4.0), ("c".to_owned(), 0.25)].into();
        let mut cpu = means(Device::Cpu);
        assert_eq!(cpu.newest()["a"], 5.0);
        assert_eq!(cpu.means().unwrap(), expected);
        let mut queue = means(Device::Cuda(0));
        assert_eq!(queue.newest().keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(queue.pending.len(), 4);
        assert_eq!(queue.means().unwrap(), expected);
        assert_eq!(queue.newest()["a"], 5.0);
    }

    #[test]
    fn what_is_no_number_is_not_sent() {
        let mut means = Means::new(Device::Cpu);
        let mut cx = Step::new(Stage::Train, 0, 0, 0);
        cx.log("nan", &f64::NAN);
        cx.log("one", &1);
        means.take(&mut cx, 1).unwrap();
        assert_eq!(means.newest(), [("one".to_owned(), 1.0)].into());
    }
}
