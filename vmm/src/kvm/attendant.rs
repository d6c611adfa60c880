//! The attendant: the host thread of System's that takes and serves posted calls, and the policy when it does.
//!
//! While it attends, it spins: that is what makes a post cheaper than a trap, and it takes a processor. So it attends only
//! while a thread makes calls in quick succession and there is a processor to spare, as far as one can tell: there
//! are more processors than threads in user mode, and it is not slow to answer. A thread whose post nobody takes in time
//! traps. When nothing is posted for a while the attendant sleeps, and wakes up for nobody but a thread that asks. After a
//! few misses, or a few turns in which it served hardly a call, it stays away for a while, twice as long each time: threads
//! that pass each other single words, and sleep in between, need the processor for themselves.
//!
//! Threads ask at a trap that a post could have spared. Nothing here is needed for a call's result: any post that is not
//! taken becomes a trap.

use super::apart::keep_off;
use super::fast::Unanswered;
use super::post::{Look, Post};
use crate::statistics::Posts;
use crate::threads::{HostThreads, Owner, processor};
use rustix::thread::{CpuSet, sched_getaffinity};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// When posted calls are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Posting {
    /// While calls are frequent and a processor is idle.
    #[default]
    Auto,
    /// Never: each call traps.
    Never,
    /// Always, and a thread waits as long as it takes.
    Always,
    /// Now and then, in no regular order: for tests of what happens in between.
    Flapping,
}

/// Calls that could have been posted follow each other so quickly that attending pays.
const QUICK: Duration = Duration::from_micros(500);
/// After so many of them in a row a thread asks; the first thread of all at its first: each program begins with a dozen.
const ENOUGH: u32 = 1;
/// How long the attendant spins for nothing before it sleeps.
const IDLE: Duration = Duration::from_micros(300);
/// How long it does while no thread that posts is in user mode: longer than a trap takes, so these threads sleep, and whom
/// they wait for may want the processor.
const DESERTED: Duration = Duration::from_micros(60);
/// Calls that it should serve between two sleeps, or it is not worth it; and how often it may serve fewer in a row.
const WORTHWHILE: u32 = 4;
const POOR_TURNS: u32 = 3;
/// How long a thread waits for its post to be taken.
const PATIENCE: Duration = Duration::from_micros(15);
/// How long it waits where posts are forced: until the attendant has had its turn, whatever the scheduler is like.
const LONG_PATIENCE: Duration = Duration::from_millis(500);
/// Looks for an answer at the most.
const MOST_SPINS: u64 = 1 << 24;
/// Misses after which the attendant stays away, and for how long: at first, and at the most.
const MISSES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(8);
/// Calls served between two misses after which those before are forgotten.
const FORGIVING: u32 = 16;
/// Bytes of its stack: a provider's calls run on it.
const STACK: usize = 1 << 20;
/// Nanoseconds that it has patience for at the most when it comes and goes ([`Posting::Flapping`]).
const FLAP: u64 = 60_000;
/// Looks at all posts between two looks at the clock.
const LOOKS: u32 = 32;

/// Takes posted calls.
#[derive(Debug)]
pub(super) struct Attendant {
    policy: Posting,
    /// Processors that the monitor may use.
    processors: CpuSet,
    /// Threads that are in user mode.
    inside: AtomicUsize,
    /// Nanoseconds since `epoch` before which nobody asks: the attendant stays away.
    away_until: AtomicU64,
    epoch: Instant,
    /// Nobody has asked yet.
    unasked: AtomicBool,
    /// Somebody has asked, or the machine closes: the attendant is to look at its state.
    changed: AtomicBool,
    state: Mutex<State>,
    woken: Condvar,
    threads: Arc<HostThreads>,
    counts: Arc<Posts>,
}

#[derive(Debug, Default)]
struct State {
    /// The posts to attend to from now on.
    asked: Vec<Arc<Post>>,
    thread: Option<JoinHandle<()>>,
    /// The processor that the thread does not run on.
    kept_off: Option<usize>,
    closed: bool,
    misses: u32,
    /// Turns in a row in which it served too few calls.
    poor_turns: u32,
    /// How long it stays away next time.
    pause: Option<Duration>,
}

/// What a thread has seen of its own calls.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    quick: u32,
}

impl Pace {
    /// A call has trapped that could have been posted: tells how many in a row have come quickly.
    fn trapped(&mut self) -> u32 {
        let now = Instant::now();
        let quick = self.last.replace(now).is_some_and(|last| now - last < QUICK);
        self.quick = if quick { self.quick.saturating_add(1) } else { 0 };
        self.quick
    }
}

