//! Registers as a tracer sees them: `struct user_regs_struct` and its like.

use crate::errno::Errno;
use crate::task::CurrentTask;
use vmm::addr::USER_END;
use vmm::trap::Registers;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The trap flag.
pub(crate) const TF: u64 = 1 << 8;
/// The user code segment of 64-bit programs.
const USER_CS: u64 = 0x33;
/// The user data segment.
const USER_SS: u64 = 0x2b;
/// The RFLAGS bits that a tracer may change (FLAG_MASK): CF PF AF ZF SF TF DF OF NT RF AC.
const SETTABLE_FLAGS: u64 = 0x5_4dd5;
/// Bytes of the legacy part of an XSAVE area: `struct user_fpregs_struct`.
pub(crate) const FXSAVE_BYTES: usize = 512;
/// Where the header's XSTATE_BV lies in an XSAVE area.
const XSTATE_BV: usize = 512;
/// Bits of x87 and SSE there.
const LEGACY_COMPONENTS: u8 = 3;
/// Where the format of NT_X86_XSTATE has the mask of enabled components.
const MASK_AT: usize = 464;
/// Bytes of the legacy area that are the software's.
const SOFTWARE: std::ops::Range<usize> = 464..512;

/// `struct user_regs_struct`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UserRegisters {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Bytes of `struct user_regs_struct`.
pub(crate) const USER_REGISTERS_BYTES: usize = size_of::<UserRegisters>();
const _: () = assert!(USER_REGISTERS_BYTES == 216);

/// All registers of a task that stands still.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// General registers, the segment bases, and what `rax` held when the task asked for a call.
    pub user: UserRegisters,
    /// The XSAVE area.
    pub xsave: Box<[u8]>,
    /// The components that user mode runs with.
    pub components: u64,
    /// Whether debug registers make the processor trap.
    pub traps_at_addresses: bool,
    /// Whether the bases, and the extended state, differ from the processor's.
    changed: (bool, bool),
}

impl Snapshot {
    /// Takes a task's registers. The trap flag is not shown if it is only there because the tracer steps.
    pub(crate) fn take(task: &mut CurrentTask<'_>, stepping: bool) -> Self {
        let mut xsave = vec![0; task.frame.cpu.xsave_size()].into_boxed_slice();
        task.frame.cpu.save_xsave(&mut xsave);
        let components = task.frame.cpu.xcr0();
        let (fs_base, gs_base) = task.frame.cpu.segment_bases();
        let own = task.frame.registers;
        let user = UserRegisters {
            r15: own.r15,
            r14: own.r14,
            r13: own.r13,
            r12: own.r12,
            rbp: own.rbp,
            rbx: own.rbx,
            r11: own.r11,
            r10: own.r10,
            r9: own.r9,
            r8: own.r8,
            rax: own.rax,
            rcx: own.rcx,
            rdx: own.rdx,
            rsi: own.rsi,
            rdi: own.rdi,
            orig_rax: task.original,
            rip: own.rip,
            cs: USER_CS,
            eflags: if stepping { own.rflags & !TF } else { own.rflags },
            rsp: own.rsp,
            ss: USER_SS,
            fs_base,
            gs_base,
            ..UserRegisters::default()
        };
        let traps_at_addresses = task.frame.cpu.traps_at_addresses();
        Self { user, xsave, components, traps_at_addresses, changed: (false, false) }
    }

    /// Loads the registers into the task that they were taken from.
    pub(crate) fn load(&self, task: &mut CurrentTask<'_>) {
        let user = &self.user;
        task.original = user.orig_rax;
        task.frame.registers = Registers {
            rax: user.rax,
            rbx: user.rbx,
            rcx: user.rcx,
            rdx: user.rdx,
            rsi: user.rsi,
            rdi: user.rdi,
            rbp: user.rbp,
            rsp: user.rsp,
            r8: user.r8,
            r9: user.r9,
            r10: user.r10,
            r11: user.r11,
            r12: user.r12,
            r13: user.r13,
            r14: user.r14,
            r15: user.r15,
            rip: user.rip,
            rflags: user.eflags,
        };
        if self.changed.0 {
            task.frame.cpu.set_segment_bases(user.fs_base, user.gs_base);
        }
        if self.changed.1 {
            task.frame.cpu.load_xsave(&self.xsave);
        }
    }

    /// Changes some of the general registers, `bytes` of them from the offset `at` on, which are multiples of 8 (genregs_set).
    pub(crate) fn set_general(&mut self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        for (word, at) in bytes.chunks_exact(8).zip((at..).step_by(8)) {
            let value = u64::from_le_bytes(word.try_into().map_err(|_| Errno::EIO)?);
            self.set_word(at, value)?;
        }
        Ok(())
    }

    /// Changes one general register (putreg).
    fn set_word(&mut self, at: usize, value: u64) -> Result<(), Errno> {
        let mut user = self.user;
        let slot = user.as_mut_bytes().get_mut(at..at + 8).ok_or(Errno::EIO)?;
        slot.copy_from_slice(&value.to_le_bytes());
        let old = self.user;
        // A segment other than those there are could not be loaded; Linux keeps it and the task dies of it.
        let segments = |all: &UserRegisters| (all.cs, all.ss, all.ds, all.es, all.fs, all.gs);
        if segments(&user) != segments(&old) {
            return Err(Errno::EIO);
        }
        if user.fs_base >= USER_END || user.gs_base >= USER_END {
            return Err(Errno::EIO);
        }
        user.eflags = old.eflags & !SETTABLE_FLAGS | user.eflags & SETTABLE_FLAGS;
        self.changed.0 |= (user.fs_base, user.gs_base) != (old.fs_base, old.gs_base);
        self.user = user;
        Ok(())
    }

    /// Replaces the x87 and SSE registers by an FXSAVE image; what it lacks stays.
    pub(crate) fn set_legacy(&mut self, image: &[u8]) {
        let len = image.len().min(SOFTWARE.start).min(self.xsave.len());
        self.xsave[..len].copy_from_slice(&image[..len]);
        if let Some(present) = self.xsave.get_mut(XSTATE_BV) {
            *present |= LEGACY_COMPONENTS;
        }
        self.changed.1 = true;
    }

    /// The extended state as NT_X86_XSTATE has it: the XSAVE area with the enabled components named in it.
    pub(crate) fn extended(&self) -> Vec<u8> {
        let mut area = self.xsave.to_vec();
        if let Some(software) = area.get_mut(SOFTWARE) {
            software.fill(0);
            software[..8].copy_from_slice(&self.components.to_le_bytes());
        }
        const { assert!(MASK_AT == SOFTWARE.start) };
        area
    }

    /// Replaces the extended state; `EFAULT` unless it is whole, `EINVAL` for components or a format that there are not
    /// (xstateregs_set).
    pub(crate) fn set_extended(&mut self, area: &[u8]) -> Result<(), Errno> {
        if area.len() != self.xsave.len() {
            return Err(Errno::EFAULT);
        }
        let header: [u8; 64] =
            area.get(XSTATE_BV..XSTATE_BV + 64).and_then(|header| header.try_into().ok()).unwrap_or([0; 64]);
        let (present, rest) = header.split_at(8);
        let present = u64::from_le_bytes(present.try_into().unwrap_or_default());
        if present & !self.components != 0 || rest.iter().any(|byte| *byte != 0) {
            return Err(Errno::EINVAL);
        }
        self.xsave.copy_from_slice(area);
        self.changed.1 = true;
        Ok(())
    }
}
