//! Faults: what the map says about an access that the entries did not permit, and how frames are assigned.

use super::vma::{STACK_GUARD, Vma, VmaFlags};
use super::{Backing, MemoryMap, Sharing, Source, State};
use linux_raw_sys::general::{BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL, SIGBUS, SIGKILL, SIGSEGV};
use vmm::addr::{BLOCK_SIZE, PAGE_SIZE, USER_END, UserAddr, UserRange};
use vmm::memory::{Access, MemoryError, PageState};

/// Mappings of at most this many bytes get their frames when they are made, not at faults.
pub const EAGER_LIMIT: u64 = 64 << 20;
/// The longest run of frames assigned at one fault.
const LONGEST_RUN: u64 = 64 << 20;
/// The run assigned at a fault when memory is short, and the least by which a stack grows.
const SHORT_RUN: u64 = 64 << 10;

/// How a fault that cannot be resolved is reported to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSignal {
    /// SIGSEGV, SIGBUS, or SIGKILL when the sandbox is out of memory.
    pub signal: i32,
    /// si_code: SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR, SI_KERNEL.
    pub code: i32,
    /// si_addr.
    pub address: UserAddr,
}

impl FaultSignal {
    #[expect(clippy::cast_possible_wrap, reason = "signal numbers and codes are small")]
    fn new(signal: u32, code: u32, address: UserAddr) -> Self {
        Self { signal: signal as i32, code: code as i32, address }
    }

    fn unmapped(address: UserAddr) -> Self {
        Self::new(SIGSEGV, SEGV_MAPERR, address)
    }

    fn forbidden(address: UserAddr) -> Self {
        Self::new(SIGSEGV, SEGV_ACCERR, address)
    }

    fn bus(address: UserAddr) -> Self {
        Self::new(SIGBUS, BUS_ADRERR, address)
    }

    fn out_of_memory(address: UserAddr) -> Self {
        Self::new(SIGKILL, SI_KERNEL, address)
    }

    /// Tells whether the access was right, and the sandbox has no memory left for it.
    pub fn is_out_of_memory(self) -> bool {
        u32::try_from(self.signal) == Ok(SIGKILL)
    }
}

/// The last run assigned at a fault: the next fault right behind it gets twice as much.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastRun {
    end: u64,
    len: u64,
}

/// Tells whether `granted` permits `wanted`: the processor cannot forbid reading what may be written or executed.
pub(super) fn permits(granted: Access, wanted: Access) -> bool {
    let readable = if granted.is_empty() { granted } else { granted | Access::READ };
    readable.contains(wanted)
}

impl MemoryMap {
    /// Resolves a fault by the program or by a call made for it: assigns frames, breaks sharing, grows the stack.
    ///
    /// The map alone judges: an access it permits succeeds when it is repeated, whatever the processor's error code said.
    pub fn resolve_fault(&self, address: UserAddr, access: Access) -> Result<(), FaultSignal> {
        if address.0 >= USER_END {
            return Err(FaultSignal::unmapped(address));
        }
        {
            let state = self.state.read();
            if let Some(vma) = state.tree.find(address) {
                return self.resolve_in(vma, address, access);
            }
            if self.resolve_in_trampolines(address, access) {
                return Ok(());
            }
            let grows = state.tree.find_from(address).is_some_and(|vma| vma.flags.contains(VmaFlags::GROWSDOWN));
            if !grows {
                return Err(FaultSignal::unmapped(address));
            }
        }
        let mut state = self.state.write();
        if state.tree.find(address).is_none() {
            self.grow_stack(&mut state, address).ok_or(FaultSignal::unmapped(address))?;
        }
        let vma = state.tree.find(address).ok_or(FaultSignal::unmapped(address))?;
        self.resolve_in(vma, address, access)
    }

    fn resolve_in(&self, vma: &Vma, address: UserAddr, access: Access) -> Result<(), FaultSignal> {
        if !permits(vma.access, access) {
            return Err(FaultSignal::forbidden(address));
        }
        let page = address.page();
        match self.space.page_state(page) {
            PageState::Absent => self.populate(vma, address),
            PageState::CopyOnWrite(_) if access.contains(Access::WRITE) => {
                self.space.break_copy(page).map_err(|error| memory_failure(error, address))
            }
            // Somebody else resolved it meanwhile, or the processor used a translation from before an upgrade; or the host has
            // put the page aside and had no memory to bring it back.
            PageState::Mapped(granted) | PageState::CopyOnWrite(granted) if permits(granted, access) => {
                self.space.make_ready(page).map(drop).map_err(|error| memory_failure(error, address))
            }
            PageState::Mapped(_) | PageState::CopyOnWrite(_) => {
                self.space.protect(one_page(page), vma.access);
                Ok(())
            }
            PageState::Bus => Err(FaultSignal::bus(address)),
        }
    }

    /// Assigns frames around a fault in `vma`.
    fn populate(&self, vma: &Vma, address: UserAddr) -> Result<(), FaultSignal> {
        if let Backing::Source { source: Source::Object(object), .. } = &vma.backing
            && vma.offset_at(address.page()) >= object.size()
        {
            return Err(FaultSignal::bus(address));
        }
        let run = self.next_run(vma, address.page());
        if self.assign(vma, run).is_err() {
            // Not the whole run: one page is all that the program has asked for.
            self.assign(vma, one_page(address.page())).map_err(|error| memory_failure(error, address))?;
        }
        match (&vma.backing, self.space.page_state(address.page())) {
            // Nothing was assigned because the file ends before this page.
            (Backing::Source { .. }, PageState::Absent) | (_, PageState::Bus) => Err(FaultSignal::bus(address)),
            _ => Ok(()),
        }
    }

