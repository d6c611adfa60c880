//! Descriptors that stand for namespaces: what the links in /proc/PID/ns lead to, see ioctl_ns(2).

use super::{
    AttributeChange, File, FileKind, FsStat, Inode, Location, MountNamespace, OpenFile, OpenFlags, Sink, Source, Stat,
    Timestamp,
};
use crate::errno::Errno;
use crate::task::{CloneFlags, CurrentTask, Resource, Task, UtsNamespace};
use crate::user::UserOut;
use linux_raw_sys::ioctl as number;
use std::any::Any;
use std::sync::{Arc, OnceLock};
use vmm::addr::UserAddr;

/// NSFS_MAGIC (statfs(2)).
const MAGIC: u64 = 0x6e73_6673;

/// A kind of namespace, by its flag of clone(2), its name, and the number of the only one that there is of its kind, if there is only one
/// (include/linux/proc_ns.h).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) flag: CloneFlags,
    pub(crate) name: &'static str,
    pub(crate) only: u64,
}

/// All kinds.
pub(crate) const KINDS: &[Kind] = &[
    Kind { flag: CloneFlags::NEWCGROUP, name: "cgroup", only: 0xEFFF_FFFB },
    Kind { flag: CloneFlags::NEWIPC, name: "ipc", only: 0xEFFF_FFFF },
    Kind { flag: CloneFlags::NEWNS, name: "mnt", only: 0 },
    Kind { flag: CloneFlags::NEWNET, name: "net", only: 0xEFFF_FFF9 },
    Kind { flag: CloneFlags::NEWPID, name: "pid", only: 0xEFFF_FFFC },
    Kind { flag: CloneFlags::NEWTIME, name: "time", only: 0xEFFF_FFFA },
    Kind { flag: CloneFlags::NEWUSER, name: "user", only: 0xEFFF_FFFD },
    Kind { flag: CloneFlags::NEWUTS, name: "uts", only: 0 },
];

/// A namespace, kept as long as somebody has it open.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Mounts(Arc<MountNamespace>),
    Uts(Arc<UtsNamespace>),
    /// The only one of its kind.
    Only(Kind),
}

impl Object {
    /// The one of a kind that a task is in; `None` once it has ended.
    pub(crate) fn of(task: &Task, kind: &Kind) -> Option<Self> {
        let context = task.fs()?;
        let namespaces = task.namespaces();
        Some(match kind.flag {
            CloneFlags::NEWNS => Self::Mounts(context.mounts()),
            CloneFlags::NEWUTS => Self::Uts(namespaces.uts),
            _ => Self::Only(*kind),
        })
    }

    /// Its flag of clone(2).
    pub(crate) fn flag(&self) -> CloneFlags {
        match self {
            Self::Mounts(_) => CloneFlags::NEWNS,
            Self::Uts(_) => CloneFlags::NEWUTS,
            Self::Only(kind) => kind.flag,
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Mounts(namespace) => namespace.id(),
            Self::Uts(namespace) => namespace.number(),
            Self::Only(kind) => kind.only,
        }
    }

    /// As readlink(2) shows it: `mnt:[4026531832]`.
    pub(crate) fn text(&self) -> Vec<u8> {
        let name = KINDS.iter().find(|kind| kind.flag == self.flag()).map_or("", |kind| kind.name);
        format!("{name}:[{}]", self.number()).into_bytes()
    }

    /// The place that a link to it leads to.
    pub(crate) fn place(self) -> Location {
        let text = self.text();
        Location::anonymous(Arc::new(NamespaceInode(self)), &text)
    }
}

/// The namespace that an open file stands for.
pub(crate) fn of_file(file: &OpenFile) -> Option<&Object> {
    file.file().as_any().and_then(|file| file.downcast_ref::<NamespaceFile>()).map(|file| &file.0)
}

#[derive(Debug)]
struct NamespaceInode(Object);

/// When the first was looked at, and the device number of all.
fn device() -> (u64, Timestamp) {
    static DEVICE: OnceLock<(u64, Timestamp)> = OnceLock::new();
    *DEVICE.get_or_init(|| (super::tmp::new_device(), Timestamp::now()))
}

impl Inode for NamespaceInode {
    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn stat(&self) -> Result<Stat, Errno> {
        let (device, made) = device();
        Ok(Stat::without_storage(FileKind::Regular, 0o444, device, self.0.number(), made))
    }

    fn file_system_stat(&self) -> Option<Result<FsStat, Errno>> {
        Some(Ok(FsStat::without_storage(MAGIC)))
    }

    fn change(&self, _change: &AttributeChange) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn open(self: Arc<Self>, _task: &CurrentTask<'_>, _flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Ok(Arc::new(NamespaceFile(self.0.clone())))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct NamespaceFile(Object);

impl NamespaceFile {
    fn open_relative(task: &CurrentTask<'_>, kind: CloneFlags) -> Result<u64, Errno> {
        let kind = KINDS.iter().find(|it| it.flag == kind).ok_or(Errno::EINVAL)?;
        let place = Object::Only(*kind).place();
        let file = task.kernel().namespace().open_at(task, place, OpenFlags::empty())?;
        let fd = task.files().insert(file, true, 0, task.group().limits().soft(Resource::Files))?;
        u64::try_from(fd.0).map_err(|_| Errno::EMFILE)
    }
}

impl File for NamespaceFile {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn ioctl(&self, task: &CurrentTask<'_>, request: u32, arg: u64) -> Result<u64, Errno> {
        let flag = self.0.flag();
        match request {
            number::NS_GET_NSTYPE => Ok(flag.bits()),
            // The users of the whole sandbox own everything in it; those have no owner that one could see.
            number::NS_GET_USERNS if flag == CloneFlags::NEWUSER => Err(Errno::EPERM),
            number::NS_GET_USERNS => Self::open_relative(task, CloneFlags::NEWUSER),
            number::NS_GET_PARENT if matches!(flag, CloneFlags::NEWUSER | CloneFlags::NEWPID) => Err(Errno::EPERM),
            number::NS_GET_PARENT => Err(Errno::EINVAL),
            number::NS_GET_OWNER_UID if flag == CloneFlags::NEWUSER => {
                UserOut::new(UserAddr(arg)).write(task, &0u32).map(|()| 0)
            }
            number::NS_GET_OWNER_UID => Err(Errno::EINVAL),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
