//! The file window: chunks of host files mapped shared into extents of the arena, one per (device, inode, chunk).
//!
//! Text pages are the host's page cache, never copied, and shared between processes and sandboxes. A chunk that no entry
//! points to stays mapped until its place is wanted, least recently used first. Entries never point beyond a file's
//! present end: the page-table entry is the only gate, and a page without backing would be an EFAULT without an address.

use super::arena::FRAMES;
use super::extent::Home;
use super::{GuestMemory, HostFile, MemoryError};
use std::collections::HashMap;

/// Chunks mapped at once: each is a mapping of the host, of which a process may have 65,530 (vm.max_map_count), and the
/// monitor needs some for itself.
const CHUNKS_MAX: usize = 16_384;

/// Which part of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    file: (u64, u64),
    chunk: u64,
    writable: bool,
}

/// The chunks that are mapped.
#[derive(Debug, Default)]
pub(super) struct Window {
    chunks: HashMap<Key, u32>,
    keys: HashMap<u32, Key>,
}

impl Window {
    /// Finds or makes the extent that maps a file's `chunk` (offset divided by 2 MiB). The caller makes entries hold
    /// its frames before it lets the window's lock go, else it is idle and may be given up.
    pub(super) fn chunk(&mut self, memory: &GuestMemory, file: &HostFile, chunk: u64) -> Result<u32, MemoryError> {
        let key = Key { file: file.identity(), chunk, writable: file.is_writable() };
        if let Some(&extent) = self.chunks.get(&key) {
            return Ok(extent);
        }
        if self.chunks.len() >= CHUNKS_MAX && !self.give_up_one(memory)? {
            return Err(MemoryError::HostExhausted);
        }
        let extent = self.extent(memory, Home::Window { writable: file.is_writable() })?;
        let protection = libc::PROT_READ | if file.is_writable() { libc::PROT_WRITE } else { 0 };
        let offset =
            chunk.checked_mul(u64::from(FRAMES) * crate::addr::PAGE_SIZE).ok_or(MemoryError::Io(libc::EOVERFLOW))?;
        if let Err(error) = memory.arena().map_file(extent, file.fd(), offset, protection) {
            memory.arena().map_fresh(extent)?;
            memory.pool().put_window(extent);
            return Err(error);
        }
        self.chunks.insert(key, extent);
        self.keys.insert(extent, key);
        Ok(extent)
    }

    fn extent(&mut self, memory: &GuestMemory, home: Home) -> Result<u32, MemoryError> {
        loop {
            let taken = memory.pool().take_window(memory.arena(), memory.machine(), home);
            match taken {
                Err(MemoryError::HostExhausted) if self.give_up_one(memory)? => {}
                other => return other,
            }
        }
    }

    /// Unmaps the chunk that has been idle longest; `false`: none is idle.
    fn give_up_one(&mut self, memory: &GuestMemory) -> Result<bool, MemoryError> {
        let Some(extent) = memory.pool().next_idle() else { return Ok(false) };
        if let Some(key) = self.keys.remove(&extent) {
            self.chunks.remove(&key);
        }
        // Unmapping also makes KVM forget every translation of it.
        memory.arena().map_fresh(extent)?;
        memory.pool().put_window(extent);
        Ok(true)
    }

    /// Chunks mapped, for tests.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }
}
