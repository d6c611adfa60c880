//! What can be done to the entries of a host directory.

use super::HostInode;
use super::inode::kept_bits;
use crate::errno::Errno;
use crate::fs::{DirSink, Directory, FileKind, Inode, NewNode, OpenFlags, Recall};
use crate::task::{Credentials, CurrentTask};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::fs::{linkat, mkdirat, mknodat, openat, renameat_with, statx, symlinkat, unlinkat};
use std::any::Any;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

/// Bytes that one host call copies between files.
const COPY_STEP: usize = 1 << 30;

impl HostInode {
    /// Refuses what a view that is read-only, or a name that is hidden, does not permit.
    fn check_change(&self, name: &[u8]) -> Result<(), Errno> {
        if !self.tree.writable {
            return Err(Errno::EROFS);
        }
        let key = self.key();
        if self.tree.hidden.hides_name((key.device, key.inode), name) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// `EBUSY` for an object that leads to something hidden: it is neither moved nor removed.
    fn check_movable(&self) -> Result<(), Errno> {
        let key = self.key();
        if self.tree.hidden.needs((key.device, key.inode)) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Makes a whiteout as overlayfs does: a character device 0:0, which Linux lets everybody make since 5.8.
    pub(in crate::fs) fn make_whiteout(&self, name: &[u8]) -> Result<(), Errno> {
        self.check_change(name)?;
        Ok(mknodat(self.directory_fd()?, name, FileType::CharacterDevice, Mode::empty(), 0)?)
    }

    /// Makes an entry.
    pub(in crate::fs) fn make(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<HostInode>, Errno> {
        self.check_change(name)?;
        let directory = self.directory_fd()?;
        let mode = Mode::from_raw_mode(node.mode & kept_bits(node.kind));
        match node.kind {
            FileKind::Regular => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                drop(openat(directory, name, flags, mode)?);
            }
            FileKind::Directory => mkdirat(directory, name, mode)?,
            FileKind::Symlink => symlinkat(node.target, directory, name)?,
            FileKind::Fifo => mknodat(directory, name, FileType::Fifo, mode, 0)?,
            FileKind::Socket => mknodat(directory, name, FileType::Socket, mode, 0)?,
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Anonymous => return Err(Errno::EPERM),
        }
        let inode = self.child(name)?;
        inode.settle(node.mode, (node.uid, node.gid))?;
        Ok(inode)
    }

    /// Opens, or makes, a directory for the monitor's own use under a name that the view hides.
    pub(in crate::fs) fn private_directory(&self, name: &[u8]) -> Result<Arc<HostInode>, Errno> {
        let directory = self.directory_fd()?;
        match mkdirat(directory, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        HostInode::root(self.tree.clone(), openat(directory, name, flags, Mode::empty())?)
    }

    /// Tells whether [`Self::private_directory`] would find a directory.
    pub(in crate::fs) fn has_private_directory(&self, name: &[u8]) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        self.directory_fd().is_ok_and(|directory| {
            statx(directory, name, flags, StatxFlags::TYPE)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory)
        })
    }

    /// Removes the directory that [`Self::private_directory`] made, if it is empty.
    pub(in crate::fs) fn remove_private_directory(&self, name: &[u8]) -> Result<(), Errno> {
        Ok(unlinkat(self.directory_fd()?, name, AtFlags::REMOVEDIR)?)
    }

    /// The names of all entries, `.` and `..` excluded.
    pub(in crate::fs) fn names(&self) -> Result<Vec<Box<[u8]>>, Errno> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        self.open_listing()?.entries_all(&mut |entry| {
            names.push(entry.name.into());
            true
        })?;
        Ok(names)
    }

