//! Waiting for many files at once, see epoll(7).
//!
//! An [`Epoll`] holds an [`Item`] for each descriptor of interest. The item observes what the file waits by (a queue of the
//! provider's, or a host descriptor through [`vmm::events`]); at each change it goes to the end of the ready list and wakes whoever waits
//! for the epoll. A wait takes items off the list, asks their files what is really ready, and puts those that are level-triggered back:
//! its cost is that of what is ready, not of what is watched.
//!
//! An item belongs to an *open file*, by a weak reference: when the last descriptor of that is closed the item goes
//! ([`Item::file_closed`]). Locks are leaves, and none is held while a file is asked or a queue woken, so that epolls can watch epolls.
//! A directory of watches between epolls is checked for loops under one lock for all ([`nesting`]).

mod item;
mod nesting;
mod ready_list;
#[cfg(test)]
mod tests;

pub(crate) use item::{Interest, Item};

use super::{Fd, File, OffsetKeeper, OpenFile, Ready, Sink, Source, WaitSource};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, WaitQueue};
use ready_list::ReadyList;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Weak};

/// What names an item: the descriptor it was added by, and the open file.
type Key = (Fd, u64);

/// An epoll.
#[derive(Debug)]
pub(crate) struct Epoll {
    me: Weak<Epoll>,
    items: Mutex<BTreeMap<Key, Arc<Item>>>,
    ready: ReadyList,
    /// Tasks in epoll_wait, in turn; those who poll the epoll itself.
    changed: WaitQueue,
    /// Items of other epolls that watch this one.
    watchers: Mutex<Vec<Weak<Item>>>,
}

/// What a wait found.
#[derive(Debug)]
pub(crate) struct Found {
    item: Arc<Item>,
    /// What is ready.
    pub(crate) ready: Ready,
    /// What the program wants to be told with it.
    pub(crate) data: u64,
    /// The interest before, to be restored if the program is not told.
    before: Interest,
}

