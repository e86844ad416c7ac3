//! Says what to run to those who try a plain `cargo build` first. (The aliases are quiet.)

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!(
        "cargo:warning=this builds only the set-up command; `cargo demo` sets everything up and trains a first network"
    );
}
