//! The one provider of a host: registered before any process exists, handed over at most once, then sealed.

use super::provider::Provider;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use thiserror::Error;

/// Why a provider was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// There is a provider already.
    #[error("a provider is registered already")]
    Taken,
    /// A process exists, so registration has closed for good.
    #[error("registration has closed: a process exists")]
    Sealed,
}

/// The places of a host's provider: the one that registered, and the one it handed over to.
///
/// Two cells that are written once need no lock on the way of a trap.
#[derive(Debug, Default)]
pub(super) struct Registry {
    first: OnceLock<Arc<dyn Provider>>,
    real: OnceLock<Arc<dyn Provider>>,
    sealed: AtomicBool,
}

impl Registry {
    /// Registers the first provider.
    pub(super) fn register(&self, provider: Arc<dyn Provider>) -> Result<(), RegisterError> {
        self.open()?;
        self.first.set(provider).map_err(|_| RegisterError::Taken)
    }

    /// Replaces the first provider by its real implementation.
    pub(super) fn hand_over(&self, provider: Arc<dyn Provider>) -> Result<(), RegisterError> {
        self.open()?;
        self.real.set(provider).map_err(|_| RegisterError::Taken)
    }

    /// Closes registration for good.
    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// The provider in charge.
    pub(super) fn provider(&self) -> Option<&Arc<dyn Provider>> {
        self.real.get().or_else(|| self.first.get())
    }

    fn open(&self) -> Result<(), RegisterError> {
        if self.sealed.load(Ordering::Acquire) { Err(RegisterError::Sealed) } else { Ok(()) }
    }
}
