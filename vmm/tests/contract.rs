//! The contract without a processor: registration, processes, contexts and threads of a detached host.

#[path = "personality/mod.rs"]
mod personality;

use personality::{Event, Script};
use std::sync::Arc;
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, PageState};
use vmm::pico::{
    CreateError, ExitReason, Host, NotStopped, Process, ProcessAttributes, ProcessFlags, ProcessKind, RegisterError,
    SubsystemType, ThreadAttributes,
};
use vmm::trap::Registers;

fn host() -> Host {
    Host::detached(16 << 20).expect("address space for 16 MiB")
}

#[test]
fn there_is_one_provider_and_one_hand_over() {
    let host = host();
    let first = Arc::new(Script::default());
    let registration = host.register(first.clone()).unwrap();
    assert_eq!(host.register(first.clone()).unwrap_err(), RegisterError::Taken);
    registration.hand_over(Arc::new(Script::default())).unwrap();
}

#[test]
fn registration_closes_with_the_first_process() {
    let host = host();
    let registration = host.register(Arc::new(Script::default())).unwrap();
    host.create_process(ProcessAttributes::minimal(None)).unwrap();
    assert_eq!(registration.hand_over(Arc::new(Script::default())).unwrap_err(), RegisterError::Sealed);
    assert_eq!(host.register(Arc::new(Script::default())).unwrap_err(), RegisterError::Sealed);
}

#[test]
fn a_pico_process_needs_a_provider_and_a_minimal_process_does_not() {
    let host = host();
    let attributes = ProcessAttributes { context: Some(Arc::new(1_u32)), ..ProcessAttributes::default() };
    assert_eq!(host.create_process(attributes).unwrap_err(), CreateError::NoProvider);
    let minimal = host.create_process(ProcessAttributes::minimal(None)).unwrap();
    assert!(minimal.context().is_none() && minimal.threads().is_empty());
    // It runs no thread: nobody would serve it.
    assert_eq!(minimal.create_thread(attributes_of_thread()).unwrap_err(), CreateError::Unsupported);
    minimal.terminate();
    assert!(minimal.is_over());
}

fn attributes_of_thread() -> ThreadAttributes {
    let registers = Registers { rip: 0x1000, ..Registers::default() };
    ThreadAttributes { registers, fs_base: 0x10, gs_base: 0x20, xsave: None, context: Arc::new(7_u64) }
}

/// A host with the personality, and a process of it.
fn parent() -> (Host, Arc<Process>) {
    let host = host();
    host.register(Arc::new(Script::default())).expect("the first provider");
    let parent = host.create_process(personality::attributes()).expect("a process");
    (host, parent)
}

fn with_flags(flags: ProcessFlags) -> ProcessAttributes {
    ProcessAttributes { flags, ..personality::attributes() }
}

#[test]
fn children_know_their_parent_and_share_a_space_if_asked() {
    let (_host, parent) = parent();
    let space = Some(parent.space());
    let child = parent.create_child(ProcessAttributes { space, ..personality::attributes() }).unwrap();
    assert_eq!(child.parent(), Some(parent.id()));
    assert!(Arc::ptr_eq(&child.space(), &parent.space()));
    let other = parent.create_child(personality::attributes()).unwrap();
    assert!(!Arc::ptr_eq(&other.space(), &parent.space()));
}

const PAGE: UserAddr = UserAddr(0x1000);

#[test]
fn clone_parent_copies_the_address_space() {
    let (_host, parent) = parent();
    let page = UserRange::new(PAGE, 0x1000).unwrap();
    parent.space().map_anonymous(page, Access::READ | Access::WRITE, false).unwrap();
    parent.space().write(PAGE, b"before").unwrap();
    let copy = parent.create_child(with_flags(ProcessFlags::CLONE_PARENT)).unwrap();
    parent.space().poke(PAGE, b"after ").unwrap();
    let mut bytes = [0; 6];
    copy.space().read(PAGE, &mut bytes).unwrap();
    assert_eq!(&bytes, b"before");
}

#[test]
fn clone_reduced_commit_copies_no_page_up_front() {
    let (host, parent) = parent();
    let page = UserRange::new(PAGE, 0x1000).unwrap();
    let all = Access::READ | Access::WRITE;
    parent.space().map_anonymous(page, all, false).unwrap();
    parent.space().write(PAGE, b"shared").unwrap();
    let reduced = ProcessFlags::CLONE_PARENT | ProcessFlags::CLONE_REDUCED_COMMIT;
    let sharing = parent.create_child(with_flags(reduced)).unwrap();
    for process in [&parent, &sharing] {
        assert_eq!(process.space().page_state(PAGE), PageState::CopyOnWrite(all));
    }
    // Without the flag a small space is copied whole: its pages are about to be stored to.
    let other = host.create_process(personality::attributes()).unwrap();
    other.space().map_anonymous(page, all, false).unwrap();
    other.space().write(PAGE, b"copied").unwrap();
    let copied = other.create_child(with_flags(ProcessFlags::CLONE_PARENT)).unwrap();
    for process in [&other, &copied] {
        assert_eq!(process.space().page_state(PAGE), PageState::Mapped(all));
    }
}

