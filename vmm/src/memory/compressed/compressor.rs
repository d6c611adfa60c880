//! The compressor: a host thread that compresses beside the program, before memory is used up and while nothing runs.
//!
//! It does not exist before a sandbox holds enough to be worth it. It looks every [`PERIOD`] whether virtual CPUs have
//! run; when they hardly have for some periods it watches all pages, packs those that stay untouched, and goes to sleep
//! without a timer: the next entry of a virtual CPU wakes it. So a sandbox in which nothing runs costs no CPU time.

use crate::addr::PAGE_SIZE;
use crate::memory::{GuestMemory, lock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Starts a host thread.
pub type SpawnThread = Box<dyn Fn(Box<dyn FnOnce() + Send>) -> std::io::Result<JoinHandle<()>> + Send + Sync>;

/// Bytes held from which on it is worth a thread.
const WORTHWHILE: u64 = 32 << 20;
/// How long the compressor waits between looks.
const PERIOD: Duration = Duration::from_secs(2);
/// Quiet looks in a row after which the sandbox is idle.
const QUIET: u32 = 2;
/// The most of those, after passes that found nothing to compress.
const QUIET_MAX: u32 = 128;
/// Entries of virtual CPUs between two looks that still count as quiet: a timer that ticks, a heartbeat.
const FEW: u64 = 64;
/// Pages that make a pass worth having been made.
const FRUITFUL: u64 = 256;
/// How long pages are watched for touches while memory is nearly used up.
const WATCHED_FOR: Duration = Duration::from_millis(100);

/// The compressor's thread, and what it waits for.
#[derive(Default)]
pub(super) struct Compressor {
    spawn: Mutex<Option<SpawnThread>>,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the next entry of a virtual CPU is to wake it.
    asleep: AtomicBool,
    started: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    thread: Option<JoinHandle<()>>,
    /// Memory is nearly used up.
    pressed: bool,
    /// A virtual CPU has entered since it went to sleep.
    stirred: bool,
    over: bool,
}

/// What the compressor woke up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Pressed,
    Stirred,
    Time,
    Over,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Compressor {
    /// Notes that a virtual CPU enters.
    #[inline]
    pub(super) fn stir(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            self.wake_up();
        }
    }

    #[cold]
    fn wake_up(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            lock(&self.state).stirred = true;
            self.changed.notify_all();
        }
    }

    /// Waits until there is something to do; with no `timeout`, as long as it takes.
    fn wait(&self, timeout: Option<Duration>) -> Wake {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = lock(&self.state);
        loop {
            if state.over {
                return Wake::Over;
            }
            if std::mem::take(&mut state.pressed) {
                return Wake::Pressed;
            }
            if std::mem::take(&mut state.stirred) {
                return Wake::Stirred;
            }
            let Some(deadline) = deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wake::Time;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the thread; returns it, to be waited for.
    pub(super) fn end(&self) -> Option<JoinHandle<()>> {
        let mut state = lock(&self.state);
        state.over = true;
        self.changed.notify_all();
        state.thread.take()
    }
}

impl GuestMemory {
    /// Lets `spawn` start the compressor's thread, once there is enough to compress.
    pub fn compress_in_background(&self, spawn: SpawnThread) {
        *lock(&self.packing.compressor.spawn) = Some(spawn);
    }

    /// Ends the compressor's thread, and waits for it.
    pub fn stop_compressor(&self) {
        let compressor = &self.packing.compressor;
        *lock(&compressor.spawn) = None;
        if let Some(thread) = compressor.end() {
            // If it panicked it has said so already.
            let _ = thread.join();
        }
    }

    /// Looks at what is held after some was handed out, and calls the compressor if it is much.
    pub(in crate::memory) fn note_held(&self) {
        let bytes = self.held();
        if bytes < WORTHWHILE {
            return;
        }
        let compressor = &self.packing.compressor;
        if !compressor.started.load(Ordering::Relaxed) && !compressor.started.swap(true, Ordering::SeqCst) {
            self.start_compressor(PERIOD);
        }
        if bytes > high(self.limit()) && !self.packing.fruitless.load(Ordering::Relaxed) {
            let mut state = lock(&compressor.state);
            if !std::mem::replace(&mut state.pressed, true) {
                compressor.changed.notify_all();
            }
        }
    }

    /// Starts the thread; without one, memory is compressed by those who need it.
    pub(super) fn start_compressor(&self, period: Duration) {
        let compressor = self.packing.compressor.clone();
        let memory = self.me.clone();
        let body = Box::new(move || run(&memory, &compressor, period));
        let spawn = lock(&self.packing.compressor.spawn);
        let Some(spawn) = &*spawn else { return };
        match spawn(body) {
            Ok(thread) => lock(&self.packing.compressor.state).thread = Some(thread),
            Err(error) => tracing::warn!(%error, "no thread to compress memory in the background"),
        }
    }

    /// Compresses while memory is nearly used up, without haste.
    fn press(self: &Arc<Self>, compressor: &Compressor) {
        let before = self.held();
        if before > high(self.limit()) {
            self.reclaim_untouched();
        }
        self.begin_round();
        while self.held() > low(self.limit()) && self.watch_some() {
            if compressor.wait(Some(WATCHED_FOR)) == Wake::Over {
                return;
            }
            self.pack_watched(low(self.limit()) / PAGE_SIZE);
        }
        // Where nothing becomes free this way it is left to those who need memory, for a while.
        let fruitless = before.saturating_sub(self.held()) < self.limit() / 64;
        self.packing.fruitless.store(fruitless, Ordering::Relaxed);
    }

    /// Compresses what nobody touches for `period`; returns how many pages. Nothing, if somebody runs meanwhile.
    fn pass(self: &Arc<Self>, compressor: &Compressor, period: Duration) -> u64 {
        if self.held() < WORTHWHILE {
            return 0;
        }
        self.reclaim_untouched();
        self.watch_all();
        match compressor.wait(Some(period)) {
            Wake::Time => self.pack_untouched().packed,
            Wake::Pressed | Wake::Stirred | Wake::Over => 0,
        }
    }
}

/// Bytes held above which memory is nearly used up.
fn high(limit: u64) -> u64 {
    limit / 16 * 13
}

/// Bytes held below which it is not any more.
fn low(limit: u64) -> u64 {
    limit / 4 * 3
}

/// The life of the compressor's thread.
fn run(memory: &Weak<GuestMemory>, compressor: &Compressor, period: Duration) {
    let (mut quiet, mut patience, mut entries) = (0, QUIET, 0);
    let mut timeout = Some(period);
    loop {
        let wake = compressor.wait(timeout.replace(period));
        compressor.asleep.store(false, Ordering::SeqCst);
        let Some(memory) = memory.upgrade() else { return };
        match wake {
            Wake::Over => return,
            Wake::Pressed => memory.press(compressor),
            Wake::Stirred => {}
            Wake::Time => {
                memory.packing.fruitless.store(false, Ordering::Relaxed);
                let activity = memory.machine().activity();
                let few = activity.entries.saturating_sub(entries) < FEW && !activity.inside;
                entries = activity.entries;
                quiet = if few { quiet + 1 } else { 0 };
            }
        }
        if quiet < patience {
            continue;
        }
        quiet = 0;
        let packed = memory.pass(compressor, period);
        patience = if packed >= FRUITFUL { QUIET } else { (patience * 2).min(QUIET_MAX) };
        compressor.asleep.store(true, Ordering::SeqCst);
        // Whoever entered before it could see that has to be waited for.
        timeout = memory.machine().activity().inside.then_some(period);
    }
}
