//! The store: compressed pages in the address space of a minimal process, by number.

use super::codec::{self, Damaged, LONGEST, Page, Short};
use super::slabs::{self, Place, Slabs};
use crate::memory::arena::Frame;
use crate::memory::{AddressSpace, MemoryError, lock};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The compressed pages of a sandbox. Its frames are its address space's: they count as held, and can be seen there.
///
/// Its lock comes after the spaces' whose pages it keeps, and before its own space's.
#[derive(Debug)]
pub(crate) struct Store {
    space: Arc<AddressSpace>,
    state: Mutex<State>,
}

/// The number of a page in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(pub(crate) u32);

#[derive(Debug, Default)]
struct State {
    records: Vec<Record>,
    free: Vec<u32>,
    slabs: Slabs,
    held: Held,
    /// The pages that frames became which others still had: only hints, since both may have come to an end.
    became: HashMap<Frame, u32>,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Pages; one that several spaces share since a fork counts once.
    pub(crate) pages: u64,
    /// Those of them that repeat one word.
    pub(crate) filled: u64,
    /// Bytes of all blocks.
    pub(crate) bytes: u64,
    /// Bytes of the frames that blocks lie in.
    pub(crate) frames: u64,
}

/// A page in the store.
#[derive(Clone, Copy, Debug)]
enum Record {
    Free,
    Fill { word: u64, holders: u32 },
    Block { place: Place, len: u16, digest: u32, holders: u32 },
}

/// Frames remembered by what they became.
const HINTS_MAX: usize = 1 << 14;

impl Record {
    fn hold(&mut self) {
        match self {
            Self::Fill { holders, .. } | Self::Block { holders, .. } => *holders += 1,
            Self::Free => unreachable!("whoever names a page is one of its holders"),
        }
    }
}

impl Store {
    /// Makes a store in a space that nothing else uses.
    pub(crate) fn new(space: Arc<AddressSpace>) -> Self {
        Self { space, state: Mutex::default() }
    }

    /// The address space that the store lies in.
    #[cfg(test)]
    pub(crate) fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// What it holds.
    pub(crate) fn held(&self) -> Held {
        let state = lock(&self.state);
        Held { frames: state.slabs.held(), ..state.held }
    }

    /// Keeps a page. Frames for it may go beyond the limit for a moment: the caller is about to give one back.
    ///
    /// `shared` is the page's frame if others have it, too. If one of them has brought its bytes here before, the page gets
    /// another holder.
    pub(crate) fn insert(&self, page: Short<'_>, shared: Option<Frame>) -> Result<Handle, MemoryError> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if let Some(frame) = shared
            && let Some(&number) = state.became.get(&frame)
            && self.is_same(state, number, page)
        {
            state.records[number as usize].hold();
            return Ok(Handle(number));
        }
        let number = match state.free.pop() {
            Some(number) => number,
            None => {
                state.records.push(Record::Free);
                u32::try_from(state.records.len() - 1).map_err(|_| MemoryError::HostExhausted)?
            }
        };
        let record = match page {
            Short::Fill(word) => {
                state.held.filled += 1;
                Record::Fill { word, holders: 1 }
            }
            Short::Block(block) => match self.keep(&mut state.slabs, block, number) {
                Ok(place) => {
                    state.held.bytes += block.len() as u64;
                    let len = u16::try_from(block.len()).expect("a block is shorter than a page");
                    Record::Block { place, len, digest: codec::digest(block), holders: 1 }
                }
                Err(error) => {
                    state.free.push(number);
                    return Err(error);
                }
            },
        };
        state.held.pages += 1;
        state.records[number as usize] = record;
        if let Some(frame) = shared {
            if state.became.len() >= HINTS_MAX {
                state.became.clear();
            }
            state.became.insert(frame, number);
        }
        Ok(Handle(number))
    }

    /// Tells whether a page of the store is a certain one.
    fn is_same(&self, state: &State, number: u32, page: Short<'_>) -> bool {
        match (state.records[number as usize], page) {
            (Record::Fill { word, .. }, Short::Fill(other)) => word == other,
            (Record::Block { place, len, .. }, Short::Block(other)) if usize::from(len) == other.len() => {
                let mut block = [0; LONGEST];
                let block = &mut block[..other.len()];
                self.space.read(state.slabs.address(place), block).is_ok() && block == other
            }
            _ => false,
        }
    }

    fn keep(&self, slabs: &mut Slabs, block: &[u8], owner: u32) -> Result<Place, MemoryError> {
        let allocation = slabs.allocate(block.len(), owner);
        let place = allocation.place;
        if allocation.fresh
            && let Err(error) = self.space.assign_beyond(slabs::range(place.slab))
        {
            // What of it got a frame before it failed goes, too.
            self.give_back(slabs.free(place).slab);
            return Err(error);
        }
        let written = self.space.write(slabs.address(place), block);
        assert!(written.is_ok(), "slabs have frames, which the host backs");
        Ok(place)
    }

    /// Reads a page.
    pub(crate) fn read(&self, handle: Handle, page: &mut Page) -> Result<(), Damaged> {
        let state = lock(&self.state);
        match state.records.get(handle.0 as usize) {
            Some(&Record::Fill { word, .. }) => {
                codec::fill(word, page);
                Ok(())
            }
            Some(&Record::Block { place, len, digest, .. }) => {
                let mut block = [0; LONGEST];
                let block = &mut block[..usize::from(len)];
                self.space.read(state.slabs.address(place), block).map_err(|_| Damaged)?;
                drop(state);
                codec::lengthen(block, digest, page)
            }
            Some(Record::Free) | None => Err(Damaged),
        }
    }

    /// Adds a holder of a page.
    pub(crate) fn share(&self, handle: Handle) {
        lock(&self.state).records[handle.0 as usize].hold();
    }

    /// Takes a holder of a page away; with the last the page goes.
    pub(crate) fn release(&self, handle: Handle) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let record = &mut state.records[handle.0 as usize];
        match record {
            Record::Fill { holders, .. } | Record::Block { holders, .. } if *holders > 1 => {
                *holders -= 1;
                return;
            }
            _ => {}
        }
        state.held.pages -= 1;
        state.free.push(handle.0);
        match std::mem::replace(record, Record::Free) {
            Record::Free => unreachable!("a page is released as often as it is held"),
            Record::Fill { .. } => state.held.filled -= 1,
            Record::Block { place, len, .. } => {
                state.held.bytes -= u64::from(len);
                let freed = state.slabs.free(place);
                for moved in freed.moves {
                    self.follow(state, moved);
                }
                self.give_back(freed.slab);
            }
        }
    }

    /// Moves the bytes of a block to its new place.
    fn follow(&self, state: &mut State, moved: slabs::Move) {
        let Record::Block { place, len, .. } = &mut state.records[moved.owner as usize] else {
            unreachable!("an object's owner is a block")
        };
        *place = moved.to;
        let mut block = [0; LONGEST];
        let block = &mut block[..usize::from(*len)];
        let copied = self.space.read(moved.from, block);
        let copied = copied.and_then(|()| self.space.write(state.slabs.address(moved.to), block));
        assert!(copied.is_ok(), "slabs have frames, which the host backs");
    }

    fn give_back(&self, slab: Option<u32>) {
        if let Some(slab) = slab {
            self.space.unmap(slabs::range(slab));
        }
    }
}
