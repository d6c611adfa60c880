//! The values that cross the file system traits: attributes, flags, changes.

/// The block size that an object reports that stores nothing: a page.
const BLOCK_SIZE: u32 = 4096;
/// The longest name of a file system of the kernel's own.
const NAME_MAX: u64 = 255;

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
    /// Nothing that has a type: a descriptor of no file system (epoll, eventfd, …).
    Anonymous,
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
            Self::Anonymous => 0,
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
            Self::Anonymous => 0,
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

impl Stat {
    /// The attributes of an object that has no file system to live in (a pipe, a socket, an eventfd): it is empty, has one link and
    /// belongs to root; all its times are when it was made.
    pub fn without_storage(kind: FileKind, mode: u32, device: u64, inode: u64, made: Timestamp) -> Self {
        Self {
            device,
            inode,
            kind,
            mode,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            block_size: BLOCK_SIZE,
            blocks: 0,
            accessed: made,
            modified: made,
            changed: made,
            born: None,
        }
    }
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

impl FsStat {
    /// The figures of a file system that stores nothing (simple_statfs): no blocks and no limit on files.
    pub fn without_storage(magic: u64) -> Self {
        Self { magic, block_size: u64::from(BLOCK_SIZE), name_max: NAME_MAX, ..Self::default() }
    }
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
    pub struct OpenFlags: u32 {
        /// Write only.
        const WRONLY = 0o1;
        /// Read and write.
        const RDWR = 0o2;
        /// Make the file if it is not there.
        const CREAT = 0o100;
        /// Fail if it is there.
        const EXCL = 0o200;
        /// A terminal does not become the controlling one.
        const NOCTTY = 0o400;
        /// Cut it to nothing.
        const TRUNC = 0o1000;
        /// Write at the end.
        const APPEND = 0o2000;
        /// Never wait.
        const NONBLOCK = 0o4000;
        /// A write has reached storage when it returns.
        const DSYNC = 0o1_0000;
        /// Signal readiness.
        const ASYNC = 0o2_0000;
        /// Past the page cache.
        const DIRECT = 0o4_0000;
        /// Offsets beyond 2 GiB.
        const LARGEFILE = 0o10_0000;
        /// Fail unless it is a directory.
        const DIRECTORY = 0o20_0000;
        /// Do not follow a last symbolic link.
        const NOFOLLOW = 0o40_0000;
        /// Leave the access time alone.
        const NOATIME = 0o100_0000;
        /// Close on exec.
        const CLOEXEC = 0o200_0000;
        /// As DSYNC, attributes too (the bit besides DSYNC's).
        const SYNC = 0o400_0000;
        /// Only the place.
        const PATH = 0o1000_0000;
        /// A file with no name (the bit besides DIRECTORY's).
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
    pub struct Ready: u32 {
        /// Bytes can be read.
        const IN = 0x1;
        /// Something urgent can be read.
        const PRI = 0x2;
        /// Bytes can be written.
        const OUT = 0x4;
        /// An error is pending.
        const ERR = 0x8;
        /// The other side is gone.
        const HUP = 0x10;
        /// The descriptor is not open.
        const NVAL = 0x20;
        /// As IN.
        const RDNORM = 0x40;
        /// Priority bytes can be read.
        const RDBAND = 0x80;
        /// As OUT.
        const WRNORM = 0x100;
        /// Priority bytes can be written.
        const WRBAND = 0x200;
        /// The other side writes no more.
        const RDHUP = 0x2000;
    }
}
