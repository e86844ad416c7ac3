//! Compiles the C++ against the libtorch that torch-sys found. Skipped where cargo's configuration names a library that
//! holds it (`[target.….lightcell_torch]`), as in an installation.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

fn main() {
    println!("cargo::rerun-if-changed=src/shim.cpp");
    println!("cargo::rerun-if-changed=src/shim.h");
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        eprintln!(
            "torch-sys does not say where libtorch is\nhint: set LIBTORCH to the folder that holds lib/ and include/"
        );
        exit(1);
    };
    // Beside lib/, unless torch-sys was told otherwise.
    let root = env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let root = root.unwrap_or_else(|| lib.parent().unwrap_or(Path::new("/")).to_owned());
    let include = root.join("include");
    if !include.join("ATen/autocast_mode.h").is_file() {
        eprintln!(
            "there are no headers of libtorch in {}\nhint: set LIBTORCH to a libtorch that has its include/ folder",
            include.display()
        );
        exit(1);
    }
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    println!("cargo::rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .opt_level(2)
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file("src/shim.cpp")
        .compile("lightcell_torch");
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=dylib=torch_cpu");
    println!("cargo::rustc-link-lib=dylib=c10");
    println!("cargo::rustc-link-lib=dylib=dl");
}
