//! Tests of memory policy on detached memory.

mod advise;
mod buffers;
mod faults;
mod limits;
mod mapping;
mod model;
mod remap;

use super::{
    Backing, Content, Extend, Label, Layout, MapRequest, MemoryLimits, MemoryMap, Placement, Randomize, Sharing, Source,
};
use crate::errno::Errno;
use std::fmt::Write;
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::{Access, GuestMemory, MemoryObject};

const RW: Access = Access::READ.union(Access::WRITE);
/// Where tests put what needs a place.
const AT: u64 = 0x10_0000_0000;

fn map_with(limit: u64) -> Arc<MemoryMap> {
    let memory = GuestMemory::detached(limit).unwrap();
    MemoryMap::with_layout(&memory, MemoryLimits::default(), Layout::new(8 << 20, Randomize::No)).unwrap()
}

fn map() -> Arc<MemoryMap> {
    map_with(512 << 20)
}

fn page(number: u64) -> UserAddr {
    UserAddr(AT + number * PAGE_SIZE)
}

fn pages(numbers: std::ops::Range<u64>) -> UserRange {
    UserRange { start: page(numbers.start), end: page(numbers.end) }
}

fn fixed(range: UserRange, access: Access) -> MapRequest {
    MapRequest::anonymous(range.len(), access).fixed(range.start)
}

fn object_content(object: &Arc<MemoryObject>, offset: u64, sharing: Sharing) -> Content {
    Content {
        backing: Backing::Source { source: Source::Object(Arc::clone(object)), offset },
        sharing,
        max_access: Access::all(),
        label: Label::None,
    }
}

fn byte(map: &MemoryMap, at: UserAddr) -> Result<u8, Errno> {
    let mut byte = [0];
    map.read(at, &mut byte).map(|()| byte[0])
}

/// The mappings, as ranges of page numbers from [`AT`] with their rights.
fn show(map: &MemoryMap) -> String {
    let mut text = String::new();
    for mapping in map.mappings() {
        let number = |addr: UserAddr| addr.0.wrapping_sub(AT).cast_signed() / PAGE_SIZE.cast_signed();
        let right = |right, name| if mapping.access.contains(right) { name } else { '-' };
        let (r, w, x) = (right(Access::READ, 'r'), right(Access::WRITE, 'w'), right(Access::EXEC, 'x'));
        let kind = if mapping.sharing == Sharing::Shared { 's' } else { 'p' };
        writeln!(text, "{}..{} {r}{w}{x}{kind}", number(mapping.range.start), number(mapping.range.end)).unwrap();
    }
    text
}
