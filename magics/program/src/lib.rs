//! A notebook's cells as a program: what `lightcell export` makes of a notebook stands on this crate.
//!
//! The cells are one function of a [`Program`], which knows the flags of the command line. So whoever starts the program
//! decides with which values it runs: a user, a scheduler, or later a launcher that starts one process for each device. No
//! state of a run is global, and a model is made inside of [`Program::fit`], in the process that trains it.
//!
//! ```
//! use lightcell_program::Program;
//! let program = Program::new("digits", "Made from digits.ipynb.")
//!     .parameter("size", "32")
//!     .parse(["--size", "64", "--max-epochs", "3"])?;
//! assert_eq!(program.value("size", 32), 64);
//! # Ok::<(), lightcell_program::Stop>(())
//! ```

mod flags;

pub use flags::{Program, Stop};
pub use lightcell_cell;

use lightcell::serde_json::{Map, Value};
use lightcell::{DataModule, Fit, LightningModule, Result, Trainer};
use std::process::ExitCode;

/// What the cells may give: any error, as `?` does in a cell.
pub type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// Shows the value of a cell's last expression as the notebook does, in its plain form.
#[macro_export]
macro_rules! show {
    ($value:expr) => {{
        #[allow(unused_imports)]
        use $crate::lightcell_cell::Show as _;
        let value = $value;
        (&value).evcxr_display();
    }};
}

impl Program {
    /// Reads the flags of the command line and runs the cells. The status is 0, 1 when a cell failed, 2 for wrong flags.
    pub fn main(self, cells: impl FnOnce(&Program) -> Outcome) -> ExitCode {
        let name = self.name().to_owned();
        let program = match self.parse(std::env::args().skip(1)) {
            Ok(program) => program,
            Err(Stop::Help(text)) => {
                print!("{text}");
                return ExitCode::SUCCESS;
            }
            Err(Stop::Wrong(message)) => {
                eprintln!("error: {message}\nhint: {name} --help lists the flags");
                return ExitCode::from(2);
            }
        };
        match cells(&program) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// What `%fit MODEL DATA` becomes. `options` are the flags that stand in the notebook, as JSON; those of the command
    /// line win. `previous`, a run of the same type, goes on, unless there is `restart` among the options.
    ///
    /// # Errors
    /// When the settings are wrong, the model cannot be made, or the run fails.
    pub fn fit<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        data: &D,
        options: &str,
        previous: Option<Fit<M>>,
    ) -> Result<Fit<M>> {
        let options = self.options(options);
        let trainer = Trainer::from_json(&Value::Object(options.clone()).to_string())?;
        match previous {
            Some(mut run) if options.get("restart") != Some(&Value::Bool(true)) => {
                trainer.go_on(&mut run, data)?;
                Ok(run)
            }
            _ => trainer.fit(&self.hparams::<M>()?, data),
        }
    }

    /// What `%fit RUN DATA` becomes: RUN is a variable that holds a run.
    ///
    /// # Errors
    /// As for [`Program::fit`].
    pub fn go_on<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        run: Fit<M>,
        data: &D,
        options: &str,
    ) -> Result<Fit<M>> {
        self.fit(data, options, Some(run))
    }

    /// The settings of a run: the notebook's, and over them those of the command line.
    fn options(&self, options: &str) -> Map<String, Value> {
        let mut all: Map<String, Value> = lightcell::serde_json::from_str(options).unwrap_or_default();
        all.extend(self.trainer().clone());
        all
    }

    /// The hyperparameters of a model: their defaults, and over them those of the command line.
    ///
    /// # Errors
    /// When a value is not of its field's kind.
    pub fn hparams<M: LightningModule>(&self) -> Result<M::HParams> {
        let given = self.given_hparams();
        let defaults = lightcell::serde_json::to_value(M::HParams::default()).unwrap_or_default();
        let (Value::Object(mut all), false) = (defaults, given.is_empty()) else {
            return Ok(M::HParams::default());
        };
        for (name, value) in given {
            if all.contains_key(name) {
                all.insert(name.clone(), value.clone());
            }
        }
        lightcell::serde_json::from_value(Value::Object(all)).map_err(|error| {
            lightcell::Error::new(
                lightcell::ErrorKind::Option,
                format!("a hyperparameter does not fit: {error}"),
            )
        })
    }
}
