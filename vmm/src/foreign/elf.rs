//! What a shared object says about itself in its ELF headers, read before the dynamic linker sees it.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_shared_object_is_not_one() {
        assert_eq!(needed(b""), None);
        assert_eq!(needed(b"not an object"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut object = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".to_vec();
            object.extend(tail);
            let _ = needed(&object);
        }
    }
}
