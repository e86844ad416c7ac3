//! What a notebook shows of a training run, drawn from the run's events: [`RunRecord`] keeps them, [`RunRecord::text`],
//! [`RunRecord::html`], [`RunRecord::svg`] and [`RunRecord::png`] draw them. [`TaskRecord`] does so for what is done with a
//! model outside of a run: a test, a search for a learning rate. [`Picture`] draws the figures that cells make.
//!
//! Colours are mid-tones on nothing, so that the same picture is readable in light and dark themes. Text in pictures is
//! drawn with a font of our own (DejaVu Sans, cut to Latin letters), because a server may have none.
//!
//! Knows neither Jupyter nor libtorch.

mod chart;
mod figure;
mod listing;
mod overlay;
mod record;
mod task;
mod view;

pub use chart::{Chart, Curve, Tone};
pub use figure::Picture;
pub use listing::{Listed, Sort, listing};
pub use overlay::{Numbered, Overlay, main_metric, overlay};
pub use record::RunRecord;
pub use task::TaskRecord;
