//! The clock page: what the host knows about time, published so that a program can read clocks without a trap.
//!
//! One page holds one [`Record`] behind a sequence lock. The host writes it; the vDSO and the host's own trapped
//! clock calls read it with the same code, [`Record::at`], so both give the same time. The record is a line through
//! (time-stamp counter, nanoseconds) that holds for a bounded number of ticks, its *horizon*. A reader beyond the
//! horizon gets nothing and asks the host, which measures again: an idle sandbox needs no timer, and a host that was
//! stopped, suspended or migrated cannot leave a stale line behind.
//!
//! This file is part of the vDSO image too: plain `core`, no panic, no call out of line.

use core::arch::asm;
use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A clock that the page can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockKind {
    /// Time since 1970 (UTC), set and slewed with the host's.
    Wall,
    /// Time since the host booted, less suspended time; slewed, never set.
    Monotonic,
    /// As `Monotonic`, at the hardware's own rate: never slewed.
    Raw,
    /// `Monotonic` with the time that the host was suspended.
    Boot,
    /// International atomic time: `Wall` without leap seconds.
    Atomic,
    /// `Wall` at the host's last timer tick.
    WallCoarse,
    /// `Monotonic` at the host's last timer tick.
    MonotonicCoarse,
}

/// How a program finds out which processor it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessorNumber {
    /// By asking the host.
    Ask,
    /// From TSC_AUX (RDTSCP): bits 0–11 are the processor, the rest the memory node, as on Linux.
    TscAux,
    /// From the answers page: where the virtual CPU was as it was last entered. There is one memory node.
    Answers,
}

/// Fractional bits of a rate in nanoseconds a tick.
pub const RATE_SHIFT: u32 = 32;

/// A rate from a counter's frequency in kHz, or 0 for a frequency of 0.
pub const fn rate_of_khz(khz: u32) -> u64 {
    match (1_000_000_u64 << RATE_SHIFT).checked_div(khz as u64) {
        Some(rate) => rate,
        None => 0,
    }
}

/// A line from ticks to nanoseconds through the record's anchor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds at the anchor.
    pub base_ns: u64,
    /// Nanoseconds a tick, with [`RATE_SHIFT`] fractional bits.
    pub rate: u64,
}

impl Line {
    /// Nanoseconds `ticks` after the anchor, modulo 2^64 (which is 584 years).
    #[inline]
    pub const fn after(self, ticks: u64) -> u64 {
        let ns = (ticks as u128 * self.rate as u128) >> RATE_SHIFT;
        #[expect(clippy::cast_possible_truncation, reason = "modulo 2^64")]
        let ns = ns as u64;
        self.base_ns.wrapping_add(ns)
    }
}

/// What the host knows about time around one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The time-stamp counter at that moment.
    pub anchor: u64,
    /// Ticks after the anchor until which the record holds. 0: the page answers nothing, readers ask the host.
    pub horizon: u64,
    /// [`ClockKind::Monotonic`].
    pub monotonic: Line,
    /// [`ClockKind::Raw`].
    pub raw: Line,
    /// `Wall` less `Monotonic`, in nanoseconds, modulo 2^64.
    pub wall_offset: u64,
    /// `Boot` less `Monotonic`, likewise.
    pub boot_offset: u64,
    /// `Atomic` less `Monotonic`, likewise.
    pub atomic_offset: u64,
    /// The coarse clocks stand on `coarse_base_ns` plus multiples of `coarse_step_ns` of `Monotonic`.
    pub coarse_base_ns: u64,
    /// Nanoseconds between two ticks of the host's timer, or 0 for unknown: the coarse clocks are then the fine ones.
    pub coarse_step_ns: u64,
    /// The coarse clocks never show less `Monotonic` time than this.
    pub coarse_floor_ns: u64,
}

impl Record {
    /// Returns the clock's value in nanoseconds when the counter reads `ticks`, or `None` outside the horizon.
    #[inline]
    pub fn at(&self, kind: ClockKind, ticks: u64) -> Option<u64> {
        let words = self.words();
        at(kind, ticks, |at| words[at])
    }

    fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[word::ANCHOR] = self.anchor;
        words[word::HORIZON] = self.horizon;
        words[word::MONOTONIC] = self.monotonic.base_ns;
        words[word::MONOTONIC + 1] = self.monotonic.rate;
        words[word::RAW] = self.raw.base_ns;
        words[word::RAW + 1] = self.raw.rate;
        words[word::WALL] = self.wall_offset;
        words[word::BOOT] = self.boot_offset;
        words[word::ATOMIC] = self.atomic_offset;
        words[word::COARSE_BASE] = self.coarse_base_ns;
        words[word::COARSE_STEP] = self.coarse_step_ns;
        words[word::COARSE_FLOOR] = self.coarse_floor_ns;
        words
    }
}

/// Where the fields of a [`Record`] are among the page's words. What the common clocks need shares a cache line.
mod word {
    pub(super) const ANCHOR: usize = 0;
    pub(super) const HORIZON: usize = 1;
    pub(super) const MONOTONIC: usize = 2;
    pub(super) const WALL: usize = 4;
    pub(super) const BOOT: usize = 5;
    pub(super) const ATOMIC: usize = 6;
    pub(super) const RAW: usize = 7;
    pub(super) const COARSE_BASE: usize = 9;
    pub(super) const COARSE_STEP: usize = 10;
    pub(super) const COARSE_FLOOR: usize = 11;
}

