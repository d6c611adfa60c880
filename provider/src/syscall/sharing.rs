//! What tasks share, and ending it: unshare(2), setns(2), kcmp(2).

use super::pidfd::process_of;
use crate::errno::Errno;
use crate::fs::epoll::Epoll;
use crate::fs::nsfs::{self, KINDS, Object};
use crate::fs::{Fd, OpenFile};
use crate::task::{CloneFlags, CurrentTask, Pid, Task};
use crate::user::UserIn;
use std::cmp::Ordering;
use std::sync::Arc;
use vmm::addr::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const CAP_SYS_CHROOT: u32 = 18;
const CAP_SYS_ADMIN: u32 = 21;

/// Makes the caller's own what it shares, as far as it asks for it (ksys_unshare). Memory, dispositions and the process are
/// its own already, or cannot be made so.
pub(super) fn unshare(task: &CurrentTask<'_>, flags: u64) -> Result<(), Errno> {
    let known = CloneFlags::NAMESPACES
        | CloneFlags::THREAD
        | CloneFlags::FS
        | CloneFlags::SIGHAND
        | CloneFlags::VM
        | CloneFlags::FILES
        | CloneFlags::SYSVSEM;
    let flags = CloneFlags::from_bits(flags).filter(|flags| known.contains(*flags)).ok_or(Errno::EINVAL)?;
    let with_user = flags.contains(CloneFlags::NEWUSER);
    let single = flags.intersects(CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM) || with_user;
    if single && task.group().threads().len() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::VM) && task.mm().users() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags.intersects(CloneFlags::SIGHAND | CloneFlags::VM) && task.group().signals().shares_handlers() {
        return Err(Errno::EINVAL);
    }
    let namespaces = task.new_namespaces(flags)?;
    if flags.intersects(CloneFlags::FS | CloneFlags::NEWNS) {
        task.unshare_fs();
    }
    if flags.contains(CloneFlags::NEWNS) {
        let context = task.fs();
        context.mounts().copy(&context)?;
    }
    if flags.contains(CloneFlags::FILES) {
        task.unshare_files()?;
    }
    task.set_namespaces(namespaces);
    Ok(())
}

/// Changes to another namespace, or to those of a process (a pidfd).
pub(super) fn setns(task: &CurrentTask<'_>, fd: Fd, flags: i32) -> Result<(), Errno> {
    let file = task.files().get_any(fd)?;
    let wanted = CloneFlags::from_bits(u64::from(flags.cast_unsigned())).ok_or(Errno::EINVAL)?;
    if let Some(object) = nsfs::of_file(&file) {
        let fits = wanted.is_empty() || wanted == object.flag();
        return if fits { enter(task, object.clone()) } else { Err(Errno::EINVAL) };
    }
    let (process, _) = process_of(task, fd).map_err(|_| Errno::EINVAL)?;
    if wanted.is_empty() || !CloneFlags::NAMESPACES.contains(wanted) {
        return Err(Errno::EINVAL);
    }
    let leader = task.kernel().tasks().get(process).ok_or(Errno::ESRCH)?;
    task.may_attach(&leader)?;
    for kind in KINDS.iter().filter(|kind| wanted.contains(kind.flag)) {
        enter(task, Object::of(&leader, kind).ok_or(Errno::ESRCH)?)?;
    }
    Ok(())
}

/// Enters one namespace (the `install` functions of its kind).
fn enter(task: &CurrentTask<'_>, object: Object) -> Result<(), Errno> {
    let who = task.credentials();
    // A process is not taken into the users it already belongs to (userns_install).
    if object.flag() == CloneFlags::NEWUSER {
        return Err(Errno::EINVAL);
    }
    if !who.has(CAP_SYS_ADMIN) || (object.flag() == CloneFlags::NEWNS && !who.has(CAP_SYS_CHROOT)) {
        return Err(Errno::EPERM);
    }
    let mut namespaces = task.namespaces();
    match object {
        Object::Uts(uts) => namespaces.uts = uts,
        Object::Mounts(mounts) => {
            let context = task.fs();
            // The task's, and ours: nobody else's root may change.
            if Arc::strong_count(&context) > 2 {
                return Err(Errno::EINVAL);
            }
            mounts.enter(&context);
        }
        // The one that it is in.
        Object::Only(_) => {}
    }
    task.set_namespaces(namespaces);
    Ok(())
}

/// Which resource kcmp(2) compares.
const KCMP_FILE: i32 = 0;
const KCMP_VM: i32 = 1;
const KCMP_FILES: i32 = 2;
const KCMP_FS: i32 = 3;
const KCMP_SIGHAND: i32 = 4;
const KCMP_IO: i32 = 5;
const KCMP_SYSVSEM: i32 = 6;
const KCMP_EPOLL_TFD: i32 = 7;

/// `struct kcmp_epoll_slot`: what an epoll watches under one descriptor number, which may have been reused.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct EpollSlot {
    epoll: u32,
    fd: u32,
    /// How many items of that number to pass over.
    skip: u32,
}

/// 0: the same; 1 and 2: in this order, or the other.
pub(super) fn kcmp(
    task: &CurrentTask<'_>,
    first: Pid,
    second: Pid,
    kind: i32,
    first_index: u64,
    second_index: u64,
) -> Result<i32, Errno> {
    let find = |pid| task.kernel().tasks().get(pid).ok_or(Errno::ESRCH);
    let (first, second) = (find(first)?, find(second)?);
    task.may_attach(&first)?;
    task.may_attach(&second)?;
    let order = |a: Option<usize>, b: Option<usize>| match a.cmp(&b) {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    };
    Ok(match kind {
        KCMP_FILE => order(Some(file_of(&first, first_index)?), Some(file_of(&second, second_index)?)),
        KCMP_VM => order(first.mm().map(|it| address(&it)), second.mm().map(|it| address(&it))),
        KCMP_FILES => order(first.files().map(|it| address(&it)), second.files().map(|it| address(&it))),
        KCMP_FS => order(first.fs().map(|it| address(&it)), second.fs().map(|it| address(&it))),
        KCMP_SIGHAND => {
            let handlers = |task: &Task| Some(address(&task.group().signals().handlers()));
            order(handlers(&first), handlers(&second))
        }
        // Nobody has an I/O context or semaphore adjustments of its own.
        KCMP_IO | KCMP_SYSVSEM => 0,
        KCMP_EPOLL_TFD => {
            let slot = UserIn::<EpollSlot>::new(UserAddr(second_index)).read(task)?;
            let file = file_of(&first, first_index)?;
            let epoll = open_file_of(&second, slot.epoll.into())?;
            let watched = Epoll::of(&epoll).ok_or(Errno::EINVAL)?.watched(slot.fd, slot.skip).ok_or(Errno::ENOENT)?;
            order(Some(file), Some(address(&watched)))
        }
        _ => return Err(Errno::EINVAL),
    })
}

fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).addr()
}

fn file_of(task: &Task, index: u64) -> Result<usize, Errno> {
    open_file_of(task, index).map(|file| address(&file))
}

fn open_file_of(task: &Task, index: u64) -> Result<Arc<OpenFile>, Errno> {
    let fd = i32::try_from(index).map_err(|_| Errno::EBADF)?;
    task.files().ok_or(Errno::EBADF)?.get_any(Fd(fd))
}
