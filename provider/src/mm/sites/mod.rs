//! Hot call sites: places in a program's code from which many system calls are made, rewritten so that they are made
//! without the SYSCALL instruction ([`Sites`]).
//!
//! A SYSCALL leaves user mode, or costs nearly as much as if it did. So once a site has made a number of calls, five of its
//! bytes become a jump to a trampoline that makes the call by the fast path ([`guest::layout::FAST_ENTRY`]), which
//! answers it in the guest, posts it, or traps as SYSCALL does. [`shape`] says which sites can be rewritten,
//! [`trampoline`] what is run in their place, [`area`] where that lies, [`heat`] which are hot, [`table`] what was done.
//!
//! # What a program can see of it
//! Nothing but the bytes, where its own instructions load them as data. Files never change: a page of code is copied
//! before it is patched ([`exchange_code`](vmm::memory::AddressSpace::exchange_code)). Others read the original: /proc/PID/mem, process_vm_readv(2),
//! ptrace(2), core dumps. A program that computes a checksum of its code with loads would need `--no-patch`; there is no
//! way to show a page to fetches and hide it from loads, short of execute-only memory by protection keys.
//!
//! - **Registers**: whenever the provider looks at a thread, an instruction pointer in a trampoline is replaced by the
//!   place of the program's own code that it stands for ([`MemoryMap::show_place`]); so are those in signal frames, for
//!   tracers, in cores and stack walks. A thread that goes on from there makes its call by its own code. One that comes back
//!   to the second instruction of a window is led into the trampoline ([`MemoryMap::way_on`]), or meets a breakpoint there.
//! - **Changes of the code**: before a page may be written by anybody (mprotect, a debugger's store, /proc/PID/mem), and
//!   before it moves, its own bytes are back; and the site is left alone from then on. Only mappings that are private,
//!   executable and not writable are patched.
//! - **Mappings**: trampolines lie in areas that the map does not know of, so no call shows or counts them. What is mapped
//!   over an area takes its place: its sites get their code back first.
//! - **Tracing**: where a tracer looks on, nothing is patched, and what was is undone.
//!
//! # What it costs and gains
//! A patch costs 30 µs on kvm-pvm: a copy of the page, and making every virtual CPU forget the old one. A call gains the
//! 5.4 µs that SYSCALL alone takes there, and whatever the fast path saves beyond. All numbers of things are limited:
//! counters, trampolines, areas; a program with millions of sites gets some of them patched.
//!
//! The table's lock has rank [`Rank::Sites`](crate::sync::Rank): taken alone, or under the map's.

mod area;
mod heat;
mod shape;
mod table;
#[cfg(test)]
mod tests;
mod trampoline;

use super::vma::{Sharing, Vma, VmaFlags};
use super::{MemoryMap, State};
use crate::errno::Errno;
use crate::sync::{Rank, RwLock};
use area::Fit;
use heat::Heat;
use linux_raw_sys::general::__NR_rt_sigreturn;
use shape::{JUMP_LEN, LOOK_AHEAD, LOOK_BEHIND, SYSCALL, Shape};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use table::Table;
use trampoline::{Moved, Trampoline};
use vmm::addr::{PAGE_SIZE, USER_END, UserAddr, UserRange};
use vmm::memory::{Access, MemoryError, PageState};
use vmm::trap::Registers;

/// Bytes behind the break that are kept for the heap.
const HEAP_ROOM: u64 = 1 << 30;
/// How often a page that the store of compressed pages is about to take is asked for again.
const TRIES: u32 = 4;

/// An address space's call sites.
#[derive(Debug)]
pub(super) struct Sites {
    heat: Heat,
    /// Forked children share it until one side changes it.
    table: RwLock<Arc<Table>>,
    /// The lowest and the highest address that an area ever had, so that most instruction pointers are known to be in none.
    lowest: AtomicU64,
    highest: AtomicU64,
    /// Windows that have jumps.
    active: AtomicUsize,
    /// Counts changes of what the code is.
    version: AtomicU64,
    /// Nothing is patched any more.
    left_alone: AtomicBool,
}

