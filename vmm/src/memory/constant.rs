//! Memory objects whose bytes never change: code that programs are given to execute, such as a vDSO.
//!
//! Programs map them privately, so what they store goes to copies. That the objects are what they were made from is looked
//! at together with everything else that is protected ([`crate::protect`]).

use super::{GuestMemory, MemoryError, MemoryObject, lock};
use crate::addr::PAGE_SIZE;
use crate::protect::Corruption;
use std::sync::{Arc, Weak};

/// A constant object, and what it must hold.
#[derive(Debug)]
pub(super) struct Constant {
    name: &'static str,
    bytes: &'static [u8],
    object: Weak<MemoryObject>,
}

impl GuestMemory {
    /// Makes a memory object of whole pages that hold `bytes` and then zeroes, for as long as it lives. A report of damage
    /// calls it `name`.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new_constant(
        self: &Arc<Self>,
        name: &'static str,
        bytes: &'static [u8],
    ) -> Result<Arc<MemoryObject>, MemoryError> {
        let object = self.new_object();
        if object.write_at(0, bytes)? < bytes.len() {
            return Err(MemoryError::LimitReached);
        }
        object.set_size(object.size().next_multiple_of(PAGE_SIZE));
        lock(&self.constants).push(Constant { name, bytes, object: Arc::downgrade(&object) });
        Ok(object)
    }

    /// Tells whether the constant objects hold what they were made with.
    pub(crate) fn check_constants(&self) -> Result<(), Corruption> {
        let alive = |constant: &Constant| Some((constant.name, constant.bytes, constant.object.upgrade()?));
        let constants: Vec<_> = lock(&self.constants).iter().filter_map(alive).collect();
        for (name, bytes, object) in constants {
            let mut expected = bytes.to_vec();
            expected.resize(bytes.len().next_multiple_of(super::arena::usize_of(PAGE_SIZE)), 0);
            let mut actual = vec![0; expected.len()];
            let read = object.read_at(0, &mut actual);
            if read != Ok(expected.len()) || actual != expected {
                return Err(Corruption::of_bytes(name.to_owned(), 0, &expected, &actual));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_object_that_was_stored_to_is_found() {
        let memory = GuestMemory::detached(1 << 24).unwrap();
        let object = memory.new_constant("some code", &[1, 2, 3]).unwrap();
        assert_eq!((object.size(), memory.check_constants()), (PAGE_SIZE, Ok(())));
        for offset in [1, 3, PAGE_SIZE - 1] {
            let mut byte = [0];
            object.read_at(offset, &mut byte).unwrap();
            object.write_at(offset, &[byte[0] ^ 0x80]).unwrap();
            let found = memory.check_constants().unwrap_err();
            assert_eq!(found.name, "some code");
            assert_ne!(Some(found.expected), found.actual);
            object.write_at(offset, &byte).unwrap();
            assert_eq!(memory.check_constants(), Ok(()));
        }
        object.set_size(1);
        assert!(memory.check_constants().is_err());
        drop(object);
        assert_eq!(memory.check_constants(), Ok(()));
    }
}
