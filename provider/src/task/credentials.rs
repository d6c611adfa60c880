//! Credentials, see credentials(7).

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
}

impl Credentials {
    /// Every capability of this Linux version: CAP_LAST_CAP is 40, CAP_CHECKPOINT_RESTORE.
    pub const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

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
        }
    }

    /// Tells whether capability number `capability` is in effect.
    pub fn has(&self, capability: u32) -> bool {
        self.effective.checked_shr(capability).unwrap_or(0) & 1 == 1
    }
}
