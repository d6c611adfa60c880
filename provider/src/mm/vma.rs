//! One mapping: a range of addresses with the same rights and the same backing ([`Vma`], Linux's `vm_area_struct`).

use crate::fs::OpenFile;
use std::fmt;
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::{Access, HostFile, MemoryObject};

/// Address space below a growing stack that stays free of other mappings (Linux's `stack_guard_gap`, 256 pages).
pub(super) const STACK_GUARD: u64 = 256 * PAGE_SIZE;

bitflags::bitflags! {
    /// Properties of a mapping besides its rights (Linux's `VM_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmaFlags: u32 {
        /// Grows towards lower addresses when touched below its start (MAP_GROWSDOWN, the stack).
        const GROWSDOWN = 1;
        /// Counted against RLIMIT_MEMLOCK.
        const LOCKED = 1 << 1;
        /// Locked, but populated only when touched (MLOCK_ONFAULT).
        const LOCK_ON_FAULT = 1 << 2;
        /// MAP_NORESERVE: the overcommit heuristic does not judge it.
        const NORESERVE = 1 << 3;
        /// Not copied by fork (MADV_DONTFORK).
        const DONTFORK = 1 << 4;
        /// Empty in a forked child (MADV_WIPEONFORK).
        const WIPEONFORK = 1 << 5;
        /// Not in core dumps (MADV_DONTDUMP).
        const DONTDUMP = 1 << 6;
        /// Large pages are wanted (MADV_HUGEPAGE).
        const HUGEPAGE = 1 << 7;
        /// Large pages are not wanted (MADV_NOHUGEPAGE, MAP_STACK).
        const NOHUGEPAGE = 1 << 8;
        /// Cannot be resized by mremap nor discarded by madvise: the vDSO and its data.
        const SPECIAL = 1 << 9;
        /// MADV_SEQUENTIAL.
        const SEQUENTIAL = 1 << 10;
        /// MADV_RANDOM.
        const RANDOM = 1 << 11;
    }
}

/// Whether stores reach the backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Copy on write (MAP_PRIVATE).
    Private,
    /// Stores are seen by everybody who maps the same backing (MAP_SHARED).
    Shared,
}

/// Where the contents come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An in-memory file, shared anonymous memory, the vDSO's pages.
    Object(Arc<MemoryObject>),
    /// A host file.
    Host(Arc<HostFile>),
}

/// What a mapping's untouched pages contain.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Zeros.
    Anonymous,
    /// The source's bytes from `offset` on.
    Source {
        /// Which.
        source: Source,
        /// The byte of the source that appears at the mapping's start; page-aligned.
        offset: u64,
    },
}

/// What /proc/PID/maps calls a mapping.
#[derive(Clone)]
pub enum Label {
    /// Nothing, or what its place implies (heap, stack).
    None,
    /// A file. It stays open as long as it is mapped.
    File(Arc<OpenFile>),
    /// A name in brackets: `[vdso]`, `[vvar]`.
    Special(&'static str),
    /// Shared anonymous memory: `/dev/zero (deleted)`.
    SharedAnonymous,
    /// A System V segment with this key: `/SYSV00000000 (deleted)`.
    Segment(i32),
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(_) => f.write_str("File"),
            Self::Special(name) => f.write_str(name),
            Self::SharedAnonymous => f.write_str("/dev/zero (deleted)"),
            Self::Segment(key) => write!(f, "/SYSV{key:08x} (deleted)"),
        }
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) | (Self::SharedAnonymous, Self::SharedAnonymous) => true,
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            (Self::Special(a), Self::Special(b)) => a == b,
            (Self::Segment(a), Self::Segment(b)) => a == b,
            _ => false,
        }
    }
}