    /// Fills this new, empty file with the first `size` bytes of another host file.
    pub(in crate::fs) fn fill(&self, from: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
        let to = self.open_host(OFlags::WRONLY)?;
        let mut offset = 0;
        while offset < size {
            let rest = usize::try_from(size - offset).unwrap_or(usize::MAX).min(COPY_STEP);
            let (mut read, mut written) = (offset, offset);
            let copied = match rustix::fs::copy_file_range(from, Some(&mut read), &to, Some(&mut written), rest) {
                // Between file systems that cannot do it between them, the kernel still can.
                Err(rustix::io::Errno::XDEV | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {
                    let mut position = offset;
                    rustix::fs::seek(&to, rustix::fs::SeekFrom::Start(offset))?;
                    rustix::fs::sendfile(&to, from, Some(&mut position), rest)?
                }
                other => other?,
            };
            if copied == 0 {
                // The file shrank meanwhile; what is missing reads as zeros.
                break;
            }
            offset += u64::try_from(copied).unwrap_or(0);
        }
        Ok(rustix::fs::ftruncate(&to, size)?)
    }

    /// Makes a regular file with no name.
    pub(in crate::fs) fn make_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<HostInode>, Errno> {
        if !self.tree.writable {
            return Err(Errno::EROFS);
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = openat(self.directory_fd()?, ".", flags, Mode::from_raw_mode(node.mode & 0o1777))?;
        let inode = HostInode::root(self.tree.clone(), fd)?;
        inode.settle(node.mode, (node.uid, node.gid))?;
        Ok(inode)
    }
}

fn host(object: &dyn Any) -> Result<&HostInode, Errno> {
    object.downcast_ref::<HostInode>().ok_or(Errno::EXDEV)
}

impl Directory for HostInode {
    fn find(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let child: Arc<dyn Inode> = self.child(name)?;
        Ok(child)
    }

    fn confirm(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        host(inode.as_any()).is_ok_and(|inode| self.still_has(name, inode))
    }

    fn recall(&self, who: &Credentials, name: &[u8], inode: &Arc<dyn Inode>) -> Recall {
        match host(inode.as_any()) {
            Ok(inode) if self.may_recall(who, name, inode) => Recall::Likely,
            _ => Recall::Nothing,
        }
    }

    fn confirm_way(&self, way: &[u8], inode: &Arc<dyn Inode>) -> bool {
        host(inode.as_any()).is_ok_and(|inode| self.still_leads(way, inode))
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let made: Arc<dyn Inode> = self.make(name, node)?;
        Ok(made)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>, Errno> {
        let made: Arc<dyn Inode> = self.make_unnamed(node)?;
        Ok(made)
    }

    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> Result<(), Errno> {
        self.check_change(name)?;
        let inode = host(inode.as_any())?;
        inode.with_fd(|fd| {
            // AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH before Linux 6.10; the magic link does not.
            let link = fd.as_raw_fd().to_string();
            Ok(linkat(&self.tree, link, self.directory_fd()?, name, AtFlags::SYMLINK_FOLLOW)?)
        })
    }

    fn remove(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        self.check_change(name)?;
        if !directory && self.tree.hidden.needs_links() {
            self.child(name)?.check_movable()?;
        }
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(unlinkat(self.directory_fd()?, name, flags)?)
    }

    fn rename(&self, name: &[u8], to: &dyn Directory, to_name: &[u8], flags: u32) -> Result<(), Errno> {
        let to = host(to.as_any())?;
        self.check_change(name)?;
        to.check_change(to_name)?;
        let moved = self.child(name)?;
        moved.check_movable()?;
        let replaced = to.child(to_name).ok();
        if let Some(replaced) = &replaced {
            replaced.check_movable()?;
        }
        let flags = RenameFlags::from_bits_retain(flags);
        renameat_with(self.directory_fd()?, name, to.directory_fd()?, to_name, flags)?;
        moved.moved_to(to, to_name);
        if flags.contains(RenameFlags::EXCHANGE)
            && let Some(other) = replaced
        {
            other.moved_to(self, name);
        }
        Ok(())
    }

    fn list(&self, task: &CurrentTask<'_>, position: u64, sink: &mut dyn DirSink) -> Result<(), Errno> {
        self.open_file(OpenFlags::empty())?.read_dir(task, position, sink)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
