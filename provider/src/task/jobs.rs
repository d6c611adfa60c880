//! Process groups and sessions (`kernel/sys.c`), see credentials(7).

use super::{CurrentTask, Families, Pid, ThreadGroup};
use crate::errno::Errno;
use std::collections::BTreeSet;
use std::sync::Arc;

impl CurrentTask<'_> {
    /// Moves this process or a child of it to a process group (setpgid). 0 stands for this process, and for the process itself.
    ///
    /// # Errors
    /// In Linux's order: `EINVAL` (no such group number; a thread's), `ESRCH`, `EPERM` (another session), `EACCES` (a child that has
    /// called exec), `EPERM` (a session's leader; no such group in the session).
    pub fn set_process_group(&self, pid: Pid, process_group: Pid) -> Result<(), Errno> {
        let own = self.group();
        let pid = if pid.0 == 0 { own.pid() } else { pid };
        let process_group = if process_group.0 == 0 { pid } else { process_group };
        if process_group.0 < 0 {
            return Err(Errno::EINVAL);
        }
        let found = self.kernel().tasks().get(pid).ok_or(Errno::ESRCH)?;
        let target = found.group();
        if target.pid() != pid {
            return Err(Errno::EINVAL);
        }
        // Nobody joins or leaves a group meanwhile.
        let tree = self.kernel().families().lock();
        if target.parent() == own.pid() {
            if target.session() != own.session() {
                return Err(Errno::EPERM);
            }
            if target.has_executed() {
                return Err(Errno::EACCES);
            }
        } else if target.pid() != own.pid() {
            return Err(Errno::ESRCH);
        }
        let leads_session = target.session() == target.pid();
        let exists =
            |member: &Arc<ThreadGroup>| member.process_group() == process_group && member.session() == own.session();
        if leads_session || process_group != pid && !tree.groups().any(exists) {
            return Err(Errno::EPERM);
        }
        target.set_process_group(process_group);
        Ok(())
    }

    /// Makes this process the leader of a new session and of a new process group (setsid); `EPERM` if it leads a group already.
    pub fn start_session(&self) -> Result<Pid, Errno> {
        let own = self.group();
        let tree = self.kernel().families().lock();
        if tree.groups().any(|member| member.process_group() == own.pid()) {
            return Err(Errno::EPERM);
        }
        own.start_session();
        Ok(own.pid())
    }
}

impl Families {
    /// The numbers of process groups and sessions, whose leaders may have ended: no new task may have one.
    pub(super) fn jobs(&self) -> BTreeSet<Pid> {
        self.lock().groups().flat_map(|member| [member.process_group(), member.session()]).collect()
    }
}
