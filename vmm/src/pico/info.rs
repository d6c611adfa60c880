//! What tools show of processes and threads.

use super::attributes::ProcessKind;
use super::process::Process;
use super::provider::ProcessDetails;
use super::stop::ThreadStatus;
use super::thread::Thread;
use std::time::Duration;

/// What a tool shows of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// The host's number for it.
    pub id: u64,
    /// The host's number for the process that made it.
    pub parent: Option<u64>,
    /// What it is to the host.
    pub kind: ProcessKind,
    /// Its name.
    pub name: Vec<u8>,
    /// The number that its personality knows it by; `None` for a minimal process.
    pub number: Option<u64>,
    /// What else its personality tells; `None` for a minimal process.
    pub details: Option<ProcessDetails>,
    /// The CPU time that it has used.
    pub cpu_time: Duration,
    /// How many threads it has.
    pub threads: usize,
    /// How many handles it holds at the host.
    pub handles: usize,
    /// Whether it is suspended as a whole.
    pub suspended: bool,
}

/// What a tool shows of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadInfo {
    /// The host's number for it.
    pub id: u64,
    /// The number that its personality knows it by.
    pub number: u64,
    /// The name that its personality gives it.
    pub name: Vec<u8>,
    /// What it does.
    pub status: ThreadStatus,
    /// The CPU time that it has used.
    pub cpu_time: Duration,
}

impl Process {
    /// What a tool shows of it.
    pub fn info(&self) -> ProcessInfo {
        let told = self.context().zip(self.provider());
        ProcessInfo {
            id: self.id(),
            parent: self.parent(),
            kind: self.kind(),
            name: self.name(),
            number: told.map(|(context, provider)| provider.process_number(context)),
            details: told.map(|(context, provider)| provider.process_details(context)),
            cpu_time: self.cpu_time(),
            threads: self.thread_count(),
            handles: self.handles(),
            suspended: self.is_suspended(),
        }
    }
}

impl Thread {
    /// What a tool shows of it.
    pub fn info(&self) -> ThreadInfo {
        let provider = self.process().provider();
        ThreadInfo {
            id: self.id(),
            number: provider.map_or(0, |provider| provider.thread_number(self.context())),
            name: provider.map(|provider| provider.thread_name(self.context())).unwrap_or_default(),
            status: self.status(),
            cpu_time: self.meter().usage().total(),
        }
    }
}
