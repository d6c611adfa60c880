//! Page tables and what they share: random edits of address spaces and their forks against a naive model, a map of pages with the
//! access and the value of each. Every page of every space is compared, and no frame is lost.

use super::input::Input;
use crate::addr::{BLOCK_SIZE, PAGE_SIZE, UserAddr, UserRange};
use crate::memory::{Access, AddressSpace, Eagerness, ForkPlan, GuestMemory, MemoryObject};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pages that are looked at: on both sides of a border between two blocks.
const PAGES: u64 = 16;
const FIRST: u64 = 0x1000_0000 + BLOCK_SIZE - PAGES / 2 * PAGE_SIZE;
const OBJECT_PAGES: u64 = 6;
/// What they hold.
type Contents = [u64; 6];
/// Edits of one input, and address spaces, at the most.
const STEPS: usize = 12;
const SPACES: usize = 3;

/// Where a page's first word lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    /// In the object: every mapping sees it.
    Object(u64),
    /// In the object, until something is stored.
    UntilStored(u64),
    /// In the space alone.
    Own(u64),
}

#[derive(Clone, Debug, Default)]
struct Pages(BTreeMap<u64, (Access, Cell)>);

struct World {
    memory: Arc<GuestMemory>,
    object: Arc<MemoryObject>,
    contents: Contents,
    spaces: Vec<(Arc<AddressSpace>, Pages)>,
    stored: u64,
}

thread_local! {
    static MEMORY: Arc<GuestMemory> =
        GuestMemory::detached(32 << 20).expect("the host has memory for a small sandbox");
}

/// Edits address spaces and compares.
pub fn tables(data: &[u8]) {
    MEMORY.with(|memory| {
        let held = memory.held();
        let object = memory.new_object();
        object.set_size(OBJECT_PAGES * PAGE_SIZE);
        let first = memory.new_space().expect("an empty space needs little memory");
        let spaces = vec![(first, Pages::default())];
        let mut world = World { memory: memory.clone(), object, contents: Contents::default(), spaces, stored: 0 };
        let mut input = Input::new(data);
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            world.step(&mut input);
        }
        world.compare();
        drop(world);
        assert_eq!(memory.held(), held, "all frames are given back");
    });
}

fn at(page: u64) -> UserAddr {
    UserAddr(FIRST + page * PAGE_SIZE)
}

/// Some neighbouring pages.
fn pages(input: &mut Input<'_>) -> std::ops::Range<u64> {
    let first = input.below(PAGES);
    first..first + 1 + input.below(PAGES - first)
}

fn range(pages: &std::ops::Range<u64>) -> UserRange {
    UserRange::new(at(pages.start), (pages.end - pages.start) * PAGE_SIZE).expect("a small range")
}

