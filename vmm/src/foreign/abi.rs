//! The contract's structures as the C ABI has them: `include/pico.h` in Rust, field by field. What each means is said there.
//!
//! A test compiles the header and compares every size, offset and constant with this file.

use crate::trap::Registers;
use std::ffi::{c_char, c_void};

/// The version of the contract.
pub const VERSION: u32 = 1;

/// What a routine returns.
pub(super) type Status = i32;

/// Statuses.
pub(super) mod status {
    use super::Status;
    pub(crate) const OK: Status = 0;
    pub(crate) const INVALID: Status = -1;
    pub(crate) const TOO_SMALL: Status = -2;
    pub(crate) const NO_MEMORY: Status = -3;
    pub(crate) const EXHAUSTED: Status = -4;
    pub(crate) const OVER: Status = -5;
    pub(crate) const UNSUPPORTED: Status = -6;
    pub(crate) const NOT_STOPPED: Status = -7;
    pub(crate) const FAULT: Status = -8;
    pub(crate) const TAKEN: Status = -9;
    pub(crate) const SEALED: Status = -10;
}

/// A structure that begins with its size. All its fields may be zero.
///
/// # Safety
/// The type is `repr(C)`, begins with a `u64`, has no padding, and is valid with all its bytes zero.
pub(super) unsafe trait SizeFirst: Copy {
    /// The least size that is accepted.
    const MINIMUM: usize = size_of::<Self>();
}

macro_rules! size_first {
    ($($type:ty $(: $minimum:expr)?),* $(,)?) => {
        $(
            // SAFETY: integers, pointers and optional functions in C's layout, a size first; the test of the header
            // compares the offsets, so there is no padding.
            unsafe impl SizeFirst for $type {
                $(const MINIMUM: usize = $minimum;)?
            }
        )*
    };
}

size_first!(
    Frame,
    ThreadContext,
    ProcessAttributes,
    ThreadAttributes,
    Page,
    StackFrame,
    Visitor,
    ExceptionRecord,
    ProcessDetails,
    ProviderRoutines: std::mem::offset_of!(ProviderRoutines, dispatch_kick),
    Registration,
);

/// The bytes of a structure, as its `size` field has them.
pub(super) const fn size_of_u64<T>() -> u64 {
    size_of::<T>() as u64
}

/// `PicoRegisters`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CRegisters {
    pub(super) general: [u64; 16],
    pub(super) rip: u64,
    pub(super) rflags: u64,
}

impl From<Registers> for CRegisters {
    fn from(r: Registers) -> Self {
        let low = [r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp];
        let [a, b, c, d, si, di, bp, sp] = low;
        let general = [a, b, c, d, si, di, bp, sp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15];
        Self { general, rip: r.rip, rflags: r.rflags }
    }
}

impl From<CRegisters> for Registers {
    fn from(registers: CRegisters) -> Self {
        let CRegisters { general, rip, rflags } = registers;
        let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15] = general;
        Self { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
    }
}

/// `PicoFrame`. `cpu` points to a [`Cpu`](super::frame::Cpu) that lives as long as the callback runs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) size: u64,
    pub(super) registers: CRegisters,
    pub(super) cpu: *mut c_void,
}

/// `PicoThreadContext`. Its parts are [`ContextParts`](crate::pico::ContextParts).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadContext {
    pub(super) size: u64,
    pub(super) parts: u64,
    pub(super) registers: CRegisters,
    pub(super) fs_base: u64,
    pub(super) gs_base: u64,
    pub(super) debug_addresses: [u64; 4],
    pub(super) debug_control: u64,
    pub(super) debug_status: u64,
    pub(super) extended: *mut u8,
    pub(super) extended_size: u64,
}

/// `PicoProcessAttributes`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessAttributes {
    pub(super) size: u64,
    pub(super) parent: *const c_void,
    pub(super) context: *mut c_void,
    pub(super) flags: u64,
}

/// `PicoThreadAttributes`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadAttributes {
    pub(super) size: u64,
    pub(super) process: *const c_void,
    pub(super) context: *mut c_void,
    pub(super) registers: CRegisters,
    pub(super) fs_base: u64,
    pub(super) gs_base: u64,
}

/// How a suspended thread stands still.
pub(super) mod stopped {
    pub(crate) const PARKED: u32 = 0;
    pub(crate) const IN_PROVIDER: u32 = 1;
    pub(crate) const ENDED: u32 = 2;
}

/// States of a [`Page`].
pub(super) mod page {
    pub(crate) const ABSENT: u32 = 0;
    pub(crate) const MAPPED: u32 = 1;
    pub(crate) const COPY_ON_WRITE: u32 = 2;
    pub(crate) const BUS: u32 = 3;
}

