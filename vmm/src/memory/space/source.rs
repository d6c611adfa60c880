//! What lies behind the mapped ranges that are not anonymous: objects and host files.
//!
//! Kept so that an object that shrinks finds the pages that show it, and a host file that shrank likewise.

use super::super::{HostFile, MemoryObject};
use crate::addr::{UserAddr, UserRange};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a mapping's contents come from.
#[derive(Clone, Debug)]
pub(in crate::memory) enum Source {
    /// A memory object.
    Object(Arc<MemoryObject>),
    /// A host file.
    File(Arc<HostFile>),
}

impl Source {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A mapped range with its source.
#[derive(Clone, Debug)]
pub(in crate::memory) struct Mapping {
    end: UserAddr,
    offset: u64,
    source: Source,
    private: bool,
}

/// All mappings of a space that have a source, by start; they do not overlap.
#[derive(Debug, Default)]
pub(in crate::memory) struct Sources {
    mappings: BTreeMap<UserAddr, Mapping>,
}

impl Sources {
    /// Notes that `range` shows `source` from `offset` on. What was noted there before is returned, to be dropped
    /// outside of the space's lock.
    pub(in crate::memory) fn insert(
        &mut self,
        range: UserRange,
        source: Source,
        offset: u64,
        private: bool,
    ) -> Vec<Mapping> {
        let gone = self.remove(range);
        if range.is_empty() {
            return gone;
        }
        let mapping = Mapping { end: range.end, offset, source, private };
        if let Some((&start, before)) = self.mappings.range_mut(..range.start).next_back()
            && before.end == range.start
            && before.private == private
            && before.offset.checked_add(range.start.0 - start.0) == Some(offset)
            && before.source.is(&mapping.source)
        {
            before.end = range.end;
            return gone;
        }
        self.mappings.insert(range.start, mapping);
        gone
    }

    /// Forgets `range`; returns what was there, to be dropped outside of the space's lock.
    pub(in crate::memory) fn remove(&mut self, range: UserRange) -> Vec<Mapping> {
        let mut gone = Vec::new();
        if self.mappings.is_empty() || range.is_empty() {
            return gone;
        }
        self.cut(range.start);
        self.cut(range.end);
        let starts: Vec<_> = self.mappings.range(range.start..range.end).map(|(&start, _)| start).collect();
        gone.extend(starts.into_iter().filter_map(|start| self.mappings.remove(&start)));
        gone
    }

    /// Moves what is noted for `from` to `to`.
    pub(in crate::memory) fn shift(&mut self, from: UserRange, to: UserAddr) {
        if self.mappings.is_empty() {
            return;
        }
        self.cut(from.start);
        self.cut(from.end);
        let starts: Vec<_> = self.mappings.range(from.start..from.end).map(|(&start, _)| start).collect();
        for start in starts {
            if let Some(mut mapping) = self.mappings.remove(&start) {
                let moved = UserAddr(start.0 - from.start.0 + to.0);
                mapping.end = UserAddr(moved.0 + (mapping.end.0 - start.0));
                self.mappings.insert(moved, mapping);
            }
        }
    }

    /// A copy without what lies in `left_out`.
    pub(in crate::memory) fn copy(&self, left_out: &[UserRange]) -> Self {
        let mut copy = Self { mappings: self.mappings.clone() };
        for range in left_out {
            // The original holds on to these, so nothing dies here.
            drop(copy.remove(*range));
        }
        copy
    }

    /// All mapped ranges in order: where, from what, whether copy on write, from which offset.
    pub(in crate::memory) fn all(&self) -> impl Iterator<Item = (UserRange, &Source, bool, u64)> {
        let whole = |(&start, mapping): (&UserAddr, &'_ Mapping)| UserRange { start, end: mapping.end };
        self.mappings.iter().map(move |entry| (whole(entry), &entry.1.source, entry.1.private, entry.1.offset))
    }

    /// The ranges that show offsets `from..to` of an object.
    pub(in crate::memory) fn showing(&self, object: u64, from: u64, to: u64) -> Vec<UserRange> {
        self.parts(from, to, |source| matches!(source, Source::Object(shown) if shown.id() == object))
    }

    /// The ranges that show a host file from offset `from` on.
    pub(in crate::memory) fn showing_file(&self, identity: (u64, u64), from: u64) -> Vec<UserRange> {
        self.parts(from, u64::MAX, |source| matches!(source, Source::File(shown) if shown.identity() == identity))
    }

    /// The parts of mappings of a source that show offsets `from..to` of it.
    fn parts(&self, from: u64, to: u64, is_wanted: impl Fn(&Source) -> bool) -> Vec<UserRange> {
        let shows = |(&start, mapping): (&UserAddr, &Mapping)| {
            let len = mapping.end.0 - start.0;
            let first = from.saturating_sub(mapping.offset).min(len);
            let last = to.saturating_sub(mapping.offset).min(len);
            let range = UserRange { start: UserAddr(start.0 + first), end: UserAddr(start.0 + last) };
            (first < last && is_wanted(&mapping.source)).then_some(range)
        };
        self.mappings.iter().filter_map(shows).collect()
    }

    /// The ranges that show host files, each with its file and the offset of its first page.
    pub(in crate::memory) fn files(&self) -> Vec<(UserRange, Arc<HostFile>, u64)> {
        let file = |(&start, mapping): (&UserAddr, &Mapping)| match &mapping.source {
            Source::File(file) => Some((UserRange { start, end: mapping.end }, file.clone(), mapping.offset)),
            Source::Object(_) => None,
        };
        self.mappings.iter().filter_map(file).collect()
    }

    /// Cuts the mapping around `at` in two.
    fn cut(&mut self, at: UserAddr) {
        let Some((&start, mapping)) = self.mappings.range_mut(..at).next_back() else { return };
        if mapping.end <= at {
            return;
        }
        let mut upper = mapping.clone();
        upper.offset += at.0 - start.0;
        mapping.end = at;
        self.mappings.insert(at, upper);
    }
}
