//! The supervisor pages: trap code, descriptor tables, and each virtual CPU's task-state segment and interrupt stacks.
//!
//! They live in memory of their own below [`SUPERVISOR`]'s end, so that nothing a program does to its memory reaches
//! them, and are mapped in top-level slot 511 at the addresses of [`guest::layout`]. A virtual CPU has its own three
//! tables and its own stacks under that slot; the rest is one set. Pages are never given back: virtual CPUs are parked.
//!
//! The shared pages are constant: once they are filled in, the monitor itself has them read-only and sealed, and the
//! guest has them read-only, which ring 0 keeps to as well (CR0.WP). So nothing that the processor writes by itself may
//! lie in them: accessed and busy bits are set from the start. The task-state segments can be shared because what
//! differs between virtual CPUs, the stacks they name, is at the same address for all; there is one for each flavour, so
//! that neither has to be changed when the probe knows.

use super::vm::Vm;
use crate::addr::{GuestPhys, PAGE_SIZE};
use crate::machine::SUPERVISOR;
use crate::memory::{MemoryError, Waiters};
use crate::pico::ProtectedRange;
use crate::protect::{Corruption, Sealing, make_read_only};
use guest::layout;
use linux_loader::loader::{Elf, KernelLoader};
use std::io::Cursor;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Page-table entry bits.
mod entry {
    pub(super) const PRESENT: u64 = 1;
    pub(super) const WRITABLE: u64 = 2;
    pub(super) const USER: u64 = 4;
    pub(super) const ACCESSED: u64 = 32;
    pub(super) const DIRTY: u64 = 64;
    pub(super) const NO_EXECUTE: u64 = 1 << 63;
    /// An entry that points to a table.
    pub(super) const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED;
    pub(super) const CODE: u64 = PRESENT | ACCESSED | DIRTY;
    pub(super) const READ_ONLY: u64 = CODE | NO_EXECUTE;
    pub(super) const DATA: u64 = READ_ONLY | WRITABLE;
}

/// A page of the monitor's memory that the virtual machine sees too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) guest: GuestPhys,
    host: NonNull<u8>,
}

// SAFETY: the page stays mapped as long as the machine and is accessed by volatile words only.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// Stores a word at `offset`, which must be aligned and inside the page.
    pub(super) fn store(self, offset: u64, value: u64) {
        let word = self.word(offset);
        // SAFETY: `word` checked that the aligned word lies in the page, which is mapped.
        unsafe { word.write_volatile(value) };
    }

    /// Loads the word at `offset`.
    pub(super) fn load(self, offset: u64) -> u64 {
        let word = self.word(offset);
        // SAFETY: `word` checked that the aligned word lies in the page, which is mapped.
        unsafe { word.read_volatile() }
    }

    /// Stores a word at `offset` behind everything that was written before, for whoever [`observes`](Self::observe) it.
    pub(super) fn publish(self, offset: u64, value: u64) {
        self.shared(offset).store(value, Ordering::Release);
    }

    /// Loads the word at `offset`, and with it what was written before it was [published](Self::publish).
    pub(super) fn observe(self, offset: u64) -> u64 {
        self.shared(offset).load(Ordering::Acquire)
    }

    fn shared(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: `word` checked that the aligned word lies in the page, which is never unmapped; both the guest and the
        // monitor access it by single moves.
        unsafe { AtomicU64::from_ptr(self.word(offset)) }
    }

    /// The page as counts that the guest reads.
    fn counts(self) -> &'static [AtomicU32; layout::WAITERS] {
        // SAFETY: so many counts are a page, which is aligned and never unmapped, and of which nobody has or makes another view.
        unsafe { self.host.cast().as_ref() }
    }

    /// The page as a range of the monitor's memory.
    fn range(self, name: String) -> ProtectedRange {
        let bytes = usize::try_from(PAGE_SIZE).expect("a page's size is a number of this machine's");
        // SAFETY: the arena's pages are never unmapped.
        unsafe { ProtectedRange::from_raw(name, self.host.addr().get(), bytes) }
    }

    fn word(self, offset: u64) -> *mut u64 {
        assert!(offset.is_multiple_of(8) && offset < PAGE_SIZE, "a word inside the page");
        let index = usize::try_from(offset / 8).expect("less than a page");
        // SAFETY: the offset was just checked to lie in the page.
        unsafe { self.host.cast::<u64>().as_ptr().add(index) }
    }
}

