//! /proc/PID/cwd, root, exe and ns.

use super::{Subject, may_look};
use crate::errno::Errno;
use crate::fs::nsfs::{KINDS, Kind, Object};
use crate::fs::pseudo::{Entries, Entry, LinkInode, Super, Target};
use crate::fs::{FileKind, Inode, LinkTarget, Location};
use crate::task::{CurrentTask, Task};
use std::sync::Arc;

/// A link to a place that belongs to a task.
#[derive(Debug)]
pub(super) struct Place {
    subject: Subject,
    which: Which,
}

#[derive(Clone, Copy, Debug)]
enum Which {
    Cwd,
    Root,
    Exe,
}

impl Place {
    /// The working directory.
    pub(super) fn cwd(subject: Subject) -> Self {
        Self { subject, which: Which::Cwd }
    }

    /// The root directory.
    pub(super) fn root(subject: Subject) -> Self {
        Self { subject, which: Which::Root }
    }

    /// The executable.
    pub(super) fn exe(subject: Subject) -> Self {
        Self { subject, which: Which::Exe }
    }

    fn location(&self, reader: &CurrentTask<'_>) -> Result<Location, Errno> {
        let task: Arc<Task> = self.subject.task()?;
        if !may_look(reader, &task) {
            return Err(Errno::EACCES);
        }
        let place = match self.which {
            Which::Cwd => task.fs().map(|context| context.cwd()),
            Which::Root => task.fs().map(|context| context.root()),
            Which::Exe => task
                .mm()
                .and_then(|mm| mm.program())
                .and_then(|program| program.file.as_ref().map(|file| file.location().clone())),
        };
        place.ok_or(Errno::ENOENT)
    }
}

impl Target for Place {
    fn text(&self, reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        self.location(reader).map(|location| location.path())
    }

    fn follow(&self, walker: &CurrentTask<'_>) -> Result<LinkTarget, Errno> {
        self.location(walker).map(LinkTarget::Object)
    }
}

/// The links with the kinds of namespaces they lead to, in the order of the listing.
const NAMESPACES: &[(&str, &str)] = &[
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mnt", "mnt"),
    ("net", "net"),
    ("pid", "pid"),
    ("pid_for_children", "pid"),
    ("time", "time"),
    ("time_for_children", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

/// Where the inode numbers of the links start.
const NAMESPACE_INODES: u64 = 1 << 20;

/// /proc/PID/ns.
#[derive(Debug)]
pub(super) struct Namespaces {
    pub(super) home: Arc<Super>,
    pub(super) subject: Subject,
}

impl Entries for Namespaces {
    fn find(&self, _task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let mut numbered = (0u64..).zip(NAMESPACES);
        let (index, (_, kind)) = numbered.find(|(_, (known, _))| known.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let kind = KINDS.iter().find(|known| known.name == *kind).ok_or(Errno::ENOENT)?;
        let inode = self.subject.inode(NAMESPACE_INODES + index);
        let node = self.home.node_numbered(inode, 0o777, self.subject.owner());
        Ok(LinkInode::new(node, NamespaceLink { subject: self.subject.clone(), kind }))
    }

    fn list(&self, _task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let entries = (0u64..).zip(NAMESPACES).map(|(position, (name, ..))| Entry {
            position,
            name: name.as_bytes().to_vec(),
            inode: self.subject.inode(NAMESPACE_INODES + position),
            kind: FileKind::Symlink,
        });
        Ok(entries.filter(|entry| entry.position >= from).collect())
    }
}

#[derive(Debug)]
struct NamespaceLink {
    subject: Subject,
    kind: &'static Kind,
}

impl NamespaceLink {
    fn object(&self, reader: &CurrentTask<'_>) -> Result<Object, Errno> {
        let task = self.subject.task()?;
        if !may_look(reader, &task) {
            return Err(Errno::EACCES);
        }
        Object::of(&task, self.kind).ok_or(Errno::ENOENT)
    }
}

impl Target for NamespaceLink {
    fn text(&self, reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        self.object(reader).map(|object| object.text())
    }

    fn follow(&self, walker: &CurrentTask<'_>) -> Result<LinkTarget, Errno> {
        self.object(walker).map(|object| LinkTarget::Object(object.place()))
    }
}
