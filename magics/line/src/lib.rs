//! lightcell-magics
