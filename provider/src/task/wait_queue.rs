//! Who waits for something of the provider's to change: [`WaitQueue`].
//!
//! An entry is a sleeping task or an [`Observer`] (an epoll item, somebody who wants SIGIO). Each says which readiness it waits
//! for; a wake names what has changed ([`WaitQueue::wake`]) and passes the others over. Most entries are woken by every such wake;
//! of the *exclusive* ones each wake takes one, the one that waits longest, and a task taken so is out of the queue.
//!
//! **Nothing is lost** if the change is made before the wake, and either under a lock that whoever looks takes, too, or by
//! an atomic read-modify-write with `SeqCst`: who waits is in the queue before it looks.
//!
//! **Ranks.** The queue's own lock is [`Rank::Waiters`]; it is released before observers are told, so a wake may be made under
//! any lock that ranks below `Waiters`, and an observer may take locks from there on, and wake other queues.
//! A wake when nobody waits is one load.

use super::Parker;
use crate::fs::Ready;
use crate::sync::{Mutex, Rank};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Is told when something it watches has changed.
pub trait Observer: Send + Sync + Debug {
    /// Something has changed: `ready` is what may be ready now. Answers whether it could pass the news on to somebody; an exclusive
    /// observer that could not leaves the wake to the next. Called with whatever locks the waker holds, all below [`Rank::Waiters`].
    fn notify(&self, ready: Ready) -> bool;
}

/// Tasks and observers that wait for something of the provider's to change. Empty, it is one pointer.
#[derive(Debug, Default)]
pub struct WaitQueue {
    shared: OnceLock<Arc<Shared>>,
}

/// What the queue and those in it hold on to.
#[derive(Debug)]
pub(super) struct Shared {
    /// Entries in both lists.
    count: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    /// In the order of their ids, as is `exclusive`.
    common: VecDeque<Entry>,
    exclusive: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    interest: Ready,
    who: Who,
}

#[derive(Debug)]
enum Who {
    Task(Arc<Parker>),
    Observer(Weak<dyn Observer>),
}

/// Whether a wake is for all or for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Every wake is for it.
    Common,
    /// A wake is for one of those that wait so.
    Exclusive,
}

/// Which entries a wake is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The common ones.
    Common,
    /// The exclusive ones, too.
    Everybody,
}

/// A place in a queue, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    id: u64,
    interest: Ready,
    share: Share,
}

/// An observer's place in a queue, given up when it is dropped.
#[derive(Debug)]
pub struct Observation {
    _place: Place,
}

impl WaitQueue {
    /// Wakes all that wait, exclusive ones, too.
    pub fn wake_all(&self) {
        if let Some(shared) = self.occupied() {
            shared.wake_each(Ready::all(), Reach::Everybody);
        }
    }

    /// Wakes those that wait for any of `ready`, errors and hang-ups always included; of the exclusive ones one.
    pub fn wake(&self, ready: Ready) {
        if let Some(shared) = self.occupied() {
            shared.wake_each(ready, Reach::Common);
            shared.wake_exclusive(ready);
        }
    }

    /// Wakes one more of the exclusive entries that wait for any of `ready`: for whoever was woken so and left something over.
    pub fn wake_next(&self, ready: Ready) {
        if let Some(shared) = self.occupied() {
            shared.wake_exclusive(ready);
        }
    }

    /// Tells whether anybody waits.
    pub fn has_waiters(&self) -> bool {
        self.occupied().is_some()
    }

    /// Lets an observer watch; it is told of what changes from now on, so the caller looks after this call.
    pub fn observe(&self, observer: Weak<dyn Observer>, interest: Ready, share: Share) -> Observation {
        Observation { _place: self.enter(Who::Observer(observer), interest, share) }
    }

    /// Puts a task in.
    pub(super) fn enter_task(&self, parker: &Arc<Parker>, interest: Ready, share: Share) -> Place {
        self.enter(Who::Task(parker.clone()), interest, share)
    }

    fn enter(&self, who: Who, interest: Ready, share: Share) -> Place {
        let shared = self.shared.get_or_init(|| {
            Arc::new(Shared { count: AtomicUsize::new(0), entries: Mutex::new(Rank::Waiters, Entries::default()) })
        });
        let interest = interest | Ready::ERR | Ready::HUP;
        let id = {
            let mut entries = shared.entries.lock();
            let id = entries.next_id;
            entries.next_id += 1;
            entries.list(share).push_back(Entry { id, interest, who });
            shared.count.fetch_add(1, Ordering::SeqCst);
            id
        };
        Place { shared: shared.clone(), id, interest, share }
    }

    fn occupied(&self) -> Option<&Arc<Shared>> {
        self.shared.get().filter(|shared| shared.count.load(Ordering::SeqCst) > 0)
    }
}

impl Entries {
    fn list(&mut self, share: Share) -> &mut VecDeque<Entry> {
        match share {
            Share::Common => &mut self.common,
            Share::Exclusive => &mut self.exclusive,
        }
    }
}

impl Shared {
    /// Wakes all entries within reach that wait for any of `ready`.
    fn wake_each(&self, ready: Ready, reach: Reach) {
        let mut observers = Vec::new();
        // The last task is woken after the lock, which it will want.
        let mut last: Option<Arc<Parker>> = None;
        {
            let entries = self.entries.lock();
            let exclusive = entries.exclusive.iter().filter(|_| reach == Reach::Everybody);
            for entry in entries.common.iter().chain(exclusive).filter(|entry| entry.interest.intersects(ready)) {
                match &entry.who {
                    Who::Task(parker) => {
                        if let Some(parker) = last.replace(parker.clone()) {
                            parker.wake();
                        }
                    }
                    Who::Observer(observer) => observers.extend(observer.upgrade()),
                }
            }
        }
        if let Some(parker) = last {
            parker.wake();
        }
        for observer in observers {
            observer.notify(ready);
        }
    }

