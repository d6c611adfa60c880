//! The one way a task sleeps: [`CurrentTask::block_until`].
//!
//! An attempt first registers what it waits for with the [`Waiter`] it is given, then tries. Nothing can be missed between the
//! two: whatever is registered wakes the task even if it changes before the task sleeps.

use super::wait_queue::{Place, Share};
use super::{CurrentTask, Parker, WaitQueue};
use crate::errno::Errno;
use crate::fs::{Ready, WaitSource, sigio};
use crate::sync::assert_none_held;
use rustix::event::PollFlags;
use rustix::time::{ClockId as HostClock, clock_gettime};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
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

/// What one attempt waits for; said anew by each.
///
/// Places in queues are kept from one attempt to the next, so that waiting for thousands of files again costs little. An attempt that
/// names the same queues in the same order finds itself in them.
#[derive(Debug)]
pub struct Waiter<'w> {
    parker: Arc<Parker>,
    places: Vec<Place>,
    /// How many of the places this attempt has named.
    named: usize,
    hosts: Vec<(BorrowedFd<'w>, PollFlags)>,
    ready: bool,
}

impl<'w> Waiter<'w> {
    fn new(parker: Arc<Parker>) -> Self {
        Self { parker, places: Vec::new(), named: 0, hosts: Vec::new(), ready: false }
    }

    /// Waits for any wake of a queue of the provider's.
    pub fn on_queue(&mut self, queue: &WaitQueue) {
        self.on_queue_for(queue, Ready::all());
    }

    /// Waits for wakes of a queue that concern `interest`; errors and hang-ups always do.
    pub fn on_queue_for(&mut self, queue: &WaitQueue, interest: Ready) {
        if self.places.get(self.named).is_some_and(|place| place.serves(queue, interest)) {
            self.named += 1;
        } else {
            self.enter(queue, interest, Share::Common);
        }
    }

    /// As [`Self::on_queue_for`], but each wake is for one of those that wait so (accept, readers of a pipe). Whoever made use of a
    /// wake and left something over wakes the next.
    pub fn on_queue_exclusive(&mut self, queue: &WaitQueue, interest: Ready) {
        self.enter(queue, interest, Share::Exclusive);
    }

    fn enter(&mut self, queue: &WaitQueue, interest: Ready, share: Share) {
        self.places.truncate(self.named);
        self.places.push(queue.enter_task(&self.parker, interest, share));
        self.named += 1;
    }

    /// Waits for a host descriptor.
    pub fn on_host(&mut self, fd: BorrowedFd<'w>, interest: Ready) {
        self.hosts.push((fd, poll_flags(interest)));
    }

    /// Waits for whatever a file says.
    pub fn on_source(&mut self, source: WaitSource<'w>, interest: Ready) {
        match source {
            // The attempt is made again at once: it says that it is always ready.
            WaitSource::Always => self.ready = true,
            WaitSource::Queue(queue) => self.on_queue_for(queue, interest),
            WaitSource::Host(fd) => self.on_host(fd, interest),
        }
    }

    /// Starts an attempt.
    fn begin(&mut self) {
        self.named = 0;
        self.hosts.clear();
        self.ready = false;
    }

    /// Gives up the places that the attempt no longer named.
    fn settle(&mut self) {
        for place in self.places.drain(self.named..) {
            place.pass_on();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        for place in self.places.drain(..) {
            place.pass_on();
        }
    }
}

/// How long a task that waits for host descriptors until a time of day sleeps at once: ppoll(2) does not notice that the clock is set. No
/// call of Linux's waits so.
const WALL_STEP: Duration = Duration::from_secs(1);

/// The host's poll flags have Linux's numbering: both are Linux.
fn poll_flags(interest: Ready) -> PollFlags {
    PollFlags::from_bits_truncate(u16::try_from(interest.bits()).unwrap_or(0))
}

impl CurrentTask<'_> {
    /// Sleeps until `attempt` succeeds or fails, the deadline passes, or a signal comes.
    ///
    /// Each attempt registers with the waiter what it waits for, then tries; `Ok(None)` means: not yet. This is the only way a
    /// task sleeps. In debug builds it asserts that no ranked lock is held.
    ///
    /// For a posted call the answer is [`Errno::NEEDS_THREAD`] before anything is tried: whoever calls has tried already, or the
    /// call tries when its thread makes it.
    pub fn block_until<'w, T>(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut(&mut Waiter<'w>) -> Result<Option<T>, Errno>,
    ) -> Result<Wake<T>, Errno> {
        assert_none_held();
        self.needs_thread()?;
        let mut waiter = Waiter::new(self.parker().clone());
        loop {
            self.parker().prepare();
            waiter.begin();
            if let Some(value) = attempt(&mut waiter)? {
                return Ok(Wake::Done(value));
            }
            waiter.settle();
            sigio::send_noted(self.kernel());
            if self.has_interrupting_signal() {
                return Ok(Wake::Interrupted);
            }
            let remaining = deadline.remaining();
            if remaining == Some(Duration::ZERO) {
                return Ok(Wake::TimedOut);
            }
            match deadline {
                _ if waiter.ready => std::thread::yield_now(),
                Deadline::Wall(ns) if waiter.hosts.is_empty() => self.asleep(|parker| parker.park_until(ns)),
                _ if waiter.hosts.is_empty() => self.asleep(|parker| parker.park(remaining)),
                Deadline::Wall(_) => {
                    let step = remaining.map(|remaining| remaining.min(WALL_STEP));
                    self.asleep(|parker| parker.poll(&waiter.hosts, step))?;
                }
                _ => self.asleep(|parker| parker.poll(&waiter.hosts, remaining))?,
            }
        }
    }

    /// Sleeps until `over` is true, signals or not; only SIGKILL ends it early. Whatever makes it true wakes the task.
    pub(crate) fn sleep_through_signals(&self, mut over: impl FnMut() -> bool) {
        self.sleep_until(|| over() || self.is_killed());
    }

    /// Sleeps until `over` is true, whatever else happens. Whatever makes it true wakes the task; SIGKILL and the end of the
    /// process must be among it.
    pub(crate) fn sleep_until(&self, mut over: impl FnMut() -> bool) {
        assert_none_held();
        assert!(!self.is_posted(), "calls that may sleep so are not posted");
        loop {
            self.parker().prepare();
            if over() {
                return;
            }
            self.asleep(|parker| parker.park(None));
        }
    }

    /// Sleeps as `how` does. That is nobody's CPU time, and a wake-up when it is over.
    fn asleep<T>(&self, how: impl FnOnce(&Parker) -> T) -> T {
        self.slept.set(true);
        let _rest = self.task().meter.get().map(|meter| meter.rest());
        let result = how(self.parker());
        self.kernel().statistics().wake_up();
        result
    }

    /// Waits until a file that answered `EAGAIN` may answer otherwise, and tries `operation` again; `ERESTARTSYS` if a signal comes.
    pub fn block_on_file<T>(
        &self,
        file: &dyn crate::fs::File,
        interest: Ready,
        mut operation: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.block_until(Deadline::Never, |waiter| {
            match file.wait_source() {
                WaitSource::Queue(queue) if file.takes_turns() => waiter.on_queue_exclusive(queue, interest),
                source => waiter.on_source(source, interest),
            }
            match operation() {
                Err(Errno::EAGAIN) => Ok(None),
                other => other.map(Some),
            }
        })?
        .or_restart()
    }
}
