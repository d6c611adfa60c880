//! Landlock: the files that the monitor can open, make, change and remove are those of the trees that its programs see.
//!
//! A rule is made of the very descriptor that the view was built on, so that there is no second look at a path. Nothing may
//! be executed, devices that are opened take no requests, and TCP ports (without the host's network), abstract Unix sockets of
//! others and signals to others are closed. What Landlock does not govern: attributes (stat, chmod, chown, utimes, extended
//! attributes), and what was opened before.
//!
//! A domain belongs to a thread, as the host has it, and a new thread has that of the one that starts it.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Erratum, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use provider::fs::{Grant, HostAccess};
use std::os::fd::AsFd;
use std::path::Path;

/// The oldest version that is of use: the one before lets files be emptied that may only be read.
const OLDEST: ABI = ABI::V3;

/// What is done to a tree that is only read.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// What is done to one that programs change. They make no device nodes on the host.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSock | MakeFifo | MakeSym
    | Refer
});
/// What is done to one that keeps an overlay's changes: whiteouts are device nodes.
const KEEP: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSock | MakeFifo | MakeSym
    | Refer | MakeChar
});
/// What is done to the folder of crash reports.
const REPORTS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile | MakeReg});

/// What the monitor reads of the host for itself and for /proc and /sys inside, whatever programs see of the host's files. Its
/// own executable: that its code is what it was is checked against it.
const OWN: &[&str] = &["/proc", "/sys/devices/system", "/proc/self/exe"];

/// The rules of a monitor. `network`: its programs have the host's. `reports`: where crash reports go.
///
/// # Errors
/// Why the host has none.
pub(super) fn rules(grants: &[Grant], network: bool, reports: Option<&Path>) -> Result<RulesetCreated, String> {
    available()?;
    build(grants, network, reports).map_err(|error| error.to_string())
}

fn build(grants: &[Grant], network: bool, reports: Option<&Path>) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(ABI::V5))?.scope(Scope::AbstractUnixSocket)?;
    // Without this repair, a thread's domain keeps its signals from the monitor's other threads.
    if Erratum::current().contains(Erratum::ScopedSignalHandling) {
        rules = rules.scope(Scope::Signal)?;
    }
    if !network {
        rules = rules.handle_access(AccessNet::from_all(ABI::V4))?;
    }
    let mut rules = rules.create()?;
    for grant in grants {
        let access = match grant.access {
            HostAccess::Read => READ,
            HostAccess::Write => WRITE,
            HostAccess::Keep => KEEP,
        };
        rules = rules.add_rule(PathBeneath::new(grant.tree.as_fd(), access))?;
    }
    let own = OWN.iter().map(|path| (Path::new(path), READ)).chain(reports.map(|folder| (folder, REPORTS)));
    // What is not there is not read.
    for (path, access) in own.filter_map(|(path, access)| Some((PathFd::new(path).ok()?, access))) {
        rules = rules.add_rule(PathBeneath::new(path, access))?;
    }
    Ok(rules)
}

/// Puts the calling thread under the rules, for good.
pub(super) fn confine(rules: RulesetCreated) -> Result<(), String> {
    rules.restrict_self().map(|_| ()).map_err(|error| error.to_string())
}

/// Tells why the host's Landlock cannot be used.
pub(super) fn available() -> Result<(), String> {
    if has(AccessFs::from_all(OLDEST)) {
        Ok(())
    } else if has(AccessFs::from_all(ABI::V1)) {
        Err("the kernel's is too old; Linux 6.2 or later is needed".to_owned())
    } else {
        Err("the kernel has none, or does not start with it (CONFIG_SECURITY_LANDLOCK, CONFIG_LSM, lsm=)".to_owned())
    }
}

/// What else than files the host's Landlock governs.
pub(super) fn more() -> Vec<&'static str> {
    let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let scoped = |scope: Scope| hard().scope(scope).is_ok();
    let all = [
        (hard().handle_access(AccessNet::from_all(ABI::V4)).is_ok(), "TCP"),
        (has(AccessFs::IoctlDev.into()), "device requests"),
        (scoped(Scope::AbstractUnixSocket), "abstract sockets"),
        (scoped(Scope::Signal) && Erratum::current().contains(Erratum::ScopedSignalHandling), "signals"),
    ];
    all.into_iter().filter_map(|(is_there, what)| is_there.then_some(what)).collect()
}

fn has(access: BitFlags<AccessFs>) -> bool {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(access).is_ok()
}

#[cfg(test)]
#[path = "landlock_tests.rs"]
mod tests;
