//! Processor state on its way across the C ABI: of a thread that is stopped, and of one that its provider is serving.

use super::abi::{Frame, Status, ThreadContext, status};
use super::context::borrow;
use super::frame::cpu;
use super::routines::refused;
use super::tables;
use crate::addr::USER_END;
use crate::pico::{self, ContextError, ContextParts, NotStopped, Thread};
use crate::trap::{DebugRegisters, Registers};
use std::ffi::c_void;

/// Tells whether `base` is an address in the user half.
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

/// The parts that a context names, if all of them are known.
fn parts_of(context: &ThreadContext) -> Option<ContextParts> {
    u32::try_from(context.parts).ok().and_then(ContextParts::from_bits)
}

/// Takes the parts of `from` that are there, and leaves the others of `to`.
fn merge(to: &Registers, from: &Registers, parts: ContextParts) -> Registers {
    let (control, rest) =
        (parts.contains(ContextParts::CONTROL), if parts.contains(ContextParts::INTEGER) { from } else { to });
    let control = if control { from } else { to };
    Registers { rip: control.rip, rsp: control.rsp, rflags: control.rflags, ..*rest }
}

/// Gives an XSAVE area to foreign code.
///
/// # Safety
/// `to.extended` is null, or `to.extended_size` bytes can be stored there.
unsafe fn give_area(to: &mut ThreadContext, area: &[u8]) -> Status {
    let room = if to.extended.is_null() { 0 } else { to.extended_size };
    to.extended_size = area.len() as u64;
    if room < area.len() as u64 {
        return status::TOO_SMALL;
    }
    // SAFETY: there is room, as the caller says.
    unsafe { to.extended.copy_from_nonoverlapping(area.as_ptr(), area.len()) };
    status::OK
}

/// Takes an XSAVE area of foreign code's, which has at least `least` bytes, and at most a page.
///
/// # Safety
/// `from.extended` is null, or points to `from.extended_size` bytes.
unsafe fn take_area(from: &ThreadContext, least: usize) -> Option<Box<[u8]>> {
    let size = usize::try_from(from.extended_size).ok().filter(|size| (least..=4096).contains(size))?;
    if from.extended.is_null() {
        return None;
    }
    let mut area = vec![0; size].into_boxed_slice();
    // SAFETY: not null, so there are as many bytes, as the caller says; the area is ours.
    unsafe { area.as_mut_ptr().copy_from_nonoverlapping(from.extended, size) };
    Some(area)
}

/// `GetFrameContext`.
///
/// # Safety
/// As for [`cpu`]; `context` is null or a `PicoThreadContext` as the header has it.
pub(super) unsafe extern "C" fn get_frame(frame: *mut Frame, context: *mut ThreadContext) -> Status {
    // SAFETY: passed on to the caller.
    let Some(cpu) = (unsafe { cpu(frame) }) else { return status::INVALID };
    // SAFETY: passed on to the caller.
    let mut wanted = match unsafe { tables::read(context) } {
        Ok(wanted) => wanted,
        Err(error) => return refused(&error),
    };
    let Some(parts) = parts_of(&wanted).filter(|parts| !parts.contains(ContextParts::DEBUG)) else {
        return status::INVALID;
    };
    // SAFETY: it was found above, so it is not null.
    let registers = unsafe { (*frame).registers };
    wanted.registers = merge(&wanted.registers.into(), &registers.into(), parts).into();
    if parts.contains(ContextParts::BASES) {
        (wanted.fs_base, wanted.gs_base) = cpu.segment_bases();
    }
    let mut answer = status::OK;
    if parts.contains(ContextParts::EXTENDED) {
        let mut area = vec![0; cpu.xsave_size()];
        cpu.save_xsave(&mut area);
        // SAFETY: the contract says how much room there is.
        answer = unsafe { give_area(&mut wanted, &area) };
    }
    // SAFETY: it was read from there, so it is aligned and has at least the bytes of a context of this version.
    unsafe { context.write(wanted) };
    answer
}

