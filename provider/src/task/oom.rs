//! What happens when the sandbox's memory is used up: one process goes, the others go on (mm/oom_kill.c).

use super::{CurrentTask, Deadline, ThreadGroup, Wake};
use crate::signal::send::send_to_group;
use crate::signal::{SigInfo, Signal};
use std::sync::Arc;

/// The `oom_score_adj` of processes that are never chosen (OOM_SCORE_ADJ_MIN).
const NEVER: i32 = -1000;

impl CurrentTask<'_> {
    /// Makes room by killing the process that weighs most, and waits until it has given its memory back; whatever found none
    /// is then to be tried again. Returns whether that makes sense: `false` says that it is this process that has to go.
    ///
    /// One that is dying already is waited for before another is chosen, so that many that find no memory at once cost one life.
    pub(crate) fn make_room(&self) -> bool {
        let groups = self.kernel().families().all();
        let alive = || groups.iter().filter(|group| group.exit_status().is_none());
        let own = self.group().pid();
        let dying = alive().find(|group| group.pid() != own && group.exit_requested().is_some());
        // Of those that weigh the same the youngest.
        let chosen = dying.or_else(|| {
            let weighed = alive().filter_map(|group| Some((self.weight(group)?, group)));
            weighed.max_by_key(|(weight, group)| (*weight, group.pid())).map(|(_, group)| group)
        });
        let Some(victim) = chosen.filter(|victim| victim.pid() != own) else { return false };
        tracing::info!(pid = victim.pid().0, "out of memory: killed");
        // A zombie cannot be killed any more, and holds nothing.
        let _ = send_to_group(victim, SigInfo::kernel(Signal::SIGKILL));
        let gone = self.block_until(Deadline::Never, |waiter| {
            waiter.on_queue(victim.end_events());
            Ok(victim.exit_status().map(|_| ()))
        });
        // A signal is served first; the program then comes back to where it found no memory.
        matches!(gone, Ok(Wake::Done(()) | Wake::Interrupted))
    }

    /// Bytes that a process holds, shifted by its `oom_score_adj` in thousandths of all there is (oom_badness).
    fn weight(&self, group: &Arc<ThreadGroup>) -> Option<i64> {
        let adjustment = group.oom_adjustment();
        let mm = group.threads().iter().find_map(|thread| thread.mm()).filter(|_| adjustment != NEVER)?;
        let held = i64::try_from(mm.usage().resident).unwrap_or(i64::MAX);
        let limit = i64::try_from(mm.memory().limit()).unwrap_or(i64::MAX);
        Some(held.saturating_add(limit / 1000 * i64::from(adjustment)))
    }
}
