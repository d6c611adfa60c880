//! The ELF image of a core: headers, notes, and the memory, of which untouched parts are holes in the file.

use crate::errno::Errno;
use crate::fs::{BufferSource, OpenFile};
use crate::mm::{MappingInfo, MappingName, MemoryMap, Sharing, VmaFlags};
use crate::task::CurrentTask;
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::Access;
use zerocopy::{Immutable, IntoBytes};

/// `Elf64_Ehdr`
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct FileHeader {
    identity: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    program_headers: u64,
    section_headers: u64,
    flags: u32,
    size: u16,
    program_header_size: u16,
    program_header_count: u16,
    section_header_size: u16,
    section_header_count: u16,
    section_names: u16,
}

/// `Elf64_Phdr`
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

const FILE_HEADER_BYTES: u64 = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;
const _: () = {
    assert!(size_of::<FileHeader>() == 64);
    assert!(size_of::<ProgramHeader>() == 56);
};

const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// More mappings than a header can count (PN_XNUM less the notes' own) are left out: a process has fewer.
const MAPPINGS_MAX: usize = 0xfffe - 1;

bitflags::bitflags! {
    /// /proc/PID/coredump_filter
    #[derive(Clone, Copy, Debug)]
    struct Filter: u32 {
        const ANONYMOUS_PRIVATE = 1;
        const ANONYMOUS_SHARED = 1 << 1;
        const FILE_PRIVATE = 1 << 2;
        const FILE_SHARED = 1 << 3;
        const ELF_HEADERS = 1 << 4;
    }
}

/// Writes the image. Where the file or the limit ends it, the core is cut short, as Linux's is.
pub(super) fn write(task: &CurrentTask<'_>, file: &Arc<OpenFile>, notes: &[u8], limit: u64) {
    let mm = task.mm();
    let filter = Filter::from_bits_truncate(mm.core_filter());
    let mut mappings = mm.mappings();
    mappings.truncate(MAPPINGS_MAX);
    let sizes: Vec<u64> = mappings.iter().map(|mapping| dumped(&mm, mapping, filter)).collect();
    let (headers, start) = headers(&mappings, &sizes, notes.len());
    let mut core = Core { task, file, limit };
    // An error here is one of the file's, and nobody is left to hear of it.
    let _ = core.write(&headers, notes, &mappings, &sizes, start);
}

/// How much of a mapping is dumped, from its start on (vma_dump_size).
fn dumped(mm: &MemoryMap, mapping: &MappingInfo, filter: Filter) -> u64 {
    let len = mapping.range.len();
    let whole = |wanted: Filter| if filter.contains(wanted) { len } else { 0 };
    if let MappingName::Special(name) = mapping.name {
        // The vDSO's code is needed to unwind; its data is of no use later.
        return if name == "[vdso]" { len } else { 0 };
    }
    if mapping.flags.contains(VmaFlags::DONTDUMP) {
        return 0;
    }
    let shared = mapping.sharing == Sharing::Shared;
    match &mapping.name {
        MappingName::File(_) if shared => whole(Filter::FILE_SHARED),
        // Read-only by now, maybe: a linked program's relocations.
        MappingName::File(_) if filter.contains(Filter::ANONYMOUS_PRIVATE) && mm.space().has_copies(mapping.range) => {
            len
        }
        MappingName::File(_) if filter.contains(Filter::FILE_PRIVATE) => len,
        MappingName::File(_) if filter.contains(Filter::ELF_HEADERS) && starts_elf(mm, mapping) => PAGE_SIZE.min(len),
        MappingName::File(_) => 0,
        _ if shared => whole(Filter::ANONYMOUS_SHARED),
        _ if mm.space().contents(mapping.range) == 0 => 0,
        _ => whole(Filter::ANONYMOUS_PRIVATE),
    }
}

/// Tells whether a mapping begins with an ELF file's header, by which debuggers identify the file.
fn starts_elf(mm: &MemoryMap, mapping: &MappingInfo) -> bool {
    let mut magic = [0; 4];
    let readable = mapping.offset == 0 && mapping.access.contains(Access::READ);
    readable && mm.read(mapping.range.start, &mut magic).is_ok() && magic == *b"\x7fELF"
}

