//! Who owns an object and may use it.

use super::Key;
use crate::errno::Errno;
use crate::task::{Credentials, CurrentTask};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CAP_IPC_OWNER
const CAP_IPC_OWNER: u32 = 15;
/// CAP_SYS_ADMIN
const CAP_SYS_ADMIN: u32 = 21;

/// Owner, creator and mode of an object.
#[derive(Clone, Copy, Debug)]
pub struct Permissions {
    /// The key that it was made with.
    pub key: Key,
    /// The owner's user id.
    pub uid: u32,
    /// The owner's group id.
    pub gid: u32,
    /// The creator's user id.
    pub creator_uid: u32,
    /// The creator's group id.
    pub creator_gid: u32,
    /// Nine bits as a file has them; execution means nothing.
    pub mode: u32,
    /// Counts how often the number's slot was used.
    pub sequence: u16,
}

/// `struct ipc64_perm`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawPermissions {
    key: i32,
    uid: u32,
    gid: u32,
    creator_uid: u32,
    creator_gid: u32,
    mode: u32,
    sequence: u16,
    padding: [u16; 3],
    unused: [u64; 2],
}

/// What IPC_SET may change of an object's permissions.
#[derive(Clone, Copy, Debug)]
pub struct Changes {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl RawPermissions {
    /// What IPC_SET takes from the structure.
    pub fn changes(&self) -> Changes {
        Changes { uid: self.uid, gid: self.gid, mode: self.mode }
    }
}

/// The bits of a mode that are permissions.
const MODE: u32 = 0o777;

impl Permissions {
    /// The permissions of an object that the task makes.
    pub(super) fn new(task: &CurrentTask<'_>, key: Key, mode: u32) -> Self {
        let credentials = task.credentials();
        let (uid, gid) = (credentials.euid, credentials.egid);
        Self { key, uid, gid, creator_uid: uid, creator_gid: gid, mode: mode & MODE, sequence: 0 }
    }

    /// Checks that the task may do what `wanted` says, permission bits in any of the three places; `EACCES` (ipcperms).
    pub fn check(&self, task: &CurrentTask<'_>, wanted: u32) -> Result<(), Errno> {
        let credentials = task.credentials();
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
        let granted = if [self.uid, self.creator_uid].contains(&credentials.euid) {
            self.mode >> 6
        } else if in_group(&credentials, self.gid) || in_group(&credentials, self.creator_gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted == 0 || credentials.has(CAP_IPC_OWNER) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Checks that the task may change or remove the object; `EPERM`.
    pub fn check_owner(&self, task: &CurrentTask<'_>) -> Result<(), Errno> {
        let credentials = task.credentials();
        let owns = [self.uid, self.creator_uid].contains(&credentials.euid);
        if owns || credentials.has(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Does what IPC_SET asks (ipc_update_perm); `EINVAL` for an id that is none.
    pub fn change(&mut self, changes: Changes) -> Result<(), Errno> {
        let Changes { uid, gid, mode } = changes;
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::EINVAL);
        }
        (self.uid, self.gid) = (uid, gid);
        self.mode = self.mode & !MODE | mode & MODE;
        Ok(())
    }

    /// As IPC_STAT tells them; `flags` are mode bits of the kind of object.
    pub fn raw(&self, flags: u32) -> RawPermissions {
        RawPermissions {
            key: self.key.0,
            uid: self.uid,
            gid: self.gid,
            creator_uid: self.creator_uid,
            creator_gid: self.creator_gid,
            mode: self.mode | flags,
            sequence: self.sequence,
            ..RawPermissions::default()
        }
    }
}

fn in_group(credentials: &Credentials, gid: u32) -> bool {
    credentials.egid == gid || credentials.groups.contains(&gid)
}
