//! fcntl(2), flock(2), and what makes a descriptor of no path.

use super::fs::{file_limit, install, install_from};
use super::sigio;
use crate::errno::Errno;
use crate::fs::notify::DirectoryEvents;
use crate::fs::{Fd, FileKind, LockKind, LockOwner, Mapping, OpenFile, OpenFlags, RangeLock, Seals};
use crate::syscall::args::flags_arg;
use crate::syscall::constants::FcntlCommand;
use crate::task::{CurrentTask, Deadline};
use crate::user::{UserCStr, UserIn, UserInOut, UserOut};
use linux_raw_sys::general as raw;
use std::sync::Arc;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// FD_CLOEXEC.
const FD_CLOEXEC: u64 = 1;
/// F_OFD_GETLK.
const F_OFD_GETLK: u32 = 36;
/// F_OFD_SETLK.
const F_OFD_SETLK: u32 = 37;
/// F_OFD_SETLKW.
const F_OFD_SETLKW: u32 = 38;

/// Whether two descriptors share an open file (include/uapi/linux/fcntl.h: F_LINUX_SPECIFIC_BASE + 3).
const F_DUPFD_QUERY: u32 = 1027;
/// Whether the open of the descriptor made the file (F_LINUX_SPECIFIC_BASE + 4).
const F_CREATED_QUERY: u32 = 1028;
/// F_GET_RW_HINT: how long written data lives.
const F_GET_RW_HINT: u32 = 1035;
/// F_SET_RW_HINT.
const F_SET_RW_HINT: u32 = 1036;
/// The largest hint, RWH_WRITE_LIFE_EXTREME.
const RW_HINTS: u64 = 5;

/// `struct flock`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct UserLock {
    kind: i16,
    whence: i16,
    padding: u32,
    start: i64,
    len: i64,
    pid: i32,
    tail: u32,
}

/// fcntl(2).
pub(super) fn fcntl(task: &CurrentTask<'_>, fd: Fd, command: FcntlCommand, argument: u64) -> Result<u64, Errno> {
    let command = command.0;
    let files = task.files();
    let file = files.get_any(fd)?;
    let at_path = matches!(
        command,
        raw::F_DUPFD | raw::F_DUPFD_CLOEXEC | F_DUPFD_QUERY | raw::F_GETFD | raw::F_SETFD | raw::F_GETFL
    );
    if file.flags().contains(OpenFlags::PATH) && !at_path {
        return Err(Errno::EBADF);
    }
    match command {
        raw::F_DUPFD | raw::F_DUPFD_CLOEXEC => duplicate(task, file, command == raw::F_DUPFD_CLOEXEC, argument),
        F_DUPFD_QUERY => Ok(u64::from(files.get_any(Fd(int(argument)))?.id() == file.id())),
        F_CREATED_QUERY => Ok(u64::from(file.has_created())),
        raw::F_GETFD => Ok(u64::from(files.closes_on_exec(fd)?)),
        raw::F_SETFD => files.set_close_on_exec(fd, argument & FD_CLOEXEC != 0).map(|()| 0),
        raw::F_GETFL => Ok(u64::from(file.flags().bits())),
        raw::F_SETFL => {
            let flags = OpenFlags::from_bits_retain(int(argument).cast_unsigned());
            sigio::set_async(task, &file, fd, flags.contains(OpenFlags::ASYNC), sigio::Unable::Ignore)?;
            file.set_flags(flags).map(|()| 0)
        }
        raw::F_GETLK | F_OFD_GETLK => get_lock(task, &file, argument, command == F_OFD_GETLK),
        raw::F_SETLK | raw::F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => set_lock(task, &file, command, argument),
        raw::F_GETOWN => Ok(i64::from(sigio::owner(&file)).cast_unsigned()),
        raw::F_SETOWN => sigio::set_owner(task, &file, int(argument)).map(|()| 0),
        raw::F_GETOWN_EX => sigio::owner_ex(task, &file, UserOut::new(UserAddr(argument))).map(|()| 0),
        raw::F_SETOWN_EX => sigio::set_owner_ex(task, &file, UserIn::new(UserAddr(argument))).map(|()| 0),
        raw::F_GETSIG => Ok(sigio::signal(&file)),
        raw::F_SETSIG => sigio::set_signal(task, &file, argument).map(|()| 0),
        // Kept by nobody here, as on a file system that ignores the hint.
        F_GET_RW_HINT => UserOut::new(UserAddr(argument)).write(task, &0_u64).map(|()| 0),
        F_SET_RW_HINT => match UserIn::<u64>::new(UserAddr(argument)).read(task)? {
            0..=RW_HINTS => Ok(0),
            _ => Err(Errno::EINVAL),
        },
        raw::F_GETLEASE => {
            let lease = task.kernel().namespace().locks().leases().get(&file);
            Ok(u64::from(lease.map_or(raw::F_UNLCK, raw_kind)))
        }
        raw::F_SETLEASE => {
            let kind = i16::try_from(int(argument)).map_err(|_| Errno::EINVAL).and_then(lock_kind)?;
            task.kernel().namespace().locks().lease(task, &file, fd.0, kind).map(|()| 0)
        }
        raw::F_NOTIFY => {
            let wanted = DirectoryEvents::from_bits_retain(int(argument).cast_unsigned());
            task.kernel().namespace().watches().notify(task, &file, fd.0, wanted).map(|()| 0)
        }
        raw::F_GETPIPE_SZ => super::pipe::size(&file),
        raw::F_SETPIPE_SZ => super::pipe::resize(task, &file, int(argument).cast_unsigned()),
        raw::F_ADD_SEALS => add_seals(task, &file, argument).map(|()| 0),
        raw::F_GET_SEALS => file.file().seals().map(|seals| u64::from(seals.bits())),
        _ => Err(task.unsupported("fcntl: other commands", Errno::EINVAL)),
    }
}

