//! The map as others show it: /proc/PID/maps, smaps, statm.

use super::MemoryMap;
use super::vma::{Backing, Label, Sharing, Source, VmaFlags};
use crate::fs::OpenFile;
use std::sync::Arc;
use vmm::addr::{UserAddr, UserRange};
use vmm::memory::{Access, MemoryObject};

/// A mapping as /proc/PID/maps shows it.
#[derive(Clone, Debug)]
pub struct MappingInfo {
    /// Where it lies.
    pub range: UserRange,
    /// What the program may do with it.
    pub access: Access,
    /// What mprotect may grant.
    pub max_access: Access,
    /// Whether stores reach the backing.
    pub sharing: Sharing,
    /// The offset in the file; 0 for anonymous memory.
    pub offset: u64,
    /// Its other properties.
    pub flags: VmaFlags,
    /// Its name.
    pub name: MappingName,
}

/// The last column of /proc/PID/maps.
#[derive(Clone, Debug)]
pub enum MappingName {
    /// Empty.
    Anonymous,
    /// A file, by path, with its device and inode.
    File(Arc<OpenFile>),
    /// `[heap]`
    Heap,
    /// `[stack]`
    Stack,
    /// `[vdso]`, `[vvar]`.
    Special(&'static str),
    /// `/dev/zero (deleted)`
    SharedAnonymous,
    /// `/SYSV00000000 (deleted)`, with the key of a System V segment.
    Segment(i32),
}

/// Bytes by kind, as /proc/PID/statm and status show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// All mappings (VmSize).
    pub mapped: u64,
    /// Private writable mappings that are not stacks (VmData).
    pub data: u64,
    /// Growing mappings (VmStk).
    pub stack: u64,
    /// The program's own code (VmExe).
    pub code: u64,
    /// Other executable mappings of files (VmLib).
    pub libraries: u64,
    /// Locked mappings (VmLck).
    pub locked: u64,
    /// Bytes that were touched and have memory behind them (VmRSS).
    pub resident: u64,
    /// Those of shared mappings and files.
    pub resident_shared: u64,
}

impl MemoryMap {
    /// All mappings in address order, at one moment.
    pub fn mappings(&self) -> Vec<MappingInfo> {
        let state = self.state.read();
        let stack = state.program.as_ref().map(|program| program.stack);
        let name = |vma: &super::Vma| match &vma.label {
            Label::File(file) => MappingName::File(Arc::clone(file)),
            Label::Special(name) => MappingName::Special(name),
            Label::SharedAnonymous => MappingName::SharedAnonymous,
            Label::Segment(key) => MappingName::Segment(*key),
            Label::None if vma.range.start < state.heap.end && vma.range.end > state.heap.start => MappingName::Heap,
            Label::None if stack.is_some_and(|at| vma.range.contains(at)) => MappingName::Stack,
            Label::None => MappingName::Anonymous,
        };
        state
            .tree
            .iter()
            .map(|vma| MappingInfo {
                range: vma.range,
                access: vma.access,
                max_access: vma.max_access,
                sharing: vma.sharing,
                offset: if matches!(vma.label, Label::Special(_)) { 0 } else { vma.offset_at(vma.range.start) },
                flags: vma.flags,
                name: name(vma),
            })
            .collect()
    }

    /// Where the contents of the mapping at `address` come from, if not from nowhere.
    pub(crate) fn source_at(&self, address: UserAddr) -> Option<Source> {
        match &self.state.read().tree.find(address)?.backing {
            Backing::Source { source, .. } => Some(source.clone()),
            Backing::Anonymous => None,
        }
    }

    /// Tells whether a shared mapping of the object is writable, or may become so.
    pub fn may_write(&self, object: &Arc<MemoryObject>) -> bool {
        let is_of = |vma: &super::Vma| match &vma.backing {
            Backing::Source { source: Source::Object(mapped), .. } => Arc::ptr_eq(mapped, object),
            _ => false,
        };
        let may = |vma: &super::Vma| vma.sharing == Sharing::Shared && vma.max_access.contains(Access::WRITE);
        self.state.read().tree.iter().any(|vma| may(vma) && is_of(vma))
    }

    /// Sums over all mappings.
    pub fn usage(&self) -> MemoryUsage {
        let state = self.state.read();
        let totals = state.tree.totals();
        let code = state.program.as_ref().map_or(0, |program| program.code.len());
        let mut usage =
            MemoryUsage { mapped: totals.mapped, data: totals.data, locked: totals.locked, code, ..Default::default() };
        for vma in state.tree.iter() {
            let (len, resident) = (vma.range.len(), self.space.resident(vma.range));
            usage.resident += resident;
            if vma.sharing == Sharing::Shared || matches!(vma.label, Label::File(_)) {
                usage.resident_shared += resident;
            }
            if vma.flags.contains(VmaFlags::GROWSDOWN) {
                usage.stack += len;
            }
            if vma.access.contains(Access::EXEC) && matches!(vma.label, Label::File(_)) {
                usage.libraries += len;
            }
        }
        usage.libraries = usage.libraries.saturating_sub(code);
        usage
    }
}
