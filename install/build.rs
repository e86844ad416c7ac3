//! Says what to run to those who try a plain `cargo build` first.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("LIGHTCELL_BUILDING").is_none() {
        println!(
            "cargo:warning=this builds only the set-up command; `cargo demo` sets everything up and trains a first network"
        );
    }
    println!("cargo:rerun-if-env-changed=LIGHTCELL_BUILDING");
}
