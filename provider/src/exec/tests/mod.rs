//! Tests of the loader on detached memory.

mod builder;
mod hostile;
mod images;
mod programs;
mod random;

use super::file::{ImageFile, ImageFiles, NoFiles, ObjectImage};
use super::{Environment, LoadError, Loaded, Machine, Request, load};
use crate::errno::Errno;
use crate::mm::{MemoryLimits, Randomize};
use crate::task::Credentials;
use std::collections::HashMap;
use std::sync::Arc;
use vmm::addr::UserAddr;
use vmm::memory::GuestMemory;

/// Programs by path.
#[derive(Default)]
struct Files(HashMap<Vec<u8>, Vec<u8>>, Option<Arc<GuestMemory>>);

impl Files {
    fn new(memory: &Arc<GuestMemory>, files: &[(&str, Vec<u8>)]) -> Self {
        let files = files.iter().map(|(path, bytes)| (path.as_bytes().to_vec(), bytes.clone())).collect();
        Self(files, Some(Arc::clone(memory)))
    }
}

impl ImageFiles for Files {
    fn open(&self, path: &[u8]) -> Result<Box<dyn ImageFile + '_>, Errno> {
        let memory = self.1.as_ref().ok_or(Errno::ENOENT)?;
        self.0.get(path).map(|bytes| Box::new(image(memory, bytes)) as Box<dyn ImageFile>).ok_or(Errno::ENOENT)
    }
}

fn image(memory: &Arc<GuestMemory>, bytes: &[u8]) -> ObjectImage {
    let object = memory.new_object();
    object.write_at(0, bytes).unwrap();
    ObjectImage(object)
}

fn memory() -> Arc<GuestMemory> {
    GuestMemory::detached(64 << 20).unwrap()
}

/// Loads `bytes` as `/program a b` with one environment variable.
fn load_with(memory: &Arc<GuestMemory>, bytes: &[u8], files: &dyn ImageFiles) -> Result<Loaded, LoadError> {
    let strings = |list: &[&str]| list.iter().map(|string| string.as_bytes().to_vec()).collect::<Vec<_>>();
    load_strings(memory, bytes, files, strings(&["program", "a", "b"]), strings(&["HOME=/"]))
}

fn load_strings(
    memory: &Arc<GuestMemory>,
    bytes: &[u8],
    files: &dyn ImageFiles,
    args: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
) -> Result<Loaded, LoadError> {
    let file = image(memory, bytes);
    let request = Request { file: &file, files, name: b"/program".to_vec(), args, env };
    let credentials = Credentials::new(1000, 100, vec![]);
    let environment = Environment {
        memory,
        limits: MemoryLimits::default(),
        randomize: Randomize::No,
        machine: Machine { hwcap: 0x178b_fbff, hwcap2: 2, xsave_size: 2696, rseq: true },
        credentials: &credentials,
        vdso: None,
    };
    load(request, environment)
}

fn load_alone(bytes: &[u8]) -> Result<Loaded, LoadError> {
    load_with(&memory(), bytes, &NoFiles)
}

fn bytes_at(loaded: &Loaded, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    loaded.map.read(UserAddr(at), &mut bytes).unwrap();
    bytes
}

fn word(loaded: &Loaded, at: u64) -> u64 {
    u64::from_ne_bytes(bytes_at(loaded, at, 8).try_into().unwrap())
}

fn string(loaded: &Loaded, at: u64) -> String {
    String::from_utf8(loaded.map.read_cstr(UserAddr(at), 4096).unwrap().unwrap()).unwrap()
}
