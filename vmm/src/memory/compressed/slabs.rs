//! Where blocks lie in the store's address space: slabs of equal objects, a size class each.
//!
//! A slab is 32 KiB of addresses with its frames. Its class says into how many objects it is divided, and classes are close
//! enough that a block wastes a sixth of its size at the most, or 24 bytes. What blocks that were freed leave behind is
//! bounded, too: a class that has two slabs' worth of free objects empties the slab that has the fewest in use.

use crate::addr::{PAGE_SIZE, UserAddr, UserRange};
use std::collections::BTreeSet;

/// Bytes of a slab.
pub(crate) const SLAB: u64 = 8 * PAGE_SIZE;
/// The address of the first slab.
const BASE: u64 = 1 << 32;
/// How many objects a slab of each class has.
const COUNTS: [u16; 38] = [
    512, 409, 341, 292, 256, 227, 204, 186, 170, 157, 146, 136, 128, 112, 100, 90, 80, 72, 64, 56, 50, 44, 40, 36, 32,
    28, 25, 22, 20, 18, 17, 16, 15, 14, 13, 12, 11, 10,
];

/// An object: its slab, and which of the slab's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slab: u32,
    pub(crate) object: u16,
}

/// The slabs of a store.
#[derive(Debug)]
pub(crate) struct Slabs {
    classes: [Class; COUNTS.len()],
    slabs: Vec<Slab>,
    /// Slabs that have no frames.
    unused: BTreeSet<u32>,
}

/// The slabs of one object size.
#[derive(Clone, Debug, Default)]
struct Class {
    /// Those with free objects.
    open: BTreeSet<u32>,
    free: u32,
}

#[derive(Clone, Debug, Default)]
struct Slab {
    class: u8,
    used: u16,
    /// Whose each object is.
    owners: Box<[Option<u32>]>,
}

/// Where an object was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocation {
    pub(crate) place: Place,
    /// Whether its slab is new, and needs frames.
    pub(crate) fresh: bool,
}

/// What is to be done after an object was freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    /// Objects whose bytes are to be moved first.
    pub(crate) moves: Vec<Move>,
    /// A slab that has no object any more: its frames go back.
    pub(crate) slab: Option<u32>,
}

/// An object that was given another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) owner: u32,
    pub(crate) from: UserAddr,
    pub(crate) to: Place,
}

impl Default for Slabs {
    fn default() -> Self {
        Self { classes: std::array::from_fn(|_| Class::default()), slabs: Vec::new(), unused: BTreeSet::new() }
    }
}

impl Slabs {
    /// Finds room for `len` bytes of `owner`'s.
    pub(crate) fn allocate(&mut self, len: usize, owner: u32) -> Allocation {
        let class = class_of(len);
        let fresh = self.classes[class].open.is_empty();
        if fresh {
            self.open_slab(class);
        }
        Allocation { place: self.put(class, owner), fresh }
    }

    /// Gives `owner` a free object of a class that has one: in the oldest slab, so that the others empty.
    fn put(&mut self, class: usize, owner: u32) -> Place {
        let state = &mut self.classes[class];
        let slab = *state.open.first().expect("the class has an open slab");
        let record = &mut self.slabs[slab as usize];
        let object = record.owners.iter().position(Option::is_none).expect("an open slab has a free object");
        record.owners[object] = Some(owner);
        record.used += 1;
        state.free -= 1;
        if usize::from(record.used) == record.owners.len() {
            state.open.remove(&slab);
        }
        Place { slab, object: u16::try_from(object).expect("a slab has 512 objects at the most") }
    }

    fn open_slab(&mut self, class: usize) {
        let slab = self.unused.pop_first().unwrap_or_else(|| {
            self.slabs.push(Slab::default());
            u32::try_from(self.slabs.len() - 1).expect("guest memory has fewer slabs than 2^32")
        });
        self.slabs[slab as usize] = Slab {
            class: u8::try_from(class).expect("there are some dozen classes"),
            used: 0,
            owners: vec![None; usize::from(COUNTS[class])].into(),
        };
        self.classes[class].open.insert(slab);
        self.classes[class].free += u32::from(COUNTS[class]);
    }

