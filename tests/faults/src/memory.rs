//! The registers and the memory of a traced thread that is stopped.

use crate::calls::Extent;
use libc::{c_uint, c_void, pid_t, user_regs_struct};
use std::io;

/// A ptrace request with plain numbers.
pub(crate) fn request(what: c_uint, pid: pid_t, address: u64, data: u64) -> io::Result<i64> {
    // SAFETY: the requests that are made by this function write nothing to memory of this process.
    let result = unsafe { libc::ptrace(what, pid, address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(crate) fn registers(pid: pid_t) -> io::Result<user_regs_struct> {
    // SAFETY: all bits zero is a value of a struct of numbers.
    let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
    let to: *mut user_regs_struct = &raw mut registers;
    // SAFETY: the kernel writes one struct to where `to` points.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0, to.cast::<c_void>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(registers) }
}

pub(crate) fn set_registers(pid: pid_t, registers: &user_regs_struct) -> io::Result<()> {
    let from: *const user_regs_struct = registers;
    // SAFETY: the kernel reads one struct from where `from` points.
    let result = unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0, from.cast::<c_void>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn peek(pid: pid_t, address: u64) -> io::Result<u64> {
    // SAFETY: the call touches no memory of ours; the C library returns the word.
    let word = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, pid, address, 0) };
    // -1 may be the word; then it is no length of a piece.
    if word == -1 { Err(io::Error::last_os_error()) } else { Ok(word.cast_unsigned()) }
}

/// Halves what a call is to transfer; returns the word of the program's memory that was changed for that.
pub(crate) fn cut(pid: pid_t, regs: &mut user_regs_struct, extent: Extent) -> io::Result<Option<(u64, u64)>> {
    let halve = |at: u64| {
        let length = peek(pid, at)?;
        request(libc::PTRACE_POKEDATA, pid, at, length.div_ceil(2))?;
        Ok(Some((at, length)))
    };
    match extent {
        Extent::Bytes => {
            regs.rdx = regs.rdx.div_ceil(2);
            Ok(None)
        }
        Extent::Pieces if regs.rdx > 1 => {
            regs.rdx = 1;
            Ok(None)
        }
        // struct iovec: address, length.
        Extent::Pieces => halve(regs.rsi + 8),
        // struct msghdr: a name and its length, the pieces.
        Extent::Message => halve(peek(pid, regs.rsi + 16)? + 8),
    }
}
