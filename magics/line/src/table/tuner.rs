//! What is tried before a run: the magics and flags of the training library's `Tuner`.

use super::{Flag, Kind, Magic, Side, Takes};

const fn flag(name: &'static str, kind: Kind, about: &'static str) -> Flag {
    Flag {
        name,
        aliases: &[],
        kind,
        default: "",
        about,
    }
}

const ACCELERATOR: Flag = flag("--accelerator", Kind::Text, "auto, cpu, cuda or cuda:1; as in %fit");
const SEED: Flag = flag(
    "--seed",
    Kind::Count,
    "seed of initialisation, order and dropout; as in %fit",
);
const ACCUMULATE: Flag = flag(
    "--accumulate-grad-batches",
    Kind::Count,
    "batches whose gradients make one step of the optimizer; as in %fit",
);
const COMPAT: Flag = flag(
    "--compat",
    Kind::Text,
    "lightning: PyTorch Lightning's algorithm, to the last digit",
);

pub(super) const LR_FIND: Magic = Magic {
    name: "lr_find",
    summary: "suggest a learning rate, with a plot",
    usage: "%lr_find MODEL DATA [flags]",
    about: "Trains with a learning rate that rises from step to step, and suggests one. MODEL is a variable that holds a model or a \
            run, or a type as in %fit, made with its default hyperparameters. The suggestion is set in its hyperparameters, unless \
            --no-update-attr is there; all else is as it was before. Afterwards the result is the variable `lr_finder`: \
            `lr_finder.suggestion()`, `lr_finder.lrs`, `lr_finder.losses`.",
    side: Side::Worker,
    takes: Takes::Words,
    arguments: &["MODEL", "DATA"],
    flags: &[
        flag("--min-lr", Kind::Number, "the smallest learning rate; 1e-8"),
        flag("--max-lr", Kind::Number, "the largest; 1"),
        flag(
            "--num-training",
            Kind::Count,
            "optimizer steps, each with a rate of its own; 100",
        ),
        flag(
            "--mode",
            Kind::Text,
            "how the rate rises: exponential (the default) or linear",
        ),
        flag(
            "--early-stop-threshold",
            Kind::Number,
            "end when the loss is so many times the lowest; 4",
        ),
        flag(
            "--no-update-attr",
            Kind::Switch,
            "leave the hyperparameters as they are",
        ),
        flag(
            "--attr-name",
            Kind::Text,
            "the hyperparameter with the learning rate; lr or learning_rate",
        ),
        ACCELERATOR,
        SEED,
        ACCUMULATE,
        flag(
            "--gradient-clip-val",
            Kind::Number,
            "clip gradients to this norm, or value; as in %fit",
        ),
        flag("--gradient-clip-algorithm", Kind::Text, "norm (the default) or value"),
        COMPAT,
    ],
};

pub(super) const SCALE_BATCH_SIZE: Magic = Magic {
    name: "scale_batch_size",
    summary: "find the largest batch size that fits into memory",
    usage: "%scale_batch_size MODEL DATA [flags]",
    about: "Tries batch sizes with a few steps each. DATA is a variable whose `batch_size` can be set, such as `Data`. The model is \
            afterwards what it was; its hyperparameter `batch_size` is set, if it has one. The result is the variable `batch_size`.",
    side: Side::Worker,
    takes: Takes::Words,
    arguments: &["MODEL", "DATA"],
    flags: &[
        flag(
            "--mode",
            Kind::Text,
            "power (the default): double it; binsearch: then search between",
        ),
        flag("--steps-per-trial", Kind::Count, "optimizer steps with each size; 3"),
        flag("--init-val", Kind::Count, "the size to begin with; 2"),
        flag("--max-trials", Kind::Count, "sizes that are tried at most; 25"),
        flag("--max-val", Kind::Count, "the largest size to try; 8192"),
        flag(
            "--margin",
            Kind::Number,
            "by which share the size is made smaller when a larger one did not fit; 0.05",
        ),
        flag(
            "--batch-arg-name",
            Kind::Text,
            "the hyperparameter that is set to the size; batch_size",
        ),
        ACCELERATOR,
        SEED,
        ACCUMULATE,
        COMPAT,
    ],
};
