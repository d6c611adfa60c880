//! `struct stat`, `struct statx`, `struct statfs` as x86-64 programs see them.

use crate::fs::{FsStat, Stat, Timestamp};
use rustix::fs::{major, minor};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct stat` (arch/x86/include/uapi/asm/stat.h).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[expect(missing_docs, reason = "stat(3type) describes the fields")]
pub struct UserStat {
    pub device: u64,
    pub inode: u64,
    pub links: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub padding: u32,
    pub rdev: u64,
    pub size: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub accessed: [u64; 2],
    pub modified: [u64; 2],
    pub changed: [u64; 2],
    pub unused: [u64; 3],
}
const _: () = assert!(size_of::<UserStat>() == 144);

fn pair(time: Timestamp) -> [u64; 2] {
    [time.seconds.cast_unsigned(), u64::from(time.nanoseconds)]
}

impl From<&Stat> for UserStat {
    fn from(stat: &Stat) -> Self {
        Self {
            device: stat.device,
            inode: stat.inode,
            links: stat.links,
            mode: stat.kind.mode_bits() | stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            padding: 0,
            rdev: stat.rdev,
            size: stat.size,
            block_size: u64::from(stat.block_size),
            blocks: stat.blocks,
            accessed: pair(stat.accessed),
            modified: pair(stat.modified),
            changed: pair(stat.changed),
            unused: [0; 3],
        }
    }
}

/// `struct statx_timestamp`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[expect(missing_docs, reason = "statx(2) describes the fields")]
pub struct StatxTime {
    pub seconds: i64,
    pub nanoseconds: u32,
    pub reserved: u32,
}

impl From<Timestamp> for StatxTime {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds, reserved: 0 }
    }
}

/// `struct statx` (include/uapi/linux/stat.h).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[expect(missing_docs, reason = "statx(2) describes the fields")]
pub struct UserStatx {
    pub mask: u32,
    pub block_size: u32,
    pub attributes: u64,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub padding: u16,
    pub inode: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub accessed: StatxTime,
    pub born: StatxTime,
    pub changed: StatxTime,
    pub modified: StatxTime,
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mount: u64,
    pub unused: [u64; 13],
}
const _: () = assert!(size_of::<UserStatx>() == 256);

/// STATX_BASIC_STATS.
const BASIC_STATS: u32 = 0x7ff;
/// STATX_BTIME.
const BIRTH_TIME: u32 = 0x800;
/// STATX_MNT_ID.
const MOUNT_ID: u32 = 0x1000;
/// STATX_ATTR_MOUNT_ROOT.
const MOUNT_ROOT: u64 = 0x2000;

impl UserStatx {
    /// Fills it in; `mount` is the mount's number, and whether the object is the mount's root.
    pub fn new(stat: &Stat, mount: Option<(u32, bool)>) -> Self {
        let mut mask = BASIC_STATS;
        if stat.born.is_some() {
            mask |= BIRTH_TIME;
        }
        if mount.is_some() {
            mask |= MOUNT_ID;
        }
        let (mount, is_root) = mount.unwrap_or_default();
        let mode = stat.kind.mode_bits() | stat.mode;
        Self {
            mask,
            block_size: stat.block_size,
            attributes: if is_root { MOUNT_ROOT } else { 0 },
            links: u32::try_from(stat.links).unwrap_or(u32::MAX),
            uid: stat.uid,
            gid: stat.gid,
            mode: u16::try_from(mode & 0xffff).unwrap_or_default(),
            padding: 0,
            inode: stat.inode,
            size: stat.size,
            blocks: stat.blocks,
            attributes_mask: MOUNT_ROOT,
            accessed: stat.accessed.into(),
            born: stat.born.unwrap_or_default().into(),
            changed: stat.changed.into(),
            modified: stat.modified.into(),
            rdev_major: major(stat.rdev),
            rdev_minor: minor(stat.rdev),
            dev_major: major(stat.device),
            dev_minor: minor(stat.device),
            mount: u64::from(mount),
            unused: [0; 13],
        }
    }
}

/// `struct statfs` (include/uapi/asm-generic/statfs.h).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[expect(missing_docs, reason = "statfs(2) describes the fields")]
pub struct UserStatfs {
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub id: u64,
    pub name_max: u64,
    pub fragment_size: u64,
    pub flags: u64,
    pub spare: [u64; 4],
}
const _: () = assert!(size_of::<UserStatfs>() == 120);

impl From<&FsStat> for UserStatfs {
    fn from(stat: &FsStat) -> Self {
        Self {
            magic: stat.magic,
            block_size: stat.block_size,
            blocks: stat.blocks,
            blocks_free: stat.blocks_free,
            blocks_available: stat.blocks_available,
            files: stat.files,
            files_free: stat.files_free,
            id: stat.id,
            name_max: stat.name_max,
            fragment_size: stat.block_size,
            flags: stat.flags,
            spare: [0; 4],
        }
    }
}
