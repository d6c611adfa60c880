//! The monitor's own accesses to user memory: a walk in software, then the recovering assembly of [`raw`].

use super::super::arena::usize_of;
use super::super::raw::{self, Stopped};
use super::super::tables::{block_part, index, load};
use super::super::{Entry, Frame, MemoryError};
use super::{Access, AddressSpace, State};
use crate::addr::{BLOCK_SIZE, PAGE_SIZE, USER_END, UserAddr, UserRange};

/// Why an access by the monitor to user memory stopped. Bytes before `address` were transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first address that could not be accessed.
    pub address: UserAddr,
    /// What was tried.
    pub access: Access,
    /// What stands in the way.
    pub kind: FaultKind,
}

/// What stands in the way of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The entry does not permit it: ask the memory map, which may resolve it.
    Entry,
    /// The host cannot supply the page (a truncated file, an I/O error): a bus error.
    Bus,
}

impl AddressSpace {
    /// Copies from user memory.
    pub fn read(&self, from: UserAddr, to: &mut [u8]) -> Result<(), Fault> {
        let (buffer, len) = (raw::buffer(to), to.len());
        let mut done = 0;
        self.with_ready(|| {
            let start = UserAddr(from.0.saturating_add(done as u64));
            self.walk(&self.look(), start, (len - done) as u64, Access::READ, |host, bytes| {
                // SAFETY: a piece of guest memory, and the part of `to` for it: pieces add up to its length.
                let result = unsafe { raw::copy(buffer.wrapping_add(done), host, bytes) };
                done += bytes;
                result
            })
        })
    }

    /// Copies to user memory.
    pub fn write(&self, to: UserAddr, from: &[u8]) -> Result<(), Fault> {
        let mut done = 0;
        self.with_ready(|| {
            let start = UserAddr(to.0.saturating_add(done as u64));
            self.walk(&self.look(), start, (from.len() - done) as u64, Access::WRITE, |host, bytes| {
                // SAFETY: a piece of guest memory, and the part of `from` for it: pieces add up to its length.
                let result = unsafe { raw::copy(host, from.as_ptr().wrapping_add(done), bytes) };
                done += bytes;
                result
            })
        })
    }

    /// Copies to user memory ignoring write protection (a debugger's and loader's store); sharing is broken first.
    /// A page that has no frame, or whose host file may not be written, is an EFAULT.
    pub fn poke(&self, to: UserAddr, from: &[u8]) -> Result<(), MemoryError> {
        let mut at = to;
        let mut left = from;
        while !left.is_empty() {
            let bytes = left.len().min(usize_of(PAGE_SIZE - at.0 % PAGE_SIZE));
            let (now, later) = left.split_at(bytes);
            self.memory.with_reclaim(|| self.poke_page(at, now))?;
            left = later;
            at = at.checked_add(bytes as u64).ok_or(MemoryError::Io(libc::EFAULT))?;
        }
        Ok(())
    }

    fn poke_page(&self, at: UserAddr, from: &[u8]) -> Result<(), MemoryError> {
        let bad = MemoryError::Io(libc::EFAULT);
        if at.0 >= USER_END {
            return Err(bad);
        }
        let mut state = self.edit();
        self.break_copy_at(&mut state, at.page())?;
        let entry = state.tables.leaf(&self.memory.arena, at);
        if !entry.is_leaf() {
            return Err(bad);
        }
        let host = self.host(entry, at);
        // SAFETY: guest memory inside one page, and a live buffer.
        unsafe { raw::copy(host, from.as_ptr(), from.len()) }.map_err(|_| bad)
    }

    /// Zeroes user memory.
    pub fn zero(&self, range: UserRange) -> Result<(), Fault> {
        let mut at = range.start;
        self.with_ready(|| {
            self.walk(&self.look(), at, range.end.0 - at.0, Access::WRITE, |host, bytes| {
                at.0 += bytes as u64;
                // SAFETY: a piece of guest memory.
                unsafe { raw::zero(host, bytes) }
            })
        })
    }

    /// Checks that the entries of all pages that `range` touches permit `access`.
    pub fn probe(&self, range: UserRange, access: Access) -> Result<(), Fault> {
        let mut at = range.start;
        self.with_ready(|| {
            self.walk(&self.look(), at, range.end.0 - at.0, access, |_, bytes| {
                at.0 += bytes as u64;
                Ok(())
            })
        })
    }

    /// Atomically loads an aligned 32-bit word.
    pub fn load_u32(&self, from: UserAddr) -> Result<u32, Fault> {
        self.word(from, Access::READ, |host| {
            // SAFETY: an aligned word of guest memory.
            unsafe { raw::load(host) }
        })
    }