/// `PicoPage`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) size: u64,
    pub(super) state: u32,
    pub(super) access: u32,
}

/// How a [`StackFrame`] was found.
pub(super) mod found {
    pub(crate) const REGISTERS: u32 = 0;
    pub(crate) const UNWIND_TABLE: u32 = 1;
    pub(crate) const FRAME_POINTER: u32 = 2;
}

/// `PicoStackFrame`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct StackFrame {
    pub(super) size: u64,
    pub(super) address: u64,
    pub(super) found: u32,
    pub(super) reserved: u32,
    pub(super) module: *const c_char,
    pub(super) module_size: u64,
    pub(super) module_offset: u64,
    pub(super) symbol: *const c_char,
    pub(super) symbol_size: u64,
    pub(super) symbol_offset: u64,
}

/// `PicoVisitor`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor {
    pub(super) size: u64,
    pub(super) visit: Option<unsafe extern "C" fn(*mut Visitor, *const StackFrame) -> i32>,
}

type Host = *const c_void;
type Process = *const c_void;
type Thread = *const c_void;

/// `PicoRoutines`: the host's table.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Routines {
    pub(super) size: u64,
    pub(super) version: u32,
    pub(super) reserved: u32,
    pub(super) create_process: unsafe extern "C" fn(Host, *const ProcessAttributes, *mut Process) -> Status,
    pub(super) create_thread: unsafe extern "C" fn(Host, *const ThreadAttributes, *mut Thread) -> Status,
    pub(super) get_process_context: unsafe extern "C" fn(Process) -> *mut c_void,
    pub(super) get_thread_context: unsafe extern "C" fn(Thread) -> *mut c_void,
    pub(super) get_context_thread_internal: unsafe extern "C" fn(Thread, *mut ThreadContext) -> Status,
    pub(super) set_context_thread_internal: unsafe extern "C" fn(Thread, *const ThreadContext) -> Status,
    pub(super) suspend_thread: unsafe extern "C" fn(Thread) -> Status,
    pub(super) resume_thread: unsafe extern "C" fn(Thread) -> Status,
    pub(super) terminate_thread: unsafe extern "C" fn(Thread) -> Status,
    pub(super) set_thread_descriptor_base: unsafe extern "C" fn(*mut Frame, u32, u64) -> Status,
    pub(super) terminate_process: unsafe extern "C" fn(Process) -> Status,
    pub(super) hand_over: unsafe extern "C" fn(Host, *const ProviderRoutines) -> Status,
    pub(super) start_thread: unsafe extern "C" fn(Thread) -> Status,
    pub(super) kick_thread: unsafe extern "C" fn(Thread) -> Status,
    pub(super) wait_thread_stopped: unsafe extern "C" fn(Thread, *mut u32) -> Status,
    pub(super) get_frame_context: unsafe extern "C" fn(*mut Frame, *mut ThreadContext) -> Status,
    pub(super) set_frame_context: unsafe extern "C" fn(*mut Frame, *const ThreadContext) -> Status,
    pub(super) reference_process: unsafe extern "C" fn(Process),
    pub(super) release_process: unsafe extern "C" fn(Process),
    pub(super) reference_thread: unsafe extern "C" fn(Thread),
    pub(super) release_thread: unsafe extern "C" fn(Thread),
    pub(super) map_memory: unsafe extern "C" fn(Process, u64, u64, u32) -> Status,
    pub(super) unmap_memory: unsafe extern "C" fn(Process, u64, u64) -> Status,
    pub(super) protect_memory: unsafe extern "C" fn(Process, u64, u64, u32) -> Status,
    pub(super) read_memory: unsafe extern "C" fn(Process, u64, *mut u8, u64) -> Status,
    pub(super) write_memory: unsafe extern "C" fn(Process, u64, *const u8, u64) -> Status,
    pub(super) poke_memory: unsafe extern "C" fn(Process, u64, *const u8, u64) -> Status,
    pub(super) query_page: unsafe extern "C" fn(Process, u64, *mut Page) -> Status,
    pub(super) break_copy: unsafe extern "C" fn(Process, u64) -> Status,
    pub(super) walk_frame_pointers: unsafe extern "C" fn(Process, *const CRegisters, *mut Visitor) -> Status,
}

/// Answers of a provider to a trap.
pub(super) mod disposition {
    pub(crate) const RETURN: i32 = 0;
    pub(crate) const RESUME: i32 = 1;
    pub(crate) const EXIT: i32 = 2;
    pub(crate) const NOT_HANDLED: i32 = 3;
}

