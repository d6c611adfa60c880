//! Leases (F_SETLEASE of fcntl(2)): the holder is signalled when somebody opens or truncates the file, who waits until it has given
//! the lease up or down, or the time for that is over (__break_lease in fs/locks.c).
//!
//! A file is known by its inode's address, which the open file that holds the lease keeps alive. One leaf lock; with no lease in the
//! sandbox an open looks at one number.

use super::access::owns_by_id;
use super::sigio::{Reason, Signalled};
use super::{FileKind, Inode, LockKind, OpenFile};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Deadline, WaitQueue, Wake};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

/// The most leases in a sandbox: they take the monitor's memory.
const LEASES_MAX: usize = 65_536;
/// Seconds that a holder has unless that is changed (lease_break_time).
const BREAK_TIME: i64 = 45;

/// What somebody is about to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Open it for reading only.
    Read,
    /// Open it for writing, or cut it.
    Write,
}

/// Whether whoever breaks a lease waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until the lease is out of the way.
    Waits,
    /// Not at all (O_NONBLOCK): `EAGAIN`.
    Leaves,
}

#[derive(Debug)]
struct Lease {
    /// The open file that holds it.
    file: u64,
    kind: LockKind,
    /// The descriptor that it was taken by: the signal tells it.
    fd: i32,
    notice: Arc<dyn Signalled>,
    /// It is to become shared by then.
    downgrade: Option<Deadline>,
    /// It is to go by then.
    unlock: Option<Deadline>,
}

impl Lease {
    fn conflicts(&self, with: Use) -> bool {
        with == Use::Write || self.kind == LockKind::Exclusive
    }

    /// What it is, or is about to become; `None`: nothing (target_leasetype).
    fn target(&self) -> Option<LockKind> {
        match (self.unlock, self.downgrade) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(LockKind::Shared),
            (None, None) => Some(self.kind),
        }
    }

    /// Notes that it is in the way (lease_break_callback); `false` if that was known.
    fn doom(&mut self, with: Use, by: Deadline) -> bool {
        let pending = match with {
            Use::Write if self.unlock.is_none() => &mut self.unlock,
            Use::Read if self.unlock.is_none() && self.downgrade.is_none() => &mut self.downgrade,
            _ => return false,
        };
        *pending = Some(by);
        true
    }
}

fn is_past(deadline: Option<Deadline>) -> bool {
    deadline.is_some_and(|deadline| deadline.remaining() == Some(Duration::ZERO))
}

#[derive(Debug, Default)]
struct Table {
    files: HashMap<usize, Vec<Lease>>,
}

impl Table {
    /// Lets go what its holder did not in time (time_out_leases); answers whose leases went.
    fn time_out(&mut self, key: usize) -> Vec<Lease> {
        let Some(leases) = self.files.get_mut(&key) else { return Vec::new() };
        for lease in leases.iter_mut().filter(|lease| is_past(lease.downgrade)) {
            (lease.kind, lease.downgrade) = (LockKind::Shared, None);
        }
        let gone: Vec<Lease> = leases.extract_if(.., |lease| is_past(lease.unlock)).collect();
        self.tidy(key);
        gone
    }

    fn tidy(&mut self, key: usize) {
        if self.files.get(&key).is_some_and(Vec::is_empty) {
            self.files.remove(&key);
        }
    }

    fn conflicting(&self, key: usize, with: Use) -> impl Iterator<Item = &Lease> {
        self.files.get(&key).into_iter().flatten().filter(move |lease| lease.conflicts(with))
    }
}

/// All leases of a sandbox.
#[derive(Debug)]
pub struct Leases {
    table: Mutex<Table>,
    count: AtomicUsize,
    changed: WaitQueue,
    break_time: AtomicI64,
    enabled: AtomicBool,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            table: Mutex::new(Rank::Leaf, Table::default()),
            count: AtomicUsize::new(0),
            changed: WaitQueue::default(),
            break_time: AtomicI64::new(BREAK_TIME),
            enabled: AtomicBool::new(true),
        }
    }
}

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).addr()
}

/// `EAGAIN` if others have the file open in a way that the lease excludes (check_conflicting_open).
fn check_opens(file: &OpenFile, kind: LockKind) -> Result<(), Errno> {
    // What was not opened by a path is not counted, and nobody else opens it.
    let Some((readers, writers)) = file.location().open_counts().filter(|_| file.is_counted()) else { return Ok(()) };
    let own = if file.flags().writes() { (0, 1) } else { (1, 0) };
    let free = match kind {
        LockKind::Shared => writers == 0,
        LockKind::Exclusive => (readers, writers) == own,
    };
    if free { Ok(()) } else { Err(Errno::EAGAIN) }
}

impl Leases {
    /// Seconds that a holder has to give a lease up, 0: as many as it likes (/proc/sys/fs/lease-break-time).
    pub fn break_time(&self) -> i64 {
        self.break_time.load(Ordering::Relaxed)
    }

    /// Changes that.
    pub fn set_break_time(&self, seconds: i64) {
        self.break_time.store(seconds, Ordering::Relaxed);
    }

    /// Whether leases are given (/proc/sys/fs/leases-enable).
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Changes that.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Takes the leases out that `over` says are, and lets those go on that wait.
    fn gone(&self, gone: Vec<Lease>) {
        self.count.fetch_sub(gone.len(), Ordering::Relaxed);
        self.changed.wake_all();
        gone.iter().for_each(|lease| lease.notice.disown());
    }

