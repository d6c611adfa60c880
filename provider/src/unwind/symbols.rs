//! The names of an image's functions, from its symbol table (.symtab, else .dynsym).

use super::image::{Header, LE};
use crate::fs::io::buffer;
use object::LittleEndian;
use object::elf::{ELFMAG, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC, SectionHeader64, Sym64};
use object::pod;

type SectionHeader = SectionHeader64<LittleEndian>;
type Symbol = Sym64<LittleEndian>;

/// Section headers that are looked at.
const MOST_SECTIONS: u16 = 1024;
/// Bytes of a symbol table.
const MOST_TABLE: u64 = 16 << 20;
/// Bytes of a name that are shown.
const LONGEST_NAME: usize = 1024;

/// Reads all of a piece of the image's file, or tells that it cannot.
pub(super) type ReadFile<'a> = dyn Fn(u64, &mut [u8]) -> bool + 'a;

/// An image's symbol table.
pub(super) struct Symbols {
    table: Vec<u8>,
    /// Where the names lie in the file, and how many bytes they have.
    names: (u64, u64),
}

impl Symbols {
    /// Reads the table; `None` if the file has none, or is none that could have one.
    pub(super) fn load(read: &ReadFile<'_>, budget: &mut usize) -> Option<Self> {
        let mut bytes = [0; size_of::<Header>()];
        if !read(0, &mut bytes) {
            return None;
        }
        let (header, _) = pod::from_bytes::<Header>(&bytes).ok()?;
        if header.e_ident.magic != ELFMAG || usize::from(header.e_shentsize.get(LE)) != size_of::<SectionHeader>() {
            return None;
        }
        let count = usize::from(header.e_shnum.get(LE).min(MOST_SECTIONS));
        let mut bytes = buffer(count * size_of::<SectionHeader>()).ok()?;
        if !read(header.e_shoff.get(LE), &mut bytes) {
            return None;
        }
        let (sections, _) = pod::slice_from_bytes::<SectionHeader>(&bytes, count).ok()?;
        let of_kind = |kind| sections.iter().find(|section| section.sh_type.get(LE) == kind);
        let section = of_kind(SHT_SYMTAB).or_else(|| of_kind(SHT_DYNSYM))?;
        let names = sections.get(usize::try_from(section.sh_link.get(LE)).ok()?)?;
        let len = usize::try_from(section.sh_size.get(LE).min(MOST_TABLE)).ok()?;
        *budget = budget.checked_sub(len)?;
        let mut table = buffer(len).ok()?;
        let names = (names.sh_offset.get(LE), names.sh_size.get(LE));
        read(section.sh_offset.get(LE), &mut table).then_some(Self { table, names })
    }

    /// The name of the function that covers an address of the file, and where it begins.
    pub(super) fn find(&self, address: u64, read: &ReadFile<'_>) -> Option<(Vec<u8>, u64)> {
        let count = self.table.len() / size_of::<Symbol>();
        let (symbols, _) = pod::slice_from_bytes::<Symbol>(&self.table, count).ok()?;
        let covers = |symbol: &&Symbol| {
            let is_function = matches!(symbol.st_info & 0xf, STT_FUNC | STT_GNU_IFUNC);
            let within = address.checked_sub(symbol.st_value.get(LE));
            is_function && within.is_some_and(|within| within < symbol.st_size.get(LE).max(1))
        };
        let symbol = symbols.iter().find(covers)?;
        Some((self.name(symbol.st_name.get(LE).into(), read)?, symbol.st_value.get(LE)))
    }

    /// The name at an offset of the names.
    fn name(&self, offset: u64, read: &ReadFile<'_>) -> Option<Vec<u8>> {
        let (start, len) = self.names;
        let room = usize::try_from(len.checked_sub(offset)?).unwrap_or(usize::MAX);
        let mut name = vec![0; room.min(LONGEST_NAME)];
        if !read(start.checked_add(offset)?, &mut name) {
            return None;
        }
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        (!name.is_empty()).then_some(name)
    }
}