#[cfg(any(test, fuzzing))]
impl Page {
    /// Makes a page that no machine sees, for ever.
    pub(super) fn detached() -> Self {
        let bytes = usize::try_from(PAGE_SIZE).expect("a page's size is a number of this machine's");
        let words: &'static mut [u64] = Box::leak(vec![0; bytes / 8].into_boxed_slice());
        Self { guest: GuestPhys(0), host: NonNull::from(words).cast() }
    }
}

/// Memory of the supervisor pages, handed out page by page in slots that are added as needed.
#[derive(Debug, Default)]
struct Arena {
    /// The next page to hand out, and how many are left in its slot.
    next: Option<Page>,
    left: u64,
    /// Guest-physical bytes that have a slot.
    used: u64,
}

/// Pages of the first slot: the shared pages and half a dozen virtual CPUs. Later slots are larger.
const FIRST_SLOT: u64 = 48;
const NEXT_SLOT: u64 = 256;

impl Arena {
    fn page(&mut self, vm: &Vm) -> Result<Page, MemoryError> {
        if self.left == 0 {
            let pages = if self.used == 0 { FIRST_SLOT } else { NEXT_SLOT };
            let guest = GuestPhys(SUPERVISOR.start + self.used);
            let len = pages * PAGE_SIZE;
            if guest.0 + len > SUPERVISOR.end {
                return Err(MemoryError::HostExhausted);
            }
            let host = map_anonymous(len)?;
            // SAFETY: the mapping was just made for this purpose and is never unmapped.
            unsafe { vm.add_own_slot(guest, host, len)? };
            (self.next, self.left, self.used) = (Some(Page { guest, host }), pages, self.used + len);
        }
        let page = self.next.ok_or(MemoryError::HostExhausted)?;
        self.left -= 1;
        let step = usize::try_from(PAGE_SIZE).map_err(|_| MemoryError::HostExhausted)?;
        // SAFETY: the page behind this one is in the slot, or the slot's end, which is never dereferenced.
        let host = unsafe { page.host.add(step) };
        self.next = Some(Page { guest: GuestPhys(page.guest.0 + PAGE_SIZE), host });
        Ok(page)
    }
}

/// Maps zeroed private memory of the monitor.
pub(super) fn map_anonymous(len: u64) -> Result<NonNull<u8>, MemoryError> {
    let len = usize::try_from(len).map_err(|_| MemoryError::HostExhausted)?;
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags | libc::MAP_NORESERVE, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(MemoryError::HostExhausted);
    }
    NonNull::new(address.cast()).ok_or(MemoryError::HostExhausted)
}

/// The supervisor pages of a machine.
#[derive(Debug)]
pub(super) struct Supervisor {
    arena: Mutex<Arena>,
    shared: Shared,
    /// The one page that all virtual CPUs share and that changes ([`layout::WAITERS_PAGE`]).
    waiters: Page,
    sealing: Sealing,
    /// The pages of all virtual CPUs, for checks.
    cpus: Mutex<Vec<CpuPages>>,
}

/// The pages that all virtual CPUs share, which lie behind one another in this order.
#[derive(Clone, Copy, Debug)]
struct Shared {
    /// The image's pages: system call, traps, probe, fast path.
    image: [Page; 4],
    idt: Page,
    gdt: Page,
    /// Task-state segments: without open ports, and with the one that ring 3 needs ([`SyscallRing::User`]).
    tss: [Page; 2],
}

/// How many pages are [`Shared`].
const SHARED_PAGES: usize = 8;

impl Shared {
    /// Takes the pages from an arena that has handed out nothing yet, and fills them in.
    fn new(arena: &mut Arena, vm: &Vm) -> Result<Self, MemoryError> {
        let mut page = || arena.page(vm);
        let image = [page()?, page()?, page()?, page()?];
        let (idt, gdt, tss) = (page()?, page()?, [page()?, page()?]);
        load_image(image[0].host)?;
        fill_idt(idt);
        fill_gdt(gdt);
        fill_tss(tss[0], SyscallRing::Kernel);
        fill_tss(tss[1], SyscallRing::User);
        Ok(Self { image, idt, gdt, tss })
    }

    fn tss(&self, syscall: SyscallRing) -> Page {
        self.tss[usize::from(syscall == SyscallRing::User)]
    }

