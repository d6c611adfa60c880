//! What a sleeping task is woken by: [`Parker`].

use crate::errno::Errno;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::Timespec;
use rustix::thread::futex;
use std::fmt;
use std::num::NonZeroU32;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The task runs, and nobody has woken it since it last looked.
const AWAKE: u32 = 0;
/// Somebody has woken it; it has not looked since.
const WOKEN: u32 = 1;
/// It sleeps on the state word itself.
const PARKED: u32 = 2;
/// It sleeps in poll(2) on host descriptors, so it must be woken through `wake_fd`.
const POLLING: u32 = 3;

/// What wakes a sleeping task. Each task has one; wait queues and signals hold on to it.
#[derive(Default)]
pub struct Parker {
    state: AtomicU32,
    wake_fd: OnceLock<OwnedFd>,
}

impl Parker {
    /// Wakes the task, now or at its next sleep. Costs a host call only if it sleeps.
    pub fn wake(&self) {
        match self.state.swap(WOKEN, Ordering::SeqCst) {
            PARKED => {
                // Waking by the address of a word of our own cannot fail.
                let _ = futex::wake(&self.state, futex::Flags::PRIVATE, 1);
            }
            POLLING => {
                if let Some(fd) = self.wake_fd.get() {
                    // Fails only when the counter is full: then the descriptor is readable already.
                    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
                }
            }
            _ => {}
        }
    }

    /// Forgets earlier wake-ups. What changes after this call wakes; what changed before is seen by the attempt that follows,
    /// since the exchange is a full barrier between the two.
    pub(super) fn prepare(&self) {
        self.state.swap(AWAKE, Ordering::SeqCst);
    }

    /// Tells whether the task sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(self.state.load(Ordering::SeqCst), PARKED | POLLING)
    }

    /// Says that the task sleeps from now on; `false` if it was woken already.
    fn fall_asleep(&self, how: u32) -> bool {
        self.state.compare_exchange(AWAKE, how, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Says that it is up again; a wake-up that came stays noted.
    fn get_up(&self, how: u32) {
        let _ = self.state.compare_exchange(how, AWAKE, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Sleeps until woken or until `timeout` has passed. May return early: the caller looks again.
    pub(super) fn park(&self, timeout: Option<Duration>) {
        let timeout = timeout.and_then(|span| Timespec::try_from(span).ok());
        if self.fall_asleep(PARKED) {
            // EAGAIN: woken in between. EINTR: a kick, whose reason the caller looks at. ETIMEDOUT: the caller asks the clock.
            let _ = futex::wait(&self.state, futex::Flags::PRIVATE, PARKED, timeout.as_ref());
            self.get_up(PARKED);
        }
    }

    /// Sleeps until woken or until the wall clock shows `ns`, also if somebody sets it. May return early: the caller looks again.
    pub(super) fn park_until(&self, ns: u64) {
        let at = Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or_default(),
        };
        if self.fall_asleep(PARKED) {
            // Whatever wakes it, as in `park`.
            let flags = futex::Flags::PRIVATE | futex::Flags::CLOCK_REALTIME;
            let _ = futex::wait_bitset(&self.state, flags, PARKED, Some(&at), NonZeroU32::MAX);
            self.get_up(PARKED);
        }
    }

    /// Sleeps until woken, until a descriptor is ready or until `timeout` has passed. May return early.
    pub(super) fn poll(&self, sources: &[(BorrowedFd<'_>, PollFlags)], timeout: Option<Duration>) -> Result<(), Errno> {
        let wake_fd = match self.wake_fd.get() {
            Some(fd) => fd,
            None => {
                let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                self.wake_fd.get_or_init(|| fd)
            }
        };
        if !self.fall_asleep(POLLING) {
            return Ok(());
        }
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        fds.push(PollFd::new(wake_fd, PollFlags::IN));
        let timeout = timeout.and_then(|span| Timespec::try_from(span).ok());
        let result = poll(&mut fds, timeout.as_ref());
        self.get_up(POLLING);
        let _ = rustix::io::read(wake_fd, &mut [0u8; 8]);
        match result {
            // A signal of the host's to this thread: a kick, whose reason the caller looks at.
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Debug for Parker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parker").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_wake_before_the_sleep_is_not_lost() {
        let parker = Parker::default();
        parker.prepare();
        parker.wake();
        parker.park(None);
        parker.poll(&[], None).unwrap();
        parker.prepare();
        parker.park(Some(Duration::ZERO));
        parker.park_until(0);
    }

    #[test]
    fn a_time_of_day_ends_a_sleep() {
        let parker = Parker::default();
        let soon = std::time::SystemTime::now() + Duration::from_millis(5);
        let ns = soon.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        parker.prepare();
        while std::time::SystemTime::now() < soon {
            parker.park_until(u64::try_from(ns).unwrap());
        }
        assert!(!parker.is_asleep());
    }

    #[test]
    fn a_wake_ends_both_kinds_of_sleep() {
        for polls in [false, true] {
            let parker = Arc::new(Parker::default());
            let waker = Arc::clone(&parker);
            parker.prepare();
            let thread = std::thread::spawn(move || waker.wake());
            while parker.state.load(Ordering::SeqCst) != WOKEN {
                if polls { parker.poll(&[], None).unwrap() } else { parker.park(None) }
            }
            thread.join().unwrap();
        }
    }
}
