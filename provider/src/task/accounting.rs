//! CPU time, and the CPUs that a thread's host thread keeps to.
//!
//! One host thread serves a task from its first to its last trap, so its clock is the task's ([`vmm::usage::Meter`]).

use super::{CurrentTask, Task, ThreadGroup};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use vmm::usage::Usage;

/// Whose CPU time a clock or timer counts.
#[derive(Clone, Debug)]
pub enum CpuTimeOf {
    /// One thread's.
    Thread(Weak<Task>),
    /// All of a process's threads'.
    Process(Weak<ThreadGroup>),
}

impl CpuTimeOf {
    /// CPU time used so far; `None` once nobody is left.
    pub fn now(&self) -> Option<Duration> {
        match self {
            Self::Thread(task) => task.upgrade().map(|task| task.cpu_usage().total()),
            Self::Process(group) => group.upgrade().map(|group| group.cpu_usage().total()),
        }
    }

    /// How many CPUs at the most may work for it at once.
    pub(crate) fn parallel(&self) -> u32 {
        match self {
            Self::Thread(_) => 1,
            Self::Process(group) => group.upgrade().map_or(1, |group| {
                let threads = group.threads();
                let cpus = threads.first().map_or(1, |task| task.kernel().cpus().count());
                u32::try_from(threads.len().clamp(1, cpus.max(1))).unwrap_or(1)
            }),
        }
    }
}

/// Whether a task's host thread keeps to the CPUs that it should.
#[derive(Debug)]
pub(super) struct Binding {
    /// It has to look, at its first trap and whenever somebody else has changed the task's mask.
    stale: AtomicBool,
    /// It is bound, so it must be released before it serves another task.
    bound: AtomicBool,
}

impl Default for Binding {
    fn default() -> Self {
        Self { stale: AtomicBool::new(true), bound: AtomicBool::new(false) }
    }
}

impl Task {
    /// CPU time that it has used. What it used since it last looked at its own counts as user time.
    pub fn cpu_usage(&self) -> Usage {
        self.meter.get().map(|meter| meter.usage()).unwrap_or_default()
    }

    /// Notes the CPUs that it is to keep to; its host thread follows at its next trap.
    pub fn set_affinity(&self, words: Vec<u64>) {
        self.with_attributes(|attributes| attributes.affinity = Some(words));
        self.binding.stale.store(true, Ordering::SeqCst);
    }

    /// Lets the calling host thread, which has served this task to its end, run anywhere again.
    pub(crate) fn release_cpus(&self) {
        if self.binding.bound.swap(false, Ordering::SeqCst) {
            self.kernel().cpus().release_this_thread();
        }
    }
}

impl CurrentTask<'_> {
    /// Binds the host thread that serves the trap to the task's CPUs, if they have changed since the last trap.
    pub(crate) fn follow_affinity(&self) {
        let task = self.task();
        if !task.binding.stale.load(Ordering::Relaxed) || !task.binding.stale.swap(false, Ordering::SeqCst) {
            return;
        }
        let cpus = self.kernel().cpus();
        let affinity = task.affinity();
        if affinity.is_none() && !cpus.are_fewer_than_the_hosts() {
            return;
        }
        task.binding.bound.store(true, Ordering::SeqCst);
        cpus.bind_this_thread(&affinity.unwrap_or_else(|| cpus.all()));
    }

    /// CPU time that this thread has used, exact in all.
    pub fn cpu_usage(&self) -> Usage {
        let Some(meter) = self.task().meter.get() else {
            // A test's task, which no thread of the host's runs.
            return Usage::of_this_thread();
        };
        if !self.is_posted() {
            meter.sample();
        }
        meter.usage()
    }

    /// CPU time that the threads of this process have used, the ended ones too; for the caller exact in all.
    pub fn process_cpu_usage(&self) -> Usage {
        let own = self.cpu_usage();
        let all = self.group().cpu_usage();
        if self.task().meter.get().is_some() { all } else { own }
    }

    /// The clock of this thread's CPU time.
    pub(crate) fn thread_cpu_time(&self) -> CpuTimeOf {
        CpuTimeOf::Thread(Arc::downgrade(self.task()))
    }

    /// The clock of this process's CPU time.
    pub(crate) fn process_cpu_time(&self) -> CpuTimeOf {
        CpuTimeOf::Process(Arc::downgrade(self.group()))
    }
}

impl ThreadGroup {
    /// CPU time that all threads of the process have used, the ended ones too.
    pub fn cpu_usage(&self) -> Usage {
        // A thread that ends in between counts once: it is taken off and its time added under one lock.
        let (ended, threads) = self.accounts();
        threads.iter().fold(ended, |sum, thread| sum.plus(&thread.cpu_usage()))
    }
}
