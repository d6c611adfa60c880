//! What tools and sandboxes say to each other.
//!
//! A message is JSON ([`super::channel`] frames it), so that a field that one side does not know is skipped, and one that it misses has
//! its default: only a change of meaning needs another [`super::channel::VERSION`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// What has happened so far: [`Reply::Statistics`].
    Statistics,
    /// Compress every page that gets smaller: [`Reply::Compressed`].
    Compress,
    /// The user stacks of a process, or of all: [`Reply::Stacks`].
    Stacks {
        /// Which process.
        pid: Option<i32>,
    },
    /// Run a program: [`Reply::Started`] and [`Reply::Ended`], or [`Reply::NotStarted`]. Descriptors come along: standard input, output and
    /// error, or one socket that stands for a terminal's line. The connection is the program's from then on.
    Execute(Box<Execute>),
    /// A signal for the program that was executed on this connection. Not answered.
    Forward {
        /// The signal's number.
        signal: i32,
    },
    /// The window of the program that was executed on this connection has another size. Not answered.
    Resize(Window),
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
    /// It has ended, or the program that was executed has.
    Ended {
        /// The exit status: of its `picovisor run`, or of the program, as that would have it.
        status: u8,
    },
    /// What has happened so far.
    Statistics(Box<StatisticsReport>),
    /// Memory was compressed.
    Compressed {
        /// Pages that are compressed now and were not before.
        pages: u64,
        /// Pages that did not get small enough.
        incompressible: u64,
        /// Bytes of guest memory that the sandbox held before.
        before: u64,
        /// Bytes that it holds now, the store included.
        after: u64,
        /// How long it took.
        took_ms: u64,
    },
    /// User stacks.
    Stacks(Vec<ProcessStacks>),
    /// The program runs.
    Started {
        /// As which process.
        pid: i32,
    },
    /// The program cannot run.
    NotStarted {
        /// The exit status that says so.
        status: u8,
        /// Why.
        why: String,
    },
    /// It is not done, and why.
    Refused(String),
}

/// A program that is to run in a sandbox. Its strings are the host's: bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Execute {
    /// Its path or its name, and its arguments.
    pub(crate) command: Vec<Vec<u8>>,
    /// `NAME=value`: what is added to the sandbox's environment.
    pub(crate) environment: Vec<Vec<u8>>,
    /// The working directory.
    pub(crate) workdir: Option<Vec<u8>>,
    /// User and perhaps group, as `--user` has them.
    pub(crate) user: Option<String>,
    /// It gets a terminal of its own, of this size.
    pub(crate) terminal: Option<Window>,
}

/// The size of a terminal's window, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// What has happened in a sandbox since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StatisticsReport {
    /// The sandbox's id.
    pub(crate) id: String,
    /// What `--name` called it.
    pub(crate) name: Option<String>,
    /// How long it has been running.
    pub(crate) running_ms: u64,
    /// Times that a program was left for the provider, by why: `system-call`, `kick`, and exceptions by the processor's name.
    pub(crate) traps: BTreeMap<String, u64>,
    /// System calls by how they were made: `answered` in the guest, as the programs themselves count them; `posted` and
    /// served while the thread stayed in user mode; `refused` and `missed`, posted and made by trap after all, because they
    /// needed their thread or because nobody took them in time; `trapped`, which includes those two.
    pub(crate) call_paths: BTreeMap<String, u64>,
    /// Places in programs' code that make their calls without SYSCALL now.
    pub(crate) patched_sites: u64,
    /// System calls by name, without those that were answered in the guest.
    pub(crate) calls: BTreeMap<String, u64>,
    /// What was asked for and not served.
    pub(crate) unsupported: BTreeMap<String, u64>,
    /// Times that a program need not be left: for a `signal` or a `kick`, since its thread was outside anyway; for a `host-fault`, which
    /// the host's kernel resolved.
    pub(crate) exits_avoided: BTreeMap<String, u64>,
    /// Page faults that the provider saw, by what was tried: `read`, `write`, `fetch`; `failed` became signals.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Page faults of the monitor that needed the host's disk.
    pub(crate) major_faults: u64,
    /// Times that a thread which slept in a call went on.
    pub(crate) wake_ups: u64,
    /// Times that a running program was interrupted because another asked for it.
    pub(crate) kicks: u64,
    /// Processes inside.
    pub(crate) processes: u64,
    /// Their threads.
    pub(crate) threads: u64,
    /// Bytes that they may fill.
    pub(crate) commit: u64,
    /// Bytes that they have in memory, each process's counted by itself.
    pub(crate) resident: u64,
    /// Bytes of guest memory that the sandbox holds.
    pub(crate) memory_held: u64,
    /// Bytes of guest memory that it may hold.
    pub(crate) memory_limit: u64,
    /// Bytes that are compressed, before that.
    pub(crate) compressed: u64,
    /// Bytes that they take in the store.
    pub(crate) compressed_size: u64,
    /// CPU time of the programs' own code.
    pub(crate) cpu_user_ns: u64,
    /// CPU time of the provider and the host on their behalf.
    pub(crate) cpu_provider_ns: u64,
    /// CPU time of System, Memory Compression and Secure System.
    pub(crate) cpu_host_ns: u64,
    /// CPU time of processes that are gone.
    pub(crate) cpu_ended_ns: u64,
}

/// The user stacks of a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessStacks {
    /// Its number inside.
    pub(crate) pid: i32,
    /// Its name.
    pub(crate) name: String,
    /// Its threads.
    pub(crate) threads: Vec<ThreadStack>,
}

/// The user stack of a thread.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ThreadStack {
    /// Its number inside.
    pub(crate) number: u64,
    /// Its name.
    pub(crate) name: String,
    /// Where it was met: `user`, `provider`, `ended`.
    pub(crate) place: String,
    /// Its frames, innermost first.
    pub(crate) frames: Vec<Frame>,
}

/// A frame of a stack.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Frame {
    /// Where its code goes on.
    pub(crate) address: u64,
    /// How it was found: `registers`, `unwind-table`, `frame-pointer`.
    pub(crate) found: String,
    /// The file whose code it is, and the offset in it.
    pub(crate) module: Option<(String, u64)>,
    /// The function, and how far behind its beginning.
    pub(crate) symbol: Option<(String, u64)>,
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
