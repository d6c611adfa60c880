//! How the guest was left: KVM's exits, and the frames that the stubs leave on the interrupt stacks.

use super::supervisor::{Page, stack_top};
use crate::memory::{Access, PageState};
use crate::trap::{Exception, Vector, fault_code};
use guest::layout;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::fmt::Write;

/// How the guest was left.
#[derive(Debug)]
pub(super) enum Leave {
    /// By the system-call stub.
    Syscall,
    /// By the stub of this vector.
    Vector(u8),
    /// By a signal, or not even entered because of `immediate_exit`.
    Interrupted,
    /// By an access to an open port outside the trap image.
    Port {
        /// Whether it was an `in`, which KVM has yet to complete.
        input: bool,
    },
    /// KVM could not get a frame, and does not say which.
    NoFrame,
    /// In a way that nothing follows upon.
    Failed(String),
}

/// Enters the guest once.
pub(super) fn run(fd: &mut VcpuFd) -> Leave {
    // Linux 6.1 leaves the last exit's reason in place when it fails.
    fd.get_kvm_run().exit_reason = 0;
    match fd.run() {
        Ok(VcpuExit::IoOut(port, data)) => {
            let single = data.len() == 1;
            let rip = fd.sync_regs().regs.rip;
            stub(port, rip).filter(|_| single).unwrap_or(Leave::Port { input: false })
        }
        Ok(VcpuExit::IoIn(..)) => Leave::Port { input: true },
        Ok(VcpuExit::Intr) => Leave::Interrupted,
        Ok(VcpuExit::MemoryFault { .. }) => Leave::NoFrame,
        Ok(VcpuExit::MmioRead(address, _) | VcpuExit::MmioWrite(address, _)) => {
            Leave::Failed(format!("a page-table entry points outside guest memory, at {address:#x}"))
        }
        Ok(VcpuExit::Shutdown) => Leave::Failed("triple fault".to_owned()),
        Ok(other) => Leave::Failed(format!("KVM exit {other:?}")),
        Err(error) => match error.errno() {
            libc::EINTR => Leave::Interrupted,
            libc::EFAULT | libc::EHWPOISON => Leave::NoFrame,
            // The virtual CPU was made a moment ago and its first entry raced with a request to all: enter again.
            libc::EAGAIN => Leave::Interrupted,
            _ => Leave::Failed(format!("KVM_RUN: {error}")),
        },
    }
}

/// The stub that an `out` at `rip` (or just before it: kvm-pvm) belongs to.
fn stub(port: u16, rip: u64) -> Option<Leave> {
    let port = u8::try_from(port).ok()?;
    let page = rip & !(layout::PAGE - 1);
    if port == layout::SYSCALL_PORT {
        return matches!(page, layout::SYSCALL_PAGE | layout::FAST_PAGE).then_some(Leave::Syscall);
    }
    let number = port.checked_sub(layout::VECTOR_PORT)?;
    let vector = if number == layout::VECTORS { layout::LEGACY_VECTOR } else { number };
    (number <= layout::VECTORS && page == layout::TRAP_PAGE).then_some(Leave::Vector(vector))
}

/// What the processor pushed for an exception.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) rip: u64,
    pub(super) cs: u64,
    pub(super) rflags: u64,
    pub(super) rsp: u64,
    pub(super) error: u32,
    /// RAX, where the stub needed it (page faults).
    pub(super) rax: u64,
}

/// Reads the frame of `vector` from its interrupt stack.
pub(super) fn frame(stacks: Page, vector: u8) -> Frame {
    let top = stack_top(vector);
    let word = |index: u64| stacks.load(top - 8 * index);
    let error = if has_error_code(vector) { word(6) & 0xffff_ffff } else { 0 };
    Frame {
        rsp: word(2),
        rflags: word(3),
        cs: word(4),
        rip: word(5),
        error: u32::try_from(error).unwrap_or(0),
        rax: word(7),
    }
}

/// Whether the processor pushes an error code (Intel SDM volume 3, table 6-1).
fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// Whether an entry in this state permits the access that faulted.
pub(super) fn permits(state: PageState, fault: Exception) -> bool {
    if fault.vector != Vector::PAGE_FAULT || fault.error & fault_code::PROTECTION_KEY != 0 {
        return false;
    }
    let needed = match fault.error {
        error if error & fault_code::FETCH != 0 => Access::EXEC,
        error if error & fault_code::WRITE != 0 => Access::WRITE,
        _ => Access::READ,
    };
    match state {
        // The processor reads what it may write or execute.
        PageState::Mapped(access) if needed == Access::READ => !access.is_empty(),
        PageState::Mapped(access) => access.contains(needed),
        PageState::CopyOnWrite(access) if needed == Access::READ => !access.is_empty(),
        PageState::CopyOnWrite(access) => needed != Access::WRITE && access.contains(needed),
        PageState::Absent | PageState::Bus => false,
    }
}

/// Describes a virtual CPU that cannot go on.
pub(super) fn report(fd: &VcpuFd, why: &str) -> String {
    let mut text = why.to_owned();
    let regs = fd.sync_regs().regs;
    let _ = write!(text, "; rip {:#x} rsp {:#x} rflags {:#x} rax {:#x}", regs.rip, regs.rsp, regs.rflags, regs.rax);
    if let Ok(sregs) = fd.get_sregs() {
        let _ = write!(text, "; cs {:#x} cr2 {:#x} cr3 {:#x}", sregs.cs.selector, sregs.cr2, sregs.cr3);
    }
    text
}
