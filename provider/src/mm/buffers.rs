//! User memory as the target or the source of a transfer ([`UserBuffers`]): checked iovecs.

use super::MemoryMap;
use super::access::checked_range;
use crate::errno::Errno;
use crate::fs::{Sink, Source};
use std::os::fd::BorrowedFd;
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, Fault, FaultKind, IoError, MemoryObject, PageState};

/// The most buffers a vectored call takes (UIO_MAXIOV).
pub const IOV_MAX: usize = 1024;
/// The most bytes a call transfers (MAX_RW_COUNT).
const MAX_TRANSFER: u64 = 0x7fff_f000;
/// Bytes of a `struct iovec`.
const IOVEC_BYTES: usize = 16;
/// Faults that one transfer resolves without moving a byte, before it gives up: another thread keeps unmapping its buffers.
const MAX_TRIES: u32 = 64;

/// User memory as the target or the source of a transfer: checked iovecs.
#[derive(Debug)]
pub struct UserBuffers<'a> {
    /// Whose memory.
    pub map: &'a MemoryMap,
    /// What is left, in order; empty ranges are allowed. Implements [`crate::fs::Sink`] and [`crate::fs::Source`].
    pub ranges: Vec<UserRange>,
}

impl<'a> UserBuffers<'a> {
    /// Takes one buffer, as read(2) and write(2) have it: `EFAULT` outside the user half, then cut to the most a call transfers.
    pub fn single(map: &'a MemoryMap, start: UserAddr, len: u64) -> Result<Self, Errno> {
        // The whole range is judged (access_ok in vfs_read), and before the sign of its length: no negative one passes.
        checked_range(start, usize::try_from(len).map_err(|_| Errno::EFAULT)?)?;
        let end = UserAddr(start.0 + len.min(MAX_TRANSFER));
        Ok(Self { map, ranges: vec![UserRange { start, end }] })
    }

    /// Reads `count` iovecs at `at` (`import_iovec`).
    ///
    /// # Errors
    /// `EINVAL` (too many, a length beyond SSIZE_MAX), `EFAULT` (the array or a buffer lies outside).
    pub fn import(map: &'a MemoryMap, at: UserAddr, count: u64) -> Result<Self, Errno> {
        let count = usize::try_from(count).ok().filter(|count| *count <= IOV_MAX).ok_or(Errno::EINVAL)?;
        let mut bytes = vec![0; count * IOVEC_BYTES];
        map.read(at, &mut bytes)?;
        let mut ranges = Vec::with_capacity(count);
        let mut room = MAX_TRANSFER;
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        let iovecs: Vec<(u64, u64)> =
            bytes.chunks_exact(IOVEC_BYTES).map(|iovec| (word(&iovec[..8]), word(&iovec[8..]))).collect();
        if iovecs.iter().any(|(_, len)| i64::try_from(*len).is_err()) {
            return Err(Errno::EINVAL);
        }
        for (base, len) in iovecs {
            checked_range(UserAddr(base), usize::try_from(len).map_err(|_| Errno::EINVAL)?)?;
            let len = len.min(room);
            room -= len;
            ranges.push(UserRange { start: UserAddr(base), end: UserAddr(base + len) });
        }
        Ok(Self { map, ranges })
    }

