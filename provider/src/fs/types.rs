//! The values that cross the file system traits: attributes, flags, changes.

/// The type of an inode (the S_IFMT bits of its mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "inode(7) describes them")]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl FileKind {
    /// The S_IFMT bits of st_mode.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o1_0000,
            Self::CharDevice => 0o2_0000,
            Self::Directory => 0o4_0000,
            Self::BlockDevice => 0o6_0000,
            Self::Regular => 0o10_0000,
            Self::Symlink => 0o12_0000,
            Self::Socket => 0o14_0000,
        }
    }

    /// The kind that a mode's S_IFMT bits say; `None` for bits that mean nothing.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o17_0000 {
            0o1_0000 => Self::Fifo,
            0o2_0000 => Self::CharDevice,
            0o4_0000 => Self::Directory,
            0o6_0000 => Self::BlockDevice,
            0o10_0000 => Self::Regular,
            0o12_0000 => Self::Symlink,
            0o14_0000 => Self::Socket,
            _ => return None,
        })
    }

    /// The DT_* value of a directory entry.
    pub fn dirent_type(self) -> u8 {
        match self {
            Self::Fifo => 1,
            Self::CharDevice => 2,
            Self::Directory => 4,
            Self::BlockDevice => 6,
            Self::Regular => 8,
            Self::Symlink => 10,
            Self::Socket => 12,
        }
    }
}

/// A point in time since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds, may be negative.
    pub seconds: i64,
    /// Nanoseconds, below 10⁹.
    pub nanoseconds: u32,
}

/// An inode's attributes, as stat(2) and statx(2) report them.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "stat(3type) describes them")]
pub struct Stat {
    /// The device number, in the kernel's `dev_t` encoding of user space (see makedev(3)).
    pub device: u64,
    pub inode: u64,
    pub kind: FileKind,
    /// Permission, set-id and sticky bits: the low 12 bits.
    pub mode: u32,
    pub links: u64,
    pub uid: u32,
    pub gid: u32,
    /// The device a device node stands for.
    pub rdev: u64,
    pub size: u64,
    pub block_size: u32,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub born: Option<Timestamp>,
}

/// What a permission check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of Stat")]
pub struct Permissions {
    /// The low 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Timestamp {
    /// The present time of the host's real-time clock.
    pub fn now() -> Self {
        Self::from(rustix::time::clock_gettime(rustix::time::ClockId::Realtime))
    }
}

impl From<rustix::fs::Timespec> for Timestamp {
    fn from(time: rustix::fs::Timespec) -> Self {
        Self { seconds: time.tv_sec, nanoseconds: u32::try_from(time.tv_nsec).unwrap_or(0) }
    }
}

/// A file system's figures, as statfs(2) reports them.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "statfs(2) describes them")]
pub struct FsStat {
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub id: u64,
    pub name_max: u64,
    pub flags: u64,
}

/// What a chmod, chown, truncate or utimensat changes; `None` stays as it is. Permission was checked by the caller.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the fields of Stat")]
pub struct AttributeChange {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<Timestamp>,
    pub modified: Option<Timestamp>,
}

/// A directory entry to be made.
#[derive(Clone, Debug)]
pub struct NewNode<'a> {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits; the umask is already applied.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// For a device node: which.
    pub rdev: u64,
    /// For a symbolic link: its text.
    pub target: &'a [u8],
}

bitflags::bitflags! {
    /// open(2) flags, in Linux's numbering.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[expect(missing_docs, reason = "open(2) describes them")]
    pub struct OpenFlags: u32 {
        const WRONLY = 0o1;
        const RDWR = 0o2;
        const CREAT = 0o100;
        const EXCL = 0o200;
        const NOCTTY = 0o400;
        const TRUNC = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DSYNC = 0o1_0000;
        const ASYNC = 0o2_0000;
        const DIRECT = 0o4_0000;
        const LARGEFILE = 0o10_0000;
        const DIRECTORY = 0o20_0000;
        const NOFOLLOW = 0o40_0000;
        const NOATIME = 0o100_0000;
        const CLOEXEC = 0o200_0000;
        const SYNC = 0o400_0000;
        const PATH = 0o1000_0000;
        const TMPFILE = 0o2000_0000;
    }
}

impl OpenFlags {
    /// Tells whether the access mode permits reading.
    pub fn reads(self) -> bool {
        !self.contains(Self::PATH) && self.bits() & 3 != 1
    }

    /// Tells whether the access mode permits writing.
    pub fn writes(self) -> bool {
        !self.contains(Self::PATH) && matches!(self.bits() & 3, 1 | 2)
    }
}

bitflags::bitflags! {
    /// What a file is ready for: the POLL* bits of poll(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[expect(missing_docs, reason = "poll(2) describes them")]
    pub struct Ready: u32 {
        const IN = 0x1;
        const PRI = 0x2;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const NVAL = 0x20;
        const RDNORM = 0x40;
        const RDBAND = 0x80;
        const WRNORM = 0x100;
        const WRBAND = 0x200;
        const RDHUP = 0x2000;
    }
}
