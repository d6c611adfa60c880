//! Directories that signal what happens in them: F_NOTIFY of fcntl(2) (fs/notify/dnotify).
//!
//! A [`DirectoryNotice`] belongs to an open directory and the process that asked; it goes when that process closes any descriptor of
//! it. The signals are sent at once by whoever made the change.

use super::{Listener, Mask, News, WATCHES_MAX, Watch, Watches};
use crate::errno::Errno;
use crate::fs::sigio::{Reason, Signalled};
use crate::fs::{FileKind, OpenFile};
use crate::kernel::Kernel;
use crate::task::{CurrentTask, Pid};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

bitflags::bitflags! {
    /// What F_NOTIFY asks for (DN_*).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DirectoryEvents: u32 {
        /// A file was read.
        const ACCESS = 0x1;
        /// A file was written.
        const MODIFY = 0x2;
        /// A name was made, or moved here.
        const CREATE = 0x4;
        /// A name was removed, or moved away.
        const DELETE = 0x8;
        /// A file was renamed within the directory.
        const RENAME = 0x10;
        /// A file's attributes changed.
        const ATTRIB = 0x20;
        /// Not only the next time.
        const MULTISHOT = 0x8000_0000;
    }
}

impl DirectoryEvents {
    /// The news that are told of anyway (convert_arg), but for renames.
    fn mask(self) -> Mask {
        let pairs = [
            (Self::ACCESS, Mask::ACCESS),
            (Self::MODIFY, Mask::MODIFY),
            (Self::CREATE, Mask::CREATE | Mask::MOVED_TO),
            (Self::DELETE, Mask::DELETE | Mask::MOVED_FROM),
            (Self::ATTRIB, Mask::ATTRIB),
        ];
        let wanted = pairs.into_iter().filter(|(event, _)| self.contains(*event));
        wanted.fold(Mask::empty(), |sum, (_, mask)| sum | mask)
    }

    /// How often news are signalled: a rename within the directory is one thing, the name that goes another.
    fn count(self, news: &News<'_>) -> usize {
        let renamed = self.contains(Self::RENAME) && news.stays && news.mask.contains(Mask::MOVED_FROM);
        usize::from(renamed) + usize::from(self.mask().intersects(news.mask))
    }
}

/// An open directory that signals.
#[derive(Debug)]
pub(super) struct DirectoryNotice {
    all: Weak<Watches>,
    kernel: Weak<Kernel>,
    /// The open directory's number.
    file: u64,
    process: Pid,
    notice: Arc<dyn Signalled>,
    /// The descriptor that is told.
    fd: AtomicI32,
    events: AtomicU32,
    watch: Arc<Watch>,
}

impl DirectoryNotice {
    fn events(&self) -> DirectoryEvents {
        DirectoryEvents::from_bits_retain(self.events.load(Ordering::Relaxed))
    }

    fn is_of(&self, file: u64, process: Option<Pid>) -> bool {
        self.file == file && process.is_none_or(|process| self.process == process)
    }
}

impl Listener for DirectoryNotice {
    fn hear(&self, watch: &Arc<Watch>, news: &News<'_>) {
        let events = self.events();
        let count = events.count(news);
        let Some(kernel) = self.kernel.upgrade().filter(|_| count > 0) else { return };
        for _ in 0..count {
            self.notice.signal_now(&kernel, self.fd.load(Ordering::Relaxed), Reason::Message);
        }
        if !events.contains(DirectoryEvents::MULTISHOT) {
            self.lose(watch);
        }
    }

    fn lose(&self, watch: &Arc<Watch>) {
        if let Some(all) = self.all.upgrade() {
            all.forget(|notice| Arc::ptr_eq(&notice.watch, watch));
        }
    }
}

impl Watches {
    /// Lets an open directory signal events to the caller's process, besides those it signals already; with none it signals no more.
    /// `ENOTDIR`, `ENOSPC`.
    pub(crate) fn notify(
        self: &Arc<Self>,
        task: &CurrentTask<'_>,
        file: &OpenFile,
        fd: i32,
        wanted: DirectoryEvents,
    ) -> Result<(), Errno> {
        let process = task.group().pid();
        if wanted.difference(DirectoryEvents::MULTISHOT).is_empty() {
            self.forget(|notice| notice.is_of(file.id(), Some(process)));
            return Ok(());
        }
        if file.location().kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let notice = file.notice_mut(task).clone();
        notice.own(task);
        let known = {
            let directories = self.directories.lock();
            directories.iter().find(|notice| notice.is_of(file.id(), Some(process))).cloned()
        };
        if let Some(known) = known {
            let events = known.events() | wanted;
            known.events.store(events.bits(), Ordering::Relaxed);
            known.fd.store(fd, Ordering::Relaxed);
            known.watch.mask.store(watched(events).bits(), Ordering::Relaxed);
            return Ok(());
        }
        let more = |count: usize| (count < WATCHES_MAX).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Errno::ENOSPC)?;
        let inode = file.location().inode().clone();
        let made = Arc::new_cyclic(|me: &Weak<DirectoryNotice>| {
            let listener: Weak<dyn Listener> = me.clone();
            let mask = AtomicU32::new(watched(wanted).bits());
            let watch = Arc::new(Watch { wd: 0, mask, inode, listener, gone: AtomicBool::new(false) });
            DirectoryNotice {
                all: Arc::downgrade(self),
                kernel: Arc::downgrade(task.kernel()),
                file: file.id(),
                process,
                notice,
                fd: AtomicI32::new(fd),
                events: AtomicU32::new(wanted.bits()),
                watch,
            }
        });
        self.add(&made.watch);
        self.directories.lock().push(made);
        Ok(())
    }

    /// A process closed a descriptor of an open file, or (`None`) the last one is closed.
    pub(in crate::fs) fn directory_closed(&self, file: &OpenFile, process: Option<Pid>) {
        if !self.is_idle() {
            self.forget(|notice| notice.is_of(file.id(), process));
        }
    }

    /// A process has ended.
    pub(crate) fn process_ended(&self, process: Pid) {
        if !self.is_idle() {
            self.forget(|notice| notice.process == process);
        }
    }

    fn forget(&self, over: impl Fn(&DirectoryNotice) -> bool) {
        let forgotten: Vec<_> = self.directories.lock().extract_if(.., |notice| over(notice)).collect();
        forgotten.iter().for_each(|notice| self.remove(&notice.watch));
    }
}

/// What the watch is for: a rename is told of by the name that goes.
fn watched(events: DirectoryEvents) -> Mask {
    let renames = if events.contains(DirectoryEvents::RENAME) { Mask::MOVED_FROM } else { Mask::empty() };
    events.mask() | renames
}