    /// What lease an open file has, or will have when it has answered a break (F_GETLEASE).
    pub fn get(&self, file: &OpenFile) -> Option<LockKind> {
        let key = key(file.location().inode());
        let gone = self.table.lock().time_out(key);
        self.gone(gone);
        let table = self.table.lock();
        table.files.get(&key)?.iter().find(|lease| lease.file == file.id())?.target()
    }

    /// Checks that the caller may have leases on the file: it owns it or has CAP_LEASE (`EACCES`), which is a regular one (`EINVAL`).
    fn check(task: &CurrentTask<'_>, file: &OpenFile) -> Result<(), Errno> {
        /// CAP_LEASE.
        const CAP_LEASE: u32 = 28;
        let inode = file.location().inode();
        if !owns_by_id(&task.credentials(), inode.permissions()?, CAP_LEASE) {
            return Err(Errno::EACCES);
        }
        if inode.kind() == FileKind::Regular { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Takes a lease for an open file, or changes the one it has; `EAGAIN` if others use the file (generic_add_lease).
    pub(super) fn set(&self, task: &CurrentTask<'_>, file: &OpenFile, fd: i32, kind: LockKind) -> Result<(), Errno> {
        Self::check(task, file)?;
        let notice = file.notice_mut(task).clone();
        let key = key(file.location().inode());
        check_opens(file, kind)?;
        let gone = {
            let mut table = self.table.lock();
            let gone = table.time_out(key);
            let leases = table.files.entry(key).or_default();
            let others = leases.iter().filter(|lease| lease.file != file.id());
            let refused = others.into_iter().any(|other| kind == LockKind::Exclusive || other.unlock.is_some());
            let own = leases.iter_mut().find(|lease| lease.file == file.id());
            let result = match own {
                _ if refused => Err(Errno::EAGAIN),
                Some(own) => {
                    (own.kind, own.fd) = (kind, fd);
                    if kind == LockKind::Shared {
                        own.downgrade = None;
                    }
                    Ok(())
                }
                None if !self.enabled() => Err(Errno::EINVAL),
                None if self.count.load(Ordering::Relaxed) >= LEASES_MAX => Err(Errno::ENOLCK),
                None => {
                    self.count.fetch_add(1, Ordering::SeqCst);
                    leases.push(Lease {
                        file: file.id(),
                        kind,
                        fd,
                        notice: notice.clone(),
                        downgrade: None,
                        unlock: None,
                    });
                    Ok(())
                }
            };
            table.tidy(key);
            result.map(|()| gone)
        }?;
        self.gone(gone);
        notice.own(task);
        // Who opened the file meanwhile was counted before it looked for leases.
        if let Err(error) = check_opens(file, kind) {
            self.released(file);
            return Err(error);
        }
        Ok(())
    }

    /// Gives an open file's lease back; `EAGAIN` if it has none.
    pub(super) fn remove(&self, task: &CurrentTask<'_>, file: &OpenFile) -> Result<(), Errno> {
        Self::check(task, file)?;
        if self.released(file) { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    /// The open file's lease, if it has one, is gone.
    pub(super) fn released(&self, file: &OpenFile) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let key = key(file.location().inode());
        let gone: Vec<Lease> = {
            let mut table = self.table.lock();
            let leases = table.files.get_mut(&key);
            let gone = leases.map(|leases| leases.extract_if(.., |lease| lease.file == file.id()).collect());
            table.tidy(key);
            gone.unwrap_or_default()
        };
        let found = !gone.is_empty();
        self.gone(gone);
        found
    }

    /// Makes way for a use of a file: tells those whose leases are in its way, and waits until they are out of it. `EAGAIN`, or
    /// `ERESTARTSYS` if a signal comes first.
    pub fn break_for(
        &self,
        task: &CurrentTask<'_>,
        inode: &Arc<dyn Inode>,
        with: Use,
        patience: Patience,
    ) -> Result<(), Errno> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        task.needs_thread()?;
        let key = key(inode);
        let by = match u64::try_from(self.break_time()) {
            Ok(0) | Err(_) => Deadline::Never,
            Ok(seconds) => Deadline::after(Duration::from_secs(seconds)),
        };
        let (gone, told) = {
            let mut table = self.table.lock();
            let gone = table.time_out(key);
            let leases = table.files.get_mut(&key).into_iter().flatten();
            let doomed = leases.filter(|lease| lease.conflicts(with)).filter_map(|lease| {
                let is_news = lease.doom(with, by);
                is_news.then(|| (lease.notice.clone(), lease.fd))
            });
            (gone, doomed.collect::<Vec<_>>())
        };
        self.gone(gone);
        for (notice, fd) in told {
            notice.signal_now(task.kernel(), fd, Reason::Message);
        }
        loop {
            let Some(until) = self.obstacle(key, with) else { return Ok(()) };
            if patience == Patience::Leaves {
                return Err(Errno::EAGAIN);
            }
            let slept = task.block_until(until, |waiter| {
                waiter.on_queue(&self.changed);
                Ok(self.obstacle(key, with).is_none().then_some(()))
            })?;
            match slept {
                Wake::Done(()) => return Ok(()),
                Wake::TimedOut => {
                    let gone = self.table.lock().time_out(key);
                    self.gone(gone);
                }
                Wake::Interrupted => return Err(Errno::ERESTARTSYS),
            }
        }
    }

    /// Until when a lease may be in the way; `None`: there is none.
    fn obstacle(&self, key: usize, with: Use) -> Option<Deadline> {
        let table = self.table.lock();
        let lease = table.conflicting(key, with).next()?;
        Some(lease.unlock.or(lease.downgrade).unwrap_or(Deadline::Never))
    }
}
