//! The one place where the monitor touches guest memory: a few assembly routines with a recovery table.
//!
//! Guest memory is shared with running virtual CPUs and may lose its backing at any moment (a mapped file shrinks, the
//! host has no memory left), so no `&[u8]` of it exists, and a SIGBUS or SIGSEGV raised at an address of these routines
//! becomes an [`Stopped`] error (gVisor's safecopy is the model). Signals raised elsewhere go where they went before.

use crate::crash::{self, Fault};
use std::arch::global_asm;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

global_asm!(
    ".pushsection .text.picovisor_raw,\"ax\",@progbits",
    ".balign 64",
    ".globl picovisor_raw_start",
    ".hidden picovisor_raw_start",
    "picovisor_raw_start:",
    // copy(rdi: to, rsi: from, rdx: bytes) -> (rax: bytes left, rdx: signal)
    ".globl picovisor_raw_copy",
    ".hidden picovisor_raw_copy",
    "picovisor_raw_copy:",
    "mov rcx, rdx",
    "rep movsb",
    "xor eax, eax",
    "xor edx, edx",
    "ret",
    // zero(rdi: to, rsi: bytes) -> (rax: bytes left, rdx: signal)
    ".globl picovisor_raw_zero",
    ".hidden picovisor_raw_zero",
    "picovisor_raw_zero:",
    "mov rcx, rsi",
    "xor eax, eax",
    "rep stosb",
    "xor edx, edx",
    "ret",
    // load(rdi: from) -> (rax: value, rdx: signal)
    ".globl picovisor_raw_load",
    ".hidden picovisor_raw_load",
    "picovisor_raw_load:",
    "mov eax, [rdi]",
    "xor edx, edx",
    "ret",
    // compare_exchange(rdi: at, esi: current, edx: new) -> (rax: what was there, rdx: signal)
    ".globl picovisor_raw_compare_exchange",
    ".hidden picovisor_raw_compare_exchange",
    "picovisor_raw_compare_exchange:",
    "mov eax, esi",
    "lock cmpxchg [rdi], edx",
    "xor edx, edx",
    "ret",
    ".globl picovisor_raw_end",
    ".hidden picovisor_raw_end",
    "picovisor_raw_end:",
    // The signal handler resumes here, with the signal in rdx and rcx as the interrupted string instruction left it.
    ".globl picovisor_raw_recover",
    ".hidden picovisor_raw_recover",
    "picovisor_raw_recover:",
    "mov rax, rcx",
    "ret",
    ".popsection",
);

/// What a routine returns in RAX and RDX.
#[repr(C)]
struct Outcome {
    value: u64,
    signal: u64,
}

unsafe extern "C" {
    static picovisor_raw_start: u8;
    static picovisor_raw_end: u8;
    static picovisor_raw_recover: u8;
    fn picovisor_raw_copy(to: *mut u8, from: *const u8, bytes: usize) -> Outcome;
    fn picovisor_raw_zero(to: *mut u8, bytes: usize) -> Outcome;
    fn picovisor_raw_load(from: *const u32) -> Outcome;
    fn picovisor_raw_compare_exchange(at: *mut u32, current: u32, new: u32) -> Outcome;
}

/// An access that the host could not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Bytes transferred before the one that could not be.
    pub(crate) done: usize,
}

/// Copies bytes between guest memory and guest memory or a buffer of ours.
///
/// # Safety
/// Each side is guest memory (mapped or not: a fault is an error), or a Rust buffer of at least `bytes` that is valid for
/// the access. The two do not overlap.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Stopped> {
    // SAFETY: the caller vouches for both sides; a fault inside is recovered from.
    let outcome = unsafe { picovisor_raw_copy(to, from, bytes) };
    outcome.stopped(bytes)
}

/// Zeroes guest memory.
///
/// # Safety
/// `to` is guest memory (mapped or not) of at least `bytes`.
pub(crate) unsafe fn zero(to: *mut u8, bytes: usize) -> Result<(), Stopped> {
    // SAFETY: the caller vouches for the range; a fault inside is recovered from.
    let outcome = unsafe { picovisor_raw_zero(to, bytes) };
    outcome.stopped(bytes)
}

/// Atomically loads an aligned word of guest memory.
///
/// # Safety
/// `from` is an aligned address in guest memory (mapped or not).
pub(crate) unsafe fn load(from: *const u32) -> Result<u32, Stopped> {
    // SAFETY: the caller vouches for the address; an aligned load of four bytes is atomic.
    let outcome = unsafe { picovisor_raw_load(from) };
    outcome.word()
}

/// Atomically replaces an aligned word of guest memory if it holds `current`; returns what it held.
///
/// # Safety
/// `at` is an aligned address in guest memory (mapped or not).
pub(crate) unsafe fn compare_exchange(at: *mut u32, current: u32, new: u32) -> Result<u32, Stopped> {
    // SAFETY: the caller vouches for the address.
    let outcome = unsafe { picovisor_raw_compare_exchange(at, current, new) };
    outcome.word()
}

