//! The training library and all it needs as one shared library.
//!
//! A cell that links the crates themselves makes the linker read ninety archives and carries a copy of all it uses; one
//! that links this library names it and is done. It has no items of its own to use: it is there to be linked.

pub use {lightcell, lightcell_cell};