/// `PicoExceptionRecord`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ExceptionRecord {
    pub(super) size: u64,
    pub(super) vector: u32,
    pub(super) error: u32,
    pub(super) address: u64,
    pub(super) chance: u32,
    pub(super) reserved: u32,
}

/// Why a thread or a process ended.
pub(super) mod reason {
    pub(crate) const EXITED: u32 = 0;
    pub(crate) const TERMINATED: u32 = 1;
    pub(crate) const FAILED_TO_RUN: u32 = 2;
    pub(crate) const UNHANDLED: u32 = 3;
}

/// `PicoProtectedRange`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct CProtectedRange {
    pub(super) name: *const c_char,
    pub(super) address: *const c_void,
    pub(super) length: u64,
}

/// What a process does.
pub(super) mod activity {
    pub(crate) const RUNNING: u32 = 0;
    pub(crate) const WAITING: u32 = 1;
    pub(crate) const STOPPED: u32 = 2;
    pub(crate) const ENDED: u32 = 3;
}

/// `PicoProcessDetails`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessDetails {
    pub(super) size: u64,
    pub(super) number: u64,
    pub(super) parent: u64,
    pub(super) handles: u64,
    pub(super) activity: u32,
    pub(super) has_parent: u32,
}

/// The number of the Linux personality.
pub(super) const SUBSYSTEM_LINUX: u32 = 1;

/// A callback about a trapped thread.
pub(super) type Dispatch = unsafe extern "C" fn(*mut c_void, *mut Frame) -> i32;
/// A callback about an exception.
pub(super) type DispatchException = unsafe extern "C" fn(*mut c_void, *const ExceptionRecord, *mut Frame) -> i32;
/// A callback that hears of an end.
pub(super) type Exit = unsafe extern "C" fn(*mut c_void, u32);
/// A callback that is given a context and nothing more.
pub(super) type About = unsafe extern "C" fn(*mut c_void);
/// A callback that walks a stack.
pub(super) type Walk = unsafe extern "C" fn(*mut c_void, *const CRegisters, *mut Visitor);
/// A callback that writes bytes.
pub(super) type WriteBytes = unsafe extern "C" fn(*mut c_void, *mut u8, u64) -> u64;
/// A callback that decides about rights.
pub(super) type AllowedAccess = unsafe extern "C" fn(*mut c_void, *mut c_void, u32) -> u32;
/// A callback about a fault at I/O.
pub(super) type DispatchIoFault = unsafe extern "C" fn(*mut c_void, u64, u32) -> i32;
/// A callback that fills in details.
pub(super) type GetDetails = unsafe extern "C" fn(*mut c_void, *mut ProcessDetails);
/// A callback that tells a number.
pub(super) type GetNumber = unsafe extern "C" fn(*mut c_void) -> u64;
/// A callback that begins.
pub(super) type Start = unsafe extern "C" fn(*const u8, u64) -> Status;

/// `PicoProviderRoutines`: the provider's table.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ProviderRoutines {
    pub(super) size: u64,
    pub(super) version: u32,
    pub(super) subsystem: u32,
    pub(super) dispatch_system_call: Option<Dispatch>,
    pub(super) dispatch_exception: Option<DispatchException>,
    pub(super) exit_thread: Option<Exit>,
    pub(super) exit_process: Option<Exit>,
    pub(super) terminate_process: Option<About>,
    pub(super) walk_user_stack: Option<Walk>,
    pub(super) protected_ranges: *const CProtectedRange,
    pub(super) protected_range_count: u64,
    pub(super) process_image_name: Option<WriteBytes>,
    pub(super) open_process_allowed_access: Option<AllowedAccess>,
    pub(super) open_thread_allowed_access: Option<AllowedAccess>,
    pub(super) dispatch_kick: Option<Dispatch>,
    pub(super) dispatch_io_fault: Option<DispatchIoFault>,
    pub(super) process_details: Option<GetDetails>,
    pub(super) process_command: Option<WriteBytes>,
    pub(super) thread_name: Option<WriteBytes>,
    pub(super) thread_number: Option<GetNumber>,
    pub(super) release_process_context: Option<About>,
    pub(super) release_thread_context: Option<About>,
    pub(super) start: Option<Start>,
}

/// `PicoRegistration`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) size: u64,
    pub(super) host: Host,
    pub(super) parameters: *const u8,
    pub(super) parameters_length: u64,
    pub(super) routines: *const ProviderRoutines,
}

/// The entry of a provider's object.
pub(super) type Register = unsafe extern "C" fn(*const Routines, *mut Registration) -> Status;

#[cfg(test)]
mod tests;
