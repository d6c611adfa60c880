//! Mounting by descriptors: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2), fsconfig(2), fsmount(2).

use super::fs::{AtFlags, install, locate};
use super::mount::check_may_mount;
use crate::errno::Errno;
use crate::fs::{
    Depth, Fd, File, LastLink, Layer, Location, MadeRequest, MountFlags, MountRequest, OpenFile, OpenFlags,
    Propagation, Sink, Source, open_anonymous,
};
use crate::sync::{Mutex, Rank};
use crate::syscall::args::flags_arg;
use crate::task::CurrentTask;
use crate::user::{PATH_MAX, UserCStr, UserIn};
use std::any::Any;
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// open_tree(2)'s flags and, but for CLONE, mount_setattr(2)'s.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TreeFlags: u32 {
        /// Copy what is there.
        const CLONE = 1;
        /// Do not follow a last symbolic link.
        const SYMLINK_NOFOLLOW = 0x100;
        /// Mount nothing on the way.
        const NO_AUTOMOUNT = 0x800;
        /// An empty path means the descriptor's own object.
        const EMPTY_PATH = 0x1000;
        /// With all below it.
        const RECURSIVE = 0x8000;
        /// Close on exec.
        const CLOEXEC = 0x8_0000;
    }

    /// move_mount(2)'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MoveFlags: u32 {
        /// Follow a last symbolic link of the source.
        const F_SYMLINKS = 0x1;
        /// Mount what is on the way to it.
        const F_AUTOMOUNTS = 0x2;
        /// The source is the descriptor itself.
        const F_EMPTY_PATH = 0x4;
        /// Follow a last symbolic link of the target.
        const T_SYMLINKS = 0x10;
        /// Mount what is on the way to it.
        const T_AUTOMOUNTS = 0x20;
        /// The target is the descriptor itself.
        const T_EMPTY_PATH = 0x40;
        /// Take over the source's peers.
        const SET_GROUP = 0x100;
        /// Put it beneath what is there.
        const BENEATH = 0x200;
    }

    /// What holds for a mount (MOUNT_ATTR_*).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AttributeFlags: u32 {
        /// Read-only.
        const RDONLY = 0x1;
        /// No set-id bits.
        const NOSUID = 0x2;
        /// No devices.
        const NODEV = 0x4;
        /// No programs.
        const NOEXEC = 0x8;
        /// No access times.
        const NOATIME = 0x10;
        /// All access times.
        const STRICTATIME = 0x20;
        /// The rest of the field of access times.
        const ATIME_REST = 0x40;
        /// No access times of directories.
        const NODIRATIME = 0x80;
        /// Users are mapped.
        const IDMAP = 0x10_0000;
        /// No symbolic links.
        const NOSYMFOLLOW = 0x20_0000;
    }
}

flags_arg! {
    TreeFlags => "OPEN_TREE_";
    MoveFlags => "MOVE_MOUNT_";
    AttributeFlags => "MOUNT_ATTR_";
}

/// The field of access times (MOUNT_ATTR__ATIME).
const TIMES: AttributeFlags =
    AttributeFlags::NOATIME.union(AttributeFlags::STRICTATIME).union(AttributeFlags::ATIME_REST);

/// The place that a call with such flags means.
fn place(task: &CurrentTask<'_>, at: Fd, path: UserCStr, follow: bool, empty: bool) -> Result<Location, Errno> {
    let flags = if empty { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let last = if follow { LastLink::Follow } else { LastLink::Keep };
    locate(task, at, path, flags, last)
}

/// open_tree(2).
pub(super) fn open_tree(task: &CurrentTask<'_>, at: Fd, path: UserCStr, flags: TreeFlags) -> Result<Fd, Errno> {
    let recursive = flags.contains(TreeFlags::RECURSIVE);
    let clones = flags.contains(TreeFlags::CLONE);
    if !TreeFlags::all().contains(flags) || (recursive && !clones) {
        return Err(Errno::EINVAL);
    }
    if clones {
        check_may_mount(task)?;
    }
    let follow = !flags.contains(TreeFlags::SYMLINK_NOFOLLOW);
    let place = place(task, at, path, follow, flags.contains(TreeFlags::EMPTY_PATH))?;
    let namespace = task.kernel().namespace();
    let file = if clones {
        namespace.open_copy(task, &place, if recursive { Depth::Tree } else { Depth::One })?
    } else {
        namespace.open_place(place, OpenFlags::PATH)?
    };
    install(task, file, flags.contains(TreeFlags::CLOEXEC))
}

/// move_mount(2).
pub(super) fn move_mount(
    task: &CurrentTask<'_>,
    from_at: Fd,
    from: UserCStr,
    to_at: Fd,
    to: UserCStr,
    flags: MoveFlags,
) -> Result<(), Errno> {
    check_may_mount(task)?;
    if !MoveFlags::all().contains(flags) || flags.contains(MoveFlags::BENEATH | MoveFlags::SET_GROUP) {
        return Err(Errno::EINVAL);
    }
    let source =
        place(task, from_at, from, flags.contains(MoveFlags::F_SYMLINKS), flags.contains(MoveFlags::F_EMPTY_PATH))?;
    let target =
        place(task, to_at, to, flags.contains(MoveFlags::T_SYMLINKS), flags.contains(MoveFlags::T_EMPTY_PATH))?;
    if flags.contains(MoveFlags::SET_GROUP) {
        return Err(task.unsupported("move_mount: MOVE_MOUNT_SET_GROUP", Errno::EINVAL));
    }
    let layer = if flags.contains(MoveFlags::BENEATH) { Layer::Beneath } else { Layer::OnTop };
    task.kernel().namespace().move_mount(task, &source, &target, layer)
}

/// `struct mount_attr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn attribute_flags(raw: u64) -> Result<AttributeFlags, Errno> {
    u32::try_from(raw).ok().and_then(AttributeFlags::from_bits).ok_or(Errno::EINVAL)
}