/// Reads a clock from the words of a record, whichever of them it needs. Total: a record half replaced gives nonsense,
/// which the reader throws away.
#[inline]
fn at(kind: ClockKind, ticks: u64, word: impl Fn(usize) -> u64) -> Option<u64> {
    // A counter below the anchor (it was reset) wraps to a huge number and is outside too.
    let since = ticks.wrapping_sub(word(word::ANCHOR));
    if since >= word(word::HORIZON) {
        return None;
    }
    let line = |at: usize| Line { base_ns: word(at), rate: word(at + 1) }.after(since);
    Some(match kind {
        ClockKind::Monotonic => line(word::MONOTONIC),
        ClockKind::Wall => line(word::MONOTONIC).wrapping_add(word(word::WALL)),
        ClockKind::Raw => line(word::RAW),
        ClockKind::Boot => line(word::MONOTONIC).wrapping_add(word(word::BOOT)),
        ClockKind::Atomic => line(word::MONOTONIC).wrapping_add(word(word::ATOMIC)),
        ClockKind::MonotonicCoarse => coarse(line(word::MONOTONIC), word),
        ClockKind::WallCoarse => coarse(line(word::MONOTONIC), &word).wrapping_add(word(word::WALL)),
    })
}

/// Returns the last timer tick at or before `fine` (both in `Monotonic` nanoseconds).
#[inline]
fn coarse(fine: u64, word: impl Fn(usize) -> u64) -> u64 {
    let (base, floor) = (word(word::COARSE_BASE), word(word::COARSE_FLOOR));
    match fine.wrapping_sub(base).checked_rem(word(word::COARSE_STEP)) {
        Some(past) if fine >= base && fine.wrapping_sub(past) >= floor => fine.wrapping_sub(past),
        Some(_) if fine >= floor => floor,
        _ => fine,
    }
}

/// The page itself. The host has it writable, programs read-only.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct ClockPage {
    /// Odd while the record is being written.
    sequence: AtomicU32,
    /// 1: TSC_AUX tells the processor number.
    processor: AtomicU32,
    /// The fields of the [`Record`], as [`word`] says.
    words: [AtomicU64; WORDS],
}

const WORDS: usize = 12;
/// How often a reader tries again before it asks the host: the writer may have been preempted.
const TRIES: u32 = 64;

impl ClockPage {
    /// A page that answers nothing.
    pub const fn new() -> Self {
        Self { sequence: AtomicU32::new(0), processor: AtomicU32::new(0), words: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// Returns a clock's value now in nanoseconds, or `None` when the host must be asked.
    #[inline]
    pub fn now(&self, kind: ClockKind) -> Option<u64> {
        for _ in 0..TRIES {
            let sequence = self.sequence.load(Ordering::Acquire);
            if sequence & 1 == 0 {
                // Between the two looks at the sequence: a counter value read in there is not later than the next
                // record's anchor, which is what keeps time from going back at a change of records.
                let ticks = counter();
                let answer = at(kind, ticks, |at| self.words[at].load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if self.sequence_after(ticks).load(Ordering::Relaxed) == sequence {
                    return answer;
                }
            }
            core::hint::spin_loop();
        }
        None
    }

    /// Returns the sequence at an address that the processor cannot know before it knows `ticks`, so that it is looked
    /// at after the counter was. RDTSC alone does not keep later loads back, and a second LFENCE costs 4 ns.
    #[inline]
    fn sequence_after(&self, ticks: u64) -> &AtomicU32 {
        let mut nothing = ticks;
        // SAFETY: plain arithmetic. ANDing a zero is no idiom that processors know the result of beforehand.
        unsafe { asm!("and {0:r}, 0", inout(reg) nothing, options(pure, nomem, nostack)) };
        #[expect(clippy::cast_possible_truncation, reason = "it is 0")]
        let nothing = nothing as usize;
        // SAFETY: an offset of 0 stays in the object.
        let sequence = unsafe { ptr::from_ref(&self.sequence).byte_add(nothing) };
        // SAFETY: the pointer is that of the field.
        unsafe { &*sequence }
    }

    /// Returns nanoseconds between two steps of the coarse clocks; 0 when unknown.
    #[inline]
    pub fn coarse_step_ns(&self) -> u64 {
        self.words[word::COARSE_STEP].load(Ordering::Relaxed)
    }

    /// Tells how to find out which processor this is.
    #[inline]
    pub fn processor_number(&self) -> ProcessorNumber {
        match self.processor.load(Ordering::Relaxed) {
            1 => ProcessorNumber::TscAux,
            2 => ProcessorNumber::Answers,
            _ => ProcessorNumber::Ask,
        }
    }

    /// Says how programs find out which processor they run on.
    pub fn set_processor_number(&self, how: ProcessorNumber) {
        let word = match how {
            ProcessorNumber::Ask => 0,
            ProcessorNumber::TscAux => 1,
            ProcessorNumber::Answers => 2,
        };
        self.processor.store(word, Ordering::Relaxed);
    }

    /// Replaces the record. One writer at a time. Readers are kept off while `make` runs, so it should only compute;
    /// it gets the counter's value, which no successful reader of the old record has passed.
    pub fn publish(&self, make: impl FnOnce(u64) -> Record) -> Record {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // A full fence: the odd sequence is visible before the counter is read.
        fence(Ordering::SeqCst);
        let record = make(counter());
        for (word, value) in self.words.iter().zip(record.words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
        record
    }
}

impl Default for ClockPage {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads the time-stamp counter, after all earlier loads.
#[inline]
pub fn counter() -> u64 {
    // SAFETY: LFENCE exists on every x86-64 processor and touches no memory.
    unsafe { _mm_lfence() };
    // SAFETY: RDTSC is permitted at every privilege level: neither Linux by default nor our guest sets CR4.TSD.
    unsafe { _rdtsc() }
}
