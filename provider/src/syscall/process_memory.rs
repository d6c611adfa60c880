//! Copies between the memories of two processes: process_vm_readv(2), process_vm_writev(2).

use crate::errno::Errno;
use crate::mm::{IOV_MAX, MemoryMap};
use crate::task::{CurrentTask, Pid};
use std::sync::Arc;
use vmm::addr::{USER_END, UserAddr};

/// Bytes that are copied at once.
const CHUNK: usize = 64 << 10;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    FromOther,
    ToOther,
}

/// A range that a program gave: its addresses are allegations.
type Piece = (u64, u64);

/// Reads an array of `struct iovec`.
fn read_pieces(mm: &MemoryMap, at: UserAddr, count: u64) -> Result<Vec<Piece>, Errno> {
    let count = usize::try_from(count).ok().filter(|count| *count <= IOV_MAX).ok_or(Errno::EINVAL)?;
    let mut bytes = vec![0; count * 16];
    mm.read(at, &mut bytes)?;
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    let pieces: Vec<Piece> = bytes.chunks(16).map(|entry| (word(&entry[..8]), word(&entry[8..]))).collect();
    if pieces.iter().any(|(_, len)| i64::try_from(*len).is_err()) { Err(Errno::EINVAL) } else { Ok(pieces) }
}

pub(super) fn process_vm_readv(
    task: &CurrentTask<'_>,
    pid: Pid,
    local: UserAddr,
    local_count: u64,
    remote: UserAddr,
    remote_count: u64,
    flags: u64,
) -> Result<usize, Errno> {
    transfer(task, pid, (local, local_count), (remote, remote_count), flags, Direction::FromOther)
}

pub(super) fn process_vm_writev(
    task: &CurrentTask<'_>,
    pid: Pid,
    local: UserAddr,
    local_count: u64,
    remote: UserAddr,
    remote_count: u64,
    flags: u64,
) -> Result<usize, Errno> {
    transfer(task, pid, (local, local_count), (remote, remote_count), flags, Direction::ToOther)
}

fn transfer(
    task: &CurrentTask<'_>,
    pid: Pid,
    local: (UserAddr, u64),
    remote: (UserAddr, u64),
    flags: u64,
    direction: Direction,
) -> Result<usize, Errno> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let own = task.mm();
    let local = read_pieces(&own, local.0, local.1)?;
    if local.iter().any(|(start, len)| start.checked_add(*len).is_none_or(|end| end > USER_END)) {
        return Err(Errno::EFAULT);
    }
    if local.iter().all(|(_, len)| *len == 0) {
        return Ok(0);
    }
    let remote = read_pieces(&own, remote.0, remote.1)?;
    if remote.iter().all(|(_, len)| *len == 0) {
        return Ok(0);
    }
    let target = task.kernel().tasks().get(pid).ok_or(Errno::ESRCH)?;
    task.may_attach(&target)?;
    let other = target.mm().ok_or(Errno::ESRCH)?;
    copy(&own, local, &other, remote, direction)
}

/// Copies until one side is used up or a page stands in the way; an error only if nothing was copied.
fn copy(
    own: &Arc<MemoryMap>,
    local: Vec<Piece>,
    other: &Arc<MemoryMap>,
    remote: Vec<Piece>,
    direction: Direction,
) -> Result<usize, Errno> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    let (mut local, mut remote) = (local.into_iter(), remote.into_iter());
    let (mut ours, mut theirs) = ((0, 0), (0, 0));
    loop {
        while ours.1 == 0 {
            let Some(next) = local.next() else { return Ok(done) };
            ours = next;
        }
        while theirs.1 == 0 {
            let Some(next) = remote.next() else { return Ok(done) };
            theirs = next;
        }
        let len = usize::try_from(ours.1.min(theirs.1)).unwrap_or(CHUNK).min(CHUNK);
        let bytes = &mut buffer[..len];
        let (at, there) = (UserAddr(ours.0), UserAddr(theirs.0));
        let moved = match direction {
            Direction::FromOther => {
                other.read_as_others(there, bytes).and_then(|got| own.write_partial(at, &bytes[..got]))
            }
            Direction::ToOther => own.read_partial(at, bytes).and_then(|got| other.write_partial(there, &bytes[..got])),
        };
        match moved {
            Ok(moved) => {
                done += moved;
                if moved < len {
                    return Ok(done);
                }
                let moved = u64::try_from(moved).unwrap_or(u64::MAX);
                ours = (ours.0.wrapping_add(moved), ours.1 - moved);
                theirs = (theirs.0.wrapping_add(moved), theirs.1 - moved);
            }
            Err(_) if done > 0 => return Ok(done),
            Err(error) => return Err(error),
        }
    }
}
