//! What tools and sandboxes say to each other.
//!
//! A message is JSON ([`super::channel`] frames it), so that a field that one side does not know is skipped, and one that it misses has
//! its default: only a change of meaning needs another [`super::channel::VERSION`].

use serde::{Deserialize, Serialize};

/// What a tool asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The sandbox and its processes: [`Reply::Sandbox`].
    Processes,
    /// How it was configured: [`Reply::Inspection`].
    Inspect {
        /// With the monitor's descriptors.
        handles: bool,
    },
    /// A signal for a process, by default the first: [`Reply::Done`].
    Signal {
        /// Which process.
        pid: Option<i32>,
        /// The signal's number.
        signal: i32,
    },
    /// Stop a process, or all, until [`Request::Resume`]: [`Reply::Done`].
    Suspend {
        /// Which process.
        pid: Option<i32>,
    },
    /// Let go on what was stopped by [`Request::Suspend`]: [`Reply::Done`].
    Resume {
        /// Which process.
        pid: Option<i32>,
    },
    /// Say when it ends: [`Reply::Done`] at once, [`Reply::Ended`] then.
    Wait,
}

/// What a sandbox answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// The sandbox and its processes.
    Sandbox(Box<SandboxReport>),
    /// How it was configured.
    Inspection(serde_json::Value),
    /// It has ended.
    Ended {
        /// The exit status of its `picovisor run`.
        status: u8,
    },
    /// It is not done, and why.
    Refused(String),
}

/// A sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SandboxReport {
    /// Its id.
    pub(crate) id: String,
    /// What `--name` called it.
    pub(crate) name: Option<String>,
    /// The user whose it is.
    pub(crate) uid: u32,
    /// The monitor's process id, where it runs.
    pub(crate) monitor: u32,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// When it started, in milliseconds since 1970.
    pub(crate) started_ms: u64,
    /// How long it has been running.
    pub(crate) running_ms: u64,
    /// Bytes of guest memory that it holds.
    pub(crate) memory_held: u64,
    /// Bytes of guest memory that it may hold.
    pub(crate) memory_limit: u64,
    /// CPU time that the host has counted for the monitor.
    pub(crate) cpu_ns: u64,
    /// The part of it that went to processes that are gone.
    pub(crate) cpu_ended_ns: u64,
    /// Its processes: the host's own first, then the program's by number.
    pub(crate) processes: Vec<ProcessReport>,
}

/// A process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessReport {
    /// The host's number for it, which no other process of the sandbox ever has.
    pub(crate) id: u64,
    /// What it is: `system`, `memory-compression`, `secure-system`, `minimal`, `pico`.
    pub(crate) kind: String,
    /// Its number inside; none for what a program inside does not see.
    pub(crate) pid: Option<i32>,
    /// The number of its parent inside; 0: outside.
    pub(crate) parent: Option<i32>,
    /// Its name.
    pub(crate) name: String,
    /// Program and arguments, as it shows them itself.
    pub(crate) command: Vec<String>,
    /// What it does: `running`, `sleeping`, `stopped`, `traced`, `suspended`, `zombie`.
    pub(crate) state: String,
    /// Its threads.
    pub(crate) threads: u64,
    /// CPU time of its own code.
    pub(crate) cpu_user_ns: u64,
    /// CPU time of the provider and of the host on its behalf.
    pub(crate) cpu_provider_ns: u64,
    /// Bytes that it may fill: private and writable.
    pub(crate) commit: u64,
    /// Bytes that it has in memory.
    pub(crate) resident: u64,
    /// Bytes of it that are compressed.
    pub(crate) compressed: u64,
    /// Open descriptors: inside for a program's process, on the host for the others.
    pub(crate) handles: u64,
    /// How long ago it started.
    pub(crate) running_ms: u64,
}
