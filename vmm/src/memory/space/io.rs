//! Transfers straight between user pages and host descriptors or objects: exactly one copy, made by the host or by us.

use super::super::arena::{host_error, usize_of};
use super::super::raw::Stopped;
use super::super::{MemoryError, MemoryObject};
use super::access::{Fault, FaultKind};
use super::{Access, AddressSpace, State};
use crate::addr::{UserAddr, UserRange};
use std::borrow::Cow;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Why a transfer between user pages and a host descriptor or an object moved nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// A user page stands in the way.
    Fault(Fault),
    /// Memory could not be had, or the host refused.
    Memory(MemoryError),
}

/// Pieces a host call takes (UIO_MAXIOV).
const PIECES_MAX: usize = 1024;
/// Bytes a host call moves (MAX_RW_COUNT).
const BYTES_MAX: u64 = 0x7fff_f000;

/// Bytes of compressed pages that are made ready for one host call: more than any datagram has.
const READY_BYTES: usize = 1 << 20;
/// How often in a row making pages ready may not get a transfer further.
const MISSES_MAX: u32 = 8;

/// Which way a transfer goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    FromHost,
    ToHost,
}

impl AddressSpace {
    /// Reads from a host descriptor straight into user pages (`preadv`, or `readv` without an offset).
    /// Returns bytes read. The pages up to the first that does not permit stores are used; `Err(IoError::Fault)` only if
    /// not one byte can be taken. The space's tables are locked meanwhile: a descriptor that may block must be polled before.
    pub fn read_from_host(&self, fd: BorrowedFd<'_>, offset: Option<u64>, to: &[UserRange]) -> Result<usize, IoError> {
        self.transfer(fd, offset, to, Direction::FromHost)
    }

    /// Writes user pages straight to a host descriptor (`pwritev` or `writev`); otherwise as `read_from_host`.
    pub fn write_to_host(&self, fd: BorrowedFd<'_>, offset: Option<u64>, from: &[UserRange]) -> Result<usize, IoError> {
        self.transfer(fd, offset, from, Direction::ToHost)
    }

    fn transfer(
        &self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        ranges: &[UserRange],
        direction: Direction,
    ) -> Result<usize, IoError> {
        let mut total = 0;
        let mut rest = Cow::Borrowed(ranges);
        loop {
            let at = offset.map(|offset| offset.saturating_add(total as u64));
            match self.transfer_ready(fd, at, &rest, direction) {
                Ok((moved, more)) => {
                    total += moved;
                    // A stream is not asked twice: what it had may be all it has.
                    if !more || offset.is_none() {
                        return Ok(total);
                    }
                    rest = Cow::Owned(behind(ranges, total as u64));
                }
                Err(_) if total > 0 => return Ok(total),
                Err(error) => return Err(error),
            }
        }
    }

    /// Transfers to or from pages that are ready; of many that are not, some are made so. Returns bytes moved, and whether
    /// all those pages were used and others, which were not ready, are next.
    fn transfer_ready(
        &self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        ranges: &[UserRange],
        direction: Direction,
    ) -> Result<(usize, bool), IoError> {
        let access = if direction == Direction::FromHost { Access::WRITE } else { Access::READ };
        let (mut reached, mut misses) = (0, 0);
        let (state, pieces, fault, more) = loop {
            let state = self.look();
            let (pieces, fault) = self.gather(&state, ranges, access);
            let Some(fault) = fault.filter(|fault| fault.kind == FaultKind::Entry) else {
                break (state, pieces, fault, false);
            };
            drop(state);
            let ready = self.overcome(&fault);
            let bytes: usize = pieces.iter().map(|piece| piece.vector.iov_len).sum();
            // Pages that were ready may have been compressed again meanwhile, where memory is very short.
            misses += u32::from(bytes <= reached);
            reached = reached.max(bytes);
            if !ready || bytes >= READY_BYTES || misses > MISSES_MAX {
                let state = self.look();
                let (pieces, now) = self.gather(&state, ranges, access);
                let more = ready || now.is_none_or(|now| now.address != fault.address);
                break (state, pieces, now, more);
            }
        };
        if let (true, Some(fault)) = (pieces.is_empty(), fault) {
            return Err(IoError::Fault(fault));
        }
        let moved = self.move_pieces(fd, offset, &pieces, direction)?;
        drop(state);
        let whole = moved == pieces.iter().map(|piece| piece.vector.iov_len).sum::<usize>();
        Ok((moved, more && whole && fault.is_some()))
    }

    /// Moves bytes between pieces, whose tables the caller keeps locked, and a descriptor.
    fn move_pieces(
        &self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        pieces: &[Piece],
        direction: Direction,
    ) -> Result<usize, IoError> {
        let access = if direction == Direction::FromHost { Access::WRITE } else { Access::READ };
        let (mut total, mut expected) = (0_usize, 0_usize);
        for batch in pieces.chunks(PIECES_MAX) {
            let wanted: usize = batch.iter().map(|piece| piece.vector.iov_len).sum();
            let at = offset.map(|offset| offset.saturating_add(total as u64));
            match host_call(fd, at, batch, direction) {
                Ok(moved) => total += moved,
                Err(_) if total > 0 => return Ok(total),
                // A page whose file shrank. The host does not say which: the first is as good as any.
                Err(MemoryError::Io(libc::EFAULT)) => {
                    return Err(IoError::Fault(Fault { address: batch[0].address, access, kind: FaultKind::Bus }));
                }
                Err(error) => return Err(IoError::Memory(error)),
            }
            expected += wanted;
            if total < expected {
                break;
            }
        }
        Ok(total)
    }