/// The mount flags that attributes are, but for access times.
fn plain(flags: AttributeFlags) -> MountFlags {
    let pairs = [
        (AttributeFlags::RDONLY, MountFlags::READ_ONLY),
        (AttributeFlags::NOSUID, MountFlags::NOSUID),
        (AttributeFlags::NODEV, MountFlags::NODEV),
        (AttributeFlags::NOEXEC, MountFlags::NOEXEC),
        (AttributeFlags::NODIRATIME, MountFlags::NODIRATIME),
        (AttributeFlags::NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ];
    let set = pairs.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, own)| own);
    set.fold(MountFlags::empty(), MountFlags::union)
}

/// What the field of access times means.
fn times(flags: AttributeFlags) -> Result<MountFlags, Errno> {
    match flags & TIMES {
        field if field.is_empty() => Ok(MountFlags::RELATIME),
        AttributeFlags::NOATIME => Ok(MountFlags::NOATIME),
        AttributeFlags::STRICTATIME => Ok(MountFlags::empty()),
        _ => Err(Errno::EINVAL),
    }
}

/// mount_setattr(2), in the order of build_mount_kattr.
pub(super) fn mount_setattr(
    task: &CurrentTask<'_>,
    at: Fd,
    path: UserCStr,
    flags: TreeFlags,
    attributes: UserAddr,
    size: usize,
) -> Result<(), Errno> {
    if !TreeFlags::all().difference(TreeFlags::CLONE | TreeFlags::CLOEXEC).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let asked = read_attributes_checked(task, attributes, size)?;
    if asked.set == 0 && asked.clear == 0 && asked.propagation == 0 {
        return Ok(());
    }
    let propagation = match asked.propagation {
        0 => None,
        0x10_0000 => Some(Propagation::Shared),
        0x8_0000 => Some(Propagation::Slave),
        0x4_0000 => Some(Propagation::Private),
        0x2_0000 => Some(Propagation::Unbindable),
        _ => return Err(Errno::EINVAL),
    };
    let (set, clear) = (attribute_flags(asked.set)?, attribute_flags(asked.clear)?);
    let new_times = match (clear & TIMES, set & TIMES) {
        (cleared, new) if cleared.is_empty() && new.is_empty() => None,
        (TIMES, _) => Some(times(set)?),
        _ => return Err(Errno::EINVAL),
    };
    if (set | clear).contains(AttributeFlags::IDMAP) {
        return Err(task.unsupported("mount_setattr: MOUNT_ATTR_IDMAP", Errno::EINVAL));
    }
    let follow = !flags.contains(TreeFlags::SYMLINK_NOFOLLOW);
    let place = place(task, at, path, follow, flags.contains(TreeFlags::EMPTY_PATH))?;
    let depth = if flags.contains(TreeFlags::RECURSIVE) { Depth::Tree } else { Depth::One };
    let (set, clear) = (plain(set), plain(clear));
    let namespace = task.kernel().namespace();
    namespace.change_mount_flags(task, &place, depth, |old| {
        let old = match new_times {
            Some(times) => old.difference(MountFlags::RELATIME | MountFlags::NOATIME) | times,
            None => old,
        };
        old.difference(clear) | set
    })?;
    match propagation {
        Some(to) => namespace.change_propagation(task, &place, to, depth),
        None => Ok(()),
    }
}

fn read_attributes_checked(task: &CurrentTask<'_>, at: UserAddr, size: usize) -> Result<MountAttributes, Errno> {
    if u64::try_from(size).is_ok_and(|size| size > PAGE_SIZE) {
        return Err(Errno::E2BIG);
    }
    if size < size_of::<MountAttributes>() {
        return Err(Errno::EINVAL);
    }
    check_may_mount(task)?;
    UserIn::new(at).read_sized(task, size, size_of::<MountAttributes>())
}

/// What fsopen(2) opens.
#[derive(Debug)]
struct ContextFile {
    state: Mutex<Stage>,
}

