//! Counters to wait for, see eventfd(2).

use super::{File, OffsetKeeper, OpenFile, Ready, Sink, Source, WaitSource};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, WaitQueue};
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};

/// The value that a count never reaches by writes.
const OVERFLOW: u64 = u64::MAX;
/// Bytes of a count.
const BYTES: usize = 8;

/// Numbers eventfds for /proc/PID/fdinfo.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// How a read takes the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// All of it.
    All,
    /// One (EFD_SEMAPHORE).
    One,
}

/// An eventfd.
#[derive(Debug)]
pub(crate) struct EventFd {
    id: u64,
    takes: Takes,
    count: Mutex<u64>,
    changed: WaitQueue,
}

impl EventFd {
    /// Makes one that starts at `count`.
    pub(crate) fn new(count: u32, takes: Takes) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            takes,
            count: Mutex::new(Rank::Pipe, count.into()),
            changed: WaitQueue::default(),
        }
    }
}

impl EventFd {
    /// The eventfd behind an open file, if it is one.
    pub(crate) fn of(file: &OpenFile) -> Option<&Self> {
        file.file().as_any().and_then(|file| file.downcast_ref())
    }

    /// Adds one, at the most up to what polls as an overflow (eventfd_signal).
    pub(crate) fn signal(&self) {
        {
            let mut count = self.count.lock();
            *count = count.saturating_add(1);
        }
        self.changed.wake(Ready::IN);
    }
}

impl File for EventFd {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, to: &mut dyn Sink) -> Result<usize, Errno> {
        if to.remaining() < BYTES {
            return Err(Errno::EINVAL);
        }
        let taken = {
            let mut count = self.count.lock();
            if *count == 0 {
                return Err(Errno::EAGAIN);
            }
            let taken = if self.takes == Takes::One { 1 } else { *count };
            *count -= taken;
            taken
        };
        self.changed.wake(Ready::OUT);
        // As on Linux the count is gone even if the buffer is bad.
        match to.put(&taken.to_ne_bytes())? {
            BYTES => Ok(BYTES),
            _ => Err(Errno::EFAULT),
        }
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        if from.remaining() != BYTES {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; BYTES];
        // The bytes stay in the source: a write that has to wait takes them again.
        if from.peek(&mut bytes)? != BYTES {
            return Err(Errno::EFAULT);
        }
        let added = u64::from_ne_bytes(bytes);
        if added == OVERFLOW {
            return Err(Errno::EINVAL);
        }
        {
            let mut count = self.count.lock();
            *count = count.checked_add(added).filter(|sum| *sum != OVERFLOW).ok_or(Errno::EAGAIN)?;
        }
        self.changed.wake(Ready::IN);
        from.skip(BYTES);
        Ok(BYTES)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn offset_keeper(&self) -> OffsetKeeper<'_> {
        OffsetKeeper::Zero
    }

    fn ready(&self) -> Ready {
        let count = *self.count.lock();
        let mut ready = Ready::empty();
        ready.set(Ready::IN, count > 0);
        ready.set(Ready::ERR, count == OVERFLOW);
        ready.set(Ready::OUT, count < OVERFLOW - 1);
        ready
    }

    fn wait_source(&self) -> WaitSource<'_> {
        WaitSource::Queue(&self.changed)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn fd_info(&self) -> String {
        let (count, semaphore) = (*self.count.lock(), u8::from(self.takes == Takes::One));
        format!("eventfd-count: {count:16x}\neventfd-id: {}\neventfd-semaphore: {semaphore}\n", self.id)
    }
}
