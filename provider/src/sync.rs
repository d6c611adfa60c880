//! Locks with ranks: the order of [`Rank`] *is* the documented lock order, checked at run time in debug builds.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

/// The order in which locks are taken: a thread may only take a lock of a higher rank than those it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Links between epolls: first, since looking for circles may close files.
    EpollLinks,
    /// A name that is being moved or removed: early, since the names may be those of procfs, which are what others have locked.
    Rename,
    /// A descriptor table.
    Files,
    /// Working directory, root and umask.
    FsContext,
    /// The mount table.
    Mounts,
    /// An open file's offset.
    OpenFile,
    /// Changes of an overlay's names, and copies to its upper layer.
    Overlay,
    /// A directory or file of one of our file systems.
    Inode,
    /// A child of a directory that is already locked.
    InodeChild,
    /// A pipe's contents, an eventfd's count.
    Pipe,
    /// Names and ports of sockets.
    Network,
    /// A socket's state.
    Socket,
    /// What a socket has received; user memory is read and written under it.
    SocketBuffer,
    /// Waiters for futexes, with the word they compare.
    Futexes,
    /// The second of two buckets of such waiters.
    FutexPair,
    /// The memory map of an address space.
    MemoryMap,
    /// What was rewritten in a program's code.
    Sites,
    /// A registry of System V IPC.
    Ipc,
    /// One of its objects.
    IpcObject,
    /// A process's timers.
    Timers,
    /// One timer.
    TimerState,
    /// Changes of what seccomp allows.
    Seccomp,
    /// Who is whose child.
    Family,
    /// Who traces whom.
    Tracing,
    /// The table of processes and threads: late, since procfs looks tasks up wherever a path leads through it.
    Tasks,
    /// A thread group's shared state.
    ThreadGroup,
    /// Signal handlers and queues.
    Signals,
    /// Wait queues.
    Waiters,
    /// An epoll's list of what may be ready.
    EpollReady,
    /// What an epoll keeps of a descriptor.
    EpollItem,
    /// Leaves: nothing is taken while they are held.
    Leaf,
}

thread_local! {
    static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
}

/// Asserts, in debug builds, that the calling thread holds no ranked lock.
pub fn assert_none_held() {
    if cfg!(debug_assertions) {
        HELD.with_borrow(|held| assert!(held.is_empty(), "a task would sleep while it holds {held:?}"));
    }
}

#[derive(Debug)]
struct Held(Rank);

impl Held {
    fn acquire(rank: Rank) -> Self {
        if cfg!(debug_assertions) {
            HELD.with_borrow_mut(|held| {
                if let Some(last) = held.last() {
                    assert!(*last < rank, "lock order: {rank:?} taken while {held:?} are held");
                }
                held.push(rank);
            });
        }
        Self(rank)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.with_borrow_mut(|held| {
                if let Some(at) = held.iter().rposition(|rank| *rank == self.0) {
                    held.remove(at);
                }
            });
        }
    }
}

/// A mutual-exclusion lock with a rank. Not poisoned: a panic ends the monitor.
pub struct Mutex<T> {
    rank: Rank,
    inner: std::sync::Mutex<T>,
}

/// Holds a [`Mutex`] locked.
pub struct MutexGuard<'a, T> {
    inner: std::sync::MutexGuard<'a, T>,
    _held: Held,
}

impl<T> Mutex<T> {
    /// Makes an unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: std::sync::Mutex::new(value) }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.lock_as(self.rank)
    }

    /// Waits for the lock, which has another rank here: for the second of two alike, whose order the caller sees to.
    pub fn lock_as(&self, rank: Rank) -> MutexGuard<'_, T> {
        let held = Held::acquire(rank);
        MutexGuard { inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner), _held: held }
    }

    /// Takes the value out of the lock.
    pub fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexGuard").finish_non_exhaustive()
    }
}

/// A readers-writer lock with a rank.
pub struct RwLock<T> {
    rank: Rank,
    inner: std::sync::RwLock<T>,
}

/// Holds an [`RwLock`] for reading.
pub struct ReadGuard<'a, T> {
    inner: std::sync::RwLockReadGuard<'a, T>,
    _held: Held,
}

/// Holds an [`RwLock`] for writing.
pub struct WriteGuard<'a, T> {
    inner: std::sync::RwLockWriteGuard<'a, T>,
    _held: Held,
}

impl<T> RwLock<T> {
    /// Makes an unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: std::sync::RwLock::new(value) }
    }

    /// Waits until no writer holds the lock.
    pub fn read(&self) -> ReadGuard<'_, T> {
        let held = Held::acquire(self.rank);
        ReadGuard { inner: self.inner.read().unwrap_or_else(PoisonError::into_inner), _held: held }
    }

    /// Waits until nobody holds the lock.
    pub fn write(&self) -> WriteGuard<'_, T> {
        let held = Held::acquire(self.rank);
        WriteGuard { inner: self.inner.write().unwrap_or_else(PoisonError::into_inner), _held: held }
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadGuard").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_in_rank_order_are_accepted() {
        let (outer, inner) = (Mutex::new(Rank::Files, 1), RwLock::new(Rank::Leaf, 2));
        let first = outer.lock();
        assert_eq!(*first + *inner.read(), 3);
        drop(first);
        assert_none_held();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock order")]
    fn a_lower_rank_under_a_higher_one_panics() {
        let (outer, inner) = (Mutex::new(Rank::Files, ()), Mutex::new(Rank::Leaf, ()));
        let _inner = inner.lock();
        let _outer = outer.lock();
    }
}
