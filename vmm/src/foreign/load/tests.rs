//! Registration of tables good and bad, and what crosses the C ABI: a provider made of C functions, on a host without processor.
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "the tests are the foreign side: their blocks are its code")]

use super::*;
use crate::addr::UserAddr;
use crate::foreign::abi::{
    CProtectedRange, CRegisters, ExceptionRecord, Frame, Page, ProcessAttributes, ProcessDetails, ProviderRoutines,
    Routines, StackFrame, ThreadAttributes, ThreadContext, Visitor, disposition, page, part,
};
use crate::memory::{Access, Fault, FaultKind};
use crate::pico::walk::{Found, Place};
use crate::pico::{
    Activity, Chance, Context, CpuState, DetachedCpu, Disposition, ExitReason, Process, ProcessAccess, Provider,
    Thread, ThreadAccess, TrapFrame,
};
use crate::trap::{Exception, Registers, Vector};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::mem::offset_of;
use std::ops::ControlFlow;

thread_local! {
    /// What the entry answers and returns.
    static ANSWER: Cell<i32> = const { Cell::new(0) };
    static TABLE: Cell<*const ProviderRoutines> = const { Cell::new(std::ptr::null()) };
    /// What the entry was given.
    static HOST: Cell<*const c_void> = const { Cell::new(std::ptr::null()) };
    static PARAMETERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Which callbacks came, with what.
    static CALLS: RefCell<Vec<(&'static str, usize, u64)>> = const { RefCell::new(Vec::new()) };
}

fn note(what: &'static str, context: *mut c_void, value: u64) {
    CALLS.with_borrow_mut(|calls| calls.push((what, context.addr(), value)));
}

fn calls() -> Vec<(&'static str, usize, u64)> {
    CALLS.take()
}

unsafe extern "C" fn entry(routines: *const Routines, registration: *mut Registration) -> i32 {
    // SAFETY: the host's registration, ours until we return.
    let registration = unsafe { &mut *registration };
    assert_eq!(routines, &raw const ROUTINES);
    HOST.set(registration.host);
    // SAFETY: the host says that so many bytes are there.
    let parameters = unsafe {
        std::slice::from_raw_parts(registration.parameters, usize::try_from(registration.parameters_length).unwrap())
    };
    PARAMETERS.set(parameters.to_vec());
    registration.routines = TABLE.get();
    ANSWER.get()
}

unsafe extern "C" fn dispatch_system_call(thread: *mut c_void, frame: *mut Frame) -> i32 {
    // SAFETY: the host's frame.
    let frame = unsafe { &mut *frame };
    note("call", thread, frame.registers.general[0]);
    frame.registers.general[0] += 1;
    i32::try_from(frame.registers.general[5]).unwrap()
}

unsafe extern "C" fn dispatch_exception(thread: *mut c_void, record: *const ExceptionRecord, frame: *mut Frame) -> i32 {
    // SAFETY: the host's record and frame.
    let (record, frame) = unsafe { (&*record, &mut *frame) };
    note("exception", thread, u64::from(record.vector) << 8 | u64::from(record.chance));
    frame.registers.rip = record.address;
    if record.chance == 1 { disposition::NOT_HANDLED } else { disposition::RESUME }
}

unsafe extern "C" fn exit_thread(thread: *mut c_void, reason: u32) {
    note("exit thread", thread, reason.into());
}

unsafe extern "C" fn exit_process(process: *mut c_void, reason: u32) {
    note("exit process", process, reason.into());
}

unsafe extern "C" fn terminate_process(process: *mut c_void) {
    note("terminate", process, 0);
}

unsafe extern "C" fn walk_user_stack(thread: *mut c_void, registers: *const CRegisters, visitor: *mut Visitor) {
    // SAFETY: the host's registers.
    note("walk", thread, unsafe { (*registers).rip });
    let name = b"function";
    for address in 1..4 {
        let frame = StackFrame {
            size: size_of::<StackFrame>() as u64,
            address,
            found: 2,
            reserved: 0,
            module: std::ptr::null(),
            module_size: 7,
            module_offset: 7,
            symbol: name.as_ptr().cast(),
            symbol_size: name.len() as u64,
            symbol_offset: 3,
        };
        // SAFETY: the host's visitor. It goes on when it is told to stop, as careless code does.
        unsafe { ((*visitor).visit.unwrap())(visitor, &raw const frame) };
    }
}

unsafe extern "C" fn image_name(_: *mut c_void, name: *mut u8, capacity: u64) -> u64 {
    // SAFETY: the host says that so many bytes are there.
    unsafe { name.write_bytes(b'n', usize::try_from(capacity).unwrap().min(4)) };
    // Longer than what was written when the room is small: it is the host that must not believe it.
    4
}

unsafe extern "C" fn lies_about_its_name(_: *mut c_void, _: *mut u8, _: u64) -> u64 {
    u64::MAX
}

unsafe extern "C" fn allow_all(_: *mut c_void, opener: *mut c_void, wanted: u32) -> u32 {
    if opener.is_null() { u32::MAX } else { wanted & 1 }
}

unsafe extern "C" fn dispatch_io_fault(process: *mut c_void, address: u64, access: u32) -> i32 {
    note("io fault", process, address);
    i32::from(access == 2)
}

unsafe extern "C" fn details(_: *mut c_void, details: *mut ProcessDetails) {
    // SAFETY: the host's structure.
    let details = unsafe { &mut *details };
    (details.number, details.parent, details.has_parent, details.handles, details.activity) = (12, 11, 1, 5, 2);
}

unsafe extern "C" fn number(_: *mut c_void) -> u64 {
    77
}

unsafe extern "C" fn release_process(process: *mut c_void) {
    note("release process", process, 0);
}

unsafe extern "C" fn release_thread(thread: *mut c_void) {
    note("release thread", thread, 0);
}

unsafe extern "C" fn start(request: *const u8, length: u64) -> i32 {
    // SAFETY: the host says that so many bytes are there.
    note("start", std::ptr::null_mut(), unsafe { u64::from(*request) } << 8 | length);
    if length == 2 { 0 } else { -11 }
}

/// A table with everything in it.
fn full() -> ProviderRoutines {
    ProviderRoutines {
        size: size_of::<ProviderRoutines>() as u64,
        version: abi::VERSION,
        subsystem: 9,
        dispatch_system_call: Some(dispatch_system_call),
        dispatch_exception: Some(dispatch_exception),
        exit_thread: Some(exit_thread),
        exit_process: Some(exit_process),
        terminate_process: Some(terminate_process),
        walk_user_stack: Some(walk_user_stack),
        protected_ranges: std::ptr::null(),
        protected_range_count: 0,
        process_image_name: Some(image_name),
        open_process_allowed_access: Some(allow_all),
        open_thread_allowed_access: Some(allow_all),
        dispatch_kick: Some(dispatch_system_call),
        dispatch_io_fault: Some(dispatch_io_fault),
        process_details: Some(details),
        process_command: Some(image_name),
        thread_name: Some(image_name),
        thread_number: Some(number),
        release_process_context: Some(release_process),
        release_thread_context: Some(release_thread),
        start: Some(start),
    }
}

/// The least table: what is behind the minimum is filled with what must not be read.
fn least() -> ProviderRoutines {
    let least = offset_of!(ProviderRoutines, dispatch_kick);
    ProviderRoutines { size: least as u64, ..full() }
}

fn host() -> Host {
    Host::detached(16 << 20).unwrap()
}

fn register(host: &Host, table: &ProviderRoutines) -> Result<&'static ForeignHost, LoadError> {
    TABLE.set(table);
    // SAFETY: the entry above.
    unsafe { claim_and_register(host) }
}

