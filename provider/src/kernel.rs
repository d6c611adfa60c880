//! What all tasks of a sandbox share.
use crate::config::Config;
use crate::fs::Namespace;
use std::sync::Arc;
use vmm::memory::GuestMemory;

/// A sandbox's kernel state.
#[derive(Debug)]
pub struct Kernel {}

impl Kernel {
    /// The configuration.
    pub fn config(&self) -> &Config {
        todo!()
    }
    /// Guest memory.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        todo!()
    }
    /// The mount table.
    pub fn namespace(&self) -> &Namespace {
        todo!()
    }
}
