//! Which standard descriptors the monitor was started with.
//!
//! Rust's runtime opens /dev/null for those of 0, 1 and 2 that are closed, before `main`. A program that is run with a closed standard
//! input must find it closed, so they are looked at earlier, when the C library runs the initializers.

use std::sync::atomic::{AtomicBool, Ordering};

static OPEN: [AtomicBool; 3] = [const { AtomicBool::new(true) }; 3];

/// Run by the C library before Rust's runtime starts.
// The section holds pointers to functions that take nothing they need and return nothing, which this is.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    for (fd, open) in (0..).zip(&OPEN) {
        // SAFETY: F_GETFD reads a descriptor's flags and touches no memory.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        open.store(flags != -1, Ordering::Relaxed);
    }
}

/// Tells which of the descriptors 0, 1 and 2 were open when the process started.
pub fn standard_descriptors() -> [bool; 3] {
    OPEN.each_ref().map(|open| open.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn an_open_descriptor_is_seen_as_open() {
        // The test harness has standard output; what `look` stores is what the host says now, too.
        look();
        assert!(standard_descriptors()[1]);
        assert_eq!(std::io::stdout().as_raw_fd(), 1);
    }
}