/// `SetFrameContext`.
///
/// # Safety
/// As for [`get_frame`].
pub(super) unsafe extern "C" fn set_frame(frame: *mut Frame, context: *const ThreadContext) -> Status {
    // SAFETY: passed on to the caller.
    let Some(cpu) = (unsafe { cpu(frame) }) else { return status::INVALID };
    // SAFETY: passed on to the caller.
    let wanted = match unsafe { tables::read(context) } {
        Ok(wanted) => wanted,
        Err(error) => return refused(&error),
    };
    let Some(parts) = parts_of(&wanted) else { return status::INVALID };
    let has = |part| parts.contains(part);
    let bad = has(ContextParts::CONTROL) && wanted.registers.rip >= USER_END
        || has(ContextParts::BASES) && !(is_base(wanted.fs_base) && is_base(wanted.gs_base))
        || has(ContextParts::DEBUG) && wanted.debug_addresses.iter().any(|address| *address >= USER_END);
    if bad {
        return status::INVALID;
    }
    if has(ContextParts::EXTENDED) {
        let size = cpu.xsave_size();
        // SAFETY: the contract says how many bytes are there.
        let Some(area) = (unsafe { take_area(&wanted, size) }) else { return status::TOO_SMALL };
        cpu.load_xsave(&area[..size]);
    }
    // SAFETY: it was found above, so it is not null.
    let registers = unsafe { &mut (*frame).registers };
    *registers = merge(&(*registers).into(), &wanted.registers.into(), parts).into();
    if has(ContextParts::BASES) {
        cpu.set_segment_bases(wanted.fs_base, wanted.gs_base);
    }
    if has(ContextParts::DEBUG) {
        cpu.set_debug_registers(&DebugRegisters { addresses: wanted.debug_addresses, control: wanted.debug_control });
    }
    status::OK
}

/// `GetContextThreadInternal`.
///
/// # Safety
/// `thread` and `context` are null or what the contract says.
pub(super) unsafe extern "C" fn get_thread(thread: *const c_void, context: *mut ThreadContext) -> Status {
    // SAFETY: passed on to the caller.
    let Some(thread) = (unsafe { borrow::<Thread>(thread) }) else { return status::INVALID };
    // SAFETY: passed on to the caller.
    let mut wanted = match unsafe { tables::read(context) } {
        Ok(wanted) => wanted,
        Err(error) => return refused(&error),
    };
    let Some(parts) = parts_of(&wanted) else { return status::INVALID };
    let found = match thread.get_context(parts) {
        Ok(found) => found,
        Err(NotStopped) => return status::NOT_STOPPED,
    };
    wanted.parts = found.parts.bits().into();
    wanted.registers = found.registers.into();
    (wanted.fs_base, wanted.gs_base) = (found.fs_base, found.gs_base);
    (wanted.debug_addresses, wanted.debug_control) = (found.debug.addresses, found.debug.control);
    wanted.debug_status = found.debug_status;
    let mut answer = status::OK;
    if found.parts.contains(ContextParts::EXTENDED) {
        // SAFETY: the contract says how much room there is.
        answer = unsafe { give_area(&mut wanted, &found.xsave) };
    }
    // SAFETY: it was read from there, so it is aligned and has at least the bytes of a context of this version.
    unsafe { context.write(wanted) };
    answer
}

/// `SetContextThreadInternal`.
///
/// # Safety
/// As for [`get_thread`].
pub(super) unsafe extern "C" fn set_thread(thread: *const c_void, context: *const ThreadContext) -> Status {
    // SAFETY: passed on to the caller.
    let Some(thread) = (unsafe { borrow::<Thread>(thread) }) else { return status::INVALID };
    // SAFETY: passed on to the caller.
    let wanted = match unsafe { tables::read(context) } {
        Ok(wanted) => wanted,
        Err(error) => return refused(&error),
    };
    let Some(parts) = parts_of(&wanted) else { return status::INVALID };
    let mut new = pico::ThreadContext {
        parts,
        registers: wanted.registers.into(),
        fs_base: wanted.fs_base,
        gs_base: wanted.gs_base,
        debug: DebugRegisters { addresses: wanted.debug_addresses, control: wanted.debug_control },
        ..pico::ThreadContext::default()
    };
    if parts.contains(ContextParts::EXTENDED) {
        // SAFETY: the contract says how many bytes are there.
        let Some(area) = (unsafe { take_area(&wanted, 0) }) else { return status::INVALID };
        new.xsave = area;
    }
    match thread.set_context(&new) {
        Ok(()) => status::OK,
        Err(ContextError::NotStopped(NotStopped)) => status::NOT_STOPPED,
        Err(_) => status::INVALID,
    }
}
