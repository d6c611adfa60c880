//! Why a program cannot be loaded ([`LoadError`]): one clear line for the command line, an error number for execve.

use crate::errno::Errno;
use thiserror::Error;
use vmm::memory::GuestMemory;

/// Why a program cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// A file cannot be opened or is not allowed to be executed.
    #[error("{}", open_failure(*.0))]
    Open(Errno),
    /// Reading or mapping the file failed.
    #[error("the program cannot be read: {0}")]
    Read(Errno),
    /// Neither an ELF file nor a script.
    #[error("not an executable format: neither an ELF file nor a script that starts with #!")]
    UnknownFormat,
    /// The `#!` line names no interpreter, or one that is too long.
    #[error("the script's #! line names no interpreter, or one that does not fit in 256 bytes")]
    BadScript,
    /// A 32-bit program.
    #[error("a 32-bit program; only 64-bit x86-64 programs can run")]
    Bits32,
    /// Made for another processor, which is named.
    #[error("made for {0}; only x86-64 programs can run")]
    ForeignArchitecture(String),
    /// An ELF file that is not a program: an object file, a core dump.
    #[error("an ELF file, but not a program: {0}")]
    NotAProgram(&'static str),
    /// The file ends before what its headers promise.
    #[error("truncated: the file ends before {0}")]
    Truncated(&'static str),
    /// A header contradicts itself or the format.
    #[error("malformed ELF file: {0}")]
    Malformed(&'static str),
    /// Two segments want the same addresses.
    #[error("malformed ELF file: segments overlap at {0:#x}")]
    Overlap(u64),
    /// A segment lies outside the addresses that a program has.
    #[error(
        "malformed ELF file: a segment of {size:#x} bytes at {address:#x} does not fit into a program's address space"
    )]
    OutOfRange {
        /// The segment's address.
        address: u64,
        /// Its size in memory.
        size: u64,
    },
    /// The program's ELF interpreter (dynamic linker) or script interpreter cannot be opened.
    #[error("its interpreter {path} {}", open_failure(*.error))]
    Interpreter {
        /// The interpreter's path.
        path: String,
        /// Why.
        error: Errno,
    },
    /// The ELF interpreter is no program itself.
    #[error("its interpreter {path} cannot be loaded: {error}")]
    BadInterpreter {
        /// The interpreter's path.
        path: String,
        /// What is wrong with it.
        error: Box<LoadError>,
    },
    /// Scripts whose interpreters are scripts, too deep.
    #[error("too many scripts that are each other's interpreters")]
    TooManyScripts,
    /// Arguments and environment exceed a quarter of the stack, or one string 128 KiB.
    #[error("the arguments and the environment are too long")]
    ArgumentsTooLong,
    /// The program needs more memory than there is.
    #[error("the program needs {needed} bytes of memory; the limit is {limit}")]
    TooLarge {
        /// Bytes of its writable segments.
        needed: u64,
        /// The sandbox's limit.
        limit: u64,
    },
    /// Memory for loading it could not be had.
    #[error("not enough memory to load the program; the limit is {limit} bytes")]
    OutOfMemory {
        /// The sandbox's limit.
        limit: u64,
    },
    /// A part of it could not be mapped.
    #[error("the program cannot be mapped: {0}")]
    Map(Errno),
}

impl LoadError {
    /// What a failure of a new address space means: its memory has no holes and forbids nothing that loading does, so a
    /// fault, too, is a lack of memory.
    pub(super) fn of_memory(memory: &GuestMemory) -> impl Fn(Errno) -> Self {
        let limit = memory.limit();
        move |error| match error {
            Errno::ENOMEM | Errno::EFAULT => Self::OutOfMemory { limit },
            other => Self::Map(other),
        }
    }

    /// The error that execve returns.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Open(errno) | Self::Read(errno) | Self::Map(errno) => *errno,
            Self::Interpreter { error, .. } => *error,
            Self::UnknownFormat
            | Self::BadScript
            | Self::Bits32
            | Self::ForeignArchitecture(_)
            | Self::NotAProgram(_)
            | Self::Truncated(_)
            | Self::Malformed(_)
            | Self::Overlap(_)
            | Self::OutOfRange { .. } => Errno::ENOEXEC,
            // What an ELF interpreter is wrong about is ELIBBAD, unless it is about memory (fs/binfmt_elf.c).
            Self::BadInterpreter { error, .. } => match error.errno() {
                Errno::ENOEXEC => Errno::ELIBBAD,
                other => other,
            },
            Self::TooManyScripts => Errno::ELOOP,
            Self::ArgumentsTooLong => Errno::E2BIG,
            Self::TooLarge { .. } | Self::OutOfMemory { .. } => Errno::ENOMEM,
        }
    }

    /// The exit status that a launcher reports, as env(1) does: 127 if a file does not exist (the program or its interpreter),
    /// 126 if the program cannot be executed, 125 if the sandbox has too little memory for it.
    pub fn exit_status(&self) -> u8 {
        match self.errno() {
            Errno::ENOENT => 127,
            Errno::ENOMEM => 125,
            _ => 126,
        }
    }

    /// Tells whether the file the user named does not exist (exit status 127), as opposed to not being executable (126).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Open(Errno::ENOENT | Errno::ENOTDIR))
    }
}

fn open_failure(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "not found".into(),
        Errno::ENOTDIR => "not found: a part of its path is not a directory".into(),
        Errno::EACCES => "is not executable".into(),
        Errno::EISDIR => "is a directory".into(),
        other => format!("cannot be opened: {other}"),
    }
}
