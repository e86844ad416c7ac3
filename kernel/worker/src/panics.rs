//! Panics of the user's code are reported as they happen, and a signal handler notes the stop button.

use crate::{frames, link, output, shared};
use lightcell_events::frame::{Kind, encode_fields};
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::Ordering;

/// Installs both. The hook holds for the cells, because they share libstd.so with this program.
pub fn install() {
    std::panic::set_hook(Box::new(hook));
    extern "C" fn note_stop(_: std::ffi::c_int, info: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {
        // SAFETY: with SA_SIGINFO the kernel of the system gives a valid pointer; the value is there when it was queued.
        let queued = unsafe { info.as_ref() }.filter(|info| info.si_code == libc::SI_QUEUE);
        // SAFETY: as above.
        let value = queued.map_or(0, |info| unsafe { info.si_value() }.sival_ptr as usize as i32);
        let leave = i32::from(value == lightcell_events::LEAVE);
        shared::get().stop.fetch_max(1 + leave, Ordering::Relaxed);
    }
    // SAFETY: the handler stores one atomic, which is allowed in a handler; SA_RESTART keeps user system calls going.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note_stop as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
        libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut());
    }
}

fn hook(info: &PanicHookInfo<'_>) {
    // What the user printed before the panic comes before its message, and evcxr's notification starts a line.
    let _ = std::io::stdout().flush();
    let message = info
        .payload()
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| info.payload().downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "Box<dyn Any>".to_owned());
    let message = lightcell_events::cpp::without_stack(&message).into_owned();
    let (file, line, column) = match info.location() {
        Some(place) => (
            place.file().to_owned(),
            place.line().to_string(),
            place.column().to_string(),
        ),
        None => Default::default(),
    };
    let thread = std::thread::current();
    let own = output::is_cell_thread();
    let mut fields = vec![
        message,
        file,
        line,
        column,
        if own {
            String::new()
        } else {
            thread.name().unwrap_or("<unnamed>").to_owned()
        },
    ];
    let frames = frames::of_cells();
    fields.push(frames.calls);
    fields.extend(frames.names);
    link::send(Kind::Panic, &encode_fields(&fields));
    if own {
        output::expect_panic_line();
    } else {
        // Nothing else reports it: the cell goes on.
        eprintln!("thread '{}' panicked: {}", fields[4], fields[0]);
    }
}
