//! One descriptor that an epoll watches.

use super::{Epoll, Found, Key};
use crate::errno::Errno;
use crate::fs::link::Link;
use crate::fs::{Fd, OpenFile, Ready};
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Observer, Share};
use std::sync::{Arc, Weak};

/// EPOLLEXCLUSIVE.
const EXCLUSIVE: u32 = 1 << 28;
/// EPOLLONESHOT.
const ONESHOT: u32 = 1 << 30;
/// EPOLLET.
const EDGE: u32 = 1 << 31;
/// The bits that say how to watch, not for what (EP_PRIVATE_BITS).
const PRIVATE: u32 = EXCLUSIVE | 1 << 29 | ONESHOT | EDGE;

/// What a program asked for: EPOLL* bits, and what it wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) events: u32,
    pub(crate) data: u64,
}

impl Interest {
    /// What it waits for.
    fn ready(self) -> Ready {
        Ready::from_bits_truncate(self.events & !PRIVATE)
    }

    /// Tells whether it is told again and again while something is ready.
    pub(super) fn is_level_triggered(self) -> bool {
        self.events & (EDGE | ONESHOT) == 0
    }

    /// Tells whether a change wakes only one of those that watch so.
    fn is_exclusive(self) -> bool {
        self.events & EXCLUSIVE != 0
    }
}

/// A descriptor that an epoll watches.
#[derive(Debug)]
pub(crate) struct Item {
    me: Weak<Item>,
    epoll: Weak<Epoll>,
    fd: Fd,
    file: Weak<OpenFile>,
    file_id: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    interest: Interest,
    /// Where it stands on the ready list; changed under that list's lock only.
    position: Option<i64>,
    /// How it learns of changes; `None` before that is arranged.
    link: Option<Link>,
    /// It was taken out of its epoll.
    removed: bool,
}

impl Item {
    pub(super) fn new(epoll: Weak<Epoll>, fd: Fd, file: &Arc<OpenFile>, interest: Interest) -> Arc<Self> {
        let state = State { interest, position: None, link: None, removed: false };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            epoll,
            fd,
            file: Arc::downgrade(file),
            file_id: file.id(),
            state: Mutex::new(Rank::EpollItem, state),
        })
    }

    /// What names it in its epoll.
    pub(super) fn key(&self) -> Key {
        (self.fd, self.file_id)
    }

    /// The open file; `None` while it is being closed. To be dropped where no lock is held.
    pub(super) fn file(&self) -> Option<Arc<OpenFile>> {
        self.file.upgrade()
    }

    /// The epoll it belongs to.
    pub(super) fn epoll(&self) -> Option<Arc<Epoll>> {
        self.epoll.upgrade()
    }

    pub(super) fn interest(&self) -> Interest {
        self.state.lock().interest
    }

    /// Arranges to be told of changes; `EPERM` if the file has none.
    pub(super) fn observe(&self, task: &CurrentTask<'_>, file: &OpenFile) -> Result<(), Errno> {
        let share = if self.interest().is_exclusive() { Share::Exclusive } else { Share::Common };
        let link = Link::new(task.kernel(), file, self.me.clone(), share)?;
        let mut state = self.state.lock();
        // Removed in between: the link must not outlive that. It is dropped after the lock.
        let rest = if state.removed { Some(link) } else { state.link.replace(link) };
        drop(state);
        drop(rest);
        Ok(())
    }

    /// Ends what [`Self::observe`] arranged, for good.
    pub(super) fn unobserve(&self) {
        let mut state = self.state.lock();
        state.removed = true;
        let link = state.link.take();
        drop(state);
        drop(link);
    }

    /// The last descriptor of its open file is closed.
    pub(crate) fn file_closed(self: &Arc<Self>) {
        if let Some(epoll) = self.epoll() {
            epoll.forget(self);
        }
    }

    /// Changes what is asked for; `EINVAL` for an exclusive item.
    pub(super) fn change(&self, interest: Interest) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.interest.is_exclusive() {
            return Err(Errno::EINVAL);
        }
        state.interest = interest;
        Ok(())
    }

    /// Tells whether any of `ready` is asked for.
    pub(super) fn wants(&self, ready: Ready) -> bool {
        let state = self.state.lock();
        !state.removed && state.interest.ready().intersects(ready)
    }

    /// Takes what is ready of what is asked for; a one-shot item asks for nothing from then on.
    pub(super) fn take(self: &Arc<Self>, ready: Ready) -> Option<Found> {
        let mut state = self.state.lock();
        let before = state.interest;
        let ready = ready & before.ready();
        if state.removed || ready.is_empty() {
            return None;
        }
        if before.events & ONESHOT != 0 {
            state.interest.events &= PRIVATE;
        }
        drop(state);
        Some(Found { item: self.clone(), ready, data: before.data, before })
    }

    /// Undoes a [`Self::take`], unless the program has changed the item since.
    pub(super) fn restore(&self, before: Interest) {
        let mut state = self.state.lock();
        if state.interest.events == before.events & PRIVATE {
            state.interest = before;
        }
    }

    /// Tells whether it is still in its epoll.
    pub(super) fn is_watching(&self) -> bool {
        !self.state.lock().removed
    }

    /// Notes its position on the ready list; `false` if it has one, or may not be there any more.
    pub(super) fn enlist(&self, position: i64) -> bool {
        let mut state = self.state.lock();
        let free = state.position.is_none() && !state.removed;
        if free {
            state.position = Some(position);
        }
        free
    }

    /// Forgets its position.
    pub(super) fn delist(&self) -> Option<i64> {
        self.state.lock().position.take()
    }
}

impl Observer for Item {
    fn notify(&self, ready: Ready) -> bool {
        let interest = self.interest();
        let (Some(me), Some(epoll)) = (self.me.upgrade(), self.epoll()) else { return false };
        if !interest.ready().intersects(ready) {
            return false;
        }
        let awaited = epoll.queue(&me);
        awaited || !interest.is_exclusive()
    }
}
