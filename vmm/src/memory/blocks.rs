//! Which extent serves which 2 MiB block of a space's addresses or an object's offsets.

use super::arena::{FRAMES, Frame};
use super::extent::Home;
use super::pool::{Pool, Taken};
use super::{GuestMemory, MemoryError};
use std::collections::HashMap;

/// Whose blocks they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// An address space, by its number.
    Space(u64),
    /// An object, by its number.
    Object(u64),
}

/// The extents of one owner. An entry counts only while the extent's home agrees: extents are given back by whoever
/// releases their last frame.
#[derive(Debug)]
pub(crate) struct Blocks {
    owner: Owner,
    extents: HashMap<u64, u32>,
}

impl Blocks {
    pub(crate) fn new(owner: Owner) -> Self {
        Self { owner, extents: HashMap::new() }
    }

    /// The home of an extent that serves a block.
    pub(crate) fn home(&self, block: u64) -> Home {
        match self.owner {
            Owner::Space(space) => Home::Space { space, block },
            Owner::Object(object) => Home::Object { object, block },
        }
    }

    /// Notes that an extent serves a block from now on.
    pub(crate) fn insert(&mut self, block: u64, extent: u32) {
        self.extents.insert(block, extent);
    }

    /// Forgets blocks: only so that the map does not grow for ever.
    pub(crate) fn forget(&mut self, blocks: std::ops::Range<u64>) {
        if !self.extents.is_empty() && !blocks.is_empty() {
            self.extents.retain(|block, _| !blocks.contains(block));
        }
    }

    /// Takes up to `max` zeroed frames for pages from number `page` on, at their place in their block's extent if that is
    /// free. All lie in one block.
    pub(crate) fn take(
        &mut self,
        memory: &GuestMemory,
        pool: &mut Pool,
        page: u64,
        max: u32,
    ) -> Result<Taken, MemoryError> {
        let (arena, machine) = (memory.arena(), memory.machine());
        let (block, slot) = (page / u64::from(FRAMES), u32::try_from(page % u64::from(FRAMES)).unwrap_or(0));
        let home = self.home(block);
        if let Some(&extent) = self.extents.get(&block)
            && pool.extent(extent).home == home
        {
            let count = pool.take_run(arena, extent, slot, max)?;
            if count > 0 {
                return Ok(Taken { frame: Frame::at(extent, slot), count });
            }
        }
        // None yet, or another page has the frame (pages were moved away from here before).
        let extent = match pool.take_extent(arena, machine, home) {
            Ok(extent) => extent,
            Err(MemoryError::HostExhausted) => {
                return Ok(Taken { frame: pool.take_single(arena, machine)?, count: 1 });
            }
            Err(error) => return Err(error),
        };
        let count = pool.take_run(arena, extent, slot, max).inspect_err(|_| pool.settle(extent))?;
        self.extents.insert(block, extent);
        Ok(Taken { frame: Frame::at(extent, slot), count })
    }
}
