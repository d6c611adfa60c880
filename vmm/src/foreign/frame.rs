//! Trap frames on their way to foreign code.

use super::abi::{self, Frame};
use crate::pico::{CpuState, TrapFrame};

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
pub(super) unsafe fn cpu<'a>(frame: *mut Frame) -> Option<&'a mut dyn CpuState> {
    // SAFETY: null, or a live frame, as the caller says.
    let frame = unsafe { frame.as_ref() }?;
    // SAFETY: `show` put it there, and it lives until the callback returns; nothing else uses it meanwhile.
    let cpu = unsafe { frame.cpu.cast::<Cpu<'a>>().as_mut() }?;
    Some(cpu.0)
}
