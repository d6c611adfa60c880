//! The host's side of the contract as a table of C functions. What each does is said in `include/pico.h`.
//!
//! Pointers are checked for null, sizes, ranges and flags for sense. That a pointer which is not null is what the contract
//! says is up to the provider: it is trusted, which is why it is signed.

use super::abi::{self, Page, ProviderRoutines, Routines, Status, Visitor, page, status, stopped};
use super::context::{ForeignContext, borrow, lend, pointer};
use super::tables::{self, Callbacks, TableError};
use super::{contexts, provider, visit};
use crate::addr::{USER_END, UserAddr, UserRange};
use crate::memory::{Access, MemoryError, PageState};
use crate::pico::{
    Context, CreateError, HostLink, NotStopped, Process, ProcessAttributes, ProcessFlags, ProtectedRange,
    RegisterError, Stopped, Thread, ThreadAttributes, walk,
};
use std::ffi::c_void;
use std::sync::{Arc, OnceLock};

/// The host's table. It lies among the constants of the monitor's image.
pub(super) static ROUTINES: Routines = Routines {
    size: abi::size_of_u64::<Routines>(),
    version: abi::VERSION,
    reserved: 0,
    create_process,
    create_thread,
    get_process_context,
    get_thread_context,
    get_context_thread_internal: contexts::get_thread,
    set_context_thread_internal: contexts::set_thread,
    suspend_thread,
    resume_thread,
    terminate_thread,
    set_thread_descriptor_base: contexts::set_base,
    terminate_process,
    hand_over,
    start_thread,
    kick_thread,
    wait_thread_stopped,
    get_frame_context: contexts::get_frame,
    set_frame_context: contexts::set_frame,
    reference_process: reference::<Process>,
    release_process: release::<Process>,
    reference_thread: reference::<Thread>,
    release_thread: release::<Thread>,
    map_memory,
    unmap_memory,
    protect_memory,
    read_memory,
    write_memory,
    poke_memory,
    query_page,
    break_copy,
    walk_frame_pointers,
};

/// What a provider's `PicoHost` points to. It is never freed: the provider may keep it for as long as the monitor runs.
#[derive(Debug)]
pub(super) struct ForeignHost {
    link: HostLink,
    /// What of the object's memory is constant.
    image: Vec<ProtectedRange>,
    /// The callbacks of the table that registered, and of the one it handed over to.
    first: OnceLock<&'static Callbacks>,
    real: OnceLock<&'static Callbacks>,
}

impl ForeignHost {
    pub(super) fn new(link: HostLink, image: Vec<ProtectedRange>) -> Self {
        Self { link, image, first: OnceLock::new(), real: OnceLock::new() }
    }

    /// What of the object's memory is constant.
    pub(super) fn image(&self) -> &[ProtectedRange] {
        &self.image
    }

    /// Notes the table that registers.
    pub(super) fn registers(&self, callbacks: &'static Callbacks) {
        // Registration calls this once.
        let _ = self.first.set(callbacks);
    }

    /// The callbacks in charge.
    pub(super) fn callbacks(&self) -> Option<&'static Callbacks> {
        self.real.get().or_else(|| self.first.get()).copied()
    }
}

/// The host behind a provider's pointer.
///
/// # Safety
/// `host` is null or what the registration gave.
unsafe fn host_of(host: *const c_void) -> Option<&'static ForeignHost> {
    // SAFETY: the registration's host is never freed.
    unsafe { host.cast::<ForeignHost>().as_ref() }
}

pub(super) fn refused(error: &TableError) -> Status {
    match error {
        TableError::TooSmall { .. } => status::TOO_SMALL,
        TableError::Version { .. } => status::UNSUPPORTED,
        _ => status::INVALID,
    }
}

fn not_made(error: CreateError) -> Status {
    match error {
        CreateError::Memory(error) => not_had(error),
        CreateError::HostExhausted => status::EXHAUSTED,
        CreateError::Over => status::OVER,
        CreateError::NoProvider | CreateError::Unsupported => status::UNSUPPORTED,
    }
}

fn not_had(error: MemoryError) -> Status {
    match error {
        MemoryError::LimitReached | MemoryError::HostExhausted => status::NO_MEMORY,
        MemoryError::Io(_) => status::FAULT,
    }
}

fn done<E>(result: Result<(), E>, status_of: impl FnOnce(E) -> Status) -> Status {
    result.map_or_else(status_of, |()| status::OK)
}

