//! The sandbox and its processes as `ps` shows them.

use provider::{ProcessState, ProcessView};
use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};
use vmm::addr::{UserAddr, UserRange};
use vmm::pico::{Process, ProcessKind};

use super::{Monitor, handles};
use crate::control::messages::{ProcessReport, SandboxReport};

impl Monitor {
    /// Looks at everything, once.
    pub(super) fn report(&self) -> SandboxReport {
        let mut views: HashMap<u64, ProcessView> = HashMap::new();
        let mut zombies = Vec::new();
        for view in self.sandbox.processes() {
            match &view.process {
                Some(process) => drop(views.insert(process.id(), view)),
                None => zombies.push(view),
            }
        }
        let mut processes: Vec<_> = self
            .host
            .processes()
            .iter()
            .map(|process| match views.remove(&process.id()) {
                Some(view) => self.pico(process, &view),
                None => self.other(process),
            })
            .collect();
        processes.extend(zombies.iter().map(inside));
        processes.sort_by_key(|process| (process.pid, process.id));
        let memory = self.host.memory();
        SandboxReport {
            id: self.address.id.to_string(),
            name: self.address.name.clone(),
            uid: self.address.uid,
            monitor: std::process::id(),
            command: self.command(),
            started_ms: self.started().duration_since(UNIX_EPOCH).map_or(0, milliseconds),
            running_ms: milliseconds(self.started.elapsed()),
            memory_held: memory.held(),
            memory_limit: memory.limit(),
            cpu_ended_ns: nanoseconds(self.host.gone().cpu_time),
            // Last: what was used for looking is used by then.
            cpu_ns: nanoseconds(own_cpu_time()),
            processes,
        }
    }

    /// Program and arguments that the sandbox was started for.
    pub(super) fn command(&self) -> Vec<String> {
        let config = self.sandbox.config();
        let words = std::iter::once(&config.program).chain(&config.args);
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// A process of the program's.
    fn pico(&self, process: &Process, view: &ProcessView) -> ProcessReport {
        let mut report = inside(view);
        (report.id, report.kind) = (process.id(), kind(process.kind()).to_owned());
        report.compressed = process.space().compressed(whole());
        let split = process.cpu_split();
        (report.cpu_user_ns, report.cpu_provider_ns) = (nanoseconds(split.user), nanoseconds(split.provider));
        if self.suspended().contains(&process.id()) {
            report.state = "suspended".to_owned();
        }
        report
    }

    /// A process of the host's own, or one that the provider does not show.
    fn other(&self, process: &Process) -> ProcessReport {
        let kind_of = process.kind();
        let threads = match kind_of.owner() {
            Some(owner) => {
                let all = self.host.threads().list();
                all.iter().filter(|thread| thread.owner == owner && !thread.lent).count()
            }
            None => process.threads().len(),
        };
        // Without /proc the monitor cannot know.
        let handles = if kind_of == ProcessKind::System { handles::list().map_or(0, |all| all.len()) } else { 0 };
        let space = process.space();
        ProcessReport {
            id: process.id(),
            kind: kind(kind_of).to_owned(),
            name: String::from_utf8_lossy(&process.name()).into_owned(),
            state: "running".to_owned(),
            threads: number(threads),
            cpu_provider_ns: nanoseconds(process.cpu_time()),
            commit: space.assigned(whole()),
            resident: space.resident(whole()),
            handles: number(handles),
            running_ms: milliseconds(self.started.elapsed()),
            ..ProcessReport::default()
        }
    }
}

/// All that a program may map.
fn whole() -> UserRange {
    UserRange { start: UserAddr(0), end: UserAddr(vmm::addr::USER_END) }
}

/// What the provider shows of a process.
fn inside(view: &ProcessView) -> ProcessReport {
    ProcessReport {
        kind: kind(ProcessKind::Pico).to_owned(),
        pid: Some(view.pid),
        parent: Some(view.parent),
        name: String::from_utf8_lossy(&view.name).into_owned(),
        command: view.command.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        state: state(view.state).to_owned(),
        threads: number(view.threads),
        commit: view.commit,
        resident: view.resident,
        handles: number(view.descriptors),
        running_ms: milliseconds(view.age),
        ..ProcessReport::default()
    }
}

fn kind(kind: ProcessKind) -> &'static str {
    match kind {
        ProcessKind::System => "system",
        ProcessKind::MemoryCompression => "memory-compression",
        ProcessKind::SecureSystem => "secure-system",
        ProcessKind::Minimal => "minimal",
        ProcessKind::Pico => "pico",
    }
}

fn state(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Running => "running",
        ProcessState::Sleeping => "sleeping",
        ProcessState::Stopped => "stopped",
        ProcessState::Traced => "traced",
        ProcessState::Zombie => "zombie",
    }
}

/// CPU time that the host has counted for this process.
fn own_cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

pub(super) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
