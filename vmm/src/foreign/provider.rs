//! A foreign provider as the host sees it: the contract's trait over a table of C callbacks.

use super::abi::{self, activity, disposition, reason};
use super::context::pointer;
use super::frame::show;
use super::tables::Callbacks;
use super::visit;
use crate::memory::Fault;
use crate::pico::{
    Activity, Chance, Context, Disposition, ExceptionRecord, ExitReason, PostedCall, ProcessAccess, ProcessDetails,
    ProtectedRange, Provider, SubsystemType, ThreadAccess, TrapFrame, walk::Visit,
};
use crate::protect::Sealed;
use crate::trap::Registers;
use std::ffi::c_void;

/// Bytes of a name, and of a command line, that are asked for.
const NAME_MAX: usize = 256;
const COMMAND_MAX: usize = 4096;

/// A provider behind a table of C callbacks.
///
/// Each call below is sound for the same reasons: the callback is one that the provider gave for this purpose, the context
/// is one that it gave with a process or thread and has not got back, and what else is passed lives until it returns.
#[derive(Debug)]
pub(super) struct Adapter {
    /// Never freed, as the object's code never goes: a thread of the host may always be about to call.
    callbacks: &'static Callbacks,
    ranges: Vec<ProtectedRange>,
}

impl Adapter {
    /// Moves a provider's callbacks to sealed memory.
    ///
    /// # Errors
    /// The host has none.
    pub(super) fn new(callbacks: Callbacks, mut ranges: Vec<ProtectedRange>) -> std::io::Result<Self> {
        let sealed: &'static Sealed<Callbacks> = Box::leak(Box::new(Sealed::new(callbacks)?));
        let callbacks: &'static Callbacks = sealed;
        ranges.push(ProtectedRange::of("the callbacks of the foreign provider", callbacks));
        Ok(Self { callbacks, ranges })
    }

    pub(super) fn callbacks(&self) -> &'static Callbacks {
        self.callbacks
    }
}

/// What the answer to a trap means; `None`: the exception was not handled. A provider that answers nonsense has lost track
/// of the thread, which ends.
fn disposition_of(answer: i32) -> Option<Disposition> {
    match answer {
        disposition::RETURN => Some(Disposition::Return),
        disposition::RESUME => Some(Disposition::Resume),
        disposition::EXIT => Some(Disposition::Exit),
        disposition::NOT_HANDLED => None,
        nonsense => {
            tracing::error!(nonsense, "the foreign provider gave an answer that is none");
            Some(Disposition::Exit)
        }
    }
}

fn reason_of(reason: ExitReason) -> u32 {
    match reason {
        ExitReason::Exited => reason::EXITED,
        ExitReason::Terminated => reason::TERMINATED,
        ExitReason::Failed => reason::FAILED_TO_RUN,
        ExitReason::Unhandled => reason::UNHANDLED,
    }
}

/// Lets a callback write bytes, at most `capacity`.
fn written(callback: abi::WriteBytes, context: &Context, capacity: usize) -> Vec<u8> {
    let mut bytes = vec![0; capacity];
    // SAFETY: see [`Adapter`].
    let count = unsafe { callback(pointer(context), bytes.as_mut_ptr(), capacity as u64) };
    bytes.truncate(usize::try_from(count).unwrap_or(capacity));
    bytes
}

impl Provider for Adapter {
    fn dispatch_system_call(&self, thread: &Context, frame: &mut TrapFrame<'_>) -> Disposition {
        let callback = self.callbacks.dispatch_system_call;
        // SAFETY: see [`Adapter`].
        let answer = show(frame, |frame| unsafe { callback(pointer(thread), frame) }, |_| true);
        disposition_of(answer).unwrap_or(Disposition::Exit)
    }

    fn dispatch_exception(
        &self,
        thread: &Context,
        record: &ExceptionRecord,
        frame: &mut TrapFrame<'_>,
    ) -> Option<Disposition> {
        let callback = self.callbacks.dispatch_exception;
        let shown = abi::ExceptionRecord {
            size: abi::size_of_u64::<abi::ExceptionRecord>(),
            vector: record.exception.vector.0.into(),
            error: record.exception.error,
            address: record.exception.address.0,
            chance: if record.chance == Chance::First { 1 } else { 2 },
            reserved: 0,
        };
        let keep = |answer| answer != disposition::NOT_HANDLED;
        // SAFETY: see [`Adapter`].
        disposition_of(show(frame, |frame| unsafe { callback(pointer(thread), &raw const shown, frame) }, keep))
    }

    fn dispatch_posted_call(&self, _: &Context, _: &PostedCall) -> Option<u64> {
        // Its tables have no such callback, and its threads never post.
        None
    }

