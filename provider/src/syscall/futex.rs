//! futex(2): waiting for a word in memory to change.

use super::Outcome;
use super::constants::FutexOperation;
use crate::errno::Errno;
use crate::task::{CurrentTask, Deadline, FutexKey, Wake};
use crate::time::Timespec;
use crate::user::UserIn;
use vmm::addr::UserAddr;
use vmm::clock::ClockKind;

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
/// Every waiter, whatever it waits for.
const ANY: u32 = u32::MAX;

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
    if wall && !matches!(command, WAIT | WAIT_BITSET | WAIT_REQUEUE_PI | LOCK_PI2) {
        return Err(Errno::ENOSYS);
    }
    let count = |raw: u32| usize::try_from(raw.cast_signed()).map_err(|_| Errno::EINVAL);
    let futexes = task.kernel().futexes();
    let mm = task.mm();
    let key = |at| FutexKey::of(&mm, at);
    let woken = match command {
        WAIT => {
            let timeout = UserIn::<Timespec>::new(UserAddr(timeout_or_count)).read_opt(task)?;
            let deadline = match timeout {
                None => Deadline::Never,
                Some(span) => Deadline::after(span.to_duration()?),
            };
            return wait(task, key(at)?, value, ANY, deadline);
        }
        WAIT_BITSET => {
            let timeout = UserIn::<Timespec>::new(UserAddr(timeout_or_count)).read_opt(task)?;
            let kind = if wall { ClockKind::Wall } else { ClockKind::Monotonic };
            let deadline = match timeout {
                None => Deadline::Never,
                Some(point) => Deadline::at(kind, point.to_nanoseconds()?, task.kernel().now(kind)),
            };
            return wait(task, key(at)?, value, third, deadline);
        }
        WAKE => futexes.wake(key(at)?, at_least_one(value), ANY),
        WAKE_BITSET if third == 0 => return Err(Errno::EINVAL),
        WAKE_BITSET => futexes.wake(key(at)?, at_least_one(value), third),
        REQUEUE | CMP_REQUEUE => {
            let expected = (command == CMP_REQUEUE).then_some(third);
            // The fourth argument is a number here, in the low half.
            let requeued = u32::try_from(timeout_or_count & u64::from(u32::MAX)).unwrap_or_default();
            futexes.requeue(task, key(at)?, key(second)?, count(value)?, count(requeued)?, expected)?
        }
        WAKE_OP => return Err(task.unsupported("futex: FUTEX_WAKE_OP", Errno::ENOSYS)),
        LOCK_PI | UNLOCK_PI | TRYLOCK_PI | WAIT_REQUEUE_PI | CMP_REQUEUE_PI | LOCK_PI2 => {
            return Err(task.unsupported("futex: priority inheritance", Errno::ENOSYS));
        }
        _ => return Err(Errno::ENOSYS),
    };
    Ok(Outcome::Return(u64::try_from(woken).unwrap_or_default()))
}

/// How many to wake: Linux wakes one even if asked for none or fewer.
fn at_least_one(value: u32) -> usize {
    usize::try_from(value.cast_signed()).unwrap_or(1).max(1)
}

/// Sleeps while the word has `expected`. A relative wait that is interrupted goes on to the same end; without a timeout it starts anew.
fn wait(task: &CurrentTask<'_>, key: FutexKey, expected: u32, mask: u32, deadline: Deadline) -> Result<Outcome, Errno> {
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    let waiting = task.kernel().futexes().enqueue(task, key, expected, mask)?;
    match task.block_until(deadline, |_| Ok(waiting.is_woken().then_some(())))? {
        Wake::Done(()) => Ok(Outcome::Return(0)),
        // A wake-up that came together with the deadline or the signal must not be lost.
        _ if waiting.is_woken() => Ok(Outcome::Return(0)),
        Wake::TimedOut => Err(Errno::ETIMEDOUT),
        Wake::Interrupted if deadline == Deadline::Never => Err(Errno::ERESTARTSYS),
        Wake::Interrupted => {
            drop(waiting);
            Err(task.restart_with(move |task| wait(task, key, expected, mask, deadline)))
        }
    }
}
