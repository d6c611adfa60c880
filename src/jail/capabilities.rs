//! Capabilities: of the caller's, those that the grants need.
//!
//! An ordinary user's monitor has none. Root's has all of them at first, and gives them up: what a monitor can do to files
//! it can do as the user that it is, unless programs may change a host tree, where they see themselves as root and own what
//! anybody owns.
//!
//! They belong to a thread, as the host has it, and a new thread has those of the one that starts it.

use provider::fs::{Grant, HostAccess};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities};
use rustix::thread::{remove_capability_from_bounding_set, set_capabilities};

/// What root inside a tree that may be changed does there: gives files to others, opens them and changes their attributes
/// whoever owns them. Set-id bits and the capabilities of files never reach the host, and neither do device nodes.
const FILES: CapabilitySet = CapabilitySet::CHOWN.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::FOWNER);
/// What the host's network takes: ports below 1024. Raw sockets are not passed on.
const NETWORK: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// The capabilities that a monitor needs, if its caller has them.
pub(super) fn needed(grants: &[Grant], network: bool) -> CapabilitySet {
    let changes = grants.iter().any(|grant| grant.access != HostAccess::Read);
    let files = if changes { FILES } else { CapabilitySet::empty() };
    if network { files | NETWORK } else { files }
}

/// Gives up the calling thread's other capabilities for good.
pub(super) fn keep(needed: CapabilitySet) -> Result<(), Errno> {
    let kept = capabilities(None)?.effective & needed;
    // The ambient set is never more than both of these.
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })
}

/// Empties the calling thread's bounding set: what a program could gain that it executes. It executes none, and
/// could gain nothing without new privileges, so who may not do this, or has not the call, need not.
pub(super) fn bound() {
    let all = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
    // The first that does not exist ends it (EINVAL).
    let _ = all.map(remove_capability_from_bounding_set).find(Result::is_err);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(access: HostAccess) -> Grant {
        Grant { tree: std::fs::File::open("/").unwrap().into(), access }
    }

    #[test]
    fn only_what_changes_files_needs_capabilities_for_them() {
        let needed = |accesses: &[HostAccess], network| {
            needed(&accesses.iter().copied().map(grant).collect::<Vec<_>>(), network)
        };
        assert_eq!(needed(&[], false), CapabilitySet::empty());
        assert_eq!(needed(&[HostAccess::Read, HostAccess::Read], false), CapabilitySet::empty());
        assert_eq!(needed(&[HostAccess::Read, HostAccess::Write], false), FILES);
        assert_eq!(needed(&[HostAccess::Keep], false), FILES);
        assert_eq!(needed(&[HostAccess::Read], true), NETWORK);
        assert_eq!(needed(&[HostAccess::Write], true), FILES | NETWORK);
    }

    #[test]
    fn what_is_given_up_is_gone() {
        // Capabilities are a thread's own: those of the other tests stay.
        let after = std::thread::spawn(|| {
            let before = capabilities(None).unwrap();
            keep(FILES).unwrap();
            bound();
            assert!(set_capabilities(None, before).is_err() || before.permitted.is_empty());
            (before, capabilities(None).unwrap())
        });
        let (before, after) = after.join().unwrap();
        let kept = before.effective & FILES;
        assert_eq!(after, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() });
    }
}
