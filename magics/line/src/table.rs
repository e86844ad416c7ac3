//! The table of magics and their flags.

mod fit;
mod kind;
mod models;

pub use kind::Kind;
pub(crate) use kind::pairs;

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
    /// Any number of words.
    Many,
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
    /// Flags of which one must be there too; none for a flag that stands for itself.
    pub needs: &'static [&'static str],
}

/// A flag without other spellings or a default.
const fn flag(name: &'static str, kind: Kind, about: &'static str) -> Flag {
    Flag {
        name,
        aliases: &[],
        kind,
        default: "",
        about,
        needs: &[],
    }
}

impl Flag {
    const fn or(self, aliases: &'static [&'static str]) -> Flag {
        Flag { aliases, ..self }
    }

    const fn by_default(self, default: &'static str) -> Flag {
        Flag { default, ..self }
    }

    const fn needs(self, needs: &'static [&'static str]) -> Flag {
        Flag { needs, ..self }
    }
}

const SAVE: Flag = flag("--save", Kind::Text, "write the chart into this file too: .svg or .png");

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
        name: "compare",
        summary: "compare a metric of several runs",
        usage: "%compare [--runs 1,3] [--save FILE] [METRIC …]",
        about: "The curves of the runs in one chart, with their best and last values; each is told by its number in %runs and by the hyperparameters that differ. Without METRIC: the validation loss. It answers while a cell trains.",
        side: Side::Kernel,
        takes: Takes::Many,
        arguments: &[],
        flags: &[
            flag(
                "--runs",
                Kind::Text,
                "numbers of %runs, with commas; the newest six that have the metric",
            ),
            SAVE,
        ],
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
        about: "Compiles it and what it needs, with progress; the stop button ends that and keeps all variables. `:dep` takes the form of Cargo.toml. Three parts of the library are added so too, as they take long to compile: `lightcell-image` (PNG and JPEG: `ImageFolder`, `read_image`, `write_png`), `lightcell-parquet` (Parquet and Arrow: `read_arrow`, and `ArrowDataset` for files larger than memory) and `lightcell-tokenizers` (Hugging Face's: `Tokenizer`, `BpeTrainer`).",
        side: Side::Worker,
        takes: Takes::Words,
        arguments: &["CRATE"],
        flags: &[
            flag("--features", Kind::Text, "features, separated by commas"),
            flag("--path", Kind::Text, "a crate in this folder"),
            flag("--git", Kind::Text, "a crate of this repository"),
        ],
    },
    Magic {
        name: "download",
        summary: "bring a file from the machine of the kernel",
        usage: "%download REMOTE [LOCAL]",
        about: "To the machine of the front end, as %upload in the other direction. Without LOCAL the file keeps its name, in the notebook's folder.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
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
    fit::FIT,
    Magic {
        name: "gpu",
        summary: "show devices, memory, processes, and what %fit will use",
        usage: "%gpu [--json | watch [stop] | select DEVICE | free]",
        about: "What nvidia-smi shows, read by the kernel, so that it answers while a cell trains. Without a GPU it says which link is missing. watch: a panel with the last minute's load, of the CPU too, that goes on while other cells run, for an hour at most; watch stop ends it. select: the device that %fit takes from now on, such as cuda:1, cpu, or auto, which is the least used of several. free: which variables hold device memory, and libtorch's cache given back to the driver.",
        side: Side::Kernel,
        takes: Takes::Line,
        arguments: &[],
        flags: &[flag("--json", Kind::Switch, "as JSON")],
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
        name: "lock",
        summary: "note the versions of crates, rustc and libtorch in the notebook",
        usage: "%lock [clear]",
        about: "The crates that cells of this kernel have added, with what these need, and the versions of rustc, libtorch and Lightcell, as an output of the cell; save the notebook then. A kernel that is started for the notebook takes these versions of the crates (a cell that asks for another one gets it), and says in its first cell which of the others differ. Run it again after a change; clear notes no crates, so that the next kernel takes the newest that cells allow.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    models::LR_FIND,
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
        name: "plot",
        summary: "plot metrics of a run",
        usage: "%plot [--runs 3] [--save FILE] [METRIC …]",
        about: "The metrics over the epochs in one chart, with their best and last values. Without METRIC: all. It answers while a cell trains.",
        side: Side::Kernel,
        takes: Takes::Many,
        arguments: &[],
        flags: &[
            flag("--runs", Kind::Text, "numbers of %runs, with commas; the newest"),
            SAVE,
        ],
    },
    models::PREDICT,
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
        name: "runs",
        summary: "list the folder's runs, and show the one that goes on",
        usage: "%runs [--sort METRIC [--mode max]]",
        about: "The runs of %fit in notebooks of this folder, those of earlier kernels too, with their hyperparameters, their last metrics, time, device and status; below it the run that goes on, with all it has shown so far and then live, else the last one. It answers while a cell trains: after the page was closed or reloaded, run it in any cell. `lightcell uninstall` takes the record of the runs away.",
        side: Side::Kernel,
        takes: Takes::Words,
        arguments: &[],
        flags: &[
            flag(
                "--sort",
                Kind::Text,
                "by the last value of this metric, the lowest first",
            ),
            flag(
                "--mode",
                Kind::OneOf(&["min", "max"]),
                "with max, --sort puts the highest first; min",
            )
            .needs(&["--sort"]),
        ],
    },
    models::SCALE_BATCH_SIZE,
    Magic {
        name: "tensorboard",
        summary: "show TensorBoard in the notebook",
        usage: "%tensorboard [--logdir DIR] [--port PORT]",
        about: "The program tensorboard, if it is on PATH, in a frame, for what `--logger tensorboard` has written; it ends with the kernel. Your browser must reach the machine where the kernel runs: where it does not, what is shown says how.",
        side: Side::Kernel,
        takes: Takes::Words,
        arguments: &[],
        flags: &[
            flag("--logdir", Kind::Text, "the folder of the logs").by_default("lightning_logs"),
            flag("--port", Kind::Count, "a port of your choice; any that is free"),
        ],
    },
    models::TEST,
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
            flag(
                "--loops",
                Kind::Count,
                "loops in a run; without it as many as take 0.2 s",
            )
            .or(&["-n"]),
            flag("--runs", Kind::Count, "runs").or(&["-r"]).by_default("7"),
        ],
    },
    Magic {
        name: "upload",
        summary: "bring a file to the machine of the kernel",
        usage: "%upload LOCAL [REMOTE]",
        about: "From the machine of the front end, over the kernel's own connection, with progress; its SHA-256 is checked, and a transfer that is stopped leaves no half file. LOCAL is relative to the notebook's folder, REMOTE to the current folder (see %cd); without REMOTE the file keeps its name. Where both are one machine, it is copied.",
        side: Side::Worker,
        takes: Takes::Line,
        arguments: &[],
        flags: &[],
    },
    models::VALIDATE,
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
        flags: &[flag("--append", Kind::Switch, "add to the file").or(&["-a"])],
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
        for magic in TABLE {
            let known = |name: &&str| magic.flags.iter().any(|flag| flag.name == *name);
            assert!(
                magic.flags.iter().all(|flag| flag.needs.iter().all(&known)),
                "{}",
                magic.name
            );
        }
    }
}
