//! An inotify instance: its watches, and the events that wait to be read.

use super::{INSTANCES_MAX, Listener, Mask, News, QUEUE_MAX, WATCHES_MAX, Watch, Watches};
use crate::errno::Errno;
use crate::fs::open_anonymous;
use crate::fs::{File, Inode, OffsetKeeper, OpenFile, OpenFlags, Ready, Sink, Source, WaitSource};
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, WaitQueue};
use crate::user::UserOut;
use linux_raw_sys::ioctl::FIONREAD;
use rustix::fs::{major, minor};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use vmm::addr::UserAddr;

/// Bytes of a `struct inotify_event` without a name.
const HEADER: usize = 16;

/// What becomes of a watch that is asked for on an object that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// The new mask takes the old one's place.
    Replaces,
    /// It is added to it (IN_MASK_ADD).
    Extends,
    /// That is an error (IN_MASK_CREATE).
    MustBeNew,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    wd: i32,
    mask: Mask,
    cookie: u32,
    name: Box<[u8]>,
}

impl Event {
    /// Bytes of the event as it is read: a name is filled up with NULs, at least one.
    fn size(&self) -> usize {
        if self.name.is_empty() { HEADER } else { HEADER + (self.name.len() + 1).next_multiple_of(HEADER) }
    }

    fn bytes(&self) -> Vec<u8> {
        let name = u32::try_from(self.size() - HEADER).unwrap_or_default();
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend_from_slice(&self.wd.to_ne_bytes());
        for word in [self.mask.bits(), self.cookie, name] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.name);
        bytes.resize(self.size(), 0);
        bytes
    }

    /// Tells whether one of the two says it all; a cookie does not count (event_compare in inotify_fsnotify.c).
    fn says_the_same(&self, other: &Self) -> bool {
        (self.wd, self.mask, &self.name) == (other.wd, other.mask, &other.name)
    }
}

/// What inotify_init(2) opens.
#[derive(Debug)]
pub(crate) struct Instance {
    me: Weak<Instance>,
    all: Arc<Watches>,
    /// Held while a watch is found or made, so that an object has one.
    adding: Mutex<()>,
    watches: Mutex<Table>,
    events: Mutex<VecDeque<Event>>,
    readers: WaitQueue,
}

#[derive(Debug, Default)]
struct Table {
    by_wd: BTreeMap<i32, Arc<Watch>>,
    /// The last number given: numbers are not given again.
    last: i32,
}

impl Listener for Instance {
    fn hear(&self, watch: &Arc<Watch>, news: &News<'_>) {
        self.queue(watch.wd, news.mask, news.cookie, news.name);
        if watch.mask().contains(Mask::ONESHOT) {
            self.end(watch);
        }
    }

    fn lose(&self, watch: &Arc<Watch>) {
        self.end(watch);
    }
}

