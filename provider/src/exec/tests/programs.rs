//! The host's own programs load: what compilers and linkers really make.

use super::*;
use std::fs;

struct Host(Arc<GuestMemory>);

impl ImageFiles for Host {
    fn open(&self, path: &[u8]) -> Result<Box<dyn ImageFile + '_>, Errno> {
        let path = std::str::from_utf8(path).map_err(|_| Errno::ENOENT)?;
        let bytes = fs::read(path).map_err(|_| Errno::ENOENT)?;
        Ok(Box::new(image(&self.0, &bytes)))
    }
}

#[test]
fn this_test_program_loads_with_its_dynamic_linker() {
    let memory = GuestMemory::detached(1 << 30).unwrap();
    let path = std::env::current_exe().unwrap();
    let bytes = fs::read(path).unwrap();
    let loaded = load_with(&memory, &bytes, &Host(memory.clone())).unwrap();
    let mut start = [0; 4];
    // The entry is code of the dynamic linker or of the program itself, mapped and executable.
    loaded.map.read(loaded.entry, &mut start).unwrap();
    assert_eq!(loaded.map.resolve_fault(loaded.entry, vmm::memory::Access::EXEC), Ok(()));
    let program = loaded.map.program().unwrap();
    assert!(program.code.len() > 1 << 16);
}