/// # Safety
/// The entry is one.
unsafe fn claim_and_register(host: &Host) -> Result<&'static ForeignHost, LoadError> {
    let claim = host.claim()?;
    claim.code_runs()?;
    // SAFETY: passed on to the caller.
    unsafe { register_with(host, claim, entry, b"parameters") }
}

fn table_error(result: Result<&'static ForeignHost, LoadError>) -> TableError {
    match result.unwrap_err() {
        LoadError::Table(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn a_provider_registers_with_a_table_of_any_size_from_the_minimum_on() {
    for table in [full(), least()] {
        let host = host();
        register(&host, &table).unwrap();
        assert_eq!(PARAMETERS.take(), b"parameters");
    }
    // A larger one, whose tail nobody here knows.
    let host = host();
    #[repr(C)]
    struct Larger(ProviderRoutines, [u64; 4]);
    let larger = Larger(ProviderRoutines { size: size_of::<Larger>() as u64, ..full() }, [u64::MAX; 4]);
    register(&host, &larger.0).unwrap();
}

#[test]
fn what_a_smaller_table_lacks_is_absent() {
    let host = host();
    let foreign = register(&host, &least()).unwrap();
    let callbacks = foreign.callbacks().unwrap();
    assert!(callbacks.dispatch_kick.is_none() && callbacks.start.is_none() && callbacks.process_details.is_none());
    let provider = ForeignProvider { host: foreign, statement: None };
    assert_eq!(provider.start(b"x"), Err(StartError::Absent));
    let (adapter, context) = (adapter(least()), context(1));
    assert_eq!(adapter.thread_number(&context), 0);
    assert!(adapter.thread_name(&context).is_empty());
    let mut cpu = DetachedCpu::default();
    let mut frame = TrapFrame { registers: Registers::default(), cpu: &mut cpu };
    assert_eq!(adapter.dispatch_kick(&context, &mut frame), Disposition::Resume);
}

#[test]
fn a_table_that_is_too_small_is_refused() {
    let minimum = offset_of!(ProviderRoutines, dispatch_kick);
    for size in [0, 8, minimum as u64 - 1] {
        let table = ProviderRoutines { size, ..full() };
        assert_eq!(table_error(register(&host(), &table)), TableError::TooSmall { size, minimum });
    }
}

#[test]
fn a_table_of_another_version_is_refused() {
    let table = ProviderRoutines { version: 2, ..full() };
    assert_eq!(table_error(register(&host(), &table)), TableError::Version { found: 2 });
}

#[test]
fn a_table_with_holes_is_refused() {
    let holes = [
        ("DispatchSystemCall", ProviderRoutines { dispatch_system_call: None, ..full() }),
        ("DispatchException", ProviderRoutines { dispatch_exception: None, ..full() }),
        ("ExitThread", ProviderRoutines { exit_thread: None, ..full() }),
        ("ExitProcess", ProviderRoutines { exit_process: None, ..full() }),
        ("TerminateProcess", ProviderRoutines { terminate_process: None, ..full() }),
        ("WalkUserStack", ProviderRoutines { walk_user_stack: None, ..full() }),
        ("GetAllocatedProcessImageName", ProviderRoutines { process_image_name: None, ..full() }),
        ("OpenProcessAllowedAccess", ProviderRoutines { open_process_allowed_access: None, ..full() }),
        ("OpenThreadAllowedAccess", ProviderRoutines { open_thread_allowed_access: None, ..full() }),
    ];
    for (name, table) in holes {
        assert_eq!(table_error(register(&host(), &table)), TableError::Missing(name));
    }
    let table = ProviderRoutines { subsystem: 0, ..full() };
    assert_eq!(table_error(register(&host(), &table)), TableError::Subsystem);
}

#[test]
fn a_table_at_no_address_is_refused() {
    TABLE.set(std::ptr::null());
    // SAFETY: the entry above.
    assert_eq!(table_error(unsafe { claim_and_register(&host()) }), TableError::Nowhere);
    let words = [full(), full()];
    TABLE.set((&raw const words[0]).wrapping_byte_add(1));
    // SAFETY: the entry above; the address is within the two tables.
    assert_eq!(table_error(unsafe { claim_and_register(&host()) }), TableError::Nowhere);
}

#[test]
fn protected_ranges_are_taken_or_refused() {
    static TABLE: [u64; 2] = [1, 2];
    let range = CProtectedRange { name: c"a table".as_ptr(), address: (&raw const TABLE).cast(), length: 16 };
    let with = |ranges: &[CProtectedRange]| ProviderRoutines {
        protected_ranges: ranges.as_ptr(),
        protected_range_count: ranges.len() as u64,
        ..full()
    };
    let good = [range];
    let ranges = adapter(with(&good)).protected_ranges();
    assert_eq!((ranges[0].name(), ranges[0].address(), ranges[0].len()), ("a table", TABLE.as_ptr().addr(), 16));
    // The adapter's own table is protected too.
    assert_eq!(ranges.len(), 2);
    let bad = [
        CProtectedRange { name: std::ptr::null(), ..range },
        CProtectedRange { name: c"".as_ptr(), ..range },
        CProtectedRange { address: std::ptr::null(), ..range },
        CProtectedRange { length: 0, ..range },
        CProtectedRange { length: u64::MAX, ..range },
    ];
    for bad in bad {
        assert_eq!(table_error(register(&host(), &with(&[range, bad]))), TableError::Range(1));
    }
    let nowhere = ProviderRoutines { protected_range_count: 1, ..full() };
    assert_eq!(table_error(register(&host(), &nowhere)), TableError::Range(0));
}

#[test]
fn there_is_one_provider_and_a_failed_one_closes_registration() {
    let host = host();
    register(&host, &full()).unwrap();
    let register_error = |result: Result<&'static ForeignHost, LoadError>| match result.unwrap_err() {
        LoadError::Register(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(register_error(register(&host, &full())), RegisterError::Taken);

    let host = self::host();
    ANSWER.set(-11);
    let refused = register(&host, &full());
    ANSWER.set(0);
    assert!(matches!(refused.unwrap_err(), LoadError::Refused(-11)));
    assert_eq!(register_error(register(&host, &full())), RegisterError::Spoilt);

    let host = self::host();
    host.create_process(crate::pico::ProcessAttributes::minimal(None)).unwrap();
    assert_eq!(register_error(register(&host, &full())), RegisterError::Sealed);
}

#[test]
fn a_foreign_provider_hands_over_once_and_before_any_process() {
    let host = host();
    let foreign = register(&host, &least()).unwrap();
    let hand_over = |table: &ProviderRoutines| {
        // SAFETY: the host that the entry was given, and a table.
        unsafe { (ROUTINES.hand_over)(HOST.get(), table) }
    };
    assert_eq!(hand_over(&ProviderRoutines { size: 16, ..full() }), status::TOO_SMALL);
    assert_eq!(hand_over(&full()), status::OK);
    assert!(foreign.callbacks().unwrap().start.is_some(), "the real table is not in charge");
    assert_eq!(hand_over(&full()), status::TAKEN);

    let host = self::host();
    register(&host, &full()).unwrap();
    process(std::ptr::null(), 1, 0).unwrap();
    assert_eq!(hand_over(&full()), status::SEALED);
}

/// Makes a process through the C table.
fn process(parent: *const c_void, context: usize, flags: u64) -> Result<*const c_void, i32> {
    let size = size_of::<ProcessAttributes>() as u64;
    let context = std::ptr::without_provenance_mut(context);
    let attributes = ProcessAttributes { size, parent, context, flags };
    let mut made = std::ptr::null();
    // SAFETY: the host that the entry was given, attributes, and a place for the process.
    match unsafe { (ROUTINES.create_process)(HOST.get(), &raw const attributes, &raw mut made) } {
        status::OK => Ok(made),
        error => Err(error),
    }
}

fn thread(process: *const c_void, context: usize, rip: u64) -> Result<*const c_void, i32> {
    let attributes = ThreadAttributes {
        size: size_of::<ThreadAttributes>() as u64,
        process,
        context: std::ptr::without_provenance_mut(context),
        registers: CRegisters { rip, ..CRegisters::default() },
        fs_base: 0x10,
        gs_base: 0x20,
    };
    let mut made = std::ptr::null();
    // SAFETY: the host that the entry was given, attributes, and a place for the thread.
    match unsafe { (ROUTINES.create_thread)(HOST.get(), &raw const attributes, &raw mut made) } {
        status::OK => Ok(made),
        error => Err(error),
    }
}

#[test]
fn contexts_are_given_back_exactly_once_when_nobody_holds_them() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let thread = thread(process, 2, 0x1000).unwrap();
    // SAFETY: references that were just given.
    unsafe {
        assert_eq!((ROUTINES.get_process_context)(process).addr(), 1);
        assert_eq!((ROUTINES.get_thread_context)(thread).addr(), 2);
        (ROUTINES.reference_thread)(thread);
        assert_eq!((ROUTINES.terminate_thread)(thread), status::OK);
    }
    assert_eq!(calls(), [("exit thread", 2, 1), ("exit process", 1, 1)]);
    // SAFETY: both references to the thread, each given back once.
    unsafe {
        (ROUTINES.release_thread)(thread);
        assert_eq!(calls(), []);
        (ROUTINES.release_thread)(thread);
    }
    assert_eq!(calls(), [("release thread", 2, 0)]);
    // SAFETY: the one reference to the process.
    unsafe { (ROUTINES.release_process)(process) };
    assert_eq!(calls(), [("release process", 1, 0)]);
    drop(host);
    assert_eq!(calls(), []);
}

#[test]
fn contexts_of_what_was_not_made_stay_the_providers() {
    let host = host();
    register(&host, &full()).unwrap();
    // A copy of no parent.
    assert_eq!(process(std::ptr::null(), 1, 1).unwrap_err(), status::UNSUPPORTED);
    assert_eq!(process(std::ptr::null(), 1, 1 << 40).unwrap_err(), status::INVALID);
    let process = process(std::ptr::null(), 1, 0).unwrap();
    assert_eq!(thread(process, 0, 0x1000).unwrap_err(), status::INVALID);
    assert_eq!(thread(process, 2, crate::addr::USER_END).unwrap_err(), status::INVALID);
    assert_eq!(thread(std::ptr::null(), 2, 0x1000).unwrap_err(), status::INVALID);
    // SAFETY: a reference that was given; it stays until it is given back.
    unsafe { assert_eq!((ROUTINES.terminate_process)(process), status::OK) };
    assert_eq!(calls(), [("exit process", 1, 1)]);
    assert_eq!(thread(process, 2, 0x1000).unwrap_err(), status::OVER);
    assert_eq!(calls(), []);
    // SAFETY: the one reference.
    unsafe { (ROUTINES.release_process)(process) };
    drop(host);
    assert_eq!(calls(), [("release process", 1, 0)]);
    // The host is gone; its pointer still says so.
    assert_eq!(self::process(std::ptr::null(), 1, 0).unwrap_err(), status::OVER);
    // SAFETY: null and a host: refused before anything is looked at.
    unsafe {
        assert_eq!(
            (ROUTINES.create_process)(std::ptr::null(), std::ptr::null(), std::ptr::null_mut()),
            status::INVALID
        );
        assert_eq!((ROUTINES.suspend_thread)(std::ptr::null()), status::INVALID);
        assert!((ROUTINES.get_process_context)(std::ptr::null()).is_null());
        (ROUTINES.release_thread)(std::ptr::null());
    }
}

#[test]
fn a_stopped_threads_context_is_read_and_changed() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let thread = thread(process, 2, 0x1000).unwrap();
    // SAFETY: a thread of ours, which this host has no processor for.
    assert_eq!(unsafe { (ROUTINES.start_thread)(thread) }, status::EXHAUSTED);
    let mut context = empty_context(part::REGISTERS | part::BASES);
    // SAFETY: a thread of ours, and a context, in this whole test.
    let get = |context: &mut ThreadContext| unsafe { (ROUTINES.get_context_thread_internal)(thread, context) };
    // SAFETY: as above.
    let set = |context: &ThreadContext| unsafe { (ROUTINES.set_context_thread_internal)(thread, context) };
    assert_eq!(get(&mut context), status::OK);
    assert_eq!((context.registers.rip, context.fs_base, context.gs_base), (0x1000, 0x10, 0x20));
    (context.registers.rip, context.fs_base) = (0x2000, 0x30);
    assert_eq!(set(&context), status::OK);
    assert_eq!(get(&mut context), status::OK);
    assert_eq!((context.registers.rip, context.fs_base, context.gs_base), (0x2000, 0x30, 0x20));
    assert_eq!(set(&ThreadContext { fs_base: 1 << 47, ..context }), status::INVALID);
    let far = CRegisters { rip: crate::addr::USER_END, ..context.registers };
    assert_eq!(set(&ThreadContext { registers: far, ..context }), status::INVALID);
    assert_eq!(set(&ThreadContext { parts: 1 << 20, ..context }), status::INVALID);
    assert_eq!(set(&ThreadContext { size: 8, ..context }), status::TOO_SMALL);
    // SAFETY: as above.
    unsafe { (ROUTINES.terminate_thread)(thread) };
    assert_eq!(get(&mut context), status::NOT_STOPPED);
}

fn empty_context(parts: u64) -> ThreadContext {
    ThreadContext {
        size: size_of::<ThreadContext>() as u64,
        parts,
        registers: CRegisters::default(),
        fs_base: 0,
        gs_base: 0,
        debug_addresses: [0; 4],
        debug_control: 0,
        extended: std::ptr::null_mut(),
        extended_size: 0,
    }
}

#[test]
fn memory_is_mapped_read_written_and_taken_away() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let (map, read) = (ROUTINES.map_memory, ROUTINES.read_memory);
    let (write, poke) = (ROUTINES.write_memory, ROUTINES.poke_memory);
    let mut bytes = [0_u8; 4];
    // SAFETY: a process of ours, and buffers of the lengths given.
    unsafe {
        assert_eq!(map(process, 0x1000, 0x1000, 1), status::OK);
        assert_eq!(write(process, 0x1ffe, b"abcd".as_ptr(), 4), status::FAULT);
        assert_eq!(poke(process, 0x1100, b"abcd".as_ptr(), 4), status::OK);
        assert_eq!((ROUTINES.protect_memory)(process, 0x1000, 0x1000, 3), status::OK);
        assert_eq!(write(process, 0x1101, b"xy".as_ptr(), 2), status::OK);
        assert_eq!(read(process, 0x1100, bytes.as_mut_ptr(), 4), status::OK);
        assert_eq!(&bytes, b"axyd");
        let mut found = Page { size: size_of::<Page>() as u64, state: 9, access: 9 };
        assert_eq!((ROUTINES.query_page)(process, 0x1234, &raw mut found), status::OK);
        assert_eq!((found.state, found.access), (page::MAPPED, 3));

        let child = self::process(process, 3, 1).unwrap();
        assert_eq!((ROUTINES.break_copy)(child, 0x1000), status::OK);
        assert_eq!(write(child, 0x1100, b"child".as_ptr(), 5), status::OK);
        assert_eq!(read(process, 0x1100, bytes.as_mut_ptr(), 4), status::OK);
        assert_eq!(&bytes, b"axyd");
        (ROUTINES.release_process)(child);

        assert_eq!((ROUTINES.unmap_memory)(process, 0x1000, 0x1000), status::OK);
        assert_eq!(read(process, 0x1100, bytes.as_mut_ptr(), 4), status::FAULT);
        assert_eq!((ROUTINES.query_page)(process, 0x1234, &raw mut found), status::OK);
        assert_eq!(found.state, page::ABSENT);
        assert_eq!(read(process, 0x1100, std::ptr::null_mut(), 4), status::INVALID);
        assert_eq!(read(process, 0x1100, std::ptr::null_mut(), 0), status::OK);
        assert_eq!(write(process, 0x1100, std::ptr::null(), u64::MAX), status::INVALID);
        assert_eq!(poke(process, u64::MAX, b"abcd".as_ptr(), 4), status::INVALID);
        for (address, length, access) in
            [(1, 0x1000, 1), (0x1000, 1, 1), (0x1000, 0, 1), (1 << 47, 0x1000, 1), (!0xfff, 0x2000, 1)]
        {
            assert_eq!(map(process, address, length, access), status::INVALID, "{address:#x}, {length:#x}");
            assert_eq!((ROUTINES.unmap_memory)(process, address, length), status::INVALID);
        }
        assert_eq!(map(process, 0x1000, 0x1000, 8), status::INVALID);
        // More than the host has.
        assert_eq!(map(process, 0x10_0000, 64 << 20, 3), status::NO_MEMORY);
    }
}

fn adapter(table: ProviderRoutines) -> Adapter {
    // SAFETY: a table of this file.
    let (callbacks, ranges) = unsafe { Callbacks::take(&raw const table) }.unwrap();
    Adapter::new(callbacks, ranges).unwrap()
}

fn context(value: usize) -> Context {
    crate::foreign::context::ForeignContext::new(std::ptr::without_provenance_mut(value), None)
}

#[test]
fn traps_reach_foreign_callbacks_and_their_answers_count() {
    let adapter = adapter(full());
    let mut cpu = DetachedCpu::default();
    let mut registers = Registers { rax: 41, ..Registers::default() };
    let mut call = |rdi| {
        registers.rdi = rdi;
        let mut frame = TrapFrame { registers, cpu: &mut cpu };
        let answer = adapter.dispatch_system_call(&context(5), &mut frame);
        (answer, frame.registers.rax)
    };
    assert_eq!(call(0), (Disposition::Return, 42));
    assert_eq!(call(1), (Disposition::Resume, 42));
    assert_eq!(call(2), (Disposition::Exit, 42));
    // Not an answer to a system call, and none at all: the thread ends.
    assert_eq!(call(3), (Disposition::Exit, 42));
    assert_eq!(call(99), (Disposition::Exit, 42));
    assert_eq!(calls(), [("call", 5, 41); 5]);

    let exception = Exception { vector: Vector::PAGE_FAULT, error: 6, address: UserAddr(0x1234) };
    let mut frame = TrapFrame { registers: Registers::default(), cpu: &mut cpu };
    let mut ask = |chance| {
        let record = crate::pico::ExceptionRecord { exception, chance };
        (adapter.dispatch_exception(&context(6), &record, &mut frame), frame.registers.rip)
    };
    assert_eq!(ask(Chance::First), (None, 0), "an answer of none must leave the frame alone");
    assert_eq!(ask(Chance::Second), (Some(Disposition::Resume), 0x1234));
    assert_eq!(calls(), [("exception", 6, 14 << 8 | 1), ("exception", 6, 14 << 8 | 2)]);
}

thread_local! {
    static FRAME_WORK: Cell<fn(*mut Frame)> = const { Cell::new(|_| ()) };
}

unsafe extern "C" fn works_on_its_frame(_: *mut c_void, frame: *mut Frame) -> i32 {
    FRAME_WORK.get()(frame);
    disposition::RESUME
}

#[test]
fn the_state_behind_a_frame_is_read_and_changed() {
    let adapter = adapter(ProviderRoutines { dispatch_system_call: Some(works_on_its_frame), ..full() });
    let mut cpu = DetachedCpu::default();
    FRAME_WORK.set(|frame| {
        let mut area = [0_u8; 1024];
        let mut context = empty_context(part::REGISTERS | part::BASES | part::EXTENDED);
        (context.extended, context.extended_size) = (area.as_mut_ptr(), 64);
        // SAFETY: the callback's frame, and contexts with areas of the sizes they say, in this whole function.
        unsafe {
            assert_eq!((ROUTINES.set_thread_descriptor_base)(frame, 0, 0x1000), status::OK);
            assert_eq!((ROUTINES.set_thread_descriptor_base)(frame, 1, 0x2000), status::OK);
            assert_eq!((ROUTINES.set_thread_descriptor_base)(frame, 2, 0x2000), status::INVALID);
            assert_eq!((ROUTINES.set_thread_descriptor_base)(frame, 0, 1 << 63), status::INVALID);
            assert_eq!((ROUTINES.get_frame_context)(frame, &raw mut context), status::TOO_SMALL);
            context.extended_size = 1024;
            assert_eq!((ROUTINES.get_frame_context)(frame, &raw mut context), status::OK);
        }
        assert_eq!((context.fs_base, context.gs_base, context.registers.rip), (0x1000, 0x2000, 7));
        assert_eq!((context.extended_size, area[0], area[1]), (576, 0x7f, 3));
        area[24] = 0xa0;
        context.extended = area.as_mut_ptr();
        (context.registers.rip, context.gs_base) = (8, 0x3000);
        // SAFETY: as above.
        unsafe {
            assert_eq!((ROUTINES.set_frame_context)(frame, &raw const context), status::OK);
            context.gs_base = 1 << 50;
            assert_eq!((ROUTINES.set_frame_context)(frame, &raw const context), status::INVALID);
            assert_eq!((ROUTINES.get_frame_context)(std::ptr::null_mut(), &raw mut context), status::INVALID);
            assert_eq!((ROUTINES.get_frame_context)(frame, std::ptr::null_mut()), status::TOO_SMALL);
        }
    });
    let mut frame = TrapFrame { registers: Registers { rip: 7, ..Registers::default() }, cpu: &mut cpu };
    assert_eq!(adapter.dispatch_system_call(&context(1), &mut frame), Disposition::Resume);
    assert_eq!(frame.registers.rip, 8);
    assert_eq!(cpu.segment_bases(), (0x1000, 0x3000));
    let mut area = vec![0; cpu.xsave_size()];
    cpu.save_xsave(&mut area);
    assert_eq!(area[24], 0xa0);
}

#[test]
fn tools_learn_what_the_foreign_provider_says() {
    let (adapter, context) = (adapter(full()), context(3));
    assert_eq!((adapter.process_number(&context), adapter.thread_number(&context)), (12, 77));
    let details = adapter.process_details(&context);
    assert_eq!((details.parent, details.activity, details.handles), (Some(11), Activity::Stopped, 5));
    assert_eq!((details.command.as_slice(), adapter.process_name(&context).as_slice()), (&b"nnnn"[..], &b"nnnn"[..]));
    assert_eq!(adapter.subsystem(), SubsystemType::Other(9));
    let lies = self::adapter(ProviderRoutines { process_image_name: Some(lies_about_its_name), ..full() });
    assert_eq!(lies.process_name(&context), [0; 256]);
    let linux = self::adapter(ProviderRoutines { subsystem: 1, ..full() });
    assert_eq!(linux.subsystem(), SubsystemType::Linux);
}

#[test]
fn rights_are_the_wanted_ones_that_the_foreign_provider_allows() {
    let (adapter, context) = (adapter(full()), context(3));
    let wanted = ProcessAccess::TERMINATE | ProcessAccess::QUERY;
    assert_eq!(adapter.open_process_allowed_access(&context, None, wanted), wanted);
    assert_eq!(adapter.open_process_allowed_access(&context, Some(&context), wanted), ProcessAccess::TERMINATE);
    let wanted = ThreadAccess::GET_CONTEXT;
    assert_eq!(adapter.open_thread_allowed_access(&context, None, wanted), wanted);
    assert_eq!(adapter.open_thread_allowed_access(&context, Some(&context), wanted), ThreadAccess::empty());
}

#[test]
fn ends_terminations_and_io_faults_reach_the_foreign_provider() {
    let (adapter, context) = (adapter(full()), context(3));
    adapter.exit_thread(&context, ExitReason::Exited);
    adapter.exit_process(&context, ExitReason::Unhandled);
    adapter.terminate_process(&context);
    let fault = |access| Fault { address: UserAddr(0x9000), access, kind: FaultKind::Entry };
    assert!(adapter.dispatch_io_fault(&context, &fault(Access::WRITE)));
    assert!(!adapter.dispatch_io_fault(&context, &fault(Access::READ)));
    let io = ("io fault", 3, 0x9000);
    assert_eq!(calls(), [("exit thread", 3, 0), ("exit process", 3, 3), ("terminate", 3, 0), io, io]);
}

#[test]
fn stacks_are_walked_by_the_foreign_provider_until_the_visitor_has_enough() {
    let adapter = adapter(full());
    let mut seen = Vec::new();
    let registers = Registers { rip: 0x55, ..Registers::default() };
    adapter.walk_user_stack(&context(4), &registers, &mut |frame| {
        seen.push(frame);
        if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(calls(), [("walk", 4, 0x55)]);
    let symbol = Some(Place { name: b"function".to_vec(), offset: 3 });
    let frame = |address| crate::pico::walk::StackFrame {
        address: UserAddr(address),
        found: Found::FramePointer,
        module: None,
        symbol: symbol.clone(),
    };
    assert_eq!(seen, [frame(1), frame(2)]);
}

thread_local! {
    static SEEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn see(_: *mut Visitor, frame: *const StackFrame) -> i32 {
    // SAFETY: the host's frame.
    SEEN.with_borrow_mut(|seen| seen.push(unsafe { (*frame).address }));
    0
}

#[test]
fn a_foreign_provider_walks_frame_pointers_with_the_hosts_help() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let stack: Vec<u8> = [0x5010_u64, 0x222, 0, 0x333].iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut registers = CRegisters { rip: 0x111, ..CRegisters::default() };
    (registers.general[6], registers.general[7]) = (0x5000, 0x5000);
    let mut visitor = Visitor { size: size_of::<Visitor>() as u64, visit: Some(see) };
    // SAFETY: a process of ours, and the rest lives in this function.
    unsafe {
        assert_eq!((ROUTINES.map_memory)(process, 0x5000, 0x1000, 3), status::OK);
        assert_eq!((ROUTINES.write_memory)(process, 0x5000, stack.as_ptr(), 32), status::OK);
        let walk = ROUTINES.walk_frame_pointers;
        assert_eq!(walk(process, &raw const registers, &raw mut visitor), status::OK);
        assert_eq!(walk(process, std::ptr::null(), &raw mut visitor), status::INVALID);
        assert_eq!(walk(process, &raw const registers, std::ptr::null_mut()), status::INVALID);
    }
    assert_eq!(SEEN.take(), [0x111, 0x222, 0x333]);
}

#[test]
fn a_request_starts_the_foreign_provider() {
    let host = host();
    let provider = ForeignProvider { host: register(&host, &full()).unwrap(), statement: None };
    assert_eq!(provider.start(b"ab"), Ok(()));
    assert_eq!(provider.start(b"abc"), Err(StartError::Failed(-11)));
    assert_eq!(calls().len(), 2);
    assert_eq!(provider.subsystem(), Some(SubsystemType::Other(9)));
}

/// Counts of what the host knows, for the types that the table's references stand for.
#[test]
fn references_are_what_the_host_counts() {
    let host = host();
    register(&host, &full()).unwrap();
    let process = process(std::ptr::null(), 1, 0).unwrap();
    let thread = thread(process, 2, 0x1000).unwrap();
    // SAFETY: references that were just given, and that are not given back here.
    let (process, thread) = unsafe {
        (crate::foreign::context::borrow::<Process>(process), crate::foreign::context::borrow::<Thread>(thread))
    };
    let (process, thread) = (process.unwrap(), thread.unwrap());
    assert_eq!(thread.process().id(), process.id());
    assert!(host.processes().iter().any(|other| other.id() == process.id()));
}
