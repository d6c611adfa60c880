//! /proc/PID/fd and /proc/PID/fdinfo.

use super::{FD_INODES, FDINFO_INODES, Subject, may_look};
use crate::errno::Errno;
use crate::fs::pseudo::{Entries, Entry, LinkInode, Seeks, Super, Target, Text, TextInode};
use crate::fs::{Fd, FdTable, FileKind, Inode, LinkTarget, OpenFile, OpenFlags};
use crate::task::CurrentTask;
use std::sync::Arc;

/// What stat(2) shows as a descriptor link's size.
const LINK_SIZE: u64 = 64;

/// Which of the two directories it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// fd: links to the open files.
    Files,
    /// fdinfo: offsets and flags.
    Details,
}

/// One of the two directories.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) home: Arc<Super>,
    pub(super) subject: Subject,
    pub(super) shows: Shows,
}

impl Descriptors {
    /// The task's descriptors; `None` once it has exited.
    fn table(&self, reader: &CurrentTask<'_>) -> Result<Option<Arc<FdTable>>, Errno> {
        let task = self.subject.task().map_err(|_| Errno::ENOENT)?;
        if may_look(reader, &task) { Ok(task.files()) } else { Err(Errno::EACCES) }
    }

    fn inode(&self, fd: Fd) -> u64 {
        let base = if self.shows == Shows::Files { FD_INODES } else { FDINFO_INODES };
        self.subject.inode(base + u64::try_from(fd.0).unwrap_or_default())
    }
}

impl Entries for Descriptors {
    fn find(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let fd = parse_fd(name).ok_or(Errno::ENOENT)?;
        let table = self.table(task)?.ok_or(Errno::ENOENT)?;
        let file = table.get_any(fd).map_err(|_| Errno::ENOENT)?;
        let (owner, subject) = (self.subject.owner(), self.subject.clone());
        Ok(match self.shows {
            Shows::Files => {
                let mode = link_mode(file.flags());
                LinkInode::new(self.home.node_numbered(self.inode(fd), mode, owner), Descriptor { subject, fd })
            }
            Shows::Details => {
                let node = self.home.node_numbered(self.inode(fd), 0o400, owner);
                TextInode::new(node, Seeks::Sequence, Descriptor { subject, fd })
            }
        })
    }

    fn list(&self, task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let numbers = self.table(task)?.map(|table| table.numbers()).unwrap_or_default();
        let kind = if self.shows == Shows::Files { FileKind::Symlink } else { FileKind::Regular };
        let entries = numbers.into_iter().map(|fd| Entry {
            position: u64::try_from(fd.0).unwrap_or_default(),
            name: fd.0.to_string().into_bytes(),
            inode: self.inode(fd),
            kind,
        });
        Ok(entries.filter(|entry| entry.position >= from).collect())
    }

    /// Linux 6.2 and later show the number of open descriptors.
    fn size(&self) -> u64 {
        let open = || u64::try_from(self.subject.task().ok()?.files()?.numbers().len()).ok();
        if self.shows == Shows::Files { open().unwrap_or_default() } else { 0 }
    }
}

fn parse_fd(name: &[u8]) -> Option<Fd> {
    let plain = name == b"0" || (name.first() != Some(&b'0') && name.iter().all(u8::is_ascii_digit));
    if plain { std::str::from_utf8(name).ok()?.parse().ok().map(Fd) } else { None }
}

/// The link's permission bits tell how the file was opened.
fn link_mode(flags: OpenFlags) -> u32 {
    let read = if flags.reads() { 0o500 } else { 0 };
    let write = if flags.writes() { 0o300 } else { 0 };
    read | write
}

/// A descriptor of a task.
#[derive(Debug)]
struct Descriptor {
    subject: Subject,
    fd: Fd,
}

impl Descriptor {
    /// The table and the open file; `ENOENT` once either is gone.
    fn file(&self) -> Result<(Arc<FdTable>, Arc<OpenFile>), Errno> {
        let table = self.subject.task().ok().and_then(|task| task.files()).ok_or(Errno::ENOENT)?;
        let file = table.get_any(self.fd).map_err(|_| Errno::ENOENT)?;
        Ok((table, file))
    }

    /// Checks that `looker` may know what the task has open.
    fn check(&self, looker: &CurrentTask<'_>) -> Result<(), Errno> {
        let task = self.subject.task().map_err(|_| Errno::ENOENT)?;
        if may_look(looker, &task) { Ok(()) } else { Err(Errno::EACCES) }
    }
}

impl Target for Descriptor {
    fn text(&self, reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        self.check(reader)?;
        Ok(self.file()?.1.location().path())
    }

    fn follow(&self, walker: &CurrentTask<'_>) -> Result<LinkTarget, Errno> {
        self.check(walker)?;
        Ok(LinkTarget::Object(self.file()?.1.location().clone()))
    }

    fn size(&self) -> u64 {
        LINK_SIZE
    }
}

impl Text for Descriptor {
    fn render(&self, _reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        let (table, file) = self.file()?;
        let close_on_exec =
            if table.closes_on_exec(self.fd).unwrap_or_default() { OpenFlags::CLOEXEC } else { OpenFlags::empty() };
        let flags = (file.flags() | close_on_exec).bits();
        let mount = file.location().mount().map_or(0, |mount| mount.id);
        let inode = file.location().inode().stat()?.inode;
        Ok(format!(
            "pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{inode}\n{}",
            file.offset(),
            file.file().fd_info()
        )
        .into_bytes())
    }

    fn permit(&self, opener: &CurrentTask<'_>) -> Result<(), Errno> {
        self.check(opener)
    }
}
