//! What a thread asks of the scheduler, see sched(7).
//!
//! It is checked, kept, inherited and told as Linux does, and that is all: the host schedules the threads of a sandbox alike.

use super::{CurrentTask, Resource, Task};
use crate::errno::Errno;

/// A scheduling policy, in Linux's numbering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "sched(7) describes them")]
pub enum Policy {
    #[default]
    Other,
    Fifo,
    RoundRobin,
    Batch,
    Idle,
    Deadline,
}

impl Policy {
    /// Finds a policy by Linux's number.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Other,
            1 => Self::Fifo,
            2 => Self::RoundRobin,
            3 => Self::Batch,
            5 => Self::Idle,
            6 => Self::Deadline,
            _ => return None,
        })
    }

    /// Linux's number.
    pub fn raw(self) -> u32 {
        match self {
            Self::Other => 0,
            Self::Fifo => 1,
            Self::RoundRobin => 2,
            Self::Batch => 3,
            Self::Idle => 5,
            Self::Deadline => 6,
        }
    }

    /// SCHED_FIFO and SCHED_RR, which have a priority of 1 to 99.
    pub fn is_real_time(self) -> bool {
        matches!(self, Self::Fifo | Self::RoundRobin)
    }

    /// SCHED_OTHER and SCHED_BATCH, for which the nice value counts.
    pub fn is_fair(self) -> bool {
        matches!(self, Self::Other | Self::Batch)
    }
}

/// The parameters of SCHED_DEADLINE, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// CPU time in each period.
    pub runtime: u64,
    /// By when it is had.
    pub deadline: u64,
    /// The period.
    pub period: u64,
}

impl Reservation {
    /// Checks what can be kept (__checkparam_dl): the three are in order, long enough to be measured, and neither a
    /// century nor a moment.
    fn is_sound(self) -> bool {
        const LEAST_RUNTIME: u64 = 1 << 10;
        const LEAST_PERIOD: u64 = 100_000;
        const LONGEST_PERIOD: u64 = (1 << 22) * 1_000;
        let period = if self.period == 0 { self.deadline } else { self.period };
        self.deadline != 0
            && self.runtime >= LEAST_RUNTIME
            && self.deadline >> 63 == 0
            && self.period >> 63 == 0
            && self.runtime <= self.deadline
            && self.deadline <= period
            && (LEAST_PERIOD..=LONGEST_PERIOD).contains(&period)
    }
}

/// How a thread is to be scheduled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// The policy.
    pub policy: Policy,
    /// Children get the ordinary policy (SCHED_RESET_ON_FORK).
    pub reset_on_fork: bool,
    /// The nice value: −20 to 19.
    pub nice: i32,
    /// The real-time priority: 1 to 99, or 0 for other policies.
    pub priority: u32,
    /// For SCHED_DEADLINE.
    pub reservation: Reservation,
    /// What ioprio_set has set; 0: by the nice value.
    pub io_priority: u16,
}

impl Scheduling {
    /// What a child or a new thread starts with (sched_fork).
    #[must_use]
    pub fn for_child(mut self) -> Self {
        if self.reset_on_fork {
            if !self.policy.is_fair() && self.policy != Policy::Idle {
                (self.policy, self.priority, self.nice) = (Policy::Other, 0, 0);
            }
            (self.nice, self.reset_on_fork) = (self.nice.max(0), false);
        }
        self
    }
}

/// CAP_SYS_NICE
const CAP_SYS_NICE: u32 = 23;

