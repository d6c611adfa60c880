//! The host's own accesses to a process's memory: probed, with faults taken to whoever can resolve them (NT:
//! `MmProbeAndLockPages` on a pico process).
//!
//! An access that the entries permit costs nothing here. While one is under way the address space is locked, so no page is
//! taken away under it. Where it stops, the provider is asked, and the access is tried again.

use super::process::Process;
use crate::addr::{UserAddr, UserRange};
use crate::memory::{Access, AddressSpace, Fault};

/// Tries at one address in a row: more than one only if another thread keeps taking the page away.
const MOST_TRIES: u32 = 16;

/// Tries an access until it succeeds, `resolve` gives a fault up, or it gets nowhere.
pub fn resolving<T>(
    mut access: impl FnMut() -> Result<T, Fault>,
    mut resolve: impl FnMut(&Fault) -> bool,
) -> Result<T, Fault> {
    let mut reached = UserAddr(0);
    let mut tries = 0;
    loop {
        let fault = match access() {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        tries = if fault.address > reached { 1 } else { tries + 1 };
        reached = reached.max(fault.address);
        if tries > MOST_TRIES || !resolve(&fault) {
            return Err(fault);
        }
    }
}

/// Runs `step(address)`, which transfers from there to the end of `range`, on from each fault that is resolved. The bytes
/// before the fault that it returns were transferred.
pub fn transfer(
    range: UserRange,
    mut step: impl FnMut(UserAddr) -> Result<(), Fault>,
    resolve: impl FnMut(&Fault) -> bool,
) -> Result<(), Fault> {
    let mut at = range.start;
    let access = || {
        if at >= range.end {
            return Ok(());
        }
        step(at).map_err(|fault| {
            at = fault.address.max(at).min(range.end);
            Fault { address: at, ..fault }
        })
    };
    resolving(access, resolve)
}

impl Process {
    /// Lets the host access the process's memory: `access` is tried on its address space, and a fault is taken to the
    /// provider ([`dispatch_io_fault`](super::Provider::dispatch_io_fault)). A minimal process's faults are final.
    ///
    /// # Errors
    /// The fault that was not handled, with its address.
    pub fn with_user_memory<T>(&self, mut access: impl FnMut(&AddressSpace) -> Result<T, Fault>) -> Result<T, Fault> {
        let space = self.space();
        resolving(|| access(&space), |fault| self.dispatch_io_fault(fault))
    }

    /// Makes all pages that `range` touches permit `access`, now: a later access may find that another thread of the
    /// process has taken them away.
    pub fn probe_memory(&self, range: UserRange, access: Access) -> Result<(), Fault> {
        self.with_user_memory(|space| space.probe(range, access))
    }

    /// Copies from the process's memory. The bytes before the fault's address were copied.
    pub fn read_memory(&self, from: UserAddr, to: &mut [u8]) -> Result<(), Fault> {
        let (space, range) = (self.space(), reach(from, to.len()));
        let step = |at: UserAddr| space.read(at, &mut to[offset(from, at)..]);
        transfer(range, step, |fault| self.dispatch_io_fault(fault))
    }

    /// Copies to the process's memory, as the program itself could. The bytes before the fault's address were copied.
    pub fn write_memory(&self, to: UserAddr, from: &[u8]) -> Result<(), Fault> {
        let (space, range) = (self.space(), reach(to, from.len()));
        let step = |at: UserAddr| space.write(at, &from[offset(to, at)..]);
        transfer(range, step, |fault| self.dispatch_io_fault(fault))
    }

    fn dispatch_io_fault(&self, fault: &Fault) -> bool {
        match (self.context(), self.provider()) {
            (Some(context), Some(provider)) => provider.dispatch_io_fault(context, fault),
            _ => false,
        }
    }
}

/// The range of `len` bytes at `start`; a fault ends the part that is no user memory.
fn reach(start: UserAddr, len: usize) -> UserRange {
    UserRange { start, end: UserAddr(start.0.saturating_add(len as u64)) }
}

fn offset(start: UserAddr, at: UserAddr) -> usize {
    usize::try_from(at.0 - start.0).expect("it is at most the length of a slice")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::FaultKind;

    fn fault(address: u64) -> Fault {
        Fault { address: UserAddr(address), access: Access::READ, kind: FaultKind::Entry }
    }

    #[test]
    fn an_access_is_tried_again_as_long_as_it_gets_on() {
        let mut left = 1000;
        let mut asked = 0;
        let access = || {
            left -= 1;
            if left == 0 { Ok(7) } else { Err(fault(5000 - left)) }
        };
        let resolve = |_: &Fault| {
            asked += 1;
            true
        };
        assert_eq!(resolving(access, resolve), Ok(7));
        assert_eq!(asked, 999);
    }

    #[test]
    fn an_access_that_gets_nowhere_is_given_up() {
        let mut asked = 0;
        let resolve = |_: &Fault| {
            asked += 1;
            true
        };
        assert_eq!(resolving(|| Err::<(), _>(fault(7)), resolve), Err(fault(7)));
        assert_eq!(asked, MOST_TRIES);
        assert_eq!(resolving(|| Err::<(), _>(fault(7)), |_| false), Err(fault(7)));
    }

    #[test]
    fn a_transfer_goes_on_behind_each_fault_and_tells_how_far_it_came() {
        let range = UserRange { start: UserAddr(100), end: UserAddr(400) };
        let mut steps = Vec::new();
        let step = |at: UserAddr| {
            steps.push(at.0);
            let next = (at.0 / 100 + 1) * 100;
            if next >= 400 { Ok(()) } else { Err(fault(next)) }
        };
        assert_eq!(transfer(range, step, |_| true), Ok(()));
        assert_eq!(steps, [100, 200, 300]);
        let stops_at_300 = |at: UserAddr| Err(fault(at.0.max(300)));
        assert_eq!(transfer(range, stops_at_300, |fault| fault.address.0 < 300), Err(fault(300)));
        let empty = UserRange { start: UserAddr(1), end: UserAddr(1) };
        assert_eq!(transfer(empty, |_| Err(fault(1)), |_| false), Ok(()));
    }
}
