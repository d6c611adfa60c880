//! Workers: host threads with a virtual CPU each, parked between the pico threads they run.

use super::HostReport;
use crate::memory::GuestMemory;
use crate::pico::{HostConfig, OpenError};
use crate::trap::{RunError, UserMode};
use std::sync::Arc;

/// What a worker does with its virtual CPU.
pub(crate) type Job = Box<dyn FnOnce(&mut dyn UserMode) + Send>;

/// The workers of a machine.
#[derive(Debug)]
pub(crate) struct Workers {
    memory: Arc<GuestMemory>,
    report: HostReport,
}

impl Workers {
    /// Opens KVM and makes the machine and its first worker.
    pub(crate) fn open(_config: &HostConfig) -> Result<Arc<Self>, OpenError> {
        Err(OpenError::Refused(Box::new(HostReport {})))
    }
    /// Guest memory of the machine.
    pub(crate) fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }
    /// What the probe found.
    pub(crate) fn report(&self) -> &HostReport {
        &self.report
    }
    /// Lets a parked worker, or a new one, do `job`.
    pub(crate) fn run(&self, _job: Job) -> Result<(), RunError> {
        Err(RunError(String::new()))
    }
    /// Ends all workers.
    pub(crate) fn close(&self) {}
}
