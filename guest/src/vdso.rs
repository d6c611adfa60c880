//! The vDSO: an ELF image that the Linux personality maps into programs so that reading a clock costs no trap.
//!
//! The functions here and [`getrandom`](crate::random::getrandom) are the image's whole content: `image/vdso.rs` exports
//! them under Linux's names, next to the clock page, which lies in the page before the image. Each function here answers
//! from that page where it can, and otherwise makes the system call that it stands for, so that errors are the provider's.
//!
//! The image is linked by `image/vdso.ld`, which asserts that it has no relocation, no GOT, no data and no call into
//! a library. Unwind information is kept: a profiler's signal may arrive in here.

use crate::clock::{ClockKind, ClockPage, ProcessorNumber};
use crate::layout;
use core::arch::asm;

/// Linux's `struct timespec` (`struct timeval` with another unit).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, or microseconds in a `struct timeval`.
    pub fraction: i64,
}

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Numbers of the system calls that the functions fall back to.
mod number {
    pub(super) const GETTIMEOFDAY: u64 = 96;
    pub(super) const TIME: u64 = 201;
    pub(super) const CLOCK_GETTIME: u64 = 228;
    pub(super) const CLOCK_GETRES: u64 = 229;
    pub(super) const GETCPU: u64 = 309;
}

/// Returns the kind of a `clockid_t` that the page answers.
#[inline]
const fn kind(clock: i32) -> Option<ClockKind> {
    Some(match clock {
        0 => ClockKind::Wall,
        1 => ClockKind::Monotonic,
        4 => ClockKind::Raw,
        5 => ClockKind::WallCoarse,
        6 => ClockKind::MonotonicCoarse,
        7 => ClockKind::Boot,
        11 => ClockKind::Atomic,
        _ => return None,
    })
}

/// Splits nanoseconds into seconds and the rest.
#[inline]
const fn split(ns: u64) -> Timespec {
    // Both quotients are below 2^35, so the casts keep the value.
    #[expect(clippy::cast_possible_wrap, reason = "below 2^35")]
    let parts = Timespec { seconds: (ns / NS_PER_SECOND) as i64, fraction: (ns % NS_PER_SECOND) as i64 };
    parts
}

/// Does what `clock_gettime(2)` does.
///
/// # Safety
/// As the system call, but a bad `to` faults in the caller.
#[inline]
pub unsafe fn clock_gettime(page: &ClockPage, clock: i32, to: *mut Timespec) -> i32 {
    if let Some(ns) = kind(clock).and_then(|kind| page.now(kind)) {
        // SAFETY: the caller passes a place for a timespec, of any alignment.
        unsafe { to.write_unaligned(split(ns)) };
        return 0;
    }
    // SAFETY: the call writes to `to` only, which the kernel checks.
    unsafe { system_call(number::CLOCK_GETTIME, sign_extend(clock), to as u64, 0) }
}

/// Does what `clock_getres(2)` does.
///
/// # Safety
/// As the system call, but a bad `to` faults in the caller.
#[inline]
pub unsafe fn clock_getres(page: &ClockPage, clock: i32, to: *mut Timespec) -> i32 {
    let step_ns = match kind(clock) {
        Some(ClockKind::WallCoarse | ClockKind::MonotonicCoarse) => page.coarse_step_ns(),
        // Linux answers 1 ns wherever high-resolution timers run.
        Some(_) => 1,
        None => 0,
    };
    if step_ns == 0 {
        // SAFETY: the call writes to `to` only, which the kernel checks.
        return unsafe { system_call(number::CLOCK_GETRES, sign_extend(clock), to as u64, 0) };
    }
    if !to.is_null() {
        // SAFETY: the caller passes null or a place for a timespec, of any alignment.
        unsafe { to.write_unaligned(split(step_ns)) };
    }
    0
}

