//! The monitor's host threads: which minimal process each belongs to, and the CPU time it has used there.
//!
//! Every host thread is spawned or adopted here, so that all CPU time of the monitor is somebody's. A thread that runs pico
//! threads *lends* itself to them ([`Meter`](crate::usage::Meter)): that time is theirs, and the rest is its owner's.
//!
//! The roster's lock is innermost: nothing is locked under it but one record's.

use crate::usage::CpuClock;
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// The host's processor that the calling thread runs on, by its number.
///
/// The C library knows it, or asks the vDSO: no host call.
pub fn processor() -> usize {
    // SAFETY: the call has no argument and touches no memory of ours.
    let number = unsafe { libc::sched_getcpu() };
    // It fails only where the C library cannot tell.
    usize::try_from(number).unwrap_or_default()
}

/// The minimal process that a host thread belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// System: threads that serve no single pico process.
    System,
    /// Memory Compression.
    MemoryCompression,
    /// Secure System.
    SecureSystem,
}

/// How many owners there are.
const OWNERS: usize = 3;

/// The host threads of one monitor.
#[derive(Debug, Default)]
pub struct HostThreads {
    roster: Mutex<Roster>,
    beginning: OnceLock<Beginning>,
}

/// What a thread does before its work, told its name.
struct Beginning(Box<dyn Fn(&'static str) + Send + Sync>);

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beginning")
    }
}

#[derive(Debug, Default)]
struct Roster {
    live: Vec<Arc<Record>>,
    /// What threads that have ended used on their own account, by owner.
    ended: [Duration; OWNERS],
}

/// A host thread.
#[derive(Debug)]
struct Record {
    name: &'static str,
    owner: Owner,
    clock: CpuClock,
    lent: Mutex<Lent>,
}

/// The CPU time that a host thread spent on pico threads.
#[derive(Clone, Copy, Debug, Default)]
struct Lent {
    total: Duration,
    /// What it had used in all when the span that is under way began.
    since: Option<Duration>,
}

/// A host thread as a tool sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostThread {
    /// What it does.
    pub name: &'static str,
    /// Whose it is.
    pub owner: Owner,
    /// CPU time on its owner's account.
    pub used: Duration,
    /// Whether it is running a pico thread now.
    pub lent: bool,
}

thread_local! {
    /// The calling thread's record.
    static CURRENT: RefCell<Option<Arc<Record>>> = const { RefCell::new(None) };
}

impl Record {
    /// The thread's CPU time on its owner's account.
    fn own(&self) -> Duration {
        let lent = *lock(&self.lent);
        // The clock is read last: it is ahead of the span's beginning.
        let total = self.clock.now().unwrap_or_default();
        let open = lent.since.map_or(Duration::ZERO, |since| total.saturating_sub(since));
        total.saturating_sub(lent.total + open)
    }
}

impl HostThreads {
    /// Starts a host thread of `owner`'s with so many bytes of stack. Its name shows in the host's tools, too.
    pub fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        stack: usize,
        owner: Owner,
        body: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let threads = self.clone();
        Builder::new().name(name.to_owned()).stack_size(stack).spawn(move || {
            let _enrolled = threads.enroll(name, owner);
            if let Some(Beginning(beginning)) = threads.beginning.get() {
                beginning(name);
            }
            body();
        })
    }

    /// Lets each thread that is spawned from now on call this first, on itself, with its name. Only the first call counts.
    pub fn begin_with(&self, beginning: impl Fn(&'static str) + Send + Sync + 'static) {
        // A second one is what "only the first" is about.
        let _ = self.beginning.set(Beginning(Box::new(beginning)));
    }

    /// Takes the calling host thread, which somebody else started, on the roster as System's until the guard is dropped.
    pub fn adopt(self: &Arc<Self>, name: &'static str) -> Enrolled {
        self.enroll(name, Owner::System)
    }

    fn enroll(self: &Arc<Self>, name: &'static str, owner: Owner) -> Enrolled {
        let record = Arc::new(Record { name, owner, clock: CpuClock::of_this_thread(), lent: Mutex::default() });
        lock(&self.roster).live.push(record.clone());
        CURRENT.set(Some(record.clone()));
        Enrolled { threads: self.clone(), record, this_thread: std::marker::PhantomData }
    }

    /// The host threads that are alive.
    pub fn list(&self) -> Vec<HostThread> {
        let live = lock(&self.roster).live.clone();
        let look = |record: Arc<Record>| HostThread {
            name: record.name,
            owner: record.owner,
            used: record.own(),
            lent: lock(&record.lent).since.is_some(),
        };
        live.into_iter().map(look).collect()
    }

    /// The CPU time that `owner`'s threads have used on its account, those that have ended included.
    pub fn used(&self, owner: Owner) -> Duration {
        let roster = lock(&self.roster);
        let live = roster.live.iter().filter(|record| record.owner == owner);
        live.map(|record| record.own()).sum::<Duration>() + roster.ended[index(owner)]
    }
}

