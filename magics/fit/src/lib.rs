//! Training neural networks in Rust as PyTorch Lightning does it in Python, on libtorch through `tch`.
//!
//! A model implements [`LightningModule`]: its layers, its forward pass, what to do with a batch. A [`Trainer`] does the
//! rest: epochs, batches, validation, device, seed, progress. In a Lightcell notebook `%fit` calls it; a program calls
//! [`Trainer::fit`], and its progress goes to the terminal. This crate knows no notebook beyond that.
//!
//! See [`LightningModule`] for a whole example.

mod batch;
mod callbacks;
mod checkpoint;
mod csv_logger;
mod data;
pub mod datasets;
mod error;
mod evaluation;
mod figures;
mod fit;
mod flow;
mod gpu_free;
mod history;
mod interchange;
mod layers;
mod log_dir;
mod looping;
mod making;
mod means;
pub mod metrics;
pub mod models;
mod module;
pub mod notebook;
pub mod onnx;
mod optim;
mod path;
mod precision;
mod preprocessing;
mod printing;
mod progress;
mod readers;
mod scaler;
mod schedule;
mod show;
mod state_dict;
mod steps;
mod summarize;
mod summary;
mod tensorboard;
mod trainer;
pub mod transforms;
mod tuner;

pub use batch::Batch;
pub use callbacks::{
    AnnealingStrategy, Callback, DeviceStatsMonitor, EMAWeightAveraging, EarlyStopping, EarlyStoppingReason,
    GradientAccumulationScheduler, LearningRateMonitor, ModelCheckpoint, ModelSummary, MonitorMode, Run,
    StochasticWeightAveraging, SwaStart, Timer,
};
pub use csv_logger::CsvLogger;
pub use data::{
    Batches, Collate, ConcatDataset, Data, DataLoader, DataModule, Dataset, DistributedSampler, KFold, Map,
    RandomSampler, SampleRng, Sampler, SequentialSampler, SharedTensor, Split, StratifiedKFold, Subset,
    SubsetRandomSampler, TensorDataset, WeightedRandomSampler, pad_sequence, random_split, train_test_split,
};
pub use datasets::{Mnist, mnist};
pub use error::{Error, Kind as ErrorKind, Result};
pub use evaluation::Evaluation;
pub use figures::{
    Labels, Numbers, confusion_matrix, heat_map, histogram, plot, plot_lines, plot_xy, roc, scatter, show, show_grid,
};
pub use fit::Fit;
pub use flow::{Eager, Flow, FlowModule};
pub use history::{EpochRecord, History};
pub use interchange::ScriptModule;
pub use layers::*;
pub use lightcell_events::run::{Metrics, Stage};
/// The rest of what tch does not have of libtorch: memory statistics, generators' states, deterministic algorithms.
pub use lightcell_torch as torch;
pub use module::{HParams, LightningModule, Loggable, Step, ValueBox};
pub use optim::{Optim, Optimizer, ParamGroup, adagrad, adam, adamw, lbfgs, rmsprop, sgd};
pub use path::{Path, Store};
pub use precision::Precision;
pub use preprocessing::{OneHotEncoder, StandardScaler};
pub use readers::{
    Column, CsvDataset, CsvFormat, NpyDataset, Table, TextDataset, TokenWindows, csv, idx, npy, npz, safetensors,
};
pub use scaler::GradScaler;
pub use schedule::{
    CosineAnnealingLR, CosineAnnealingWarmRestarts, ExponentialLR, Interval, LambdaLR, LinearLR, MultiStepLR,
    OneCycleLR, PlateauMode, PlateauState, PolynomialLR, ReduceLROnPlateau, Schedule, ScheduleState, SequentialLR,
    StepLR, ThresholdMode,
};
pub use show::image_grid;
pub use state_dict::StateDict;
pub use summarize::{LayerSummary, Summarize, Summary, summary, summary_of};
pub use tensorboard::{SummaryWriter, TensorBoardLogger};
pub use trainer::{ClipAlgorithm, Compat, Limit, Trainer};
pub use tuner::{BatchSizeMode, LrFind, LrFinder, LrMode, ScaleBatchSize, Tuner};
#[doc(hidden)]
pub use {serde, serde_json, tch};

/// What a cell or program needs to define and train a model.
pub mod prelude {
    pub use crate::data::{
        Collate, ConcatDataset, Data, DataLoader, DataModule, Dataset, DistributedSampler, KFold, RandomSampler,
        SampleRng, Sampler, SequentialSampler, SharedTensor, StratifiedKFold, Subset, SubsetRandomSampler,
        TensorDataset, WeightedRandomSampler, pad_sequence, random_split, train_test_split,
    };
    pub use crate::datasets;
    pub use crate::figures::{
        confusion_matrix, heat_map, histogram, plot, plot_lines, plot_xy, roc, scatter, show, show_grid,
    };
    pub use crate::hparams;
    pub use crate::layers::*;
    pub use crate::metrics::{self, Metric};
    pub use crate::preprocessing::{OneHotEncoder, StandardScaler};
    pub use crate::readers::{
        Column, CsvDataset, CsvFormat, NpyDataset, Table, TextDataset, TokenWindows, csv, idx, npy, npz, safetensors,
    };
    pub use crate::{
        AnnealingStrategy, Batch, BatchSizeMode, Callback, ClipAlgorithm, Compat, CosineAnnealingLR,
        CosineAnnealingWarmRestarts, CsvLogger, DeviceStatsMonitor, EMAWeightAveraging, EarlyStopping, Error,
        Evaluation, ExponentialLR, Fit, GradScaler, GradientAccumulationScheduler, HParams, Interval, LambdaLR,
        LearningRateMonitor, LightningModule, Limit, LinearLR, LrFind, LrFinder, LrMode, ModelCheckpoint, ModelSummary,
        MonitorMode, MultiStepLR, OneCycleLR, Optim, ParamGroup, Path, PlateauMode, PolynomialLR, Precision,
        ReduceLROnPlateau, Result, Run, ScaleBatchSize, Schedule, ScriptModule, SequentialLR, Stage, StateDict, Step,
        StepLR, StochasticWeightAveraging, Store, SummaryWriter, TensorBoardLogger, ThresholdMode, Timer, Trainer,
        Tuner, adagrad, adam, adamw, image_grid, lbfgs, mnist, rmsprop, sgd, summary, summary_of,
    };
    pub use lightcell_cell::{Figure, Rich, clear_output, display, display_as, update_display};
    pub use serde_json::Value;
    pub use tch::{Cuda, Device, IndexOp, Kind, Tensor};
}

/// Defines a struct of hyperparameters with their defaults.
///
/// ```
/// use lightcell::prelude::*;
/// hparams! { Hp { hidden: i64 = 128, lr: f64 = 1e-3 } }
/// assert_eq!(Hp::default().hidden, 128);
/// let hp = Hp { lr: 0.1, ..Hp::default() };
/// ```
#[macro_export]
macro_rules! hparams {
    ($(#[$meta:meta])* $name:ident { $($field:ident : $type:ty = $value:expr),* $(,)? }) => {
        $(#[$meta])*
        #[allow(missing_docs)]
        #[derive(Debug, Clone, PartialEq, $crate::serde::Serialize, $crate::serde::Deserialize)]
        #[serde(crate = "lightcell::serde", default)]
        pub struct $name {
            $(pub $field: $type,)*
        }
        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $value),* }
            }
        }
    };
}

#[cfg(test)]
mod tests;
