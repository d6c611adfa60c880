//! What processes are made of, and what they are to the host.

use super::host::CreateError;
use super::provider::Context;
use crate::memory::AddressSpace;
use crate::threads::Owner;
use std::sync::Arc;

bitflags::bitflags! {
    /// What a new process is, and how it relates to its parent (NT: the flags of `CreateProcess`, and one bit of ours).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ProcessFlags: u32 {
        /// Copy the parent's address space: fork. A parent that wants a say in how gives a copy of its own making as
        /// [`ProcessAttributes::space`] instead.
        const CLONE_PARENT = 1;
        /// The child holds the parent's [handles](super::ProcessHandle), by the same numbers.
        const INHERIT_HANDLES = 2;
        /// Together with `CLONE_PARENT`: copy no page at once. Without it, pages that are likely to be stored to soon are
        /// copied, which saves both sides a fault each; the others are shared until a store either way, and count once.
        const CLONE_REDUCED_COMMIT = 4;
        /// The child leaves the parent's resource group. Refused: all processes of a host are in one.
        const BREAKAWAY = 8;
        /// Make a minimal process: an empty address space and nothing more. No image, no mapping, no thread, and no
        /// provider that serves it. It may have a name. NT has a routine of its own for these.
        const MINIMAL = 1 << 16;
    }
}

/// What a new process is made of: a context makes a pico process, [`ProcessFlags::MINIMAL`] a minimal process, and it
/// needs one of the two.
#[derive(Debug, Default)]
pub struct ProcessAttributes {
    /// What it is, and its relation to the parent.
    pub flags: ProcessFlags,
    /// The address space a pico process runs in; `None`: a new, empty one (or the copy that `CLONE_PARENT` asks for).
    pub space: Option<Arc<AddressSpace>>,
    /// The provider's object behind a pico process.
    pub context: Option<Context>,
    /// The name of a minimal process, if it is to have one. A pico process's is what its provider says.
    pub name: Option<Box<[u8]>>,
}

impl ProcessAttributes {
    /// Those of a minimal process.
    pub fn minimal(name: Option<&[u8]>) -> Self {
        Self { flags: ProcessFlags::MINIMAL, name: name.map(Box::from), ..Self::default() }
    }

    /// Refuses what contradicts itself, and what this host cannot do.
    pub(super) fn check(&self, has_parent: bool) -> Result<(), CreateError> {
        let flags = self.flags;
        let is_minimal = flags.contains(ProcessFlags::MINIMAL);
        let clones = flags.contains(ProcessFlags::CLONE_PARENT);
        let relates = clones || flags.contains(ProcessFlags::INHERIT_HANDLES);
        let contradicts = is_minimal == self.context.is_some()
            || is_minimal && (clones || self.space.is_some())
            || !is_minimal && self.name.is_some()
            || clones && self.space.is_some()
            || flags.contains(ProcessFlags::CLONE_REDUCED_COMMIT) && !clones
            || relates && !has_parent;
        if contradicts || flags.contains(ProcessFlags::BREAKAWAY) { Err(CreateError::Unsupported) } else { Ok(()) }
    }

    /// What a process with these attributes is.
    pub(super) fn kind(&self) -> ProcessKind {
        if self.context.is_some() { ProcessKind::Pico } else { ProcessKind::Minimal }
    }
}

/// What a process is to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    /// The minimal process that holds the monitor's threads and descriptors.
    System,
    /// The minimal process that holds the store of compressed pages.
    MemoryCompression,
    /// The minimal process that exists while the monitor is jailed.
    SecureSystem,
    /// A minimal process that somebody made: an address space and nothing more.
    Minimal,
    /// A process that the provider serves.
    Pico,
}

impl ProcessKind {
    /// Whose host threads belong to a process of this kind, if any do.
    pub fn owner(self) -> Option<Owner> {
        match self {
            Self::System => Some(Owner::System),
            Self::MemoryCompression => Some(Owner::MemoryCompression),
            Self::SecureSystem => Some(Owner::SecureSystem),
            Self::Minimal | Self::Pico => None,
        }
    }

    /// The name of a process that has none of its own.
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Self::System => b"System",
            Self::MemoryCompression => b"Memory Compression",
            Self::SecureSystem => b"Secure System",
            Self::Minimal | Self::Pico => b"",
        }
    }
}
