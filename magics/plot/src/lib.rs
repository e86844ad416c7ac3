//! lightcell-plot
