//! The header and this crate agree: a C compiler checks every size, offset and constant.

use super::*;
use crate::memory::Access;
use crate::pico::{ContextParts, ProcessAccess, ProcessFlags, ThreadAccess};
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::offset_of;
use std::process::{Command, Stdio};

/// Adds the assertions about one structure. A field that is not listed does not compile.
macro_rules! same {
    ($to:ident, $rust:ident, $c:literal { $($field:ident: $name:literal),* $(,)? }) => {
        let _all_fields = |value: $rust| {
            let $rust { $($field: _),* } = value;
        };
        assert_that(&mut $to, concat!("sizeof(", $c, ")"), size_of::<$rust>());
        $(assert_that(&mut $to, concat!("offsetof(", $c, ", ", $name, ")"), offset_of!($rust, $field));)*
    };
}

fn assert_that(to: &mut String, left: &str, right: impl std::fmt::Display) {
    writeln!(to, "_Static_assert({left} == {right}, \"{left}\");").unwrap();
}

fn structures() -> String {
    let mut to = String::new();
    for (index, name) in
        ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"]
            .iter()
            .enumerate()
    {
        assert_that(&mut to, &format!("offsetof(PicoRegisters, {name})"), 8 * index);
    }
    same!(to, CRegisters, "PicoRegisters" { general: "rax", rip: "rip", rflags: "rflags" });
    same!(to, Frame, "PicoFrame" { size: "size", registers: "registers", cpu: "cpu" });
    same!(to, ThreadContext, "PicoThreadContext" {
        size: "size", parts: "parts", registers: "registers", fs_base: "fs_base", gs_base: "gs_base",
        debug_addresses: "debug_addresses", debug_control: "debug_control", debug_status: "debug_status", extended: "extended",
        extended_size: "extended_size",
    });
    same!(to, ProcessAttributes, "PicoProcessAttributes" {
        size: "size", parent: "parent", context: "context", flags: "flags",
    });
    same!(to, ThreadAttributes, "PicoThreadAttributes" {
        size: "size", process: "process", context: "context", registers: "registers", fs_base: "fs_base",
        gs_base: "gs_base",
    });
    same!(to, Page, "PicoPage" { size: "size", state: "state", access: "access" });
    same!(to, StackFrame, "PicoStackFrame" {
        size: "size", address: "address", found: "found", reserved: "reserved", module: "module",
        module_size: "module_size", module_offset: "module_offset", symbol: "symbol", symbol_size: "symbol_size",
        symbol_offset: "symbol_offset",
    });
    same!(to, Visitor, "PicoVisitor" { size: "size", visit: "visit" });
    same!(to, Routines, "PicoRoutines" {
        size: "size", version: "version", reserved: "reserved", create_process: "CreateProcess",
        create_thread: "CreateThread", get_process_context: "GetProcessContext",
        get_thread_context: "GetThreadContext", get_context_thread_internal: "GetContextThreadInternal",
        set_context_thread_internal: "SetContextThreadInternal", suspend_thread: "SuspendThread",
        resume_thread: "ResumeThread", terminate_thread: "TerminateThread",
        set_thread_descriptor_base: "SetThreadDescriptorBase", terminate_process: "TerminateProcess",
        hand_over: "HandOver", start_thread: "StartThread", kick_thread: "KickThread", wait_thread_stopped: "WaitThreadStopped",
        get_frame_context: "GetFrameContext", set_frame_context: "SetFrameContext",
        reference_process: "ReferenceProcess", release_process: "ReleaseProcess",
        reference_thread: "ReferenceThread", release_thread: "ReleaseThread", map_memory: "MapMemory",
        unmap_memory: "UnmapMemory", protect_memory: "ProtectMemory", read_memory: "ReadMemory",
        write_memory: "WriteMemory", poke_memory: "PokeMemory", query_page: "QueryPage", break_copy: "BreakCopy",
        walk_frame_pointers: "WalkFramePointers",
    });
    same!(to, ExceptionRecord, "PicoExceptionRecord" {
        size: "size", vector: "vector", error: "error", address: "address", chance: "chance", reserved: "reserved",
    });
    same!(to, CProtectedRange, "PicoProtectedRange" { name: "name", address: "address", length: "length" });
    same!(to, ProcessDetails, "PicoProcessDetails" {
        size: "size", number: "number", parent: "parent", handles: "handles", activity: "activity",
        has_parent: "has_parent",
    });
    same!(to, ProviderRoutines, "PicoProviderRoutines" {
        size: "size", version: "version", subsystem: "SubsystemInformationType",
        dispatch_system_call: "DispatchSystemCall", dispatch_exception: "DispatchException",
        exit_thread: "ExitThread", exit_process: "ExitProcess", terminate_process: "TerminateProcess",
        walk_user_stack: "WalkUserStack", protected_ranges: "ProtectedRanges",
        protected_range_count: "ProtectedRangeCount", process_image_name: "GetAllocatedProcessImageName",
        open_process_allowed_access: "OpenProcessAllowedAccess",
        open_thread_allowed_access: "OpenThreadAllowedAccess", dispatch_kick: "DispatchKick",
        dispatch_io_fault: "DispatchIoFault", process_details: "GetProcessDetails",
        process_command: "GetProcessCommand", thread_name: "GetThreadName", thread_number: "GetThreadNumber",
        release_process_context: "ReleaseProcessContext", release_thread_context: "ReleaseThreadContext",
        start: "Start",
    });
    same!(to, Registration, "PicoRegistration" {
        size: "size", host: "host", parameters: "parameters", parameters_length: "parameters_length",
        routines: "routines",
    });
    to
}

