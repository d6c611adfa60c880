//! fcntl(2): descriptors' numbers and flags, open files' flags, and advisory locks.
//!
//! A process never conflicts with its own POSIX locks, so while a sandbox has one process a lock that is asked for soundly is
//! granted without being kept. Locks of open files (F_OFD_*) conflict within a process and are refused as unknown.

use super::fs::file_limit;
use crate::errno::Errno;
use crate::fs::{Fd, OpenFile, OpenFlags};
use crate::syscall::constants::FcntlCommand;
use crate::task::CurrentTask;
use crate::user::{UserInOut, UserOut};
use linux_raw_sys::general::{
    F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_GETLK, F_GETOWN, F_GETSIG, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW,
    F_RDLCK, F_SETFD, F_SETFL, F_SETLK, F_SETLKW, F_SETOWN, F_SETSIG, F_UNLCK, F_WRLCK, FD_CLOEXEC, SEEK_CUR, SEEK_END,
    SEEK_SET,
};
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Whether two descriptors share an open file (include/uapi/linux/fcntl.h: F_LINUX_SPECIFIC_BASE + 3).
const F_DUPFD_QUERY: u32 = 1027;
/// A hint about how long written data lives; kept by nobody here, as on a file system that ignores it.
const F_GET_RW_HINT: u32 = 1035;
const F_SET_RW_HINT: u32 = 1036;
/// The largest hint, RWH_WRITE_LIFE_EXTREME.
const RW_HINTS: u64 = 5;

/// struct flock of a 64-bit process.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    _padding: u32,
    start: i64,
    len: i64,
    pid: i32,
    _end: u32,
}

/// F_UNLCK as struct flock holds it.
const UNLOCKED: i16 = 2;

const _: () = assert!(size_of::<Flock>() == 32 && F_UNLCK == 2);

/// fcntl(2).
pub(super) fn fcntl(task: &CurrentTask<'_>, fd: Fd, command: FcntlCommand, arg: u64) -> Result<u64, Errno> {
    let command = command.0;
    let file = if works_on_places(command) { task.files().get_any(fd)? } else { task.files().get(fd)? };
    match command {
        F_DUPFD => duplicate(task, file, arg, false),
        F_DUPFD_CLOEXEC => duplicate(task, file, arg, true),
        F_DUPFD_QUERY => {
            let other = task.files().get_any(Fd(int(arg)))?;
            Ok(u64::from(other.id() == file.id()))
        }
        F_GETFD => Ok(if task.files().closes_on_exec(fd)? { FD_CLOEXEC.into() } else { 0 }),
        F_SETFD => task.files().set_close_on_exec(fd, arg & u64::from(FD_CLOEXEC) != 0).map(|()| 0),
        F_GETFL => Ok(file.flags().bits().into()),
        F_SETFL => file.set_flags(OpenFlags::from_bits_retain(low(arg))).map(|()| 0),
        F_GETLK => test_lock(task, UserAddr(arg)),
        F_SETLK | F_SETLKW => set_lock(task, &file, UserAddr(arg)),
        F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW => Err(task.kernel().unsupported("fcntl: F_OFD locks", Errno::EINVAL)),
        // A negative owner is a process group; the result is an int all the same (force_successful_syscall_return).
        F_GETOWN => Ok(i64::from(file.owner()).cast_unsigned()),
        F_SETOWN => set_owner(&file, int(arg)),
        F_GETSIG => Ok(0),
        F_SETSIG if arg == 0 => Ok(0),
        F_SETSIG => Err(task.kernel().unsupported("fcntl: F_SETSIG", Errno::EINVAL)),
        F_GET_RW_HINT => UserOut::new(UserAddr(arg)).write(task, &0_u64).map(|()| 0),
        F_SET_RW_HINT => {
            let hint = UserInOut::<u64>::new(UserAddr(arg)).read(task)?;
            if hint <= RW_HINTS { Ok(0) } else { Err(Errno::EINVAL) }
        }
        _ => Err(task.kernel().unsupported("fcntl: another command", Errno::EINVAL)),
    }
}

/// Whether a command works on O_PATH descriptors, too (check_fcntl_cmd in fs/fcntl.c).
fn works_on_places(command: u32) -> bool {
    matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_DUPFD_QUERY | F_GETFD | F_SETFD | F_GETFL)
}

fn duplicate(
    task: &CurrentTask<'_>,
    file: std::sync::Arc<OpenFile>,
    from: u64,
    close_on_exec: bool,
) -> Result<u64, Errno> {
    let limit = file_limit(task);
    let from = low(from);
    if u64::from(from) >= limit {
        return Err(Errno::EINVAL);
    }
    let from = i32::try_from(from).map_err(|_| Errno::EINVAL)?;
    let fd = task.files().insert(file, close_on_exec, from, limit)?;
    Ok(u64::from(fd.0.cast_unsigned()))
}

fn set_owner(file: &OpenFile, owner: i32) -> Result<u64, Errno> {
    if owner == i32::MIN {
        return Err(Errno::EINVAL);
    }
    file.set_owner(owner);
    Ok(0)
}

/// Nobody else holds a lock: the range that is asked about is free.
fn test_lock(task: &CurrentTask<'_>, at: UserAddr) -> Result<u64, Errno> {
    let lock = UserInOut::<Flock>::new(at);
    let mut asked = lock.read(task)?;
    let kind = u32::from(asked.kind.cast_unsigned());
    if kind != F_RDLCK && kind != F_WRLCK {
        return Err(Errno::EINVAL);
    }
    check_range(&asked)?;
    asked.kind = UNLOCKED;
    lock.write(task, &asked)?;
    Ok(0)
}

/// Grants a lock that the descriptor permits (fcntl_setlk in fs/locks.c).
fn set_lock(task: &CurrentTask<'_>, file: &OpenFile, at: UserAddr) -> Result<u64, Errno> {
    let asked = UserInOut::<Flock>::new(at).read(task)?;
    check_range(&asked)?;
    match u32::from(asked.kind.cast_unsigned()) {
        F_RDLCK if !file.flags().reads() => Err(Errno::EBADF),
        F_WRLCK if !file.flags().writes() => Err(Errno::EBADF),
        F_RDLCK | F_WRLCK | F_UNLCK => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// Checks where a lock starts and ends, as far as that depends on the numbers alone (flock64_to_posix_lock).
fn check_range(lock: &Flock) -> Result<(), Errno> {
    match u32::from(lock.whence.cast_unsigned()) {
        SEEK_SET if lock.start < 0 => Err(Errno::EINVAL),
        SEEK_SET if lock.len > 0 && lock.start.checked_add(lock.len - 1).is_none() => Err(Errno::EOVERFLOW),
        SEEK_SET if lock.len < 0 && lock.start.checked_add(lock.len).is_none_or(|start| start < 0) => {
            Err(Errno::EINVAL)
        }
        SEEK_SET | SEEK_CUR | SEEK_END => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// The argument as an unsigned int.
#[expect(clippy::cast_possible_truncation, reason = "Linux ignores the upper half of an int argument")]
fn low(arg: u64) -> u32 {
    arg as u32
}

/// The argument as an int.
fn int(arg: u64) -> i32 {
    low(arg).cast_signed()
}
