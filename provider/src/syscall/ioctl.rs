//! ioctl(2): the requests that every file knows; others go to the file ([`crate::fs::File::ioctl`]).

use crate::errno::Errno;
use crate::fs::{Fd, FileKind, OpenFile, OpenFlags};
use crate::task::CurrentTask;
use crate::user::{UserIn, UserOut};
use linux_raw_sys::ioctl::{FIGETBSZ, FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, FIOQSIZE};
use vmm::addr::UserAddr;

/// `FICLONE`, `FICLONERANGE`, `FIDEDUPERANGE`: sharing of extents, which no file system here has.
const CLONE_REQUESTS: [u32; 3] = [0x4004_9409, 0x4020_940d, 0xc018_9436];

/// ioctl(2), in the order of `do_vfs_ioctl` in fs/ioctl.c.
pub(super) fn ioctl(task: &CurrentTask<'_>, fd: Fd, request: u32, arg: UserAddr) -> Result<u64, Errno> {
    let files = task.files();
    let file = files.get(fd)?;
    let kind = file.location().kind();
    match request {
        FIOCLEX => files.set_close_on_exec(fd, true)?,
        FIONCLEX => files.set_close_on_exec(fd, false)?,
        FIONBIO => set_flag(task, &file, OpenFlags::NONBLOCK, arg)?,
        FIOASYNC => return set_async(task, &file, arg),
        FIOQSIZE if matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink) => {
            let size = file.location().inode().stat()?.size;
            UserOut::new(arg).write(task, &size)?;
        }
        FIOQSIZE => return Err(Errno::ENOTTY),
        FIGETBSZ => {
            let block_size = file.location().inode().stat()?.block_size;
            UserOut::new(arg).write(task, &block_size)?;
        }
        _ if CLONE_REQUESTS.contains(&request) => return Err(Errno::EOPNOTSUPP),
        FIONREAD if kind == FileKind::Regular => {
            let left = file.location().inode().stat()?.size.wrapping_sub(file.offset());
            UserOut::new(arg).write(task, &low_word(left))?;
        }
        _ => return file.file().ioctl(task, request, arg.0),
    }
    Ok(0)
}

/// What the kernel stores of a `loff_t` in an `int`.
fn low_word(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}

/// Sets or clears a status flag as the integer at `arg` says.
fn set_flag(task: &CurrentTask<'_>, file: &OpenFile, flag: OpenFlags, arg: UserAddr) -> Result<(), Errno> {
    let on = UserIn::<i32>::new(arg).read(task)? != 0;
    let flags = file.flags();
    file.set_flags(if on { flags | flag } else { flags.difference(flag) })
}

/// FIOASYNC: signals on readiness are not served, so the flag can only stay as it is.
fn set_async(task: &CurrentTask<'_>, file: &OpenFile, arg: UserAddr) -> Result<u64, Errno> {
    let on = UserIn::<i32>::new(arg).read(task)? != 0;
    if on == file.flags().contains(OpenFlags::ASYNC) {
        return Ok(0);
    }
    Err(task.unsupported("ioctl: FIOASYNC", Errno::ENOTTY))
}
