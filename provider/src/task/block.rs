//! The one way a task sleeps: [`CurrentTask::block_until`].
//!
//! An attempt first registers what it waits for with the [`Waiter`] it is given, then tries. Nothing can be missed between the
//! two: whatever is registered wakes the task even if it changes before the task sleeps.

use super::CurrentTask;
use crate::errno::Errno;
use crate::fs::{Ready, WaitSource};
use crate::sync::{Mutex, Rank, assert_none_held};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::Timespec;
use rustix::time::{
    ClockId as HostClock, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, clock_gettime, timerfd_create,
    timerfd_settime,
};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vmm::clock::ClockKind;

/// Until when a task sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Until it is woken.
    Never,
    /// Until the monotonic clock shows this time.
    Monotonic(Instant),
    /// Until the wall clock, which may be set, shows this many nanoseconds since the epoch.
    Wall(u64),
}

impl Deadline {
    /// A span from now; one that no clock can show is never.
    pub fn after(span: Duration) -> Self {
        Instant::now().checked_add(span).map_or(Self::Never, Self::Monotonic)
    }

    /// The point `ns` on a clock that shows `now` now.
    pub fn at(clock: ClockKind, ns: u64, now: u64) -> Self {
        match clock {
            ClockKind::Wall | ClockKind::WallCoarse => Self::Wall(ns),
            // The others run together with the monotonic clock while the host is awake.
            _ => Self::after(Duration::from_nanos(ns.saturating_sub(now))),
        }
    }

    /// What is left of it; `None`: for ever. For the wall clock as it runs now.
    pub fn remaining(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Wall(ns) => {
                let now = clock_gettime(HostClock::Realtime);
                let now = Duration::new(
                    u64::try_from(now.tv_sec).unwrap_or_default(),
                    u32::try_from(now.tv_nsec).unwrap_or_default(),
                );
                Some(Duration::from_nanos(ns).saturating_sub(now))
            }
            Self::Monotonic(at) => Some(at.saturating_duration_since(Instant::now())),
        }
    }
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake<T> {
    /// The attempt succeeded.
    Done(T),
    /// The deadline passed first.
    TimedOut,
    /// A signal came first. The caller picks the error: `ERESTARTSYS`, `ERESTARTNOHAND`, `EINTR`…
    Interrupted,
}

impl<T> Wake<T> {
    /// The usual case of calls without a timeout: interrupted means `ERESTARTSYS`.
    pub fn or_restart(self) -> Result<T, Errno> {
        match self {
            Self::Done(value) => Ok(value),
            Self::TimedOut => Err(Errno::ETIMEDOUT),
            Self::Interrupted => Err(Errno::ERESTARTSYS),
        }
    }
}

/// What wakes a sleeping task. Each task has one; wait queues and signals hold on to it.
#[derive(Default)]
pub struct Parker {
    /// A wake-up that has not been consumed.
    woken: AtomicBool,
    /// The task sleeps in `ppoll` on host descriptors, so it must be woken through `wake_fd`.
    state: std::sync::Mutex<bool>,
    condition: Condvar,
    wake_fd: OnceLock<OwnedFd>,
}

impl Parker {
    /// Wakes the task, now or at its next sleep.
    pub fn wake(&self) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let polls = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if polls && let Some(fd) = self.wake_fd.get() {
            // Fails only when the counter is full: then the descriptor is readable already.
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
        self.condition.notify_one();
    }

