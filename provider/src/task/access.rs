//! Who may look into another task, or change it (`__ptrace_may_access`).

use super::{Credentials, CurrentTask, Task};
use crate::errno::Errno;
use crate::mm::Dumpable;

/// CAP_SYS_PTRACE
const CAP_SYS_PTRACE: u32 = 19;

impl CurrentTask<'_> {
    /// Tells whether this task may attach to another with its real ids (PTRACE_MODE_ATTACH_REALCREDS); `EPERM`.
    pub fn may_attach(&self, target: &Task) -> Result<(), Errno> {
        if target.group().pid() == self.group().pid() {
            return Ok(());
        }
        if may_attach(&self.credentials(), target) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// Tells whether somebody with these credentials may attach to a task of another process.
pub(crate) fn may_attach(ours: &Credentials, target: &Task) -> bool {
    let theirs = target.credentials();
    let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|uid| *uid == ours.uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|gid| *gid == ours.gid);
    let dumpable = target.mm().is_none_or(|mm| mm.dumpable() == Dumpable::Yes);
    let no_stronger = theirs.permitted & !ours.permitted == 0;
    same && dumpable && no_stronger || ours.has(CAP_SYS_PTRACE)
}
