//! The virtual file system: names, directories, open files, descriptors.
//!
//! Small traits ([`FileSystem`], [`Inode`], [`Directory`], [`File`]) are implemented by the host file system, tmpfs, the overlay, procfs,
//! devfs and sysfs. [`OpenFile`] holds offset and flags: it is what `dup` and `fork` share. Names are bytes.

mod access;
mod anon;
mod changes;
mod context;
pub(crate) mod dev;
mod directory_file;
pub(crate) mod epoll;
pub(crate) mod eventfd;
mod fd;
mod hiding;
mod host;
pub(crate) mod io;
mod leases;
pub(crate) mod link;
mod location;
mod locks;
mod mount;
mod mountable;
pub(crate) mod mqueue;
mod namespace;
pub mod notify;
pub(crate) mod nsfs;
mod open;
mod opening;
mod overlay;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod proc;
pub(crate) mod pseudo;
pub(crate) mod sigio;
pub(crate) mod stdio;
pub(crate) mod sys;
mod tmp;
mod traits;
pub(crate) mod tty;
mod types;
mod usage;
mod view;
mod walk;

pub use access::{Want, check_access};
pub(crate) use anon::open_anonymous;
pub use changes::{At, RENAME_EXCHANGE, RENAME_NOREPLACE};
pub use context::FsContext;
pub use directory_file::DirectoryFile;
pub use fd::{Fd, FdTable, RangeAction};
pub use hiding::{DEFAULT_HIDDEN, default_hidden};
pub use io::{BufferSink, BufferSource, Sink, Source};
pub use leases::{Leases, Patience, Use};
pub use location::Location;
pub use locks::{FileLocks, LockKind, LockOwner, RangeLock, RangeWait};
pub use mount::{Depth, Layer, Mount, MountFlags, MountNamespace, Propagation, Sharing, UnmountFlags};
pub(crate) use mount::{new_number, option_words};
pub use mountable::{MadeRequest, Request as MountRequest};
pub use namespace::Namespace;
pub use open::{MAX_RW_COUNT, OpenFile};
pub use tmp::Seals;
pub use traits::{
    DirEntry, DirSink, Directory, File, FileSystem, Inode, Link, LinkTarget, Mapping, OffsetKeeper, OwnOffset, Recall,
    WaitSource,
};
pub use types::{AttributeChange, FileKind, FsStat, NewNode, OpenFlags, Permissions, Ready, Stat, Timestamp};
pub use usage::TextGuard;
pub use view::{Grant, HostAccess, ViewError};
pub use walk::{LastLink, Resolve};
