//! What the program sees: builds the mounts that a configuration describes.

use super::Namespace;
use super::host::{Hidden, HostFs};
use super::mount::{MountTable, NewMount};
use crate::config::Config;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vmm::memory::GuestMemory;

/// Why the view could not be built.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct ViewError {
    /// Which host path.
    pub path: String,
    /// What is wrong with it.
    pub reason: std::io::Error,
}

impl ViewError {
    fn new(path: &Path, reason: std::io::Error) -> Self {
        Self { path: path.display().to_string(), reason }
    }
}

impl Namespace {
    /// Builds the view that the configuration describes. Host problems (a root or bind that does not exist) are named in the error.
    pub fn build(config: &Config, _memory: &Arc<GuestMemory>) -> Result<Self, ViewError> {
        let root = config.view.root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let host = HostFs::open(&root, false, Hidden::default()).map_err(|reason| ViewError::new(&root, reason))?;
        let mounts =
            MountTable::new(NewMount { file_system: Arc::new(host), root: None, source: b"host", read_only: true });
        Ok(Self::new(mounts))
    }
}
