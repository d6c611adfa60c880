//! Where a word of user memory really lives: what names it for all who share it.

use super::fault::permits;
use super::{Backing, Label, MemoryMap, Sharing, Source, Vma};
use crate::errno::Errno;
use std::sync::Arc;
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, MemoryObject};

/// What a word belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordHome {
    /// This address space alone.
    Private,
    /// An in-memory file or shared anonymous memory.
    Object {
        /// The object's number.
        id: u64,
        /// The word's offset in it.
        offset: u64,
    },
    /// A host file.
    File {
        /// The host's device.
        device: u64,
        /// The host's inode.
        inode: u64,
        /// The word's offset in it.
        offset: u64,
    },
}

impl MemoryMap {
    /// Finds the home of an aligned word (get_futex_key's page lookup); `EFAULT` where nothing that permits `access` is mapped.
    ///
    /// A private mapping that may be written is private, since Linux breaks its sharing to look. One that may only be
    /// read shows its file's word; of private anonymous memory that may only be read Linux says `EFAULT`.
    pub fn word_home(&self, at: UserAddr, access: Access) -> Result<WordHome, Errno> {
        // Brings the page in, or finds that there is none.
        self.load_u32(at)?;
        let state = self.state.read();
        let vma = state.tree.find(at).ok_or(Errno::EFAULT)?;
        if !permits(vma.access, access) {
            return Err(Errno::EFAULT);
        }
        if vma.sharing == Sharing::Private && vma.access.contains(Access::WRITE) {
            return Ok(WordHome::Private);
        }
        let offset = vma.offset_at(at);
        match &vma.backing {
            Backing::Anonymous => Err(Errno::EFAULT),
            Backing::Source { source: Source::Object(object), .. } => Ok(WordHome::Object { id: object.id(), offset }),
            Backing::Source { source: Source::Host(file), .. } => {
                let (device, inode) = file.identity();
                Ok(WordHome::File { device, inode, offset })
            }
        }
    }

    /// The mappings of System V segments: of which memory, where, and from which offset on.
    pub(crate) fn segment_mappings(&self) -> Vec<(Arc<MemoryObject>, UserRange, u64)> {
        let state = self.state.read();
        let mapping = |vma: &Vma| match (&vma.label, &vma.backing) {
            (Label::Segment(_), Backing::Source { source: Source::Object(object), offset }) => {
                Some((object.clone(), vma.range, *offset))
            }
            _ => None,
        };
        state.tree.iter().filter_map(mapping).collect()
    }
}