    /// Bytes left.
    fn left(&self) -> usize {
        let bytes: u64 = self.ranges.iter().map(|range| range.len()).sum();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Takes `done` bytes off the front.
    fn advance(&mut self, done: usize) {
        let mut done = done as u64;
        for range in &mut self.ranges {
            let step = done.min(range.len());
            range.start = UserAddr(range.start.0 + step);
            done -= step;
            if done == 0 {
                break;
            }
        }
        self.ranges.retain(|range| !range.is_empty());
    }

    /// Cuts the list to `bytes` bytes.
    fn truncate(&mut self, bytes: usize) {
        let mut room = bytes as u64;
        for range in &mut self.ranges {
            let len = range.len().min(room);
            range.end = UserAddr(range.start.0 + len);
            room -= len;
        }
        self.ranges.retain(|range| !range.is_empty());
    }

    /// The next byte to be transferred.
    fn next(&self) -> Option<UserAddr> {
        self.ranges.iter().find(|range| !range.is_empty()).map(|range| range.start)
    }

    /// Tells whether the transfer stopped short because of the entry of the next page, which the map may permit.
    fn stopped_at_entry(&self, access: Access) -> Option<Fault> {
        let address = self.next()?;
        let ready = match self.map.space().page_state(address) {
            PageState::Mapped(granted) => super::fault::permits(granted, access),
            PageState::CopyOnWrite(granted) => {
                !access.contains(Access::WRITE) && super::fault::permits(granted, access)
            }
            PageState::Absent => false,
            PageState::Bus => true,
        };
        (!ready).then_some(Fault { address, access, kind: FaultKind::Entry })
    }

    /// Runs `step(buffers, bytes done)` with faults resolved, until a step falls short for another reason.
    ///
    /// A stream is not asked twice once bytes have moved: what it had may be all it has.
    fn run(
        &mut self,
        access: Access,
        stream: bool,
        mut step: impl FnMut(&Self, u64) -> Result<usize, IoError>,
    ) -> Result<usize, Errno> {
        let mut total = 0;
        let mut tries = 0;
        loop {
            let fault = match step(self, total as u64) {
                Ok(moved) => {
                    total += moved;
                    tries = if moved > 0 { 0 } else { tries };
                    self.advance(moved);
                    if moved == 0 || self.ranges.is_empty() || stream {
                        return Ok(total);
                    }
                    match self.stopped_at_entry(access) {
                        Some(fault) => fault,
                        None => return Ok(total),
                    }
                }
                Err(IoError::Fault(fault)) => fault,
                Err(IoError::Memory(error)) => return if total > 0 { Ok(total) } else { Err(error.into()) },
            };
            tries += 1;
            if tries > MAX_TRIES || self.map.resolve(fault).is_err() {
                return if total > 0 { Ok(total) } else { Err(Errno::EFAULT) };
            }
        }
    }

    /// Copies between `bytes` and the buffers with `copy(address, range of bytes)`, which reports how many it could.
    fn copy(
        &mut self,
        len: usize,
        mut copy: impl FnMut(&MemoryMap, UserAddr, std::ops::Range<usize>) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < len {
            let Some(range) = self.ranges.iter().find(|range| !range.is_empty()).copied() else { break };
            let step = usize::try_from(range.len()).unwrap_or(usize::MAX).min(len - done);
            match copy(self.map, range.start, done..done + step) {
                Ok(moved) => {
                    self.advance(moved);
                    done += moved;
                    if moved < step {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

impl Sink for UserBuffers<'_> {
    fn remaining(&self) -> usize {
        self.left()
    }

    fn limit(&mut self, bytes: usize) {
        self.truncate(bytes);
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.copy(bytes.len(), |map, at, part| map.write_partial(at, &bytes[part]))
    }

    fn fill_from_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize, Errno> {
        self.run(Access::WRITE, offset.is_none(), |buffers, done| {
            buffers.map.space().read_from_host(fd, offset.map(|offset| offset + done), &buffers.ranges)
        })
    }

    fn fill_from_object(&mut self, object: &MemoryObject, offset: u64) -> Result<usize, Errno> {
        let mut total = 0;
        while let Some(range) = self.ranges.iter().find(|range| !range.is_empty()).copied() {
            let want = range.len();
            let moved = self.run(Access::WRITE, false, |buffers, done| {
                let rest = UserRange { start: UserAddr(range.start.0 + done), end: range.end };
                if rest.is_empty() {
                    return Ok(0);
                }
                buffers.map.space().read_from_object(object, offset + total + done, rest)
            });
            match moved {
                Ok(moved) => {
                    total += moved as u64;
                    if (moved as u64) < want {
                        break;
                    }
                }
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(usize::try_from(total).unwrap_or(usize::MAX))
    }
}

impl Source for UserBuffers<'_> {
    fn remaining(&self) -> usize {
        self.left()
    }

    fn limit(&mut self, bytes: usize) {
        self.truncate(bytes);
    }

    fn peek(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        // A copy of the list is consumed; the bytes are read again when they are really taken.
        let mut ahead = Self { map: self.map, ranges: self.ranges.clone() };
        ahead.copy(bytes.len(), |map, at, part| map.read_partial(at, &mut bytes[part]))
    }

    fn skip(&mut self, len: usize) {
        self.advance(len);
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        self.copy(bytes.len(), |map, at, part| map.read_partial(at, &mut bytes[part]))
    }

    fn drain_to_host(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize, Errno> {
        self.run(Access::READ, offset.is_none(), |buffers, done| {
            buffers.map.space().write_to_host(fd, offset.map(|offset| offset + done), &buffers.ranges)
        })
    }

    fn drain_to_object(&mut self, object: &MemoryObject, offset: u64) -> Result<usize, Errno> {
        let mut total = 0;
        while let Some(range) = self.ranges.iter().find(|range| !range.is_empty()).copied() {
            let want = range.len();
            let moved = self.run(Access::READ, false, |buffers, done| {
                let rest = UserRange { start: UserAddr(range.start.0 + done), end: range.end };
                if rest.is_empty() {
                    return Ok(0);
                }
                buffers.map.space().write_to_object(object, offset + total + done, rest)
            });
            match moved {
                Ok(moved) => {
                    total += moved as u64;
                    if (moved as u64) < want {
                        break;
                    }
                }
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(usize::try_from(total).unwrap_or(usize::MAX))
    }
}
