//! Processes and threads as objects of a detached host: minimal processes, handles, contexts, notices, and the host's own
//! accesses to memory.

#[path = "personality/mod.rs"]
mod personality;

use personality::{Event, FORKED, Script};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, Fault, FaultKind};
use vmm::pico::{
    Activity, ContextError, ContextParts, CreateError, ExitReason, HandleError, Host, NotStopped, Notice, Process,
    ProcessAccess, ProcessAttributes, ProcessFlags, ProcessKind, Stopped, Thread, ThreadAccess, ThreadAttributes,
    ThreadContext, ThreadStatus,
};
use vmm::trap::{DebugRegisters, Registers};

/// A host with the personality.
fn scripted() -> (Host, Arc<Script>) {
    let host = Host::detached(16 << 20).expect("address space for 16 MiB");
    let script = Arc::new(Script::default());
    host.register(script.clone()).expect("the first provider");
    (host, script)
}

/// A process of the personality, which knows it.
fn pico(host: &Host) -> Arc<Process> {
    personality::known(host.create_process(personality::attributes()).expect("a process"))
}

fn thread(process: &Arc<Process>) -> Arc<Thread> {
    let registers = Registers { rip: 0x1000, rsp: 0x2000, rbx: 3, rflags: 0x202, ..Registers::default() };
    let context = personality::thread_context(process);
    let attributes = ThreadAttributes { registers, fs_base: 0x10, gs_base: 0x20, xsave: None, context };
    process.create_thread(attributes).expect("a thread")
}

#[test]
fn a_minimal_process_is_an_empty_address_space_and_nothing_more() {
    let (host, script) = scripted();
    let process = host.create_process(ProcessAttributes::minimal(None)).unwrap();
    assert_eq!(process.kind(), ProcessKind::Minimal);
    assert!(process.context().is_none() && process.threads().is_empty() && process.thread_count() == 0);
    assert_eq!(process.space().resident(UserRange::new(UserAddr(0), 1 << 46).unwrap()), 0);
    assert_eq!(process.read_memory(UserAddr(0x1000), &mut [0]).unwrap_err().address, UserAddr(0x1000));
    // No provider serves it, nor hears of it.
    process.request_termination();
    assert!(process.is_over() && script.events().is_empty());
}

#[test]
fn a_minimal_process_has_the_name_it_was_given_or_none() {
    let (host, _script) = scripted();
    let named = host.create_process(ProcessAttributes::minimal(Some(b"a store \xff"))).unwrap();
    let nameless = host.create_process(ProcessAttributes::minimal(None)).unwrap();
    assert_eq!((named.name(), nameless.name()), (b"a store \xff".to_vec(), Vec::new()));
    // A pico process's name is its provider's matter.
    assert_eq!(pico(&host).name(), b"script");
}

#[test]
fn minimal_threads_run_in_minimal_processes_on_their_account() {
    let (host, _script) = scripted();
    let process = host.create_process(ProcessAttributes::minimal(Some(b"worker"))).unwrap();
    let (tell, told) = channel();
    let (end, ended) = channel::<()>();
    let work = move || {
        let clock = vmm::usage::CpuClock::of_this_thread();
        let start = clock.now().unwrap();
        while clock.now().unwrap() < start + std::time::Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        tell.send(()).unwrap();
        let _ = ended.recv();
    };
    let thread = process.create_minimal_thread("worker", 64 << 10, work).unwrap();
    told.recv().unwrap();
    assert_eq!(process.thread_count(), 1);
    assert!(process.cpu_time() >= std::time::Duration::from_millis(5));
    // It is not ended from outside, and the process ends after it.
    process.terminate();
    let refused = process.create_minimal_thread("worker", 64 << 10, || ()).unwrap_err();
    assert_eq!(refused, CreateError::Over);
    drop(end);
    assert!(thread.join());
    assert_eq!(process.thread_count(), 0);
    assert!(process.cpu_time() >= std::time::Duration::from_millis(5));
    let refused = pico(&host).create_minimal_thread("worker", 64 << 10, || ()).unwrap_err();
    assert_eq!(refused, CreateError::Unsupported);
}

