//! The legacy vsyscall page: nothing is mapped there, a jump to one of its three entries is emulated
//! (arch/x86/entry/vsyscall/vsyscall_64.c in its execute-only mode).

use super::dispatch;
use super::handler::Outcome;
use crate::errno::Errno;
use crate::task::{CurrentTask, Work};
use linux_raw_sys::general::{__NR_getcpu, __NR_gettimeofday, __NR_time};
use vmm::addr::UserAddr;

/// Where the page would be.
const START: u64 = 0xffff_ffff_ff60_0000;
const SIZE: u64 = 4096;

/// Tells whether an address lies in the page.
pub(crate) fn contains(address: UserAddr) -> bool {
    address.0.wrapping_sub(START) < SIZE
}

/// The program jumped to an entry: makes the call and returns to the caller. `EFAULT` if it must get a SIGSEGV instead.
pub(crate) fn emulate(task: &mut CurrentTask<'_>) -> Result<(), Errno> {
    let registers = task.frame.registers;
    let number = match registers.rip - START {
        0 => __NR_gettimeofday,
        0x400 => __NR_time,
        0x800 => __NR_getcpu,
        _ => return Err(Errno::EFAULT),
    };
    if task.work().contains(Work::SECCOMP) {
        // As on a kernel without the page: filters need not know of calls without a SYSCALL instruction.
        return Err(Errno::EFAULT);
    }
    let mut caller = [0; 8];
    task.mm().read(UserAddr(registers.rsp), &mut caller)?;
    let args = [registers.rdi, registers.rsi, registers.rdx, 0, 0, 0];
    let value = match dispatch(task, u64::from(number), &args) {
        Ok(Outcome::Return(value)) => value,
        // A pointer that cannot be written is a fault of the program's, not a result.
        Err(Errno::EFAULT) => return Err(Errno::EFAULT),
        Err(error) => error.to_return(),
        Ok(Outcome::Resume | Outcome::Exit) => return Ok(()),
    };
    let registers = &mut task.frame.registers;
    registers.rax = value;
    registers.rip = u64::from_le_bytes(caller);
    registers.rsp = registers.rsp.wrapping_add(8);
    Ok(())
}
