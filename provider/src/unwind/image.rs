//! The ELF image that an address lies in, as it is mapped: its headers, its unwind tables, its file.

use super::symbols::Symbols;
use super::tables::Tables;
use crate::fs::io::buffer;
use crate::mm::{MappingInfo, MappingName, MemoryMap, Source};
use object::LittleEndian;
use object::elf::{ELFMAG, FileHeader64, PT_GNU_EH_FRAME, PT_LOAD, ProgramHeader64};
use object::pod;
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, USER_END, UserAddr, UserRange};

pub(super) type Header = FileHeader64<LittleEndian>;
type ProgramHeader = ProgramHeader64<LittleEndian>;
pub(super) const LE: LittleEndian = LittleEndian;

/// Program headers that are looked at.
const MOST_HEADERS: u16 = 64;
/// Bytes of an image's unwind tables, each of the two.
const MOST_TABLE: u64 = 16 << 20;

/// An ELF image in a process's memory.
pub(super) struct Image {
    name: Vec<u8>,
    /// The mapped range that was looked up.
    range: UserRange,
    /// Where the first byte of the file lies.
    start: u64,
    /// What is added to the addresses in the file.
    bias: u64,
    tables: Option<Tables>,
    source: Option<Source>,
    /// Loaded when the first name is asked for; `None` within: there are none.
    symbols: Option<Option<Symbols>>,
}

impl Image {
    /// Finds the image that `code` lies in.
    pub(super) fn find(mm: &MemoryMap, mappings: &[MappingInfo], code: u64, budget: &mut usize) -> Option<Self> {
        let at = mappings.iter().position(|mapping| mapping.range.contains(UserAddr(code)))?;
        let (mapping, before) = mappings.split_at(at + 1).0.split_last()?;
        let (name, start, source) = match &mapping.name {
            MappingName::File(file) => {
                let is_same =
                    |other: &MappingInfo| matches!(&other.name, MappingName::File(other) if Arc::ptr_eq(other, file));
                let first = std::iter::once(mapping).chain(before.iter().rev());
                let first = first.into_iter().find(|other| is_same(other) && other.offset == 0)?;
                (file.location().path(), first.range.start.0, mm.source_at(mapping.range.start))
            }
            MappingName::Special(name) => (name.as_bytes().to_vec(), mapping.range.start.0, None),
            _ => return None,
        };
        let range = mapping.range;
        let mut image = Self { name, range, start, bias: start, tables: None, source, symbols: None };
        image.read_headers(mm, budget);
        Some(image)
    }

    /// Reads the program headers, and finds the unwind tables.
    fn read_headers(&mut self, mm: &MemoryMap, budget: &mut usize) -> Option<()> {
        let mut bytes = [0; size_of::<Header>()];
        mm.read(UserAddr(self.start), &mut bytes).ok()?;
        let (header, _) = pod::from_bytes::<Header>(&bytes).ok()?;
        if header.e_ident.magic != ELFMAG || usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader>() {
            return None;
        }
        let count = usize::from(header.e_phnum.get(LE).min(MOST_HEADERS));
        let mut bytes = vec![0; count * size_of::<ProgramHeader>()];
        mm.read(UserAddr(self.start.checked_add(header.e_phoff.get(LE))?), &mut bytes).ok()?;
        let (headers, _) = pod::slice_from_bytes::<ProgramHeader>(&bytes, count).ok()?;
        let loaded = |header: &&ProgramHeader| header.p_type.get(LE) == PT_LOAD;
        let first = headers.iter().filter(loaded).find(|header| header.p_offset.get(LE) < PAGE_SIZE)?;
        self.bias = self.start.wrapping_sub(first.p_vaddr.get(LE) & !(PAGE_SIZE - 1));
        let index = headers.iter().find(|header| header.p_type.get(LE) == PT_GNU_EH_FRAME)?;
        let at = self.bias.wrapping_add(index.p_vaddr.get(LE));
        let index = read_range(mm, at, index.p_memsz.get(LE), budget)?;
        let table = Tables::place(&index, at)?;
        // The table ends with its segment at the latest: there is no other word of its size.
        let end_of = |header: &ProgramHeader| {
            let start = self.bias.wrapping_add(header.p_vaddr.get(LE));
            let end = start.checked_add(header.p_memsz.get(LE))?;
            (start <= table && table < end).then_some(end)
        };
        let end = headers.iter().filter(loaded).find_map(end_of)?;
        let frames = read_range(mm, table, (end - table).min(MOST_TABLE), budget)?;
        self.tables = Some(Tables::new(at, index, table, frames));
        Some(())
    }

    pub(super) fn contains(&self, code: u64) -> bool {
        self.range.contains(UserAddr(code))
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// An address as the image's file has it.
    pub(super) fn offset(&self, address: u64) -> u64 {
        address.wrapping_sub(self.bias)
    }

    pub(super) fn tables(&self) -> Option<&Tables> {
        self.tables.as_ref()
    }

    /// The name of the function that `code` lies in, and where that begins in memory.
    pub(super) fn symbol(&mut self, mm: &MemoryMap, code: u64, budget: &mut usize) -> Option<(Vec<u8>, u64)> {
        let (source, start, length) = (self.source.as_ref(), self.start, self.range.len());
        let read = |offset: u64, to: &mut [u8]| match source {
            Some(source) => read_source(source, offset, to),
            // No file is behind it, and all of it is mapped.
            None => {
                let end = offset.checked_add(to.len() as u64).filter(|end| *end <= length);
                end.is_some() && mm.read(UserAddr(start.saturating_add(offset)), to).is_ok()
            }
        };
        let symbols = self.symbols.get_or_insert_with(|| Symbols::load(&read, budget)).as_ref()?;
        let (name, value) = symbols.find(code.wrapping_sub(self.bias), &read)?;
        Some((name, value.wrapping_add(self.bias)))
    }
}

/// Reads all of `to` from the contents of a mapping.
fn read_source(source: &Source, offset: u64, to: &mut [u8]) -> bool {
    let mut done = 0;
    while done < to.len() {
        let at = offset.saturating_add(done as u64);
        let read = match source {
            Source::Object(object) => object.read_at(at, &mut to[done..]).unwrap_or_default(),
            Source::Host(file) => vmm::memory::read_at(file.fd(), &mut to[done..], at).unwrap_or_default(),
        };
        if read == 0 {
            return false;
        }
        done += read;
    }
    true
}

/// Reads memory, if it is there and the walk may still read so much.
fn read_range(mm: &MemoryMap, start: u64, len: u64, budget: &mut usize) -> Option<Vec<u8>> {
    let range = UserRange::new(UserAddr(start), len).filter(|range| range.end.0 <= USER_END)?;
    let len = usize::try_from(range.len()).ok().filter(|_| len <= MOST_TABLE)?;
    *budget = budget.checked_sub(len)?;
    let mut bytes = buffer(len).ok()?;
    let read = mm.read_partial(range.start, &mut bytes).ok()?;
    bytes.truncate(read);
    Some(bytes)
}
