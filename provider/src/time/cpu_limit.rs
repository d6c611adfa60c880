//! RLIMIT_CPU: SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one.

use super::service::{Expiry, TimerKey, TimerService};
use crate::signal::send::send_to_group;
use crate::signal::{SigInfo, Signal};
use crate::task::{CpuTimeOf, INFINITY, Limit, Resource, ThreadGroup};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Watches the CPU time of a process that has a limit.
#[derive(Debug)]
pub struct CpuLimit {
    key: TimerKey,
    group: Weak<ThreadGroup>,
}

/// The shortest time between two looks: as long as a scheduler's tick.
const TICK: Duration = Duration::from_millis(4);

impl CpuLimit {
    /// Makes the watch of a process; it begins with [`Self::check`].
    pub fn new(service: &TimerService, group: &Arc<ThreadGroup>) -> Arc<Self> {
        Arc::new(Self { key: service.new_key(), group: Arc::downgrade(group) })
    }

    /// Looks soon, since the limit has changed.
    pub fn check(self: &Arc<Self>, service: &TimerService) {
        let target: Weak<Self> = Arc::downgrade(self);
        service.set(self.key, Some(Instant::now()), target);
    }
}

impl Expiry for CpuLimit {
    fn expired(&self, now: Instant) -> Option<Instant> {
        let group = self.group.upgrade()?;
        let Limit { soft, hard } = group.limits().get(Resource::Cpu);
        if soft == INFINITY && hard == INFINITY || group.exit_status().is_some() {
            return None;
        }
        let used = group.cpu_usage().total();
        // Limits are whole seconds; none is also what a limit of 0 means (update_rlimit_cpu makes it 1).
        let reached = |limit: u64| limit != INFINITY && used >= Duration::from_secs(limit.max(1));
        if reached(hard) {
            // SIGKILL is never refused.
            let _ = send_to_group(&group, SigInfo::kernel(Signal::SIGKILL));
            return None;
        }
        if reached(soft) {
            // A standard signal is never refused.
            let _ = send_to_group(&group, SigInfo::kernel(Signal::SIGXCPU));
            // As Linux does: the next is due a second later.
            let _ = group.limits().set(Resource::Cpu, Limit { soft: soft.max(1).saturating_add(1).min(hard), hard });
        }
        let next = group.limits().get(Resource::Cpu).soft.min(hard).max(1);
        let left = Duration::from_secs(next).saturating_sub(used) / CpuTimeOf::Process(self.group.clone()).parallel();
        now.checked_add(left.max(TICK))
    }
}
