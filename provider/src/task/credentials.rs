//! Credentials, see credentials(7) and capabilities(7).

use super::{CurrentTask, Task};
use crate::mm::Dumpable;
use std::sync::Arc;

bitflags::bitflags! {
    /// The SECBIT_* flags of capabilities(7); each has a lock one bit above it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SecureBits: u32 {
        /// User id 0 gains nothing by exec.
        const NOROOT = 1 << 0;
        /// Locks [`Self::NOROOT`].
        const NOROOT_LOCKED = 1 << 1;
        /// Changes of user ids leave capabilities alone.
        const NO_SETUID_FIXUP = 1 << 2;
        /// Locks [`Self::NO_SETUID_FIXUP`].
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// Permitted capabilities outlive the change from user id 0, until the next exec.
        const KEEP_CAPS = 1 << 4;
        /// Locks [`Self::KEEP_CAPS`].
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// No ambient capability may be raised.
        const NO_CAP_AMBIENT_RAISE = 1 << 6;
        /// Locks [`Self::NO_CAP_AMBIENT_RAISE`].
        const NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7;
        /// All locks.
        const LOCKS = 0xaa;
    }
}

/// Who a task is. Immutable: a change makes a new one.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "credentials(7) and capabilities(7) describe them")]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub secure_bits: SecureBits,
}

impl Credentials {
    /// Every capability of this Linux version: CAP_LAST_CAP is 40, CAP_CHECKPOINT_RESTORE.
    pub const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

    /// The capabilities that go with the file-system user id (CAP_FS_SET): CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER,
    /// FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE.
    const FILE_CAPABILITIES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;

    /// The credentials of a fresh login of this user: root has all capabilities, others none.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        let capabilities = if uid == 0 { Self::ALL_CAPABILITIES } else { 0 };
        Self {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups,
            effective: capabilities,
            permitted: capabilities,
            inheritable: 0,
            bounding: Self::ALL_CAPABILITIES,
            ambient: 0,
            secure_bits: SecureBits::empty(),
        }
    }

    /// Tells whether capability number `capability` is in effect.
    pub fn has(&self, capability: u32) -> bool {
        self.effective.checked_shr(capability).unwrap_or(0) & 1 == 1
    }

    /// What changed user ids do to capabilities (cap_emulate_setxuid): `self` has the new ids and the old capabilities.
    pub(crate) fn adjust_to_user_ids(&mut self, old: &Self) {
        if self.secure_bits.contains(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        let is_root = |ids: &Self| [ids.uid, ids.euid, ids.suid].contains(&0);
        if is_root(old) && !is_root(self) {
            if !self.secure_bits.contains(SecureBits::KEEP_CAPS) {
                (self.permitted, self.effective) = (0, 0);
            }
            self.ambient = 0;
        }
        if old.euid == 0 && self.euid != 0 {
            self.effective = 0;
        }
        if old.euid != 0 && self.euid == 0 {
            self.effective = self.permitted;
        }
    }

    /// What a changed file-system user id does to capabilities (cap_task_fix_setuid for LSM_SETID_FS).
    pub(crate) fn adjust_to_file_user_id(&mut self, old: &Self) {
        if self.secure_bits.contains(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        if old.fsuid == 0 && self.fsuid != 0 {
            self.effective &= !Self::FILE_CAPABILITIES;
        }
        if old.fsuid != 0 && self.fsuid == 0 {
            self.effective |= self.permitted & Self::FILE_CAPABILITIES;
        }
    }

    /// What they are after an exec (cap_bprm_creds_from_file). Set-user-id bits and file capabilities do not count.
    pub(crate) fn after_exec(&self, no_new_privileges: bool) -> Self {
        let mut new = self.clone();
        let has_root = !self.secure_bits.contains(SecureBits::NOROOT);
        let root = has_root && (self.uid == 0 || self.euid == 0);
        new.permitted = if root { self.bounding | self.inheritable } else { 0 };
        let effective = has_root && self.euid == 0;
        let changes_user = self.euid != self.uid || self.egid != self.gid;
        if (changes_user || new.permitted & !self.permitted != 0) && no_new_privileges {
            (new.euid, new.egid) = (self.uid, self.gid);
            new.permitted &= self.permitted;
        }
        (new.suid, new.fsuid) = (new.euid, new.euid);
        (new.sgid, new.fsgid) = (new.egid, new.egid);
        if changes_user {
            new.ambient = 0;
        }
        new.permitted |= new.ambient;
        new.effective = if effective { new.permitted } else { new.ambient };
        new.secure_bits.remove(SecureBits::KEEP_CAPS);
        new
    }

    /// Tells whether a program that starts with these must not trust its environment (AT_SECURE).
    pub(crate) fn is_secure_exec(&self) -> bool {
        let root = self.uid == 0 && !self.secure_bits.contains(SecureBits::NOROOT);
        let gained = self.permitted & !self.ambient != 0;
        self.euid != self.uid || self.egid != self.gid || (!root && (self.euid == 0 || gained))
    }

    /// Tells whether a task that had `old` is somebody else now, or may do more (commit_creds): then nobody may look at its memory.
    fn outgrows(&self, old: &Self) -> bool {
        let ids = |who: &Self| (who.euid, who.egid, who.fsuid, who.fsgid);
        ids(old) != ids(self) || self.permitted & !old.permitted != 0
    }

    /// Whether memory of a program may be looked at that starts with these where `old` were before.
    pub(crate) fn dumpable_after_exec(&self, old: &Self) -> Dumpable {
        let is_itself = self.euid == self.uid && self.egid == self.gid;
        if is_itself && !self.outgrows(old) { Dumpable::Yes } else { Dumpable::No }
    }
}

impl Task {
    /// Its credentials.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.shared.lock().credentials.clone()
    }
}

