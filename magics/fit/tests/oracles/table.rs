//! The table of the rows: what was compared, with which tolerance, and how far apart it was. It is printed when the tests
//! end, whatever they found.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once, PoisonError};

/// Row and what was compared, to the tolerance and the largest difference; no tolerance where only equality will do.
type Rows = BTreeMap<(u32, String), (Option<f64>, f64)>;

static ROWS: Mutex<Rows> = Mutex::new(Rows::new());

unsafe extern "C" {
    /// libc's.
    safe fn atexit(function: extern "C" fn()) -> std::ffi::c_int;
}

fn note(row: u32, what: &str, tolerance: Option<f64>, difference: f64) {
    static AT_END: Once = Once::new();
    AT_END.call_once(|| {
        // The harness has no place for what comes after the last test. Where this fails there is no table.
        let _ = atexit(print);
    });
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = rows.entry((row, what.to_owned())).or_insert((tolerance, 0.0));
    if difference > entry.1 || difference.is_nan() {
        entry.1 = difference;
    }
}

/// Ours and theirs may differ by the tolerance.
pub fn near(row: u32, what: &str, difference: f64, tolerance: f64) {
    note(row, what, Some(tolerance), difference);
    assert!(
        difference <= tolerance,
        "{what}: {difference:e} apart, {tolerance:e} allowed"
    );
}

/// Ours and theirs must be equal; the tests say so with `assert_eq!`, and come here when it held.
pub fn equal(row: u32, what: &str) {
    note(row, what, None, 0.0);
}

extern "C" fn print() {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    println!("\n{:<4} {:<52} {:>9} {:>9}", "row", "oracle", "tolerance", "measured");
    for ((row, what), (tolerance, difference)) in &*rows {
        let tolerance = tolerance.map_or_else(|| "equal".to_owned(), |tolerance| format!("{tolerance:.0e}"));
        let measured = if *difference == 0.0 {
            "0".to_owned()
        } else {
            format!("{difference:.1e}")
        };
        println!("{row:<4} {what:<52} {tolerance:>9} {measured:>9}");
    }
}
