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

pub(crate) use stream::{HostStream, StreamKind};

use super::tty::{Attributes, Terminal};
use super::{Fd, FileKind, LastLink, Location, NewNode, OpenFile, OpenFlags, dev};
use crate::errno::Errno;
use crate::task::CurrentTask;
use inode::{Backing, HostInode};
use regular::HostRegular;
use rustix::fs::{FileType, fcntl_getfl, fstat};
use rustix::io::fcntl_dupfd_cloexec;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use vmm::inherited::standard_descriptors;

/// Puts the caller's descriptors 0, 1 and 2 at the same numbers of `task`; what is closed outside is closed inside.
///
/// The view must be mounted: terminals and memory devices are shown as what lies at their path inside.
pub(crate) fn inherit(task: &CurrentTask<'_>) -> Result<(), Errno> {
    let (input, output, error) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    let hosts = [input.as_fd(), output.as_fd(), error.as_fd()];
    for ((number, host), open) in (0..).zip(hosts).zip(standard_descriptors()) {
        if open {
            let file = adopt(task, fcntl_dupfd_cloexec(host, 3)?)?;
            task.files().replace(file, false, Fd(number), u64::MAX)?;
        }
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
    let stat = fstat(&fd)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice if rustix::termios::isatty(&fd) => terminal(task, fd, flags),
        FileType::CharacterDevice if let Some(path) = dev::path(stat.st_rdev) => {
            task.kernel().namespace().open(task, None, &path, flags, 0)
        }
        FileType::RegularFile | FileType::BlockDevice => {
            let name = host_name(&fd);
            Ok(open_file(Backing::Regular(Arc::new(HostRegular::new(fd, flags))), &name, flags))
        }
        kind => {
            let kind = match kind {
                FileType::Fifo => StreamKind::Pipe,
                FileType::Socket => StreamKind::Socket,
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