impl Outcome {
    fn stopped(self, bytes: usize) -> Result<(), Stopped> {
        if self.signal == 0 {
            return Ok(());
        }
        let left = usize::try_from(self.value).unwrap_or(bytes);
        Err(Stopped { done: bytes.saturating_sub(left) })
    }

    fn word(self) -> Result<u32, Stopped> {
        if self.signal != 0 {
            return Err(Stopped { done: 0 });
        }
        #[expect(clippy::cast_possible_truncation, reason = "the routine loads 32 bits")]
        Ok(self.value as u32)
    }
}

/// The handlers that were there before ours: SIGSEGV's and SIGBUS's.
static PREVIOUS: OnceLock<[libc::sigaction; 2]> = OnceLock::new();

/// Installs the recovery handler, once a process.
pub(crate) fn install_recovery() {
    PREVIOUS.get_or_init(|| [install(libc::SIGSEGV), install(libc::SIGBUS)]);
}

fn install(signal: c_int) -> libc::sigaction {
    // SAFETY: all-zero is a valid sigaction (SIG_DFL, empty mask, no flags).
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
    action.sa_sigaction = handler as libc::sighandler_t;
    // On the alternate stack, as the standard library's handler for stack overflows, which may be the previous one.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: all-zero is a valid sigaction.
    let mut previous: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: both structs live on this stack frame; the handler is async-signal-safe.
    let result = unsafe { libc::sigaction(signal, &raw const action, &raw mut previous) };
    assert_eq!(result, 0, "sigaction refuses only bad signal numbers and pointers");
    previous
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let machine = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel passes a valid ucontext to an SA_SIGINFO handler, ours alone until we return.
    let registers = unsafe { &mut (*machine).uc_mcontext.gregs };
    let rip = registers[libc::REG_RIP as usize].cast_unsigned();
    let (start, end) = (&raw const picovisor_raw_start, &raw const picovisor_raw_end);
    if (start.addr() as u64..end.addr() as u64).contains(&rip) {
        registers[libc::REG_RIP as usize] = ((&raw const picovisor_raw_recover).addr() as u64).cast_signed();
        registers[libc::REG_RDX as usize] = i64::from(signal);
        return;
    }
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let known = unsafe { &*info };
    // SAFETY: the bytes are there whatever the code is; they are an address if it is positive.
    let address = unsafe { known.si_addr() };
    crash::end(Fault { signal, code: known.si_code, address: address.addr() as u64, rip });
    forward(signal, info, context);
}

/// Hands a fault that is not ours to the handler that was there before.
fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.get().map(|both| both[usize::from(signal == libc::SIGBUS)]);
    match previous {
        Some(action) if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN => {
            // SAFETY: neither SIG_DFL nor SIG_IGN, so it is a function; extra arguments to a plain handler are ignored
            // by the C calling convention.
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(action.sa_sigaction) };
            handler(signal, info, context);
        }
        _ => {
            // Back to the default action: the instruction runs again and the process dies as it should.
            // SAFETY: SIG_DFL is always accepted.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Bytes of a slice as the copy routines take them.
pub(crate) fn buffer(to: &mut [u8]) -> *mut u8 {
    if to.is_empty() { ptr::null_mut() } else { to.as_mut_ptr() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapped_memory_is_an_error_with_progress() {
        install_recovery();
        // SAFETY: a fresh anonymous mapping.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                8192,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        let base = base.cast::<u8>();
        // SAFETY: the second page of our own mapping.
        let second = unsafe { base.add(4096) };
        // SAFETY: nothing refers to that page.
        assert_eq!(unsafe { libc::mprotect(second.cast(), 4096, libc::PROT_NONE) }, 0);
        let bytes = [7u8; 300];
        // SAFETY: inside our own mapping.
        let at = unsafe { base.add(4000) };
        // SAFETY: raw memory on one side, a live buffer on the other.
        assert_eq!(unsafe { copy(at, bytes.as_ptr(), 300) }, Err(Stopped { done: 96 }));
        // SAFETY: raw memory.
        assert_eq!(unsafe { zero(at, 97) }, Err(Stopped { done: 96 }));
        // SAFETY: raw memory.
        assert_eq!(unsafe { load(second.cast()) }, Err(Stopped { done: 0 }));
        // SAFETY: raw memory.
        assert_eq!(unsafe { compare_exchange(second.cast(), 0, 1) }, Err(Stopped { done: 0 }));
        // SAFETY: raw memory.
        assert_eq!(unsafe { compare_exchange(base.cast(), 0, 9) }, Ok(0));
        // SAFETY: raw memory.
        assert_eq!(unsafe { load(base.cast()) }, Ok(9));
        // SAFETY: the mapping made above; nothing refers to it any more.
        assert_eq!(unsafe { libc::munmap(base.cast(), 8192) }, 0);
    }
}