impl CurrentTask<'_> {
    /// Changes its credentials (commit_creds). Memory of a task that has become somebody else, or may more, is nobody's to look
    /// at, and it no longer hears of its parent's end.
    pub fn set_credentials(&self, new: Credentials) {
        let new = Arc::new(new);
        let old = self.replace_credentials(&new);
        if new.outgrows(&old) {
            if let Some(mm) = self.task().mm() {
                mm.set_dumpable(Dumpable::No);
            }
            self.with_attributes(|attributes| attributes.parent_death_signal = 0);
        }
    }

    /// Changes its credentials as the last step of an exec, whose memory says itself who may look at it.
    pub(crate) fn set_credentials_for_exec(&self, new: Credentials) {
        self.replace_credentials(&Arc::new(new));
    }

    fn replace_credentials(&self, new: &Arc<Credentials>) -> Arc<Credentials> {
        let mut shared = self.task().shared.lock();
        self.answer_ids(new);
        std::mem::replace(&mut shared.credentials, new.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETUID: u64 = 1 << 7;

    #[test]
    fn root_gets_the_bounding_set_by_exec_unless_told_not_to() {
        let mut root = Credentials::new(0, 0, vec![]);
        (root.permitted, root.effective, root.bounding) = (0, 0, SETUID | 1);
        let after = root.after_exec(false);
        assert_eq!((after.permitted, after.effective), (SETUID | 1, SETUID | 1));
        let after = root.after_exec(true);
        assert_eq!((after.permitted, after.effective), (0, 0));
        root.secure_bits = SecureBits::NOROOT | SecureBits::KEEP_CAPS;
        let after = root.after_exec(false);
        assert_eq!((after.permitted, after.effective, after.secure_bits), (0, 0, SecureBits::NOROOT));
    }

    #[test]
    fn others_keep_ambient_capabilities_by_exec() {
        let mut user = Credentials::new(5, 5, vec![]);
        (user.permitted, user.effective, user.inheritable, user.ambient) = (SETUID | 1, SETUID | 1, SETUID, SETUID);
        let after = user.after_exec(false);
        assert_eq!((after.permitted, after.effective, after.inheritable), (SETUID, SETUID, SETUID));
        assert!(!after.is_secure_exec());
    }

    #[test]
    fn saved_ids_follow_the_effective_ones_by_exec() {
        let mut user = Credentials::new(5, 5, vec![]);
        (user.euid, user.suid) = (6, 7);
        let after = user.after_exec(false);
        assert_eq!((after.uid, after.euid, after.suid, after.fsuid), (5, 6, 6, 6));
        assert!(after.is_secure_exec());
        assert_eq!(user.after_exec(true).euid, 5);
    }

    #[test]
    fn leaving_root_loses_capabilities_unless_they_are_kept() {
        let root = Credentials::new(0, 0, vec![]);
        let mut new = Credentials { uid: 5, euid: 5, suid: 5, ..root.clone() };
        new.adjust_to_user_ids(&root);
        assert_eq!((new.permitted, new.effective), (0, 0));
        let keeping = Credentials { secure_bits: SecureBits::KEEP_CAPS, ..root.clone() };
        let mut new = Credentials { uid: 5, euid: 5, suid: 5, ..keeping.clone() };
        new.adjust_to_user_ids(&keeping);
        assert_eq!((new.permitted, new.effective), (Credentials::ALL_CAPABILITIES, 0));
        let mut new = Credentials { fsuid: 5, ..root.clone() };
        new.adjust_to_file_user_id(&root);
        assert!(!new.has(1) && new.has(7));
    }
}
