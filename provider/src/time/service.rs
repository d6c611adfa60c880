//! The host thread that lets timers expire. It belongs to the sandbox as a whole, starts with the first timer, and sleeps otherwise.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use vmm::threads::{HostThreads, Owner};

/// What happens when a timer expires: it may send a signal, and says when it wants to be called again.
pub trait Expiry: Send + Sync + fmt::Debug {
    /// Called at or after the time that was asked for; returns the next, if any. Late calls come once.
    fn expired(&self, now: Instant) -> Option<Instant>;
}

/// Timers that wait to expire.
#[derive(Debug, Default)]
pub struct TimerService {
    threads: Arc<HostThreads>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By time, then by key: two may expire at once.
    queue: BTreeMap<(Instant, TimerKey), Weak<dyn Expiry>>,
    /// Where in the queue a timer stands.
    due: HashMap<TimerKey, Instant>,
    next_key: u64,
    running: bool,
    over: bool,
}

/// Names a timer of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey(u64);

impl State {
    fn insert(&mut self, at: Instant, key: TimerKey, target: Weak<dyn Expiry>) {
        self.queue.insert((at, key), target);
        self.due.insert(key, at);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.over {
            let now = Instant::now();
            let next = state.queue.first_key_value().map(|((at, _), _)| *at);
            match next {
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) if at > now => {
                    let (guard, _) = self.changed.wait_timeout(state, at - now).unwrap_or_else(PoisonError::into_inner);
                    state = guard;
                }
                Some(_) => {
                    let Some(((_, key), target)) = state.queue.pop_first() else { continue };
                    state.due.remove(&key);
                    drop(state);
                    let again = target.upgrade().and_then(|target| target.expired(now));
                    state = self.lock();
                    // Only if it was not set anew meanwhile.
                    if let Some(at) = again
                        && !state.due.contains_key(&key)
                    {
                        state.insert(at, key, target);
                    }
                }
            }
        }
    }
}

impl TimerService {
    /// Has no timers yet. The thread, once it is needed, is one of `threads`.
    pub fn new(threads: Arc<HostThreads>) -> Self {
        Self { threads, shared: Arc::default() }
    }

    /// Makes a name for a timer.
    pub fn new_key(&self) -> TimerKey {
        let mut state = self.shared.lock();
        state.next_key += 1;
        TimerKey(state.next_key)
    }

    /// Lets `target` expire at `at` instead of whenever it was to; `None`: never. A target that is dropped never expires.
    pub fn set(&self, key: TimerKey, at: Option<Instant>, target: Weak<dyn Expiry>) {
        let mut state = self.shared.lock();
        if let Some(at) = state.due.remove(&key) {
            state.queue.remove(&(at, key));
        }
        let Some(at) = at else { return };
        state.insert(at, key, target);
        if !state.running {
            let shared = self.shared.clone();
            match self.threads.spawn("timers", STACK, Owner::System, move || shared.run()) {
                Ok(_) => state.running = true,
                Err(error) => tracing::error!(%error, "no host thread for timers: they will not expire"),
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

/// Bytes of the thread's stack: it calls little.
const STACK: usize = 128 << 10;

impl Drop for TimerService {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
    }
}

/// The point in time `ns` nanoseconds from `now`, or a very late one.
pub(super) fn after(now: Instant, ns: u64) -> Instant {
    /// A century: the end of time for a sandbox.
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + Duration::from_nanos(ns).min(FAR)
}