    /// Forgets earlier wake-ups; what is registered after this call wakes.
    fn prepare(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Sleeps until woken or until `timeout` has passed.
    fn park(&self, timeout: Option<Duration>) {
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let asleep = |_: &mut bool| !self.woken.load(Ordering::Acquire);
        match timeout {
            None => {
                let _guard = self.condition.wait_while(guard, asleep).unwrap_or_else(PoisonError::into_inner);
            }
            Some(timeout) => {
                let _guard =
                    self.condition.wait_timeout_while(guard, timeout, asleep).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Sleeps until woken, until a descriptor is ready or until `timeout` has passed.
    fn poll(&self, sources: &[(BorrowedFd<'_>, PollFlags)], timeout: Option<Duration>) -> Result<(), Errno> {
        let wake_fd = match self.wake_fd.get() {
            Some(fd) => fd,
            None => {
                let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                self.wake_fd.get_or_init(|| fd)
            }
        };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let result = if self.woken.load(Ordering::Acquire) {
            Ok(0)
        } else {
            let mut fds: Vec<PollFd<'_>> =
                sources.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
            fds.push(PollFd::new(wake_fd, PollFlags::IN));
            let timeout = timeout.and_then(|span| Timespec::try_from(span).ok());
            poll(&mut fds, timeout.as_ref())
        };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = false;
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
        f.debug_struct("Parker").field("woken", &self.woken).finish_non_exhaustive()
    }
}

/// Tasks that wait for something of the provider's to change.
#[derive(Debug)]
pub struct WaitQueue {
    waiters: Arc<Mutex<Vec<Arc<Parker>>>>,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self { waiters: Arc::new(Mutex::new(Rank::Waiters, Vec::new())) }
    }
}

impl WaitQueue {
    /// Wakes all that wait.
    pub fn wake_all(&self) {
        for parker in self.waiters.lock().iter() {
            parker.wake();
        }
    }
}

/// What one attempt waits for; filled anew by each.
#[derive(Debug)]
pub struct Waiter<'w> {
    parker: Arc<Parker>,
    queues: Vec<Arc<Mutex<Vec<Arc<Parker>>>>>,
    hosts: Vec<(BorrowedFd<'w>, PollFlags)>,
    ready: bool,
}

impl<'w> Waiter<'w> {
    fn new(parker: Arc<Parker>) -> Self {
        Self { parker, queues: Vec::new(), hosts: Vec::new(), ready: false }
    }

    /// Waits for a queue of the provider's.
    pub fn on_queue(&mut self, queue: &WaitQueue) {
        queue.waiters.lock().push(self.parker.clone());
        self.queues.push(queue.waiters.clone());
    }

    /// Waits for a host descriptor.
    pub fn on_host(&mut self, fd: BorrowedFd<'w>, interest: Ready) {
        self.hosts.push((fd, poll_flags(interest)));
    }

    /// Waits for whatever a file says; `interest` counts for host descriptors.
    pub fn on_source(&mut self, source: WaitSource<'w>, interest: Ready) {
        match source {
            // The attempt is made again at once: it says that it is always ready.
            WaitSource::Always => self.ready = true,
            WaitSource::Queue(queue) => self.on_queue(queue),
            WaitSource::Host(fd) => self.on_host(fd, interest),
        }
    }

    fn clear(&mut self) {
        for queue in self.queues.drain(..) {
            let mut waiters = queue.lock();
            if let Some(at) = waiters.iter().position(|parker| Arc::ptr_eq(parker, &self.parker)) {
                waiters.swap_remove(at);
            }
        }
        self.hosts.clear();
        self.ready = false;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A descriptor that becomes readable when the wall clock shows `ns`, also if somebody sets the clock.
fn wall_alarm(ns: u64) -> Result<OwnedFd, Errno> {
    let fd = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let at = Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or_default(),
    };
    timerfd_settime(&fd, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval: zero, it_value: at })?;
    Ok(fd)
}

/// The host's poll flags have Linux's numbering: both are Linux.
fn poll_flags(interest: Ready) -> PollFlags {
    PollFlags::from_bits_truncate(u16::try_from(interest.bits()).unwrap_or(0))
}

impl CurrentTask<'_> {
    /// Sleeps until `attempt` succeeds or fails, the deadline passes, or a signal comes.
    ///
    /// Each attempt registers with the waiter what it waits for, then tries; `Ok(None)` means: not yet. This is the only way a
    /// task sleeps. In debug builds it asserts that no ranked lock is held.
    pub fn block_until<'w, T>(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut(&mut Waiter<'w>) -> Result<Option<T>, Errno>,
    ) -> Result<Wake<T>, Errno> {
        assert_none_held();
        let mut waiter = Waiter::new(self.parker().clone());
        let alarm = match deadline {
            Deadline::Wall(ns) if deadline.remaining() != Some(Duration::ZERO) => Some(wall_alarm(ns)?),
            _ => None,
        };
        loop {
            self.parker().prepare();
            if let Some(value) = attempt(&mut waiter)? {
                return Ok(Wake::Done(value));
            }
            if self.has_interrupting_signal() {
                return Ok(Wake::Interrupted);
            }
            let remaining = deadline.remaining();
            if remaining == Some(Duration::ZERO) {
                return Ok(Wake::TimedOut);
            }
            if waiter.ready {
                std::thread::yield_now();
            } else if let Some(alarm) = &alarm {
                let mut sources = waiter.hosts.clone();
                sources.push((alarm.as_fd(), PollFlags::IN));
                self.parker().poll(&sources, None)?;
            } else if waiter.hosts.is_empty() {
                self.parker().park(remaining);
            } else {
                self.parker().poll(&waiter.hosts, remaining)?;
            }
            waiter.clear();
        }
    }

    /// Sleeps until `over` is true, signals or not; only SIGKILL ends it early. Whatever makes it true wakes the task.
    pub(crate) fn sleep_through_signals(&self, mut over: impl FnMut() -> bool) {
        assert_none_held();
        loop {
            self.parker().prepare();
            if over() || self.is_killed() {
                return;
            }
            self.parker().park(None);
        }
    }

    /// Waits until a file that answered `EAGAIN` may answer otherwise, and tries `operation` again; `ERESTARTSYS` if a signal comes.
    pub fn block_on_file<T>(
        &self,
        file: &dyn crate::fs::File,
        interest: Ready,
        mut operation: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.block_until(Deadline::Never, |waiter| {
            waiter.on_source(file.wait_source(), interest);
            match operation() {
                Err(Errno::EAGAIN) => Ok(None),
                other => other.map(Some),
            }
        })?
        .or_restart()
    }
}