impl Default for Sites {
    fn default() -> Self {
        Self {
            heat: Heat::default(),
            table: RwLock::new(Rank::Sites, Arc::default()),
            lowest: AtomicU64::new(u64::MAX),
            highest: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            version: AtomicU64::new(0),
            left_alone: AtomicBool::new(false),
        }
    }
}

impl Sites {
    /// Those of a forked child, which has the same code but for what is not copied (`left_out`).
    pub(super) fn fork(&self, left_out: impl Iterator<Item = UserRange>) -> Self {
        let copy = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Relaxed));
        let mut table = Arc::clone(&self.table.read());
        if table.active() > 0 {
            for range in left_out {
                Arc::make_mut(&mut table).deactivate(range);
            }
        }
        Self {
            heat: Heat::default(),
            active: AtomicUsize::new(table.active()),
            table: RwLock::new(Rank::Sites, table),
            lowest: copy(&self.lowest),
            highest: copy(&self.highest),
            version: AtomicU64::new(0),
            left_alone: AtomicBool::new(self.left_alone.load(Ordering::Relaxed)),
        }
    }

    fn may_be_trampoline(&self, address: u64) -> bool {
        self.lowest.load(Ordering::Relaxed) <= address && address < self.highest.load(Ordering::Relaxed)
    }

    fn is_far_from_areas(&self, range: UserRange) -> bool {
        range.end.0 <= self.lowest.load(Ordering::Relaxed) || range.start.0 >= self.highest.load(Ordering::Relaxed)
    }

    fn has_active(&self) -> bool {
        self.active.load(Ordering::SeqCst) > 0
    }

    fn has_active_in(&self, range: UserRange) -> bool {
        self.has_active() && self.table.read().active_in(range).next().is_some()
    }

    /// The code is about to change; the table's lock is held for writing. A thread may meet the new code before the table says so:
    /// it must not believe that there is none, and waits for the lock.
    fn changes(&self) {
        self.active.fetch_max(1, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// The code has changed, or not; the table's lock is held for writing.
    fn changed(&self, table: &Table) {
        self.active.store(table.active(), Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    fn note_area(&self, range: UserRange) {
        self.lowest.fetch_min(range.start.0, Ordering::Relaxed);
        self.highest.fetch_max(range.end.0, Ordering::Relaxed);
    }
}

/// What threads and calls ask.
impl MemoryMap {
    /// Counts a call that goes on at `return_address`, which may be any number; tells whether [`Self::patch_call`] should look
    /// at its site.
    pub(crate) fn note_call(&self, return_address: u64) -> bool {
        self.note_calls(return_address, 1)
    }

    /// As [`Self::note_call`], for a call that stands for many that nobody saw: they were answered in the guest.
    pub(crate) fn note_sample(&self, return_address: u64) -> bool {
        self.note_calls(return_address, heat::THRESHOLD)
    }

    fn note_calls(&self, return_address: u64, calls: u64) -> bool {
        // Those that come from a trampoline go on there.
        !self.sites.may_be_trampoline(return_address)
            && self.sites.heat.note(return_address, calls)
            && !self.sites.left_alone.load(Ordering::Relaxed)
    }

    /// Rewrites the site of the call `number` that goes on at `return_address`, if it can be; either way it is not hot any more.
    pub(crate) fn patch_call(&self, return_address: u64, number: u32) -> bool {
        // Keeps mappings as they are; what changes code has the lock for writing, or is about other code.
        let state = self.state.read();
        let mut table = self.sites.table.write();
        self.sites.changes();
        let patched = self.patch(&state, &mut table, return_address, number).is_some();
        self.sites.changed(&table);
        self.sites.heat.settle(return_address);
        patched
    }

    /// Changes with the code: a thread that goes on where it left user mode may do so if this has not changed since then.
    pub(crate) fn code_version(&self) -> u64 {
        self.sites.version.load(Ordering::SeqCst)
    }

    /// Replaces an instruction pointer in a trampoline by the place of the program's own that it stands for, also in RCX,
    /// where SYSCALL leaves one. Tells whether the thread was in a trampoline.
    pub(crate) fn show_place(&self, registers: &mut Registers) -> bool {
        let (rip, rcx) = (registers.rip, registers.rcx);
        if !self.sites.may_be_trampoline(rip) && !self.sites.may_be_trampoline(rcx) {
            return false;
        }
        let table = self.sites.table.read();
        let place = |at: u64| table.containing(at).map(|trampoline| trampoline.place_of(at));
        registers.rcx = place(rcx).unwrap_or(rcx);
        let inside = place(rip);
        registers.rip = inside.unwrap_or(rip);
        inside.is_some()
    }

    /// Where a thread goes on that is about to go on at `rip`.
    pub(crate) fn way_on(&self, rip: u64) -> u64 {
        if !self.sites.has_active() {
            return rip;
        }
        self.sites.table.read().stand_in_for(rip).unwrap_or(rip)
    }

    /// The place of the program's own at which a thread is that has run the breakpoint in front of `rip`, if that is a patch's.
    pub(crate) fn behind_breakpoint(&self, rip: u64) -> Option<u64> {
        if self.code_version() == 0 && !self.sites.has_active() {
            return None;
        }
        let mut now = [0];
        self.space.read(UserAddr(rip.wrapping_sub(1)), &mut now).ok()?;
        self.sites.table.read().behind_breakpoint(rip, now[0])
    }

    /// Copies from user memory as others see it: code as the program has it. Returns how many bytes, up to the first fault.
    pub(crate) fn read_as_others(&self, from: UserAddr, to: &mut [u8]) -> Result<usize, Errno> {
        let mapped = self.before_trampolines(from, to.len());
        if mapped == 0 && !to.is_empty() {
            return Err(Errno::EFAULT);
        }
        let got = self.read_partial(from, &mut to[..mapped])?;
        if self.sites.has_active() {
            self.sites.table.read().show_original(from, &mut to[..got]);
        }
        Ok(got)
    }

    /// How many of `len` bytes at `from` lie before the first trampoline.
    fn before_trampolines(&self, from: UserAddr, len: usize) -> usize {
        let Some(range) = UserRange::new(from, len as u64) else { return len };
        if self.sites.is_far_from_areas(range) {
            return len;
        }
        let first = self.sites.table.read().first_area_in(range);
        first
            .and_then(|area| usize::try_from(area.start.0.saturating_sub(from.0)).ok())
            .map_or(len, |room| room.min(len))
    }

    /// Gives all code its own bytes back, and patches nothing from now on: somebody looks at this process very closely.
    pub(crate) fn leave_code_alone(&self) {
        if !self.sites.left_alone.swap(true, Ordering::SeqCst) {
            let _state = self.state.read();
            self.restore_code(UserRange { start: UserAddr(0), end: UserAddr(USER_END) });
        }
    }
}

/// What changes of the map ask. The map's lock is held.
impl MemoryMap {
    /// The code in `range` gets its own bytes back: it may be written from now on, or moves.
    pub(super) fn restore_code(&self, range: UserRange) {
        if !self.sites.has_active_in(range) {
            return;
        }
        self.restore_in(&mut self.sites.table.write(), range);
    }

    /// Stores to what the program may execute and not write. What is stored replaces the program's own bytes, so it must not
    /// meet others; a site whose code was restored is not patched again.
    pub(super) fn poke_code(&self, at: UserAddr, bytes: &[u8]) -> Result<(), MemoryError> {
        // Nothing is patched while the lock is held.
        let mut table = self.sites.table.write();
        if let Some(range) = UserRange::new(at, bytes.len() as u64) {
            self.restore_in(&mut table, range);
        }
        self.space.poke(at, bytes)
    }

    fn restore_in(&self, table: &mut Arc<Table>, range: UserRange) {
        if table.active_in(range).next().is_some() {
            let gone = Arc::make_mut(table).deactivate(range);
            self.restore(&gone);
            self.sites.changed(table);
        }
    }

    /// The code in `range` is gone, or is again what its file has.
    pub(super) fn forget_code(&self, range: UserRange) {
        self.sites.heat.forget(range);
        if self.sites.has_active_in(range) {
            let mut table = self.sites.table.write();
            Arc::make_mut(&mut table).deactivate(range);
            self.sites.changed(&table);
        }
    }

    /// `range` is about to be mapped: no trampolines are there any more.
    pub(super) fn withdraw_trampolines(&self, range: UserRange) {
        if self.sites.is_far_from_areas(range) || self.sites.table.read().first_area_in(range).is_none() {
            return;
        }
        let mut table = self.sites.table.write();
        for area in Arc::make_mut(&mut table).remove_areas(range) {
            let gone = Arc::make_mut(&mut table).deactivate_through(area);
            self.restore(&gone);
            self.space.unmap(area);
        }
        self.sites.changed(&table);
    }

    /// Tells whether trampolines lie in a range: mapping it takes them away from whoever is in one.
    pub(crate) fn has_trampolines_in(&self, start: UserAddr, len: u64) -> bool {
        let Some(range) = UserRange::new(start, len) else { return false };
        !self.sites.is_far_from_areas(range) && self.sites.table.read().first_area_in(range).is_some()
    }

    /// Resolves a fault at an address that the map does not know: a page of trampolines was compressed, say.
    pub(super) fn resolve_in_trampolines(&self, address: UserAddr, access: Access) -> bool {
        if access.contains(Access::WRITE) || !self.sites.may_be_trampoline(address.0) {
            return false;
        }
        let here = UserRange { start: address, end: UserAddr(address.0 + 1) };
        self.sites.table.read().first_area_in(here).is_some()
            && self.space.make_ready(address.page()).is_ok()
            && !matches!(self.space.page_state(address.page()), PageState::Absent | PageState::Bus)
    }

    fn restore(&self, gone: &[Trampoline]) {
        for trampoline in gone {
            let Some(jump) = trampoline.jump() else { continue };
            let window = UserAddr(trampoline.window);
            let exchange = |_| self.space.exchange_code(window, &jump, &trampoline.original);
            if (0..TRIES).map(exchange).any(|result| matches!(result, Ok(true))) {
                continue;
            }
            // No frame is left for another copy, so the bytes change where they are, if they are still ours: a thread that
            // is about to run them just then is the lesser evil.
            let mut now = [0; JUMP_LEN];
            if self.space.read(window, &mut now).is_ok() && now == jump {
                let _ = self.space.poke(window, &trampoline.original);
            }
        }
    }

    /// Patches a site; `None` if that cannot be.
    fn patch(&self, state: &State, table: &mut Arc<Table>, return_address: u64, number: u32) -> Option<()> {
        // Unwinders know the way back from a signal handler by its bytes.
        if number == __NR_rt_sigreturn || self.sites.left_alone.load(Ordering::SeqCst) {
            return None;
        }
        // Its calls are counted on: threads that saw it hot at the same time, and forked children, who count anew, come here again.
        if table.goes_on_at(return_address) {
            return None;
        }
        let syscall = return_address.checked_sub(SYSCALL.len() as u64)?;
        let vma = state.tree.find(UserAddr(syscall)).filter(|vma| is_code(vma))?;
        let wanted = self.look(vma, syscall, number)?;
        let table = Arc::make_mut(table);
        let trampoline = match table.made_before(&wanted) {
            Some(at) => Trampoline { at, ..wanted },
            None => self.make_trampoline(state, table, wanted)?,
        };
        let patched =
            self.space.exchange_code(UserAddr(trampoline.window), &trampoline.original, &trampoline.jump()?).ok()?;
        patched.then(|| table.activate(trampoline.at))
    }

    /// Reads the code around a SYSCALL and says what would stand in for it, at an address yet to be chosen.
    fn look(&self, vma: &Vma, syscall: u64, number: u32) -> Option<Trampoline> {
        let around = UserRange {
            start: UserAddr(syscall.saturating_sub(LOOK_BEHIND as u64)),
            end: UserAddr(syscall + LOOK_AHEAD as u64),
        };
        let (base, code) = self.read_code(vma, around).or_else(|| {
            // Pages around it that were never touched need not be there.
            let page = UserAddr(syscall).page();
            self.read_code(vma, around.intersect(UserRange { start: page, end: UserAddr(page.0 + PAGE_SIZE) })?)
        })?;
        let at = usize::try_from(syscall - base).ok()?;
        let (start, moved) = match shape::recognize(&code, at, base, number)? {
            Shape::Before { len } => (at - len, Moved::Before(code[at - len..at].into())),
            Shape::After { len } => (at, Moved::After(code[at + SYSCALL.len()..][..len].into())),
        };
        let window = base + start as u64;
        let original = code[start..].first_chunk().copied()?;
        // It is changed at once, hence in one page.
        let one_page = UserAddr(window).page() == UserAddr(window + JUMP_LEN as u64 - 1).page();
        one_page.then_some(Trampoline { at: 0, window, original, moved })
    }

    fn read_code(&self, vma: &Vma, range: UserRange) -> Option<(u64, Vec<u8>)> {
        let range = range.intersect(vma.range)?;
        let mut code = vec![0; usize::try_from(range.len()).ok()?];
        self.space.read(range.start, &mut code).ok()?;
        Some((range.start.0, code))
    }

    /// Finds a place for a trampoline and writes it there.
    fn make_trampoline(&self, state: &State, table: &mut Table, wanted: Trampoline) -> Option<Trampoline> {
        if !table.has_room() {
            return None;
        }
        let fit = if matches!(wanted.moved, Moved::After(_)) { Fit::Breakpoint } else { Fit::Any };
        let (window, len) = (wanted.window, wanted.moved.code_len());
        let taken = table.areas().iter_mut().find_map(|area| area.take(window, len, fit));
        let at = match taken {
            Some(at) => at,
            None => {
                let range = area::choose(window, |range| state.stays_free(range))?;
                self.sites.note_area(range);
                table.add_area(range)?.take(window, len, fit)?
            }
        };
        let trampoline = Trampoline { at, ..wanted };
        let code = trampoline.code()?;
        let (start, end) = (UserAddr(at).page(), UserAddr(at + len as u64).page_up()?);
        self.space.map_anonymous(UserRange { start, end }, Access::READ | Access::EXEC, false).ok()?;
        self.space.poke(UserAddr(at), &code).ok()?;
        table.add(trampoline.clone());
        Some(trampoline)
    }
}

impl State {
    /// Tells whether a range is free and neither the heap is about to grow into it nor other trampolines lie there, which are
    /// in no mapping's way.
    fn stays_free(&self, range: UserRange) -> bool {
        let heap = UserRange { start: self.heap.start, end: UserAddr(self.heap.end.0.saturating_add(HEAP_ROOM)) };
        range.end.0 <= USER_END && self.tree.is_free(range) && !heap.overlaps(range)
    }
}

/// Tells whether code in a mapping may be patched: nobody stores to it, and it is this process's alone.
fn is_code(vma: &Vma) -> bool {
    let rights = Access::READ | Access::EXEC;
    vma.access == rights
        && vma.sharing == Sharing::Private
        && !vma.flags.intersects(VmaFlags::SPECIAL | VmaFlags::GROWSDOWN)
}
