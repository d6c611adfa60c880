//! futex(2): waiting for a word in memory to change.

use super::Outcome;
use super::constants::FutexOperation;
use crate::errno::Errno;
use crate::futex::{ANY, Expected, FutexKey, Requeue, Scope, WordChange};
use crate::task::{CurrentTask, Deadline, Wake};
use crate::time::Timespec;
use crate::user::UserIn;
use vmm::addr::UserAddr;
use vmm::clock::ClockKind;
use vmm::memory::Access;

const WAIT: i32 = 0;
const WAKE: i32 = 1;
const REQUEUE: i32 = 3;
const CMP_REQUEUE: i32 = 4;
const WAKE_OP: i32 = 5;
const LOCK_PI: i32 = 6;
const UNLOCK_PI: i32 = 7;
const TRYLOCK_PI: i32 = 8;
const WAIT_BITSET: i32 = 9;
const WAKE_BITSET: i32 = 10;
const WAIT_REQUEUE_PI: i32 = 11;
const CMP_REQUEUE_PI: i32 = 12;
const LOCK_PI2: i32 = 13;
const PRIVATE: i32 = 128;
const CLOCK_REALTIME: i32 = 256;

pub(super) fn futex(
    task: &CurrentTask<'_>,
    at: UserAddr,
    FutexOperation(operation): FutexOperation,
    value: u32,
    timeout_or_count: u64,
    second: UserAddr,
    third: u32,
) -> Result<Outcome, Errno> {
    let command = operation & !(PRIVATE | CLOCK_REALTIME);
    let wall = operation & CLOCK_REALTIME != 0;
    let deadline = match command {
        WAIT | LOCK_PI | LOCK_PI2 | WAIT_BITSET | WAIT_REQUEUE_PI => {
            let wall = wall || command == LOCK_PI;
            deadline(task, UserIn::new(UserAddr(timeout_or_count)), command == WAIT, wall)?
        }
        _ => Deadline::Never,
    };
    if wall && !matches!(command, WAIT_BITSET | WAIT_REQUEUE_PI | LOCK_PI2) {
        return Err(Errno::ENOSYS);
    }
    let scope = if operation & PRIVATE != 0 { Scope::Private } else { Scope::Shared };
    let futexes = task.kernel().futexes();
    let mm = task.mm();
    let key = |at, access| FutexKey::of(&mm, at, scope, access);
    let (look, change) = (Access::READ, Access::READ | Access::WRITE);
    // The fourth argument is a number here, in the low half.
    let second_value = u32::try_from(timeout_or_count & u64::from(u32::MAX)).unwrap_or_default();
    let woken = match command {
        WAIT | WAIT_BITSET => {
            let mask = if command == WAIT { ANY } else { third };
            if mask == 0 {
                return Err(Errno::EINVAL);
            }
            return wait(task, Expected { key: key(at, look)?, at, value, mask }, deadline);
        }
        WAKE | WAKE_BITSET => {
            let mask = if command == WAKE { ANY } else { third };
            if mask == 0 {
                return Err(Errno::EINVAL);
            }
            futexes.wake(key(at, look)?, at_least_one(value), mask)?
        }
        REQUEUE | CMP_REQUEUE => {
            let (wake, moved) = (count(value)?, count(second_value)?);
            let expected = (command == CMP_REQUEUE).then_some(third);
            futexes.requeue(task, (key(at, look)?, at), key(second, look)?, Requeue { wake, moved, expected })?
        }
        WAKE_OP => {
            let (first, other) = (key(at, look)?, key(second, change)?);
            let (first, other) = ((first, at_least_one(value)), (other, second, at_least_one(second_value)));
            futexes.wake_and_change(task, first, other, WordChange::decode(third))?
        }
        LOCK_PI | LOCK_PI2 => {
            let locked = futexes.lock_owned(task, key(at, change)?, at, deadline)?;
            return owned(locked).map(|()| Outcome::Return(0));
        }
        TRYLOCK_PI => futexes.try_lock_owned(task, key(at, change)?, at).map(|()| 0)?,
        UNLOCK_PI => futexes.unlock_owned(task, key(at, change)?, at).map(|()| 0)?,
        WAIT_REQUEUE_PI => {
            if at == second {
                return Err(Errno::EINVAL);
            }
            let target = key(second, change)?;
            let expected = Expected { key: key(at, look)?, at, value, mask: ANY };
            let locked = futexes.wait_requeued(task, &expected, (target, second), deadline)?;
            return owned(locked).map(|()| Outcome::Return(0));
        }
        CMP_REQUEUE_PI => {
            let (wake, moved) = (count(value)?, count(second_value)?);
            if at == second || wake != 1 {
                return Err(Errno::EINVAL);
            }
            let from = (key(at, look)?, at, third);
            futexes.requeue_to_owned(task, from, (key(second, change)?, second), moved)?
        }
        _ => return Err(Errno::ENOSYS),
    };
    Ok(Outcome::Return(u64::try_from(woken).unwrap_or_default()))
}

/// Reads a time limit: a span, or a point on the wall clock or the monotonic one.
fn deadline(task: &CurrentTask<'_>, from: UserIn<Timespec>, span: bool, wall: bool) -> Result<Deadline, Errno> {
    let Some(limit) = from.read_opt(task)? else { return Ok(Deadline::Never) };
    if span {
        return Ok(Deadline::after(limit.to_duration()?));
    }
    let kind = if wall { ClockKind::Wall } else { ClockKind::Monotonic };
    Ok(Deadline::at(kind, limit.to_nanoseconds()?, task.kernel().now(kind)))
}

/// How many to wake: Linux wakes one even if asked for none or fewer.
fn at_least_one(value: u32) -> usize {
    usize::try_from(value.cast_signed()).unwrap_or(1).max(1)
}

/// A number of sleepers that must not be negative.
fn count(raw: u32) -> Result<usize, Errno> {
    usize::try_from(raw.cast_signed()).map_err(|_| Errno::EINVAL)
}

/// What came of waiting to own a futex: the time limit is a point, so the call simply starts anew after a signal.
fn owned(locked: Wake<()>) -> Result<(), Errno> {
    match locked {
        Wake::Done(()) => Ok(()),
        Wake::TimedOut => Err(Errno::ETIMEDOUT),
        Wake::Interrupted => Err(Errno::ERESTARTNOINTR),
    }
}

/// Sleeps while the word has the expected value. A wait with a limit that is interrupted goes on to the same end; one
/// without starts anew.
fn wait(task: &CurrentTask<'_>, expected: Expected, deadline: Deadline) -> Result<Outcome, Errno> {
    match task.kernel().futexes().wait(task, &expected, deadline)? {
        Wake::Done(()) => Ok(Outcome::Return(0)),
        Wake::TimedOut => Err(Errno::ETIMEDOUT),
        Wake::Interrupted if deadline == Deadline::Never => Err(Errno::ERESTARTSYS),
        Wake::Interrupted => Err(task.restart_with(move |task| wait(task, expected, deadline))),
    }
}
