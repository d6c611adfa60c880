//! Signal frames: what a handler finds on its stack, and sigreturn (arch/x86/kernel/signal_64.c).

use super::stack::SS_AUTODISARM;
use super::{ActionFlags, AltStack, SIGINFO_SIZE, SigAction, SigInfo, Signal, SignalSet, fpu};
use crate::task::CurrentTask;
use vmm::addr::{USER_END, UserAddr};
use vmm::trap::{Registers, Vector};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The kernel's `struct sigcontext` of 64-bit programs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    vector: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// The kernel's `struct ucontext`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UContext {
    flags: u64,
    link: u64,
    stack: AltStack,
    context: SigContext,
    mask: SignalSet,
}

/// The kernel's `struct rt_sigframe`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RtFrame {
    restorer: u64,
    context: UContext,
    info: [u8; SIGINFO_SIZE],
}

const _: () = {
    assert!(size_of::<SigContext>() == 256);
    assert!(size_of::<UContext>() == 304);
    assert!(size_of::<RtFrame>() == 440);
};

/// Bytes below the stack pointer that belong to a leaf function.
const RED_ZONE: u64 = 128;
/// UC_FP_XSTATE: the floating-point state is an XSAVE area.
const UC_FP_XSTATE: u64 = 1;
/// UC_SIGCONTEXT_SS: `ss` is valid.
const UC_SIGCONTEXT_SS: u64 = 2;
/// UC_STRICT_RESTORE_SS: sigreturn loads `ss` as it is.
const UC_STRICT_RESTORE_SS: u64 = 4;
/// The user code segment of 64-bit programs, as Linux has it.
const USER_CS: u16 = 0x33;
/// The user data segment.
const USER_SS: u16 = 0x2b;
/// The RFLAGS bits that sigreturn takes from the frame: CF PF AF ZF SF TF DF OF RF AC (FIX_EFLAGS).
const RESTORED_RFLAGS: u64 = 0x5_0dd5;
/// DF, RF and TF: clear as a handler starts.
const CLEARED_RFLAGS: u64 = 0x1_0500;

/// The frame cannot be written, or would not fit on the alternate stack.
#[derive(Debug)]
pub(super) struct FrameError;

/// Builds the frame for a handler and lets the thread start it.
pub(super) fn push(task: &mut CurrentTask<'_>, info: &SigInfo, action: &SigAction) -> Result<(), FrameError> {
    if !action.flags().contains(ActionFlags::RESTORER) {
        return Err(FrameError);
    }
    let mm = task.mm();
    let registers = task.frame.registers;
    let blocked = task.signals().blocked();
    let (alt_stack, mask, exception) = {
        let state = task.signals().state();
        (state.alt_stack, state.saved_mask.unwrap_or(blocked), state.last_exception)
    };
    let fpu_size = u64::try_from(fpu::frame_size(task.frame.cpu)).map_err(|_| FrameError)?;
    let place = Place::choose(registers.rsp, &alt_stack, action.flags(), fpu_size).ok_or(FrameError)?;
    let state = fpu::save(task.frame.cpu);
    mm.write(UserAddr(place.fpstate), &state).map_err(|_| FrameError)?;

    let mut frame = RtFrame::new_zeroed();
    frame.restorer = action.restorer;
    frame.context = UContext {
        flags: UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
        link: 0,
        stack: AltStack { padding: 0, ..alt_stack },
        context: SigContext {
            cs: USER_CS,
            ss: USER_SS,
            error: exception.error,
            vector: exception.vector,
            old_mask: mask.0,
            cr2: exception.address,
            fpstate: place.fpstate,
            ..SigContext::of(&registers)
        },
        mask,
    };
    if action.flags().contains(ActionFlags::SIGINFO) {
        frame.info = info.to_bytes();
    }
    mm.write(UserAddr(place.frame), frame.as_bytes()).map_err(|_| FrameError)?;

    if alt_stack.flags & SS_AUTODISARM != 0 {
        task.signals().state().alt_stack = AltStack::default();
    }
    task.frame.cpu.reset_xsave();
    let registers = &mut task.frame.registers;
    registers.rdi = u64::from(info.signal.raw().unsigned_abs());
    registers.rsi = place.frame + offset(std::mem::offset_of!(RtFrame, info));
    registers.rdx = place.frame + offset(std::mem::offset_of!(RtFrame, context));
    registers.rax = 0;
    registers.rip = action.handler;
    registers.rsp = place.frame;
    registers.rflags &= !CLEARED_RFLAGS;
    Ok(())
}

