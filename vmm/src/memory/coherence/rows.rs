//! What makes the guest see an entry that the monitor has changed: one test for each means, on the paging at hand.
//!
//! A guest thread spins inside the guest and reads a page when shared memory tells it to, so nothing but the means under
//! test makes it leave. "Seen" rows must hold for the back end that relies on them; "stale" rows are why the others are
//! not relied on. On hardware paging a stale translation may vanish by itself at any exit, so only seen rows are judged.

#[path = "../../../tests/personality/mod.rs"]
mod personality;

use super::super::tables::{index, load, store};
use super::super::{AddressSpace, Entry};
use crate::addr::{PAGE_SIZE, UserAddr, UserRange};
use crate::memory::Access;
use crate::pico::{Process, Thread};
use crate::trap::Registers;
use crate::{Paging, payload};
use personality::{DATA, Rig};
use std::sync::Arc;

/// The page whose entry is changed, the page whose frame it gets, and a page the guest never touches.
const CHANGED: u64 = 0x1000_0000;
const OTHER: u64 = CHANGED + 8 * PAGE_SIZE;
const UNTOUCHED: u64 = CHANGED + 16 * PAGE_SIZE;
const OLD: u64 = 1;
const NEW: u64 = 2;

payload!(
    reader,
    "xor ebx, ebx",
    "2:",
    "pause",
    "mov rax, [0x500000]",
    "cmp rax, rbx",
    "je 2b",
    "mov rbx, rax",
    "mov rcx, [0x10000000]",
    "mov [0x500010], rcx",
    "mov [0x500008], rbx",
    "jmp 2b",
);

struct Bench {
    rig: Rig,
    space: Arc<AddressSpace>,
    process: Arc<Process>,
    thread: Arc<Thread>,
    sequence: u64,
}

impl Bench {
    /// A guest that has read the page and found [`OLD`]; `None` without KVM.
    fn start() -> Option<Self> {
        let rig = Rig::open(None)?;
        let (process, thread) = rig.start(reader());
        let space = process.space();
        let pages = UserRange::new(UserAddr(CHANGED), 32 * PAGE_SIZE).unwrap();
        space.map_anonymous(pages, Access::READ | Access::WRITE, false).unwrap();
        for (page, value) in [(CHANGED, OLD), (OTHER, NEW), (UNTOUCHED, 3)] {
            space.write(UserAddr(page), &value.to_le_bytes()).unwrap();
        }
        let mut bench = Self { rig, space, process, thread, sequence: 0 };
        assert_eq!(bench.read(), OLD);
        Some(bench)
    }