#[test]
fn system_holds_minimal_threads_as_host_threads_of_its_own() {
    let (host, _script) = scripted();
    let (end, ended) = channel::<()>();
    let (tell, told) = channel();
    let work = move || {
        tell.send(()).unwrap();
        let _ = ended.recv();
    };
    let before = host.system().thread_count();
    let thread = host.system().create_minimal_thread("helper", 64 << 10, work).unwrap();
    told.recv().unwrap();
    assert_eq!(host.system().thread_count(), before + 1);
    drop(end);
    assert!(thread.join());
    assert_eq!(host.system().thread_count(), before);
}

#[test]
fn a_handle_carries_the_rights_that_were_granted_and_no_others() {
    let (host, script) = scripted();
    let process = pico(&host);
    let thread = thread(&process);
    let tool = host.system();
    let handle = process.open(tool, ProcessAccess::QUERY).unwrap();
    assert_eq!(handle.access(), Ok(ProcessAccess::QUERY));
    let info = handle.info().unwrap();
    assert_eq!((info.id, info.kind, info.threads), (process.id(), ProcessKind::Pico, 1));
    let missing = |access| Err(HandleError::ProcessDenied(access));
    assert_eq!(handle.terminate(), missing(ProcessAccess::TERMINATE));
    assert_eq!(handle.suspend(), missing(ProcessAccess::SUSPEND_RESUME));
    assert_eq!(handle.resume(), missing(ProcessAccess::SUSPEND_RESUME));
    assert_eq!(handle.read(UserAddr(0), &mut []), missing(ProcessAccess::VM_READ));
    assert_eq!(handle.write(UserAddr(0), &[]), missing(ProcessAccess::VM_WRITE));
    let walk = ProcessAccess::VM_READ | ProcessAccess::SUSPEND_RESUME;
    assert_eq!(handle.walk_stacks().map(|_| ()), missing(walk));
    assert_eq!(handle.is_ended().map(|_| ()), missing(ProcessAccess::SYNCHRONIZE));
    assert!(!process.is_over() && !process.is_suspended());

    let handle = thread.open(tool, ThreadAccess::QUERY).unwrap();
    assert_eq!(handle.info().unwrap().status, ThreadStatus::Created);
    let missing = |access| Err(HandleError::ThreadDenied(access));
    assert_eq!(handle.terminate(), missing(ThreadAccess::TERMINATE));
    assert_eq!(handle.suspend(), missing(ThreadAccess::SUSPEND_RESUME));
    assert_eq!(handle.resume(), missing(ThreadAccess::SUSPEND_RESUME));
    assert_eq!(handle.wait_stopped().map(|_| ()), missing(ThreadAccess::SUSPEND_RESUME));
    assert_eq!(handle.get_context(ContextParts::CONTROL).map(|_| ()), missing(ThreadAccess::GET_CONTEXT));
    assert_eq!(handle.set_context(&ThreadContext::default()), missing(ThreadAccess::SET_CONTEXT));
    assert_eq!(handle.is_ended().map(|_| ()), missing(ThreadAccess::SYNCHRONIZE));
    assert!(!thread.is_suspended() && script.events().is_empty());
}

#[test]
fn a_handle_with_the_rights_does_what_they_are_for() {
    let (host, _script) = scripted();
    let process = pico(&host);
    let thread = thread(&process);
    let tool = host.system();
    let all = ProcessAccess::all() - ProcessAccess::VM_WRITE;
    let handle = process.open(tool, all).unwrap();
    handle.suspend().unwrap();
    assert!(process.is_suspended() && handle.info().unwrap().suspended);
    assert_eq!(handle.walk_stacks().unwrap()[0].frames[0].address, UserAddr(0x1000));
    handle.resume().unwrap();
    assert!(!process.is_suspended());
    let of_thread = thread.open(tool, ThreadAccess::all()).unwrap();
    of_thread.suspend().unwrap();
    assert_eq!(of_thread.wait_stopped(), Ok(Stopped::Parked));
    of_thread.resume().unwrap();
    assert_eq!(of_thread.is_ended(), Ok(false));
    of_thread.terminate().unwrap();
    drop(thread);
    // The last thread took the process with it; handles hold neither.
    assert_eq!((of_thread.is_ended(), handle.is_ended()), (Ok(true), Ok(true)));
    assert_eq!(of_thread.info().unwrap_err(), HandleError::Ended);
    drop(process);
    assert_eq!(handle.info().unwrap_err(), HandleError::Ended);
    assert_eq!(handle.terminate().unwrap_err(), HandleError::Ended);
}