fn access(input: &mut Input<'_>) -> Access {
    Access::from_bits_truncate(input.byte() % 4)
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.byte()) % self.spaces.len();
        match input.byte() % 12 {
            0 | 1 => self.map_anonymous(which, input),
            2 => self.unmap(which, &pages(input)),
            3 | 4 => {
                let (pages, access) = (pages(input), access(input));
                let (space, model) = &mut self.spaces[which];
                space.protect(range(&pages), access);
                pages.for_each(|page| _ = model.0.entry(page).and_modify(|entry| entry.0 = access));
            }
            5 => self.move_pages(which, input),
            6 => self.map_object(which, input),
            7 | 8 => (0..1 + input.below(4)).for_each(|_| self.store(which, input.below(PAGES))),
            9 => self.fork(which, input),
            10 => self.resize(input.below(OBJECT_PAGES + 1)),
            _ => match input.byte() % 4 {
                0 => _ = self.memory.compress(),
                1 if self.spaces.len() > 1 => _ = self.spaces.swap_remove(which),
                _ => self.store_in_object(input.below(OBJECT_PAGES)),
            },
        }
    }

    fn map_anonymous(&mut self, which: usize, input: &mut Input<'_>) {
        let (pages, access) = (pages(input), access(input));
        self.unmap(which, &pages);
        let (space, model) = &mut self.spaces[which];
        space
            .map_anonymous(range(&pages), access, input.byte().is_multiple_of(2))
            .expect("there is memory for some pages");
        pages.for_each(|page| _ = model.0.insert(page, (access, Cell::Own(0))));
    }

    fn unmap(&mut self, which: usize, pages: &std::ops::Range<u64>) {
        let (space, model) = &mut self.spaces[which];
        space.unmap(range(pages));
        model.0.retain(|page, _| !pages.contains(page));
    }

    fn move_pages(&mut self, which: usize, input: &mut Input<'_>) {
        let (from, to) = (pages(input), input.below(PAGES));
        let to = to..to + (from.end - from.start);
        if to.end > PAGES || to.start < from.end && from.start < to.end {
            return;
        }
        self.unmap(which, &to);
        let (space, model) = &mut self.spaces[which];
        space.move_pages(range(&from), at(to.start)).expect("there is memory for tables");
        for page in from.clone() {
            if let Some(entry) = model.0.remove(&page) {
                model.0.insert(page - from.start + to.start, entry);
            }
        }
    }

    fn map_object(&mut self, which: usize, input: &mut Input<'_>) {
        let (pages, access, private) = (pages(input), access(input), input.byte().is_multiple_of(2));
        let offset = input.below(OBJECT_PAGES);
        self.unmap(which, &pages);
        let size = self.object.size() / PAGE_SIZE;
        let (space, model) = &mut self.spaces[which];
        space
            .map_object(range(&pages), &self.object, offset * PAGE_SIZE, access, private)
            .expect("there is memory for an object's pages");
        for page in pages.clone() {
            let shows = offset + page - pages.start;
            if shows < size {
                let cell = if private { Cell::UntilStored(shows) } else { Cell::Object(shows) };
                model.0.insert(page, (access, cell));
            }
        }
    }

    /// Stores to a page, as a processor would: a fault at a page that may be written is a copy to be made.
    fn store(&mut self, which: usize, page: u64) {
        self.stored += 1;
        let value = self.stored;
        let (space, model) = &mut self.spaces[which];
        let bytes = value.to_le_bytes();
        let Some((access, cell)) = model.0.get_mut(&page) else {
            assert!(space.write(at(page), &bytes).is_err(), "a store to an absent page");
            return;
        };
        if !access.contains(Access::WRITE) {
            assert!(space.write(at(page), &bytes).is_err(), "a store to a page that may not be written");
            return;
        }
        if space.write(at(page), &bytes).is_err() {
            space.break_copy(at(page)).expect("there is memory for a copy");
            space.write(at(page), &bytes).expect("a page that may be written, and is not shared any more");
        }
        match cell {
            Cell::Object(shown) => self.contents[index(*shown)] = value,
            Cell::UntilStored(_) | Cell::Own(_) => *cell = Cell::Own(value),
        }
    }

    fn store_in_object(&mut self, page: u64) {
        self.stored += 1;
        if page * PAGE_SIZE < self.object.size() {
            let written = self.object.write_at(page * PAGE_SIZE, &self.stored.to_le_bytes());
            assert_eq!(written, Ok(8), "a page of the object");
            self.contents[index(page)] = self.stored;
        }
    }

    /// Truncation takes pages from every mapping, private copies of them too; what comes back is zero and not mapped.
    fn resize(&mut self, size: u64) {
        self.object.set_size(size * PAGE_SIZE);
        self.object.set_size(OBJECT_PAGES * PAGE_SIZE);
        self.contents[index(size)..].fill(0);
        for (space, model) in &mut self.spaces {
            // A copy does not tell which page of the object it was.
            model.0.retain(|page, (access, cell)| match cell {
                Cell::Object(shown) | Cell::UntilStored(shown) => *shown < size,
                Cell::Own(_) => access.is_empty() || space.read(at(*page), &mut [0]).is_ok(),
            });
            let gone: Vec<_> = model
                .0
                .iter()
                .filter(|(_, (access, cell))| access.is_empty() && matches!(cell, Cell::Own(_)))
                .map(|(page, _)| *page)
                .collect();
            // Nor can such a page be looked at: it is left out from here on.
            for page in gone {
                space.unmap(range(&(page..page + 1)));
                model.0.remove(&page);
            }
        }
    }

    fn fork(&mut self, which: usize, input: &mut Input<'_>) {
        if self.spaces.len() == SPACES {
            self.spaces.swap_remove((which + 1) % SPACES);
        }
        let which = which % self.spaces.len();
        let left_out = pages(input);
        let mut plan =
            ForkPlan { left_out: vec![range(&left_out)], hot: vec![range(&pages(input))], ..ForkPlan::default() };
        if input.byte().is_multiple_of(2) {
            plan.copies = Eagerness::Never;
        }
        let (space, model) = &self.spaces[which];
        let copy = space.fork(&plan).expect("there is memory for tables and some pages");
        let mut of_copy = model.clone();
        of_copy.0.retain(|page, _| !left_out.contains(page));
        // A page that was never touched is absent in the copy, for the memory map to assign; it is zero on both sides.
        of_copy.0.retain(|page, (access, _)| access.is_empty() || copy.read(at(*page), &mut [0]).is_ok());
        for page in 0..PAGES {
            let untouched = matches!(model.0.get(&page), Some((_, Cell::Own(0))));
            let dropped = model.0.contains_key(&page) && !left_out.contains(&page) && !of_copy.0.contains_key(&page);
            assert!(!dropped || untouched, "page {page} is missing in the copy");
        }
        self.spaces.push((copy, of_copy));
    }

    /// Compares what every space shows with the model.
    fn compare(&self) {
        for (which, (space, model)) in self.spaces.iter().enumerate() {
            for page in 0..PAGES {
                let mut bytes = [0; 8];
                let seen = space.read(at(page), &mut bytes).is_ok().then(|| u64::from_le_bytes(bytes));
                let expected =
                    model.0.get(&page).filter(|(access, _)| !access.is_empty()).map(|(_, cell)| match cell {
                        Cell::Own(value) => *value,
                        Cell::Object(shown) | Cell::UntilStored(shown) => self.contents[index(*shown)],
                    });
                assert_eq!(seen, expected, "page {page} of space {which}");
            }
        }
    }
}

fn index(page: u64) -> usize {
    usize::try_from(page).expect("a small number")
}
