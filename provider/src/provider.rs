//! The personality as the host sees it: upcalls become system calls, exceptions and signals of a task.

use crate::errno::Errno;
use crate::fs::sigio;
use crate::inspect;
use crate::kernel::{self, Kernel};
use crate::signal::deliver::{Delivery, InterruptedCall};
use crate::signal::{Signal, exception};
use crate::syscall::{self, Outcome};
use crate::task::call_site::{self, Entry};
use crate::task::{CurrentTask, ExitStatus, Task, ThreadGroup, exit};
use std::sync::Arc;
use vmm::memory::Fault;
use vmm::pico::walk::Visit;
use vmm::pico::{
    Context, Disposition, ExceptionRecord, ExitReason, PostedCall, ProcessAccess, ProcessDetails, ProtectedRange,
    Provider, SubsystemType, ThreadAccess, TrapFrame,
};
use vmm::trap::Registers;

/// The Linux personality.
#[derive(Debug)]
pub struct LinuxProvider {
    kernel: Arc<Kernel>,
}

impl LinuxProvider {
    /// Makes the provider of one sandbox.
    pub fn new(kernel: Arc<Kernel>) -> Self {
        Self { kernel }
    }
}

/// The task behind a thread's context: every thread of ours is made with one.
fn task_of(context: &Context) -> Arc<Task> {
    context.clone().downcast().expect("the context of a pico thread of this provider is its task")
}

fn group_of(context: &Context) -> Arc<ThreadGroup> {
    context.clone().downcast().expect("the context of a pico process of this provider is its thread group")
}

