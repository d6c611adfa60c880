//! What tools outside see of the processes in a sandbox, and how they reach one of them.

use super::{Sandbox, send_from_outside};
use crate::signal::Signal;
use crate::task::{Task, ThreadGroup};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Duration;
use vmm::addr::UserRange;
use vmm::pico::Process;

/// Bytes of a process's arguments that are shown at the most.
const LONGEST_COMMAND: usize = 4096;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// A thread of it runs, in its own code or in the provider.
    Running,
    /// All its threads wait.
    Sleeping,
    /// A signal has stopped it.
    Stopped,
    /// A thread of it waits for its tracer.
    Traced,
    /// It has ended, and nobody has waited for it.
    Zombie,
}

/// A process at one moment.
#[derive(Clone, Debug)]
pub struct ProcessView {
    /// Its number inside.
    pub pid: i32,
    /// Its parent's; 0 if that is outside.
    pub parent: i32,
    /// Its name (`comm`).
    pub name: Vec<u8>,
    /// Program and arguments, as its memory has them now; empty for a zombie.
    pub command: Vec<Vec<u8>>,
    /// What it does.
    pub state: ProcessState,
    /// How many threads it has.
    pub threads: usize,
    /// How long ago it started.
    pub age: Duration,
    /// Open descriptors.
    pub descriptors: usize,
    /// Bytes of private writable mappings: what the host has promised it.
    pub commit: u64,
    /// Bytes of its mappings that have memory behind them, shared ones too.
    pub resident: u64,
    /// The host's process behind it; none for a zombie.
    pub process: Option<Arc<Process>>,
}

/// There is no such process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoProcess;

impl Sandbox {
    /// The processes, zombies too, by number.
    pub fn processes(&self) -> Vec<ProcessView> {
        self.kernel.families().all().iter().map(|group| self.view(group)).collect()
    }

    fn view(&self, group: &Arc<ThreadGroup>) -> ProcessView {
        let threads = group.threads();
        let leader = threads.first().cloned().or_else(|| self.kernel.tasks().get(group.pid()));
        let mm = leader.as_ref().and_then(|leader| leader.mm());
        let usage = mm.as_ref().map(|mm| mm.usage()).unwrap_or_default();
        let files = leader.as_ref().and_then(|leader| leader.files());
        ProcessView {
            pid: group.pid().0,
            parent: group.parent().0,
            name: leader.as_ref().map(|leader| leader.name()).unwrap_or_default(),
            command: leader.as_ref().map(|leader| command(leader)).unwrap_or_default(),
            state: state(group, &threads),
            threads: threads.len(),
            age: leader.as_ref().map_or(Duration::ZERO, |leader| since_boot().saturating_sub(leader.started())),
            descriptors: files.map_or(0, |files| files.numbers().len()),
            commit: usage.data + usage.stack,
            resident: usage.resident,
            process: group.process(),
        }
    }

    /// Sends a signal to a process, as from outside that world (si_pid 0). Numbers that no signal has do nothing.
    pub fn signal_process(&self, pid: i32, signal: i32) -> Result<(), NoProcess> {
        let group = self.group(pid)?;
        if let Some(signal) = Signal::from_raw(signal) {
            send_from_outside(&group, signal);
        }
        Ok(())
    }

    /// The host's process behind one that has not ended.
    pub fn process(&self, pid: i32) -> Result<Arc<Process>, NoProcess> {
        self.group(pid)?.process().ok_or(NoProcess)
    }

    fn group(&self, pid: i32) -> Result<Arc<ThreadGroup>, NoProcess> {
        self.kernel.families().all().into_iter().find(|group| group.pid().0 == pid).ok_or(NoProcess)
    }
}

/// What all threads together do.
fn state(group: &ThreadGroup, threads: &[Arc<Task>]) -> ProcessState {
    if group.exit_status().is_some() || threads.is_empty() {
        ProcessState::Zombie
    } else if threads.iter().any(|thread| thread.tracee().is_stopped()) {
        ProcessState::Traced
    } else if group.is_stopped() {
        ProcessState::Stopped
    } else if threads.iter().all(|thread| thread.parker().is_asleep()) {
        ProcessState::Sleeping
    } else {
        ProcessState::Running
    }
}

/// Program and arguments.
fn command(task: &Task) -> Vec<Vec<u8>> {
    let Some(mm) = task.mm() else { return Vec::new() };
    let Some(program) = mm.program() else { return Vec::new() };
    let UserRange { start, end } = program.args;
    let len = usize::try_from(end.0.saturating_sub(start.0)).unwrap_or(usize::MAX).min(LONGEST_COMMAND);
    let mut bytes = vec![0; len];
    let got = mm.read_partial(start, &mut bytes).unwrap_or_default();
    bytes.truncate(got);
    let text = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
