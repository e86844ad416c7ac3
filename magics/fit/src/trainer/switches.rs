//! What a run switches in libtorch.

use super::Trainer;
use crate::error::Result;
use lightcell_torch::{
    Deterministic, detect_anomaly, deterministic_algorithms, set_detect_anomaly, set_deterministic_algorithms,
};
use tch::Cuda;

impl Trainer {
    /// Whether cuDNN tries out its algorithms for each new shape of input and takes the fastest; as libtorch has it (no).
    /// It helps where all batches have one shape. It stays so after the run.
    #[must_use]
    pub fn benchmark(mut self, benchmark: bool) -> Trainer {
        self.benchmark = Some(benchmark);
        self
    }

    /// Whether two runs with one seed give the same numbers, as far as this library can see to it; no. It turns
    /// [`benchmark`](Trainer::benchmark) off, unless that is set.
    ///
    /// On the CPU runs with the same number of threads are equal bit by bit, with or without it. On CUDA some of libtorch's
    /// own operations (`index_add`, `scatter_add`, the backward pass of interpolations and embeddings) add in an order that
    /// changes: with it they take another way, or fail where there is none. cuBLAS needs `CUBLAS_WORKSPACE_CONFIG=:4096:8` in
    /// the environment.
    #[must_use]
    pub fn deterministic(mut self, deterministic: bool) -> Trainer {
        self.deterministic = deterministic;
        self
    }

    /// Whether the backward pass ends the run where it first computes a NaN, and names the operation; no. This costs time, and
    /// on CUDA it waits for the device at each operation.
    #[must_use]
    pub fn detect_anomaly(mut self, detect: bool) -> Trainer {
        self.detect_anomaly = detect;
        self
    }

    /// Sets what libtorch keeps for the process, until what this gives is dropped.
    ///
    /// # Errors
    /// libtorch's own.
    pub(crate) fn set_switches(&self) -> Result<Switches> {
        if let Some(benchmark) = self.benchmark.or(self.deterministic.then_some(false)) {
            Cuda::cudnn_set_benchmark(benchmark);
        }
        let before = Switches {
            deterministic: deterministic_algorithms()?,
            detect_anomaly: detect_anomaly()?,
        };
        if self.deterministic {
            set_deterministic_algorithms(Deterministic::On)?;
        }
        if self.detect_anomaly {
            set_detect_anomaly(true)?;
        }
        Ok(before)
    }
}

/// How libtorch was switched before a run, and is again after it.
#[derive(Debug)]
pub(crate) struct Switches {
    deterministic: Deterministic,
    detect_anomaly: bool,
}

impl Drop for Switches {
    fn drop(&mut self) {
        let _ = set_deterministic_algorithms(self.deterministic);
        let _ = set_detect_anomaly(self.detect_anomaly);
    }
}
