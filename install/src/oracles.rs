//! PyTorch and Lightning themselves, for the tests that compare the training library with them: an environment with the
//! versions that `magics/fit/tests/oracles/requirements.txt` names, whole, because torch's wheel cannot be imported without
//! the CUDA libraries that it asks for, also where there is no GPU.

use crate::jupyter;
use crate::libtorch::VERSION;
use crate::place::{self, Libtorch, Place, output};
use crate::ui::{self, Step};
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where their scripts are, in the sources.
const SCRIPTS: &str = "magics/fit/tests/oracles";

/// What the scripts import; the versions are those that count.
const MODULES: &str = "\
import importlib.metadata as m, sys
from importlib.util import find_spec
ours = dict(line.split('==') for line in open(sys.argv[1]).read().split() if '==' in line)
sys.exit(any(m.version(name) != version for name, version in ours.items())
    or not all(map(find_spec, ('torch', 'torchvision', 'numpy', 'PIL', 'safetensors', 'tensorboard', 'onnx', 'onnxruntime'))))";

/// On disk, about, and to be free for pip's work.
const BYTES: u64 = 5_100_000_000;
const FREE: u64 = 9_000_000_000;

/// A Python with all of it, in an environment of the installation's that stays. One that a killed run left goes on.
pub fn environment(place: &Place, root: &Path) -> Result<PathBuf> {
    let folder = place.join("oracles/env");
    let (python, requirements) = (folder.join("bin/python"), root.join(SCRIPTS).join("requirements.txt"));
    let works = || output(Command::new(&python).args(["-c", MODULES]).arg(&requirements)).is_ok();
    if works() {
        ui::already("PyTorch for the tests", "is there");
        return Ok(python);
    }
    crate::preflight::check_disk(&place.root, FREE)?;
    let step = Step::new("PyTorch and Lightning for the tests");
    step.bytes(BYTES);
    let python = jupyter::make_environment(&folder, &crate::preflight::python()?)?;
    let packages = ["-r", &*requirements.to_string_lossy()];
    jupyter::pip_install(place, &python, &packages, &folder, &step)?;
    step.done(&format!("installed, {} on disk", ui::size(place::size(&folder))));
    Ok(python)
}

/// What makes their numbers anew, and the folder into which it puts them.
pub fn make(place: &Place, root: &Path, python: &Path) -> Result<(Command, PathBuf)> {
    let folder = place.join("oracles/numbers");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let mut command = Command::new(python);
    command.arg(root.join(SCRIPTS).join("all.py")).arg(&folder);
    Ok((command, folder))
}

/// Whether the library under test computes with the very file that PyTorch computes with, in words.
pub fn compared(python: &Path, libtorch: &Libtorch) -> String {
    let digest = |file: PathBuf| -> Option<Vec<u8>> {
        let mut hasher = Sha256::new();
        std::io::copy(&mut std::fs::File::open(file).ok()?, &mut hasher).ok()?;
        Some(hasher.finalize().to_vec())
    };
    let code = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    let theirs = output(Command::new(python).args(["-c", code])).unwrap_or_default();
    let theirs = digest(Path::new(&theirs).join("lib/libtorch_cpu.so"));
    if theirs.is_some() && theirs == digest(libtorch.path.join("lib/libtorch_cpu.so")) {
        format!("libtorch_cpu.so is the same file as PyTorch's {VERSION}, byte for byte")
    } else {
        format!(
            "libtorch {} is another build than PyTorch's {VERSION}: numbers may differ by rounding",
            libtorch.version
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;

    #[test]
    fn the_scripts_and_the_versions_are_there() {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(SCRIPTS);
        let versions = std::fs::read_to_string(scripts.join("requirements.txt")).unwrap();
        assert!(scripts.join("all.py").is_file());
        // 2.6.2 and 2.6.3 of Lightning were malicious.
        for line in [format!("torch=={VERSION}"), "pytorch-lightning==2.6.1".to_owned()] {
            assert!(versions.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn the_same_file_is_known_and_another_is_said() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("oracles");
        let theirs = scratch.0.join("site/torch");
        let libtorch = Libtorch {
            path: scratch.0.join("ours"),
            version: "2.13.0".into(),
            variant: "cpu".into(),
        };
        let python = scratch.0.join("python");
        place::write(&python, format!("#!/bin/sh\necho {}\n", theirs.display()).as_bytes()).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        let other = "libtorch 2.13.0 is another build than PyTorch's 2.13.0: numbers may differ by rounding";
        assert_eq!(compared(&python, &libtorch), other);
        place::write(&theirs.join("lib/libtorch_cpu.so"), b"one").unwrap();
        place::write(&libtorch.path.join("lib/libtorch_cpu.so"), b"one").unwrap();
        assert!(compared(&python, &libtorch).starts_with("libtorch_cpu.so is the same file"));
        place::write(&libtorch.path.join("lib/libtorch_cpu.so"), b"two").unwrap();
        assert_eq!(compared(&python, &libtorch), other);
    }
}
