//! lightcell-gpu
