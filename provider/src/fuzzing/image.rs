//! Program images: any bytes may be handed to execve. Loading answers with an error or an address space, and gives all memory back.
//!
//! Random bytes are hardly ever a program, so the input is a list of changes to one that is good.

use super::input::Input;
use crate::errno::Errno;
use crate::exec::file::{ImageFile, ImageFiles, ObjectImage};
use crate::exec::{Environment, Machine, Request, load};
use crate::mm::{MemoryLimits, Randomize};
use crate::task::Credentials;
use std::sync::Arc;
use vmm::memory::{GuestMemory, MemoryObject};

/// The image is every file there is: a script may name it, and it may be its own interpreter.
struct Everywhere(Arc<MemoryObject>);

impl ImageFiles for Everywhere {
    fn open(&self, _path: &[u8]) -> Result<Box<dyn ImageFile + '_>, Errno> {
        Ok(Box::new(ObjectImage(Arc::clone(&self.0))))
    }
}

thread_local! {
    static MEMORY: Arc<GuestMemory> =
        GuestMemory::detached(16 << 20).expect("the host has memory for a small sandbox");
}

/// Where the program's headers and its contents end.
const HEADERS: usize = 64 + 4 * 56;
const SIZE: usize = 0x300;

/// Loads an image.
pub fn image(data: &[u8]) {
    let bytes = build(Input::new(data));
    MEMORY.with(|memory| {
        let held = memory.held();
        try_to_load(memory, &bytes);
        assert_eq!(memory.held(), held, "loading gives back all memory");
    });
}

fn try_to_load(memory: &Arc<GuestMemory>, bytes: &[u8]) {
    let object = memory.new_object();
    if object.write_at(0, bytes).is_err() {
        return;
    }
    let file = ObjectImage(Arc::clone(&object));
    let files = Everywhere(object);
    let credentials = Credentials::new(1000, 1000, vec![]);
    let request = Request {
        file: &file,
        files: &files,
        name: b"/program".to_vec(),
        args: vec![b"program".to_vec()],
        env: vec![b"HOME=/".to_vec()],
    };
    let environment = Environment {
        memory,
        limits: MemoryLimits::default(),
        randomize: Randomize::No,
        machine: Machine::default(),
        credentials: &credentials,
        vdso: None,
    };
    if let Ok(loaded) = load(request, environment) {
        loaded.map.load_u32(loaded.stack).expect("the stack holds argc");
        let mappings = loaded.map.mappings();
        assert!(mappings.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "{mappings:?}");
    }
}

/// The image that the input describes: its own bytes, or changes to a good program.
fn build(mut input: Input<'_>) -> Vec<u8> {
    if input.byte().is_multiple_of(4) {
        return input.bytes(4096).to_vec();
    }
    let mut bytes = good();
    while !input.is_empty() {
        match input.byte() % 4 {
            // A byte, a word, or a word that is wrong in the usual ways.
            0 => {
                let at = usize::from(input.byte()) + usize::from(input.byte());
                let value = input.byte();
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = value);
            }
            1 => put(&mut bytes, usize::from(input.byte()) % (HEADERS / 8), input.word()),
            2 => {
                let edges =
                    [0, 1, 0xfff, 0x1000, 1 << 31, 1 << 32, (1 << 47) - 4096, 1 << 47, 1 << 63, u64::MAX - 4095];
                let at = usize::from(input.byte()) % (HEADERS / 8);
                put(&mut bytes, at, edges[usize::from(input.byte()) % edges.len()]);
            }
            _ => bytes.truncate(usize::from(input.byte()) * 4),
        }
    }
    bytes
}

fn put(bytes: &mut [u8], index: usize, value: u64) {
    if let Some(word) = bytes.get_mut(index * 8..index * 8 + 8) {
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// A position-independent program with an interpreter, code and data.
fn good() -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    let header = [
        0x0001_0102_464c_457f, // \x7fELF, 64 bits, little-endian, version 1
        0,
        0x1_003e_0003,         // ET_DYN, x86-64, version 1
        0x240,                 // entry
        64,                    // program headers
        0,                     // section headers
        0x0038_0040_0000_0000, // flags, header sizes
        4,                     // program headers
    ];
    let part = |kind: u64, flags: u64, offset: u64, size: u64, alignment: u64| {
        [kind | flags << 32, offset, offset, offset, size, size, alignment]
    };
    let parts = [
        part(3, 4, 0x200, 12, 1),
        part(1, 5, 0, 0x280, 0x1000),
        part(1, 6, 0x1280, 0x80, 0x1000),
        part(0x6474_e551, 6, 0, 0, 16),
    ];
    for (index, word) in header.into_iter().chain(parts.into_iter().flatten()).enumerate() {
        put(&mut bytes, index, word);
    }
    // The data lie in the file right behind the code, and a page further in memory.
    put(&mut bytes, 8 + 14 + 1, 0x280);
    bytes[0x200..0x20c].copy_from_slice(b"/lib/ld.so\0\0");
    bytes
}