/// A host thread on the roster. Dropping it, on that thread, takes it off.
#[derive(Debug)]
pub struct Enrolled {
    threads: Arc<HostThreads>,
    record: Arc<Record>,
    /// It speaks of the calling thread, so it stays there.
    this_thread: std::marker::PhantomData<*const ()>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        CURRENT.set(None);
        let mut roster = lock(&self.threads.roster);
        roster.live.retain(|record| !Arc::ptr_eq(record, &self.record));
        let own = self.record.own();
        roster.ended[index(self.record.owner)] += own;
    }
}

/// The calling thread works for a pico thread from now on; it has used `total` so far.
pub(crate) fn lend(total: Duration) {
    with_record(|lent| lent.since = Some(total));
}

/// The calling thread works for its owner again; it has used `total` so far.
pub(crate) fn take_back(total: Duration) {
    with_record(|lent| {
        let since = lent.since.take();
        lent.total += since.map_or(Duration::ZERO, |since| total.saturating_sub(since));
    });
}

/// The calling thread has just used `span` for a pico thread.
pub(crate) fn was_lent(span: Duration) {
    with_record(|lent| lent.total += span);
}

/// Changes the calling thread's record, if it is on a roster: the threads of tests may not be.
fn with_record(change: impl FnOnce(&mut Lent)) {
    CURRENT.with_borrow(|record| {
        if let Some(record) = record {
            change(&mut lock(&record.lent));
        }
    });
}

fn index(owner: Owner) -> usize {
    match owner {
        Owner::System => 0,
        Owner::MemoryCompression => 1,
        Owner::SecureSystem => 2,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Meter;
    use std::sync::mpsc::channel;

    /// Uses so much CPU time of the calling thread.
    fn burn(span: Duration) {
        let clock = CpuClock::of_this_thread();
        let start = clock.now().unwrap();
        while clock.now().unwrap() < start + span {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_thread_is_its_owners_while_it_lives_and_after() {
        let threads = Arc::new(HostThreads::default());
        let (tell, told) = channel();
        let (end, ended) = channel::<()>();
        let work = move || {
            burn(Duration::from_millis(5));
            tell.send(()).unwrap();
            let _ = ended.recv();
        };
        let thread = threads.spawn("worker", 64 << 10, Owner::MemoryCompression, work).unwrap();
        told.recv().unwrap();
        let list = threads.list();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].name, list[0].owner, list[0].lent), ("worker", Owner::MemoryCompression, false));
        let before = threads.used(Owner::MemoryCompression);
        assert!(before >= Duration::from_millis(5));
        drop(end);
        thread.join().unwrap();
        assert!(threads.list().is_empty());
        assert!(threads.used(Owner::MemoryCompression) >= before);
        assert_eq!(threads.used(Owner::System), Duration::ZERO);
    }

    #[test]
    fn what_is_lent_is_not_the_owners() {
        let threads = Arc::new(HostThreads::default());
        let meter = Arc::new(Meter::default());
        let (of_thread, roster) = (meter.clone(), threads.clone());
        let work = move || {
            of_thread.begin();
            burn(Duration::from_millis(20));
            assert!(roster.list()[0].lent);
            // Less than what the meter has by now.
            assert!(roster.used(Owner::System) < Duration::from_millis(20));
            of_thread.end();
            assert!(!roster.list()[0].lent);
        };
        threads.spawn("worker", 64 << 10, Owner::System, work).unwrap().join().unwrap();
        assert!(meter.usage().total() >= Duration::from_millis(20));
    }

    #[test]
    fn threads_begin_with_what_was_asked_for_once() {
        let threads = Arc::new(HostThreads::default());
        let (tell, told) = channel();
        let spawn = |name| threads.spawn(name, 64 << 10, Owner::System, || {}).unwrap().join().unwrap();
        spawn("before");
        threads.begin_with(move |name| tell.send((name, std::thread::current().id())).unwrap());
        threads.begin_with(|name| panic!("{name}: the second counts"));
        spawn("after");
        let (name, thread) = told.recv().unwrap();
        assert_eq!(name, "after");
        assert_ne!(thread, std::thread::current().id());
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn an_adopted_thread_is_systems() {
        let threads = Arc::new(HostThreads::default());
        let main = threads.adopt("main");
        burn(Duration::from_millis(2));
        assert!(threads.used(Owner::System) >= Duration::from_millis(2));
        drop(main);
        assert!(threads.list().is_empty());
    }
}
