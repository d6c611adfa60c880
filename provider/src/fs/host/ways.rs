//! Ways: several directories of a host tree that are confirmed by one system call.
//!
//! Going through known directories name by name takes a `statx` a name, and each brings the attributes that tell whether the caller may
//! search the directory. One `openat2` does the same for a whole way if it may follow no link and must stay beneath its start, and if
//! the host's own judgement of the searches can stand for Linux' of the caller ([`Searches`]). What it arrives at is compared by
//! identity. What lies between is not: a directory is in one place, so that is what was there before unless the host has moved the
//! directory to another one and put that in the old one's place.

use super::HostInode;
use super::inode::attributes;
use crate::fs::access::capability;
use crate::fs::{FileKind, Inode};
use crate::task::Credentials;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

/// Whose searches the host judges, when the monitor makes them, at least as strictly as Linux would.
#[derive(Debug)]
pub(super) struct Searches {
    /// The monitor's groups, as the host knows them.
    groups: Vec<u32>,
    /// The monitor may search whatever it likes.
    is_privileged: OnceLock<bool>,
}

/// Tells from the text of /proc/PID/status whether a process may search any directory; if that cannot be told, it may.
fn may_search_all(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    capabilities.is_none_or(|all| all & (1 << capability::DAC_OVERRIDE | 1 << capability::DAC_READ_SEARCH) != 0)
}

fn sorted(mut groups: Vec<u32>) -> Vec<u32> {
    groups.sort_unstable();
    groups.dedup();
    groups
}

impl Searches {
    /// Asks for the groups; the rest is asked for where it counts, which is seldom.
    pub(super) fn new() -> Self {
        let groups = rustix::process::getgroups().unwrap_or_default().into_iter().map(rustix::process::Gid::as_raw);
        Self { groups: sorted(groups.collect()), is_privileged: OnceLock::new() }
    }

    /// Tells whether the searches of `who` are judged, by a host that sees the monitor as `owner`: Linux refuses them none, or
    /// `who` is to the sandbox what the monitor is to the host.
    fn are_judged_for(&self, who: &Credentials, owner: (u32, u32)) -> bool {
        if who.has(capability::DAC_OVERRIDE) || who.has(capability::DAC_READ_SEARCH) {
            return true;
        }
        if owner.0 == 0 || owner != (who.fsuid, who.fsgid) {
            return false;
        }
        let look = || {
            // capget(2) says the same; this needs no system call that a running monitor does not need anyway.
            may_search_all(&std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default())
        };
        !self.is_privileged.get_or_init(look)
            && (self.groups == who.groups || self.groups == sorted(who.groups.clone()))
    }
}

impl HostInode {
    /// Tells whether `inode`, a directory that was found here under `name`, may be part of a way for [`Self::still_leads`].
    pub(in crate::fs) fn may_recall(&self, who: &Credentials, name: &[u8], inode: &Self) -> bool {
        inode.kind() == FileKind::Directory
            && Arc::ptr_eq(&self.tree, &inode.tree)
            && !self.tree.hidden.hides_somewhere(name)
            && self.tree.searches.are_judged_for(who, self.tree.owner)
    }

    /// Tells whether the relative path `way` leads to the directory `inode`, through directories only.
    pub(in crate::fs) fn still_leads(&self, way: &[u8], inode: &Self) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let Ok(directory) = self.directory_fd() else { return false };
        let Ok(fd) = openat2(directory, way, flags, Mode::empty(), resolve) else { return false };
        attributes(fd.as_fd(), b"").is_ok_and(|host| inode.is_still(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_that_search_everything_are_seen_in_a_status() {
        assert!(!may_search_all("Name:\tx\nCapPrm:\t0000000000000006\nCapEff:\t0000000000000001\n"));
        assert!(may_search_all("CapEff:\t0000000000000002\n"));
        assert!(may_search_all("CapEff:\t0000000000000004\n"));
        assert!(may_search_all("CapEff:\tno number\n"));
        assert!(may_search_all(""));
    }

    #[test]
    fn the_host_judges_for_who_needs_no_judgement_or_is_like_the_monitor() {
        let searches = Searches { groups: vec![5, 6], is_privileged: OnceLock::from(false) };
        let judged = |uid, gid, groups| searches.are_judged_for(&Credentials::new(uid, gid, groups), (1000, 100));
        assert!(judged(0, 0, vec![]));
        assert!(judged(1000, 100, vec![5, 6]));
        assert!(judged(1000, 100, vec![6, 5, 6]));
        assert!(!judged(1000, 100, vec![5]));
        assert!(!judged(1000, 100, vec![5, 6, 7]));
        assert!(!judged(1000, 101, vec![5, 6]));
        assert!(!judged(1001, 100, vec![5, 6]));
        let privileged = Searches { groups: vec![], is_privileged: OnceLock::from(true) };
        assert!(!privileged.are_judged_for(&Credentials::new(1000, 100, vec![]), (1000, 100)));
        // A monitor that is root sees everything, and the program has dropped the right to.
        let dropped = Credentials { effective: 0, ..Credentials::new(0, 0, vec![]) };
        assert!(!searches.are_judged_for(&dropped, (0, 0)));
    }
}
