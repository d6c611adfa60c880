//! Trap frames and thread contexts on their way across the C ABI.

use super::abi::{self, Frame, Status, ThreadContext, part, status};
use crate::addr::USER_END;
use crate::pico::{CpuState, Thread, TrapFrame};
use crate::trap::{DebugRegisters, Registers};

/// The processor behind a frame: what the `cpu` of a [`Frame`] points to while a callback runs.
pub(super) struct Cpu<'a>(&'a mut dyn CpuState);

/// Shows a trap frame to foreign code, and takes what it did to the registers if `keep` says so of the answer.
pub(super) fn show(
    frame: &mut TrapFrame<'_>,
    callback: impl FnOnce(*mut Frame) -> i32,
    keep: impl FnOnce(i32) -> bool,
) -> i32 {
    let mut cpu = Cpu(frame.cpu);
    let size = abi::size_of_u64::<Frame>();
    let mut shown = Frame { size, registers: frame.registers.into(), cpu: (&raw mut cpu).cast() };
    let answer = callback(&raw mut shown);
    if keep(answer) {
        frame.registers = shown.registers.into();
    }
    answer
}

/// Finds the processor behind a frame.
///
/// # Safety
/// `frame` is null or the pointer that a callback was given, the callback has not returned, and this is its thread.
unsafe fn cpu<'a>(frame: *mut Frame) -> Option<&'a mut dyn CpuState> {
    // SAFETY: null, or a live frame, as the caller says.
    let frame = unsafe { frame.as_ref() }?;
    // SAFETY: `show` put it there, and it lives until the callback returns; nothing else uses it meanwhile.
    let cpu = unsafe { frame.cpu.cast::<Cpu<'a>>().as_mut() }?;
    Some(cpu.0)
}

/// Tells whether the processor takes `base` as a base address, in the user half.
fn is_base(base: u64) -> bool {
    base < 1 << 47
}

/// `SetThreadDescriptorBase`.
///
/// # Safety
/// As for [`cpu`].
pub(super) unsafe extern "C" fn set_base(frame: *mut Frame, which: u32, base: u64) -> Status {
    // SAFETY: passed on to the caller.
    let Some(cpu) = (unsafe { cpu(frame) }) else { return status::INVALID };
    let (fs, gs) = cpu.segment_bases();
    match which {
        0 if is_base(base) => cpu.set_segment_bases(base, gs),
        1 if is_base(base) => cpu.set_segment_bases(fs, base),
        _ => return status::INVALID,
    }
    status::OK
}

/// `GetFrameContext`.
///
/// # Safety
/// As for [`cpu`]; `context` is null or a `PicoThreadContext` as the header has it.
pub(super) unsafe extern "C" fn get_frame(frame: *mut Frame, context: *mut ThreadContext) -> Status {
    // SAFETY: passed on to the caller.
    let Some(cpu) = (unsafe { cpu(frame) }) else { return status::INVALID };
    // SAFETY: passed on to the caller.
    let Ok(mut wanted) = (unsafe { super::tables::read(context) }) else { return status::TOO_SMALL };
    if wanted.parts & !(part::REGISTERS | part::BASES | part::EXTENDED) != 0 {
        return status::INVALID;
    }
    if wanted.parts & part::REGISTERS != 0 {
        // SAFETY: it was found above, so it is not null.
        wanted.registers = unsafe { (*frame).registers };
    }
    if wanted.parts & part::BASES != 0 {
        (wanted.fs_base, wanted.gs_base) = cpu.segment_bases();
    }
    if wanted.parts & part::EXTENDED != 0 {
        let bytes = cpu.xsave_size();
        if wanted.extended.is_null() || wanted.extended_size < bytes as u64 {
            return status::TOO_SMALL;
        }
        let mut area = vec![0; bytes];
        cpu.save_xsave(&mut area);
        // SAFETY: the provider says that so many bytes are there, and the area is ours.
        unsafe { wanted.extended.copy_from_nonoverlapping(area.as_ptr(), bytes) };
        wanted.extended_size = bytes as u64;
    }
    // SAFETY: it was read from there, so it is aligned and has at least the bytes of a context of this version.
    unsafe { context.write(wanted) };
    status::OK
}

/// `SetFrameContext`.
///
/// # Safety
/// As for [`get_frame`].
pub(super) unsafe extern "C" fn set_frame(frame: *mut Frame, context: *const ThreadContext) -> Status {
    // SAFETY: passed on to the caller.
    let Some(cpu) = (unsafe { cpu(frame) }) else { return status::INVALID };
    // SAFETY: passed on to the caller.
    let Ok(wanted) = (unsafe { super::tables::read(context) }) else { return status::TOO_SMALL };
    if let Err(status) = check(&wanted, part::REGISTERS | part::BASES | part::EXTENDED | part::DEBUG) {
        return status;
    }
    let bytes = cpu.xsave_size();
    if wanted.parts & part::EXTENDED != 0 {
        if wanted.extended.is_null() || wanted.extended_size < bytes as u64 {
            return status::TOO_SMALL;
        }
        let mut area = vec![0; bytes];
        // SAFETY: the provider says that so many bytes are there, and the area is ours.
        unsafe { area.as_mut_ptr().copy_from_nonoverlapping(wanted.extended, bytes) };
        cpu.load_xsave(&area);
    }
    if wanted.parts & part::REGISTERS != 0 {
        // SAFETY: it was found above, so it is not null.
        unsafe { (*frame).registers = wanted.registers };
    }
    if wanted.parts & part::BASES != 0 {
        cpu.set_segment_bases(wanted.fs_base, wanted.gs_base);
    }
    if wanted.parts & part::DEBUG != 0 {
        cpu.set_debug_registers(&DebugRegisters { addresses: wanted.debug_addresses, control: wanted.debug_control });
    }
    status::OK
}

/// Checks a context that is to be loaded: known parts, and addresses in the user half.
fn check(context: &ThreadContext, known: u64) -> Result<(), Status> {
    let has = |part| context.parts & part != 0;
    let bad = context.parts & !known != 0
        || has(part::REGISTERS) && context.registers.rip >= USER_END
        || has(part::BASES) && !(is_base(context.fs_base) && is_base(context.gs_base))
        || has(part::DEBUG) && !context.debug_addresses.iter().copied().all(is_base);
    if bad { Err(status::INVALID) } else { Ok(()) }
}

/// Reads the parts of a stopped thread's state that `wanted` names.
pub(super) fn get_thread(thread: &Thread, wanted: &mut ThreadContext) -> Result<(), Status> {
    if wanted.parts & !(part::REGISTERS | part::BASES) != 0 {
        return Err(status::UNSUPPORTED);
    }
    if wanted.parts & part::REGISTERS != 0 {
        wanted.registers = thread.registers().map_err(|_| status::NOT_STOPPED)?.into();
    }
    if wanted.parts & part::BASES != 0 {
        (wanted.fs_base, wanted.gs_base) = thread.segment_bases().map_err(|_| status::NOT_STOPPED)?;
    }
    Ok(())
}

/// Changes the parts of a stopped thread's state that `wanted` names.
pub(super) fn set_thread(thread: &Thread, wanted: &ThreadContext) -> Result<(), Status> {
    if wanted.parts & (part::EXTENDED | part::DEBUG) != 0 {
        return Err(status::UNSUPPORTED);
    }
    check(wanted, part::REGISTERS | part::BASES)?;
    if wanted.parts & part::REGISTERS != 0 {
        thread.set_registers(Registers::from(wanted.registers)).map_err(|_| status::NOT_STOPPED)?;
    }
    if wanted.parts & part::BASES != 0 {
        thread.set_segment_bases(wanted.fs_base, wanted.gs_base).map_err(|_| status::NOT_STOPPED)?;
    }
    Ok(())
}
