//! devpts: the pseudo-terminals that the caller handed over, under the numbers they have outside.

use crate::errno::Errno;
use crate::fs::pseudo::{DeviceInode, DirInode, Entries, Entry, Flavour, Owner, PseudoFs, Super};
use crate::fs::tty::Terminal;
use crate::fs::{FileKind, FileSystem, Inode, Timestamp};
use crate::task::CurrentTask;
use std::sync::Arc;

/// DEVPTS_SUPER_MAGIC.
const MAGIC: u64 = 0x1cd1;

/// Linux numbers devpts's inodes by terminal, from here.
const FIRST_INODE: u64 = 3;

/// Makes the file system to be mounted on /dev/pts.
pub(crate) fn file_system(device: u64, made: Timestamp) -> Arc<dyn FileSystem> {
    let home = Super::new(device, made, Flavour::PTS);
    let node = home.node_numbered(1, 0o755, Owner::ROOT);
    PseudoFs::new(DirInode::new(node, Pts { home }), "devpts", MAGIC)
}

#[derive(Debug)]
struct Pts {
    home: Arc<Super>,
}

impl Pts {
    /// The terminal's number, for one that belongs here.
    fn number(terminal: &Terminal) -> Option<u64> {
        std::str::from_utf8(terminal.name().strip_prefix(b"pts/")?).ok()?.parse().ok()
    }
}

impl Entries for Pts {
    fn find(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let terminals = task.kernel().terminals().all();
        let named = |terminal: &&Arc<Terminal>| terminal.name().strip_prefix(b"pts/") == Some(name);
        let terminal = terminals.iter().find(named).ok_or(Errno::ENOENT)?;
        let number = Self::number(terminal).ok_or(Errno::ENOENT)?;
        let (mode, uid, gid) = terminal.attributes();
        let node = self.home.node_numbered(FIRST_INODE + number, mode, Owner { uid, gid });
        Ok(DeviceInode::new(node, terminal.rdev()))
    }

    fn list(&self, task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let mut numbers: Vec<u64> =
            task.kernel().terminals().all().iter().filter_map(|terminal| Self::number(terminal)).collect();
        numbers.sort_unstable();
        let entries = numbers.into_iter().filter(|number| *number >= from).map(|number| Entry {
            position: number,
            name: number.to_string().into_bytes(),
            inode: FIRST_INODE + number,
            kind: FileKind::CharDevice,
        });
        Ok(entries.collect())
    }
}
