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
