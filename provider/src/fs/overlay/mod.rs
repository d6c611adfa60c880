//! The overlay: a host tree that is never written, under a layer that takes all changes.
//!
//! The upper layer ([`Upper`]) is in memory, or a host directory in overlayfs' own format (`userxattr`). An [`OverlayInode`] is one
//! object whatever its layer: it starts with what the host has and switches to a copy when it is first changed (copy-up, one copy
//! of the data, straight into frames). Whoever had it open before the switch reads the copy from then on; a mapping made before
//! it keeps showing the host's pages, as with Linux' overlayfs. Its device and inode number stay those of the host's object; what
//! was made in the upper layer has the root's device and numbers from [`UPPER_NUMBERS`] on. Hard links below share one object, so
//! they share the copy, too. Directories are renamed as on a plain file system.
//!
//! Locks: changes are serialized by one lock (`Overlay`), held over a copy-up; lookups, reads and writes do not take it.

mod copy_up;
mod file;
mod inode;
mod names;
mod parking;
#[cfg(test)]
mod tests;
mod upper;

pub(super) use inode::OverlayInode;
pub(super) use parking::PARKING;
use parking::Parking;
use upper::Upper;

use super::host::{HostFs, HostInode};
use super::tmp::TmpFs;
use super::{FileSystem, FsStat, Inode};
use crate::errno::Errno;
use crate::sync::{Mutex, Rank};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// OVERLAYFS_SUPER_MAGIC.
const MAGIC: u64 = 0x794c_7630;
/// Where the inode numbers of objects start that the lower layer does not have.
const UPPER_NUMBERS: u64 = 1 << 62;

/// What the inodes of an overlay share.
#[derive(Debug)]
struct Union {
    /// The device number of everything that the lower layer does not have.
    device: u64,
    lower_root: Arc<HostInode>,
    upper_fs: Arc<dyn FileSystem>,
    /// Where an unlinked file that is written to is copied.
    upper_root: Upper,
    /// Where copies of hard-linked files have a name that lasts; `None` in memory, which needs none.
    parking: Option<Parking>,
    /// Held while names change and while something is copied up.
    changes: Mutex<()>,
    /// Objects by the address of what they consist of in either layer (which they keep alive).
    known: Mutex<HashMap<usize, Weak<OverlayInode>>>,
    /// Objects that the lower layer still leads to under a name (hard links) and that are not what it has any more, or whose
    /// number would change.
    kept: Mutex<HashMap<usize, Arc<OverlayInode>>>,
}

/// Which layer takes the changes.
#[derive(Debug)]
pub(super) enum UpperLayer {
    /// Memory: gone at exit.
    Memory(Arc<TmpFs>),
    /// A host directory that keeps them.
    Host(HostFs),
}

/// An overlay over a host tree.
#[derive(Debug)]
pub(super) struct OverlayFs {
    root: Arc<OverlayInode>,
    union: Arc<Union>,
}

impl OverlayFs {
    /// Lays an upper layer over a host directory.
    pub(super) fn new(lower: &HostFs, upper: UpperLayer) -> Result<Self, Errno> {
        let lower_root = lower.host_root().clone();
        let device = lower_root.stat()?.device;
        let (upper_root, upper_fs): (_, Arc<dyn FileSystem>) = match upper {
            UpperLayer::Memory(fs) => (Upper::Memory(fs.tmp_root().clone()), fs),
            UpperLayer::Host(fs) => (Upper::Host(fs.host_root().clone()), Arc::new(fs)),
        };
        if let Upper::Memory(_) = &upper_root {
            upper_root.imitate(&lower_root.stat()?)?;
        }
        let parking = match &upper_root {
            Upper::Memory(_) => None,
            Upper::Host(root) => Some(Parking::new(root)?),
        };
        let union = Arc::new(Union {
            device,
            lower_root: lower_root.clone(),
            upper_fs,
            upper_root: upper_root.clone(),
            parking,
            changes: Mutex::new(Rank::Overlay, ()),
            known: Mutex::new(Rank::Leaf, HashMap::new()),
            kept: Mutex::new(Rank::Leaf, HashMap::new()),
        });
        let root = OverlayInode::root(&union, lower_root, upper_root)?;
        Ok(Self { root, union })
    }
}

impl Drop for OverlayFs {
    fn drop(&mut self) {
        // The kept objects hold what they are kept in.
        let _kept = std::mem::take(&mut *self.union.kept.lock());
    }
}

impl FileSystem for OverlayFs {
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn type_name(&self) -> &'static str {
        "overlay"
    }

    fn stat(&self) -> Result<FsStat, Errno> {
        Ok(FsStat { magic: MAGIC, ..self.union.upper_fs.stat()? })
    }

    fn device(&self) -> u64 {
        self.union.device
    }
}