impl Attendant {
    pub(super) fn new(policy: Posting, threads: &Arc<HostThreads>, counts: &Arc<Posts>) -> Self {
        Self {
            policy,
            processors: sched_getaffinity(None).unwrap_or_default(),
            inside: AtomicUsize::new(0),
            away_until: AtomicU64::new(0),
            epoch: Instant::now(),
            unasked: AtomicBool::new(true),
            changed: AtomicBool::new(false),
            state: Mutex::default(),
            woken: Condvar::new(),
            threads: threads.clone(),
            counts: counts.clone(),
        }
    }

    /// A thread enters user mode.
    pub(super) fn enters(&self) {
        self.inside.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread has left it.
    pub(super) fn leaves(&self) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// The thread at `post` has trapped for a call that it might have posted, and this had come of it.
    pub(super) fn trapped(self: &Arc<Self>, post: &Arc<Post>, pace: &mut Pace, unanswered: Unanswered) {
        if unanswered == Unanswered::Missed {
            // The attendant may no longer have this post on its list: one whose thread ended as it was asked for. Whoever
            // wants it asks again.
            post.attend(None);
            self.counts.missed();
        }
        match (self.policy, unanswered) {
            (Posting::Never, _) | (_, Unanswered::Refused) => {}
            (Posting::Auto, Unanswered::Missed) => self.missed(),
            (Posting::Auto, Unanswered::NotPosted) if pace.trapped() < self.enough() || !self.has_room() => {}
            (_, Unanswered::NotPosted | Unanswered::Missed) => self.ask(post),
        }
    }

    /// Calls in quick succession after which a thread asks.
    fn enough(&self) -> u32 {
        if self.unasked.swap(false, Ordering::Relaxed) { 0 } else { ENOUGH }
    }

    /// Whether a processor is left for the attendant, beside those in user mode and the one that asks; and whether it has
    /// stayed away long enough.
    fn has_room(&self) -> bool {
        self.inside.load(Ordering::Relaxed) + 2 <= self.count() && self.now() >= self.away_until.load(Ordering::Relaxed)
    }

    /// How many processors there are.
    fn count(&self) -> usize {
        usize::try_from(self.processors.count()).unwrap_or(usize::MAX)
    }

    fn now(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }

    /// Has the attendant look after a post.
    fn ask(self: &Arc<Self>, post: &Arc<Post>) {
        let mut state = self.state();
        if state.closed || state.asked.iter().any(|asked| Arc::ptr_eq(asked, post)) {
            return;
        }
        self.have_thread(&mut state);
        // Without a thread for it, calls go on trapping.
        if state.thread.is_none() {
            return;
        }
        self.keep_apart(&mut state);
        state.asked.push(post.clone());
        self.changed.store(true, Ordering::SeqCst);
        self.woken.notify_one();
    }

    /// Makes the attendant's host thread if it is going to be wanted: for whoever has nothing else to do while a program is prepared,
    /// which would have to wait for it later.
    pub(super) fn prepare(self: &Arc<Self>) {
        let mut state = self.state();
        if self.policy != Posting::Never && self.count() > 1 && !state.closed {
            self.have_thread(&mut state);
        }
    }

    fn have_thread(self: &Arc<Self>, state: &mut State) {
        if state.thread.is_none() {
            let attendant = self.clone();
            state.thread = self.threads.spawn("posts", STACK, Owner::System, move || attendant.live()).ok();
        }
    }

    /// Nobody has taken a post in time.
    fn missed(&self) {
        let mut state = self.state();
        self.keep_apart(&mut state);
        state.misses += 1;
        if state.misses >= MISSES {
            self.stay_away(&mut state);
        }
    }

    /// Keeps the attendant off the calling thread's processor, where it would run when that does not. Some schedulers leave
    /// it there though others are idle (`sched_vcpu_pack`: each second wake-up).
    fn keep_apart(&self, state: &mut State) {
        let own = processor();
        if let (Some(thread), true) = (&state.thread, state.kept_off != Some(own) && self.count() > 1) {
            keep_off(thread, &self.processors, own);
            state.kept_off = Some(own);
        }
    }

    /// Says that the attendant takes a pause, longer than the last.
    fn stay_away(&self, state: &mut State) {
        let pause = state.pause.unwrap_or(FIRST_PAUSE);
        (state.pause, state.misses, state.poor_turns) = (Some((pause * 2).min(LONGEST_PAUSE)), 0, 0);
        self.away_until.store(self.now().saturating_add(nanoseconds(pause)), Ordering::Relaxed);
        self.changed.store(true, Ordering::SeqCst);
    }

    /// Ends the attendant. No thread is in user mode any more.
    pub(super) fn close(&self) {
        let thread = {
            let mut state = self.state();
            state.closed = true;
            state.asked.clear();
            self.changed.store(true, Ordering::SeqCst);
            self.woken.notify_one();
            state.thread.take()
        };
        if let Some(thread) = thread {
            // If it has panicked, it has said so already.
            let _ = thread.join();
        }
    }

    /// The attendant's life: it sleeps until it is asked, and attends until nothing comes any more.
    fn live(&self) {
        let mut random = nanoseconds(self.epoch.elapsed()) | 1;
        // A program that begins sets up its threads by traps, between which it is away for longer than later on.
        let mut deserted = IDLE;
        let spins = spins(if self.policy == Posting::Always { LONG_PATIENCE } else { PATIENCE });
        loop {
            let mut posts = {
                let mut state = self.state();
                while state.asked.is_empty() && !state.closed {
                    state = self.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.closed {
                    return;
                }
                std::mem::take(&mut state.asked)
            };
            posts.iter().for_each(|post| post.attend(Some(spins)));
            let patience = match self.policy {
                Posting::Always => None,
                Posting::Flapping => Some(Duration::from_nanos(next(&mut random) % FLAP)),
                Posting::Auto | Posting::Never => Some(IDLE),
            };
            let served = self.attend(&mut posts, spins, patience, deserted);
            deserted = DESERTED;
            posts.iter().for_each(|post| post.attend(None));
            if self.policy == Posting::Auto {
                self.take_stock(served);
            }
        }
    }

    /// Looks back at a turn in which it served so many calls.
    fn take_stock(&self, served: u32) {
        let mut state = self.state();
        if served >= WORTHWHILE {
            state.poor_turns = 0;
            return;
        }
        state.poor_turns += 1;
        if state.poor_turns >= POOR_TURNS {
            self.stay_away(&mut state);
        }
    }

    /// Takes calls from `posts` until there have been none for as long as it has `patience`, nobody is in user mode for as long as
    /// `deserted`, or it has to stay away. Returns how many it has served.
    fn attend(&self, posts: &mut Vec<Arc<Post>>, spins: u64, patience: Option<Duration>, deserted: Duration) -> u32 {
        let (mut quiet_since, mut looks, mut served, mut total) = (None, 0_u32, 0_u32, 0_u32);
        loop {
            if self.changed.swap(false, Ordering::SeqCst) && !self.look_up(posts, spins) {
                return total;
            }
            let mut quiet = true;
            for post in &*posts {
                match post.look() {
                    Look::Nothing => continue,
                    Look::Served => {
                        self.counts.served();
                        served += 1;
                        total = total.saturating_add(1);
                    }
                    Look::Refused => self.counts.refused(),
                }
                quiet = false;
            }
            if !quiet {
                (quiet_since, looks) = (None, 0);
                if served >= FORGIVING {
                    served = 0;
                    let mut state = self.state();
                    (state.misses, state.pause) = (0, None);
                }
                continue;
            }
            spin_loop();
            looks += 1;
            if looks.is_multiple_of(LOOKS) {
                let now = Instant::now();
                let quiet = now - *quiet_since.get_or_insert(now);
                let deserted = quiet >= deserted && posts.iter().all(|post| post.is_shut());
                let crowded = self.inside.load(Ordering::Relaxed) + 1 > self.count();
                if patience.is_some_and(|patience| quiet >= patience)
                    || self.policy == Posting::Auto && (deserted || crowded)
                {
                    return total;
                }
            }
        }
    }

    /// Sees what has changed; `false`: the attendant is to leave.
    fn look_up(&self, posts: &mut Vec<Arc<Post>>, spins: u64) -> bool {
        let asked = {
            let mut state = self.state();
            if state.closed || self.policy == Posting::Auto && self.now() < self.away_until.load(Ordering::Relaxed) {
                return false;
            }
            std::mem::take(&mut state.asked)
        };
        posts.retain(|post| post.is_used() && !asked.iter().any(|asked| Arc::ptr_eq(asked, post)));
        asked.iter().for_each(|post| post.attend(Some(spins)));
        posts.extend(asked);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How many times a thread looks for its answer in this time: processors differ by a factor of twenty.
fn spins(patience: Duration) -> u64 {
    const SAMPLE: u32 = 256;
    let before = Instant::now();
    (0..SAMPLE).for_each(|_| spin_loop());
    let one = (nanoseconds(before.elapsed()) / u64::from(SAMPLE)).max(1);
    (nanoseconds(patience) / one).clamp(16, MOST_SPINS)
}

/// The next of a row of numbers in no obvious order (xorshift).
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}
