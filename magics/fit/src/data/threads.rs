//! How many threads libtorch uses within a worker: one, as there are several workers.

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
