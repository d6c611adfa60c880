//! What a shared object says about itself in its ELF headers, read before the dynamic linker sees it.

use crate::addr::PAGE_SIZE;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, elf};
use std::ffi::{CStr, CString};

/// The libraries that an object needs beside itself; `None` if it is not a shared object for this processor.
pub(super) fn needed(object: &[u8]) -> Option<Vec<CString>> {
    let header = elf::FileHeader64::<Endianness>::parse(object).ok()?;
    let endian = header.endian().ok()?;
    if header.e_type(endian) != elf::ET_DYN || header.e_machine(endian) != elf::EM_X86_64 {
        return None;
    }
    let segments = header.program_headers(endian, object).ok()?;
    let entries = segments.iter().find_map(|segment| segment.dynamic(endian, object).ok()?)?;
    let value =
        |tag: u32| entries.iter().find(|entry| entry.tag32(endian) == Some(tag)).map(|entry| entry.d_val(endian));
    let names: Vec<u64> = entries
        .iter()
        .take_while(|entry| entry.tag32(endian) != Some(elf::DT_NULL))
        .filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED))
        .map(|entry| entry.d_val(endian))
        .collect();
    if names.is_empty() {
        return Some(Vec::new());
    }
    let (start, len) = (value(elf::DT_STRTAB)?, value(elf::DT_STRSZ)?);
    let in_segment =
        |segment: &elf::ProgramHeader64<Endianness>| segment.data_range(endian, object, start, len).ok()?;
    let strings = segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD).find_map(in_segment)?;
    let name = |offset: u64| {
        let rest = strings.get(usize::try_from(offset).ok()?..)?;
        CStr::from_bytes_until_nul(rest).ok().map(CStr::to_owned)
    };
    names.into_iter().map(name).collect()
}

/// A part of an object that is constant once the dynamic linker has loaded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Constant {
    /// Where it begins, from where the object does.
    pub(super) offset: u64,
    /// Bytes in it.
    pub(super) len: u64,
    /// Whether it is code.
    pub(super) code: bool,
}

/// The parts of an object that are constant: segments that nobody may write to, and what the linker has relocated and then made
/// read-only (the whole pages of it, as glibc has it).
pub(super) fn constants(object: &[u8]) -> Option<Vec<Constant>> {
    let header = elf::FileHeader64::<Endianness>::parse(object).ok()?;
    let endian = header.endian().ok()?;
    let mut constants = Vec::new();
    for segment in header.program_headers(endian, object).ok()? {
        let (flags, offset) = (segment.p_flags(endian), segment.p_vaddr(endian));
        let end = offset.checked_add(segment.p_memsz(endian))?;
        let end = match segment.p_type(endian) {
            elf::PT_LOAD if flags & elf::PF_W == 0 => end,
            elf::PT_GNU_RELRO => end & !(PAGE_SIZE - 1),
            _ => continue,
        };
        if offset < end {
            constants.push(Constant { offset, len: end - offset, code: flags & elf::PF_X != 0 });
        }
    }
    Some(constants)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_shared_object_is_not_one() {
        assert_eq!(needed(b""), None);
        assert_eq!(needed(b"not an object"), None);
        assert_eq!(constants(b"not an object"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut object = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".to_vec();
            object.extend(tail);
            let _ = needed(&object);
            let _ = constants(&object);
        }
    }
}