/// How far a file system has come.
#[derive(Debug)]
enum Stage {
    Asking(MountRequest),
    Made(Arc<MadeRequest>),
    /// It is mounted, or could not be made.
    Done,
}

impl File for ContextFile {
    fn read_at(&self, _task: &CurrentTask<'_>, _offset: u64, _to: &mut dyn Sink) -> Result<usize, Errno> {
        // The log has no message.
        Err(Errno::ENODATA)
    }

    fn write_at(&self, _task: &CurrentTask<'_>, _offset: u64, _from: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

fn context(file: &OpenFile) -> Result<&ContextFile, Errno> {
    file.file().as_any().and_then(|file| file.downcast_ref()).ok_or(Errno::EINVAL)
}

fn string(task: &CurrentTask<'_>, at: UserCStr, max: usize) -> Result<Vec<u8>, Errno> {
    task.mm().read_cstr(at.0, max)?.ok_or(Errno::EINVAL)
}

/// fsopen(2).
pub(super) fn fsopen(task: &CurrentTask<'_>, kind: UserCStr, flags: u32) -> Result<Fd, Errno> {
    check_may_mount(task)?;
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    let request = MountRequest::new(&string(task, kind, PATH_MAX)?)?;
    let file = ContextFile { state: Mutex::new(Rank::Leaf, Stage::Asking(request)) };
    install(task, open_anonymous(Arc::new(file), "[fscontext]", OpenFlags::RDWR), flags & 1 != 0)
}

/// The longest key and value of an option.
const OPTION_MAX: usize = 256;

/// Commands of fsconfig(2).
const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const SET_BINARY: u32 = 2;
const SET_PATH: u32 = 3;
const SET_PATH_EMPTY: u32 = 4;
const SET_FD: u32 = 5;
const CREATE: u32 = 6;
const RECONFIGURE: u32 = 7;
const CREATE_EXCLUSIVE: u32 = 8;

/// fsconfig(2).
pub(super) fn fsconfig(
    task: &CurrentTask<'_>,
    fd: Fd,
    command: u32,
    key: UserCStr,
    value: UserCStr,
    more: i32,
) -> Result<(), Errno> {
    if fd.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let nothing = value.is_null() && more == 0;
    let fits = match command {
        SET_FLAG => !key.is_null() && nothing,
        SET_STRING => !key.is_null() && !value.is_null() && more == 0,
        SET_BINARY => !key.is_null() && !value.is_null() && (1..=1 << 20).contains(&more),
        SET_PATH | SET_PATH_EMPTY => !key.is_null() && !value.is_null() && (more == Fd::CWD.0 || more >= 0),
        SET_FD => !key.is_null() && value.is_null() && more >= 0,
        CREATE | RECONFIGURE | CREATE_EXCLUSIVE => key.is_null() && nothing,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if !fits {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(fd)?;
    let context = context(&file)?;
    let key = if key.is_null() { Vec::new() } else { string(task, key, OPTION_MAX)? };
    let value = if command == SET_STRING { Some(string(task, value, OPTION_MAX)?) } else { None };
    match command {
        SET_FLAG | SET_STRING => match &mut *context.state.lock() {
            Stage::Asking(request) => request.option(&key, value.as_deref()),
            Stage::Made(_) | Stage::Done => Err(Errno::EBUSY),
        },
        CREATE | CREATE_EXCLUSIVE => {
            check_may_mount(task)?;
            let asked = std::mem::replace(&mut *context.state.lock(), Stage::Done);
            match asked {
                Stage::Asking(request) => {
                    let made = task.kernel().namespace().make_file_system(request)?;
                    *context.state.lock() = Stage::Made(Arc::new(made));
                    Ok(())
                }
                other => {
                    *context.state.lock() = other;
                    Err(Errno::EBUSY)
                }
            }
        }
        // Nothing that is mounted can be picked, so there is nothing to change.
        RECONFIGURE => Err(Errno::EBUSY),
        // No file system here has options that are files.
        _ => Err(Errno::EINVAL),
    }
}

/// fsmount(2).
pub(super) fn fsmount(task: &CurrentTask<'_>, fd: Fd, flags: u32, attributes: AttributeFlags) -> Result<Fd, Errno> {
    check_may_mount(task)?;
    let known = AttributeFlags::all().difference(AttributeFlags::IDMAP | AttributeFlags::ATIME_REST);
    if flags & !1 != 0 || !known.contains(attributes) {
        return Err(Errno::EINVAL);
    }
    let of_mount = plain(attributes) | times(attributes)?;
    let file = task.files().get(fd)?;
    let context = context(&file)?;
    let made = match &*context.state.lock() {
        Stage::Made(made) => made.clone(),
        Stage::Asking(_) => return Err(Errno::EINVAL),
        Stage::Done => return Err(Errno::EBUSY),
    };
    let opened = task.kernel().namespace().open_file_system(&made, of_mount)?;
    let old = std::mem::replace(&mut *context.state.lock(), Stage::Done);
    drop(old);
    install(task, opened, flags & 1 != 0)
}
