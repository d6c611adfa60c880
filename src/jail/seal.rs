//! The second step into the jail: what is given up once everything is open that the sandbox needs, before its program is loaded.
//!
//! Where a mechanism is missing, the others are used all the same, and it is told which is and why.

use provider::fs::Grant;
use rustix::thread::CapabilitySet;
use std::fmt;
use std::sync::Arc;
use vmm::inherited::Others;
use vmm::pico::{Host, OpenError};

use super::{Needs, capabilities, landlock, limits};

/// A part of the jail that this host does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Which.
    what: &'static str,
    /// Why.
    why: String,
}

impl Missing {
    pub(super) fn new(what: &'static str, why: impl fmt::Display) -> Self {
        Self { what, why: why.to_string() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Gives up what a monitor does not need of its caller's rights where its programs see `grants`: other descriptors of the caller's, paths, capabilities and limits; in that order, and on every thread where the
/// host has them by thread. To be called once, while there are no threads but those that the host was opened with.
///
/// Returns what this host lacks of it.
///
/// # Errors
/// The host cannot run threads.
pub(crate) fn seal(
    host: &Host,
    grants: &[Grant],
    needs: Needs,
    others: std::io::Result<Others>,
) -> Result<Vec<Missing>, OpenError> {
    let mut missing = Vec::new();
    match others {
        Ok(others) => drop(others),
        Err(error) => missing.push(Missing::new("inherited descriptors", format_args!("/proc/self/fd: {error}"))),
    }
    let reports = crate::crash::settle_folder();
    let rules = landlock::rules(grants, needs.network, reports);
    let rules = rules.map_err(|why| missing.push(Missing::new("Landlock", why))).ok().map(Arc::new);
    let kept = capabilities::needed(grants, needs.network);
    let threads = host.on_every_thread(move || confine(rules.as_deref(), kept))?;
    missing.extend(threads.into_iter().flatten());
    missing.dedup();
    if let Err(error) = limits::lower() {
        missing.push(Missing::new("resource limits", error));
    }
    Ok(missing)
}

/// Does to the calling thread what is done by thread.
fn confine(rules: Option<&::landlock::RulesetCreated>, kept: CapabilitySet) -> Vec<Missing> {
    let mut missing = Vec::new();
    if let Some(rules) = rules {
        let copy = rules.try_clone().map_err(|error| error.to_string());
        if let Err(why) = copy.and_then(landlock::confine) {
            missing.push(Missing::new("Landlock", why));
        }
    }
    if let Err(error) = capabilities::keep(kept) {
        missing.push(Missing::new("capabilities", error));
    }
    missing
}
