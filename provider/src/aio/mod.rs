//! Asynchronous I/O of io_setup(2) and io_submit(2): contexts with the events that are to be fetched.
//!
//! Reads, writes and syncs are done while they are submitted, as Linux does where a file has no asynchronous form; what is
//! left to wait for are polls ([`Poll`]). A [`Context`] belongs to an address space and is named by the address of a page there, which
//! Linux fills with the ring of events. Here the page stays zero, so that libraries ask by call instead of reading it.
//! Locks are leaves, and none is held while a file is asked or dropped.

mod poll;

pub(crate) use poll::Poll;

use crate::errno::Errno;
use crate::fs::eventfd::EventFd;
use crate::fs::{OpenFile, Ready};
use crate::sync::{Mutex, Rank};
use crate::task::WaitQueue;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vmm::addr::{PAGE_SIZE, UserAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Events that all contexts of a sandbox may ask for (/proc/sys/fs/aio-max-nr).
pub(crate) const MAX_EVENTS: u64 = 0x10000;
/// Bytes of the ring's header (`struct aio_ring`).
const HEADER: u64 = 32;

/// `struct io_event`: how one request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Event {
    /// What the program wants to be told (`aio_data`).
    pub(crate) data: u64,
    /// Where the request lies in its memory.
    pub(crate) request: u64,
    /// What the call would have returned; an error is negative.
    pub(crate) result: i64,
    /// Always 0.
    pub(crate) second: i64,
}

/// How many events the contexts of a sandbox were asked for (/proc/sys/fs/aio-nr).
#[derive(Debug, Default)]
pub(crate) struct Account(AtomicU64);

impl Account {
    /// The number.
    pub(crate) fn events(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, events: u64) -> Result<(), Errno> {
        let fits = |now: u64| now.checked_add(events).filter(|sum| *sum <= MAX_EVENTS);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map(drop).map_err(|_| Errno::EAGAIN)
    }
}

/// An address space's contexts.
#[derive(Debug)]
pub(crate) struct Contexts {
    by_address: Mutex<BTreeMap<UserAddr, Arc<Context>>>,
}

impl Default for Contexts {
    fn default() -> Self {
        Self { by_address: Mutex::new(Rank::Leaf, BTreeMap::new()) }
    }
}

impl Contexts {
    /// Finds the context at an address; `EINVAL`.
    pub(crate) fn get(&self, at: UserAddr) -> Result<Arc<Context>, Errno> {
        self.by_address.lock().get(&at).cloned().ok_or(Errno::EINVAL)
    }

    /// Puts a context at an address. One that is there lost its page, so nobody can name it: it ends.
    pub(crate) fn insert(&self, at: UserAddr, context: Arc<Context>) {
        let old = self.by_address.lock().insert(at, context);
        if let Some(old) = old {
            old.end();
        }
    }

    /// Takes a context away; `EINVAL`.
    pub(crate) fn remove(&self, at: UserAddr) -> Result<Arc<Context>, Errno> {
        self.by_address.lock().remove(&at).ok_or(Errno::EINVAL)
    }
}

/// A request that is not done yet.
trait Waiting: Send + Sync + Debug {
    /// Where it lies in the program's memory.
    fn request(&self) -> UserAddr;

    /// Completes it with what is ready; `false` if somebody else did.
    fn finish(&self, context: &Context, ready: Ready) -> bool;
}

/// A queue of events.
#[derive(Debug)]
pub(crate) struct Context {
    account: Arc<Account>,
    asked: u64,
    capacity: usize,
    state: Mutex<State>,
    changed: WaitQueue,
}

#[derive(Debug, Default)]
struct State {
    done: VecDeque<Event>,
    /// Requests that have not been fetched; those in `done` are some of them.
    used: usize,
    waiting: Vec<Arc<dyn Waiting>>,
    ended: bool,
}

impl Context {
    /// Makes one for `events` events, on a machine with `cpus` processors; `EAGAIN` if the sandbox has too many.
    pub(crate) fn new(account: &Arc<Account>, events: u32, cpus: usize) -> Result<Arc<Self>, Errno> {
        account.take(events.into())?;
        let capacity = ring_events(events, cpus);
        Ok(Arc::new(Self {
            account: account.clone(),
            asked: events.into(),
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            state: Mutex::new(Rank::Leaf, State::default()),
            changed: WaitQueue::default(),
        }))
    }

