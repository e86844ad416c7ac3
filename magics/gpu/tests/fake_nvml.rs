//! The devices through a real shared library that the test compiles. One test, because the library is named by the
//! environment of the process.

use lightcell_gpu::{MissingLink, Torch, snapshot, to_text};
use std::path::PathBuf;
use std::process::Command;

#[test]
fn two_devices_are_read_through_a_real_library() {
    let folder = std::env::temp_dir().join(format!("lightcell-nvml-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let library = folder.join("libnvidia-ml.so.1");
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fake_nvml.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .status()
        .expect("a C compiler");
    assert!(compiled.success());
    let me = std::process::id();
    // SAFETY: this is the only test of this process, and no other thread reads the environment meanwhile.
    let set = |name: &str, value: &str| unsafe { std::env::set_var(name, value) };
    set("LIGHTCELL_NVML", &library.to_string_lossy());
    set("FAKE_NVML_PID", &me.to_string());

    let seen = snapshot(&[me]);
    assert_eq!(seen.missing, None);
    assert_eq!(
        (seen.driver.as_deref(), seen.cuda.as_deref()),
        (Some("580.65.06"), Some("13.0"))
    );
    let [first, second] = &seen.devices[..] else {
        panic!("{:?}", seen.devices)
    };
    assert_eq!(
        (
            first.memory_used,
            first.memory_total,
            first.utilization,
            first.temperature
        ),
        (Some(20 << 30), Some(80 << 30), Some(93), Some(64))
    );
    assert_eq!((first.power, first.power_limit), (Some(351.2), Some(700.0)));
    assert_eq!(
        (second.power, second.power_limit, second.temperature),
        (None, None, Some(30))
    );
    let [process] = &first.processes[..] else {
        panic!("{:?}", first.processes)
    };
    assert_eq!((process.pid, process.ours, process.memory), (me, true, Some(3 << 30)));
    assert!(process.user.is_some() && process.name.is_some());
    let torch = Torch {
        version: "2.13.0".into(),
        cuda_library: true,
        cuda: Some("13.0".into()),
        load_error: None,
    };
    let text = to_text(&seen, &torch);
    assert!(
        text.contains("cuda:0  Fake H100 <80GB>  20 GiB / 80 GiB") && text.contains("(this kernel)"),
        "{text}"
    );
    assert!(text.ends_with("%fit will use: cuda:0 (Fake H100 <80GB>)\n"), "{text}");

    // Another kernel's process is not marked; a driver that fails is named.
    assert!(!snapshot(&[]).devices[0].processes[0].ours);
    set("FAKE_NVML_INIT", "18");
    assert_eq!(snapshot(&[]).missing, Some(MissingLink::DriverMismatch));
    set("FAKE_NVML_INIT", "999");
    assert!(matches!(snapshot(&[]).missing, Some(MissingLink::Nvml(_))));
    set("LIGHTCELL_NVML", "/nonexistent/lib.so");
    assert!(snapshot(&[]).missing.is_some());
    std::fs::remove_dir_all(folder).unwrap();
}