    fn paging(&self) -> Paging {
        self.rig.host.memory().machine().paging()
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.space.read(UserAddr(at), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// What the guest reads from the page now.
    fn read(&mut self) -> u64 {
        self.sequence += 1;
        self.space.write(UserAddr(DATA), &self.sequence.to_le_bytes()).unwrap();
        while self.word(DATA + 8) != self.sequence {
            std::thread::yield_now();
        }
        self.word(DATA + 16)
    }

    fn entry(&self, page: u64) -> Entry {
        self.space.edit().tables.leaf(self.rig.host.memory().arena(), UserAddr(page))
    }

    /// Exchanges the page's entry with the other page's, behind everybody's back.
    fn change(&self) {
        let state = self.space.edit();
        let arena = self.rig.host.memory().arena();
        let table = |page| arena.table(load(state.tables.block(arena, UserAddr(page)).unwrap()).frame());
        let slots = [CHANGED, OTHER].map(|page| &table(page)[index(UserAddr(page), 0)]);
        let entries = slots.map(load);
        store(slots[0], entries[1]);
        store(slots[1], entries[0]);
    }

    fn protect(&self, frame: Entry, protection: i32) {
        let host = self.rig.host.memory().arena().host(frame.frame());
        // SAFETY: one page of guest memory that only this test uses.
        let result = unsafe { libc::mprotect(host.cast(), 4096, protection) };
        assert_eq!(result, 0);
    }

    fn stop(&self) {
        self.thread.suspend();
        while self.thread.registers().is_err() {
            std::thread::yield_now();
        }
    }

    /// Judges a means that is relied on.
    fn expect_seen(&mut self) {
        assert_eq!(self.read(), NEW, "seen with {:?} paging", self.paging());
        self.process.terminate();
    }

    /// Judges a means that does not reach shadow pages.
    fn expect_stale_on_shadow(&mut self) {
        let seen = self.read();
        match self.paging() {
            Paging::Shadow => assert_eq!(seen, OLD, "shadow pages keep it"),
            _ => assert!(seen == OLD || seen == NEW),
        }
        // Everything is seen in the end.
        self.rig.host.memory().machine().drop_shadows();
        if self.paging() == Paging::Shadow {
            assert_eq!(self.read(), NEW);
        }
        self.process.terminate();
    }
}

#[test]
fn nothing_leaves_it_stale_on_shadow_paging() {
    let Some(mut bench) = Bench::start() else { return };
    bench.change();
    bench.expect_stale_on_shadow();
}

#[test]
fn loading_segment_registers_leaves_it_stale_on_shadow_paging() {
    let Some(mut bench) = Bench::start() else { return };
    bench.change();
    bench.stop();
    // KVM_SET_SREGS with what CR3 and CR4 were.
    bench.thread.set_segment_bases(0x1000, 0x2000).unwrap();
    bench.thread.resume();
    bench.expect_stale_on_shadow();
}

#[test]
fn giving_up_a_page_that_was_never_touched_leaves_it_stale_on_shadow_paging() {
    let Some(mut bench) = Bench::start() else { return };
    let untouched = bench.entry(UNTOUCHED).frame();
    bench.change();
    bench.rig.host.memory().arena().discard(untouched, 1);
    bench.expect_stale_on_shadow();
}

#[test]
fn making_a_page_writable_that_was_touched_read_only_is_seen_on_shadow_paging() {
    let Some(mut bench) = Bench::start() else { return };
    let old = bench.entry(CHANGED);
    bench.stop();
    bench.protect(old, libc::PROT_READ);
    bench.thread.resume();
    assert_eq!(bench.read(), OLD);
    bench.change();
    bench.protect(old, libc::PROT_READ | libc::PROT_WRITE);
    if bench.paging() == Paging::Shadow {
        bench.expect_seen();
    }
}

#[test]
fn making_the_old_page_read_only_is_seen() {
    let Some(mut bench) = Bench::start() else { return };
    let old = bench.entry(CHANGED);
    bench.stop();
    bench.change();
    bench.protect(old, libc::PROT_READ);
    bench.protect(old, libc::PROT_READ | libc::PROT_WRITE);
    bench.thread.resume();
    bench.expect_seen();
}

#[test]
fn giving_up_the_old_page_is_seen() {
    let Some(mut bench) = Bench::start() else { return };
    let old = bench.entry(CHANGED).frame();
    bench.change();
    bench.rig.host.memory().arena().discard(old, 1);
    bench.expect_seen();
}

#[test]
fn toggling_execute_permission_of_the_old_page_is_seen_on_shadow_paging() {
    let Some(mut bench) = Bench::start() else { return };
    let old = bench.entry(CHANGED).frame();
    bench.change();
    assert!(bench.rig.host.memory().arena().zap(old, 1, libc::PROT_READ | libc::PROT_WRITE));
    if bench.paging() == Paging::Shadow {
        bench.expect_seen();
    }
}

#[test]
fn a_dummy_slot_is_seen() {
    let Some(mut bench) = Bench::start() else { return };
    bench.change();
    bench.rig.host.memory().machine().drop_shadows();
    bench.expect_seen();
}

#[test]
fn a_new_virtual_cpu_sees_it_on_hardware_paging_and_old_shadows_elsewhere() {
    let Some(mut bench) = Bench::start() else { return };
    bench.stop();
    bench.change();
    // The first thread keeps its virtual CPU while it is stopped, so this one gets another.
    let registers = Registers { rip: personality::CODE, ..Registers::default() };
    bench.rig.spawn(&bench.process, registers).unwrap();
    match bench.paging() {
        Paging::Hardware => bench.expect_seen(),
        _ => bench.expect_stale_on_shadow(),
    }
}

#[test]
fn a_new_generation_is_seen_on_hardware_paging() {
    let Some(mut bench) = Bench::start() else { return };
    bench.change();
    bench.space.sync().generation.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    drop(bench.rig.host.memory().machine().hold_out(bench.space.sync()));
    if bench.paging() == Paging::Hardware {
        bench.expect_seen();
    }
}
