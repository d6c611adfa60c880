//! Who may look at whom (__ptrace_may_access in kernel/ptrace.c).

use crate::mm::Dumpable;
use crate::task::{CurrentTask, Task};
use std::sync::Arc;

/// CAP_SYS_PTRACE
const CAP_SYS_PTRACE: u32 = 19;

/// With which ids a task asks (PTRACE_MODE_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Through a file: with the file-system ids.
    AsFile,
    /// By a call of its own: with the real ids.
    AsCall,
}

/// Tells whether `asker` may look into `task`, or trace it: it is the same process; or the same user and group in every respect, and
/// its memory may be looked at, and it may do nothing that `asker` may not; or `asker` has CAP_SYS_PTRACE.
pub(crate) fn may_access(asker: &CurrentTask<'_>, task: &Arc<Task>, look: Look) -> bool {
    if Arc::ptr_eq(asker.group(), task.group()) {
        return true;
    }
    let (ours, theirs) = (asker.credentials(), task.credentials());
    let privileged = ours.has(CAP_SYS_PTRACE);
    let (uid, gid) = match look {
        Look::AsFile => (ours.fsuid, ours.fsgid),
        Look::AsCall => (ours.uid, ours.gid),
    };
    let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|theirs| *theirs == uid);
    let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|theirs| *theirs == gid);
    let open = task.mm().is_none_or(|mm| mm.dumpable() == Dumpable::Yes);
    let available = match look {
        Look::AsFile => ours.effective,
        Look::AsCall => ours.permitted,
    };
    // cap_ptrace_access_check
    let no_stronger = theirs.permitted & !available == 0;
    privileged || (same_user && same_group && open && no_stronger)
}
