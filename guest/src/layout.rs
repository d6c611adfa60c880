//! Where the supervisor pages of a virtual machine lie, and the ports by which its trap code leaves the guest.
//!
//! All of it is in the last top-level slot (511), which no program can map or unmap. The trap code and the descriptor
//! tables are one set for the machine; the task-state segment and the stacks belong to one virtual CPU each, at the
//! same addresses.

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// Where the trap image is linked and mapped. Any page in the kernel code model's range would do; it is none that a
/// kernel has something at, which is where programs look when they want a fault in the supervisor half.
pub const IMAGE_BASE: u64 = 0xffff_ffff_9d5c_3000;
/// The page SYSCALL enters where it arrives in ring 0.
pub const SYSCALL_PAGE: u64 = IMAGE_BASE;
/// The page of the exception stubs and the ways back.
pub const TRAP_PAGE: u64 = IMAGE_BASE + PAGE;
/// The page of the code that finds out how SYSCALL behaves. It is mapped in the user half, and only for the probe.
pub const PROBE_PAGE: u64 = IMAGE_BASE + 2 * PAGE;
/// The page of the fast path, by which calls are made without a trap where they can be. User mode executes it, and may
/// therefore read it: x86 has no execute-only pages without protection keys, which guests of kvm-pvm don't have. It holds
/// code that is the same everywhere and no secret; but on Linux an access to its address faults.
pub const FAST_PAGE: u64 = IMAGE_BASE + 3 * PAGE;
/// Pages in the image.
pub const IMAGE_PAGES: u64 = 4;
/// The interrupt descriptor table, a page.
pub const IDT: u64 = IMAGE_BASE + 4 * PAGE;
/// The global descriptor table.
pub const GDT: u64 = IMAGE_BASE + 5 * PAGE;
/// The virtual CPU's task-state segment.
pub const TSS: u64 = IMAGE_BASE + 6 * PAGE;
/// The virtual CPU's interrupt stacks.
pub const STACKS: u64 = IMAGE_BASE + 7 * PAGE;
/// How the running thread's calls are made: a word for each number below [`CALLS`], and the switches of the virtual CPU
/// behind them. User mode reads it.
pub const ANSWERS_PAGE: u64 = IMAGE_BASE + 8 * PAGE;
/// What the fast path works with. User mode reads and writes it, so nothing in it is relied upon.
pub const CALL_PAGE: u64 = IMAGE_BASE + 9 * PAGE;
/// Counts of threads that wait for words of user memory, one set for the machine. User mode reads it.
pub const WAITERS_PAGE: u64 = IMAGE_BASE + 10 * PAGE;
/// One past the last supervisor page.
pub const END: u64 = IMAGE_BASE + 11 * PAGE;

/// Where a call enters that a program makes without SYSCALL. RAX is its number, RCX where it goes on; all else is as for
/// SYSCALL. RCX and R11 are lost.
pub const FAST_ENTRY: u64 = FAST_PAGE;
/// Where SYSCALL enters on kvm-pvm, where it does not leave ring 3: RFLAGS is in R11.
pub const FAST_SYSCALL: u64 = FAST_PAGE + 0x20;
/// One past the instructions that run before [`FAST_SYSCALL`] has put RFLAGS on the fast path's stack.
pub const FAST_SYSCALL_END: u64 = FAST_PAGE + 0x3b;
/// From here on a call has been answered: RAX holds the result.
pub const FAST_ANSWERED: u64 = FAST_PAGE + 0x80;
/// One past the instructions that run then.
pub const FAST_ANSWERED_END: u64 = FAST_PAGE + 0xa0;
/// Where a call gives up and traps. The instruction is an `out` on kvm-pvm, a SYSCALL elsewhere.
pub const FAST_TRAPS: [u64; 2] = [FAST_PAGE + 0x180, FAST_PAGE + 0x190];
/// What that SYSCALL leaves in RCX.
pub const FAST_AFTER_SYSCALL: u64 = FAST_TRAPS[1] + 2;

/// From here on a change of the mask has used RCX: it lies in [`call::RETURN`].
pub const FAST_MASK: u64 = FAST_PAGE + 0x1c0;
/// The instruction that sets the mask, to R11: what was the mask has been stored where the program wants it.
pub const FAST_MASK_SET: u64 = FAST_PAGE + 0x220;
/// One past the instructions that run then.
pub const FAST_MASK_END: u64 = FAST_PAGE + 0x260;

/// Numbers of system calls that have a word in the answers page.
pub const CALLS: usize = 480;
/// A call's word that says that it traps. Any word with bit 63 set does that is none of those below.
pub const CALL_TRAPS: u64 = u64::MAX;
/// A call's word that says that it may be posted.
pub const CALL_IS_POSTED: u64 = u64::MAX - 1;
/// A call's word that says that the guest itself changes the thread's mask, [`call::MASK`], as rt_sigprocmask(2) does.
pub const CALL_IS_MASK: u64 = u64::MAX - 2;

/// A call's word that says that the guest itself answers FUTEX_WAKE, futex(2), of a private word for which nobody waits; any other of
/// these calls may be posted.
pub const CALL_IS_WAKE: u64 = u64::MAX - 3;
/// As above, but any other traps.
pub const CALL_IS_WAKE_OR_TRAPS: u64 = u64::MAX - 4;

