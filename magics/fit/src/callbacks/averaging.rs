//! Sums of weights over time: what the callbacks that average weights share.

use crate::error::Result;
use tch::{Device, Tensor};

/// An average of named tensors.
#[derive(Debug, Default)]
pub(super) struct Average {
    /// Empty before the first.
    pub tensors: Vec<(String, Tensor)>,
    /// Of how many it is the average.
    pub count: u64,
}

impl Average {
    /// Takes the newest values: the first are copied, onto a device if one is named; with later ones `average` says what
    /// becomes of the old value, given the new one.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn update(
        &mut self,
        values: Vec<(String, Tensor)>,
        device: Option<Device>,
        average: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        let _guard = tch::no_grad_guard();
        if self.count == 0 {
            let copy = |(name, tensor): (String, Tensor)| -> Result<(String, Tensor)> {
                let on = tensor.detach().f_to_device(device.unwrap_or(tensor.device()))?;
                Ok((name, on.copy()))
            };
            self.tensors = values.into_iter().map(copy).collect::<Result<_>>()?;
        } else {
            for ((_, old), (_, new)) in self.tensors.iter_mut().zip(values) {
                let new = new.detach().f_to_device(old.device())?;
                let value = average(old, &new)?;
                old.f_copy_(&value)?;
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Puts the average into the places of the same names.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn copy_to(&self, places: Vec<(String, Tensor)>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for ((_, average), (_, mut place)) in self.tensors.iter().zip(places) {
            place.f_copy_(average)?;
        }
        Ok(())
    }

    /// Changes places with the values of the same names.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn swap(&mut self, places: Vec<(String, Tensor)>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for ((_, average), (_, mut place)) in self.tensors.iter_mut().zip(places) {
            let kept = place.copy();
            place.f_copy_(average)?;
            average.f_copy_(&kept)?;
        }
        Ok(())
    }

    /// The tensors, which share their memory with these.
    pub fn shared(&self) -> Vec<(String, Tensor)> {
        let share = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.shallow_clone());
        self.tensors.iter().map(share).collect()
    }

    /// Takes tensors back, in the order of `places`, onto a device or where the places are; nothing when one is missing.
    pub fn load(&mut self, tensors: &[(String, Tensor)], places: &[(String, Tensor)], device: Option<Device>) {
        let count = self.count.max(1);
        let find = |(name, place): &(String, Tensor)| {
            let (_, tensor) = tensors.iter().find(|(given, _)| given == name)?;
            let on = tensor.to_device(device.unwrap_or(place.device()));
            Some((name.clone(), on.copy()))
        };
        if let Some(all) = places.iter().map(find).collect::<Option<Vec<_>>>() {
            *self = Average { tensors: all, count };
        }
    }
}
