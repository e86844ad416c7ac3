//! lightcell-tests
