//! Who sent, and what came along: credentials and descriptors.

use super::garbage::Rights;
use super::names::Names;
use crate::abi::socket::UserCredentials;
use crate::errno::Errno;
use crate::fs::{Fd, OpenFile};
use crate::net::RawControl;
use crate::task::{CurrentTask, Resource};
use linux_raw_sys::net::{SCM_CREDENTIALS, SCM_RIGHTS, SOL_SOCKET};
use std::sync::Arc;
use zerocopy::FromBytes;

/// Descriptors that one message carries at the most (SCM_MAX_FD).
const RIGHTS_MAX: usize = 253;
/// CAP_SETGID.
const SETGID: u32 = 6;
/// CAP_SETUID.
const SETUID: u32 = 7;
/// CAP_SYS_RESOURCE.
const SYS_RESOURCE: u32 = 24;
/// CAP_SYS_ADMIN.
const SYS_ADMIN: u32 = 21;

/// What SO_PEERCRED and SO_PEERGROUPS report.
#[derive(Clone, Debug)]
pub(super) struct PeerCredentials {
    pub(super) user: UserCredentials,
    pub(super) groups: Arc<[u32]>,
}

impl PeerCredentials {
    /// Those of a task now.
    pub(super) fn of(task: &CurrentTask<'_>) -> Self {
        let who = task.credentials();
        let user = UserCredentials { pid: task.group().pid().0, uid: who.euid, gid: who.egid };
        Self { user, groups: who.groups.as_slice().into() }
    }
}

/// What a message carries besides data.
#[derive(Debug)]
pub(super) struct Ancillary {
    /// Who sent it, where somebody wants to know.
    pub(super) credentials: Option<UserCredentials>,
    /// Open files.
    pub(super) rights: Rights,
}

/// The credentials that a message has if it says nothing: the real ids, as SCM_CREDENTIALS shows them.
pub(super) fn own(task: &CurrentTask<'_>) -> UserCredentials {
    let who = task.credentials();
    UserCredentials { pid: task.group().pid().0, uid: who.uid, gid: who.gid }
}

impl Default for Ancillary {
    fn default() -> Self {
        Self { credentials: None, rights: Rights::none() }
    }
}

/// Reads the control messages of a send (__scm_send): `EINVAL` for what is not understood, `EBADF` for a descriptor that is not
/// open, `EPERM` for credentials of somebody else, `ETOOMANYREFS` if too many descriptors are on their way.
pub(super) fn read(task: &CurrentTask<'_>, control: &[RawControl], names: &Names) -> Result<Ancillary, Errno> {
    let mut files = Vec::new();
    let mut credentials = None;
    for raw in control {
        // Other levels are for other protocols.
        if u32::try_from(raw.level) != Ok(SOL_SOCKET) {
            continue;
        }
        match u32::try_from(raw.kind) {
            Ok(SCM_RIGHTS) => read_rights(task, &raw.data, &mut files)?,
            Ok(SCM_CREDENTIALS) => credentials = Some(read_credentials(task, &raw.data)?),
            _ => return Err(Errno::EINVAL),
        }
    }
    if files.is_empty() {
        return Ok(Ancillary { credentials, rights: Rights::none() });
    }
    let in_flight = names.in_flight();
    in_flight.collect_if_many();
    let who = task.credentials();
    let is_privileged = who.has(SYS_RESOURCE) || who.has(SYS_ADMIN);
    if in_flight.total() > task.group().limits().soft(Resource::Files) && !is_privileged {
        return Err(Errno::ETOOMANYREFS);
    }
    Ok(Ancillary { credentials, rights: Rights::new(files, in_flight) })
}

fn read_rights(task: &CurrentTask<'_>, data: &[u8], rights: &mut Vec<Arc<OpenFile>>) -> Result<(), Errno> {
    if data.len() / size_of::<i32>() + rights.len() > RIGHTS_MAX {
        return Err(Errno::EINVAL);
    }
    for number in data.chunks_exact(size_of::<i32>()).filter_map(|number| i32::read_from_bytes(number).ok()) {
        rights.push(task.files().get(Fd(number))?);
    }
    Ok(())
}

fn read_credentials(task: &CurrentTask<'_>, data: &[u8]) -> Result<UserCredentials, Errno> {
    let given = UserCredentials::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
    let who = task.credentials();
    let is_self = given.pid == task.group().pid().0 || who.has(SYS_ADMIN);
    let is_user = [who.uid, who.euid, who.suid].contains(&given.uid) || who.has(SETUID);
    let is_group = [who.gid, who.egid, who.sgid].contains(&given.gid) || who.has(SETGID);
    if !(is_self && is_user && is_group) {
        return Err(Errno::EPERM);
    }
    let exists = given.pid == task.group().pid().0
        || task.kernel().tasks().get(crate::task::Pid(given.pid)).is_some_and(|task| task.tid() == task.group().pid());
    if exists { Ok(given) } else { Err(Errno::ESRCH) }
}
