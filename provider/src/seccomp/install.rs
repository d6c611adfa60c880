//! Putting tasks under rules.

use super::check::Instruction;
use super::{Filter, Seccomp};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Pid, Task, Work};

/// Held while rules change or are inherited, so that a filter for all threads misses none that is being made.
static CHANGES: Mutex<()> = Mutex::new(Rank::Seccomp, ());

bitflags::bitflags! {
    /// SECCOMP_FILTER_FLAG_*
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FilterFlags: u32 {
        /// All threads of the process get the caller's filters.
        const TSYNC = 1;
        /// Refusals are logged.
        const LOG = 2;
        /// Speculation is not restricted. Nor is it without.
        const SPEC_ALLOW = 4;
        /// A descriptor for a supervisor is wanted.
        const NEW_LISTENER = 8;
        /// A failed TSYNC is ESRCH, not a thread's id.
        const TSYNC_ESRCH = 16;
        /// A caller that waits for the supervisor is woken by fatal signals only.
        const WAIT_KILLABLE_RECV = 32;
    }
}

impl Task {
    /// Puts the task under other rules.
    fn set_seccomp(&self, seccomp: Seccomp) {
        *self.seccomp_slot().lock() = seccomp;
        self.add_work(Work::SECCOMP);
    }

    /// Gives a new task its maker's rules (copy_seccomp): after it has joined its process, and before it runs.
    pub(crate) fn inherit_seccomp(&self, maker: &Self) {
        let _changes = CHANGES.lock();
        let rules = maker.seccomp();
        if rules.mode() != 0 {
            self.set_seccomp(rules);
        }
    }

    /// The rules it is under.
    pub fn seccomp(&self) -> Seccomp {
        self.seccomp_slot().lock().clone()
    }
}

/// Puts the task under strict mode; `EINVAL` if it has filters.
pub(crate) fn install_strict(task: &CurrentTask<'_>) -> Result<(), Errno> {
    let _changes = CHANGES.lock();
    match task.seccomp() {
        Seccomp::Filter(_) => Err(Errno::EINVAL),
        Seccomp::Disabled | Seccomp::Strict => {
            task.set_seccomp(Seccomp::Strict);
            Ok(())
        }
    }
}

/// Puts another filter on top of the task's; with TSYNC on all threads'. `Some`: a thread has gone its own way, nothing changed.
///
/// # Errors
/// Those of [`Filter::stack`]; `EINVAL` in strict mode.
pub(crate) fn install(
    task: &CurrentTask<'_>,
    instructions: &[Instruction],
    flags: FilterFlags,
) -> Result<Option<Pid>, Errno> {
    // Checked before anything is locked: programs may be long.
    let program = super::check::check(instructions)?;
    let _changes = CHANGES.lock();
    let old = match task.seccomp() {
        Seccomp::Disabled => None,
        Seccomp::Strict => return Err(Errno::EINVAL),
        Seccomp::Filter(filter) => Some(filter),
    };
    let others: Vec<_> = match flags.contains(FilterFlags::TSYNC) {
        true => task.group().threads().into_iter().filter(|thread| thread.tid() != task.tid()).collect(),
        false => Vec::new(),
    };
    let follows = |thread: &Task| match (thread.seccomp(), &old) {
        (Seccomp::Disabled, _) => true,
        (Seccomp::Filter(theirs), Some(ours)) => ours.stands_on(&theirs),
        _ => false,
    };
    let filter = Filter::stack(program, flags.contains(FilterFlags::LOG), old.clone())?;
    if let Some(stray) = others.iter().find(|thread| !follows(thread)) {
        return Ok(Some(stray.tid()));
    }
    let no_new_privileges = task.attributes().no_new_privileges;
    for thread in &others {
        if no_new_privileges {
            thread.with_attributes(|attributes| attributes.no_new_privileges = true);
        }
        thread.set_seccomp(Seccomp::Filter(filter.clone()));
    }
    task.set_seccomp(Seccomp::Filter(filter));
    Ok(None)
}
