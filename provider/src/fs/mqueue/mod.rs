//! POSIX message queues (mq_overview(7)): a file system whose one directory holds the queues.
//!
//! mq_open and mq_unlink look names up in a mount of their own ([`Queues`]), as Linux's do; /dev/mqueue shows the same directory. A
//! [`Queue`] is what the descriptors of a queue share. Locks: the directory's entries are of rank `Inode`, a queue's state is of rank
//! `Pipe`.

mod directory;
mod inode;
mod limits;
mod notice;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use inode::queue_of;
pub(crate) use limits::{MESSAGE_SIZE_HARD, MESSAGE_SIZE_LEAST, MESSAGES_HARD, PRIORITIES, Settings, Shape};
pub(crate) use notice::{COOKIE, How};
pub(crate) use queue::Queue;

use self::directory::{QueueDirectory, asker};
use self::limits::Limits;
use super::access::{self, Want};
use super::mount::Mount;
use super::{Directory, FileSystem, FsStat, Inode, Location, OpenFile, OpenFlags, Permissions};
use crate::errno::Errno;
use crate::net::Budget;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Pid};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

/// MQUEUE_MAGIC (statfs(2)).
const MAGIC: u64 = 0x1980_0202;
/// What stat(2) shows as st_blksize.
const BLOCK: u32 = 4096;
/// Numbers the objects of all sandboxes' instances.
static DEVICE_INODES: AtomicU64 = AtomicU64::new(1);

/// The file system.
#[derive(Debug)]
struct QueueFs {
    root: Arc<QueueDirectory>,
}

impl FileSystem for QueueFs {
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn type_name(&self) -> &'static str {
        "mqueue"
    }

    fn stat(&self) -> Result<FsStat, Errno> {
        Ok(FsStat { magic: MAGIC, block_size: BLOCK.into(), name_max: 255, ..FsStat::default() })
    }
}

/// The queues of a sandbox.
#[derive(Debug)]
pub struct Queues {
    root: Arc<QueueDirectory>,
    mount: Arc<Mount>,
    /// Processes that may be registered with a queue: their registrations end with them.
    registered: Mutex<Vec<(Pid, Weak<Queue>)>>,
}

impl Queues {
    /// Makes a file system with no queues; `budget` bounds what they take of the monitor's memory.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        let root = QueueDirectory::new(Limits::new(budget));
        let mount = Mount::detached(Arc::new(QueueFs { root: root.clone() }), b"mqueue");
        Self { root, mount, registered: Mutex::new(Rank::Inode, Vec::new()) }
    }

    /// What is mounted at /dev/mqueue.
    pub(crate) fn file_system(&self) -> Arc<dyn FileSystem> {
        self.mount.file_system.clone()
    }

    /// The limits that /proc/sys/fs/mqueue shows.
    pub(crate) fn settings(&self) -> Settings {
        self.root.limits().settings()
    }

    /// Changes the limits; the caller has checked the values.
    pub(crate) fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        self.root.limits().change(change);
    }

    /// Finds a queue (lookup_one_len, then simple_lookup): `EACCES` for what is no name, `ENAMETOOLONG`, `ENOENT`.
    fn find(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if matches!(name, b"." | b"..") || name.contains(&b'/') {
            return Err(Errno::EACCES);
        }
        access::check_inode(&task.credentials(), self.root.as_ref(), Want::EXECUTE)?;
        self.root.find(name)
    }

    fn place(&self, name: &[u8], inode: Arc<dyn Inode>) -> Location {
        Location::new(self.mount.clone(), self.mount.root.adopt(name, inode))
    }

    /// Opens a queue as mq_open(2) does, and makes it if that is asked for; the umask is applied here.
    pub(crate) fn open(
        &self,
        task: &CurrentTask<'_>,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        shape: Option<Shape>,
    ) -> Result<Arc<OpenFile>, Errno> {
        let who = task.credentials();
        loop {
            let found = match self.find(task, name) {
                Err(Errno::ENOENT) if flags.contains(OpenFlags::CREAT) => None,
                other => Some(other?),
            };
            let made = found.is_none();
            let inode: Arc<dyn Inode> = match found {
                None => {
                    access::check_inode(&who, self.root.as_ref(), Want::WRITE | Want::EXECUTE)?;
                    let mode = mode & 0o7777 & !task.fs().umask();
                    let permissions = Permissions { mode, uid: who.fsuid, gid: who.fsgid };
                    match self.root.make(name, permissions, asker(task), shape) {
                        // Somebody was faster: it is there now.
                        Err(Errno::EEXIST) => continue,
                        made => made?,
                    }
                }
                Some(inode) => {
                    if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) {
                        return Err(Errno::EEXIST);
                    }
                    let want = match flags.bits() & 3 {
                        0 => Want::READ,
                        1 => Want::WRITE,
                        2 => Want::READ | Want::WRITE,
                        _ => return Err(Errno::EINVAL),
                    };
                    access::check_inode(&who, inode.as_ref(), want)?;
                    inode
                }
            };
            let file = inode.clone().open(task, flags)?;
            let file = OpenFile::new(file, self.place(name, inode), flags);
            if made {
                file.note_created();
            }
            return Ok(file);
        }
    }

    /// Removes a name as mq_unlink(2) does: `ENOENT`, `EPERM` if it is somebody else's. The queue lives on while it is open.
    pub(crate) fn unlink(&self, task: &CurrentTask<'_>, name: &[u8]) -> Result<(), Errno> {
        let victim = self.find(task, name)?;
        let who = task.credentials();
        let directory = self.root.permissions()?;
        access::check_inode(&who, self.root.as_ref(), Want::WRITE | Want::EXECUTE)?;
        access::check_sticky(&who, directory, victim.permissions()?)?;
        self.root.remove(name, false)?;
        self.mount.root.removed(name);
        Ok(())
    }

    /// Registers the caller's process with a queue; `EBUSY`.
    pub(crate) fn register(&self, task: &CurrentTask<'_>, queue: &Arc<Queue>, how: How) -> Result<(), Errno> {
        queue.register(task, how)?;
        let mut registered = self.registered.lock();
        registered.retain(|(_, queue)| queue.upgrade().is_some_and(|queue| queue.is_registered()));
        registered.push((task.group().pid(), Arc::downgrade(queue)));
        Ok(())
    }

    /// A process has ended, and its registrations with it.
    pub(crate) fn process_ended(&self, process: Pid) {
        let ended: Vec<Weak<Queue>> = {
            let mut registered = self.registered.lock();
            let ended = registered.iter().filter(|(owner, _)| *owner == process).map(|(_, queue)| queue.clone());
            let ended = ended.collect();
            registered.retain(|(owner, _)| *owner != process);
            ended
        };
        for queue in ended.iter().filter_map(Weak::upgrade) {
            queue.unregister(process);
        }
    }
}