fn constants() -> String {
    let mut to = String::new();
    assert_that(&mut to, "PICO_VERSION", VERSION);
    let statuses = [
        ("OK", status::OK),
        ("INVALID", status::INVALID),
        ("TOO_SMALL", status::TOO_SMALL),
        ("NO_MEMORY", status::NO_MEMORY),
        ("EXHAUSTED", status::EXHAUSTED),
        ("OVER", status::OVER),
        ("UNSUPPORTED", status::UNSUPPORTED),
        ("NOT_STOPPED", status::NOT_STOPPED),
        ("FAULT", status::FAULT),
        ("TAKEN", status::TAKEN),
        ("SEALED", status::SEALED),
        ("RETURN", disposition::RETURN),
        ("RESUME", disposition::RESUME),
        ("EXIT", disposition::EXIT),
        ("NOT_HANDLED", disposition::NOT_HANDLED),
    ];
    statuses.iter().for_each(|(name, value)| assert_that(&mut to, &format!("PICO_{name}"), value));
    let numbers: [(&str, u64); 44] = [
        ("CONTEXT_CONTROL", ContextParts::CONTROL.bits().into()),
        ("CONTEXT_INTEGER", ContextParts::INTEGER.bits().into()),
        ("CONTEXT_BASES", ContextParts::BASES.bits().into()),
        ("CONTEXT_EXTENDED", ContextParts::EXTENDED.bits().into()),
        ("CONTEXT_DEBUG", ContextParts::DEBUG.bits().into()),
        ("PARKED", stopped::PARKED.into()),
        ("IN_PROVIDER", stopped::IN_PROVIDER.into()),
        ("THREAD_ENDED", stopped::ENDED.into()),
        ("CLONE_PARENT", ProcessFlags::CLONE_PARENT.bits().into()),
        ("INHERIT_HANDLES", ProcessFlags::INHERIT_HANDLES.bits().into()),
        ("CLONE_REDUCED_COMMIT", ProcessFlags::CLONE_REDUCED_COMMIT.bits().into()),
        ("BREAKAWAY", ProcessFlags::BREAKAWAY.bits().into()),
        ("MINIMAL", ProcessFlags::MINIMAL.bits().into()),
        ("READ", Access::READ.bits().into()),
        ("WRITE", Access::WRITE.bits().into()),
        ("EXECUTE", Access::EXEC.bits().into()),
        ("PAGE_ABSENT", page::ABSENT.into()),
        ("PAGE_MAPPED", page::MAPPED.into()),
        ("PAGE_COPY_ON_WRITE", page::COPY_ON_WRITE.into()),
        ("PAGE_BUS", page::BUS.into()),
        ("FOUND_REGISTERS", found::REGISTERS.into()),
        ("FOUND_UNWIND_TABLE", found::UNWIND_TABLE.into()),
        ("FOUND_FRAME_POINTER", found::FRAME_POINTER.into()),
        ("EXITED", reason::EXITED.into()),
        ("TERMINATED", reason::TERMINATED.into()),
        ("FAILED_TO_RUN", reason::FAILED_TO_RUN.into()),
        ("UNHANDLED", reason::UNHANDLED.into()),
        ("RUNNING", activity::RUNNING.into()),
        ("WAITING", activity::WAITING.into()),
        ("STOPPED", activity::STOPPED.into()),
        ("ENDED", activity::ENDED.into()),
        ("SUBSYSTEM_LINUX", SUBSYSTEM_LINUX.into()),
        ("PROCESS_TERMINATE", ProcessAccess::TERMINATE.bits().into()),
        ("PROCESS_VM_READ", ProcessAccess::VM_READ.bits().into()),
        ("PROCESS_VM_WRITE", ProcessAccess::VM_WRITE.bits().into()),
        ("PROCESS_QUERY", ProcessAccess::QUERY.bits().into()),
        ("PROCESS_SUSPEND_RESUME", ProcessAccess::SUSPEND_RESUME.bits().into()),
        ("PROCESS_SYNCHRONIZE", ProcessAccess::SYNCHRONIZE.bits().into()),
        ("THREAD_TERMINATE", ThreadAccess::TERMINATE.bits().into()),
        ("THREAD_SUSPEND_RESUME", ThreadAccess::SUSPEND_RESUME.bits().into()),
        ("THREAD_GET_CONTEXT", ThreadAccess::GET_CONTEXT.bits().into()),
        ("THREAD_SET_CONTEXT", ThreadAccess::SET_CONTEXT.bits().into()),
        ("THREAD_QUERY", ThreadAccess::QUERY.bits().into()),
        ("THREAD_SYNCHRONIZE", ThreadAccess::SYNCHRONIZE.bits().into()),
    ];
    numbers.iter().for_each(|(name, value)| assert_that(&mut to, &format!("PICO_{name}"), value));
    to
}

