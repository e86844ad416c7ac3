//! What is done with a model outside of a run: `%validate`, `%test`, `%predict`, and the searches of the library's `Tuner`.

use super::fit::{
    ACCELERATOR, ACCUMULATE, CLIP_ALGORITHM, CLIP_VALUE, DETERMINISTIC, FAST_DEV_RUN, LIMIT_VAL, PRECISION, ROOT, SEED,
};
use super::{Flag, Kind, Magic, Side, Takes, flag};

const CKPT_PATH: Flag = flag(
    "--ckpt-path",
    Kind::Text,
    "with a checkpoint's parameters: best, last or its path; afterwards the run has its own again",
);

pub(super) const VALIDATE: Magic = Magic {
    name: "validate",
    summary: "validate a model",
    usage: "%validate MODEL DATA [flags]",
    about: "Runs validation_step over the validation data of DATA and shows the means of what it logs. MODEL is a variable that holds \
            a run, or its type: then it is the run in `fit`, or with --ckpt-path PATH a model made for it. Nothing of the run is \
            changed. Afterwards the values are the variable `validate_results`: `validate_results[\"val_loss\"]`.",
    side: Side::Worker,
    takes: Takes::Words,
    arguments: &["MODEL", "DATA"],
    flags: &[CKPT_PATH, LIMIT_VAL, FAST_DEV_RUN, ROOT],
};

pub(super) const TEST: Magic = Magic {
    name: "test",
    summary: "test a model",
    usage: "%test MODEL DATA [flags]",
    about: "Runs test_step over the test data of DATA (`data.test(…)`) and shows the means of what it logs; a model without one is \
            tested with its validation_step. MODEL is as in %validate. Afterwards the values are the variable `test_results`: \
            `test_results[\"test_acc\"]`.",
    side: Side::Worker,
    takes: Takes::Words,
    arguments: &["MODEL", "DATA"],
    flags: &[
        CKPT_PATH,
        flag(
            "--limit-test-batches",
            Kind::Limit,
            "test batches: 10 are ten batches, 1.0 is all, 0.5 is half",
        ),
        FAST_DEV_RUN,
        ROOT,
    ],
};

pub(super) const PREDICT: Magic = Magic {
    name: "predict",
    summary: "predict with a model",
    usage: "%predict MODEL DATA [flags]",
    about: "Runs predict_step over the data to predict from (without others, the test data), in their own order. The results, joined \
            along their first dimension, are the variable `predictions`. MODEL is as in %validate.",
    side: Side::Worker,
    takes: Takes::Words,
    arguments: &["MODEL", "DATA"],
    flags: &[
        CKPT_PATH,
        flag(
            "--limit-predict-batches",
            Kind::Limit,
            "batches: 10 are ten batches, 1.0 is all, 0.5 is half",
        ),
        FAST_DEV_RUN,
        ROOT,
    ],
};

const RESTART: Flag = flag(
    "--restart",
    Kind::Switch,
    "with a type: make the model anew instead of taking the run in `fit`",
);

const LIMIT_TRAIN: Flag = flag(
    "--limit-train-batches",
    Kind::Limit,
    "training batches in an epoch; as in %fit",
);

const COMPAT: Flag = flag(
    "--compat",
    Kind::OneOf(&["none", "lightning"]),
    "lightning: PyTorch Lightning's algorithm, to the last digit",
);

pub(super) const LR_FIND: Magic = Magic {
    name: "lr_find",
    summary: "suggest a learning rate, with a plot",
    usage: "%lr_find MODEL DATA [flags]",
    about: "Trains with a learning rate that rises from step to step, draws the losses and suggests a rate. MODEL is a type as in \
            %fit, made with its default hyperparameters and then the run in `fit`, or a variable that holds a run. The suggestion is \
            set in its hyperparameters and its optimizer, unless --update-attr is false; all else is as it was before, and all of it \
            when the search fails or is stopped. Afterwards the result is the variable `lr_finder`: `lr_finder.suggestion()`, \
            `lr_finder.lrs`, `lr_finder.losses`.",
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
            Kind::OneOf(&["exponential", "linear"]),
            "how the rate rises; exponential",
        ),
        flag(
            "--early-stop-threshold",
            Kind::Number,
            "end when the loss is so many times the lowest; 4",
        ),
        flag(
            "--update-attr",
            Kind::Bool,
            "whether the suggestion is set in the hyperparameters; true",
        ),
        flag(
            "--attr-name",
            Kind::Text,
            "the hyperparameter with the learning rate; lr or learning_rate",
        ),
        RESTART,
        COMPAT,
        ACCELERATOR,
        SEED,
        PRECISION,
        ACCUMULATE,
        CLIP_VALUE,
        CLIP_ALGORITHM,
        DETERMINISTIC,
        LIMIT_TRAIN,
    ],
};

pub(super) const SCALE_BATCH_SIZE: Magic = Magic {
    name: "scale_batch_size",
    summary: "find the largest batch size that fits into memory",
    usage: "%scale_batch_size MODEL DATA [flags]",
    about: "Tries batch sizes with a few steps each. MODEL is as in %lr_find; DATA is something whose `batch_size` can be set, such as \
            `Data`. The model is afterwards what it was; its hyperparameter `batch_size` is set, if it has one. The result is the \
            variable `batch_size`.",
    side: Side::Worker,
    takes: Takes::Words,
    arguments: &["MODEL", "DATA"],
    flags: &[
        flag(
            "--mode",
            Kind::OneOf(&["power", "binsearch"]),
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
        RESTART,
        COMPAT,
        ACCELERATOR,
        SEED,
        PRECISION,
        ACCUMULATE,
        DETERMINISTIC,
    ],
};