/// A mapping.
#[derive(Clone, Debug)]
pub struct Vma {
    /// Where it lies; never empty, page-aligned.
    pub range: UserRange,
    /// What the program may do with it now.
    pub access: Access,
    /// What mprotect may grant (Linux's `VM_MAYREAD`, `VM_MAYWRITE`, `VM_MAYEXEC`).
    pub max_access: Access,
    /// Whether stores reach the backing.
    pub sharing: Sharing,
    /// Its contents.
    pub backing: Backing,
    /// Its other properties.
    pub flags: VmaFlags,
    /// Its name.
    pub label: Label,
}

impl Vma {
    /// Makes private anonymous memory.
    pub fn anonymous(range: UserRange, access: Access) -> Self {
        Self {
            range,
            access,
            max_access: Access::all(),
            sharing: Sharing::Private,
            backing: Backing::Anonymous,
            flags: VmaFlags::empty(),
            label: Label::None,
        }
    }

    /// Tells whether it is private anonymous memory.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.backing, Backing::Anonymous)
    }

    /// The first address that no mapping chosen by the map may use: its start, less the guard of a growing stack.
    pub fn guarded_start(&self) -> u64 {
        let start = self.range.start.0;
        if self.flags.contains(VmaFlags::GROWSDOWN) { start.saturating_sub(STACK_GUARD) } else { start }
    }

    /// The source's offset that appears at `at`, for a mapping that has a source.
    pub fn offset_at(&self, at: UserAddr) -> u64 {
        match &self.backing {
            Backing::Anonymous => 0,
            Backing::Source { offset, .. } => offset.wrapping_add(at.0.wrapping_sub(self.range.start.0)),
        }
    }

    /// The part of this mapping in `range`, which must overlap it.
    pub fn clipped(&self, range: UserRange) -> Self {
        let mut part = self.clone();
        part.range = self.range.intersect(range).unwrap_or(self.range);
        let at = self.offset_at(part.range.start);
        if let Backing::Source { offset, .. } = &mut part.backing {
            *offset = at;
        }
        part
    }

    /// Counted by the overcommit heuristic: private and writable, unless MAP_NORESERVE (Linux's `accountable_mapping`).
    pub fn is_accountable(&self) -> bool {
        self.is_data() && !self.flags.contains(VmaFlags::NORESERVE)
    }

    /// Counted against RLIMIT_DATA: private, writable, not a stack (Linux's `is_data_mapping`).
    pub fn is_data(&self) -> bool {
        self.sharing == Sharing::Private
            && self.access.contains(Access::WRITE)
            && !self.flags.contains(VmaFlags::GROWSDOWN)
    }

    /// Tells whether `next` continues this mapping, so that both are one.
    pub fn continues_into(&self, next: &Self) -> bool {
        self.range.end == next.range.start
            && self.access == next.access
            && self.max_access == next.max_access
            && self.sharing == next.sharing
            && self.flags == next.flags
            && !self.flags.contains(VmaFlags::SPECIAL)
            && self.label == next.label
            && self.backing_continues(next)
    }

    /// Tells whether stores, now or after an mprotect, reach its source (Linux's `VM_SHARED`).
    pub fn is_written_through(&self) -> bool {
        self.sharing == Sharing::Shared && self.max_access.contains(Access::WRITE)
    }

    /// Tells whether both show bytes of the same source.
    pub fn has_source_of(&self, other: &Self) -> bool {
        match (&self.backing, &other.backing) {
            (Backing::Source { source: Source::Object(a), .. }, Backing::Source { source: Source::Object(b), .. }) => {
                Arc::ptr_eq(a, b)
            }
            (Backing::Source { source: Source::Host(a), .. }, Backing::Source { source: Source::Host(b), .. }) => {
                Arc::ptr_eq(a, b)
            }
            _ => false,
        }
    }

    fn backing_continues(&self, next: &Self) -> bool {
        match (&self.backing, &next.backing) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (_, Backing::Source { offset, .. }) => {
                self.has_source_of(next) && self.offset_at(self.range.end) == *offset
            }
            _ => false,
        }
    }
}
