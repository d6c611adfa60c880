//! stat and statm: a task's figures in one line.

use super::super::system::ticks;
use super::{Scope, Shown, may_look};
use crate::errno::Errno;
use crate::mm::{MappingName, MemoryUsage};
use crate::signal::{Disposition, Signal, SignalSet};
use crate::task::{CurrentTask, Policy, Resource, Scheduling, Task};
use std::sync::Arc;
use vmm::addr::PAGE_SIZE;
use vmm::usage::Usage;

/// The signals that a process ignores, and those that it catches.
pub(super) fn dispositions(task: &Task) -> (SignalSet, SignalSet) {
    let handlers = task.group().signals().handlers();
    let mut sets = (SignalSet::EMPTY, SignalSet::EMPTY);
    for signal in (1..=64).filter_map(Signal::from_raw) {
        match handlers.get(signal).disposition() {
            Disposition::Ignore => sets.0 = sets.0.with(signal),
            Disposition::Handler(_) => sets.1 = sets.1.with(signal),
            Disposition::Default => {}
        }
    }
    sets
}

/// The letter and the word that describe what a task does.
pub(super) fn state(task: &Arc<Task>, reader: &CurrentTask<'_>) -> (char, &'static str) {
    if task.group().exit_status().is_some() || task.mm().is_none() {
        ('Z', "zombie")
    } else if task.tracee().is_stopped() {
        ('t', "tracing stop")
    } else if task.group().is_stopped() {
        ('T', "stopped")
    } else if !Arc::ptr_eq(task, reader.task()) && task.parker().is_asleep() {
        ('S', "sleeping")
    } else {
        // In a call that does not wait it runs, too: whoever looks for sleepers finds them asleep.
        ('R', "running")
    }
}

/// PF_RANDOMIZE, which every program has whose addresses are random.
const FLAGS: u32 = 0x40_0000;
/// What a parent gets when the task ends: SIGCHLD.
const EXIT_SIGNAL: u32 = 17;
/// The priority as the scheduler has it, seen from the lowest real-time one (task_prio): 20 for an ordinary task with nice value 0.
pub(super) fn priority(scheduling: &Scheduling) -> i32 {
    match scheduling.policy {
        Policy::Deadline => -101,
        Policy::Fifo | Policy::RoundRobin => -1 - i32::try_from(scheduling.priority).unwrap_or(0),
        Policy::Other | Policy::Batch | Policy::Idle => 20 + scheduling.nice,
    }
}

/// CPU time and faults of the process or the thread.
pub(super) fn cpu_usage(shown: &Shown<'_, '_>) -> Usage {
    match shown.scope {
        Scope::Process => shown.task.group().cpu_usage(),
        Scope::Thread => shown.task.cpu_usage(),
    }
}

/// CPU time and switches of the one thread; for the reader's own exact in all.
pub(super) fn thread_usage(shown: &Shown<'_, '_>) -> Usage {
    if Arc::ptr_eq(&shown.task, shown.reader.task()) { shown.reader.cpu_usage() } else { shown.task.cpu_usage() }
}

/// `stat`, see proc_pid_stat(5) for the 52 fields.
pub(super) fn render(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let task = &shown.task;
    let group = task.group();
    let mm = task.mm();
    let usage = mm.as_ref().map(|mm| mm.usage()).unwrap_or_default();
    let program = mm.as_ref().and_then(|mm| mm.program()).filter(|_| may_look(shown.reader, task));
    let places = program.as_ref().map(|program| {
        let (code, data) = (program.code, program.data);
        ([code.start.0, code.end.0, program.stack.0], [data.start.0, data.end.0], program.args, program.env)
    });
    let (code, data, args, env) = match places {
        Some((code, data, args, env)) => (code, data, [args.start.0, args.end.0], [env.start.0, env.end.0]),
        // Who may not look learns only that there is code.
        None if mm.is_some() => ([1, 1, 0], [0; 2], [0; 2], [0; 2]),
        None => ([0; 3], [0; 2], [0; 2], [0; 2]),
    };
    let heap = mm.as_ref().filter(|_| places.is_some()).map_or(0, |mm| {
        let heap = mm.mappings().into_iter().find(|mapping| matches!(mapping.name, MappingName::Heap));
        heap.map_or(0, |mapping| mapping.range.start.0)
    });
    let terminal = task.kernel().terminals().of_group(group);
    let (tty, foreground) = terminal
        .map_or((0, -1), |terminal| (terminal.rdev(), terminal.control().foreground.map_or(-1, |group| group.0)));
    let (ignored, caught) = dispositions(task);
    // Linux shows the classic signals only, as decimal numbers.
    let classic = |set: SignalSet| set.0 & 0x7fff_ffff;
    let usage_of_cpu = cpu_usage(shown);
    // A thread has no children of its own.
    let children = if shown.scope == Scope::Process { group.children_usage() } else { Usage::default() };
    let scheduling = task.scheduling();
    let nice = scheduling.nice;
    let mut line = format!("{} (", task.tid().0).into_bytes();
    line.extend(task.name());
    let (letter, _) = state(task, shown.reader);
    line.extend(
        format!(
            ") {letter} {parent} {group} {session} {tty} {foreground} {FLAGS} {minor} {child_minor} {major} {child_major} {user} {system} {child_user} {child_system} {priority} {nice} {threads} 0 \
             {started} {mapped} {resident} {limit} {code_start} {code_end} {stack} 0 0 {pending} {blocked} {ignored} {caught} \
             0 0 0 {EXIT_SIGNAL} 0 {rt_priority} {policy} 0 0 0 {data_start} {data_end} {heap} {args_start} {args_end} {env_start} {env_end} 0\n",
            parent = group.parent().0,
            minor = usage_of_cpu.minor_faults,
            major = usage_of_cpu.major_faults,
            user = ticks(usage_of_cpu.user),
            system = ticks(usage_of_cpu.system),
            child_minor = children.minor_faults,
            child_major = children.major_faults,
            child_user = ticks(children.user),
            child_system = ticks(children.system),
            priority = priority(&scheduling),
            rt_priority = scheduling.priority,
            policy = scheduling.policy.raw(),
            group = group.process_group().0,
            session = group.session().0,
            threads = group.threads().len().max(1),
            started = ticks(task.started()),
            mapped = usage.mapped,
            resident = usage.resident / PAGE_SIZE,
            limit = group.limits().soft(Resource::ResidentSet),
            code_start = code[0],
            code_end = code[1],
            stack = code[2],
            pending = classic(task.signals().pending()),
            blocked = classic(task.signals().blocked()),
            ignored = classic(ignored),
            caught = classic(caught),
            data_start = data[0],
            data_end = data[1],
            args_start = args[0],
            args_end = args[1],
            env_start = env[0],
            env_end = env[1],
        )
        .into_bytes(),
    );
    Ok(line)
}

/// `statm`: seven figures in pages; two of them are always 0.
pub(super) fn memory(shown: &Shown<'_, '_>) -> Result<Vec<u8>, Errno> {
    let usage = shown.task.mm().map(|mm| mm.usage()).unwrap_or_default();
    let MemoryUsage { mapped, resident, resident_shared, code, data, stack, .. } = usage;
    let pages = |bytes: u64| bytes.div_ceil(PAGE_SIZE);
    let line = format!(
        "{} {} {} {} 0 {} 0\n",
        pages(mapped),
        pages(resident),
        pages(resident_shared),
        pages(code),
        pages(data + stack)
    );
    Ok(line.into_bytes())
}
