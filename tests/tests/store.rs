//! The warm store under many kernels.

use lightcell_tests::{Kernel, home};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

fn checksums(folder: &Path, into: &mut BTreeMap<PathBuf, u64>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            checksums(&entry.path(), into);
        } else {
            let mut hasher = DefaultHasher::new();
            hasher.write(&std::fs::read(entry.path()).unwrap());
            into.insert(entry.path(), hasher.finish());
        }
    }
}

#[test]
fn kernels_share_the_store_and_leave_it_as_it_was() {
    let store = home().join("store");
    let mut before = BTreeMap::new();
    checksums(&store, &mut before);
    assert!(
        before
            .keys()
            .any(|path| path.to_string_lossy().contains("liblightcell")),
        "a store with the library in it"
    );
    let tch =
        "lightcell::prelude::Tensor::from_slice(&[1i64, 2, 3]).sum(lightcell::prelude::Kind::Int64).int64_value(&[])";
    std::thread::scope(|scope| {
        let kernels: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut kernel = Kernel::start();
                    assert_eq!(kernel.ok(tch).value(), "6");
                    let pid = kernel.pid();
                    // No crate was compiled: evcxr would have named it, and the kernel logs what it says.
                    let log = std::fs::read_to_string(home().join(format!("logs/kernel-{pid}.log"))).unwrap();
                    assert!(log.contains("library loaded") && !log.contains("Compiling"), "{log}");
                })
            })
            .collect();
        for kernel in kernels {
            kernel.join().unwrap();
        }
    });
    let mut after = BTreeMap::new();
    checksums(&store, &mut after);
    assert_eq!(before, after);
}

#[test]
fn a_kernel_without_an_installation_says_what_to_do() {
    let scratch = lightcell_tests::Scratch::new("nohome");
    // The kernelspec names the home; a copy of it names an empty one.
    let spec = scratch.0.join("kernels/homeless");
    std::fs::create_dir_all(&spec).unwrap();
    let kernel = home().join("bin/lightcell-kernel");
    let text = serde_json::json!({
        "argv": [kernel, "--connection-file", "{connection_file}"], "display_name": "x", "language": "rust",
        "interrupt_mode": "message", "env": {"LIGHTCELL_HOME": scratch.0.join("empty")},
    });
    std::fs::write(spec.join("kernel.json"), text.to_string()).unwrap();
    let path = format!(
        "{}:{}",
        scratch.0.display(),
        std::env::var("JUPYTER_PATH").unwrap_or_default()
    );
    let mut kernel = Kernel::start_with(&[("JUPYTER_PATH", &path), ("LIGHTCELL_TEST_KERNEL", "homeless")]);
    let cell = kernel.err("1 + 1");
    assert_eq!(cell.ename(), "SetupError");
    assert!(
        cell.traceback().contains("Lightcell is not set up")
            && cell.traceback().contains("hint: run `lightcell setup`"),
        "{}",
        cell.traceback()
    );
}