    /// Atomically replaces an aligned 32-bit word if it holds `current`; returns what it held.
    pub fn compare_exchange_u32(&self, at: UserAddr, current: u32, new: u32) -> Result<u32, Fault> {
        self.word(at, Access::WRITE, |host| {
            // SAFETY: an aligned word of guest memory.
            unsafe { raw::compare_exchange(host, current, new) }
        })
    }

    fn word(
        &self,
        at: UserAddr,
        access: Access,
        operate: impl Fn(*mut u32) -> Result<u32, Stopped>,
    ) -> Result<u32, Fault> {
        assert!(at.0.is_multiple_of(4), "a word's alignment is checked by the caller, who knows the error for it");
        let mut value = 0;
        self.with_ready(|| {
            self.walk(&self.look(), at, 4, access, |host, _| {
                value = operate(host.cast())?;
                Ok(())
            })
        })?;
        Ok(value)
    }

    /// Calls back for each piece of user memory that is contiguous in the host. Stops at the first page that does not
    /// permit `access`, or where the callback was stopped.
    pub(super) fn walk(
        &self,
        state: &State,
        start: UserAddr,
        len: u64,
        access: Access,
        mut each: impl FnMut(*mut u8, usize) -> Result<(), Stopped>,
    ) -> Result<(), Fault> {
        let arena = &self.memory.arena;
        let fault = |address: u64, kind| Err(Fault { address: UserAddr(address), access, kind });
        let end = start.0.saturating_add(len).min(USER_END);
        let mut at = start.0;
        while at < end {
            let Some(directory) = state.tables.block(arena, UserAddr(at)) else { return fault(at, FaultKind::Entry) };
            let entry = load(directory);
            let part = block_part(UserAddr(at), UserAddr(end));
            if entry.is_table() {
                let table = arena.table(entry.frame());
                while at < part.end.0 {
                    let (first, piece) = run(table, at, part.end.0, access);
                    let Some(first) = first else { return blocked(fault, load(&table[index(UserAddr(at), 0)]), at) };
                    let host = self.host(first, UserAddr(at));
                    each(host, usize_of(piece)).or_else(|stop| fault(at + stop.done as u64, FaultKind::Bus))?;
                    at += piece;
                }
                continue;
            }
            if !permits(entry, access) {
                return blocked(fault, entry, at);
            }
            let host = self.host(entry, UserAddr(at));
            each(host, usize_of(part.len())).or_else(|stop| fault(at + stop.done as u64, FaultKind::Bus))?;
            at = part.end.0;
        }
        if at < start.0.saturating_add(len) || start.0.checked_add(len).is_none() && len > 0 {
            return fault(at.max(start.0), FaultKind::Entry);
        }
        Ok(())
    }

    /// The host address behind `at`, whose leaf is `entry`.
    fn host(&self, entry: Entry, at: UserAddr) -> *mut u8 {
        let within = if entry.is_large() { at.0 % BLOCK_SIZE } else { at.0 % PAGE_SIZE };
        self.memory.arena.host(entry.frame()).wrapping_add(usize_of(within))
    }
}

/// The error for an entry that does not permit an access.
fn blocked(fault: impl Fn(u64, FaultKind) -> Result<(), Fault>, entry: Entry, at: u64) -> Result<(), Fault> {
    fault(at, if entry.is_bus() { FaultKind::Bus } else { FaultKind::Entry })
}

/// The leaf at `at`, if it permits the access, and the bytes up to `end` that follow it without a gap in the host.
fn run(table: &super::super::arena::Table, at: u64, end: u64, access: Access) -> (Option<Entry>, u64) {
    let first = load(&table[index(UserAddr(at), 0)]);
    if !permits(first, access) {
        return (None, 0);
    }
    let mut next = (at / PAGE_SIZE + 1) * PAGE_SIZE;
    let mut frame = first.frame();
    while next < end {
        let entry = load(&table[index(UserAddr(next), 0)]);
        let following = Frame(frame.0 + 1);
        if !permits(entry, access) || entry.frame() != following {
            break;
        }
        frame = following;
        next += PAGE_SIZE;
    }
    (Some(first), next.min(end) - at)
}

fn permits(entry: Entry, access: Access) -> bool {
    entry.is_present()
        && entry.is_leaf()
        && (!access.contains(Access::WRITE) || entry.is_writable())
        && (!access.contains(Access::EXEC) || entry.access().contains(Access::EXEC))
}
