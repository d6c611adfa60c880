//! Which pages are compressed first, and how many, when memory is short.
//!
//! A hand goes round all pages of all spaces, as a clock's: ahead of it pages are watched for touches, a little behind
//! those that stayed untouched are packed. Threads that need memory push it on until there is enough; the compressor's
//! own thread pushes it when memory is nearly used up, and lets it rest for a while between watching and packing.

use super::{Codec, Store};
use crate::addr::PAGE_SIZE;
use crate::memory::space::{Outcome, Watch};
use crate::memory::{AddressSpace, GuestMemory, lock};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The least that is made free at once, in bytes.
const LEAST_GOAL: u64 = 1 << 20;
/// Parts of the limit that are made free at once.
const GOAL_PARTS: u64 = 32;
/// Blocks that are watched while the oldest is packed.
const AHEAD: usize = 8;

/// Blocks that are watched together while there is no haste.
const WATCHED_AT_ONCE: usize = 64;

/// A 2 MiB block of a space.
#[derive(Debug)]
struct Block {
    number: u64,
    space: Weak<AddressSpace>,
}

/// The clock's hand.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// Blocks that this round has not come to.
    ahead: VecDeque<Block>,
    /// Blocks that are watched, oldest first.
    watched: VecDeque<Block>,
    codec: Option<Codec>,
}

impl Hand {
    /// Begins a round. Blocks of the same number come together: those of forked spaces may share their frames, and only
    /// with the last holder's entry a frame is free.
    fn begin(&mut self, memory: &GuestMemory) {
        let spaces = memory.spaces().into_iter().filter(|space| !space.is_store());
        let blocks = spaces.flat_map(|space| {
            let of = Arc::downgrade(&space);
            space.filled_blocks().into_iter().map(move |number| Block { number, space: of.clone() })
        });
        let mut blocks: Vec<_> = blocks.collect();
        blocks.sort_by_key(|block| block.number);
        self.ahead.extend(blocks);
    }

    /// Watches the next block.
    fn watch_next(&mut self, how: Watch) -> bool {
        let Some(block) = self.ahead.pop_front() else { return false };
        if let Some(space) = block.space.upgrade() {
            space.watch(&[block.number], how);
            self.watched.push_back(block);
        }
        true
    }

    /// Packs the block that has been watched longest; `None`: none is watched.
    fn pack_next(&mut self, memory: &GuestMemory, store: &Arc<Store>) -> Option<Outcome> {
        let block = self.watched.pop_front()?;
        let Some(space) = block.space.upgrade() else { return Some(Outcome::default()) };
        let codec = self.codec.get_or_insert_with(Codec::new);
        Some(memory.pack(&space, block.number, store, codec))
    }
}

impl GuestMemory {
    /// Packs what of a block was watched and not touched.
    fn pack(&self, space: &AddressSpace, block: u64, store: &Arc<Store>, codec: &mut Codec) -> Outcome {
        let start = Instant::now();
        let mut outcome = Outcome::default();
        if let Err(error) = space.pack(block, store, codec, &mut outcome) {
            tracing::debug!(%error, "the store of compressed pages cannot grow");
        }
        let spent = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.packing.nanoseconds.fetch_add(spent, Ordering::Relaxed);
        self.packing.stubborn.fetch_add(outcome.stubborn, Ordering::Relaxed);
        outcome
    }

    /// Compresses until a part of the limit is free; returns how many frames fewer are held. Only one thread does so at a
    /// time, and the others find its work done.
    pub(in crate::memory) fn relieve(&self) -> u64 {
        let Some(memory) = self.me.upgrade() else { return 0 };
        let waited_from = self.pool().held();
        let mut hand = lock(&self.packing.hand);
        let before = self.pool().held();
        if before < waited_from {
            return waited_from - before;
        }
        let Ok(store) = memory.store() else { return 0 };
        let goal = before.saturating_sub((self.limit() / GOAL_PARTS).max(LEAST_GOAL) / PAGE_SIZE);
        let mut rounds = 0;
        while self.pool().held() > goal {
            if hand.watched.len() > AHEAD || hand.ahead.is_empty() {
                if hand.pack_next(self, &store).is_some() {
                    continue;
                }
                if rounds == 2 {
                    break;
                }
                // The second round gets what was touched during the first.
                rounds += 1;
                hand.begin(self);
            }
            hand.watch_next(Watch::Pages);
        }
        before.saturating_sub(self.pool().held())
    }

    /// Begins a round, unless one is under way.
    pub(super) fn begin_round(&self) {
        let mut hand = lock(&self.packing.hand);
        if hand.ahead.is_empty() {
            hand.begin(self);
        }
    }

    /// Watches some blocks more of the round; `false`: it is over, and nothing is watched.
    pub(super) fn watch_some(&self) -> bool {
        let mut hand = lock(&self.packing.hand);
        let _ = (0..WATCHED_AT_ONCE).all(|_| hand.watch_next(Watch::Pages));
        !hand.watched.is_empty()
    }

    /// Packs what is watched and was not touched, until no more than `goal` frames are held.
    pub(super) fn pack_watched(self: &Arc<Self>, goal: u64) {
        let mut hand = lock(&self.packing.hand);
        let Ok(store) = self.store() else { return };
        while self.pool().held() > goal && hand.pack_next(self, &store).is_some() {}
    }

    /// Watches all pages, 2 MiB entries as a whole.
    pub(super) fn watch_all(&self) {
        for space in self.spaces().into_iter().filter(|space| !space.is_store()) {
            space.watch(&space.filled_blocks(), Watch::Sample);
        }
    }

    /// Packs all pages that are watched and were not touched.
    pub(super) fn pack_untouched(self: &Arc<Self>) -> Outcome {
        self.pack_all(Watch::Untouched)
    }

    /// Compresses every page that can be.
    pub(in crate::memory) fn compress_all(self: &Arc<Self>) -> Outcome {
        self.pack_all(Watch::Pages)
    }

    fn pack_all(self: &Arc<Self>, how: Watch) -> Outcome {
        let mut total = Outcome::default();
        let mut hand = lock(&self.packing.hand);
        let Ok(store) = self.store() else { return total };
        hand.ahead.clear();
        hand.begin(self);
        while hand.watch_next(how) {
            while let Some(outcome) = hand.pack_next(self, &store) {
                total.packed += outcome.packed;
                total.stubborn += outcome.stubborn;
            }
        }
        total
    }
}