/// Acts as the thread's task for the length of a trap, and takes the registers back. `act` sees them as the program knows
/// them: patched call sites are taken for what they were.
fn with_task(
    context: &Context,
    frame: &mut TrapFrame<'_>,
    act: impl FnOnce(&mut CurrentTask<'_>, &Entry) -> Disposition,
) -> Disposition {
    let task = task_of(context);
    task.signals().entered_provider();
    let mut current = CurrentTask::new(task, TrapFrame { registers: frame.registers, cpu: &mut *frame.cpu });
    current.follow_affinity();
    sigio::begin_trap();
    let entry = call_site::enter(&mut current);
    let disposition = act(&mut current, &entry);
    sigio::end_trap(current.kernel());
    let disposition = call_site::leave(&mut current, &entry, disposition);
    frame.registers = current.frame.registers;
    disposition
}

/// What is left to do before user mode: signals, until none is left.
fn leave(
    task: &mut CurrentTask<'_>,
    mut disposition: Disposition,
    mut interrupted: Option<InterruptedCall>,
) -> Disposition {
    loop {
        sigio::send_noted(task.kernel());
        if interrupted.is_some() || task.signals().needs_attention() {
            match task.deliver_signals(interrupted.take()) {
                Delivery::Exit => return Disposition::Exit,
                Delivery::Registers => disposition = Disposition::Resume,
                Delivery::Nothing => {}
            }
        }
        if task.signals().leaving_provider() {
            return disposition;
        }
        task.signals().entered_provider();
    }
}

/// Serves the call in the task's registers.
fn system_call(task: &mut CurrentTask<'_>, entry: &Entry) -> Disposition {
    call_site::note_call(task, entry);
    let result = syscall::entry::serve(task);
    let requested = task.original;
    let (disposition, interrupted) = match result {
        Ok(Outcome::Return(value)) => {
            task.frame.registers.rax = value;
            (Disposition::Return, None)
        }
        Ok(Outcome::Resume) => (Disposition::Resume, None),
        Ok(Outcome::Exit) => return Disposition::Exit,
        Err(error) => {
            task.frame.registers.rax = error.to_return();
            (Disposition::Return, error.is_restart().then_some(InterruptedCall { number: requested, error }))
        }
    };
    leave(task, disposition, interrupted)
}

impl Provider for LinuxProvider {
    fn dispatch_system_call(&self, thread: &Context, frame: &mut TrapFrame<'_>) -> Disposition {
        with_task(thread, frame, system_call)
    }

    fn dispatch_posted_call(&self, thread: &Context, call: &PostedCall) -> Option<u64> {
        syscall::posted::serve(task_of(thread), call)
    }

    fn dispatch_exception(
        &self,
        thread: &Context,
        record: &ExceptionRecord,
        frame: &mut TrapFrame<'_>,
    ) -> Option<Disposition> {
        // Every exception is a signal or nothing, so there is no second chance.
        Some(with_task(thread, frame, |task, entry| {
            if !call_site::resolves(task, entry, record.exception) {
                exception::serve(task, record.exception);
            }
            task.look_behind_mask();
            leave(task, Disposition::Resume, None)
        }))
    }

    fn dispatch_io_fault(&self, process: &Context, fault: &Fault) -> bool {
        let mm = group_of(process).threads().iter().find_map(|task| task.mm());
        mm.is_some_and(|mm| mm.resolve(*fault).is_ok())
    }

    fn dispatch_kick(&self, thread: &Context, frame: &mut TrapFrame<'_>) -> Disposition {
        with_task(thread, frame, |task, _| {
            task.look_behind_mask();
            leave(task, Disposition::Resume, None)
        })
    }

    fn exit_thread(&self, thread: &Context, reason: ExitReason) {
        task_of(thread).release_cpus();
        if reason == ExitReason::Exited {
            return;
        }
        let task = task_of(thread);
        if !task.group().has_thread(task.tid()) {
            // It was given up before it ran.
            return;
        }
        if reason == ExitReason::Failed && task.group().pid() == kernel::INIT {
            self.kernel.end(kernel::Outcome::Failed);
        }
        let killed = ExitStatus::Signaled(Signal::SIGKILL);
        exit::request_exit(&task, killed);
        exit::end(&task, killed);
    }

    fn exit_process(&self, _process: &Context, _reason: ExitReason) {}

    fn terminate_process(&self, process: &Context) {
        let group = group_of(process);
        if let Some(task) = group.threads().first() {
            let info = crate::signal::SigInfo::kernel(Signal::SIGKILL);
            // SIGKILL is never refused.
            let _: Result<(), Errno> = crate::signal::send::send(task, crate::signal::send::Target::Process, info);
        }
    }

    fn walk_user_stack(&self, thread: &Context, registers: &Registers, visit: &mut Visit<'_>) {
        inspect::walk(&task_of(thread), registers, visit);
    }

    fn protected_ranges(&self) -> Vec<ProtectedRange> {
        vec![ProtectedRange::of("the system-call table", &syscall::table::TABLE)]
    }

    fn process_name(&self, process: &Context) -> Vec<u8> {
        group_of(process).threads().first().map(|task| task.name()).unwrap_or_default()
    }

    fn process_number(&self, process: &Context) -> u64 {
        inspect::number(group_of(process).pid())
    }

    fn process_details(&self, process: &Context) -> ProcessDetails {
        inspect::details(&group_of(process))
    }

    fn thread_name(&self, thread: &Context) -> Vec<u8> {
        task_of(thread).name()
    }

    fn thread_number(&self, thread: &Context) -> u64 {
        inspect::number(task_of(thread).tid())
    }

    fn open_process_allowed_access(
        &self,
        process: &Context,
        opener: Option<&Context>,
        wanted: ProcessAccess,
    ) -> ProcessAccess {
        inspect::process_access(&group_of(process), opener.map(group_of).as_ref(), wanted)
    }

    fn open_thread_allowed_access(
        &self,
        thread: &Context,
        opener: Option<&Context>,
        wanted: ThreadAccess,
    ) -> ThreadAccess {
        inspect::thread_access(&task_of(thread), opener.map(group_of).as_ref(), wanted)
    }

    fn subsystem(&self) -> SubsystemType {
        SubsystemType::Linux
    }
}
