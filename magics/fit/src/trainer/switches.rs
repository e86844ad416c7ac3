//! What a run switches in libtorch.

use super::Trainer;
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
    /// own operations (`index_add`, `scatter_add`, the backward pass of interpolations and embeddings) still add in an order
    /// that changes: `tch` does not reach the switch that refuses them. Set `CUBLAS_WORKSPACE_CONFIG=:4096:8` in the
    /// environment for cuBLAS.
    #[must_use]
    pub fn deterministic(mut self, deterministic: bool) -> Trainer {
        self.deterministic = deterministic;
        self
    }

    /// Whether each backward pass is followed by a look at all gradients; no. The run ends at the first that is NaN, and the
    /// parameters that have one are named: it comes from between them and the loss. This costs time, and on CUDA it waits for
    /// the device at each batch.
    ///
    /// Lightning's own also names the operation; `tch` does not reach that part of libtorch.
    #[must_use]
    pub fn detect_anomaly(mut self, detect: bool) -> Trainer {
        self.detect_anomaly = detect;
        self
    }

    /// Sets what libtorch keeps for the process.
    pub(crate) fn set_switches(&self) {
        if let Some(benchmark) = self.benchmark.or(self.deterministic.then_some(false)) {
            Cuda::cudnn_set_benchmark(benchmark);
        }
    }
}