impl Instance {
    /// Opens a new one; `EMFILE` if there are too many.
    pub(crate) fn open(all: &Arc<Watches>, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
        let more = |count: usize| (count < INSTANCES_MAX).then_some(count + 1);
        all.instances.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Errno::EMFILE)?;
        let instance = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            all: all.clone(),
            adding: Mutex::new(Rank::Inode, ()),
            watches: Mutex::new(Rank::Leaf, Table::default()),
            events: Mutex::new(Rank::Leaf, VecDeque::new()),
            readers: WaitQueue::default(),
        });
        Ok(open_anonymous(instance, "inotify", flags))
    }

    /// Watches an object; returns the watch descriptor.
    pub(crate) fn watch(&self, inode: &Arc<dyn Inode>, mask: Mask, how: Added) -> Result<i32, Errno> {
        let _adding = self.adding.lock();
        let mask = mask & (Mask::EVENTS | Mask::ONESHOT | Mask::EXCL_UNLINK);
        let known = self.watches.lock().by_wd.values().find(|watch| Arc::ptr_eq(&watch.inode, inode)).cloned();
        if let Some(known) = known {
            match how {
                Added::MustBeNew => return Err(Errno::EEXIST),
                Added::Extends => _ = known.mask.fetch_or(mask.bits(), Ordering::Relaxed),
                Added::Replaces => known.mask.store(mask.bits(), Ordering::Relaxed),
            }
            return Ok(known.wd);
        }
        let more = |count: usize| (count < WATCHES_MAX).then_some(count + 1);
        self.all.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Errno::ENOSPC)?;
        let watch = {
            let mut table = self.watches.lock();
            table.last = table.last.wrapping_add(1).max(1);
            let watch = Arc::new(Watch {
                wd: table.last,
                mask: AtomicU32::new(mask.bits()),
                inode: inode.clone(),
                listener: self.me.clone(),
                gone: AtomicBool::new(false),
            });
            table.by_wd.insert(watch.wd, watch.clone());
            watch
        };
        self.all.add(&watch);
        Ok(watch.wd)
    }

    /// Ends a watch by its descriptor; `EINVAL` if there is none.
    pub(crate) fn unwatch(&self, wd: i32) -> Result<(), Errno> {
        let watch = self.watches.lock().by_wd.get(&wd).cloned().ok_or(Errno::EINVAL)?;
        if self.end(&watch) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Ends a watch and says so in the queue; `false` if somebody else has.
    pub(super) fn end(&self, watch: &Arc<Watch>) -> bool {
        if watch.gone.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.all.remove(watch);
        let removed = self.watches.lock().by_wd.remove(&watch.wd);
        drop(removed);
        self.queue(watch.wd, Mask::IGNORED, 0, b"");
        true
    }

    /// Adds an event, unless it says what the last one does; beyond the limit, once, that events were lost.
    pub(super) fn queue(&self, wd: i32, mask: Mask, cookie: u32, name: &[u8]) {
        let mut event = Event { wd, mask, cookie, name: name.into() };
        {
            let mut events = self.events.lock();
            if events.len() >= QUEUE_MAX {
                event = Event { wd: -1, mask: Mask::Q_OVERFLOW, cookie: 0, name: Box::default() };
            }
            if events.back().is_some_and(|last| last.says_the_same(&event)) {
                return;
            }
            events.push_back(event);
        }
        self.readers.wake(Ready::IN | Ready::RDNORM);
    }

    fn waiting(&self) -> usize {
        self.events.lock().iter().map(Event::size).sum()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let watches = std::mem::take(&mut self.watches.lock().by_wd);
        for watch in watches.values().filter(|watch| !watch.gone.swap(true, Ordering::SeqCst)) {
            self.all.remove(watch);
        }
        self.all.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

impl File for Instance {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        let mut done = 0;
        loop {
            let event = {
                let mut events = self.events.lock();
                match events.front() {
                    None if done == 0 => return Err(Errno::EAGAIN),
                    Some(event) if event.size() > to.remaining() && done == 0 => return Err(Errno::EINVAL),
                    Some(event) if event.size() <= to.remaining() => events.pop_front(),
                    _ => None,
                }
            };
            let Some(event) = event else { return Ok(done) };
            // An event that the buffer faults at is lost, as on Linux.
            match to.put(&event.bytes()) {
                Ok(_) => done += event.size(),
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Zero
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes = i32::try_from(self.waiting()).unwrap_or(i32::MAX);
        UserOut::new(UserAddr(arg)).write(task, &bytes).map(|()| 0)
    }

    fn ready(&self) -> Ready {
        if self.events.lock().is_empty() { Ready::empty() } else { Ready::IN | Ready::RDNORM }
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(&self.readers)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn fd_info(&self) -> String {
        let watches: Vec<Arc<Watch>> = self.watches.lock().by_wd.values().cloned().collect();
        watches.iter().map(|watch| described(watch)).collect()
    }
}

/// The line of a watch (fs/notify/fdinfo.c); the device number is in the kernel's own encoding.
fn described(watch: &Watch) -> String {
    let (inode, device) = watch.inode.stat().map_or((0, 0), |stat| (stat.inode, stat.device));
    let device = u64::from(major(device)) << 20 | u64::from(minor(device));
    let (wd, mask) = (watch.wd, watch.mask().bits());
    format!("inotify wd:{wd:x} ino:{inode:x} sdev:{device:x} mask:{mask:x} ignored_mask:0 \n")
}