/// F_ADD_SEALS, in the order of checks of memfd_add_seals in mm/memfd.c.
fn add_seals(task: &CurrentTask<'_>, file: &OpenFile, seals: u64) -> Result<(), Errno> {
    let seals = u32::try_from(seals & u64::from(u32::MAX)).unwrap_or_default();
    if !file.flags().writes() {
        return Err(Errno::EPERM);
    }
    let seals = Seals::from_bits(seals).ok_or(Errno::EINVAL)?;
    let Ok(Mapping::Object(object)) = file.file().mapping() else { return Err(Errno::EINVAL) };
    let is_mapped = || task.kernel().tasks().all().iter().filter_map(|task| task.mm()).any(|mm| mm.may_write(&object));
    file.file().add_seals(seals, &is_mapped)
}

/// An argument that the kernel takes for an `int`.
fn int(argument: u64) -> i32 {
    u32::try_from(argument & u64::from(u32::MAX)).unwrap_or_default().cast_signed()
}

fn duplicate(task: &CurrentTask<'_>, file: Arc<OpenFile>, close_on_exec: bool, from: u64) -> Result<u64, Errno> {
    let from = from & u64::from(u32::MAX);
    if from >= file_limit(task) {
        return Err(Errno::EINVAL);
    }
    let from = i32::try_from(from).map_err(|_| Errno::EINVAL)?;
    let fd = install_from(task, file, close_on_exec, from)?;
    u64::try_from(fd.0).map_err(|_| Errno::EBADF)
}

/// The range that a `struct flock` means (flock64_to_posix_lock in fs/locks.c).
fn range(file: &OpenFile, lock: &UserLock, owner: LockOwner, kind: LockKind) -> Result<RangeLock, Errno> {
    let base = match lock.whence {
        0 => 0,
        1 => i64::try_from(file.offset()).map_err(|_| Errno::EOVERFLOW)?,
        2 => i64::try_from(file.location().inode().stat()?.size).map_err(|_| Errno::EOVERFLOW)?,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(lock.start).ok_or(Errno::EOVERFLOW)?;
    let (first, last) = match lock.len {
        0 => (start, i64::MAX),
        len @ 1.. => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start.checked_sub(1).ok_or(Errno::EINVAL)?),
    };
    let (start, end) =
        (u64::try_from(first).map_err(|_| Errno::EINVAL)?, u64::try_from(last).map_err(|_| Errno::EINVAL)?);
    Ok(RangeLock { start, end, kind, owner })
}