    /// What each page is, in order.
    fn named(&self) -> [(&'static str, Page); SHARED_PAGES] {
        let [calls, traps, probe, fast] = self.image;
        [
            ("the system-call entry", calls),
            ("the trap code", traps),
            ("the probe's code", probe),
            ("the fast path", fast),
            ("the interrupt descriptor table", self.idt),
            ("the global descriptor table", self.gdt),
            ("the task-state segment", self.tss[0]),
            ("the task-state segment with an open port", self.tss[1]),
        ]
    }
}

/// Where user mode finds the probe while it runs: below anything else that could be mapped.
pub(super) const PROBE_CODE: u64 = 0x10000;

impl Supervisor {
    /// Loads the trap image and builds the descriptor tables.
    pub(super) fn new(vm: &Vm, waiters: &Waiters) -> Result<Self, MemoryError> {
        let mut arena = Arena::default();
        let shared = Shared::new(&mut arena, vm)?;
        let bytes = SHARED_PAGES * usize::try_from(PAGE_SIZE).map_err(|_| MemoryError::HostExhausted)?;
        // SAFETY: the arena's first pages lie behind one another, are never unmapped, and are written to by nobody now
        // that they are filled in.
        let sealing = unsafe { make_read_only(shared.image[0].host, bytes) };
        let sealing = sealing.map_err(|_| MemoryError::HostExhausted)?;
        let counted = arena.page(vm)?;
        waiters.show(counted.counts());
        Ok(Self { arena: Mutex::new(arena), shared, waiters: counted, sealing, cpus: Mutex::default() })
    }

    /// Makes the pages of one virtual CPU whose SYSCALL arrives in this ring.
    pub(super) fn cpu_pages(&self, vm: &Vm, syscall: SyscallRing) -> Result<CpuPages, MemoryError> {
        let pages = {
            let mut arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
            let mut page = || arena.page(vm);
            let tables = [page()?, page()?, page()?];
            CpuPages { tables, stacks: page()?, answers: page()?, call: page()?, syscall }
        };
        pages.reset_answers();
        for (table, page) in pages.tables.iter().enumerate() {
            for (index, entry) in self.entries(&pages, table) {
                page.store(index * 8, entry);
            }
        }
        self.cpus.lock().unwrap_or_else(PoisonError::into_inner).push(pages);
        Ok(pages)
    }

    /// The entries that a virtual CPU's tables have, by index: 0 is the uppermost. All others are zero.
    fn entries(&self, pages: &CpuPages, table: usize) -> Vec<(u64, u64)> {
        let at = |address, page: Page, bits| (index(address, 0), page.guest.0 | bits);
        match table {
            0 | 1 => vec![(index(layout::IMAGE_BASE, 2 - table), pages.tables[table + 1].guest.0 | entry::TABLE)],
            _ => {
                vec![
                    at(layout::SYSCALL_PAGE, self.shared.image[0], entry::CODE),
                    at(layout::TRAP_PAGE, self.shared.image[1], entry::CODE),
                    at(layout::FAST_PAGE, self.shared.image[3], entry::CODE | entry::USER),
                    at(layout::IDT, self.shared.idt, entry::READ_ONLY),
                    at(layout::GDT, self.shared.gdt, entry::READ_ONLY),
                    at(layout::TSS, self.shared.tss(pages.syscall), entry::READ_ONLY),
                    at(layout::STACKS, pages.stacks, entry::DATA),
                    at(layout::ANSWERS_PAGE, pages.answers, entry::READ_ONLY | entry::USER),
                    at(layout::CALL_PAGE, pages.call, entry::DATA | entry::USER),
                    at(layout::WAITERS_PAGE, self.waiters, entry::READ_ONLY | entry::USER),
                ]
            }
        }
    }

    /// Makes a root for the probe: its user half holds the probe's code and nothing else.
    pub(super) fn probe_root(&self, vm: &Vm, pages: &CpuPages) -> Result<GuestPhys, MemoryError> {
        let mut arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = [arena.page(vm)?, arena.page(vm)?, arena.page(vm)?, arena.page(vm)?];
        for (level, pair) in tables.windows(2).enumerate() {
            pair[0].store(index(PROBE_CODE, 3 - level) * 8, pair[1].guest.0 | entry::TABLE);
        }
        let code = self.shared.image[2].guest.0 | entry::CODE | entry::USER;
        tables[3].store(index(PROBE_CODE, 0) * 8, code);
        tables[0].store(511 * 8, pages.top_entry());
        Ok(tables[0].guest)
    }

    /// How well the monitor's own view of the constant pages is protected.
    pub(super) fn sealing(&self) -> Sealing {
        self.sealing
    }

    /// The pages that are constant, as the monitor finds them.
    pub(super) fn protected_ranges(&self) -> Vec<ProtectedRange> {
        self.shared.named().map(|(name, page)| page.range(name.to_owned())).into()
    }