    /// Chooses how much to assign at a fault at `page`: blocks of 2 MiB, doubling while faults come in sequence, short under
    /// memory pressure.
    fn next_run(&self, vma: &Vma, page: UserAddr) -> UserRange {
        let (align, len) = if self.is_memory_short() {
            (SHORT_RUN, SHORT_RUN)
        } else {
            let last = *self.last_run.lock();
            let in_sequence = last.len != 0 && last.end == page.0;
            (BLOCK_SIZE, if in_sequence { (last.len * 2).min(LONGEST_RUN) } else { BLOCK_SIZE })
        };
        let start = page.0 & !(align - 1);
        let run = UserRange { start: UserAddr(start), end: UserAddr(start + len) };
        let run = run.intersect(vma.range).unwrap_or(one_page(page));
        *self.last_run.lock() = LastRun { end: run.end.0, len };
        run
    }

    /// Tells whether what is handed out comes near the limit.
    pub(super) fn is_memory_short(&self) -> bool {
        let limit = self.memory.limit();
        self.memory.held() > limit - limit / 8
    }

    /// Assigns frames to the absent pages of `range`, which lies in `vma`.
    pub(super) fn assign(&self, vma: &Vma, range: UserRange) -> Result<(), MemoryError> {
        let private = vma.sharing == Sharing::Private;
        match &vma.backing {
            Backing::Anonymous => {
                self.space.map_anonymous(range, vma.access, !vma.flags.contains(VmaFlags::NOHUGEPAGE))
            }
            Backing::Source { source: Source::Object(object), .. } => {
                self.space.map_object(range, object, vma.offset_at(range.start), vma.access, private)
            }
            Backing::Source { source: Source::Host(file), .. } => {
                self.space.map_file(range, file, vma.offset_at(range.start), vma.access, private)
            }
        }
    }

    /// Assigns frames to `range` of `vma` now if the mapping is small and may be accessed; otherwise faults will.
    ///
    /// Being short of memory is no error here: a fault assigns less, and kills if even that fails.
    pub(super) fn assign_eagerly(&self, vma: &Vma, range: UserRange) -> Result<(), MemoryError> {
        if vma.access.is_empty() || vma.range.len() > EAGER_LIMIT || self.is_memory_short() {
            return Ok(());
        }
        match self.assign(vma, range) {
            Err(MemoryError::LimitReached) => Ok(()),
            // The file cannot be read: the program learns it when it touches the page.
            Err(MemoryError::Io(_)) => Ok(()),
            other => other,
        }
    }

    /// Extends the growing mapping above `address` down to it, if the stack limit, the guard and RLIMIT_AS allow
    /// (`expand_stack`). It grows by at least 64 KiB where there is room, so that deep recursion does not trap at each page.
    pub(super) fn grow_stack(&self, state: &mut State, address: UserAddr) -> Option<()> {
        let vma = state.tree.find_from(address).filter(|vma| vma.flags.contains(VmaFlags::GROWSDOWN))?.clone();
        let start = vma.range.start;
        let stack_limit = self.limits.stack();
        let floor_by_limit = vma.range.end.0.saturating_sub(stack_limit);
        let floor_by_neighbour = match state.tree.find_before(start) {
            // Two growing mappings, or one that nobody can touch, need no guard between them.
            Some(before) if before.flags.contains(VmaFlags::GROWSDOWN) || before.access.is_empty() => {
                before.range.end.0
            }
            Some(before) => before.range.end.0.saturating_add(STACK_GUARD),
            None => super::MMAP_MIN_ADDR,
        };
        let headroom = self.limits.address_space().saturating_sub(state.tree.totals().mapped);
        let floor = floor_by_limit.max(floor_by_neighbour).max(start.0.saturating_sub(headroom));
        let floor = floor.checked_next_multiple_of(PAGE_SIZE)?;
        let wanted = address.page().0;
        if wanted < floor {
            return None;
        }
        if vma.flags.contains(VmaFlags::LOCKED) && self.check_locked(state, start.0 - wanted, false).is_err() {
            return None;
        }
        let to = UserAddr(start.0.saturating_sub(SHORT_RUN).min(wanted).max(floor));
        self.withdraw_trampolines(UserRange { start: to, end: start });
        state.tree.grow_down(start, to);
        let grown = state.tree.find(to)?;
        // An error means that memory is short: the fault that brought us here assigns its one page or reports it.
        let _ = self.assign_eagerly(grown, UserRange { start: to, end: start });
        Some(())
    }
}

fn one_page(page: UserAddr) -> UserRange {
    UserRange { start: page, end: UserAddr(page.0 + PAGE_SIZE) }
}

fn memory_failure(error: MemoryError, address: UserAddr) -> FaultSignal {
    match error {
        MemoryError::Io(_) => FaultSignal::bus(address),
        MemoryError::LimitReached | MemoryError::HostExhausted => FaultSignal::out_of_memory(address),
    }
}