    /// How many requests may wait to be fetched.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Woken when an event comes, and at the end.
    pub(crate) fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// Makes room for a request; `EAGAIN` if there is none until events are fetched.
    pub(crate) fn reserve(&self) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.used >= self.capacity {
            return Err(Errno::EAGAIN);
        }
        state.used += 1;
        Ok(())
    }

    /// Gives the room of a request back that was refused.
    pub(crate) fn unreserve(&self) {
        self.state.lock().used -= 1;
    }

    /// Puts the event of a request that has ended, and adds to the eventfd that the program named.
    pub(crate) fn complete(&self, event: Event, tell: Option<&OpenFile>) {
        self.state.lock().done.push_back(event);
        if let Some(eventfd) = tell.and_then(EventFd::of) {
            eventfd.signal();
        }
        self.changed.wake(Ready::IN);
    }

    /// Keeps a request until it is done.
    fn keep(&self, request: Arc<dyn Waiting>) {
        self.state.lock().waiting.push(request);
    }

    /// Takes a request away; `false` if somebody else did.
    fn take_waiting(&self, request: &dyn Waiting) -> bool {
        let mut state = self.state.lock();
        let Some(at) = state.waiting.iter().position(|kept| std::ptr::addr_eq(kept.as_ref(), request)) else {
            return false;
        };
        let taken = state.waiting.swap_remove(at);
        drop(state);
        drop(taken);
        true
    }

    /// Cancels the request that lies at this address; its event says that nothing was ready. `EINVAL` if it does not wait.
    pub(crate) fn cancel(&self, request: UserAddr) -> Result<(), Errno> {
        let found = self.state.lock().waiting.iter().find(|waiting| waiting.request() == request).cloned();
        if found.is_some_and(|waiting| waiting.finish(self, Ready::empty())) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Takes at most `max` events, in the order in which they came.
    pub(crate) fn take(&self, max: usize) -> Vec<Event> {
        let mut state = self.state.lock();
        let count = max.min(state.done.len());
        state.used -= count;
        state.done.drain(..count).collect()
    }

    /// Puts events back that could not be told.
    pub(crate) fn put_back(&self, events: &[Event]) {
        let mut state = self.state.lock();
        state.used += events.len();
        events.iter().rev().for_each(|event| state.done.push_front(*event));
    }

    /// Ends it: what waits is given up, and whoever waits for events gets `EINVAL`.
    pub(crate) fn end(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.ended = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
        self.changed.wake_all();
    }

    /// Tells whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().ended
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.asked, Ordering::Relaxed);
    }
}

/// Events in a ring of whole pages for `events` requests: room for twice what every processor may take, and one that stays free
/// (ioctx_alloc, aio_setup_ring).
fn ring_events(events: u32, cpus: usize) -> u64 {
    let wanted = u64::from(events).max(u64::try_from(cpus).unwrap_or(u64::MAX).saturating_mul(4));
    let event = u64::try_from(size_of::<Event>()).unwrap_or(u64::MAX);
    let bytes = (HEADER + event * (wanted * 2 + 2)).next_multiple_of(PAGE_SIZE);
    (bytes - HEADER) / event - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_fill_their_pages() {
        // One page: 127 events beside the header, one of which stays free.
        assert_eq!(ring_events(1, 2), 126);
        assert_eq!(ring_events(62, 2), 126);
        assert_eq!(ring_events(63, 2), 254);
        assert_eq!(ring_events(1, 32), 382);
    }

    #[test]
    fn a_sandbox_has_so_many_events() {
        let account = Arc::new(Account::default());
        let first = Context::new(&account, 0xffff, 1).unwrap();
        assert_eq!(Context::new(&account, 2, 1).map(drop), Err(Errno::EAGAIN));
        let second = Context::new(&account, 1, 1).unwrap();
        assert_eq!(account.events(), MAX_EVENTS);
        drop((first, second));
        assert_eq!(account.events(), 0);
    }

    #[test]
    fn room_is_what_has_not_been_fetched() {
        let context = Context::new(&Arc::new(Account::default()), 1, 1).unwrap();
        for _ in 0..context.capacity() {
            context.reserve().unwrap();
            context.complete(Event::default(), None);
        }
        assert_eq!(context.reserve(), Err(Errno::EAGAIN));
        let taken = context.take(2);
        assert_eq!(taken.len(), 2);
        context.put_back(&taken[1..]);
        assert_eq!(context.reserve(), Ok(()));
        assert_eq!(context.reserve(), Err(Errno::EAGAIN));
        context.end();
        assert!(context.has_ended());
    }
}