/// Compiles a source that includes the header; returns what the compiler says, if it refuses.
fn compile(body: &str) -> Result<(), String> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    let mut command = Command::new(&compiler);
    command.args([
        "-std=c11",
        "-ffreestanding",
        "-Wall",
        "-Wextra",
        "-Wpadded",
        "-Werror",
        "-fsyntax-only",
        "-I",
        folder,
    ]);
    command.args(["-x", "c", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("this test needs a C compiler ({compiler}): {error}"));
    let source = format!("#include \"pico.h\"\n{body}");
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn the_header_says_what_this_crate_says() {
    compile(&(structures() + &constants())).unwrap();
}

#[test]
fn the_check_of_the_header_can_fail() {
    let wrong = structures().replace("offsetof(PicoFrame, cpu) == 152", "offsetof(PicoFrame, cpu) == 160");
    assert_ne!(wrong, structures());
    let said = compile(&wrong).unwrap_err();
    assert!(said.contains("offsetof(PicoFrame, cpu)"), "{said}");
}

#[test]
fn registers_keep_their_places() {
    let registers = Registers { rax: 1, rbx: 2, rsp: 8, r8: 9, r15: 16, rip: 17, rflags: 18, ..Registers::default() };
    let shown = CRegisters::from(registers);
    assert_eq!((shown.general[0], shown.general[1], shown.general[7]), (1, 2, 8));
    assert_eq!((shown.general[8], shown.general[15], shown.rip, shown.rflags), (9, 16, 17, 18));
    assert_eq!(Registers::from(shown), registers);
}