    /// Frees an object.
    pub(crate) fn free(&mut self, place: Place) -> Freed {
        let record = &mut self.slabs[place.slab as usize];
        let owner = record.owners[usize::from(place.object)].take();
        assert!(owner.is_some(), "an object is freed once");
        record.used -= 1;
        let (class, empty) = (usize::from(record.class), record.used == 0);
        let state = &mut self.classes[class];
        state.free += 1;
        state.open.insert(place.slab);
        if empty {
            self.retire(place.slab);
            return Freed { moves: Vec::new(), slab: Some(place.slab) };
        }
        if state.free < 2 * u32::from(COUNTS[class]) {
            return Freed::default();
        }
        let Some(slab) = state.open.iter().min_by_key(|&&slab| self.slabs[slab as usize].used).copied() else {
            return Freed::default();
        };
        // The others have room for all of it: two slabs' worth is free, and less than one of that is here.
        state.open.remove(&slab);
        let owners = self.slabs[slab as usize].owners.clone();
        let inside = |(object, owner): (u16, &Option<u32>)| owner.map(|owner| (Place { slab, object }, owner));
        let moves = (0..).zip(&owners).filter_map(inside).map(|(from, owner)| {
            let from = self.address(from);
            Move { owner, from, to: self.put(class, owner) }
        });
        let moves = moves.collect();
        self.retire(slab);
        Freed { moves, slab: Some(slab) }
    }

    /// Takes a slab that is empty, or whose objects have moved, from its class.
    fn retire(&mut self, slab: u32) {
        let record = std::mem::take(&mut self.slabs[slab as usize]);
        let state = &mut self.classes[usize::from(record.class)];
        state.open.remove(&slab);
        state.free -=
            u32::try_from(record.owners.len()).expect("a slab has 512 objects at the most") - u32::from(record.used);
        self.unused.insert(slab);
    }

    /// The address of an object.
    pub(crate) fn address(&self, place: Place) -> UserAddr {
        let class = usize::from(self.slabs[place.slab as usize].class);
        UserAddr(range(place.slab).start.0 + u64::from(place.object) * size(class))
    }

    /// Bytes of slabs that have frames.
    pub(crate) fn held(&self) -> u64 {
        (self.slabs.len() - self.unused.len()) as u64 * SLAB
    }
}

/// The addresses of a slab.
pub(crate) fn range(slab: u32) -> UserRange {
    let start = BASE + u64::from(slab) * SLAB;
    UserRange { start: UserAddr(start), end: UserAddr(start + SLAB) }
}

/// Bytes of a class's objects.
fn size(class: usize) -> u64 {
    SLAB / u64::from(COUNTS[class]) / 8 * 8
}

fn class_of(len: usize) -> usize {
    (0..COUNTS.len()).find(|&class| size(class) >= len as u64).expect("a block is shorter than the largest object")
}

const _: () = assert!(SLAB / COUNTS[COUNTS.len() - 1] as u64 >= super::codec::LONGEST as u64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_block_fits_its_class_and_wastes_little() {
        for len in 1..=super::super::codec::LONGEST {
            let size = size(class_of(len));
            assert!(size >= len as u64);
            let waste = size - len as u64;
            assert!(len < 64 || waste <= 24 || waste * 6 <= len as u64, "{len} bytes in an object of {size}");
        }
    }

    proptest! {
        #[test]
        fn places_are_never_shared_and_little_stays_free(
            steps in prop::collection::vec((1..=3072_usize, any::<prop::sample::Index>(), 0..10_u8), 1..1500),
        ) {
            let mut slabs = Slabs::default();
            let mut live: Vec<(u32, Place, usize)> = Vec::new();
            for (owner, (len, which, kind)) in (0..).zip(steps) {
                if kind < 6 || live.is_empty() {
                    let Allocation { place, .. } = slabs.allocate(len, owner);
                    live.push((owner, place, len));
                } else {
                    let (_, place, _) = live.swap_remove(which.index(live.len()));
                    for moved in slabs.free(place).moves {
                        let (_, at, _) = live.iter_mut().find(|(owner, ..)| *owner == moved.owner).unwrap();
                        prop_assert!(moved.from.0 != slabs.address(moved.to).0);
                        *at = moved.to;
                    }
                }
                let mut spans: Vec<_> = live.iter().map(|(_, place, len)| (slabs.address(*place).0, *len as u64)).collect();
                spans.sort_unstable();
                prop_assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
            }
            let mut used: HashMap<usize, u64> = HashMap::new();
            live.iter().for_each(|(_, _, len)| *used.entry(class_of(*len)).or_default() += 1);
            // Two slabs' worth of free objects a class, at the most, and the rest of the last one.
            let needed: u64 = used.iter().map(|(&class, &count)| (count.div_ceil(u64::from(COUNTS[class])) + 2) * SLAB).sum();
            prop_assert!(slabs.held() <= needed, "{} held for {}", slabs.held(), needed);
            for (_, place, _) in std::mem::take(&mut live) {
                // Moves do not matter any more, but places do.
                if slabs.slabs[place.slab as usize].owners.get(usize::from(place.object)).copied().flatten().is_some() {
                    slabs.free(place);
                }
            }
        }
    }
}
