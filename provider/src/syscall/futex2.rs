//! The newer futex calls: futex_waitv(2), and futex_wake, futex_wait and futex_requeue, which take flags a futex.

use super::constants::ClockNumber;
use crate::errno::Errno;
use crate::futex::{Expected, FutexKey, Requeue, Scope, WAITERS_MAX};
use crate::task::{CurrentTask, Deadline, Wake};
use crate::time::Timespec;
use crate::user::UserIn;
use vmm::addr::UserAddr;
use vmm::clock::ClockKind;
use vmm::memory::Access;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// FUTEX2_SIZE_MASK, and the only size that there is: FUTEX2_SIZE_U32.
const SIZE: u32 = 3;
const SIZE_U32: u32 = 2;
/// FUTEX2_PRIVATE
const PRIVATE: u32 = 128;

/// `struct futex_waitv`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawWaiter {
    value: u64,
    at: u64,
    flags: u32,
    reserved: u32,
}

/// A futex as the flags describe it, and a value or mask for it.
struct Word {
    at: UserAddr,
    scope: Scope,
    value: u32,
}

impl Word {
    /// `EINVAL` for flags that are not known, and values that have more bits than the word.
    fn new(at: UserAddr, flags: u32, value: u64) -> Result<Self, Errno> {
        if flags & !(SIZE | PRIVATE) != 0 || flags & SIZE != SIZE_U32 {
            return Err(Errno::EINVAL);
        }
        let scope = if flags & PRIVATE != 0 { Scope::Private } else { Scope::Shared };
        Ok(Self { at, scope, value: u32::try_from(value).map_err(|_| Errno::EINVAL)? })
    }

    fn key(&self, task: &CurrentTask<'_>) -> Result<FutexKey, Errno> {
        FutexKey::of(&task.mm(), self.at, self.scope, Access::READ)
    }
}

/// Reads a time limit, a point on one of two clocks.
fn deadline(task: &CurrentTask<'_>, limit: UserIn<Timespec>, clock: ClockNumber) -> Result<Deadline, Errno> {
    if limit.is_null() {
        return Ok(Deadline::Never);
    }
    let kind = match clock.0 {
        0 => ClockKind::Wall,
        1 => ClockKind::Monotonic,
        _ => return Err(Errno::EINVAL),
    };
    let point = limit.read(task)?.to_nanoseconds()?;
    Ok(Deadline::at(kind, point, task.kernel().now(kind)))
}

/// Reads the list of futexes that a call is about.
fn words(task: &CurrentTask<'_>, list: UserAddr, count: usize) -> Result<Vec<Word>, Errno> {
    let size = u64::try_from(size_of::<RawWaiter>()).unwrap_or_default();
    let at = |index| UserAddr(list.0.wrapping_add(size * index));
    let raw = (0..u64::try_from(count).unwrap_or_default()).map(|index| UserIn::<RawWaiter>::new(at(index)).read(task));
    raw.map(|raw| {
        let raw = raw?;
        if raw.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        Word::new(UserAddr(raw.at), raw.flags, raw.value)
    })
    .collect()
}

/// The time limit is a point, so an interrupted call simply starts anew.
fn outcome<T>(slept: Wake<T>) -> Result<T, Errno> {
    slept.or_restart()
}

pub(super) fn futex_waitv(
    task: &CurrentTask<'_>,
    list: UserAddr,
    count: u32,
    flags: u32,
    limit: UserIn<Timespec>,
    clock: ClockNumber,
) -> Result<usize, Errno> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if flags != 0 || count == 0 || count > WAITERS_MAX || list.0 == 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline(task, limit, clock)?;
    let words = words(task, list, count)?;
    let expected =
        |word: &Word| Ok(Expected { key: word.key(task)?, at: word.at, value: word.value, mask: crate::futex::ANY });
    let all = words.iter().map(expected).collect::<Result<Vec<_>, Errno>>()?;
    outcome(task.kernel().futexes().wait_for_any(task, &all, deadline)?)
}

pub(super) fn futex_wake(
    task: &CurrentTask<'_>,
    at: UserAddr,
    mask: u64,
    count: i32,
    flags: u32,
) -> Result<usize, Errno> {
    let word = Word::new(at, flags, mask)?;
    if word.value == 0 {
        return Err(Errno::EINVAL);
    }
    let key = word.key(task)?;
    match usize::try_from(count) {
        Ok(0) => Ok(0),
        // Unlike none, fewer than none is one, as for futex(2).
        Ok(count) => task.kernel().futexes().wake(key, count, word.value),
        Err(_) => task.kernel().futexes().wake(key, 1, word.value),
    }
}

pub(super) fn futex_wait(
    task: &CurrentTask<'_>,
    at: UserAddr,
    value: u64,
    mask: u64,
    flags: u32,
    limit: UserIn<Timespec>,
    clock: ClockNumber,
) -> Result<(), Errno> {
    let word = Word::new(at, flags, value)?;
    let mask = u32::try_from(mask).map_err(|_| Errno::EINVAL)?;
    let deadline = deadline(task, limit, clock)?;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    let expected = Expected { key: word.key(task)?, at, value: word.value, mask };
    outcome(task.kernel().futexes().wait(task, &expected, deadline)?)
}

pub(super) fn futex_requeue(
    task: &CurrentTask<'_>,
    list: UserAddr,
    flags: u32,
    wake: i32,
    moved: i32,
) -> Result<usize, Errno> {
    if flags != 0 || list.0 == 0 {
        return Err(Errno::EINVAL);
    }
    let words = words(task, list, 2)?;
    let [from, to] = words.as_slice() else { return Err(Errno::EINVAL) };
    // As futex(2), whose flags are for both.
    if from.scope != to.scope {
        return Err(Errno::EINVAL);
    }
    let count = |raw| usize::try_from(raw).map_err(|_| Errno::EINVAL);
    let counts = Requeue { wake: count(wake)?, moved: count(moved)?, expected: Some(from.value) };
    task.kernel().futexes().requeue(task, (from.key(task)?, from.at), to.key(task)?, counts)
}
