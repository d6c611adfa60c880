//! What a sandbox is to be: filled in by the command line, read by the provider.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a run depends on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The program as the user named it: a path, or a name to look up in the sandbox's PATH.
    pub program: OsString,
    /// The arguments, without the program's name.
    pub args: Vec<OsString>,
    /// `NAME=value` strings, complete (the command line has applied `--env`, `--env-file` and `--clearenv`).
    pub env: Vec<OsString>,
    /// What the program sees of the host's files.
    pub view: View,
    /// The user the program believes to be.
    pub user: User,
    /// The working directory inside; `None`: the caller's if the view has it, else `/`.
    pub workdir: Option<PathBuf>,
    /// The host name inside.
    pub hostname: OsString,
    /// What the sandbox may use.
    pub limits: Limits,
    /// What network the program sees.
    pub network: Network,
    /// The size of a terminal of the sandbox's own for the first process; `None`: it has the caller's descriptors.
    pub terminal: Option<TerminalSize>,
    /// Whether and how system calls are traced.
    pub trace: Option<Trace>,
    /// What becomes of the instructions that programs make many calls with.
    pub call_sites: CallSites,
    /// The sandbox's name, for tools.
    pub name: Option<String>,
}

/// What becomes of SYSCALL instructions that many calls are made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallSites {
    /// They are rewritten in memory, so that the calls cost less.
    #[default]
    Patch,
    /// They stay as they are.
    LeaveAlone,
}

/// The size of a terminal's window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// What the program sees of the host's files.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The host directory that is `/` inside; `None`: the host's own `/`.
    pub root: Option<PathBuf>,
    /// Host trees shown elsewhere, in command-line order (`--rw DIR` is a writable bind of DIR on itself).
    pub binds: Vec<Bind>,
    /// Paths that do not exist inside, besides [`crate::fs::DEFAULT_HIDDEN`].
    pub hide: Vec<PathBuf>,
    /// A host directory that keeps the overlay's writes; `None`: memory, gone at exit.
    pub upper: Option<PathBuf>,
}

impl View {
    /// Tells whether anything that a program writes to a path can reach the host.
    pub fn reaches_host(&self) -> bool {
        self.upper.is_some() || self.binds.iter().any(|bind| bind.writable)
    }
}

/// A host tree shown inside.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The host path.
    pub source: PathBuf,
    /// The path inside; absolute.
    pub target: PathBuf,
    /// Whether writes reach the host.
    pub writable: bool,
}

/// The identity inside.
#[derive(Clone, Debug)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What the sandbox may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory that the sandbox may hold.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Open descriptors a process (RLIMIT_NOFILE).
    pub files: u64,
    /// CPUs that the program sees and may use at once.
    pub cpus: u32,
    /// Wall time after which the sandbox is ended.
    pub timeout: Option<Duration>,
}

/// What network the program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A loopback of its own.
    Loopback,
    /// The host's sockets.
    Host,
}

/// How system calls are traced.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Human-readable, or one JSON object a line.
    pub format: TraceFormat,
    /// The file that gets the trace; `None`: standard error.
    pub output: Option<PathBuf>,
}

/// The form of a trace line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// As strace prints.
    Text,
    /// One JSON object a line.
    Json,
}
