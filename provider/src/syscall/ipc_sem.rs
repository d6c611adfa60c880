//! System V semaphores: semget(2), semop(2), semtimedop(2), semctl(2).

use super::ipc::{self, INFO, REMOVE, SET, STATUS};
use crate::errno::Errno;
use crate::ipc::{Key, Operation, OperationFlags, RawPermissions, SemaphoreSet, VALUE_MAX};
use crate::task::{CurrentTask, Deadline};
use crate::time::Timespec;
use crate::user::{UserIn, UserOut};
use std::sync::Arc;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(super) fn semget(task: &CurrentTask<'_>, key: i32, count: i32, flags: u32) -> Result<i32, Errno> {
    let ipc = task.kernel().ipc();
    let count = u64::try_from(count).ok().filter(|count| *count <= ipc.limits.set_size.get()).ok_or(Errno::EINVAL)?;
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let fits = |set: &SemaphoreSet| if count > set.size() { Err(Errno::EINVAL) } else { Ok(()) };
    ipc.semaphores.get(task, Key(key), flags, fits, |permissions| match count {
        0 => Err(Errno::EINVAL),
        _ => SemaphoreSet::new(permissions, count, &ipc.semaphore_count, ipc.limits.semaphores.get()),
    })
}

/// `struct sembuf`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawOperation {
    number: u16,
    change: i16,
    flags: i16,
}

pub(super) fn semop(task: &CurrentTask<'_>, id: i32, list: UserAddr, count: u32) -> Result<(), Errno> {
    operate(task, id, (list, count), None)
}

pub(super) fn semtimedop(
    task: &CurrentTask<'_>,
    id: i32,
    list: UserAddr,
    count: u32,
    limit: UserIn<Timespec>,
) -> Result<(), Errno> {
    let limit = limit.read_opt(task)?;
    operate(task, id, (list, count), limit)
}

fn operate(
    task: &CurrentTask<'_>,
    id: i32,
    (list, count): (UserAddr, u32),
    limit: Option<Timespec>,
) -> Result<(), Errno> {
    if u64::from(count) > task.kernel().ipc().limits.operations.get() {
        return Err(Errno::E2BIG);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; count * size_of::<RawOperation>()];
    task.mm().read(list, &mut bytes)?;
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = match limit {
        None => Deadline::Never,
        Some(limit) => Deadline::after(limit.to_duration()?),
    };
    let decode = |raw: &[u8]| {
        let RawOperation { number, change, flags } = RawOperation::read_from_bytes(raw).map_err(|_| Errno::EINVAL)?;
        Ok(Operation { number, change, flags: OperationFlags::from_bits_truncate(flags) })
    };
    let operations = bytes.chunks_exact(size_of::<RawOperation>()).map(decode).collect::<Result<Vec<_>, Errno>>()?;
    let set = task.kernel().ipc().semaphores.find(id)?;
    if operations.iter().any(|operation| usize::from(operation.number) >= set.size()) {
        return Err(Errno::EFBIG);
    }
    let alters = operations.iter().any(|operation| operation.change != 0);
    set.status().permissions.check(task, if alters { 0o222 } else { 0o444 })?;
    set.operate(task, operations, deadline)
}

/// `struct semid64_ds`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawStatus {
    permissions: RawPermissions,
    operated: i64,
    unused: u64,
    changed: i64,
    unused_too: u64,
    size: u64,
    unused_at_end: [u64; 2],
}

const GET_PID: i32 = 11;
const GET_VALUE: i32 = 12;
const GET_ALL: i32 = 13;
const GET_WAITING_MORE: i32 = 14;
const GET_WAITING_ZERO: i32 = 15;
const SET_VALUE: i32 = 16;
const SET_ALL: i32 = 17;
const STATUS_OF_SLOT: i32 = 18;
const TOTALS: i32 = 19;
const STATUS_OF_ANY: i32 = 20;

/// `struct seminfo`: map, sets, semaphores, undos, semaphores of a set, operations, undos of a process, size of an undo, value, adjustment.
fn info(task: &CurrentTask<'_>, totals: bool) -> [i32; 10] {
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let ipc = task.kernel().ipc();
    let (all, operations) = (ipc.limits.semaphores.as_int(), ipc.limits.operations.as_int());
    /// SEMUSZ
    const UNDO_SIZE: i32 = 20;
    let mut info = [
        all,
        number(ipc.semaphores.most()),
        all,
        all,
        ipc.limits.set_size.as_int(),
        operations,
        operations,
        UNDO_SIZE,
        VALUE_MAX,
        VALUE_MAX,
    ];
    if totals {
        info[7] = number(ipc.semaphores.all().len());
        info[9] = i32::try_from(ipc.semaphore_count.get()).unwrap_or(i32::MAX);
    }
    info
}

