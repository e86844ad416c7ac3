//! `%fit` and its flags: the arguments of the training library's Trainer, and its callbacks.

use super::{Flag, Kind, Magic, Side, Takes, flag};

pub(super) const ACCELERATOR: Flag = flag(
    "--accelerator",
    Kind::Text,
    "auto, cpu, cuda or cuda:1; auto takes CUDA when it is there",
)
.or(&["--device"]);
pub(super) const SEED: Flag = flag(
    "--seed",
    Kind::Count,
    "seed of initialisation, order and dropout; without it each run draws its own",
);
pub(super) const ACCUMULATE: Flag = flag(
    "--accumulate-grad-batches",
    Kind::Count,
    "batches whose gradients make one step of the optimizer",
);
pub(super) const CLIP_VALUE: Flag = flag(
    "--gradient-clip-val",
    Kind::Number,
    "clip gradients to this norm, or value",
);
pub(super) const CLIP_ALGORITHM: Flag = flag(
    "--gradient-clip-algorithm",
    Kind::OneOf(&["norm", "value"]),
    "what --gradient-clip-val limits; norm",
)
.needs(&["--gradient-clip-val"]);
pub(super) const PRECISION: Flag = flag(
    "--precision",
    Kind::OneOf(&[
        "32-true",
        "bf16-mixed",
        "16-mixed",
        "64-true",
        "bf16-true",
        "16-true",
        "32",
        "bf16",
        "16",
        "64",
    ]),
    "the numbers that the model computes with",
);
pub(super) const DETERMINISTIC: Flag = flag(
    "--deterministic",
    Kind::Switch,
    "the same numbers from the same seed, as far as libtorch can be told so",
);
pub(super) const LIMIT_VAL: Flag = flag(
    "--limit-val-batches",
    Kind::Limit,
    "validation batches: 10 are ten batches, 1.0 is all, 0.5 is half",
);
pub(super) const FAST_DEV_RUN: Flag = flag(
    "--fast-dev-run",
    Kind::Count,
    "run so many batches, to see whether all parts work",
);
pub(super) const ROOT: Flag = flag("--default-root-dir", Kind::Text, "folder for checkpoints and logs");

const STOPPING: &[&str] = &["--early-stopping"];
const SWA: &[&str] = &["--swa-lrs"];
const INTERVAL: Kind = Kind::OneOf(&["step", "epoch"]);

