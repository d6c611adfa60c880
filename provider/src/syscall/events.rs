//! Descriptors of events: eventfd(2).

use super::fs::install;
use crate::errno::Errno;
use crate::fs::eventfd::{EventFd, Takes};
use crate::fs::{Fd, OpenFlags, open_anonymous};
use crate::syscall::args::flags_arg;
use crate::task::CurrentTask;
use std::sync::Arc;

bitflags::bitflags! {
    /// eventfd2(2)'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EventFdFlags: u32 {
        /// Each read takes one.
        const SEMAPHORE = 1;
        /// Never wait.
        const NONBLOCK = OpenFlags::NONBLOCK.bits();
        /// Close on exec.
        const CLOEXEC = OpenFlags::CLOEXEC.bits();
    }
}

flags_arg! {
    EventFdFlags => "EFD_";
}

/// eventfd(2).
pub(super) fn eventfd(task: &CurrentTask<'_>, count: u32) -> Result<Fd, Errno> {
    eventfd2(task, count, EventFdFlags::empty())
}

/// eventfd2(2).
pub(super) fn eventfd2(task: &CurrentTask<'_>, count: u32, flags: EventFdFlags) -> Result<Fd, Errno> {
    if !EventFdFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    let takes = if flags.contains(EventFdFlags::SEMAPHORE) { Takes::One } else { Takes::All };
    let status = OpenFlags::from_bits_retain(flags.bits()) & OpenFlags::NONBLOCK;
    let file = open_anonymous(Arc::new(EventFd::new(count, takes)), "[eventfd]", OpenFlags::RDWR | status);
    install(task, file, flags.contains(EventFdFlags::CLOEXEC))
}
