//! Copies between the monitor and user memory: what calls read and write on a program's behalf.
//!
//! The addresses are allegations. A range that leaves the user half is refused whole, as Linux's `access_ok` does.

use super::MemoryMap;
use crate::errno::Errno;
use vmm::addr::{PAGE_SIZE, USER_END, UserAddr, UserRange};
use vmm::memory::{Fault, FaultKind};
use vmm::pico::io;

impl MemoryMap {
    /// Copies from user memory, resolving faults; `EFAULT` where the map does not permit it.
    pub fn read(&self, from: UserAddr, to: &mut [u8]) -> Result<(), Errno> {
        if self.read_partial(from, to)? == to.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies to user memory, resolving faults.
    pub fn write(&self, to: UserAddr, from: &[u8]) -> Result<(), Errno> {
        if self.write_partial(to, from)? == from.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies from user memory up to the first fault; returns how many bytes (`EFAULT` if none of some).
    pub fn read_partial(&self, from: UserAddr, to: &mut [u8]) -> Result<usize, Errno> {
        let range = checked_range(from, to.len())?;
        self.transfer(range, |at, done| self.space.read(at, &mut to[done..]))
    }

    /// Copies to user memory up to the first fault; returns how many bytes.
    pub fn write_partial(&self, to: UserAddr, from: &[u8]) -> Result<usize, Errno> {
        let range = checked_range(to, from.len())?;
        self.transfer(range, |at, done| self.space.write(at, &from[done..]))
    }

    /// Zeroes user memory, resolving faults.
    pub fn zero(&self, range: UserRange) -> Result<(), Errno> {
        let len = usize::try_from(range.len()).map_err(|_| Errno::EFAULT)?;
        let range = checked_range(range.start, len)?;
        let done = self.transfer(range, |at, _| self.space.zero(UserRange { start: at, end: range.end }))?;
        if done == len { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Reads a string up to its NUL, which is not returned; `None` if there is no NUL within `max` bytes.
    pub fn read_cstr(&self, from: UserAddr, max: usize) -> Result<Option<Vec<u8>>, Errno> {
        let mut string = Vec::new();
        let mut at = from;
        // Page by page: the string may end right before an unmapped page.
        let mut chunk = [0; 512];
        while string.len() < max {
            if at.0 >= USER_END {
                return Err(Errno::EFAULT);
            }
            let to_page_end = PAGE_SIZE - at.0 % PAGE_SIZE;
            let len = chunk.len().min(max - string.len()).min(usize::try_from(to_page_end).unwrap_or(chunk.len()));
            self.read(at, &mut chunk[..len])?;
            if let Some(end) = chunk[..len].iter().position(|byte| *byte == 0) {
                string.extend_from_slice(&chunk[..end]);
                return Ok(Some(string));
            }
            string.extend_from_slice(&chunk[..len]);
            at = UserAddr(at.0 + len as u64);
        }
        Ok(None)
    }

    /// Atomically loads an aligned 32-bit word.
    pub fn load_u32(&self, from: UserAddr) -> Result<u32, Errno> {
        self.word(from, || self.space.load_u32(from))
    }

    /// Atomically replaces an aligned 32-bit word if it holds `current`; returns what it held.
    pub fn compare_exchange_u32(&self, at: UserAddr, current: u32, new: u32) -> Result<u32, Errno> {
        self.word(at, || self.space.compare_exchange_u32(at, current, new))
    }

    fn word(&self, at: UserAddr, access: impl Fn() -> Result<u32, Fault>) -> Result<u32, Errno> {
        if !at.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        checked_range(at, 4)?;
        io::resolving(access, |fault| self.resolve(*fault).is_ok()).map_err(|_| Errno::EFAULT)
    }

    /// Runs `step(address, bytes done)` until all of `range` is done or a fault cannot be resolved; returns the bytes done.
    fn transfer(
        &self,
        range: UserRange,
        mut step: impl FnMut(UserAddr, usize) -> Result<(), Fault>,
    ) -> Result<usize, Errno> {
        let start = range.start.0;
        let step = |at: UserAddr| step(at, usize::try_from(at.0 - start).unwrap_or(usize::MAX));
        match io::transfer(range, step, |fault| self.resolve(*fault).is_ok()) {
            Ok(()) => partial(range.len()).or(Ok(0)),
            Err(fault) => partial(fault.address.0 - start),
        }
    }

    /// Asks the map about a fault of the monitor's own access; a bus error is beyond help.
    pub(crate) fn resolve(&self, fault: Fault) -> Result<(), Errno> {
        match fault.kind {
            FaultKind::Bus => Err(Errno::EFAULT),
            FaultKind::Entry => self.resolve_fault(fault.address, fault.access).map_err(|_| Errno::EFAULT),
        }
    }
}

/// The range of `len` bytes at `from`, if it lies in the user half (`access_ok`).
pub(crate) fn checked_range(from: UserAddr, len: usize) -> Result<UserRange, Errno> {
    let len = u64::try_from(len).map_err(|_| Errno::EFAULT)?;
    let range = UserRange::new(from, len).ok_or(Errno::EFAULT)?;
    // Zero bytes are fine anywhere below the end, as for Linux.
    if range.end.0 > USER_END { Err(Errno::EFAULT) } else { Ok(range) }
}

fn partial(done: u64) -> Result<usize, Errno> {
    match usize::try_from(done) {
        Ok(0) | Err(_) => Err(Errno::EFAULT),
        Ok(done) => Ok(done),
    }
}
