//! The root of the vDSO image: Linux's symbols around the functions of `src/vdso.rs`, and where the clock page is.
//!
//! Compiled by itself (see `build.rs`) to one object that is linked by `vdso.ld`.
#![no_std]
#![allow(dead_code, unreachable_pub, reason = "the shared modules serve the host too")]

#[path = "../src/chacha.rs"]
mod chacha;
#[path = "../src/clock.rs"]
mod clock;
#[path = "../src/layout.rs"]
mod layout;
#[path = "../src/random.rs"]
mod random;
#[path = "../src/vdso.rs"]
mod vdso;

use clock::ClockPage;
use core::arch::{asm, global_asm};
use vdso::Timespec;

// Linux's vDSO has weak names without the prefix as well.
global_asm!(
    ".macro other_name name",
    ".weak \\name",
    ".type \\name, @function",
    ".set \\name, __vdso_\\name",
    ".endm",
    "other_name clock_gettime",
    "other_name clock_getres",
    "other_name gettimeofday",
    "other_name time",
    "other_name getcpu",
    "other_name getrandom",
);

/// The clock page, one page before the image.
#[inline(always)]
fn page() -> &'static ClockPage {
    let page: *const ClockPage;
    // An `extern` static would be read through the GOT, and there is none.
    // SAFETY: LEA touches no memory; the linker script defines the symbol.
    unsafe {
        asm!(".hidden clock_page", "lea {}, [rip + clock_page]", out(reg) page, options(nomem, nostack, preserves_flags, pure))
    };
    // SAFETY: whoever maps the image maps the clock page before it, for as long.
    unsafe { &*page }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vdso_clock_gettime(clock: i32, to: *mut Timespec) -> i32 {
    // SAFETY: the caller's duty.
    unsafe { vdso::clock_gettime(page(), clock, to) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vdso_clock_getres(clock: i32, to: *mut Timespec) -> i32 {
    // SAFETY: the caller's duty.
    unsafe { vdso::clock_getres(page(), clock, to) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vdso_gettimeofday(to: *mut Timespec, zone: *mut [i32; 2]) -> i32 {
    // SAFETY: the caller's duty.
    unsafe { vdso::gettimeofday(page(), to, zone) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vdso_time(to: *mut i64) -> i64 {
    // SAFETY: the caller's duty.
    unsafe { vdso::time(page(), to) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vdso_getcpu(processor: *mut u32, node: *mut u32, _unused: *mut u8) -> i32 {
    // SAFETY: the caller's duty.
    unsafe { vdso::getcpu(page(), processor, node) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vdso_getrandom(
    to: *mut u8,
    len: usize,
    flags: u32,
    state: *mut random::State,
    state_len: usize,
) -> i64 {
    // SAFETY: the caller's duty.
    unsafe { random::getrandom(&random::Kernel, to, len, flags, state, state_len) }
}