/// What l_type asks for; `None`: to unlock.
fn lock_kind(kind: i16) -> Result<Option<LockKind>, Errno> {
    match u32::try_from(kind).map_err(|_| Errno::EINVAL)? {
        raw::F_RDLCK => Ok(Some(LockKind::Shared)),
        raw::F_WRLCK => Ok(Some(LockKind::Exclusive)),
        raw::F_UNLCK => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

fn raw_kind(kind: LockKind) -> u32 {
    if kind == LockKind::Shared { raw::F_RDLCK } else { raw::F_WRLCK }
}

fn owner(task: &CurrentTask<'_>, file: &OpenFile, by_description: bool) -> LockOwner {
    if by_description { LockOwner::Description(file.id()) } else { LockOwner::Process(task.group().pid()) }
}

fn get_lock(task: &CurrentTask<'_>, file: &OpenFile, at: u64, by_description: bool) -> Result<u64, Errno> {
    let at = UserInOut::<UserLock>::new(UserAddr(at));
    let mut lock = at.read(task)?;
    if by_description && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = lock_kind(lock.kind)?.ok_or(Errno::EINVAL)?;
    let wanted = range(file, &lock, owner(task, file, by_description), kind)?;
    match task.kernel().namespace().locks().conflict(file, &wanted) {
        None => lock.kind = i16::try_from(raw::F_UNLCK).unwrap_or_default(),
        Some(held) => {
            let kind = raw_kind(held.kind);
            let end = i64::try_from(held.end).unwrap_or(i64::MAX);
            let start = i64::try_from(held.start).unwrap_or(i64::MAX);
            lock = UserLock {
                kind: i16::try_from(kind).unwrap_or_default(),
                whence: 0,
                start,
                len: if end == i64::MAX { 0 } else { end - start + 1 },
                pid: match held.owner {
                    LockOwner::Process(pid) => pid.0,
                    LockOwner::Description(_) => -1,
                },
                ..lock
            };
        }
    }
    at.write(task, &lock).map(|()| 0)
}

fn set_lock(task: &CurrentTask<'_>, file: &OpenFile, command: u32, at: u64) -> Result<u64, Errno> {
    let lock = UserInOut::<UserLock>::new(UserAddr(at)).read(task)?;
    let by_description = matches!(command, F_OFD_SETLK | F_OFD_SETLKW);
    if by_description && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = owner(task, file, by_description);
    let kind = lock_kind(lock.kind)?;
    let wanted = range(file, &lock, owner, kind.unwrap_or(LockKind::Shared))?;
    let locks = task.kernel().namespace().locks();
    match kind {
        Some(LockKind::Shared) if !file.flags().reads() => return Err(Errno::EBADF),
        Some(LockKind::Exclusive) if !file.flags().writes() => return Err(Errno::EBADF),
        Some(_) => {}
        None => {
            locks.unlock_range(file, wanted);
            return Ok(0);
        }
    }
    if matches!(command, raw::F_SETLK | F_OFD_SETLK) {
        return locks.lock_range(file, wanted).map(|()| 0);
    }
    let waiting = locks.wait_for_range();
    wait(task, || waiting.attempt(file, wanted)).map(|()| 0)
}

/// Tries until a lock is free or a signal comes.
fn wait(task: &CurrentTask<'_>, mut attempt: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    let locks = task.kernel().namespace().locks();
    let wake = task.block_until(Deadline::Never, |waiter| {
        waiter.on_queue(locks.changed());
        match attempt() {
            Err(Errno::EAGAIN) => Ok(None),
            other => other.map(Some),
        }
    })?;
    wake.or_restart()
}

/// flock(2).
pub(super) fn flock(task: &CurrentTask<'_>, fd: Fd, operation: u32) -> Result<(), Errno> {
    const SHARED: u32 = 1;
    const EXCLUSIVE: u32 = 2;
    const NONBLOCKING: u32 = 4;
    const UNLOCK: u32 = 8;
    const MANDATORY: u32 = 32;
    if operation & MANDATORY != 0 {
        // Linux has ignored these since 5.18, whatever else is asked.
        return Ok(());
    }
    let kind = match operation & !NONBLOCKING {
        SHARED => Some(LockKind::Shared),
        EXCLUSIVE => Some(LockKind::Exclusive),
        UNLOCK => None,
        _ => return Err(Errno::EINVAL),
    };
    let file = task.files().get(fd)?;
    let locks = task.kernel().namespace().locks();
    match kind {
        None => {
            locks.unlock_whole(&file);
            Ok(())
        }
        Some(kind) if operation & NONBLOCKING != 0 => locks.lock_whole(&file, kind),
        Some(kind) => wait(task, || locks.lock_whole(&file, kind)),
    }
}

bitflags::bitflags! {
    /// memfd_create(2)'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MemoryFileFlags: u32 {
        /// Close the descriptor on exec.
        const CLOEXEC = 1;
        /// Permit seals.
        const ALLOW_SEALING = 2;
        /// Huge pages; not served.
        const HUGETLB = 4;
        /// Not executable, and sealed so.
        const NOEXEC_SEAL = 8;
        /// Executable.
        const EXEC = 16;
    }
}

flags_arg! {
    MemoryFileFlags => "MFD_";
}

/// memfd_create(2).
pub(super) fn memfd_create(task: &CurrentTask<'_>, name: UserCStr, flags: MemoryFileFlags) -> Result<Fd, Errno> {
    /// Bytes of a name (MFD_NAME_MAX_LEN).
    const NAME_MAX: usize = 249;
    let both = MemoryFileFlags::EXEC | MemoryFileFlags::NOEXEC_SEAL;
    if !MemoryFileFlags::all().contains(flags) || flags.contains(both) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(MemoryFileFlags::HUGETLB) {
        return Err(task.unsupported("memfd_create: MFD_HUGETLB", Errno::EINVAL));
    }
    let name = task.mm().read_cstr(name.0, NAME_MAX + 1)?.ok_or(Errno::EINVAL)?;
    let (mode, seals) = if flags.contains(MemoryFileFlags::NOEXEC_SEAL) {
        (0o666, Seals::EXEC)
    } else if flags.contains(MemoryFileFlags::ALLOW_SEALING) {
        (0o777, Seals::empty())
    } else {
        (0o777, Seals::SEAL)
    };
    let file = task.kernel().namespace().memory_file(task, &name, mode, seals)?;
    debug_assert_eq!(file.location().kind(), FileKind::Regular);
    install(task, file, flags.contains(MemoryFileFlags::CLOEXEC))
}

/// name_to_handle_at(2): no file system of a sandbox's makes handles.
pub(super) fn name_to_handle_at(task: &CurrentTask<'_>) -> Result<(), Errno> {
    Err(task.unsupported("name_to_handle_at", Errno::EOPNOTSUPP))
}
