//! devpts: the pseudo-terminals. Those that the caller handed over have the numbers that they have outside; new ones the lowest free.

use super::{MULTIPLEXER, TTY_AUX_MAJOR};
use crate::errno::Errno;
use crate::fs::pseudo::{DeviceInode, DirInode, Entries, Entry, Flavour, Owner, PseudoFs, Super};
use crate::fs::tty::{Attributes, Terminal};
use crate::fs::{FileKind, FileSystem, Inode, Timestamp};
use crate::task::CurrentTask;
use rustix::fs::makedev;
use std::sync::Arc;

/// DEVPTS_SUPER_MAGIC.
const MAGIC: u64 = 0x1cd1;

/// The root directory's number.
const ROOT_INODE: u64 = 1;
/// The number of `ptmx`.
const MULTIPLEXER_INODE: u64 = 2;
/// Linux numbers the terminals' inodes by terminal, from here.
const FIRST_INODE: u64 = 3;

/// Makes the file system to be mounted on /dev/pts.
pub(crate) fn file_system(device: u64, made: Timestamp) -> Arc<dyn FileSystem> {
    let home = Super::new(device, made, Flavour::PTS);
    let node = home.node_numbered(ROOT_INODE, 0o755, Owner::ROOT);
    // Nobody may open it there (ptmxmode=000): /dev/ptmx is for everybody.
    let multiplexer =
        DeviceInode::new(home.node_numbered(MULTIPLEXER_INODE, 0, Owner::ROOT), makedev(TTY_AUX_MAJOR, MULTIPLEXER));
    PseudoFs::new(DirInode::new(node, Pts { home, multiplexer }), "devpts", MAGIC)
}

#[derive(Debug)]
struct Pts {
    home: Arc<Super>,
    multiplexer: Arc<dyn Inode>,
}

/// Linux takes a terminal's number as its name in this form only.
fn named(name: &[u8]) -> Option<u32> {
    let number: u32 = std::str::from_utf8(name).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == name).then_some(number)
}

impl Pts {
    fn node(&self, terminal: &Terminal, number: u32) -> Arc<dyn Inode> {
        terminal.node(|| {
            let Attributes { mode, uid, gid } = terminal.attributes();
            let node = self.home.node_numbered(FIRST_INODE + u64::from(number), mode, Owner { uid, gid });
            DeviceInode::new(node, terminal.rdev())
        })
    }
}

impl Entries for Pts {
    fn find(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if name == b"ptmx" {
            return Ok(Arc::clone(&self.multiplexer));
        }
        let number = named(name).ok_or(Errno::ENOENT)?;
        let terminals = task.kernel().terminals().all();
        let terminal = terminals.iter().find(|terminal| terminal.number() == Some(number)).ok_or(Errno::ENOENT)?;
        Ok(self.node(terminal, number))
    }

    fn list(&self, task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let mut numbers: Vec<u32> =
            task.kernel().terminals().all().iter().filter_map(|terminal| terminal.number()).collect();
        numbers.sort_unstable();
        let multiplexer =
            Entry { position: 0, name: b"ptmx".to_vec(), inode: MULTIPLEXER_INODE, kind: FileKind::CharDevice };
        let terminals = numbers.into_iter().map(|number| Entry {
            position: u64::from(number) + 1,
            name: number.to_string().into_bytes(),
            inode: FIRST_INODE + u64::from(number),
            kind: FileKind::CharDevice,
        });
        Ok(std::iter::once(multiplexer).chain(terminals).filter(|entry| entry.position >= from).collect())
    }
}
