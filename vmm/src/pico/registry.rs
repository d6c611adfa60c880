//! The one provider of a host: registered before any process exists, handed over at most once, then sealed.

use super::ProtectedRange;
use super::provider::Provider;
use crate::protect::{Sealed, Sealing};
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

/// The places of a host's provider: the one that registered, the one it handed over to, and, once registration has closed, the
/// one in force, in sealed memory.
///
/// Cells that are written once need no lock on the way of a trap.
#[derive(Debug, Default)]
pub(super) struct Registry {
    first: OnceLock<Arc<dyn Provider>>,
    real: OnceLock<Arc<dyn Provider>>,
    closed: AtomicBool,
    in_force: OnceLock<Sealed<Callbacks>>,
    /// What the provider wants protected; it was asked when registration closed.
    ranges: OnceLock<Vec<ProtectedRange>>,
}

/// The callback table: a reference to the provider and one to its table of functions, which lies among the constants of
/// whatever image the provider is in.
#[derive(Debug)]
struct Callbacks {
    provider: Arc<dyn Provider>,
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

    /// Closes registration for good, and seals the provider that is in charge by now.
    ///
    /// # Errors
    /// The host has no memory for the table.
    pub(super) fn seal(&self) -> std::io::Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) && (self.in_force.get().is_some() || self.candidate().is_none()) {
            return Ok(());
        }
        if let Some(provider) = self.candidate().cloned() {
            // Of two that close it at once, one keeps its table.
            let _ = self.ranges.set(provider.protected_ranges());
            let _ = self.in_force.set(Sealed::new(Callbacks { provider })?);
        }
        Ok(())
    }

    /// The provider in charge.
    pub(super) fn provider(&self) -> Option<&Arc<dyn Provider>> {
        self.in_force.get().map_or_else(|| self.candidate(), |callbacks| Some(&callbacks.provider))
    }

    /// What must not change: the table, the place that says where it is, and what the provider named.
    pub(super) fn protected_ranges(&self) -> Vec<ProtectedRange> {
        let mut ranges = self.ranges.get().cloned().unwrap_or_default();
        if let Some(table) = self.in_force.get() {
            let place = (&raw const self.in_force).addr();
            let both = [
                ("the callback table", table.address(), size_of::<Callbacks>()),
                ("the place of the callback table", place, size_of_val(&self.in_force)),
            ];
            // SAFETY: the table and this registry stay where they are for as long as somebody can ask the host to look.
            ranges.extend(both.map(|(name, at, len)| unsafe { ProtectedRange::from_raw(name, at, len) }));
        }
        ranges
    }

    /// How well the callback table is protected, once there is one.
    pub(super) fn sealing(&self) -> Option<Sealing> {
        self.in_force.get().map(Sealed::sealing)
    }

    fn candidate(&self) -> Option<&Arc<dyn Provider>> {
        self.real.get().or_else(|| self.first.get())
    }

    fn open(&self) -> Result<(), RegisterError> {
        if self.closed.load(Ordering::Acquire) { Err(RegisterError::Sealed) } else { Ok(()) }
    }
}