impl Epoll {
    /// Makes one that watches nothing.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            items: Mutex::new(Rank::Leaf, BTreeMap::new()),
            ready: ReadyList::default(),
            changed: WaitQueue::default(),
            watchers: Mutex::new(Rank::Leaf, Vec::new()),
        })
    }

    /// The epoll behind an open file, if it is one.
    pub(crate) fn of(file: &OpenFile) -> Option<&Self> {
        file.file().as_any().and_then(|file| file.downcast_ref())
    }

    /// Woken when an item becomes ready.
    pub(crate) fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// Watches an open file. `EEXIST`, `EPERM` if it is nothing that becomes ready, `ELOOP` if epolls would watch in circles or too deep.
    pub(crate) fn add(
        &self,
        task: &CurrentTask<'_>,
        fd: Fd,
        file: &Arc<OpenFile>,
        interest: Interest,
    ) -> Result<(), Errno> {
        let item = Item::new(self.me.clone(), fd, file, interest);
        let insert = || {
            let mut items = self.items.lock();
            if items.contains_key(&(fd, file.id())) {
                return Err(Errno::EEXIST);
            }
            items.insert((fd, file.id()), item.clone());
            Ok(())
        };
        match Self::of(file) {
            None => insert()?,
            Some(inner) => {
                let _guard = nesting::checked(self, inner)?;
                insert()?;
                inner.watchers.lock().push(Arc::downgrade(&item));
            }
        }
        file.add_watch(&item);
        if let Err(error) = item.observe(task, file) {
            self.forget(&item);
            return Err(error);
        }
        self.look(task, &item, file);
        Ok(())
    }

    /// Changes what is asked of a file; `ENOENT` if it is not watched, `EINVAL` if it is watched exclusively.
    pub(crate) fn change(
        &self,
        task: &CurrentTask<'_>,
        fd: Fd,
        file: &Arc<OpenFile>,
        interest: Interest,
    ) -> Result<(), Errno> {
        let item = self.find(fd, file)?;
        item.change(interest)?;
        self.look(task, &item, file);
        Ok(())
    }

    /// Stops watching; `ENOENT`.
    pub(crate) fn remove(&self, fd: Fd, file: &Arc<OpenFile>) -> Result<(), Errno> {
        let item = self.find(fd, file)?;
        file.remove_watch(&item);
        self.forget(&item);
        Ok(())
    }

    fn find(&self, fd: Fd, file: &OpenFile) -> Result<Arc<Item>, Errno> {
        self.items.lock().get(&(fd, file.id())).cloned().ok_or(Errno::ENOENT)
    }

    /// An open file that is watched under this number; of several, that behind the first `skip` (ep_find_tfd).
    pub(crate) fn watched(&self, fd: u32, skip: u32) -> Option<Arc<OpenFile>> {
        let fd = Fd(i32::try_from(fd).ok()?);
        let skip = usize::try_from(skip).ok()?;
        let item = self.items.lock().range((fd, 0)..=(fd, u64::MAX)).nth(skip).map(|(_, item)| item.clone());
        item?.file()
    }

    /// Takes an item out for good.
    fn forget(&self, item: &Arc<Item>) {
        let _removed = self.items.lock().remove(&item.key());
        self.ready.remove(item);
        item.unobserve();
    }

    /// Queues an item that is ready already.
    fn look(&self, task: &CurrentTask<'_>, item: &Arc<Item>, file: &OpenFile) {
        if item.wants(file.file().ready_for(task)) {
            self.queue(item);
        }
    }

    /// Puts an item on the ready list and wakes one that waits; tells whether there was anybody.
    fn queue(&self, item: &Arc<Item>) -> bool {
        self.ready.push(item);
        let awaited = self.changed.has_waiters();
        self.changed.wake(Ready::IN | Ready::RDNORM);
        awaited
    }

    /// Takes at most `max` ready items. Each must go to [`Self::told`] or [`Self::put_back`].
    pub(crate) fn take(&self, task: &CurrentTask<'_>, max: usize) -> Vec<Found> {
        let mut found = Vec::new();
        // Those that come while this looks are for the next wait.
        let mut left = self.ready.len();
        while found.len() < max && left > 0 {
            left -= 1;
            let Some(item) = self.ready.pop() else { break };
            let Some(file) = item.file() else { continue };
            found.extend(item.take(file.file().ready_for(task)));
        }
        found
    }

    /// The program was told of these: those that are level-triggered will be looked at again by the next wait.
    pub(crate) fn told(&self, found: Vec<Found>) {
        for found in found.iter().filter(|found| found.before.is_level_triggered()) {
            self.ready.push(&found.item);
        }
        self.pass_on();
    }

    /// The program could not be told of these: they are as they were.
    pub(crate) fn put_back(&self, found: Vec<Found>) {
        for found in found.into_iter().rev() {
            found.item.restore(found.before);
            self.ready.push_front(&found.item);
        }
        self.pass_on();
    }

    /// Ready if any item really is; items that are not leave the list, as in `__ep_eventpoll_poll`.
    fn any_ready(&self, ready: impl Fn(&OpenFile) -> Ready) -> Ready {
        let mut left = self.ready.len();
        while left > 0 {
            left -= 1;
            let Some(item) = self.ready.pop() else { break };
            let Some(file) = item.file() else { continue };
            if item.wants(ready(&file)) {
                self.ready.push_front(&item);
                return Ready::IN | Ready::RDNORM;
            }
        }
        Ready::empty()
    }

    /// Lets another task that waits look at what is left.
    fn pass_on(&self) {
        if self.ready.len() > 0 {
            self.changed.wake_next(Ready::IN);
        }
    }
}

impl File for Epoll {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Zero
    }

    fn ready(&self) -> Ready {
        self.any_ready(|file| file.file().ready())
    }

    fn ready_for(&self, task: &CurrentTask<'_>) -> Ready {
        self.any_ready(|file| file.file().ready_for(task))
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(&self.changed)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn fd_info(&self) -> String {
        let items: Vec<Arc<Item>> = self.items.lock().values().cloned().collect();
        let mut lines = String::new();
        for item in items {
            let Some(file) = item.file() else { continue };
            let Ok(stat) = file.location().inode().stat() else { continue };
            let (fd, interest) = (item.key().0, item.interest());
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines,
                "tfd: {:8} events: {:8x} data: {:16x}  pos:{} ino:{:x} sdev:{:x}",
                fd.0,
                interest.events,
                interest.data,
                file.offset(),
                stat.inode,
                stat.device
            );
        }
        lines
    }

    fn released(&self) {
        let items = std::mem::take(&mut *self.items.lock());
        for item in items.into_values() {
            if let Some(file) = item.file() {
                file.remove_watch(&item);
            }
            self.ready.remove(&item);
            item.unobserve();
        }
    }
}