/// The headers of file and program, and where the memory starts.
fn headers(mappings: &[MappingInfo], sizes: &[u64], notes_len: usize) -> (Vec<u8>, u64) {
    let bytes = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    let count = mappings.len() + 1;
    let notes_at = FILE_HEADER_BYTES + bytes(count) * PROGRAM_HEADER_BYTES;
    let start = (notes_at + bytes(notes_len)).next_multiple_of(PAGE_SIZE);
    let mut identity = [0; 16];
    // Little-endian words of 64 bits, version 1.
    identity[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let file = FileHeader {
        identity,
        kind: ET_CORE,
        machine: EM_X86_64,
        version: 1,
        entry: 0,
        program_headers: FILE_HEADER_BYTES,
        section_headers: 0,
        flags: 0,
        size: 64,
        program_header_size: 56,
        program_header_count: u16::try_from(count).unwrap_or(u16::MAX),
        section_header_size: 0,
        section_header_count: 0,
        section_names: 0,
    };
    let notes = ProgramHeader {
        kind: PT_NOTE,
        flags: 0,
        offset: notes_at,
        address: 0,
        physical: 0,
        file_size: bytes(notes_len),
        memory_size: 0,
        alignment: 4,
    };
    let mut all = [file.as_bytes(), notes.as_bytes()].concat();
    let mut offset = start;
    for (mapping, size) in mappings.iter().zip(sizes) {
        let flag = |access, bit| if mapping.access.contains(access) { bit } else { 0 };
        let header = ProgramHeader {
            kind: PT_LOAD,
            flags: flag(Access::READ, 4) | flag(Access::WRITE, 2) | flag(Access::EXEC, 1),
            offset,
            address: mapping.range.start.0,
            physical: 0,
            file_size: *size,
            memory_size: mapping.range.len(),
            alignment: PAGE_SIZE,
        };
        all.extend(header.as_bytes());
        offset += size;
    }
    (all, start)
}

/// The file, and how much it may hold.
struct Core<'a, 't> {
    task: &'a CurrentTask<'t>,
    file: &'a Arc<OpenFile>,
    limit: u64,
}

impl Core<'_, '_> {
    /// How much memory is looked at, or copied, at a time.
    const PIECE: u64 = 64 << 10;

    fn write(
        &mut self,
        headers: &[u8],
        notes: &[u8],
        mappings: &[MappingInfo],
        sizes: &[u64],
        start: u64,
    ) -> Result<(), Errno> {
        self.put(0, headers)?;
        self.put(u64::try_from(headers.len()).unwrap_or(u64::MAX), notes)?;
        let mut offset = start;
        for (mapping, size) in mappings.iter().zip(sizes) {
            if let Some(range) = UserRange::new(mapping.range.start, *size).filter(|range| !range.is_empty()) {
                self.memory(range, offset)?;
            }
            offset += size;
        }
        // What comes last may be a hole.
        let short = self.file.location().inode().stat()?.size < offset;
        if short && offset <= self.limit { self.file.file().set_size(offset) } else { Ok(()) }
    }

    /// Writes what of a range was ever touched. It is halved until that is known of each piece.
    fn memory(&mut self, range: UserRange, offset: u64) -> Result<(), Errno> {
        let mut todo = vec![(range, offset)];
        while let Some((range, offset)) = todo.pop() {
            if self.task.is_killed() {
                return Err(Errno::EINTR);
            }
            if self.task.mm().space().contents(range) == 0 {
                continue;
            }
            if range.len() <= Self::PIECE {
                self.piece(range, offset)?;
                continue;
            }
            let half = (range.len() / 2).next_multiple_of(Self::PIECE);
            let middle = UserAddr(range.start.0 + half);
            // The lower half is done first.
            todo.extend(UserRange::new(middle, range.len() - half).map(|upper| (upper, offset + half)));
            todo.extend(UserRange::new(range.start, half).map(|lower| (lower, offset)));
        }
        Ok(())
    }

    /// Writes the pages of a piece that can be read and hold something.
    fn piece(&mut self, range: UserRange, offset: u64) -> Result<(), Errno> {
        let mm = self.task.mm();
        let mut page = [0; 4096];
        const { assert!(PAGE_SIZE == 4096) };
        for done in (0..range.len()).step_by(4096) {
            let readable = mm.read_as_others(UserAddr(range.start.0 + done), &mut page);
            if readable == Ok(page.len()) && page.iter().any(|byte| *byte != 0) {
                self.put(offset + done, &page)?;
            }
        }
        Ok(())
    }

    /// Writes bytes, as far as the limit allows.
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let room = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut rest = &bytes[..bytes.len().min(room)];
        let mut offset = offset;
        while !rest.is_empty() {
            let written = self.file.write_at(self.task, offset, &mut BufferSource::new(rest))?;
            if written == 0 {
                return Err(Errno::EIO);
            }
            rest = &rest[written..];
            offset += u64::try_from(written).unwrap_or_default();
        }
        if room < bytes.len() { Err(Errno::EFBIG) } else { Ok(()) }
    }
}