/// Does what `gettimeofday(2)` does. The time zone is that of a kernel nobody told one: UTC.
///
/// # Safety
/// As the system call, but a bad pointer faults in the caller.
#[inline]
pub unsafe fn gettimeofday(page: &ClockPage, to: *mut Timespec, zone: *mut [i32; 2]) -> i32 {
    if !to.is_null() {
        let Some(ns) = page.now(ClockKind::Wall) else {
            // SAFETY: the call writes to its two arguments only, which the kernel checks.
            return unsafe { system_call(number::GETTIMEOFDAY, to as u64, zone as u64, 0) };
        };
        let Timespec { seconds, fraction } = split(ns);
        // SAFETY: the caller passes null or a place for a timeval, of any alignment.
        unsafe { to.write_unaligned(Timespec { seconds, fraction: fraction / 1000 }) };
    }
    if !zone.is_null() {
        // SAFETY: the caller passes null or a place for a timezone, of any alignment.
        unsafe { zone.write_unaligned([0, 0]) };
    }
    0
}

/// Does what `time(2)` does: the second of the last timer tick.
///
/// # Safety
/// As the system call, but a bad `to` faults in the caller.
#[inline]
pub unsafe fn time(page: &ClockPage, to: *mut i64) -> i64 {
    let Some(ns) = page.now(ClockKind::WallCoarse) else {
        // SAFETY: the call writes to `to` only, which the kernel checks.
        return unsafe { system_call_long(number::TIME, to as u64, 0, 0) };
    };
    let seconds = split(ns).seconds;
    if !to.is_null() {
        // SAFETY: the caller passes null or a place for a time_t, of any alignment.
        unsafe { to.write_unaligned(seconds) };
    }
    seconds
}

/// Where the answers page has the processor's number.
#[expect(clippy::cast_possible_truncation, reason = "addresses have 64 bits")]
const PROCESSOR: usize = (layout::ANSWERS_PAGE + layout::answers::PROCESSOR) as usize;

/// Does what `getcpu(2)` does.
///
/// # Safety
/// As the system call, but a bad pointer faults in the caller.
#[inline]
pub unsafe fn getcpu(page: &ClockPage, processor: *mut u32, node: *mut u32) -> i32 {
    let (on, of) = match page.processor_number() {
        ProcessorNumber::Ask => {
            // SAFETY: the call writes to its two arguments only, which the kernel checks.
            return unsafe { system_call(number::GETCPU, processor as u64, node as u64, 0) };
        }
        ProcessorNumber::TscAux => {
            let aux: u32;
            // SAFETY: RDTSCP touches no memory; the host sets this way only where the processor has it.
            unsafe {
                asm!("rdtscp", out("eax") _, out("edx") _, out("ecx") aux, options(nomem, nostack, preserves_flags));
            }
            (aux & 0xfff, aux >> 12)
        }
        ProcessorNumber::Answers => {
            let at: *const u32 = core::ptr::with_exposed_provenance(PROCESSOR);
            // SAFETY: the host sets this way only where it maps the answers page, whose words are aligned.
            (unsafe { at.read_volatile() }, 0)
        }
    };
    if !processor.is_null() {
        // SAFETY: the caller passes null or a place for an int, of any alignment.
        unsafe { processor.write_unaligned(on) };
    }
    if !node.is_null() {
        // SAFETY: as above.
        unsafe { node.write_unaligned(of) };
    }
    0
}

/// Widens an `int` argument as a compiler does.
#[inline]
const fn sign_extend(value: i32) -> u64 {
    #[expect(clippy::cast_sign_loss, reason = "a register holds the sign-extended bits")]
    let bits = value as i64 as u64;
    bits
}

/// # Safety
/// The system call must be sound with these arguments.
#[inline]
unsafe fn system_call(number: u64, first: u64, second: u64, third: u64) -> i32 {
    // SAFETY: the caller's duty.
    let result = unsafe { system_call_long(number, first, second, third) };
    #[expect(clippy::cast_possible_truncation, reason = "these calls return 0 or a small negative number")]
    let result = result as i32;
    result
}

/// # Safety
/// The system call must be sound with these arguments.
#[inline]
pub(crate) unsafe fn system_call_long(number: u64, first: u64, second: u64, third: u64) -> i64 {
    let result: i64;
    // SAFETY: SYSCALL changes RAX, RCX and R11 and what the call itself writes; the caller vouches for the latter.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}
