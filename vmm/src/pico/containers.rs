//! The minimal processes that every host has: containers for what belongs to no pico process.
//!
//! | process | holds |
//! |---|---|
//! | System | host threads that serve no single pico process, and the monitor's host descriptors |
//! | Memory Compression | the store of compressed pages, in its address space, and the thread that fills it |
//! | Secure System | nothing; it exists while the monitor is jailed, so that tools can show that it is |

use super::attributes::{ProcessAttributes, ProcessKind};
use super::host::{CreateError, Shared};
use super::process::Process;
use std::sync::{Arc, OnceLock};

/// The containers of a host.
#[derive(Debug)]
pub(super) struct Containers {
    pub(super) system: Arc<Process>,
    pub(super) compression: Arc<Process>,
    secure: OnceLock<Arc<Process>>,
}

impl Containers {
    /// Makes System and Memory Compression, before any other process.
    pub(super) fn new(host: &Arc<Shared>) -> Result<Self, CreateError> {
        Ok(Self {
            system: container(host, ProcessKind::System)?,
            compression: container(host, ProcessKind::MemoryCompression)?,
            secure: OnceLock::new(),
        })
    }

    /// Secure System, once the monitor is jailed.
    pub(super) fn secure(&self) -> Option<&Arc<Process>> {
        self.secure.get()
    }

    /// Makes Secure System: the monitor is jailed now, for good.
    pub(super) fn enter_jail(&self, host: &Arc<Shared>) -> Result<(), CreateError> {
        let process = container(host, ProcessKind::SecureSystem)?;
        let _ = self.secure.set(process);
        Ok(())
    }
}

fn container(host: &Arc<Shared>, kind: ProcessKind) -> Result<Arc<Process>, CreateError> {
    Process::create(host, None, kind, ProcessAttributes::minimal(None))
}
