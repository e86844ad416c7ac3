//! The streams of random numbers of a run.

use super::Loop;
use crate::error::Result;
use crate::trainer::Compat;
use tch::{Device, Tensor};

/// Where the stream of what is drawn before the first epoch stands, among those of epochs.
const BEFORE: u64 = u64::MAX - 1;

impl Loop<'_> {
    /// Begins the stream of what hooks draw before the first epoch: whether the validation step was checked before moves
    /// nothing.
    pub(super) fn begin_stream(&self) {
        if self.trainer.compat == Compat::None {
            tch::manual_seed(stream(self.state.progress.seed, BEFORE) as i64);
        }
    }
}

/// The states of libtorch's random generators, that of a device first.
pub(super) struct Generators(Vec<(Device, Tensor)>);

impl Generators {
    /// # Errors
    /// libtorch's own.
    pub fn of(device: Device) -> Result<Generators> {
        let mut devices = vec![device, Device::Cpu];
        devices.dedup();
        let state = |device| Ok((device, lightcell_torch::rng_state(device)?));
        Ok(Generators(devices.into_iter().map(state).collect::<Result<_>>()?))
    }

    /// Makes them what they were.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn set_back(&self) -> Result<()> {
        for (device, state) in &self.0 {
            lightcell_torch::set_rng_state(*device, state)?;
        }
        Ok(())
    }
}

/// The seed of an epoch's stream, and from that of a batch's (SplitMix64's finish): neighbours have streams that share
/// nothing.
pub(super) fn stream(seed: u64, at: u64) -> u64 {
    let mut z = seed.wrapping_add((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
