//! Who a task is: process, thread, user and group ids, process groups and sessions, capabilities.

use crate::errno::Errno;
use crate::fs::io::buffer;
use crate::task::{Credentials, CurrentTask, Pid, ThreadGroup};
use crate::user::{UserInOut, UserOut};
use std::sync::Arc;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CAP_SETGID
const CAP_SETGID: u32 = 6;
/// CAP_SETUID
const CAP_SETUID: u32 = 7;
/// The id that leaves one as it is.
const KEEP: u32 = u32::MAX;
/// The most supplementary groups (NGROUPS_MAX).
const GROUPS_MAX: u32 = 65536;

pub(super) fn getpid(task: &CurrentTask<'_>) -> Result<Pid, Errno> {
    Ok(task.group().pid())
}

pub(super) fn gettid(task: &CurrentTask<'_>) -> Result<Pid, Errno> {
    Ok(task.tid())
}

pub(super) fn getppid(task: &CurrentTask<'_>) -> Result<Pid, Errno> {
    Ok(task.group().parent())
}

pub(super) fn getuid(task: &CurrentTask<'_>) -> Result<u32, Errno> {
    Ok(task.credentials().uid)
}

pub(super) fn getgid(task: &CurrentTask<'_>) -> Result<u32, Errno> {
    Ok(task.credentials().gid)
}

pub(super) fn geteuid(task: &CurrentTask<'_>) -> Result<u32, Errno> {
    Ok(task.credentials().euid)
}

pub(super) fn getegid(task: &CurrentTask<'_>) -> Result<u32, Errno> {
    Ok(task.credentials().egid)
}

pub(super) fn getresuid(
    task: &CurrentTask<'_>,
    real: UserOut<u32>,
    effective: UserOut<u32>,
    saved: UserOut<u32>,
) -> Result<(), Errno> {
    let ids = task.credentials();
    real.write(task, &ids.uid)?;
    effective.write(task, &ids.euid)?;
    saved.write(task, &ids.suid)
}

pub(super) fn getresgid(
    task: &CurrentTask<'_>,
    real: UserOut<u32>,
    effective: UserOut<u32>,
    saved: UserOut<u32>,
) -> Result<(), Errno> {
    let ids = task.credentials();
    real.write(task, &ids.gid)?;
    effective.write(task, &ids.egid)?;
    saved.write(task, &ids.sgid)
}

/// An id that must not be −1 (`make_kuid` fails for it).
fn valid(id: u32) -> Result<u32, Errno> {
    if id == KEEP { Err(Errno::EINVAL) } else { Ok(id) }
}

pub(super) fn setuid(task: &CurrentTask<'_>, uid: u32) -> Result<(), Errno> {
    let uid = valid(uid)?;
    let mut new = Credentials::clone(&task.credentials());
    if new.has(CAP_SETUID) {
        (new.uid, new.suid) = (uid, uid);
    } else if uid != new.uid && uid != new.suid {
        return Err(Errno::EPERM);
    }
    (new.euid, new.fsuid) = (uid, uid);
    set_user_ids(task, new);
    Ok(())
}

pub(super) fn setgid(task: &CurrentTask<'_>, gid: u32) -> Result<(), Errno> {
    let gid = valid(gid)?;
    let mut new = Credentials::clone(&task.credentials());
    if new.has(CAP_SETGID) {
        (new.gid, new.sgid) = (gid, gid);
    } else if gid != new.gid && gid != new.sgid {
        return Err(Errno::EPERM);
    }
    (new.egid, new.fsgid) = (gid, gid);
    task.set_credentials(new);
    Ok(())
}