    fn dispatch_io_fault(&self, process: &Context, fault: &Fault) -> bool {
        self.callbacks.dispatch_io_fault.is_some_and(|callback| {
            // SAFETY: see [`Adapter`].
            unsafe { callback(pointer(process), fault.address.0, fault.access.bits().into()) == 1 }
        })
    }

    fn dispatch_kick(&self, thread: &Context, frame: &mut TrapFrame<'_>) -> Disposition {
        let Some(callback) = self.callbacks.dispatch_kick else { return Disposition::Resume };
        // SAFETY: see [`Adapter`].
        let answer = show(frame, |frame| unsafe { callback(pointer(thread), frame) }, |_| true);
        disposition_of(answer).unwrap_or(Disposition::Exit)
    }

    fn exit_thread(&self, thread: &Context, reason: ExitReason) {
        // SAFETY: see [`Adapter`].
        unsafe { (self.callbacks.exit_thread)(pointer(thread), reason_of(reason)) };
    }

    fn exit_process(&self, process: &Context, reason: ExitReason) {
        // SAFETY: see [`Adapter`].
        unsafe { (self.callbacks.exit_process)(pointer(process), reason_of(reason)) };
    }

    fn terminate_process(&self, process: &Context) {
        // SAFETY: see [`Adapter`].
        unsafe { (self.callbacks.terminate_process)(pointer(process)) };
    }

    fn walk_user_stack(&self, thread: &Context, registers: &Registers, visit: &mut Visit<'_>) {
        let (callback, registers) = (self.callbacks.walk_user_stack, (*registers).into());
        // SAFETY: see [`Adapter`].
        visit::ours(visit, |visitor| unsafe { callback(pointer(thread), &raw const registers, visitor) });
    }

    fn protected_ranges(&self) -> Vec<ProtectedRange> {
        self.ranges.clone()
    }

    fn process_name(&self, process: &Context) -> Vec<u8> {
        written(self.callbacks.process_image_name, process, NAME_MAX)
    }

    fn process_number(&self, process: &Context) -> u64 {
        self.details(process).number
    }

    fn process_details(&self, process: &Context) -> ProcessDetails {
        let details = self.details(process);
        let command = self.callbacks.process_command;
        ProcessDetails {
            parent: (details.has_parent != 0).then_some(details.parent),
            activity: match details.activity {
                activity::WAITING => Activity::Waiting,
                activity::STOPPED => Activity::Stopped,
                activity::ENDED => Activity::Ended,
                _ => Activity::Running,
            },
            command: command.map(|callback| written(callback, process, COMMAND_MAX)).unwrap_or_default(),
            handles: details.handles,
        }
    }

    fn thread_name(&self, thread: &Context) -> Vec<u8> {
        self.callbacks.thread_name.map(|callback| written(callback, thread, NAME_MAX)).unwrap_or_default()
    }

    fn thread_number(&self, thread: &Context) -> u64 {
        // SAFETY: see [`Adapter`].
        self.callbacks.thread_number.map_or(0, |callback| unsafe { callback(pointer(thread)) })
    }

    fn open_process_allowed_access(
        &self,
        process: &Context,
        opener: Option<&Context>,
        wanted: ProcessAccess,
    ) -> ProcessAccess {
        let callback = self.callbacks.open_process_allowed_access;
        ProcessAccess::from_bits_truncate(allowed(callback, process, opener, wanted.bits()))
    }

    fn open_thread_allowed_access(
        &self,
        thread: &Context,
        opener: Option<&Context>,
        wanted: ThreadAccess,
    ) -> ThreadAccess {
        let callback = self.callbacks.open_thread_allowed_access;
        ThreadAccess::from_bits_truncate(allowed(callback, thread, opener, wanted.bits()))
    }

    fn subsystem(&self) -> SubsystemType {
        self.callbacks.subsystem
    }
}

impl Adapter {
    /// What the provider says of a process.
    fn details(&self, process: &Context) -> abi::ProcessDetails {
        let size = abi::size_of_u64::<abi::ProcessDetails>();
        let mut details =
            abi::ProcessDetails { size, number: 0, parent: 0, handles: 0, activity: activity::RUNNING, has_parent: 0 };
        if let Some(callback) = self.callbacks.process_details {
            // SAFETY: see [`Adapter`].
            unsafe { callback(pointer(process), &raw mut details) };
        }
        details
    }
}

/// Asks which rights an opener may have. It gets none that it does not want.
fn allowed(callback: abi::AllowedAccess, object: &Context, opener: Option<&Context>, wanted: u32) -> u32 {
    let opener: *mut c_void = opener.map_or(std::ptr::null_mut(), pointer);
    // SAFETY: see [`Adapter`].
    wanted & unsafe { callback(pointer(object), opener, wanted) }
}
