//! Puts a checked ELF program into an address space (`fs/binfmt_elf.c`).

use super::LoadError;
use super::elf::{Elf, Kind, Segment};
use super::file::ImageFile;
use crate::errno::Errno;
use crate::mm::{Backing, Content, Label, MapRequest, MemoryMap, Placement, Sharing, Source};
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::Access;

/// Where an ELF program has been put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// What is added to the addresses in the file.
    pub(super) bias: u64,
    /// The first instruction.
    pub(super) entry: UserAddr,
    /// One past the last page.
    pub(super) end: UserAddr,
    /// From the first to the last executable segment.
    pub(super) code: UserRange,
    /// From the first to the last segment that is not executable.
    pub(super) data: UserRange,
    /// Where the program headers are; 0 if they are in no segment.
    pub(super) headers: UserAddr,
}

/// Where a relocatable program goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where programs with an interpreter go, away from the mapping area.
    ProgramArea,
    /// Where mmap puts it: interpreters, and programs that need none.
    MappingArea,
}

/// Maps all segments of `elf` and zeroes what follows their bytes from the file.
pub(super) fn place(map: &MemoryMap, file: &dyn ImageFile, elf: &Elf, place: Place) -> Result<Placed, LoadError> {
    let (start, end) = elf.span();
    let limit = map.memory().limit();
    let needed = elf.writable_bytes();
    if needed > limit {
        return Err(LoadError::TooLarge { needed, limit });
    }
    let bias = match (elf.kind, place) {
        (Kind::Fixed, _) => 0,
        (Kind::Relocatable, Place::ProgramArea) => {
            let base = map.layout().pie_base.0 & !(elf.alignment - 1);
            base.wrapping_sub(start & !(elf.alignment - 1))
        }
        (Kind::Relocatable, Place::MappingArea) => find_room(map, start, end, elf.alignment)?,
    };
    let source = file.source().map_err(LoadError::Read)?;
    for segment in &elf.segments {
        map_segment(map, segment, bias, &source, &file.label())?;
    }
    let at = |address: u64| UserAddr(address.wrapping_add(bias));
    let bounds = |executable: bool| {
        let of_kind = || elf.segments.iter().filter(|segment| segment.access.contains(Access::EXEC) == executable);
        let from = of_kind().map(|segment| segment.address).min().unwrap_or(start);
        let to = of_kind().map(Segment::file_end).max().unwrap_or(start);
        UserRange { start: at(from), end: at(to) }
    };
    Ok(Placed {
        bias,
        entry: at(elf.entry),
        end: at(end),
        code: bounds(true),
        data: bounds(false),
        headers: elf.headers_address.map_or(UserAddr(0), at),
    })
}

/// Finds addresses for `[start, end)` in the mapping area and returns the bias that moves it there.
fn find_room(map: &MemoryMap, start: u64, end: u64, alignment: u64) -> Result<u64, LoadError> {
    let slack = alignment - PAGE_SIZE;
    let len = end - start + slack;
    // The map is this loader's alone, so what is free after the reservation is undone stays free.
    let request = MapRequest::anonymous(len, Access::empty());
    let room = map.map(request).map_err(LoadError::of_memory(map.memory()))?;
    map.unmap(room, len).map_err(LoadError::of_memory(map.memory()))?;
    // The start must keep its offset within the alignment.
    let offset = start & (alignment - 1);
    let aligned = (room.0 & !(alignment - 1)) + offset;
    let base = if aligned < room.0 { aligned + alignment } else { aligned };
    Ok(base.wrapping_sub(start))
}

fn map_segment(map: &MemoryMap, segment: &Segment, bias: u64, source: &Source, label: &Label) -> Result<(), LoadError> {
    let moved = |address: u64| UserAddr(address.wrapping_add(bias));
    let page_up = |address: UserAddr| address.page_up().unwrap_or(address);
    let mut zero_from = moved(segment.page_start());
    if segment.file_size > 0 {
        let start = moved(segment.page_start());
        let in_page = segment.address - segment.page_start();
        let content = Content {
            backing: Backing::Source { source: source.clone(), offset: segment.offset - in_page },
            sharing: Sharing::Private,
            max_access: Access::all(),
            label: label.clone(),
        };
        map_fixed(map, start, segment.file_size + in_page, segment.access, content)?;
        let file_end = moved(segment.file_end());
        zero_from = page_up(file_end);
        // The rest of the last page belongs to the zeroed part; a read-only segment keeps the file's bytes, as on Linux.
        let tail = UserRange { start: file_end, end: zero_from };
        if segment.memory_size > segment.file_size && segment.access.contains(Access::WRITE) {
            map.zero(tail).map_err(LoadError::of_memory(map.memory()))?;
        }
    }
    let zero_to = page_up(moved(segment.end()));
    if zero_to > zero_from {
        // Linux makes this part readable and writable whatever the segment says (vm_brk_flags).
        let access = Access::READ | Access::WRITE | (segment.access & Access::EXEC);
        map_fixed(map, zero_from, zero_to.0 - zero_from.0, access, Content::anonymous())?;
    }
    Ok(())
}

fn map_fixed(map: &MemoryMap, at: UserAddr, len: u64, access: Access, content: Content) -> Result<(), LoadError> {
    let request = MapRequest { content: Ok(content), ..MapRequest::anonymous(len, access).fixed(at) };
    debug_assert_eq!(request.placement, Placement::Fixed);
    map.map(request).map(drop).map_err(|error| match error {
        Errno::EPERM | Errno::EINVAL => LoadError::OutOfRange { address: at.0, size: len },
        other => LoadError::of_memory(map.memory())(other),
    })
}