#[test]
fn terminating_through_a_handle_asks_the_provider() {
    let (host, script) = scripted();
    let process = pico(&host);
    let handle = process.open(host.system(), ProcessAccess::TERMINATE).unwrap();
    handle.terminate().unwrap();
    assert_eq!(script.events(), [Event::Terminate, Event::ProcessEnd(ExitReason::Terminated)]);
}

#[test]
fn the_provider_decides_which_rights_to_a_process_an_opener_may_have() {
    let (host, _script) = scripted();
    let (process, other) = (pico(&host), pico(&host));
    // To the host's own components it refuses one right, to other processes all but one.
    let denied = |result: Result<_, HandleError>| result.map(|_| ()).unwrap_err();
    let wanted = ProcessAccess::QUERY | ProcessAccess::VM_WRITE;
    let refused = HandleError::ProcessDenied(ProcessAccess::VM_WRITE);
    assert_eq!(denied(process.open(host.system(), wanted)), refused);
    let wanted = ProcessAccess::QUERY | ProcessAccess::TERMINATE;
    let refused = HandleError::ProcessDenied(ProcessAccess::TERMINATE);
    assert_eq!(denied(process.open(&other, wanted)), refused);
    assert!(process.open(&other, ProcessAccess::QUERY).is_ok());
    assert!(process.open(host.system(), ProcessAccess::TERMINATE).is_ok());
    // A minimal process is the host's own, and nobody's to stop or look into.
    let refused = HandleError::ProcessDenied(ProcessAccess::TERMINATE);
    assert_eq!(denied(host.system().open(host.system(), ProcessAccess::TERMINATE)), refused);
    assert!(host.system().open(&other, ProcessAccess::MINIMAL).is_ok());
}

#[test]
fn the_provider_decides_which_rights_to_a_thread_an_opener_may_have() {
    let (host, _script) = scripted();
    let (process, other) = (pico(&host), pico(&host));
    let thread = thread(&process);
    let denied = thread.open(&other, ThreadAccess::QUERY | ThreadAccess::SET_CONTEXT).map(|_| ()).unwrap_err();
    assert_eq!(denied, HandleError::ThreadDenied(ThreadAccess::SET_CONTEXT));
    assert!(thread.open(&other, ThreadAccess::QUERY).is_ok());
    assert!(thread.open(host.system(), ThreadAccess::all()).is_ok());
}

#[test]
fn handles_are_counted_and_inherited_and_closed_with_their_owner() {
    let (host, _script) = scripted();
    let (owner, target) = (pico(&host), pico(&host));
    let of_thread = thread(&target);
    let first = target.open(&owner, ProcessAccess::QUERY).unwrap();
    let second = of_thread.open(&owner, ThreadAccess::QUERY).unwrap();
    assert_eq!((owner.handles(), target.handles()), (2, 0));
    let flags = ProcessFlags::INHERIT_HANDLES;
    let heir = owner.create_child(ProcessAttributes { flags, ..personality::attributes() }).unwrap();
    let other = owner.create_child(personality::attributes()).unwrap();
    assert_eq!((heir.handles(), other.handles()), (2, 0));
    // By the same numbers, with the same rights, and independently of the parent's.
    let inherited = heir.process_handle(first.number()).unwrap();
    assert_eq!(inherited.info().unwrap().id, target.id());
    assert_eq!(inherited.terminate(), Err(HandleError::ProcessDenied(ProcessAccess::TERMINATE)));
    assert!(heir.process_handle(second.number()).is_none() && heir.thread_handle(second.number()).is_some());
    assert_eq!(heir.handles(), 1);
    drop(first);
    assert_eq!((owner.handles(), inherited.info().is_ok()), (1, true));
    heir.terminate();
    assert_eq!((heir.handles(), inherited.info().unwrap_err()), (0, HandleError::Closed));
    assert_eq!(target.open(&heir, ProcessAccess::QUERY).map(|_| ()).unwrap_err(), HandleError::Closed);
}