unsafe extern "C" fn create_process(
    host: *const c_void,
    attributes: *const abi::ProcessAttributes,
    process: *mut *const c_void,
) -> Status {
    // SAFETY: the contract.
    let Some(host) = (unsafe { host_of(host) }) else { return status::INVALID };
    // SAFETY: the contract.
    let attributes = match unsafe { tables::read(attributes) } {
        Ok(attributes) => attributes,
        Err(error) => return refused(&error),
    };
    let flags = u32::try_from(attributes.flags).ok().and_then(ProcessFlags::from_bits);
    let Some(callbacks) = host.callbacks() else { return status::UNSUPPORTED };
    let (Some(flags), false) = (flags, process.is_null()) else { return status::INVALID };
    let context = (!attributes.context.is_null())
        .then(|| ForeignContext::new(attributes.context, callbacks.release_process_context));
    let made = ProcessAttributes {
        flags,
        context: context.clone().map(|context| context as Context),
        ..ProcessAttributes::default()
    };
    // SAFETY: the contract.
    let made = match unsafe { borrow::<Process>(attributes.parent) } {
        Some(parent) => parent.create_child(made),
        None => host.link.create_process(made),
    };
    match made {
        Ok(made) => {
            context.inspect(|context| context.take());
            // SAFETY: it is not null; the contract says that a pointer can be stored there.
            unsafe { process.write(lend(made)) };
            status::OK
        }
        Err(error) => not_made(error),
    }
}

unsafe extern "C" fn create_thread(
    host: *const c_void,
    attributes: *const abi::ThreadAttributes,
    thread: *mut *const c_void,
) -> Status {
    // SAFETY: the contract.
    let Some(host) = (unsafe { host_of(host) }) else { return status::INVALID };
    // SAFETY: the contract.
    let attributes = match unsafe { tables::read(attributes) } {
        Ok(attributes) => attributes,
        Err(error) => return refused(&error),
    };
    let Some(callbacks) = host.callbacks() else { return status::UNSUPPORTED };
    // SAFETY: the contract.
    let Some(process) = (unsafe { borrow::<Process>(attributes.process) }) else { return status::INVALID };
    let abi::ThreadAttributes { context, registers, fs_base, gs_base, .. } = attributes;
    if context.is_null() || thread.is_null() || registers.rip >= USER_END || fs_base.max(gs_base) >= 1 << 47 {
        return status::INVALID;
    }
    let context = ForeignContext::new(context, callbacks.release_thread_context);
    let registers = registers.into();
    let made = ThreadAttributes { registers, fs_base, gs_base, xsave: None, context: context.clone() };
    match process.create_thread(made) {
        Ok(made) => {
            context.take();
            // SAFETY: it is not null; the contract says that a pointer can be stored there.
            unsafe { thread.write(lend(made)) };
            status::OK
        }
        Err(error) => not_made(error),
    }
}

unsafe extern "C" fn get_process_context(process: *const c_void) -> *mut c_void {
    // SAFETY: the contract.
    let process = unsafe { borrow::<Process>(process) };
    process.and_then(|process| process.context().map(pointer)).unwrap_or(std::ptr::null_mut())
}

unsafe extern "C" fn get_thread_context(thread: *const c_void) -> *mut c_void {
    // SAFETY: the contract.
    let thread = unsafe { borrow::<Thread>(thread) };
    thread.map_or(std::ptr::null_mut(), |thread| pointer(thread.context()))
}

/// Does something with a thread or a process.
///
/// # Safety
/// As for [`borrow`].
unsafe fn with<T>(reference: *const c_void, body: impl FnOnce(&Arc<T>) -> Status) -> Status {
    // SAFETY: passed on to the caller.
    unsafe { borrow::<T>(reference) }.map_or(status::INVALID, |object| body(&object))
}

unsafe extern "C" fn suspend_thread(thread: *const c_void) -> Status {
    let suspend = |thread: &Arc<Thread>| {
        thread.suspend();
        status::OK
    };
    // SAFETY: the contract.
    unsafe { with(thread, suspend) }
}

unsafe extern "C" fn resume_thread(thread: *const c_void) -> Status {
    let resume = |thread: &Arc<Thread>| {
        thread.resume();
        status::OK
    };
    // SAFETY: the contract.
    unsafe { with(thread, resume) }
}

unsafe extern "C" fn terminate_thread(thread: *const c_void) -> Status {
    let terminate = |thread: &Arc<Thread>| {
        thread.terminate();
        status::OK
    };
    // SAFETY: the contract.
    unsafe { with(thread, terminate) }
}