/// Offsets in a frame are a few hundred bytes.
fn offset(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

/// Where a frame goes.
struct Place {
    frame: u64,
    fpstate: u64,
}

impl Place {
    /// Chooses as get_sigframe does; `None` if the frame would leave the alternate stack or the user half.
    fn choose(sp: u64, alt_stack: &AltStack, flags: ActionFlags, fpu_size: u64) -> Option<Self> {
        let nested = alt_stack.holds(sp);
        let mut top = sp.wrapping_sub(RED_ZONE);
        let mut entering = false;
        if flags.contains(ActionFlags::ONSTACK) && alt_stack.state(top) == 0 {
            top = alt_stack.top();
            entering = true;
        }
        let fpstate = top.checked_sub(fpu_size)? & !63;
        // The frame is aligned as after a call: 8 below a multiple of 16.
        let frame = (fpstate.checked_sub(offset(size_of::<RtFrame>()))? & !15).checked_sub(8)?;
        if (nested || entering) && !alt_stack.spans(frame) {
            return None;
        }
        (top <= USER_END).then_some(Self { frame, fpstate })
    }
}

impl SigContext {
    fn of(registers: &Registers) -> Self {
        let mut context = Self::new_zeroed();
        context.r8 = registers.r8;
        context.r9 = registers.r9;
        context.r10 = registers.r10;
        context.r11 = registers.r11;
        context.r12 = registers.r12;
        context.r13 = registers.r13;
        context.r14 = registers.r14;
        context.r15 = registers.r15;
        context.rdi = registers.rdi;
        context.rsi = registers.rsi;
        context.rbp = registers.rbp;
        context.rbx = registers.rbx;
        context.rdx = registers.rdx;
        context.rax = registers.rax;
        context.rcx = registers.rcx;
        context.rsp = registers.rsp;
        context.rip = registers.rip;
        context.rflags = registers.rflags;
        context
    }

    fn registers(&self, rflags: u64) -> Registers {
        Registers {
            rax: self.rax,
            rbx: self.rbx,
            rcx: self.rcx,
            rdx: self.rdx,
            rsi: self.rsi,
            rdi: self.rdi,
            rbp: self.rbp,
            rsp: self.rsp,
            r8: self.r8,
            r9: self.r9,
            r10: self.r10,
            r11: self.r11,
            r12: self.r12,
            r13: self.r13,
            r14: self.r14,
            r15: self.r15,
            rip: self.rip,
            rflags: (rflags & !RESTORED_RFLAGS) | (self.rflags & RESTORED_RFLAGS),
        }
    }

    /// Tells whether IRET would return to this place: our segments, a canonical address. In the supervisor half it is the fetch
    /// there that faults.
    fn can_resume(&self, flags: u64) -> bool {
        let stack = self.ss | 3;
        let stack_ok = stack == USER_SS || flags & UC_STRICT_RESTORE_SS == 0;
        let canonical = ((self.rip << 16).cast_signed() >> 16).cast_unsigned();
        self.cs | 3 == USER_CS && stack_ok && self.rip == canonical
    }
}

/// rt_sigreturn(2): takes the frame at the stack pointer apart. A frame that cannot be is a SIGSEGV; never an error.
pub fn pop(task: &mut CurrentTask<'_>) {
    let at = UserAddr(task.frame.registers.rsp.wrapping_sub(8));
    if restore(task, at).is_none() {
        task.force_signal(SigInfo::kernel(Signal::SIGSEGV));
    }
}

fn restore(task: &mut CurrentTask<'_>, at: UserAddr) -> Option<()> {
    let context_at = at.checked_add(offset(std::mem::offset_of!(RtFrame, context)))?;
    let mut context = UContext::new_zeroed();
    task.mm().read(context_at, context.as_mut_bytes()).ok()?;
    task.set_blocked(context.mask);
    let rflags = task.frame.registers.rflags;
    let saved = context.context;
    task.frame.registers = saved.registers(rflags);
    fpu::restore(task, UserAddr(saved.fpstate)).ok()?;
    // A bad stack in the frame is not an error (restore_altstack ignores all but a fault).
    let sp = task.frame.registers.rsp;
    let _ = task.signals().state().alt_stack.replace(&context.stack, sp);
    if !saved.can_resume(context.flags) {
        // Linux finds out as IRET faults: the registers are the frame's, the signal says nothing about why.
        // The thread never resumes there: the signal is forced, so a handler runs or the process ends.
        task.note_exception(Vector::GENERAL_PROTECTION, 0, None);
        return None;
    }
    Some(())
}
