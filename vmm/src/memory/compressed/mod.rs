//! Memory Compression: cold private pages are kept compressed in the address space of a minimal process.
//!
//! | module | what it knows |
//! |---|---|
//! | `codec` | a page's short form: one repeated word, or an LZ4 block |
//! | `slabs` | where blocks lie in the store's address space |
//! | `store` | the pages in it, by number, with how many entries name each |
//! | `pressure` | which pages go first while memory is short |
//! | `compressor` | the host thread that compresses beside the program, and while nothing runs |
//! | `space::pack` | the entries: watching pages for touches, packing the cold ones, bringing them back |
//!
//! Only pages that one entry alone holds are compressed: anonymous memory and private copies. Pages of memory objects
//! (in-memory files, shared mappings) are not, because every one of their mappers and the object itself name the frame;
//! nor are host files' pages, which are the host's to reclaim, nor page tables.

mod codec;
mod compressor;
mod pressure;
mod slabs;
mod store;
#[cfg(test)]
mod tests;

pub use compressor::SpawnThread;

pub(crate) use codec::{Codec, Page};
pub(crate) use store::{Handle, Store};

use super::pool::Pool;
use super::{AddressSpace, GuestMemory, MemoryError, lock};
use crate::addr::PAGE_SIZE;
use compressor::Compressor;
use pressure::Hand;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// What compression has done so far, and what is compressed now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompressionStats {
    /// Pages that are compressed now; one that several address spaces share since a fork counts once.
    pub pages: u64,
    /// Those of them that only repeat one word of eight bytes, and need no room at all.
    pub same_filled: u64,
    /// Bytes of all compressed pages before.
    pub bytes_before: u64,
    /// Bytes of them now, without what the store's frames leave unused.
    pub bytes_after: u64,
    /// Bytes of the frames that the store holds.
    pub store_bytes: u64,
    /// Pages ever compressed.
    pub compressions: u64,
    /// Pages ever brought back.
    pub refaults: u64,
    /// Pages that were tried and did not get small enough.
    pub incompressible: u64,
    /// Pages that could not be brought back because the store was damaged.
    pub damaged: u64,
    /// Time spent compressing, all threads together.
    pub time: Duration,
}

impl CompressionStats {
    /// How many times smaller the pages are now, counted with the frames that the store holds; `None` while there are none.
    pub fn ratio(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes below 2^53")]
        let ratio = |before: u64, after: u64| before as f64 / after as f64;
        (self.pages > 0).then(|| ratio(self.bytes_before, self.store_bytes.max(1)))
    }
}

/// What one request to compress did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompressionReport {
    /// Pages compressed.
    pub pages: u64,
    /// Pages that did not get small enough.
    pub incompressible: u64,
    /// Bytes held before and after, the store included.
    pub held: (u64, u64),
    /// How long it took.
    pub time: Duration,
}

/// What guest memory knows of its compressed pages.
#[derive(Debug, Default)]
pub(super) struct Packing {
    store: Mutex<Home>,
    hand: Mutex<Hand>,
    pub(super) packed: AtomicU64,
    pub(super) restored: AtomicU64,
    pub(super) damaged: AtomicU64,
    stubborn: AtomicU64,
    nanoseconds: AtomicU64,
    compressor: Arc<Compressor>,
    /// Whether the compressor's last attempt to make room made little.
    fruitless: AtomicBool,
}

impl Packing {
    /// Notes that a virtual CPU enters.
    #[inline]
    pub(super) fn stir(&self) {
        self.compressor.stir();
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        // Not waited for: the last reference may go on that thread.
        self.compressor.end();
    }
}

/// Where the store is, or will be. The spaces that have compressed pages keep it alive.
#[derive(Debug, Default)]
struct Home {
    store: Weak<Store>,
    space: Weak<AddressSpace>,
}

impl GuestMemory {
    /// Makes `space`, which must be empty and stay unused, the one in which compressed pages are stored: the address space of
    /// the Memory Compression process. Without this, the store makes itself a space.
    pub fn keep_compressed_in(&self, space: &Arc<AddressSpace>) {
        space.become_store();
        lock(&self.packing.store).space = Arc::downgrade(space);
    }

    /// Compresses every page that can be, whether cold or not, and gives their frames back to the host. Pages that were
    /// assigned and never touched are zeros, which take no room.
    pub fn compress(self: &Arc<Self>) -> CompressionReport {
        let before = Instant::now();
        let held = self.held();
        let outcome = self.compress_all();
        CompressionReport {
            pages: outcome.packed,
            incompressible: outcome.stubborn,
            held: (held, self.held()),
            time: before.elapsed(),
        }
    }

    /// What is compressed, and what was done.
    pub fn compression(&self) -> CompressionStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let store = lock(&self.packing.store).store.upgrade();
        let held = store.map(|store| store.held()).unwrap_or_default();
        CompressionStats {
            pages: held.pages,
            same_filled: held.filled,
            bytes_before: held.pages * PAGE_SIZE,
            bytes_after: held.bytes,
            store_bytes: held.frames,
            compressions: load(&self.packing.packed),
            refaults: load(&self.packing.restored),
            incompressible: load(&self.packing.stubborn),
            damaged: load(&self.packing.damaged),
            time: Duration::from_nanos(load(&self.packing.nanoseconds)),
        }
    }

    /// The store; made if there is none.
    fn store(self: &Arc<Self>) -> Result<Arc<Store>, MemoryError> {
        let mut home = lock(&self.packing.store);
        if let Some(store) = home.store.upgrade() {
            return Ok(store);
        }
        let space = match home.space.upgrade() {
            Some(space) => space,
            None => {
                let take = |pool: &mut Pool| pool.take_table(self.arena(), self.machine());
                let top = self.pool().beyond_limit(take)?;
                let space = AddressSpace::new(self.clone(), self.new_id(), top);
                space.become_store();
                space
            }
        };
        let store = Arc::new(Store::new(space));
        home.store = Arc::downgrade(&store);
        Ok(store)
    }
}