#[test]
fn a_tool_learns_names_numbers_and_details() {
    let (host, _script) = scripted();
    let process = pico(&host);
    let thread = thread(&process);
    let info = process.info();
    assert_eq!((info.name.as_slice(), info.number), (&b"script"[..], Some(1000 + process.id())));
    let details = info.details.unwrap();
    assert_eq!((details.activity, details.command.as_slice()), (Activity::Running, &b"script\0--test\0"[..]));
    let of_thread = thread.info();
    assert_eq!((of_thread.id, of_thread.name.as_slice()), (thread.id(), &b"actor"[..]));
    assert!(of_thread.number > 0);
    let system = host.system().info();
    assert_eq!((system.name.as_slice(), system.number, system.details), (&b"System"[..], None, None));
}

#[test]
fn the_context_of_a_stopped_thread_is_read_by_parts() {
    let (host, _script) = scripted();
    let process = pico(&host);
    let thread = thread(&process);
    let all = thread.get_context(ContextParts::all()).unwrap();
    assert_eq!((all.registers.rip, all.registers.rbx, all.fs_base, all.gs_base), (0x1000, 3, 0x10, 0x20));
    // A new thread's extended state is that after reset.
    assert_eq!((all.xsave[..2].to_vec(), all.xsave.len()), (0x37f_u16.to_le_bytes().to_vec(), 576));
    let control = thread.get_context(ContextParts::CONTROL).unwrap();
    assert_eq!((control.registers.rsp, control.registers.rbx, control.fs_base), (0x2000, 0, 0));
    assert!(control.xsave.is_empty());
    thread.terminate();
    assert_eq!(thread.get_context(ContextParts::all()), Err(NotStopped));
}

#[test]
fn a_context_from_outside_cannot_hold_what_a_program_could_not() {
    let (host, _script) = scripted();
    let process = pico(&host);
    let thread = thread(&process);
    let mut context = thread.get_context(ContextParts::all()).unwrap();
    // All flags, the privileged ones too.
    (context.registers.rip, context.registers.rflags) = (0x5000, u64::MAX);
    context.debug = DebugRegisters { addresses: [0x100, 0, 0, 0], control: 1 };
    thread.set_context(&context).unwrap();
    let set = thread.get_context(ContextParts::all()).unwrap();
    let allowed = vmm::trap::USER_RFLAGS | vmm::trap::FIXED_RFLAGS;
    assert_eq!((set.registers.rip, set.registers.rflags, set.debug), (0x5000, allowed, context.debug));
    // A part that is not named stays.
    let bases = ThreadContext { parts: ContextParts::BASES, fs_base: 7, ..ThreadContext::default() };
    thread.set_context(&bases).unwrap();
    let set = thread.get_context(ContextParts::all()).unwrap();
    assert_eq!((set.fs_base, set.gs_base, set.registers.rip), (7, 0, 0x5000));
    let wrong = ThreadContext { fs_base: 1 << 63, ..bases };
    assert_eq!(thread.set_context(&wrong), Err(ContextError::Address));
    assert_eq!(thread.get_context(ContextParts::all()).unwrap(), set);
    thread.terminate();
    assert_eq!(thread.set_context(&set), Err(ContextError::NotStopped(NotStopped)));
}

/// Keeps what a host tells.
fn observed(host: &Host) -> (Arc<Mutex<Vec<String>>>, vmm::pico::Observation) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = seen.clone();
    let observation = host.observe(move |notice| {
        let line = match notice {
            Notice::ProcessCreated(process) => format!("process {} created", process.id()),
            Notice::ThreadCreated(thread) => format!("thread {} created", thread.id()),
            Notice::ThreadEnded(thread, reason) => format!("thread {} {reason:?}", thread.id()),
            Notice::ProcessEnded(process, reason) => format!("process {} {reason:?}", process.id()),
        };
        list.lock().expect("no observer panicked").push(line);
    });
    (seen, observation)
}

