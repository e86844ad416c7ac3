//! The peer that the benchmark measures against: evcxr_jupyter, with the evcxr and the profile of our kernel.

fn main() {
    if let Err(error) = evcxr_jupyter::main() {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}
