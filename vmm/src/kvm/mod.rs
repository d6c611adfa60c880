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
//! On kvm-pvm (two AMD virtual CPUs, Linux 6.18), CPU time, the least of several loops of 10,000: the machine was busy all
//! the while, which hardly moves these and doubles any wall time. Each trap is one KVM_RUN and no other ioctl.
//!
//! | trap | µs | interpreted, in order |
//! |---|---|---|
//! | `out` in ring 0, which is never left: KVM_RUN alone | 8 | `out` |
//! | `out` in ring 3 | 27 | `out` |
//! | SYSCALL | 28 | `out` |
//! | #UD | 37 | `out`, `iretq` |
//! | #UD, back by KVM_GET_SREGS and KVM_SET_SREGS | 46 | `out` |
//! | #UD, back by SREGS in KVM's page | 38 | `out` |
//!
//! A monitor of a hundred lines with nothing in it but these instructions needs the same, so 28 µs are this KVM's and not
//! ours. An exit that KVM settles by itself takes 2 µs (`smsw`), so what is dear is neither the switch to ring 3 nor SYSCALL
//! but loading and putting a native guest once in each KVM_RUN. A quarter of all samples lie in the write to CR4 at the end of
//! it, which the hypervisor below intercepts; another tenth in a read of an MSR at its start. Nothing in the guest's CR4, in
//! its selectors, in where the system-call page lies, or in the interrupt controller changes that. An exception adds 9 µs:
//! KVM pushes the frame by walking the guest's tables, and interprets two instructions. The tracepoint kvm_emulate_insn
//! reports `iretq` twice, once as failed: kvm-pvm carries it out by itself after the common interpreter has refused.
//! What remains is to trap less often.
//!
//! A CPUID instruction takes 4 µs inside and outside alike. A first touch of a page of file text costs 4 to 5 µs each, because
//! KVM's prefetch of neighbours asks for writable pages; of private memory it fetches eight at once.
//!
//! A start (static hello) takes 4.1 ms of CPU time with everything and the native program 0.35. Of KVM: making the machine
//! 0.15, a virtual CPU 0.04, each memory slot 0.04, the end 0.16.
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
//! - *Tile state*: this processor has no AMX, so the test (`tiles_of_one_process_do_not_reach_the_next`) has met only #UD, here
//!   and emulated. CPUID hides it. Where tiles work all the same, loading a thread takes them away: KVM_SET_XSAVE
//!   puts each component that the area's header does not name to its initial state, and ours never names them. So tiles
//!   do not reach another thread; nor do they survive a thread's own change of virtual CPU, which nobody is promised.
//! - *A virtual CPU on another thread than its last* (`a_virtual_cpu_runs_on_whatever_thread`): works everywhere. On
//!   Linux 6.18 with kvm-pvm it costs nothing (11.6 µs for 11.6); on 6.1 and 6.12 each change waits for an RCU grace period,
//!   which took 8 to 50 ms in the emulated machine, where an entry on the same thread takes 30 µs. Hence the rule that one
//!   never changes its thread. (`workers`)
//! - *A second virtual CPU* (`a_new_virtual_cpu_sees_what_the_others_see`): its first entry takes 51 to 72 µs on kvm-pvm and
//!   later ones 11.6; emulated, 340 for 34. It sees what has been stored, and after a change of an entry behind
//!   KVM's back what the others see: the new entry with nested paging, the old one on kvm-pvm, since shadow pages are the
//!   machine's. So a new virtual CPU is no way around a flush. (`coherence`)
//! - *MADV_POPULATE on a truncated mapping* fails with EFAULT, reading and writing, and raises no signal: it tells the pages
//!   that a file no longer has (`reclaim`).
//! - *The page map* costs 12 to 18 ms for a GiB of which every other page is there, `mincore` 4 ms at the most (`committed`).
//! - *Interrupt controllers* bring asynchronous page faults, which never end for a page that the host lacks, unless halts are
//!   not intercepted (`workers`).
//! - *Pages of top-level slot 511 for ring 3* can be executed, read and written on kvm-pvm and with nested paging alike. On
//!   kvm-pvm a SYSCALL into one and back takes 1.0 µs on one machine and 5.4 on another, without leaving the guest. (`fast`)
//! - *Another CPU* has to be asked for: with `sched_vcpu_pack`, as one host's kernel was started, a new or woken thread
//!   stayed on its waker's CPU in 160 of 200 tries though the other was idle, for a millisecond. (`apart`, `attendant`)
//! - *A slot that is added* while another thread makes or runs a virtual CPU waits for it, 0.5 to 2.5 ms. (`vm`)
//! - *Shadow pages* are limited by the memory slots there are, unless KVM_SET_NR_MMU_PAGES says otherwise (`vm`).
//! - kvm_amd 6.1 and 6.12, with nested and with shadow paging, one and two CPUs, behave alike in all tests of
//!   `tests/traps.rs` and `tests/threads.rs`.

mod apart;
mod attendant;
mod attention;
mod calls;
mod cpuid;
mod door;
mod exit;
mod fast;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod judge;
mod mailbox;
mod opening;
mod post;
mod probe;
mod registers;
mod report;
mod requests;
mod setup;
mod state;
mod supervisor;
mod turns;
mod vcpu;
mod vm;
mod workers;
mod xsave;

pub use attendant::Posting;
pub(crate) use attention::Attention;
pub use calls::{Calls, PostedCall, Way};
pub(crate) use calls::{ServeCalls, Served};
pub(crate) use opening::Opening;
pub use opening::check;
pub use report::{Capability, HostReport, PagingFlavour, Refusal, TrapMethod};
pub use requests::KVM_REQUESTS;
pub(crate) use workers::Workers;