impl CurrentTask<'_> {
    /// Tells whether a nice value may be given to a task: not lower than it is, within RLIMIT_NICE, or with CAP_SYS_NICE.
    pub(crate) fn may_renice(&self, task: &Task, nice: i32) -> bool {
        let room = u64::try_from(20 - nice).unwrap_or(0);
        nice >= task.nice()
            || room <= task.group().limits().soft(Resource::Nice)
            || self.credentials().has(CAP_SYS_NICE)
    }

    /// Checks that this task may decide about another's scheduling: it has its user id (check_same_owner), or CAP_SYS_NICE.
    pub(crate) fn may_schedule(&self, task: &Task) -> Result<(), Errno> {
        let (own, other) = (self.credentials(), task.credentials());
        let same = own.euid == other.euid || own.euid == other.uid;
        if same || own.has(CAP_SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Changes how a task is scheduled (__sched_setscheduler). `EINVAL` for parameters that do not fit the policy, `EPERM`,
    /// `EBUSY` for a reservation of more CPU time than there is.
    pub(crate) fn schedule(&self, task: &Task, new: Scheduling) -> Result<(), Errno> {
        let policy = new.policy;
        let fits = match policy {
            Policy::Deadline => new.reservation.is_sound() && new.priority == 0,
            _ => new.priority <= 99 && policy.is_real_time() == (new.priority != 0),
        };
        if !fits {
            return Err(Errno::EINVAL);
        }
        let old = task.scheduling();
        if self.needs_privilege(task, &old, &new) && !self.credentials().has(CAP_SYS_NICE) {
            return Err(Errno::EPERM);
        }
        if policy == Policy::Deadline && !self.fits_the_cpus(new.reservation) {
            return Err(Errno::EBUSY);
        }
        task.set_scheduling(new);
        Ok(())
    }

    /// The default limit is 95 % of all CPUs (sched_rt_runtime_us). What others have reserved is not counted.
    fn fits_the_cpus(&self, wanted: Reservation) -> bool {
        let period = if wanted.period == 0 { wanted.deadline } else { wanted.period };
        let cpus = u128::try_from(self.kernel().cpus().count()).unwrap_or(1);
        u128::from(wanted.runtime) * 100 <= u128::from(period) * cpus * 95
    }

    /// user_check_sched_setscheduler
    fn needs_privilege(&self, task: &Task, old: &Scheduling, new: &Scheduling) -> bool {
        let limits = task.group().limits();
        let real_time_limit = limits.soft(Resource::RealTimePriority);
        let by_policy = match new.policy {
            policy if policy.is_fair() => new.nice < old.nice && !self.may_renice(task, new.nice),
            policy if policy.is_real_time() => {
                (policy != old.policy && real_time_limit == 0)
                    || (new.priority > old.priority && u64::from(new.priority) > real_time_limit)
            }
            Policy::Deadline => true,
            _ => false,
        };
        by_policy
            || (old.policy == Policy::Idle
                && new.policy != Policy::Idle
                && u64::try_from(20 - old.nice).unwrap_or(0) > limits.soft(Resource::Nice))
            || self.may_schedule(task).is_err()
            || (old.reset_on_fork && !new.reset_on_fork)
    }
}

impl Task {
    /// How it is to be scheduled.
    pub fn scheduling(&self) -> Scheduling {
        self.with_attributes(|attributes| attributes.scheduling)
    }

    /// Notes how it is to be scheduled; the caller has checked that it may be.
    pub(crate) fn set_scheduling(&self, scheduling: Scheduling) {
        self.with_attributes(|attributes| attributes.scheduling = scheduling);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_may_start_afresh() {
        let parent = Scheduling { policy: Policy::Fifo, priority: 7, reset_on_fork: true, ..Scheduling::default() };
        assert_eq!(parent.for_child(), Scheduling::default());
        let nicer = Scheduling { nice: -3, reset_on_fork: true, policy: Policy::Batch, ..Scheduling::default() };
        assert_eq!(nicer.for_child(), Scheduling { policy: Policy::Batch, ..Scheduling::default() });
        let kept = Scheduling { policy: Policy::Fifo, priority: 7, ..Scheduling::default() };
        assert_eq!(kept.for_child(), kept);
    }

    #[test]
    fn a_reservation_is_in_order() {
        let sound = Reservation { runtime: 10_000_000, deadline: 30_000_000, period: 0 };
        assert!(sound.is_sound());
        assert!(!Reservation { runtime: 40_000_000, ..sound }.is_sound());
        assert!(!Reservation { period: 20_000_000, ..sound }.is_sound());
        assert!(!Reservation { runtime: 1000, ..sound }.is_sound());
        assert!(!Reservation::default().is_sound());
    }
}
