//! stub
use crate::engine::Diagnostic;
use crate::executor::Shared;
use crate::publish::Parent;
use crate::report::{Cell, Report};
use std::sync::Arc;
pub enum Piece { Code(String), Kernel(String), Fit(Fit), Help(String) }
pub struct Fit;
impl Fit {
    pub fn generate(&self, _v: &[(String, String)], _i: &[String]) -> Result<String, String> { Err(String::new()) }
    pub fn explain(&self, errors: &[Diagnostic], _rust: &str, cell: Cell) -> Report { Report::compile(errors, cell) }
}
pub fn split(code: &str) -> Result<Vec<Piece>, String> { Ok(vec![Piece::Code(code.to_owned())]) }
pub fn report(e: &str, _c: usize, _code: &str) -> Report { Report::plain("MagicError", e, None) }
pub fn kernel_side(_c: &str, _s: &Arc<Shared>, _p: &Parent) -> Result<(), Report> { Ok(()) }
pub fn run_kernel_only(_c: &str, _s: &Arc<Shared>, _p: &Parent) -> Result<(), Report> { Ok(()) }
pub fn is_kernel_only(_c: &str) -> bool { false }
pub fn help(_n: &str) -> Option<String> { None }
pub fn help_at(_c: &str, _o: usize) -> Option<String> { None }
pub fn complete(_c: &str, _o: usize) -> Option<(usize, usize, Vec<String>)> { None }
pub fn preload_failed(_p: &str) {}