unsafe extern "C" fn start_thread(thread: *const c_void) -> Status {
    // SAFETY: the contract.
    unsafe { with(thread, |thread: &Arc<Thread>| done(thread.start(), not_made)) }
}

unsafe extern "C" fn kick_thread(thread: *const c_void) -> Status {
    let kick = |thread: &Arc<Thread>| {
        thread.kick();
        status::OK
    };
    // SAFETY: the contract.
    unsafe { with(thread, kick) }
}

unsafe extern "C" fn wait_thread_stopped(thread: *const c_void, how: *mut u32) -> Status {
    let wait = |thread: &Arc<Thread>| match thread.wait_stopped() {
        Ok(_) if how.is_null() => status::INVALID,
        Ok(found) => {
            let number = match found {
                Stopped::Parked => stopped::PARKED,
                Stopped::InProvider => stopped::IN_PROVIDER,
                Stopped::Ended => stopped::ENDED,
            };
            // SAFETY: it is not null; the contract says that a number can be stored there.
            unsafe { how.write(number) };
            status::OK
        }
        Err(NotStopped) => status::NOT_STOPPED,
    };
    // SAFETY: the contract.
    unsafe { with(thread, wait) }
}

unsafe extern "C" fn terminate_process(process: *const c_void) -> Status {
    let terminate = |process: &Arc<Process>| {
        process.terminate();
        status::OK
    };
    // SAFETY: the contract.
    unsafe { with(process, terminate) }
}

unsafe extern "C" fn hand_over(host: *const c_void, routines: *const ProviderRoutines) -> Status {
    // SAFETY: the contract.
    let Some(host) = (unsafe { host_of(host) }) else { return status::INVALID };
    // SAFETY: the contract.
    let (callbacks, ranges) = match unsafe { Callbacks::take(routines) } {
        Ok(taken) => taken,
        Err(error) => return refused(&error),
    };
    let Ok(real) = provider::Adapter::new(callbacks, [ranges, host.image.clone()].concat()) else {
        return status::NO_MEMORY;
    };
    let callbacks = real.callbacks();
    match host.link.hand_over(Arc::new(real)) {
        Ok(()) => {
            // The registry lets one through.
            let _ = host.real.set(callbacks);
            status::OK
        }
        Err(RegisterError::Sealed) => status::SEALED,
        Err(RegisterError::Taken | RegisterError::Spoilt) => status::TAKEN,
    }
}

unsafe extern "C" fn reference<T>(object: *const c_void) {
    // SAFETY: the contract.
    if let Some(object) = unsafe { borrow::<T>(object) } {
        // The pointer is the same; what counts is the count.
        let _ = lend(Arc::clone(&object));
    }
}

unsafe extern "C" fn release<T>(object: *const c_void) {
    // SAFETY: the contract: the reference is not used after this.
    if let Some(object) = unsafe { borrow::<T>(object) } {
        drop(std::mem::ManuallyDrop::into_inner(object));
    }
}

/// A range of whole pages in the user half.
fn pages(address: u64, length: u64) -> Option<UserRange> {
    let range = UserRange::new(UserAddr(address), length)?;
    let whole = range.start.is_page_aligned() && range.end.is_page_aligned();
    (whole && !range.is_empty() && range.end.0 <= USER_END).then_some(range)
}

fn access(bits: u32) -> Option<Access> {
    u8::try_from(bits).ok().and_then(Access::from_bits)
}

unsafe extern "C" fn map_memory(process: *const c_void, address: u64, length: u64, bits: u32) -> Status {
    let (Some(range), Some(access)) = (pages(address, length), access(bits)) else { return status::INVALID };
    let map = |process: &Arc<Process>| done(process.space().map_anonymous(range, access, false), not_had);
    // SAFETY: the contract.
    unsafe { with(process, map) }
}

unsafe extern "C" fn unmap_memory(process: *const c_void, address: u64, length: u64) -> Status {
    let Some(range) = pages(address, length) else { return status::INVALID };
    let unmap = |process: &Arc<Process>| {
        process.space().unmap(range);
        status::OK
    };
    // SAFETY: the contract.
    unsafe { with(process, unmap) }
}