    /// The pieces of ranges that are contiguous in the host, up to the first page that does not permit `access`.
    fn gather(&self, state: &State, ranges: &[UserRange], access: Access) -> (Vec<Piece>, Option<Fault>) {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut room = BYTES_MAX;
        for range in ranges {
            let mut address = range.start;
            let len = range.len().min(room);
            let result = self.walk(state, range.start, len, access, |host, bytes| {
                match pieces.last_mut() {
                    Some(last) if last.end() == host => last.vector.iov_len += bytes,
                    _ => pieces.push(Piece { address, vector: libc::iovec { iov_base: host.cast(), iov_len: bytes } }),
                }
                address = UserAddr(address.0 + bytes as u64);
                Ok(())
            });
            room -= len;
            if let Err(fault) = result {
                return (pieces, Some(fault));
            }
        }
        (pieces, None)
    }

    /// Copies from an object to user pages; returns bytes copied (short at the object's end).
    pub fn read_from_object(&self, object: &MemoryObject, offset: u64, to: UserRange) -> Result<usize, IoError> {
        let mut done = 0_u64;
        let result = self.with_ready(|| {
            let state = self.look();
            let content = object.look();
            let len = to.len().min(content.size().saturating_sub(offset)).saturating_sub(done);
            self.walk(&state, UserAddr(to.start.0 + done), len, Access::WRITE, |host, bytes| {
                let copied = content.copy_out(object.memory(), offset + done, host, bytes);
                done += copied.map_or_else(|stop| stop.done, |()| bytes) as u64;
                copied
            })
        });
        finished(done, result.map_err(IoError::Fault))
    }

    /// Copies user pages into an object, which grows as needed.
    pub fn write_to_object(&self, object: &MemoryObject, offset: u64, from: UserRange) -> Result<usize, IoError> {
        let memory = &*self.memory;
        memory
            .with_reclaim(|| {
                let mut done = 0_u64;
                let mut refused = None;
                let result = self.with_ready(|| {
                    let state = self.look();
                    let mut content = object.edit();
                    let start = UserAddr(from.start.0 + done);
                    self.walk(&state, start, from.len() - done, Access::READ, |host, bytes| {
                        let at = offset.saturating_add(done);
                        let (copied, outcome) = content.copy_in(object.memory(), at, host, bytes);
                        done += copied as u64;
                        outcome.map_err(|error| {
                            refused = Some(error);
                            Stopped { done: copied }
                        })
                    })
                });
                match refused {
                    // Nothing was moved and memory is short: worth another try.
                    Some(MemoryError::LimitReached) if done == 0 => Err(MemoryError::LimitReached),
                    Some(MemoryError::Io(libc::EFAULT)) | None => Ok(finished(done, result.map_err(IoError::Fault))),
                    Some(error) => Ok(finished(done, Err(IoError::Memory(error)))),
                }
            })
            .map_err(IoError::Memory)?
    }
}

/// What a transfer returns that moved `done` bytes and then stopped or not.
fn finished(done: u64, result: Result<(), IoError>) -> Result<usize, IoError> {
    match result {
        Err(error) if done == 0 => Err(error),
        _ => Ok(usize_of(done)),
    }
}

/// The parts of ranges behind their first `bytes`.
fn behind(ranges: &[UserRange], bytes: u64) -> Vec<UserRange> {
    let mut skip = bytes;
    let rest = ranges.iter().map(|range| {
        let skipped = skip.min(range.len());
        skip -= skipped;
        UserRange { start: UserAddr(range.start.0 + skipped), end: range.end }
    });
    rest.filter(|range| !range.is_empty()).collect()
}

/// User memory that is contiguous in the host.
struct Piece {
    address: UserAddr,
    vector: libc::iovec,
}

impl Piece {
    fn end(&self) -> *mut u8 {
        self.vector.iov_base.cast::<u8>().wrapping_add(self.vector.iov_len)
    }
}

/// Moves bytes between pieces and a descriptor; returns how many.
fn host_call(
    fd: BorrowedFd<'_>,
    offset: Option<u64>,
    pieces: &[Piece],
    direction: Direction,
) -> Result<usize, MemoryError> {
    let vectors: Vec<libc::iovec> = pieces.iter().map(|piece| piece.vector).collect();
    let count = i32::try_from(vectors.len()).map_err(|_| MemoryError::Io(libc::EINVAL))?;
    let (fd, vectors) = (fd.as_raw_fd(), vectors.as_ptr());
    let offset = offset.map(libc::off_t::try_from).transpose().map_err(|_| MemoryError::Io(libc::EINVAL))?;
    // The offset −1 is the descriptor's own position (preadv2(2)), so that two host calls do for what there are eight for.
    let offset = offset.unwrap_or(-1);
    loop {
        let moved = match direction {
            // SAFETY: the vectors cover guest memory, whose tables the caller keeps locked; a bad page is an EFAULT.
            Direction::FromHost => unsafe { libc::preadv2(fd, vectors, count, offset, 0) },
            // SAFETY: as above.
            Direction::ToHost => unsafe { libc::pwritev2(fd, vectors, count, offset, 0) },
        };
        match usize::try_from(moved).map_err(|_| host_error()) {
            // No signal interrupts a file's transfer (signal(7)), but a kick may where the file system is a network's or FUSE.
            Err(MemoryError::Io(libc::EINTR)) if offset >= 0 => {}
            moved => return moved,
        }
    }
}
