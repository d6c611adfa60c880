//! What pipes may take of the monitor's memory, and what a user may have of them (pipe(7), `pipe-user-pages-soft`).

use super::ring::PAGE;
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::Credentials;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// CAP_SYS_ADMIN.
const SYS_ADMIN: u32 = 21;
/// CAP_SYS_RESOURCE.
const SYS_RESOURCE: u32 = 24;

/// Buffers of a new pipe (PIPE_DEF_BUFFERS): 64 KiB.
const USUAL_SLOTS: usize = 16;
/// Buffers of a new pipe for a user who has many already (PIPE_MIN_DEF_BUFFERS).
const SCANT_SLOTS: usize = 2;
/// The capacity that only CAP_SYS_RESOURCE may exceed (sysctl fs.pipe-max-size).
const MAX_SIZE: usize = 1 << 20;
/// The largest capacity there is.
const SIZE_LIMIT: usize = 1 << 31;
/// Slots that a user's pipes have in all before new ones get fewer (sysctl fs.pipe-user-pages-soft).
const USER_SLOTS: usize = 16384;

/// All pipes' share of memory.
#[derive(Debug)]
pub(super) struct Account {
    limit: u64,
    held: AtomicU64,
    /// Slots of each user's pipes, by the user who made them.
    users: Mutex<HashMap<u32, usize>>,
}

impl Account {
    /// Makes an account of `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, held: AtomicU64::new(0), users: Mutex::new(Rank::Leaf, HashMap::new()) }
    }
}

/// A buffer's share of memory, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Charge(Arc<Account>);

impl Charge {
    /// Takes a page; `ENOMEM` if pipes hold too much.
    pub(super) fn take(account: &Arc<Account>) -> Result<Self, Errno> {
        let add = |held: u64| held.checked_add(PAGE as u64).filter(|sum| *sum <= account.limit);
        account.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| Errno::ENOMEM)?;
        Ok(Self(account.clone()))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.held.fetch_sub(PAGE as u64, Ordering::Relaxed);
    }
}

/// A pipe's slots as they count for its user, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Quota {
    account: Arc<Account>,
    user: u32,
    slots: usize,
}

fn is_privileged(who: &Credentials) -> bool {
    who.has(SYS_RESOURCE) || who.has(SYS_ADMIN)
}

impl Quota {
    /// Counts a new pipe for a user.
    pub(super) fn new(account: &Arc<Account>, who: &Credentials) -> Self {
        let mut users = account.users.lock();
        let used = users.entry(who.uid).or_default();
        let slots = if *used + USUAL_SLOTS > USER_SLOTS && !is_privileged(who) { SCANT_SLOTS } else { USUAL_SLOTS };
        *used += slots;
        drop(users);
        Self { account: account.clone(), user: who.uid, slots }
    }

    /// The slots it counts.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The slots for a capacity that somebody asks for (`round_pipe_size` and `pipe_set_size`); `EINVAL`, or `EPERM` for one that
    /// only a privileged user may have.
    pub(super) fn judge(&self, size: u32, who: &Credentials) -> Result<usize, Errno> {
        let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
        if size > SIZE_LIMIT {
            return Err(Errno::EINVAL);
        }
        let slots = size.max(PAGE).next_power_of_two() / PAGE;
        if slots > self.slots {
            if slots * PAGE > MAX_SIZE && !who.has(SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
            let others = self.account.users.lock().get(&self.user).map_or(0, |used| used - self.slots);
            if others + slots > USER_SLOTS && !is_privileged(who) {
                return Err(Errno::EPERM);
            }
        }
        Ok(slots)
    }

    /// Counts another number of slots.
    pub(super) fn change(&mut self, slots: usize) {
        let mut users = self.account.users.lock();
        let used = users.entry(self.user).or_default();
        *used = *used + slots - self.slots;
        self.slots = slots;
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let mut users = self.account.users.lock();
        if let Some(used) = users.get_mut(&self.user) {
            *used -= self.slots;
            if *used == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_many_pipes_gets_small_ones() {
        let account = Arc::new(Account::new(0));
        let (user, root) = (Credentials::new(1000, 1000, Vec::new()), Credentials::new(0, 0, Vec::new()));
        let pipes: Vec<_> = (0..USER_SLOTS / USUAL_SLOTS).map(|_| Quota::new(&account, &user)).collect();
        assert_eq!(Quota::new(&account, &user).slots(), SCANT_SLOTS);
        assert_eq!(Quota::new(&account, &root).slots(), USUAL_SLOTS);
        assert_eq!(pipes[0].judge(1 << 17, &user), Err(Errno::EPERM));
        drop(pipes);
        assert!(account.users.lock().is_empty());
    }

    #[test]
    fn capacities_are_powers_of_two_of_at_least_a_page() {
        let user = Credentials::new(1000, 1000, Vec::new());
        let quota = Quota::new(&Arc::new(Account::new(0)), &user);
        assert_eq!(quota.judge(0, &user), Ok(1));
        assert_eq!(quota.judge(4097, &user), Ok(2));
        assert_eq!(quota.judge(1 << 20, &user), Ok(256));
        assert_eq!(quota.judge((1 << 20) + 1, &user), Err(Errno::EPERM));
        assert_eq!(quota.judge(u32::MAX, &user), Err(Errno::EINVAL));
    }
}
