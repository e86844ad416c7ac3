//! The table of magics and their flags.

/// A magic.
#[derive(Debug)]
pub struct Magic {
    /// Without the `%`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// How it is written.
    pub usage: &'static str,
    /// More, for `%name?`.
    pub about: &'static str,
    /// Where it runs.
    pub side: Side,
    /// What may follow its name besides flags.
    pub takes: Takes,
    /// Names of what stands before or between the flags.
    pub arguments: &'static [&'static str],
    /// Its flags.
    pub flags: &'static [Flag],
}

/// What may follow a magic's name besides flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// The words of its line.
    Words,
    /// The rest of its line as it is, after its flags.
    Line,
    /// The cell below it, as `%%name`, with the rest of its line.
    Cell,
    /// Either of the two.
    LineOrCell,
}

/// Where a magic runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the kernel: answered also while a cell runs.
    Kernel,
    /// In the worker, as Rust that it becomes.
    Worker,
}

/// A flag.
#[derive(Debug)]
pub struct Flag {
    /// With its dashes.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// What may follow it.
    pub kind: Kind,
    /// The default, as text; empty when there is none.
    pub default: &'static str,
    /// One line.
    pub about: &'static str,
}

/// What may follow a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Switch,
    /// A whole number from 0 on.
    Count,
    /// A whole number from 0 on, or `none`.
    CountOrNone,
    /// A whole number.
    Int,
    /// A number that is not negative.
    Number,
    /// A whole number of batches, or a share such as `0.5`.
    Limit,
    /// A word.
    Text,
}

impl Kind {
    /// In words, for messages.
    pub fn expected(self) -> &'static str {
        match self {
            Kind::Switch => "nothing",
            Kind::Count => "a whole number",
            Kind::CountOrNone => "a whole number, or none",
            Kind::Int => "a whole number, or -1",
            Kind::Number => "a number such as 0.5",
            Kind::Limit => "a number of batches such as 10, or a share such as 0.5",
            Kind::Text => "a word",
        }
    }

    /// Whether a word can follow.
    pub fn takes(self, value: &str) -> bool {
        match self {
            Kind::Switch => false,
            Kind::Count => value.parse::<u64>().is_ok(),
            Kind::CountOrNone => value == "none" || value.parse::<u64>().is_ok(),
            Kind::Int => value.parse::<i64>().is_ok(),
            Kind::Number => value
                .parse::<f64>()
                .is_ok_and(|number| number >= 0.0 && number.is_finite()),
            Kind::Limit => {
                value.parse::<u64>().is_ok() || value.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share))
            }
            Kind::Text => !value.is_empty() && !value.starts_with("--"),
        }
    }
}

