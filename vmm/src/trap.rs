//! What a virtual CPU reports when a pico thread leaves user mode: an owned [`Trap`] and the [`Registers`] at that moment.

use crate::addr::UserAddr;
pub(crate) use crate::kvm::Attention;
use crate::memory::AddressSpace;
use crate::pico::CpuState;
use std::sync::Arc;
use thiserror::Error;

/// Why a pico thread left user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The SYSCALL instruction: number in `rax`, arguments in `rdi, rsi, rdx, r10, r8, r9`; `rip` is behind it.
    Syscall,
    /// A processor exception; `rip` is where the processor says (at the instruction for faults, behind it for traps).
    Exception(Exception),
    /// Another thread asked for attention; `rip` is anywhere in the program.
    Kicked,
}

/// A processor exception raised by user-mode code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Which exception.
    pub vector: Vector,
    /// The error code, or 0 for a vector that has none.
    pub error: u32,
    /// CR2 for [`Vector::PAGE_FAULT`], otherwise 0.
    pub address: UserAddr,
}

/// An exception vector number (Intel SDM volume 3, table 6-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector(pub u8);

impl Vector {
    /// #DE
    pub const DIVIDE_ERROR: Self = Self(0);
    /// #DB
    pub const DEBUG: Self = Self(1);
    /// #BP
    pub const BREAKPOINT: Self = Self(3);
    /// #OF
    pub const OVERFLOW: Self = Self(4);
    /// #UD
    pub const INVALID_OPCODE: Self = Self(6);
    /// #DF
    pub const DOUBLE_FAULT: Self = Self(8);
    /// `int 0x80`, the system-call gate of 32-bit programs; `rip` is behind it.
    pub const LEGACY_SYSCALL: Self = Self(0x80);
    /// #SS
    pub const STACK_FAULT: Self = Self(12);
    /// #GP
    pub const GENERAL_PROTECTION: Self = Self(13);
    /// #PF
    pub const PAGE_FAULT: Self = Self(14);
    /// #MF
    pub const X87_ERROR: Self = Self(16);
    /// #AC
    pub const ALIGNMENT_CHECK: Self = Self(17);
    /// #MC
    pub const MACHINE_CHECK: Self = Self(18);
    /// #XM
    pub const SIMD_ERROR: Self = Self(19);
}

/// Bits of a page fault's error code. Hints only on kvm-pvm: a fault is judged by the memory map, not by these.
pub mod fault_code {
    /// The page was present: a protection violation.
    pub const PRESENT: u32 = 1;
    /// The access was a store.
    pub const WRITE: u32 = 2;
    /// The access came from ring 3.
    pub const USER: u32 = 4;
    /// The access was an instruction fetch.
    pub const FETCH: u32 = 16;
    /// A protection key forbade the access.
    pub const PROTECTION_KEY: u32 = 32;
}

/// The general registers of a pico thread, with the bases of FS and GS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the processor's")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// The RFLAGS bits a program may set: CF PF AF ZF SF TF DF OF NT RF AC ID.
pub const USER_RFLAGS: u64 = 0x25_4dd5;
/// The RFLAGS bits that are always set in user mode: bit 1 and IF.
pub const FIXED_RFLAGS: u64 = 0x202;

/// A thread's debug registers: where it traps, and on what (SDM volume 3, 19.2). The default traps nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugRegisters {
    /// DR0 to DR3.
    pub addresses: [u64; 4],
    /// The local enable bits of DR7, and what each of the four is about; every other bit is dropped.
    pub control: u64,
}

/// All the state of a thread that is not on a virtual CPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThreadState {
    pub(crate) registers: Registers,
    pub(crate) fs_base: u64,
    pub(crate) gs_base: u64,
    /// Extended state in the standard XSAVE format; `None`: the state after reset.
    pub(crate) xsave: Option<Box<[u8]>>,
    pub(crate) debug: DebugRegisters,
    /// What DR6 had gathered when the thread left its virtual CPU, if it uses debug registers.
    pub(crate) debug_status: u64,
}

/// How a virtual CPU goes back to user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// From a SYSCALL, with the trapped registers but `rax`.
    Return,
    /// With every register.
    Full,
}

/// A place where user-mode code runs: a virtual CPU, owned by the calling thread or borrowed for each entry.
pub(crate) trait UserMode: CpuState {
    /// Loads a thread's state, all of it.
    fn load(&mut self, state: &ThreadState);
    /// Takes the state of the thread that runs here; its `registers` are not filled in.
    fn save(&mut self) -> ThreadState;
    /// Enters user mode in `space` and returns when the thread leaves it. `registers` go in and come out.
    fn run(
        &mut self,
        space: &Arc<AddressSpace>,
        resume: Resume,
        registers: &mut Registers,
        attention: &Attention,
    ) -> Result<Trap, RunError>;
    /// This processor as its provider sees it.
    fn state(&mut self) -> &mut dyn CpuState;
}

/// Why a thread cannot run on.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub(crate) struct RunError(pub(crate) String);
