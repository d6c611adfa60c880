//! Notices of processes and threads that come and go, for components of the host: tools, counters, stores.

use super::host::Host;
use super::process::Process;
use super::provider::ExitReason;
use super::thread::Thread;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// What happened to a process or a thread. Each that is created ends exactly once, and a process's threads before it.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// A process exists; it has no thread yet.
    ProcessCreated(&'a Process),
    /// A thread exists; it has not started.
    ThreadCreated(&'a Thread),
    /// A thread has ended, and its provider has been told.
    ThreadEnded(&'a Thread, ExitReason),
    /// A process has ended with its last thread, and its provider has been told; or nobody holds it any more.
    ProcessEnded(&'a Process, ExitReason),
}

type Observer = dyn Fn(&Notice<'_>) + Send + Sync;

/// Those who want notices. The lock is held while the list changes or is copied, and never over a call.
#[derive(Default)]
pub(super) struct Observers {
    /// So that nobody pays where nobody observes.
    count: AtomicUsize,
    list: RwLock<Vec<Arc<Observer>>>,
}

impl Observers {
    /// Tells everybody, on the calling host thread.
    pub(super) fn tell(&self, notice: &Notice<'_>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner).clone();
        list.iter().for_each(|observer| observer(notice));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Observer>>)) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut list);
        self.count.store(list.len(), Ordering::Release);
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A subscription to notices; dropping it ends it. A notice that is on its way then may still arrive.
pub struct Observation {
    observers: Weak<Observers>,
    observer: Arc<Observer>,
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").finish_non_exhaustive()
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(observers) = self.observers.upgrade() {
            observers.change(|list| list.retain(|other| !Arc::ptr_eq(other, &self.observer)));
        }
    }
}

impl Host {
    /// Calls `observer` for each process and thread that comes or goes from now on, on whichever host thread it happens:
    /// it must be quick, and wait for nothing that pico threads do. Who is there already, [`Host::processes`] tells; a
    /// process that comes meanwhile may be seen by both.
    pub fn observe(&self, observer: impl Fn(&Notice<'_>) + Send + Sync + 'static) -> Observation {
        let observer: Arc<Observer> = Arc::new(observer);
        let observers = self.observers();
        observers.change(|list| list.push(observer.clone()));
        Observation { observers: Arc::downgrade(observers), observer }
    }
}
