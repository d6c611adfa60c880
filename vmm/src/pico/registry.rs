//! The one provider of a host: registered before any process exists, handed over at most once, then sealed.

use super::ProtectedRange;
use super::provider::Provider;
use crate::protect::{Sealed, Sealing};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use thiserror::Error;

/// Why a provider was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// There is a provider already, or one is being loaded, or it has handed over before.
    #[error("a provider is registered already")]
    Taken,
    /// A process exists, so registration has closed for good.
    #[error("registration has closed: a process exists")]
    Sealed,
    /// Code of a shared object ran in this process and did not become the provider. Who could tell what else it did?
    #[error("registration has closed: a foreign provider's code has run")]
    Spoilt,
}

/// How far registration has come. It only goes down this list, but for a claim that is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nobody has registered.
    #[default]
    Open,
    /// A shared object is being examined; none of its code has run.
    Claimed,
    /// A provider is registered, and may hand over.
    Registered,
    /// It has.
    HandedOver,
    /// Foreign code ran, and nothing came of it.
    Spoilt,
    /// A process exists.
    Sealed,
}

/// The places of a host's provider: the one that registered, the one it handed over to, and, once registration has closed, the
/// one in force, in sealed memory.
///
/// Cells that are written once need no lock on the way of a trap; whoever registers holds `stage`, a leaf lock.
#[derive(Debug, Default)]
pub(super) struct Registry {
    first: OnceLock<Arc<dyn Provider>>,
    real: OnceLock<Arc<dyn Provider>>,
    stage: Mutex<Stage>,
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
        let mut stage = self.stage();
        stage.expect(Stage::Open)?;
        *stage = Stage::Registered;
        self.first.set(provider).map_err(|_| RegisterError::Taken)
    }

    /// Replaces the first provider by its real implementation.
    pub(super) fn hand_over(&self, provider: Arc<dyn Provider>) -> Result<(), RegisterError> {
        let mut stage = self.stage();
        stage.expect(Stage::Registered)?;
        *stage = Stage::HandedOver;
        self.real.set(provider).map_err(|_| RegisterError::Taken)
    }

    /// Keeps the place for a provider that is still to be examined: nobody else may register meanwhile.
    pub(super) fn claim(&self) -> Result<Claim<'_>, RegisterError> {
        let mut stage = self.stage();
        stage.expect(Stage::Open)?;
        *stage = Stage::Claimed;
        Ok(Claim { registry: self })
    }

    /// Closes registration for good, and seals the provider that is in charge by now.
    ///
    /// # Errors
    /// The host has no memory for the table.
    pub(super) fn seal(&self) -> std::io::Result<()> {
        let again = std::mem::replace(&mut *self.stage(), Stage::Sealed) == Stage::Sealed;
        if again && (self.in_force.get().is_some() || self.candidate().is_none()) {
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

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    /// Checks that registration has come as far as `wanted` and no further.
    fn expect(self, wanted: Self) -> Result<(), RegisterError> {
        match self {
            stage if stage == wanted => Ok(()),
            Self::Sealed => Err(RegisterError::Sealed),
            Self::Spoilt => Err(RegisterError::Spoilt),
            _ => Err(RegisterError::Taken),
        }
    }
}

/// The place of a provider that is being loaded. Dropping it gives the place back, unless foreign code has run.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    registry: &'a Registry,
}

impl Claim<'_> {
    /// Notes that the object's code is about to run: from now on nobody but it can become the provider.
    pub(crate) fn code_runs(&self) -> Result<(), RegisterError> {
        let mut stage = self.registry.stage();
        stage.expect(Stage::Claimed)?;
        *stage = Stage::Spoilt;
        Ok(())
    }

    /// Registers the provider that the code turned out to be.
    pub(crate) fn register(self, provider: Arc<dyn Provider>) -> Result<(), RegisterError> {
        let mut stage = self.registry.stage();
        // A process that somebody made meanwhile has sealed the registry, and wins.
        stage.expect(Stage::Spoilt)?;
        *stage = Stage::Registered;
        self.registry.first.set(provider).map_err(|_| RegisterError::Taken)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut stage = self.registry.stage();
        if *stage == Stage::Claimed {
            *stage = Stage::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_keeps_others_out_until_it_is_given_back() {
        let registry = Registry::default();
        let claim = registry.claim().unwrap();
        assert_eq!(registry.claim().unwrap_err(), RegisterError::Taken);
        drop(claim);
        registry.claim().unwrap();
    }

    #[test]
    fn code_that_ran_and_failed_closes_registration() {
        let registry = Registry::default();
        registry.claim().unwrap().code_runs().unwrap();
        assert_eq!(registry.claim().unwrap_err(), RegisterError::Spoilt);
    }

    #[test]
    fn a_process_wins_over_a_load() {
        let registry = Registry::default();
        let claim = registry.claim().unwrap();
        registry.seal().unwrap();
        assert_eq!(claim.code_runs().unwrap_err(), RegisterError::Sealed);
        drop(claim);
        assert_eq!(registry.claim().unwrap_err(), RegisterError::Sealed);
    }
}