/// All magics.
pub const TABLE: &[Magic] = &[
    Magic {
        name: "bash",
        summary: "run the cell with bash",
        usage: "%%bash",
        about: "The text below it is run by bash, with what it prints as it comes. An exit status other than 0 is an error. `!command` runs one line with sh.",
        side: Side::Worker,
        takes: Takes::Cell,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "cd",
        summary: "change the current folder",
        usage: "%cd [FOLDER]",
        about: "For Rust code, shell commands and relative paths of later cells. Without FOLDER: the home folder. `~` stands for it.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "config",
        summary: "show or set the kernel's settings",
        usage: "%config [NAME [VALUE]]",
        about: "Without VALUE it shows the setting, without NAME all. opt-level: how far cells are optimized, as %opt. cache-limit: how much is kept of crates that `:dep` compiled, for later kernels, such as 4G; it holds for all kernels.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "del",
        summary: "drop a variable",
        usage: "%del NAME",
        about: "Its memory is freed at once; functions and types stay.",
        side: Side::Worker,
        takes: Takes::Words,
        arguments: &["NAME"],
        flags: &[],
    },
    Magic {
        name: "dep",
        summary: "add a crate",
        usage: "%dep CRATE[@VERSION] [--features A,B] [--path FOLDER | --git URL]",
        about: "Compiles it and what it needs, with progress; the stop button ends that and keeps all variables. `:dep` takes the form of Cargo.toml.",
        side: Side::Worker,
        takes: Takes::Words,
        arguments: &["CRATE"],
        flags: &[
            Flag {
                name: "--features",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "features, separated by commas",
            },
            Flag {
                name: "--path",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "a crate in this folder",
            },
            Flag {
                name: "--git",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "a crate of this repository",
            },
        ],
    },
    Magic {
        name: "env",
        summary: "show or set environment variables",
        usage: "%env [NAME[=VALUE]]",
        about: "Without NAME: all of them. What is set holds for Rust code and shell commands of later cells.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "export",
        summary: "make a program of the notebook",
        usage: "%export DIR",
        about: "A Cargo project in the folder DIR that trains as the notebook does: its cells, the sources of the training library, the files that the cells name. `--help` of the program lists hyperparameters and the flags of %fit. The notebook is taken as it was saved last.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "fit",
        summary: "train a model, with a live plot",
        usage: "%fit MODEL DATA [flags]",
        about: "MODEL is a type that implements LightningModule, made with its default hyperparameters, or a variable that holds a run. \
                DATA is a variable or an expression. Afterwards the run is the variable `fit`: `fit.model`, `fit.history`, `fit.best()`. \
                %fit of the same model again goes on training; --restart begins anew. The stop button ends the run after its batch and \
                keeps model and history. The flags are Lightning's Trainer arguments.",
        side: Side::Worker,
        takes: Takes::Words,
        arguments: &["MODEL", "DATA"],
        flags: &[
            Flag {
                name: "--max-epochs",
                aliases: &["--epochs"],
                kind: Kind::Int,
                default: "10",
                about: "epochs to train; -1: no limit, and so with --max-steps or --max-time alone",
            },
            Flag {
                name: "--max-steps",
                aliases: &[],
                kind: Kind::Int,
                default: "-1",
                about: "optimizer steps after which to end; -1: no limit",
            },
            Flag {
                name: "--limit-train-batches",
                aliases: &[],
                kind: Kind::Limit,
                default: "1.0",
                about: "training batches in an epoch: 10 are ten batches, 1.0 is all, 0.5 is half",
            },
            Flag {
                name: "--limit-val-batches",
                aliases: &[],
                kind: Kind::Limit,
                default: "1.0",
                about: "the same for validation",
            },
            Flag {
                name: "--accelerator",
                aliases: &["--device"],
                kind: Kind::Text,
                default: "auto",
                about: "auto, cpu, cuda or cuda:1; auto takes CUDA when it is there",
            },
            Flag {
                name: "--seed",
                aliases: &[],
                kind: Kind::Count,
                default: "",
                about: "seed of initialisation, order and dropout; without it each run draws its own",
            },
            Flag {
                name: "--fast-dev-run",
                aliases: &[],
                kind: Kind::Count,
                default: "",
                about: "run so many batches of one epoch, to see whether all parts work",
            },
            Flag {
                name: "--accumulate-grad-batches",
                aliases: &[],
                kind: Kind::Count,
                default: "",
                about: "batches whose gradients make one step of the optimizer",
            },
            Flag {
                name: "--gradient-clip-val",
                aliases: &[],
                kind: Kind::Number,
                default: "",
                about: "clip gradients to this norm, or value",
            },
            Flag {
                name: "--gradient-clip-algorithm",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "norm (the default) or value",
            },
            Flag {
                name: "--precision",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "32-true, bf16-mixed, 16-mixed, 64-true, bf16-true or 16-true",
            },
            Flag {
                name: "--min-epochs",
                aliases: &[],
                kind: Kind::Count,
                default: "",
                about: "epochs before which nothing stops the run early",
            },
            Flag {
                name: "--min-steps",
                aliases: &[],
                kind: Kind::Count,
                default: "",
                about: "optimizer steps before which nothing stops the run early",
            },
            Flag {
                name: "--max-time",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "time after which to end, as days:hours:minutes:seconds",
            },
            Flag {
                name: "--check-val-every-n-epoch",
                aliases: &[],
                kind: Kind::CountOrNone,
                default: "",
                about: "epochs from one validation to the next; 1; none: --val-check-interval counts across epochs",
            },
            Flag {
                name: "--val-check-interval",
                aliases: &[],
                kind: Kind::Limit,
                default: "",
                about: "training batches from one validation to the next: 100, or a share of the epoch such as 0.25; 1.0",
            },
            Flag {
                name: "--num-sanity-val-steps",
                aliases: &[],
                kind: Kind::Int,
                default: "",
                about: "validation batches to try before the first epoch; 2; -1: all",
            },
            Flag {
                name: "--overfit-batches",
                aliases: &[],
                kind: Kind::Limit,
                default: "",
                about: "train and validate on so few batches, always the same, to see whether the model can learn them",
            },
            Flag {
                name: "--deterministic",
                aliases: &[],
                kind: Kind::Switch,
                default: "",
                about: "the same numbers from the same seed, as far as libtorch can be told so",
            },
            Flag {
                name: "--benchmark",
                aliases: &[],
                kind: Kind::Switch,
                default: "",
                about: "let cuDNN look for its fastest algorithms; for batches of one shape",
            },
            Flag {
                name: "--detect-anomaly",
                aliases: &[],
                kind: Kind::Switch,
                default: "",
                about: "end where the backward pass first computes a NaN, and name the operation; slow",
            },
            Flag {
                name: "--early-stopping",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "stop when this metric no longer improves, such as val_loss",
            },
            Flag {
                name: "--patience",
                aliases: &[],
                kind: Kind::Count,
                default: "",
                about: "validations without improvement before --early-stopping stops; 3",
            },
            Flag {
                name: "--model-checkpoint",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "write checkpoints, keeping the best by this metric",
            },
            Flag {
                name: "--mode",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "whether the smallest (min, the default) or the largest (max) of these metrics is best",
            },
            Flag {
                name: "--ckpt-path",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "go on from a checkpoint: its path, last or best",
            },
            Flag {
                name: "--logger",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "csv: write metrics.csv, in Lightning's layout; tensorboard: event files for it; csv,tensorboard: both",
            },
            Flag {
                name: "--default-root-dir",
                aliases: &[],
                kind: Kind::Text,
                default: "",
                about: "folder for checkpoints and logs",
            },
            Flag {
                name: "--log-every-n-steps",
                aliases: &[],
                kind: Kind::Count,
                default: "",
                about: "optimizer steps from one row of the log to the next; 50",
            },
            Flag {
                name: "--restart",
                aliases: &[],
                kind: Kind::Switch,
                default: "",
                about: "begin anew instead of going on",
            },
        ],
    },
    Magic {
        name: "gpu",
        summary: "show devices, memory, processes, and what %fit will use",
        usage: "%gpu [--json]",
        about: "What nvidia-smi shows, read by the kernel, so that it answers while a cell trains. Without a GPU it says which link is missing.",
        side: Side::Kernel,
        takes: Takes::Words,
        arguments: &[],
        flags: &[Flag {
            name: "--json",
            aliases: &[],
            kind: Kind::Switch,
            default: "",
            about: "as JSON",
        }],
    },
    Magic {
        name: "history",
        summary: "list the cells that were run",
        usage: "%history",
        about: "Those of this kernel, with their numbers.",
        side: Side::Worker,
        takes: Takes::Words,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "load",
        summary: "put a file into the next cell",
        usage: "%load FILE",
        about: "The cell is replaced by the text of the file, to be looked at and run.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "lsmagic",
        summary: "list the magics",
        usage: "%lsmagic",
        about: "`%name?` shows the help of one.",
        side: Side::Kernel,
        takes: Takes::Words,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "opt",
        summary: "show or set how far cells are optimized",
        usage: "%opt [LEVEL]",
        about: "LEVEL is rustc's opt-level for the cells that follow: 0, 1, 2 (the default), 3, s or z. Crates stay as they are.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "reset",
        summary: "drop all variables",
        usage: "%reset",
        about: "Functions, types and crates stay. Restarting the kernel takes them as well.",
        side: Side::Worker,
        takes: Takes::Words,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "run",
        summary: "run a Rust file",
        usage: "%run FILE",
        about: "As if its text stood in the cell; what it defines stays. A `main` is called.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "time",
        summary: "time a line or a cell",
        usage: "%time CODE, or %%time",
        about: "Shows how long it ran, and how long it was compiled before.",
        side: Side::Worker,
        takes: Takes::LineOrCell,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "timeit",
        summary: "time a line or a cell over many runs",
        usage: "%timeit [-n LOOPS] [-r RUNS] CODE, or %%timeit",
        about: "After a warm-up, the mean of RUNS, each of so many loops that it takes a fifth of a second, with the standard deviation and the best. Its result is kept from being optimized away.",
        side: Side::Worker,
        takes: Takes::LineOrCell,
        arguments: &[],
        flags: &[
            Flag {
                name: "--loops",
                aliases: &["-n"],
                kind: Kind::Count,
                default: "",
                about: "loops in a run; without it as many as take 0.2 s",
            },
            Flag {
                name: "--runs",
                aliases: &["-r"],
                kind: Kind::Count,
                default: "7",
                about: "runs",
            },
        ],
    },
    Magic {
        name: "who",
        summary: "list the variables",
        usage: "%who",
        about: "With their types. `%whos` shows more.",
        side: Side::Worker,
        takes: Takes::Words,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "whos",
        summary: "list the variables with types and sizes",
        usage: "%whos",
        about: "Tensors with shape, kind and device.",
        side: Side::Worker,
        takes: Takes::Words,
        arguments: &[],
        flags: &[],
    },
    Magic {
        name: "writefile",
        summary: "write the cell to a file",
        usage: "%%writefile [--append] FILE",
        about: "The text below it becomes the file's.",
        side: Side::Worker,
        takes: Takes::Cell,
        arguments: &["FILE"],
        flags: &[Flag {
            name: "--append",
            aliases: &["-a"],
            kind: Kind::Switch,
            default: "",
            about: "add to the file",
        }],
    },
];

/// What `%config` shows and sets, each with a line about it.
pub const SETTINGS: &[(&str, &str)] = &[
    ("cache-limit", "how much is kept of crates for later kernels"),
    ("opt-level", "how far cells are optimized: 0, 1, 2, 3, s or z"),
];

/// The magic with this name.
pub fn magic(name: &str) -> Option<&'static Magic> {
    TABLE.iter().find(|magic| magic.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_its_defaults_are_values() {
        assert!(TABLE.is_sorted_by_key(|magic| magic.name));
        for flag in TABLE.iter().flat_map(|magic| magic.flags) {
            assert!(flag.name.starts_with("--"), "{}", flag.name);
            assert!(
                flag.default.is_empty() || flag.kind.takes(flag.default),
                "{}",
                flag.name
            );
        }
    }
}