pub(super) fn setreuid(task: &CurrentTask<'_>, real: u32, effective: u32) -> Result<(), Errno> {
    let old = task.credentials();
    let mut new = Credentials::clone(&old);
    let privileged = old.has(CAP_SETUID);
    if real != KEEP {
        if ![old.uid, old.euid].contains(&real) && !privileged {
            return Err(Errno::EPERM);
        }
        new.uid = real;
    }
    if effective != KEEP {
        if ![old.uid, old.euid, old.suid].contains(&effective) && !privileged {
            return Err(Errno::EPERM);
        }
        new.euid = effective;
    }
    if real != KEEP || (effective != KEEP && effective != old.uid) {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    set_user_ids(task, new);
    Ok(())
}

pub(super) fn setregid(task: &CurrentTask<'_>, real: u32, effective: u32) -> Result<(), Errno> {
    let old = task.credentials();
    let mut new = Credentials::clone(&old);
    let privileged = old.has(CAP_SETGID);
    if real != KEEP {
        if ![old.gid, old.egid].contains(&real) && !privileged {
            return Err(Errno::EPERM);
        }
        new.gid = real;
    }
    if effective != KEEP {
        if ![old.gid, old.egid, old.sgid].contains(&effective) && !privileged {
            return Err(Errno::EPERM);
        }
        new.egid = effective;
    }
    if real != KEEP || (effective != KEEP && effective != old.gid) {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    task.set_credentials(new);
    Ok(())
}

pub(super) fn setresuid(task: &CurrentTask<'_>, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    let old = task.credentials();
    let mut new = Credentials::clone(&old);
    let allowed = [KEEP, old.uid, old.euid, old.suid];
    if !old.has(CAP_SETUID) && [real, effective, saved].iter().any(|id| !allowed.contains(id)) {
        return Err(Errno::EPERM);
    }
    replace(&mut new.uid, real);
    replace(&mut new.euid, effective);
    replace(&mut new.suid, saved);
    new.fsuid = new.euid;
    set_user_ids(task, new);
    Ok(())
}

pub(super) fn setresgid(task: &CurrentTask<'_>, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    let old = task.credentials();
    let mut new = Credentials::clone(&old);
    let allowed = [KEEP, old.gid, old.egid, old.sgid];
    if !old.has(CAP_SETGID) && [real, effective, saved].iter().any(|id| !allowed.contains(id)) {
        return Err(Errno::EPERM);
    }
    replace(&mut new.gid, real);
    replace(&mut new.egid, effective);
    replace(&mut new.sgid, saved);
    new.fsgid = new.egid;
    task.set_credentials(new);
    Ok(())
}

fn replace(id: &mut u32, new: u32) {
    if new != KEEP {
        *id = new;
    }
}

/// Returns the old id, whether it changes or not; there is no error.
pub(super) fn setfsuid(task: &CurrentTask<'_>, uid: u32) -> Result<u32, Errno> {
    let old = task.credentials();
    if uid != KEEP && ([old.uid, old.euid, old.suid, old.fsuid].contains(&uid) || old.has(CAP_SETUID)) {
        let mut new = Credentials { fsuid: uid, ..Credentials::clone(&old) };
        new.adjust_to_file_user_id(&old);
        task.set_credentials(new);
    }
    Ok(old.fsuid)
}

/// Returns the old id, whether it changes or not; there is no error.
pub(super) fn setfsgid(task: &CurrentTask<'_>, gid: u32) -> Result<u32, Errno> {
    let old = task.credentials();
    if gid != KEEP && ([old.gid, old.egid, old.sgid, old.fsgid].contains(&gid) || old.has(CAP_SETGID)) {
        task.set_credentials(Credentials { fsgid: gid, ..Credentials::clone(&old) });
    }
    Ok(old.fsgid)
}

/// Sets changed user ids with what that does to capabilities.
fn set_user_ids(task: &CurrentTask<'_>, mut new: Credentials) {
    new.adjust_to_user_ids(&task.credentials());
    task.set_credentials(new);
}

pub(super) fn getgroups(task: &CurrentTask<'_>, size: i32, list: UserAddr) -> Result<usize, Errno> {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let credentials = task.credentials();
    let count = credentials.groups.len();
    if size != 0 {
        if count > size {
            return Err(Errno::EINVAL);
        }
        task.mm().write(list, credentials.groups.as_bytes())?;
    }
    Ok(count)
}

pub(super) fn setgroups(task: &CurrentTask<'_>, size: u32, list: UserAddr) -> Result<(), Errno> {
    let old = task.credentials();
    if !old.has(CAP_SETGID) {
        return Err(Errno::EPERM);
    }
    if size > GROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut groups: Vec<u32> = buffer(usize::try_from(size).map_err(|_| Errno::EINVAL)?)?;
    task.mm().read(list, groups.as_mut_bytes())?;
    if groups.contains(&KEEP) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    task.set_credentials(Credentials { groups, ..Credentials::clone(&old) });
    Ok(())
}

/// Finds a process by its id; 0 is the caller's.
fn process(task: &CurrentTask<'_>, pid: Pid) -> Result<Arc<ThreadGroup>, Errno> {
    if pid.0 == 0 {
        return Ok(task.group().clone());
    }
    task.kernel().tasks().get(pid).map(|found| found.group().clone()).ok_or(Errno::ESRCH)
}

pub(super) fn getpgid(task: &CurrentTask<'_>, pid: Pid) -> Result<Pid, Errno> {
    Ok(process(task, pid)?.process_group())
}

pub(super) fn getpgrp(task: &CurrentTask<'_>) -> Result<Pid, Errno> {
    Ok(task.group().process_group())
}

pub(super) fn getsid(task: &CurrentTask<'_>, pid: Pid) -> Result<Pid, Errno> {
    Ok(process(task, pid)?.session())
}

pub(super) fn setpgid(task: &CurrentTask<'_>, pid: Pid, group: Pid) -> Result<(), Errno> {
    task.set_process_group(pid, group)
}

pub(super) fn setsid(task: &CurrentTask<'_>) -> Result<Pid, Errno> {
    task.start_session()
}

/// `struct __user_cap_header_struct`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: one for each 32 capabilities.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_1: 32 capabilities.
const VERSION_1: u32 = 0x1998_0330;
/// _LINUX_CAPABILITY_VERSION_2 and 3: 64 capabilities.
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// How many data structures a header's version has; an unknown version is answered with the newest.
fn cap_words(task: &CurrentTask<'_>, at: UserInOut<CapHeader>) -> Result<(CapHeader, Option<usize>), Errno> {
    let header = at.read(task)?;
    let words = match header.version {
        VERSION_1 => Some(1),
        VERSION_2 | VERSION_3 => Some(2),
        _ => {
            at.write(task, &CapHeader { version: VERSION_3, ..header })?;
            None
        }
    };
    Ok((header, words))
}

pub(super) fn capget(task: &CurrentTask<'_>, header: UserInOut<CapHeader>, data: UserAddr) -> Result<(), Errno> {
    let (header, words) = cap_words(task, header)?;
    let Some(words) = words else {
        // Asking for the version alone is no error.
        return if data.0 == 0 { Ok(()) } else { Err(Errno::EINVAL) };
    };
    if data.0 == 0 {
        return Ok(());
    }
    if header.pid < 0 {
        return Err(Errno::EINVAL);
    }
    let credentials = match header.pid {
        0 => task.credentials(),
        pid => task.kernel().tasks().get(Pid(pid)).ok_or(Errno::ESRCH)?.credentials(),
    };
    let halves = |set: u64| [low_half(set), low_half(set >> 32)];
    let (effective, permitted, inheritable) =
        (halves(credentials.effective), halves(credentials.permitted), halves(credentials.inheritable));
    let all: [CapData; 2] = std::array::from_fn(|word| CapData {
        effective: effective[word],
        permitted: permitted[word],
        inheritable: inheritable[word],
    });
    task.mm().write(data, all[..words].as_bytes())
}

pub(super) fn capset(task: &CurrentTask<'_>, header: UserInOut<CapHeader>, data: UserAddr) -> Result<(), Errno> {
    let (header, words) = cap_words(task, header)?;
    let words = words.ok_or(Errno::EINVAL)?;
    if header.pid != 0 && header.pid != task.tid().0 {
        return Err(Errno::EPERM);
    }
    let mut all = [CapData::default(); 2];
    task.mm().read(data, all[..words].as_mut_bytes())?;
    let join = |half: fn(&CapData) -> u32| {
        (u64::from(half(&all[0])) | u64::from(half(&all[1])) << 32) & Credentials::ALL_CAPABILITIES
    };
    let (effective, permitted, inheritable) =
        (join(|data| data.effective), join(|data| data.permitted), join(|data| data.inheritable));
    let old = task.credentials();
    // cap_capset: nothing is gained that was not permitted, and what is in effect is permitted.
    let may_inherit = old.inheritable | old.permitted;
    let subset = |set: u64, of: u64| set & !of == 0;
    let allowed = (old.has(CAP_SETPCAP) || subset(inheritable, may_inherit))
        && subset(inheritable, old.inheritable | old.bounding)
        && subset(permitted, old.permitted)
        && subset(effective, permitted);
    if !allowed {
        return Err(Errno::EPERM);
    }
    let ambient = old.ambient & permitted & inheritable;
    task.set_credentials(Credentials { effective, permitted, inheritable, ambient, ..Credentials::clone(&old) });
    Ok(())
}

/// CAP_SETPCAP
const CAP_SETPCAP: u32 = 8;

#[expect(clippy::cast_possible_truncation, reason = "the caller takes the halves apart")]
fn low_half(set: u64) -> u32 {
    set as u32
}
