//! Files of PyTorch and Lightning in Python, in both directions. The pickles themselves are `lightcell-pickle`'s.

pub(crate) mod json;
pub(crate) mod lightning;
mod optimizer_state;
mod script;
pub(crate) mod torch_file;

pub use script::ScriptModule;
