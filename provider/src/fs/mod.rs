//! The virtual file system: names, directories, open files, descriptors.
//!
//! Small traits ([`FileSystem`], [`Inode`], [`Directory`], [`File`]) are implemented by the host file system, tmpfs, the overlay, procfs,
//! devfs and sysfs. [`OpenFile`] holds offset and flags: it is what `dup` and `fork` share. Names are bytes.

mod context;
mod fd;
mod io;
mod namespace;
mod open;
mod traits;

pub use context::FsContext;
pub use fd::{Fd, FdTable};
pub use io::{Sink, Source};
pub use namespace::{Location, Namespace, ViewError};
pub use open::OpenFile;
pub use traits::{
    AttributeChange, DirEntry, DirSink, Directory, File, FileKind, FileSystem, FsStat, Inode, Link, LinkTarget,
    Mapping, NewNode, OpenFlags, Ready, Stat, Timestamp, WaitSource,
};

/// Host paths that no sandbox sees unless they are granted; `~` is the caller's home directory.
pub const DEFAULT_HIDDEN: &[&str] = &[];
