//! What names a futex.

use crate::errno::Errno;
use crate::mm::{MemoryMap, WordHome};
use std::sync::Arc;
use vmm::addr::{USER_END, UserAddr};
use vmm::memory::Access;

/// Who uses a futex, as the caller says (FUTEX_PRIVATE_FLAG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Threads of one address space, so its address names it.
    Private,
    /// Perhaps processes that share the memory, so what lies there names it.
    Shared,
}

/// What names a futex for all who use it.
///
/// As on Linux a word in private memory has two names, one for each scope: who waits on one is not woken through the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FutexKey {
    /// A word of an address space, which is named by the address of its map: it lives as long as anybody waits.
    Private {
        /// The map's address.
        map: usize,
        /// The word.
        at: u64,
    },
    /// The same for callers who did not say that it is private.
    Unshared {
        /// The map's address.
        map: usize,
        /// The word.
        at: u64,
    },
    /// A word of an in-memory file or of shared anonymous memory.
    Object {
        /// The object's number.
        id: u64,
        /// The word's offset.
        offset: u64,
    },
    /// A word of a host file.
    File {
        /// The host's device.
        device: u64,
        /// The host's inode.
        inode: u64,
        /// The word's offset.
        offset: u64,
    },
}

impl FutexKey {
    /// The futex at an address (get_futex_key): `EINVAL` if it is not aligned, `EFAULT` if it is outside user memory or,
    /// for a shared one, where nothing that permits `access` is mapped. A private one need not be mapped.
    pub fn of(mm: &Arc<MemoryMap>, at: UserAddr, scope: Scope, access: Access) -> Result<Self, Errno> {
        if !at.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if at.0 >= USER_END {
            return Err(Errno::EFAULT);
        }
        let map = Arc::as_ptr(mm).addr();
        if scope == Scope::Private {
            return Ok(Self::Private { map, at: at.0 });
        }
        Ok(match mm.word_home(at, access)? {
            WordHome::Private => Self::Unshared { map, at: at.0 },
            WordHome::Object { id, offset } => Self::Object { id, offset },
            WordHome::File { device, inode, offset } => Self::File { device, inode, offset },
        })
    }
}
