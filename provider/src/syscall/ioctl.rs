//! ioctl(2): the requests that every file knows; others go to the file ([`crate::fs::File::ioctl`]).

use super::{fiemap, sigio};
use crate::errno::Errno;
use crate::fs::{Fd, FileKind, OpenFile, OpenFlags};
use crate::task::CurrentTask;
use crate::user::{UserIn, UserOut};
use linux_raw_sys::ioctl::{
    FIGETBSZ, FIOASYNC, FIOCLEX, FIOGETOWN, FIONBIO, FIONCLEX, FIONREAD, FIOQSIZE, FIOSETOWN, SIOCGPGRP, SIOCSPGRP,
};
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
        FIOASYNC => {
            let on = UserIn::<i32>::new(arg).read(task)? != 0;
            sigio::set_async(task, &file, fd, on, sigio::Unable::Refuse)?;
        }
        FIOQSIZE if matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink) => {
            let size = file.location().inode().stat()?.size;
            UserOut::new(arg).write(task, &size)?;
        }
        FIOQSIZE => return Err(Errno::ENOTTY),
        FIGETBSZ => {
            let block_size = file.location().inode().stat()?.block_size;
            UserOut::new(arg).write(task, &block_size)?;
        }
        FIOSETOWN | SIOCSPGRP if kind == FileKind::Socket => {
            sigio::set_owner(task, &file, UserIn::<i32>::new(arg).read(task)?)?;
        }
        FIOGETOWN | SIOCGPGRP if kind == FileKind::Socket => UserOut::new(arg).write(task, &sigio::owner(&file))?,
        fiemap::REQUEST => fiemap::extents(task, &file, arg)?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, config, fixture_with};
    use linux_raw_sys::general::__NR_ioctl;

    /// A sandbox with /proc/version at descriptor 3, /dev/null at 4 and /dev at 5; and its scratch memory.
    fn scene() -> (Fixture, u64) {
        let mut fixture = fixture_with(config());
        let at = fixture.allocate(4096);
        let task = fixture.current();
        for (fd, path) in [(3, "/proc/version"), (4, "/dev/null"), (5, "/dev")] {
            let file = task.kernel().namespace().open(&task, None, path.as_bytes(), OpenFlags::empty(), 0).unwrap();
            task.files().replace(file, false, Fd(fd), 10).unwrap();
        }
        (fixture, at.0)
    }

    fn value(fixture: &Fixture, at: u64) -> u32 {
        fixture.task.mm().unwrap().load_u32(UserAddr(at)).unwrap()
    }

    #[test]
    fn requests_that_every_file_knows() {
        let (mut fixture, at) = scene();
        let mut call = |fd: u64, request: u32, arg: u64| fixture.returned(__NR_ioctl, &[fd, request.into(), arg]);
        assert_eq!(call(4, FIOCLEX, 0), Ok(0));
        assert_eq!(call(9, FIOCLEX, 0), Err(Errno::EBADF));
        assert_eq!(call(4, FIONBIO, 8), Err(Errno::EFAULT));
        assert_eq!(call(4, FIGETBSZ, at), Ok(0));
        assert_eq!(call(4, FIOQSIZE, at), Err(Errno::ENOTTY));
        assert_eq!(call(5, FIOQSIZE, at), Ok(0));
        assert_eq!(call(3, 0x5401, at), Err(Errno::ENOTTY));
        assert_eq!(call(3, 0x4004_9409, 4), Err(Errno::EOPNOTSUPP));
        assert_eq!(call(3, FIONREAD, at), Ok(0));
        assert_eq!(call(5, FIONREAD, at), Err(Errno::ENOTTY));
        assert_eq!(value(&fixture, at), 0);
        assert_eq!(fixture.task.files().unwrap().closes_on_exec(Fd(4)), Ok(true));
    }

    #[test]
    fn non_blocking_mode_follows_the_integer() {
        let (mut fixture, at) = scene();
        for (on, expected) in [(1u32, true), (0, false)] {
            fixture.task.mm().unwrap().write(UserAddr(at), &on.to_ne_bytes()).unwrap();
            assert_eq!(fixture.returned(__NR_ioctl, &[4, FIONBIO.into(), at]), Ok(0));
            let file = fixture.task.files().unwrap().get(Fd(4)).unwrap();
            assert_eq!(file.flags().contains(OpenFlags::NONBLOCK), expected);
        }
    }
}
