//! /proc/PID/attr: security modules' labels. There is no such module, so nothing can be read.

use super::Subject;
use crate::errno::Errno;
use crate::fs::pseudo::{Entries, Entry, Seeks, Super, Text, TextInode};
use crate::fs::{FileKind, Inode};
use crate::task::CurrentTask;
use std::sync::Arc;

/// The names with their permission bits.
const NAMES: &[(&str, u32)] = &[
    ("current", 0o666),
    ("prev", 0o444),
    ("exec", 0o666),
    ("fscreate", 0o666),
    ("keycreate", 0o666),
    ("sockcreate", 0o666),
];
/// Where their inode numbers start.
const INODES: u64 = (1 << 20) + (1 << 10);

/// The directory.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) home: Arc<Super>,
    pub(super) subject: Subject,
}

/// One of its files.
#[derive(Debug)]
struct Label;

impl Text for Label {
    fn render(&self, _reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    fn store(&self, _writer: &CurrentTask<'_>, _bytes: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}

impl Entries for Labels {
    fn find(&self, _task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = (0_u64..).zip(NAMES).find(|(_, (known, _))| known.as_bytes() == name);
        let (index, (_, mode)) = found.ok_or(Errno::ENOENT)?;
        let node = self.home.node_numbered(self.subject.inode(INODES + index), *mode, self.subject.owner());
        Ok(TextInode::new(node, Seeks::Sized(0), Label))
    }

    fn list(&self, _task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let entries = (0_u64..).zip(NAMES).map(|(position, (name, _))| Entry {
            position,
            name: name.as_bytes().to_vec(),
            inode: self.subject.inode(INODES + position),
            kind: FileKind::Regular,
        });
        Ok(entries.filter(|entry| entry.position >= from).collect())
    }
}
