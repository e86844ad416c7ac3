//! lightcell-install
