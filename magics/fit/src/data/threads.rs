//! How many threads libtorch uses within a worker: one, as there are several workers; and how many workers there may be.

use std::ffi::{CStr, CString, c_int, c_void};

/// Makes libtorch's operations on this thread run on this thread alone, as PyTorch does in its workers. Where that cannot be
/// said, they are only slower.
pub(super) fn alone() {
    // libtorch sets its usual number when a thread asks for the first time; what is said later holds.
    tch::get_num_threads();
    let Some(path) = openmp() else { return };
    let name: &CStr = c"omp_set_num_threads";
    // SAFETY: the library is loaded already (NOLOAD) and stays so, as libtorch needs it. OpenMP's function takes an int, gives
    // nothing, and holds for the calling thread alone.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if library.is_null() {
            return;
        }
        let set = libc::dlsym(library, name.as_ptr());
        if !set.is_null() {
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int)>(set)(1);
        }
        libc::dlclose(library);
    }
}

/// How many workers a job of Slurm has processors for; elsewhere as many as are asked for, as in PyTorch.
pub(super) fn allowed() -> usize {
    allowed_by(|name| std::env::var(name).ok())
}

fn allowed_by(get: impl Fn(&str) -> Option<String>) -> usize {
    let counts = ["SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"].map(get);
    match &counts {
        [Some(_), per_task, on_node] => {
            let mut given = [per_task, on_node].into_iter().flatten();
            given
                .find_map(|count| count.parse().ok())
                .filter(|count| *count > 0)
                .unwrap_or(usize::MAX)
        }
        _ => usize::MAX,
    }
}

/// Where the OpenMP library of this process lies. It is not always in the scope that names are looked up in.
fn openmp() -> Option<CString> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| line.split_once('/'));
    let mut paths = paths.map(|(_, path)| format!("/{path}"));
    CString::new(paths.find(|path| path.contains("libgomp"))?).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_job_limits_the_workers() {
        let by = |pairs: &[(&str, &str)]| {
            super::allowed_by(|name| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(by(&[("SLURM_CPUS_ON_NODE", "2")]), usize::MAX);
        assert_eq!(by(&[("SLURM_JOB_ID", "7")]), usize::MAX);
        assert_eq!(by(&[("SLURM_JOB_ID", "7"), ("SLURM_CPUS_ON_NODE", "8")]), 8);
        let both = [
            ("SLURM_JOB_ID", "7"),
            ("SLURM_CPUS_ON_NODE", "8"),
            ("SLURM_CPUS_PER_TASK", "2"),
        ];
        assert_eq!(by(&both), 2);
    }

    #[test]
    fn a_worker_has_one_thread_and_others_keep_theirs() {
        let _turn = crate::tests::in_turn();
        let before = tch::get_num_threads();
        tch::set_num_threads(2);
        let within = std::thread::spawn(|| {
            super::alone();
            tch::get_num_threads()
        });
        assert_eq!((within.join().unwrap(), tch::get_num_threads()), (1, 2));
        let other = std::thread::spawn(tch::get_num_threads);
        assert_eq!(other.join().unwrap(), 2);
        tch::set_num_threads(before);
    }
}