#[test]
fn observers_hear_of_creations_and_exits_in_order() {
    let (host, _script) = scripted();
    let (seen, observation) = observed(&host);
    let process = pico(&host);
    let thread = thread(&process);
    thread.terminate();
    let (p, t) = (process.id(), thread.id());
    let lines = [
        format!("process {p} created"),
        format!("thread {t} created"),
        format!("thread {t} Terminated"),
        format!("process {p} Terminated"),
    ];
    assert_eq!(*seen.lock().unwrap(), lines);
    drop((process, thread));
    // One that nobody ends is over when nobody holds it.
    let minimal = host.create_process(ProcessAttributes::minimal(None)).unwrap();
    let m = minimal.id();
    drop(minimal);
    let lines = [format!("process {m} created"), format!("process {m} Terminated")];
    assert_eq!(seen.lock().unwrap()[4..], lines);
    drop(observation);
    pico(&host).terminate();
    assert_eq!(seen.lock().unwrap().len(), 6);
}

#[test]
fn an_observer_may_look_at_what_it_hears_of() {
    let (host, _script) = scripted();
    let names = Arc::new(Mutex::new(Vec::new()));
    let list = names.clone();
    let _observation = host.observe(move |notice| {
        if let Notice::ProcessCreated(process) = notice {
            list.lock().unwrap().push((process.name(), process.info().threads));
        }
    });
    pico(&host);
    assert_eq!(*names.lock().unwrap(), [(b"script".to_vec(), 0)]);
}

const FIRST: UserAddr = UserAddr(FORKED.start);

#[test]
fn a_fault_of_the_hosts_own_access_is_taken_to_the_provider() {
    let (host, script) = scripted();
    let process = pico(&host);
    // The personality maps pages of this range when it is asked, and no others. The access spans two of them.
    let at = UserAddr(FIRST.0 + 0xffe);
    process.write_memory(at, b"data").unwrap();
    let mut bytes = [0; 4];
    process.read_memory(at, &mut bytes).unwrap();
    assert_eq!(&bytes, b"data");
    assert_eq!(script.events(), [Event::IoFault(at.0), Event::IoFault(FIRST.0 + 0x1000)]);
}

#[test]
fn a_fault_that_is_not_handled_stops_the_access_where_it_hit() {
    let (host, script) = scripted();
    let process = pico(&host);
    let last = UserAddr(FORKED.end - 2);
    let fault = process.write_memory(last, b"data").unwrap_err();
    assert_eq!((fault.address, fault.access, fault.kind), (UserAddr(FORKED.end), Access::WRITE, FaultKind::Entry));
    let mut bytes = [0; 2];
    process.read_memory(last, &mut bytes).unwrap();
    assert_eq!(&bytes, b"da");
    assert_eq!(script.events().last(), Some(&Event::IoFault(FORKED.end)));
    let handle = process.open(host.system(), ProcessAccess::VM_READ).unwrap();
    assert_eq!(
        handle.read(UserAddr(FORKED.end), &mut bytes),
        Err(HandleError::Fault(Fault { access: Access::READ, ..fault }))
    );
}

#[test]
fn pages_are_probed_for_transfers_to_host_descriptors() {
    let (host, script) = scripted();
    let process = pico(&host);
    let range = UserRange::new(FIRST, 0x3000).unwrap();
    process.probe_memory(range, Access::WRITE).unwrap();
    assert_eq!(script.events().len(), 3);
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 0x3000], 0).unwrap();
    let moved = process.space().read_from_host(std::os::fd::AsFd::as_fd(&file), Some(0), &[range]);
    assert_eq!(moved, Ok(0x3000));
    let word = process.with_user_memory(|space| space.load_u32(UserAddr(FIRST.0 + 0x2ffc)));
    assert_eq!((word, script.events().len()), (Ok(0x0707_0707), 3));
}
