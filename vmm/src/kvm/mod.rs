//! KVM: the machine, its virtual CPUs, and the host threads that run them.
//!
//! KVM's types and its ioctls are named in this folder only. A virtual CPU belongs to the thread that made it.
//!
//! - [`vm`]: the machine: memory slots, and keeping virtual CPUs out of an address space while it is edited.
//! - [`supervisor`]: the pages that make the trap image run: tables, descriptors, interrupt stacks.
//! - [`setup`], [`cpuid`], [`probe`]: what a virtual CPU is given once, and how SYSCALL is found to trap.
//! - [`vcpu`], [`exit`], [`judge`], [`state`], [`xsave`]: one entry after another, and what came of each.
//! - [`door`], [`attention`]: kicks.
//! - [`workers`], [`mailbox`], [`turns`]: host threads with a virtual CPU each, and threads that share the last few.
//!
//! Lock order: the workers' pool, then a mailbox; a space's own locks, then the machine's doors, its gate, a door. None
//! is held while a guest runs.
//!
//! # Measured
//! On kvm-pvm (two AMD virtual CPUs, Linux 6.18, both busy with other work all the while, so the best of 200 batches):
//! SYSCALL to the provider and back 28 µs with no ioctl but KVM_RUN; a process of one call on a parked virtual CPU 75 µs;
//! opening KVM with machine, first virtual CPU and probe 0.7 ms. Of these the CPUID instructions of the start are a
//! quarter of a millisecond less since only what programs look at is asked for.
//! Going back from an exception by `iretq` in the trap image is no slower than KVM_GET_SREGS and KVM_SET_SREGS to ring 3.
//!
//! An exception costs 11 to 17 µs more than a SYSCALL there (median; 4 to 10 at the least). One payload, interleaved, 300
//! batches of 16, on busy processors; medians on an idle machine were no lower. The figures hold the scripted
//! personality's work and the jump back from its handler. The counts are the
//! tracepoints kvm_userspace_exit and kvm_emulate_insn; each trap is one KVM_RUN.
//!
//! | trap | least | median | interpreted, in order |
//! |---|---|---|---|
//! | SYSCALL | 27.3 µs | 28.7 µs | `out` |
//! | #DE | 31.3 µs | 40 µs | `out`, `iretq` |
//! | #PF | 34.1 µs | 43 µs | `push rax`, `mov rax, cr2`, `out`, `iretq` |
//! | #UD | 36.8 µs | 46 µs | `out`, `iretq` |
//!
//! The tracepoint reports each `iretq` twice, once as failed; it is carried out all the same.
//! Why the medians of exceptions lie further from the least than SYSCALL's, and why #UD is dearest, was not found out.
//!
//! # Probed
//! - *SYSCALL on kvm-pvm stays in ring 3, but not always*: where RSP is not canonical KVM's interpreter executes it, and it
//!   arrives in ring 0. A monitor that resumed the program by RIP there would run it in ring 0. CR4.SMEP is honoured by
//!   the interpreter, so the fetch from the system-call page, which ring 3 may execute, faults instead; the
//!   fault's frame says what happened. (`judge`)
//! - *Per-virtual-CPU top-level pages on kvm-pvm*: work; threads of one address space on 40 virtual CPUs, each with its own
//!   root and supervisor slot, see the same user half (`threads_keep_their_state_on_virtual_cpus_of_their_own`).
//! - *SYSCALL with TF set*: no trap inside the trap code on any flavour, one behind the instruction that follows the
//!   SYSCALL; the same with `mov ss` in front. (A #DB in the stub's first instruction, which a hardware breakpoint could
//!   cause, is taken for the SYSCALL it followed; ring 3 has no means to set one, so that path has no test.)
//! - *An `out` left pending*: setting another RIP makes KVM drop its step over the instruction (`complete_fast_pio_out`
//!   compares), so no extra KVM_RUN drains it. A program's own `in` on kvm-pvm does need one.
//! - *KVM_SET_XSAVE*: since Linux 6.2 MXCSR is loaded only with SSE's bit in XSTATE_BV; a worker's next thread would keep
//!   the last one's exception masks.
//! - *Tile state*: could not be tried on this processor, which has no AMX. CPUID hides it, and a virtual CPU never serves
//!   two sandboxes; whether tiles survive from one process of a sandbox to the next is open.
//! - kvm_amd 6.1 and 6.12, with nested and with shadow paging, one and two CPUs, behave alike in all tests of
//!   `tests/traps.rs` and `tests/threads.rs`.

mod attention;
mod cpuid;
mod door;
mod exit;
mod judge;
mod mailbox;
mod probe;
mod registers;
mod report;
mod setup;
mod state;
mod supervisor;
mod turns;
mod vcpu;
mod vm;
mod workers;
mod xsave;

pub(crate) use attention::Attention;
pub use report::{Capability, HostReport, PagingFlavour, Refusal, TrapMethod};
pub(crate) use workers::Workers;
pub use workers::check;