pub(super) const FIT: Magic = Magic {
    name: "fit",
    summary: "train a model, with a live plot",
    usage: "%fit MODEL DATA [flags]",
    about: "MODEL is a type that implements LightningModule, made with its default hyperparameters, or a variable that holds a run. \
            DATA is a variable or an expression. Afterwards the run is the variable `fit`: `fit.model`, `fit.history`, `fit.best()`. \
            %fit of the same model again goes on training; --restart begins anew. The stop button ends the run after its batch and \
            keeps model and history. %fit --attach, in any cell and at any time, shows the run that goes on, such as after the page was \
            closed. The flags are Lightning's Trainer arguments, and the settings of its callbacks: a callback's \
            flag adds the callback.",
    side: Side::Worker,
    takes: Takes::Words,
    arguments: &["MODEL", "DATA"],
    flags: &[
        flag(
            "--attach",
            Kind::Alone,
            "show the run that goes on from its beginning and then live, else the last one",
        ),
        // How long.
        flag(
            "--max-epochs",
            Kind::Int,
            "epochs to train; -1: no limit, and so with --max-steps or --max-time alone",
        )
        .or(&["--epochs"])
        .by_default("10"),
        flag(
            "--max-steps",
            Kind::Int,
            "optimizer steps after which to end; -1: no limit",
        )
        .by_default("-1"),
        flag(
            "--max-time",
            Kind::Time,
            "time after which to end, as days:hours:minutes:seconds",
        ),
        flag(
            "--min-epochs",
            Kind::Count,
            "epochs before which nothing stops the run early",
        ),
        flag(
            "--min-steps",
            Kind::Count,
            "optimizer steps before which nothing stops the run early",
        ),
        FAST_DEV_RUN,
        // On what.
        flag(
            "--limit-train-batches",
            Kind::Limit,
            "training batches in an epoch: 10 are ten batches, 1.0 is all, 0.5 is half",
        )
        .by_default("1.0"),
        LIMIT_VAL.by_default("1.0"),
        flag(
            "--overfit-batches",
            Kind::Limit,
            "train and validate on so few batches, always the same, to see whether the model can learn them",
        ),
        ACCELERATOR.by_default("auto"),
        // How.
        SEED,
        ACCUMULATE,
        CLIP_VALUE,
        CLIP_ALGORITHM,
        PRECISION,
        DETERMINISTIC,
        flag(
            "--benchmark",
            Kind::Switch,
            "let cuDNN look for its fastest algorithms; for batches of one shape",
        ),
        flag(
            "--detect-anomaly",
            Kind::Switch,
            "end where the backward pass first computes a NaN, and name the operation; slow",
        ),
        flag(
            "--compat",
            Kind::OneOf(&["none", "lightning"]),
            "lightning: draw random numbers in PyTorch's order, and weigh a left-over window as there",
        ),
        // Validation.
        flag(
            "--check-val-every-n-epoch",
            Kind::CountOrNone,
            "epochs from one validation to the next; 1; none: --val-check-interval counts across epochs",
        ),
        flag(
            "--val-check-interval",
            Kind::Limit,
            "training batches from one validation to the next: 100, or a share of the epoch such as 0.25; 1.0",
        ),
        flag(
            "--num-sanity-val-steps",
            Kind::Int,
            "validation batches to try before the first epoch; 2; -1: all",
        ),
        // Going on.
        flag(
            "--ckpt-path",
            Kind::Text,
            "go on from a checkpoint: its path, last or best",
        ),
        flag("--restart", Kind::Switch, "begin anew instead of going on"),
        // Files.
        flag(
            "--logger",
            Kind::SomeOf(&["csv", "tensorboard"]),
            "csv: write metrics.csv, in Lightning's layout; tensorboard: event files for it; csv,tensorboard: both",
        ),
        ROOT,
        flag(
            "--log-every-n-steps",
            Kind::Count,
            "optimizer steps from one row of the log to the next; 50",
        ),
        // EarlyStopping.
        flag(
            "--early-stopping",
            Kind::Text,
            "stop when this metric no longer improves, such as val_loss",
        ),
        flag(
            "--patience",
            Kind::Count,
            "validations without improvement before --early-stopping stops; 3",
        )
        .needs(STOPPING),
        flag(
            "--min-delta",
            Kind::Number,
            "less than this is no improvement for --early-stopping; 0",
        )
        .needs(STOPPING),
        flag(
            "--stopping-threshold",
            Kind::Real,
            "a metric that is this good ends the run",
        )
        .needs(STOPPING),
        flag(
            "--divergence-threshold",
            Kind::Real,
            "a metric that is this bad ends the run",
        )
        .needs(STOPPING),
        flag(
            "--check-finite",
            Kind::Bool,
            "whether a metric that is no number ends the run; true",
        )
        .needs(STOPPING),
        flag(
            "--mode",
            Kind::OneOf(&["min", "max"]),
            "whether the smallest (min, the default) or the largest (max) of the metrics is best",
        )
        .needs(&["--early-stopping", "--model-checkpoint"]),
        // ModelCheckpoint.
        flag(
            "--model-checkpoint",
            Kind::Text,
            "write checkpoints, keeping the best by this metric",
        ),
        flag(
            "--save-top-k",
            Kind::Int,
            "how many of the best checkpoints to keep; 1; -1: all",
        ),
        flag(
            "--save-last",
            Kind::Switch,
            "keep the newest checkpoint too, for --ckpt-path last",
        ),
        flag(
            "--every-n-epochs",
            Kind::Count,
            "epochs from one checkpoint to the next; 1",
        ),
        flag(
            "--every-n-train-steps",
            Kind::Count,
            "optimizer steps from one checkpoint to the next, in place of epochs",
        ),
        flag("--dirpath", Kind::Text, "folder for checkpoints alone"),
        flag(
            "--filename",
            Kind::Text,
            "name of a checkpoint, such as {epoch}-{val_loss:.2f}",
        ),
        flag(
            "--auto-insert-metric-name",
            Kind::Bool,
            "whether {epoch} in --filename becomes epoch=2 and not 2; true",
        )
        .needs(&["--filename"]),
        // The others, by name.
        flag(
            "--ema",
            Kind::Switch,
            "average the weights of all steps, the newest counting most (EMAWeightAveraging)",
        ),
        flag("--ema-decay", Kind::Number, "how much of the old average stays; 0.999"),
        flag(
            "--ema-update-every-n-steps",
            Kind::Count,
            "steps from one update of the average to the next; 1",
        ),
        flag(
            "--ema-update-starting-at-step",
            Kind::Count,
            "step of the first update; 0",
        ),
        flag(
            "--ema-update-starting-at-epoch",
            Kind::Count,
            "epoch from which on its end updates the average too",
        ),
        flag(
            "--swa-lrs",
            Kind::Numbers,
            "average the weights of the last epochs, trained with this learning rate (StochasticWeightAveraging)",
        ),
        flag(
            "--swa-epoch-start",
            Kind::Limit,
            "when that begins: an epoch from 1, or a share of them; 0.8",
        )
        .needs(SWA),
        flag(
            "--swa-annealing-epochs",
            Kind::Count,
            "epochs in which the learning rate goes there; 10",
        )
        .needs(SWA),
        flag(
            "--swa-annealing-strategy",
            Kind::OneOf(&["cos", "linear"]),
            "how it goes there; cos",
        )
        .needs(SWA),
        flag(
            "--lr-monitor",
            Kind::Switch,
            "log the learning rates (LearningRateMonitor)",
        )
        .needs(&["--logger"]),
        flag(
            "--lr-monitor-interval",
            INTERVAL,
            "when: each step or each epoch; as the schedule counts",
        )
        .needs(&["--logger"]),
        flag("--lr-monitor-momentum", Kind::Switch, "log the momentum too").needs(&["--logger"]),
        flag("--lr-monitor-weight-decay", Kind::Switch, "log the weight decay too").needs(&["--logger"]),
        flag(
            "--lr-monitor-prefix",
            Kind::Text,
            "what stands before the names in the log",
        )
        .needs(&["--logger"]),
        flag(
            "--device-stats",
            Kind::Switch,
            "log the device's memory and load (DeviceStatsMonitor)",
        )
        .needs(&["--logger"]),
        flag(
            "--device-stats-cpu",
            Kind::Bool,
            "whether the CPU's are logged; where the CPU trains",
        )
        .needs(&["--logger"]),
        flag(
            "--model-summary",
            Kind::Int,
            "show the layers with their parameters, so deep; 1: the model's own, -1: all (ModelSummary)",
        ),
        flag(
            "--timer",
            Kind::Time,
            "time after which to end, earlier parts of the run included (Timer)",
        ),
        flag("--timer-interval", INTERVAL, "when --timer looks; step").needs(&["--timer"]),
        flag(
            "--accumulation-schedule",
            Kind::Schedule,
            "batches a step by epoch: 0:8,4:4 are 8 at first, 4 from the fifth epoch on (GradientAccumulationScheduler)",
        ),
    ],
};
