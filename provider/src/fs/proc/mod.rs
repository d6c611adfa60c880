//! procfs, see proc(5): the sandbox's processes, and what programs ask about the machine.
//!
//! A file is a function that renders text: [`system`] has those about the whole sandbox, [`sysctl`] the settings below /proc/sys, and
//! [`task`] those about one process or thread. What is shown is the sandbox's own: its memory limit, its CPUs, its mounts. Of
//! the host only the processor's description and the load appear.

mod settings;
mod sysctl;
mod system;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use task::process_of_directory;

use super::pseudo::{
    DirInode, Entries, Entry, Flavour, Lazy, LinkInode, Look, Owner, PseudoFs, Seeks, Super, Target, grow,
};
use super::{FileKind, FileSystem, Inode, Timestamp};
use crate::errno::Errno;
use crate::task::{CurrentTask, Pid};
use std::sync::Arc;

/// PROC_SUPER_MAGIC.
const MAGIC: u64 = 0x9fa0;
/// The root's inode number (PROC_ROOT_INO).
const ROOT_INODE: u64 = 1;
/// Where processes start in the root's listing (FIRST_PROCESS_ENTRY); `self` and `thread-self` come right before.
const FIRST_PROCESS: u64 = 258;

/// Makes the file system to be mounted on /proc.
pub(crate) fn file_system(device: u64, made: Timestamp) -> Arc<dyn FileSystem> {
    let home = Super::new(device, made, Flavour::PROC);
    let above = Arc::clone(&home);
    let tree = Lazy::new(move || {
        let look = Look { seeks: Seeks::Sequence, directory_mode: 0o555 };
        let mut tree = grow(&above, look, &system::leaves());
        let settings = Look { seeks: Seeks::Sized(0), ..look };
        tree.add("sys", DirInode::new(above.node(0o555), grow(&above, settings, &sysctl::leaves())));
        tree.sort_as_procfs();
        tree
    });
    let self_link: Arc<dyn Inode> = LinkInode::new(home.node(0o777), SelfLink::Process);
    let thread_link: Arc<dyn Inode> = LinkInode::new(home.node(0o777), SelfLink::Thread);
    let node = home.node_numbered(ROOT_INODE, 0o555, Owner::ROOT);
    let root = DirInode::new(node, Root { home, tree, links: [("self", self_link), ("thread-self", thread_link)] });
    PseudoFs::new(root, "proc", MAGIC)
}

/// /proc itself.
#[derive(Debug)]
struct Root {
    home: Arc<Super>,
    tree: Lazy,
    links: [(&'static str, Arc<dyn Inode>); 2],
}

impl Entries for Root {
    fn find(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if let Some((_, link)) = self.links.iter().find(|(known, _)| known.as_bytes() == name) {
            return Ok(Arc::clone(link));
        }
        let Some(tid) = parse_pid(name) else { return self.tree.find(task, name) };
        // As on Linux every thread has a directory here; only processes are listed.
        let found = task.kernel().tasks().get(tid).ok_or(Errno::ENOENT)?;
        Ok(task::process_directory(&self.home, &found))
    }

    fn list(&self, task: &CurrentTask<'_>, from: u64) -> Result<Vec<Entry>, Errno> {
        let mut entries = if from < FIRST_PROCESS { self.tree.list(task, from)? } else { Vec::new() };
        for (position, (name, link)) in (FIRST_PROCESS - 2..).zip(&self.links).filter(|(at, _)| *at >= from) {
            let inode = link.stat()?.inode;
            entries.push(Entry { position, name: name.as_bytes().to_vec(), inode, kind: FileKind::Symlink });
        }
        for found in task.kernel().tasks().all() {
            let pid = found.group().pid();
            let position = FIRST_PROCESS + u64::try_from(pid.0).unwrap_or_default();
            if found.tid() == pid && position >= from {
                let inode = task::directory_inode(&found);
                let name = pid.0.to_string().into_bytes();
                entries.push(Entry { position, name, inode, kind: FileKind::Directory });
            }
        }
        Ok(entries)
    }

    fn links(&self) -> u64 {
        self.tree.links()
    }
}

/// Reads a number as procfs does: decimal, no sign, no leading zero.
fn parse_pid(name: &[u8]) -> Option<Pid> {
    if name.first() == Some(&b'0') || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok().map(Pid)
}

/// /proc/self and /proc/thread-self.
#[derive(Clone, Copy, Debug)]
enum SelfLink {
    Process,
    Thread,
}

impl Target for SelfLink {
    fn text(&self, reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
        let (pid, tid) = (reader.group().pid().0, reader.tid().0);
        Ok(match self {
            Self::Process => pid.to_string(),
            Self::Thread => format!("{pid}/task/{tid}"),
        }
        .into_bytes())
    }
}
