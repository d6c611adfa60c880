//! A host thread that begins on another CPU than the one that has started it.
//!
//! Schedulers like to keep what belongs together on one CPU: some leave a new thread, and one that is woken, on its
//! starter's, where it gets no further than the starter lets it. For work that is to be done beside the starter's own that
//! is the wrong place, and it is only known here.

use crate::threads::processor;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::mem::size_of_val;
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// The starter's half: moves the thread.
#[derive(Debug)]
pub(super) struct Apart {
    allowed: Option<CpuSet>,
    moved: Sender<()>,
}

/// The thread's half: gives it back to the scheduler. Dropping it leaves the thread where it is.
#[derive(Debug)]
pub(super) struct Stay {
    allowed: Option<CpuSet>,
    moved: Receiver<()>,
}

/// Prepares to move a thread that the caller is about to start; wherever there is only one CPU it stays.
pub(super) fn apart() -> (Apart, Stay) {
    let allowed = sched_getaffinity(None).ok().filter(|allowed| allowed.count() > 1);
    let (tell, told) = channel();
    (Apart { allowed, moved: tell }, Stay { allowed, moved: told })
}

impl Apart {
    /// Moves `thread` to any other CPU than the caller's. That it cannot is no error: it then runs where it is.
    pub(super) fn place(self, thread: &JoinHandle<()>) {
        if let Some(allowed) = self.allowed {
            keep_off(thread, &allowed, processor());
        }
        // A thread that has ended already does not listen any more.
        let _ = self.moved.send(());
    }
}

/// Lets a thread run on the `allowed` CPUs but for one. That it cannot is no error: it then runs wherever it did.
pub(super) fn keep_off(thread: &JoinHandle<()>, allowed: &CpuSet, cpu: usize) {
    let mut set = libc_set();
    for other in (0..CpuSet::MAX_CPU).filter(|other| *other != cpu && allowed.is_set(*other)) {
        // SAFETY: `set` is a set of CPUs, and the number is below its size.
        unsafe { libc::CPU_SET(other, &mut set) };
    }
    // SAFETY: the thread has not been joined or detached, since its handle is here, and `set` is read only.
    unsafe { libc::pthread_setaffinity_np(thread.as_pthread_t(), size_of_val(&set), &raw const set) };
}

impl Stay {
    /// Lets the calling thread, which has been moved, run wherever the starter may.
    pub(super) fn end(self) {
        // Not before it was moved: it would be bound for good.
        let _ = self.moved.recv();
        if let Some(allowed) = self.allowed {
            let _ = sched_setaffinity(None, &allowed);
        }
    }
}

/// A set with no CPU in it.
fn libc_set() -> libc::cpu_set_t {
    // SAFETY: a set is an array of integers; all zeroes are the empty one.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::spawn;

    #[test]
    fn a_thread_begins_elsewhere_and_ends_anywhere() {
        let everywhere = sched_getaffinity(None).unwrap();
        let (apart, stay) = apart();
        let (go, begin) = channel();
        let thread = spawn(move || {
            begin.recv().unwrap();
            let bound = sched_getaffinity(None).unwrap();
            stay.end();
            let free = sched_getaffinity(None).unwrap();
            assert_eq!(free, everywhere);
            if everywhere.count() > 1 {
                assert_eq!(bound.count(), everywhere.count() - 1);
            }
        });
        apart.place(&thread);
        go.send(()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_has_ended_is_left_alone() {
        let (apart, stay) = apart();
        let thread = spawn(move || drop(stay));
        while !thread.is_finished() {
            std::thread::yield_now();
        }
        apart.place(&thread);
        thread.join().unwrap();
    }
}
