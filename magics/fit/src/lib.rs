//! lightcell