unsafe extern "C" fn protect_memory(process: *const c_void, address: u64, length: u64, bits: u32) -> Status {
    let (Some(range), Some(access)) = (pages(address, length), access(bits)) else { return status::INVALID };
    let protect = |process: &Arc<Process>| {
        process.space().protect(range, access);
        status::OK
    };
    // SAFETY: the contract.
    unsafe { with(process, protect) }
}

/// The provider's bytes at `from`; `None` for null and for more bytes than there can be.
///
/// # Safety
/// `from` is null or points to `length` bytes that nobody changes meanwhile.
unsafe fn bytes<'a>(from: *const u8, length: u64) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok().filter(|length| isize::try_from(*length).is_ok())?;
    if length == 0 {
        return Some(&[]);
    }
    // SAFETY: not null, not too long; the rest the caller says.
    (!from.is_null()).then(|| unsafe { std::slice::from_raw_parts(from, length) })
}

unsafe extern "C" fn read_memory(process: *const c_void, address: u64, to: *mut u8, length: u64) -> Status {
    let Some(length) = usize::try_from(length).ok().filter(|length| isize::try_from(*length).is_ok()) else {
        return status::INVALID;
    };
    if length == 0 {
        return status::OK;
    }
    if to.is_null() {
        return status::INVALID;
    }
    // SAFETY: not null, not too long; the contract says that so many bytes can be written there, by us alone.
    let to = unsafe { std::slice::from_raw_parts_mut(to, length) };
    let read = |process: &Arc<Process>| done(process.space().read(UserAddr(address), to), |_| status::FAULT);
    // SAFETY: the contract.
    unsafe { with(process, read) }
}

unsafe extern "C" fn write_memory(process: *const c_void, address: u64, from: *const u8, length: u64) -> Status {
    // SAFETY: the contract.
    let Some(from) = (unsafe { bytes(from, length) }) else { return status::INVALID };
    let write = |process: &Arc<Process>| done(process.space().write(UserAddr(address), from), |_| status::FAULT);
    // SAFETY: the contract.
    unsafe { with(process, write) }
}

unsafe extern "C" fn poke_memory(process: *const c_void, address: u64, from: *const u8, length: u64) -> Status {
    // SAFETY: the contract.
    let Some(from) = (unsafe { bytes(from, length) }) else { return status::INVALID };
    if address.checked_add(length).is_none_or(|end| end > USER_END) {
        return status::INVALID;
    }
    let poke = |process: &Arc<Process>| done(process.space().poke(UserAddr(address), from), not_had);
    // SAFETY: the contract.
    unsafe { with(process, poke) }
}

unsafe extern "C" fn query_page(process: *const c_void, address: u64, to: *mut Page) -> Status {
    // SAFETY: the contract.
    let mut found = match unsafe { tables::read(to) } {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    // SAFETY: the contract.
    let Some(process) = (unsafe { borrow::<Process>(process) }) else { return status::INVALID };
    let (state, access) = match process.space().page_state(UserAddr(address)) {
        PageState::Absent => (page::ABSENT, Access::empty()),
        PageState::Mapped(access) => (page::MAPPED, access),
        PageState::CopyOnWrite(access) => (page::COPY_ON_WRITE, access),
        PageState::Bus => (page::BUS, Access::empty()),
    };
    (found.state, found.access) = (state, access.bits().into());
    // SAFETY: it was read from there, so it is aligned and has at least the bytes of this version's.
    unsafe { to.write(found) };
    status::OK
}

unsafe extern "C" fn break_copy(process: *const c_void, address: u64) -> Status {
    if address >= USER_END {
        return status::INVALID;
    }
    let break_copy = |process: &Arc<Process>| done(process.space().break_copy(UserAddr(address)), not_had);
    // SAFETY: the contract.
    unsafe { with(process, break_copy) }
}

unsafe extern "C" fn walk_frame_pointers(
    process: *const c_void,
    registers: *const abi::CRegisters,
    visitor: *mut Visitor,
) -> Status {
    // SAFETY: the contract.
    let Some(registers) = (unsafe { registers.as_ref() }) else { return status::INVALID };
    // SAFETY: the contract.
    let Some(mut visit) = (unsafe { visit::foreign(visitor) }) else { return status::INVALID };
    let walk = |process: &Arc<Process>| {
        let space = process.space();
        let read = |at: UserAddr, to: &mut [u8]| space.read(at, to).is_ok();
        walk::by_frame_pointers(&(*registers).into(), &read, &mut visit);
        status::OK
    };
    // SAFETY: the contract.
    unsafe { with(process, walk) }
}
