//! Program images: any bytes may be handed to execve. Loading answers with an error or an address space, and gives all memory back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use provider::errno::Errno;
use provider::exec::file::{ImageFile, ImageFiles, ObjectImage};
use provider::exec::{Environment, Machine, Request, load};
use provider::mm::{MemoryLimits, Randomize};
use provider::task::Credentials;
use std::sync::Arc;
use vmm::memory::{GuestMemory, MemoryObject};

/// The image is every file there is: a script may name it, and it may be its own interpreter.
struct Everywhere(Arc<MemoryObject>);

impl ImageFiles for Everywhere {
    fn open(&self, _path: &[u8]) -> Result<Box<dyn ImageFile + '_>, Errno> {
        Ok(Box::new(ObjectImage(Arc::clone(&self.0))))
    }
}

fuzz_target!(|data: &[u8]| {
    let memory = GuestMemory::detached(16 << 20).expect("the host has memory for a small sandbox");
    let object = memory.new_object();
    if object.write_at(0, data).is_err() {
        return;
    }
    let held = memory.held();
    {
        let file = ObjectImage(Arc::clone(&object));
        let files = Everywhere(Arc::clone(&object));
        let credentials = Credentials::new(1000, 1000, vec![]);
        let request = Request {
            file: &file,
            files: &files,
            name: b"/program".to_vec(),
            args: vec![b"program".to_vec()],
            env: vec![b"HOME=/".to_vec()],
        };
        let environment = Environment {
            memory: &memory,
            limits: MemoryLimits::default(),
            randomize: Randomize::No,
            machine: Machine::default(),
            credentials: &credentials,
            vdso: None,
        };
        if let Ok(loaded) = load(request, environment) {
            loaded.map.load_u32(loaded.stack).expect("the stack holds argc");
        }
    }
    assert_eq!(memory.held(), held, "loading gives back all memory");
});