/// Counts in the page of waiters (32 bits each). That of a word is found so: the low half of its address by 4, XOR the space's salt, times
/// [`WAITERS_FACTOR`] modulo 2^32, right by [`WAITERS_SHIFT`].
pub const WAITERS: usize = 1024;
const _: () = assert!(WAITERS as u64 * 4 == PAGE);
/// 2^32 by the golden ratio: words beside each other have counts far apart.
pub const WAITERS_FACTOR: u32 = 0x9e37_79b1;
/// What is left of the product has as many bits as the number of a count.
pub const WAITERS_SHIFT: u32 = 32 - WAITERS.ilog2();

/// The bits that a mask may have: all but those of Linux's signals 9 and 19, which cannot be blocked.
pub const MASKABLE: u64 = !(1 << (9 - 1) | 1 << (19 - 1));

/// Rounds after which a thread no longer waits for a call that somebody has taken.
pub const ROUNDS: u32 = 8;

/// Offsets in the answers page, behind the words of the calls.
pub mod answers {
    /// Not zero while somebody looks for posted calls (32 bits).
    pub const ATTENDED: u64 = 480 * 8;
    /// Which of [`FAST_TRAPS`](super::FAST_TRAPS) this virtual CPU uses.
    pub const TRAP: u64 = ATTENDED + 8;
    /// How often a thread looks for its answer in a round (32 bits).
    pub const SPINS: u64 = ATTENDED + 16;
    /// The host's processor that the virtual CPU was on as it was last entered (32 bits).
    pub const PROCESSOR: u64 = ATTENDED + 24;
    /// The salt of the thread's space, by which it finds [counts of waiters](super::WAITERS) (32 bits).
    pub const SALT: u64 = ATTENDED + 32;
}
const _: () = assert!(answers::ATTENDED == CALLS as u64 * 8);

/// Offsets in the call page.
pub mod call {
    /// Where the posted call is: one of the states below (32 bits).
    pub const STATE: u64 = 0;
    /// RAX of the posted call.
    pub const NUMBER: u64 = 0x08;
    /// RDI, RSI, RDX, R10, R8 and R9 of the posted call.
    pub const ARGUMENTS: u64 = 0x10;
    /// What the call returned.
    pub const RESULT: u64 = 0x40;
    /// Where the thread goes on after the call.
    pub const RETURN: u64 = 0x48;
    /// The program's RSP while [`STACK`] is in its place.
    pub const RSP: u64 = 0x80;
    /// How often the thread looks once more for an answer (32 bits).
    pub const ROUNDS: u64 = 0x88;
    /// How many calls were answered in the guest.
    pub const ANSWERED: u64 = 0x90;
    /// Calls by SYSCALL until one traps that might be made without (8 bits): one in 256 does.
    pub const SAMPLE: u64 = 0x98;
    /// What the thread keeps from interrupting it: the signals that it blocks, as a set of Linux's.
    pub const MASK: u64 = 0xa0;
    /// Where RFLAGS lie on the fast path's stack.
    pub const RFLAGS: u64 = STACK - 8;
    /// The end of the fast path's stack, which holds one word: a program's own may have none to spare.
    pub const STACK: u64 = 0xc0;

    /// No call is posted.
    pub const FREE: u32 = 0;
    /// A call is posted, and nobody has taken it.
    pub const POSTED: u32 = 1;
    /// Somebody is serving the call.
    pub const CLAIMED: u32 = 2;
    /// The result is there.
    pub const DONE: u32 = 3;
    /// The call has to be made by trap.
    pub const REFUSED: u32 = 4;
    /// The mask was changed while there may be something that it held back.
    pub const CHANGED: u32 = 5;
}

/// Bytes between two exception stubs.
pub const STUB_STRIDE: u64 = 16;
/// Exception vectors that have a stub: 0 to 31; after them comes the stub of [`LEGACY_VECTOR`].
pub const VECTORS: u8 = 32;
/// `int 0x80`.
pub const LEGACY_VECTOR: u8 = 0x80;

/// The port of a system call. The I/O bitmap opens exactly this one to ring 3 on kvm-pvm.
pub const SYSCALL_PORT: u8 = 0x10;
/// The port of exception vector 0; vector n has this plus n, and `int 0x80` follows vector 31.
pub const VECTOR_PORT: u8 = 0x20;

/// The instruction that goes back from a system call: RIP from RCX, RFLAGS from R11 (hardware virtualization only).
pub const SYSRET: u64 = SYSCALL_PAGE + 0x10;
/// The instruction that goes back with a frame from the stack.
pub const IRET: u64 = TRAP_PAGE + 0x400;
/// As [`IRET`], after loading RAX into CR3 and the real RAX from the top of the stack.
pub const SWITCH_IRET: u64 = TRAP_PAGE + 0x410;

/// The selector of ring-0 code.
pub const KERNEL_CODE: u16 = 0x08;
/// The selector of ring-0 data; SYSCALL wants it behind the code.
pub const KERNEL_DATA: u16 = 0x10;
/// The selector of ring-3 data. SYSRET wants it in front of the code; as on Linux, whose programs see 0x2b and 0x33.
pub const USER_DATA: u16 = 0x2b;
/// The selector of ring-3 code.
pub const USER_CODE: u16 = 0x33;
/// The selector of the task-state segment (two entries).
pub const TASK: u16 = 0x40;
/// What STAR's upper half says: SYSRET's code is this plus 16, its stack segment this plus 8.
pub const SYSRET_BASE: u16 = 0x23;
