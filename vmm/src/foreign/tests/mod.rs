//! A provider made of C functions on a host without a processor: what the tests of registration, of the host's routines and of
//! the callbacks share.
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "the tests are the foreign side: their blocks are its code")]

mod callbacks;
mod registration;
mod routines;

use super::abi::{
    self, CRegisters, ExceptionRecord, Frame, ProcessAttributes, ProcessDetails, ProviderRoutines, Registration,
    Routines, StackFrame, ThreadAttributes, ThreadContext, Visitor, disposition, status,
};
use super::context::ForeignContext;
use super::load::{LoadError, register_with};
use super::provider::Adapter;
use super::routines::{ForeignHost, ROUTINES};
use super::tables::{Callbacks, TableError};
use crate::pico::{Context, ContextParts, Host};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::mem::offset_of;

thread_local! {
    /// What the entry answers and returns.
    pub(super) static ANSWER: Cell<i32> = const { Cell::new(0) };
    pub(super) static TABLE: Cell<*const ProviderRoutines> = const { Cell::new(std::ptr::null()) };
    /// What the entry was given.
    pub(super) static HOST: Cell<*const c_void> = const { Cell::new(std::ptr::null()) };
    pub(super) static PARAMETERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Which callbacks came, with what.
    static CALLS: RefCell<Vec<(&'static str, usize, u64)>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn note(what: &'static str, context: *mut c_void, value: u64) {
    CALLS.with_borrow_mut(|calls| calls.push((what, context.addr(), value)));
}

pub(super) fn calls() -> Vec<(&'static str, usize, u64)> {
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

pub(super) unsafe extern "C" fn lies_about_its_name(_: *mut c_void, _: *mut u8, _: u64) -> u64 {
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
pub(super) fn full() -> ProviderRoutines {
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
pub(super) fn least() -> ProviderRoutines {
    let least = offset_of!(ProviderRoutines, dispatch_kick);
    ProviderRoutines { size: least as u64, ..full() }
}

pub(super) fn host() -> Host {
    Host::detached(16 << 20).unwrap()
}

pub(super) fn register(host: &Host, table: &ProviderRoutines) -> Result<&'static ForeignHost, LoadError> {
    TABLE.set(table);
    // SAFETY: the entry above.
    unsafe { claim_and_register(host) }
}

/// # Safety
/// The entry is one.
pub(super) unsafe fn claim_and_register(host: &Host) -> Result<&'static ForeignHost, LoadError> {
    let claim = host.claim()?;
    claim.code_runs()?;
    // SAFETY: passed on to the caller.
    unsafe { register_with(host, claim, entry, b"parameters", Vec::new()) }
}

pub(super) fn table_error(result: Result<&'static ForeignHost, LoadError>) -> TableError {
    match result.unwrap_err() {
        LoadError::Table(error) => error,
        other => panic!("{other}"),
    }
}

/// Makes a process through the C table.
pub(super) fn process(parent: *const c_void, context: usize, flags: u64) -> Result<*const c_void, i32> {
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

pub(super) fn thread(process: *const c_void, context: usize, rip: u64) -> Result<*const c_void, i32> {
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

pub(super) fn empty_context(parts: ContextParts) -> ThreadContext {
    ThreadContext {
        size: size_of::<ThreadContext>() as u64,
        parts: parts.bits().into(),
        registers: CRegisters::default(),
        fs_base: 0,
        gs_base: 0,
        debug_addresses: [0; 4],
        debug_control: 0,
        debug_status: 0,
        extended: std::ptr::null_mut(),
        extended_size: 0,
    }
}

pub(super) fn adapter(table: ProviderRoutines) -> Adapter {
    // SAFETY: a table of this file.
    let (callbacks, ranges) = unsafe { Callbacks::take(&raw const table) }.unwrap();
    Adapter::new(callbacks, ranges).unwrap()
}

pub(super) fn context(value: usize) -> Context {
    ForeignContext::new(std::ptr::without_provenance_mut(value), None)
}