    /// The tables of all virtual CPUs, as the monitor finds them.
    pub(super) fn table_ranges(&self) -> Vec<ProtectedRange> {
        let cpus = self.cpus.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ranges = |(number, pages): (usize, &CpuPages)| {
            let range = |table: usize| pages.tables[table].range(table_name(number, table));
            [range(0), range(1), range(2)]
        };
        cpus.iter().enumerate().flat_map(ranges).collect()
    }

    /// How many calls were answered in the guest, as the programs count them.
    pub(super) fn answered(&self) -> u64 {
        let cpus = self.cpus.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = cpus.iter().map(|pages| pages.call.load(layout::call::ANSWERED));
        counts.fold(0, u64::saturating_add)
    }

    /// Tells whether the tables of all virtual CPUs are as they were made: what is read-only there is so still, and
    /// nothing else is mapped.
    pub(super) fn check_tables(&self) -> Result<(), Corruption> {
        let cpus = self.cpus.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (number, pages) in cpus.iter().enumerate() {
            for (table, page) in pages.tables.iter().enumerate() {
                let mut expected = [0; TABLE_ENTRIES];
                for (index, entry) in self.entries(pages, table) {
                    expected[usize::try_from(index).expect("an index of a table")] = entry;
                }
                let mut actual = [0; TABLE_ENTRIES];
                actual.iter_mut().zip((0..).step_by(8)).for_each(|(word, at)| *word = page.load(at));
                if actual != expected {
                    let name = table_name(number, table);
                    return Err(Corruption::of_words(name, page.host.addr().get(), &expected, &actual));
                }
            }
        }
        Ok(())
    }
}

/// What a table of a virtual CPU is called in reports.
fn table_name(cpu: usize, table: usize) -> String {
    format!("level {} of page table {cpu} of the supervisor half", 3 - table)
}

/// Entries in a table.
const TABLE_ENTRIES: usize = 512;

/// The supervisor pages of one virtual CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuPages {
    /// The tables under slot 511, uppermost first.
    tables: [Page; 3],
    pub(super) stacks: Page,
    /// How the running thread's calls are made ([`layout::ANSWERS_PAGE`]).
    pub(super) answers: Page,
    /// What the fast path works with ([`layout::CALL_PAGE`]).
    pub(super) call: Page,
    syscall: SyscallRing,
}

impl CpuPages {
    /// The top-level entry (slot 511) under which all supervisor pages of this virtual CPU lie.
    pub(super) fn top_entry(&self) -> u64 {
        self.tables[0].guest.0 | entry::TABLE
    }

    /// Has every call trap.
    pub(super) fn reset_answers(&self) {
        (0..layout::answers::ATTENDED).step_by(8).for_each(|word| self.answers.store(word, layout::CALL_TRAPS));
        self.answers.store(layout::answers::ATTENDED, 0);
        let trap = layout::FAST_TRAPS[usize::from(self.syscall == SyscallRing::Kernel)];
        self.answers.store(layout::answers::TRAP, trap);
    }

    /// Whether the running thread's calls of this number may be posted.
    pub(super) fn is_posted(&self, number: u64) -> bool {
        let known = usize::try_from(number).is_ok_and(|number| number < layout::CALLS);
        known && matches!(self.answers.load(number * 8), layout::CALL_IS_POSTED | layout::CALL_IS_WAKE)
    }

    /// Where SYSCALL enters.
    pub(super) fn syscall_entry(&self) -> u64 {
        match self.syscall {
            SyscallRing::Kernel => layout::SYSCALL_PAGE,
            SyscallRing::User => layout::FAST_SYSCALL,
        }
    }
}

/// The ring in which SYSCALL from ring 3 arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyscallRing {
    /// Ring 0, as the architecture says.
    Kernel,
    /// Ring 3 still: kvm-pvm.
    User,
}

/// Where the task-state segment's I/O bitmap begins.
const TSS_BITMAP: u16 = 0x68;
/// The segment's last byte: a bitmap of 64 ports and its end marker.
pub(super) const TSS_LIMIT: u16 = TSS_BITMAP + 8;
const _: () = assert!(layout::SYSCALL_PORT < 64);

/// Bytes between the tops of two interrupt stacks.
const STACK_STRIDE: u64 = 0x200;
/// Where the monitor writes frames for the ways back: behind the interrupt stacks.
pub(super) const RETURN_FRAME: u64 = 0xc00;

/// Which interrupt stack a vector uses. Those that can hit in ring 0, before the monitor has read the frame of another,
/// have their own: #DB (deferred by `mov ss` into a stub's first instruction), NMI, #DF, #MC.
pub(super) fn stack_of(vector: u8) -> u64 {
    match vector {
        1 => 2,
        2 => 3,
        8 => 4,
        18 => 5,
        _ => 1,
    }
}

