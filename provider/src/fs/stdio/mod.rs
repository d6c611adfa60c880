//! The caller's standard descriptors as files inside.
//!
//! [`inherit`] looks at what each of the descriptors 0, 1 and 2 is. A terminal becomes a device of the sandbox
//! ([`crate::fs::tty`]), a memory device such as /dev/null the sandbox's own; a regular file keeps the position that the caller's
//! processes share; pipes and sockets are streams. What a program may do with such a file is what the descriptor permits, also when
//! it opens it anew through /proc/self/fd.

mod file;
mod inode;
mod regular;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use stream::{HostStream, StreamKind, ready_now};

use super::tty::{Attributes, Terminal};
use super::{Fd, FileKind, LastLink, Location, NewNode, OpenFile, OpenFlags, dev, host};
use crate::errno::Errno;
use crate::task::CurrentTask;
use inode::{Backing, HostInode};
use regular::HostRegular;
use rustix::fs::fcntl_getfl;
use rustix::io::fcntl_dupfd_cloexec;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vmm::inherited::standard_descriptors;

/// The descriptors 0, 1 and 2 that the caller has opened, by their numbers.
fn standard() -> impl Iterator<Item = (i32, BorrowedFd<'static>)> {
    let hosts = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    (0..).zip(hosts).zip(standard_descriptors()).filter(|(_, open)| *open).map(|(numbered, _)| numbered)
}

/// Tells whether one of them is a file, with contents at offsets, that may be written.
pub fn hands_output_over() -> bool {
    let is_output = |fd: BorrowedFd<'_>| {
        let writes = fcntl_getfl(fd).is_ok_and(|flags| OpenFlags::from_bits_retain(flags.bits()).writes());
        writes && host::stat(fd).is_ok_and(|stat| matches!(stat.kind, FileKind::Regular | FileKind::BlockDevice))
    };
    standard().any(|(_, fd)| is_output(fd))
}

/// Puts the caller's descriptors 0, 1 and 2 at the same numbers of `task`; what is closed outside is closed inside.
///
/// The view must be mounted: terminals and memory devices are shown as what lies at their path inside.
pub(crate) fn inherit(task: &CurrentTask<'_>) -> Result<(), Errno> {
    for (number, host) in standard() {
        let file = adopt(task, fcntl_dupfd_cloexec(host, 3)?)?;
        task.files().replace(file, false, Fd(number), u64::MAX)?;
    }
    Ok(())
}

/// Puts a terminal of the sandbox's own at the descriptors 0, 1 and 2 of `task`.
pub(crate) fn attach(task: &CurrentTask<'_>, terminal: &Arc<Terminal>) -> Result<(), Errno> {
    let flags = OpenFlags::RDWR;
    let path = [b"/dev/", terminal.name()].concat();
    let location = task.kernel().namespace().walk(task, None, &path, LastLink::Follow)?;
    let file = OpenFile::new(terminal.open(flags, true)?, location, flags);
    for number in 0..3 {
        task.files().replace(Arc::clone(&file), false, Fd(number), u64::MAX)?;
    }
    Ok(())
}

/// Makes an open file of a host descriptor.
pub(crate) fn adopt(task: &CurrentTask<'_>, fd: OwnedFd) -> Result<Arc<OpenFile>, Errno> {
    let flags = OpenFlags::from_bits_retain(fcntl_getfl(&fd)?.bits());
    let stat = host::stat(fd.as_fd())?;
    match stat.kind {
        FileKind::CharDevice if rustix::termios::isatty(&fd) => terminal(task, fd, flags),
        FileKind::CharDevice if let Some(path) = dev::path(stat.rdev) => {
            task.kernel().namespace().open(task, None, &path, flags, 0)
        }
        FileKind::Regular | FileKind::BlockDevice => {
            let name = host_name(&fd);
            Ok(open_file(Backing::Regular(Arc::new(HostRegular::new(fd, flags))), &name, flags))
        }
        kind => {
            let kind = match kind {
                FileKind::Fifo => StreamKind::Pipe,
                FileKind::Socket => StreamKind::Socket,
                _ => StreamKind::Device,
            };
            let name = host_name(&fd);
            Ok(open_file(Backing::Stream(Arc::new(HostStream::new(fd, kind))), &name, flags))
        }
    }
}

/// What the host's /proc/self/fd shows for a descriptor: `pipe:[4]`, or a path.
pub(in crate::fs) fn host_name(fd: &OwnedFd) -> Vec<u8> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::readlink(link, Vec::new()).map_or_else(|_| b"anon_inode:[inherited]".to_vec(), |name| name.into_bytes())
}

fn open_file(backing: Backing, name: &[u8], flags: OpenFlags) -> Arc<OpenFile> {
    let file = backing.inherited();
    let location = Location::anonymous(Arc::new(HostInode::new(backing)), name);
    OpenFile::new(file, location, flags)
}

/// Makes a terminal known to the sandbox and opens it at its path in /dev, so that ttyname(3) finds the same device.
fn terminal(task: &CurrentTask<'_>, fd: OwnedFd, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
    let kernel = task.kernel();
    let terminal = kernel.terminals().add(fd, flags)?;
    let path = [b"/dev/", terminal.name()].concat();
    let location = match kernel.namespace().walk(task, None, &path, LastLink::Follow) {
        Ok(location) => location,
        // Not a pseudo-terminal: devpts does not show it, so it gets a node as the host's devtmpfs has one.
        Err(Errno::ENOENT) => {
            let Attributes { mode, uid, gid } = terminal.attributes();
            let rdev = terminal.rdev();
            let node = NewNode { kind: FileKind::CharDevice, mode, uid, gid, rdev, target: b"" };
            let dev = kernel.namespace().walk(task, None, b"/dev", LastLink::Follow)?;
            dev.inode().as_dir().ok_or(Errno::ENOTDIR)?.create(terminal.name(), &node)?;
            kernel.namespace().walk(task, None, &path, LastLink::Follow)?
        }
        Err(error) => return Err(error),
    };
    Ok(OpenFile::new(terminal.open(flags, true)?, location, flags))
}