pub(super) fn semctl(task: &CurrentTask<'_>, id: i32, number: i32, command: i32, argument: u64) -> Result<i32, Errno> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let sets = &task.kernel().ipc().semaphores;
    let at = UserAddr(argument);
    match command {
        INFO | TOTALS => {
            UserOut::new(at).write(task, &info(task, command == TOTALS))?;
            Ok(sets.highest_slot())
        }
        STATUS | STATUS_OF_SLOT | STATUS_OF_ANY => {
            let found = ipc::select(sets, id, command == STATUS)?;
            let status = found.object.status();
            if command != STATUS_OF_ANY {
                status.permissions.check(task, 0o444)?;
            }
            let raw = RawStatus {
                permissions: status.permissions.raw(0),
                operated: status.operated,
                unused: 0,
                changed: status.changed,
                unused_too: 0,
                size: u64::try_from(status.size).unwrap_or_default(),
                unused_at_end: [0; 2],
            };
            UserOut::new(at).write(task, &raw)?;
            Ok(if command == STATUS { 0 } else { found.id })
        }
        SET => {
            let new = UserIn::<RawStatus>::new(at).read(task)?;
            let set = sets.find(id)?;
            set.status().permissions.check_owner(task)?;
            set.change(new.permissions.changes()).map(|()| 0)
        }
        REMOVE => {
            let set = sets.find(id)?;
            set.status().permissions.check_owner(task)?;
            sets.remove(id);
            set.remove();
            Ok(0)
        }
        SET_VALUE => {
            // An int, wherever the union had it.
            let [a, b, c, d, ..] = argument.to_le_bytes();
            let value = i32::from_le_bytes([a, b, c, d]);
            let value =
                u16::try_from(value).ok().filter(|value| i32::from(*value) <= VALUE_MAX).ok_or(Errno::ERANGE)?;
            let set = sets.find(id)?;
            let number = member(&set, number)?;
            set.status().permissions.check(task, 0o222)?;
            set.set_values(task.group().pid(), usize::from(number), &[value]).map(|()| 0)
        }
        GET_ALL | SET_ALL => all_values(task, &sets.find(id)?, at, command == SET_ALL),
        GET_PID | GET_VALUE | GET_WAITING_MORE | GET_WAITING_ZERO => {
            let set = sets.find(id)?;
            set.status().permissions.check(task, 0o444)?;
            let number = member(&set, number)?;
            let semaphore = set.semaphores()[usize::from(number)];
            let count = |waiters: usize| i32::try_from(waiters).unwrap_or(i32::MAX);
            Ok(match command {
                GET_PID => semaphore.last,
                GET_VALUE => semaphore.value,
                GET_WAITING_MORE => count(set.waiters(number).0),
                _ => count(set.waiters(number).1),
            })
        }
        _ => Err(Errno::EINVAL),
    }
}

/// A semaphore's number, if the set has it; `EINVAL`.
fn member(set: &Arc<SemaphoreSet>, number: i32) -> Result<u16, Errno> {
    let number = u16::try_from(number).map_err(|_| Errno::EINVAL)?;
    if usize::from(number) < set.size() { Ok(number) } else { Err(Errno::EINVAL) }
}

/// GETALL and SETALL: the values are an array of `unsigned short`.
fn all_values(task: &CurrentTask<'_>, set: &Arc<SemaphoreSet>, at: UserAddr, change: bool) -> Result<i32, Errno> {
    set.status().permissions.check(task, if change { 0o222 } else { 0o444 })?;
    if !change {
        let values = set.semaphores();
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|semaphore| u16::try_from(semaphore.value).unwrap_or_default().to_le_bytes())
            .collect();
        task.mm().write(at, &bytes)?;
        return Ok(0);
    }
    let mut bytes = vec![0; set.size() * 2];
    task.mm().read(at, &mut bytes)?;
    let values: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    if values.iter().any(|value| i32::from(*value) > VALUE_MAX) {
        return Err(Errno::ERANGE);
    }
    set.set_values(task.group().pid(), 0, &values).map(|()| 0)
}