/// The offset in the stack page at which the frame of `vector` ends.
pub(super) fn stack_top(vector: u8) -> u64 {
    stack_of(vector) * STACK_STRIDE
}

fn index(address: u64, level: usize) -> u64 {
    address >> (12 + 9 * level) & 511
}

/// Loads the trap image to consecutive pages of the monitor's memory.
fn load_image(to: NonNull<u8>) -> Result<(), MemoryError> {
    let bytes = usize::try_from(layout::IMAGE_PAGES * PAGE_SIZE).map_err(|_| MemoryError::HostExhausted)?;
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the pages were handed out by the arena just now, lie behind one another and outlive the region.
    let region = unsafe { MmapRegion::<()>::build_raw(to.as_ptr(), bytes, access, flags) };
    let region = region.ok().and_then(|region| GuestRegionMmap::new(region, GuestAddress(0)));
    let memory = region.and_then(|region| GuestMemoryMmap::from_regions(vec![region]).ok());
    let memory = memory.expect("one region at address 0 is a valid guest memory");
    Elf::load(&memory, None, &mut Cursor::new(guest::TRAP_IMAGE), None)
        .expect("the build script made the image, and its linker script its addresses");
    Ok(())
}

/// Builds the interrupt descriptor table: a gate for each vector that has a stub, open to `int n` where Linux has it so.
fn fill_idt(idt: Page) {
    let stubs = (0..layout::VECTORS).chain([layout::LEGACY_VECTOR]).zip(0_u64..);
    for (vector, stub) in stubs {
        let address = layout::TRAP_PAGE + stub * layout::STUB_STRIDE;
        let ring = if matches!(vector, 3 | 4 | layout::LEGACY_VECTOR) { 3_u64 } else { 0 };
        let kind = 0x8e | ring << 5;
        let low = (address & 0xffff)
            | u64::from(layout::KERNEL_CODE) << 16
            | stack_of(vector) << 32
            | kind << 40
            | (address >> 16 & 0xffff) << 48;
        idt.store(u64::from(vector) * 16, low);
        idt.store(u64::from(vector) * 16 + 8, address >> 32);
    }
}

/// Builds the global descriptor table. Accessed bits are set, so that the processor never writes to it; there is no
/// 32-bit code for ring 3.
fn fill_gdt(gdt: Page) {
    const CODE: u64 = 0x00af_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    const RING3: u64 = 3 << 45;
    gdt.store(u64::from(layout::KERNEL_CODE), CODE);
    gdt.store(u64::from(layout::KERNEL_DATA), DATA);
    gdt.store(u64::from(layout::USER_DATA & !7), DATA | RING3);
    gdt.store(u64::from(layout::USER_CODE & !7), CODE | RING3);
    // A busy 64-bit task-state segment.
    let (base, limit) = (layout::TSS, u64::from(TSS_LIMIT));
    let low = limit | (base & 0xff_ffff) << 16 | 0x8b << 40 | (base >> 24 & 0xff) << 56;
    gdt.store(u64::from(layout::TASK), low);
    gdt.store(u64::from(layout::TASK) + 8, base >> 32);
}

/// Fills in the interrupt stacks (ring-0 stacks for privilege changes stay zero: every gate has an interrupt stack) and opens
/// the system-call port to ring 3, and nothing else; or nothing at all: then the segment says that it has no I/O bitmap.
fn fill_tss(tss: Page, syscall: SyscallRing) {
    for stack in 1..=5 {
        let top = layout::STACKS + stack * STACK_STRIDE;
        // The stack pointers lie at 0x24 + 8 * (n - 1): not aligned for 64-bit words, so write halves.
        let at = 0x24 + 8 * (stack - 1);
        let (first, second) = (at & !7, (at & !7) + 8);
        tss.store(first, tss.load(first) & 0xffff_ffff | top << 32);
        tss.store(second, tss.load(second) & !0xffff_ffff | top >> 32);
    }
    match syscall {
        SyscallRing::User => {
            tss.store(0x60, u64::from(TSS_BITMAP) << 48);
            // Eight bytes of bitmap, one bit of them clear, then ones: the byte behind the last is looked at too.
            tss.store(u64::from(TSS_BITMAP), !(1 << layout::SYSCALL_PORT));
            tss.store(u64::from(TSS_BITMAP) + 8, u64::MAX);
        }
        SyscallRing::Kernel => tss.store(0x60, 0xffff << 48),
    }
}