#[test]
fn attributes_that_mean_nothing_here_are_refused() {
    let (host, parent) = parent();
    let refused = |attributes| parent.create_child(attributes).unwrap_err() == CreateError::Unsupported;
    let minimal = || ProcessAttributes::minimal(None);
    let (context, name) = (personality::attributes().context, Some(Box::from(*b"name")));
    // All processes of a host are in one resource group.
    assert!(refused(with_flags(ProcessFlags::BREAKAWAY)));
    // A process is a pico process or a minimal process, and only the latter is named by the host.
    assert!(refused(ProcessAttributes::default()));
    assert!(refused(ProcessAttributes { context, ..minimal() }));
    assert!(refused(ProcessAttributes { name, ..personality::attributes() }));
    // A minimal process begins empty.
    assert!(refused(ProcessAttributes { space: Some(parent.space()), ..minimal() }));
    assert!(refused(ProcessAttributes { flags: ProcessFlags::MINIMAL | ProcessFlags::CLONE_PARENT, ..minimal() }));
    // One space or the other; and how a copy is made matters only if there is one.
    let both = ProcessAttributes { space: Some(parent.space()), ..with_flags(ProcessFlags::CLONE_PARENT) };
    assert!(refused(both));
    assert!(refused(with_flags(ProcessFlags::CLONE_REDUCED_COMMIT)));
    for flags in [ProcessFlags::CLONE_PARENT, ProcessFlags::INHERIT_HANDLES] {
        assert_eq!(host.create_process(with_flags(flags)).unwrap_err(), CreateError::Unsupported);
    }
}

#[test]
fn a_thread_that_never_started_can_be_looked_at_changed_and_ended() {
    let host = host();
    let script = Arc::new(Script::default());
    host.register(script.clone()).unwrap();
    let process = host.create_process(personality::attributes()).unwrap();
    let thread = process.create_thread(attributes_of_thread()).unwrap();
    assert_eq!(thread.context().downcast_ref::<u64>(), Some(&7));
    assert_eq!(thread.registers().unwrap().rip, 0x1000);
    thread.set_registers(Registers { rip: 0x2000, ..Registers::default() }).unwrap();
    assert_eq!(thread.registers().unwrap().rip, 0x2000);
    thread.set_segment_bases(1, 2).unwrap();
    assert_eq!(thread.segment_bases().unwrap(), (1, 2));
    // A detached host has no processor to run it on.
    assert_eq!(thread.start().unwrap_err(), CreateError::HostExhausted);
    assert_eq!(thread.registers().unwrap().rip, 0x2000);
    thread.terminate();
    thread.terminate();
    assert_eq!(thread.registers().unwrap_err(), NotStopped);
    let ended = [Event::ThreadEnd(ExitReason::Terminated), Event::ProcessEnd(ExitReason::Terminated)];
    assert_eq!(script.events(), ended);
    assert!(process.is_over() && process.threads().is_empty());
    assert_eq!(process.create_thread(attributes_of_thread()).unwrap_err(), CreateError::Over);
}

#[test]
fn ending_a_process_without_threads_is_told_once() {
    let host = host();
    let script = Arc::new(Script::default());
    host.register(script.clone()).unwrap();
    let process = host.create_process(personality::attributes()).unwrap();
    process.terminate();
    process.terminate();
    drop(host);
    assert_eq!(script.events(), [Event::ProcessEnd(ExitReason::Terminated)]);
}

#[test]
fn the_personality_says_what_it_is() {
    let script = Script::default();
    let context: vmm::pico::Context = Arc::new(());
    assert_eq!(vmm::pico::Provider::subsystem(&script), SubsystemType::Other(1));
    assert_eq!(vmm::pico::Provider::process_name(&script, &context), b"script");
}

#[test]
fn a_provider_names_its_own_tables_as_protected() {
    let ranges = vmm::pico::Provider::protected_ranges(&Script::default());
    let [table] = ranges.as_slice() else { panic!("one range: {ranges:?}") };
    assert_eq!(table.address(), personality::TABLE.as_ptr().addr());
    assert_eq!(table.len(), size_of_val(&personality::TABLE));
}

/// The kinds and names of a host's processes.
fn listed(host: &Host) -> Vec<(ProcessKind, Vec<u8>)> {
    host.processes().iter().map(|process| (process.kind(), process.name())).collect()
}

#[test]
fn system_and_memory_compression_exist_from_the_start_and_secure_system_while_jailed() {
    let host = host();
    let system = (ProcessKind::System, b"System".to_vec());
    let compression = (ProcessKind::MemoryCompression, b"Memory Compression".to_vec());
    assert_eq!(listed(&host), [system.clone(), compression.clone()]);
    assert!(host.secure_system().is_none());
    host.enter_jail().unwrap();
    assert_eq!(listed(&host), [system, compression, (ProcessKind::SecureSystem, b"Secure System".to_vec())]);
    assert_eq!(host.secure_system().map(|process| process.kind()), Some(ProcessKind::SecureSystem));
    for process in host.processes() {
        assert!(process.context().is_none() && process.threads().is_empty());
    }
    // They are not what closes registration.
    host.register(Arc::new(Script::default())).unwrap();
}

#[test]
fn a_process_is_listed_until_nobody_holds_it() {
    let host = host();
    host.register(Arc::new(Script::default())).unwrap();
    let before = host.gone().processes;
    let process = host.create_process(personality::attributes()).unwrap();
    assert_eq!(listed(&host).last(), Some(&(ProcessKind::Pico, b"script".to_vec())));
    process.terminate();
    drop(process);
    assert_eq!(host.processes().len(), 2);
    assert_eq!(host.gone().processes, before + 1);
}