    /// Wakes the first exclusive entry that can make use of it.
    fn wake_exclusive(&self, ready: Ready) {
        let mut from = 0;
        loop {
            let observer = {
                let mut entries = self.entries.lock();
                let list = &mut entries.exclusive;
                let start = list.partition_point(|entry| entry.id < from);
                let Some(at) = (start..list.len()).find(|at| list[*at].interest.intersects(ready)) else { return };
                from = list[at].id + 1;
                match &list[at].who {
                    Who::Observer(observer) => observer.upgrade(),
                    Who::Task(_) => {
                        let entry = list.remove(at);
                        self.count.fetch_sub(1, Ordering::SeqCst);
                        drop(entries);
                        if let Some(Entry { who: Who::Task(parker), .. }) = entry {
                            parker.wake();
                        }
                        return;
                    }
                }
            };
            if observer.is_some_and(|observer| observer.notify(ready)) {
                return;
            }
        }
    }
}

impl Place {
    /// Tells whether this is a common place in `queue` with this interest.
    pub(super) fn serves(&self, queue: &WaitQueue, interest: Ready) -> bool {
        self.share == Share::Common
            && self.interest == interest | Ready::ERR | Ready::HUP
            && queue.shared.get().is_some_and(|shared| Arc::ptr_eq(shared, &self.shared))
    }

    /// Gives the place up. If an exclusive wake has come to it that its owner will not make use of, the next one gets it.
    pub(super) fn pass_on(self) {
        let (shared, interest) = (self.shared.clone(), self.interest);
        if self.share == Share::Exclusive && !self.leave() {
            shared.wake_exclusive(interest);
        }
    }

    /// Takes the entry out; `false` if a wake has done so.
    fn leave(&self) -> bool {
        let mut entries = self.shared.entries.lock();
        let list = entries.list(self.share);
        let Ok(at) = list.binary_search_by_key(&self.id, |entry| entry.id) else { return false };
        let _removed = list.remove(at);
        self.shared.count.fetch_sub(1, Ordering::SeqCst);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    /// Counts what it is told, and answers as it was made.
    #[derive(Debug)]
    struct Counting {
        told: AtomicU32,
        takes: bool,
    }

    impl Counting {
        fn new(takes: bool) -> Arc<Self> {
            Arc::new(Self { told: AtomicU32::new(0), takes })
        }

        fn told(&self) -> u32 {
            self.told.load(Ordering::Relaxed)
        }
    }

    impl Observer for Counting {
        fn notify(&self, _ready: Ready) -> bool {
            self.told.fetch_add(1, Ordering::Relaxed);
            self.takes
        }
    }

    fn watch(queue: &WaitQueue, observer: &Arc<Counting>, interest: Ready, share: Share) -> Observation {
        let weak = Arc::downgrade(observer);
        queue.observe(weak, interest, share)
    }

    #[test]
    fn a_wake_passes_over_what_waits_for_something_else() {
        let (queue, reader, writer) = (WaitQueue::default(), Counting::new(true), Counting::new(true));
        let _reading = watch(&queue, &reader, Ready::IN, Share::Common);
        let _writing = watch(&queue, &writer, Ready::OUT, Share::Common);
        queue.wake(Ready::IN);
        assert_eq!((reader.told(), writer.told()), (1, 0));
        queue.wake(Ready::HUP);
        queue.wake_all();
        assert_eq!((reader.told(), writer.told()), (3, 2));
    }

    #[test]
    fn an_exclusive_wake_is_for_one_that_can_use_it() {
        let queue = WaitQueue::default();
        let all = [Counting::new(false), Counting::new(true), Counting::new(true)];
        let _places = all.each_ref().map(|observer| watch(&queue, observer, Ready::IN, Share::Exclusive));
        queue.wake(Ready::IN);
        assert_eq!(all.each_ref().map(|observer| observer.told()), [1, 1, 0]);
    }

    #[test]
    fn exclusive_tasks_are_woken_in_turn_and_pass_on_what_they_do_not_use() {
        let queue = WaitQueue::default();
        let (first, second): (Arc<Parker>, Arc<Parker>) = Default::default();
        let observer = Counting::new(true);
        let ahead = queue.enter_task(&first, Ready::IN, Share::Exclusive);
        let behind = queue.enter_task(&second, Ready::IN, Share::Exclusive);
        let _last = watch(&queue, &observer, Ready::IN, Share::Exclusive);
        queue.wake(Ready::IN);
        queue.wake(Ready::IN);
        assert_eq!(observer.told(), 0);
        drop(ahead);
        assert_eq!(observer.told(), 0);
        behind.pass_on();
        assert_eq!(observer.told(), 1);
    }

    #[test]
    fn an_entry_that_left_is_not_told() {
        let (queue, observer) = (WaitQueue::default(), Counting::new(true));
        assert!(!queue.has_waiters());
        let places: Vec<_> = (0..3).map(|_| watch(&queue, &observer, Ready::IN, Share::Common)).collect();
        assert!(queue.has_waiters());
        drop(places);
        assert!(!queue.has_waiters());
        queue.wake_all();
        assert_eq!(observer.told(), 0);
    }
}
