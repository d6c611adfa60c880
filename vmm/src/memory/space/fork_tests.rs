//! Forks without a machine: random operations on a family of spaces, compared with plain maps of pages; and what a fork
//! copies, shares and leaves out.

use super::*;
use crate::addr::{BLOCK_SIZE, PAGE_SIZE};
use crate::memory::MemoryObject;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Three blocks of pages.
const BASE: u64 = 0x7e_0000_0000;
const PAGES: u64 = 3 * 512;
const OBJECT_PAGES: u64 = 64;
/// Spaces alive at once.
const SPACES: usize = 4;
const RW: Access = Access::READ.union(Access::WRITE);

fn at(page: u64) -> UserAddr {
    UserAddr(BASE + page * PAGE_SIZE)
}

fn range(first: u64, count: u64) -> UserRange {
    UserRange::new(at(first), count * PAGE_SIZE).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Fork { from: usize, left_out: (u64, u64), hot: (u64, u64) },
    End { space: usize },
    Anonymous { space: usize, pages: (u64, u64), large: bool },
    Object { space: usize, pages: (u64, u64), private: bool },
    Unmap { space: usize, pages: (u64, u64) },
    Protect { space: usize, pages: (u64, u64), access: Access },
    Store { space: usize, page: u64, value: u64 },
    Touch { space: usize, pages: (u64, u64), value: u64 },
    Punch { pages: (u64, u64) },
    Compress,
    Watch { space: usize, how: Watch },
}

/// Where a page's first word is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    Own(u64),
    /// The object's, at this page; stores reach it.
    Shared(u64),
    /// The object's, until something is stored.
    UntilStored(u64),
}

/// The naive version: each space's pages with their access.
#[derive(Debug, Default)]
struct Model {
    spaces: HashMap<usize, BTreeMap<u64, (Access, Content)>>,
    object: BTreeMap<u64, u64>,
}

impl Model {
    fn word(&self, content: Content) -> u64 {
        match content {
            Content::Own(value) => value,
            Content::Shared(page) | Content::UntilStored(page) => self.object.get(&page).copied().unwrap_or(0),
        }
    }
}

/// Spaces under test beside their model.
struct Family {
    memory: Arc<GuestMemory>,
    object: Arc<MemoryObject>,
    spaces: Vec<Option<Arc<AddressSpace>>>,
    model: Model,
}

impl Family {
    fn new() -> Self {
        let memory = GuestMemory::detached(64 << 20).unwrap();
        let object = memory.new_object();
        object.set_size(OBJECT_PAGES * PAGE_SIZE);
        let mut spaces = vec![None; SPACES];
        spaces[0] = Some(memory.new_space().unwrap());
        let model = Model { spaces: HashMap::from([(0, BTreeMap::new())]), object: BTreeMap::new() };
        Self { memory, object, spaces, model }
    }

    fn store(&mut self, space: usize, page: u64, value: u64) {
        let Some(it) = &self.spaces[space] else { return };
        let pages = self.model.spaces.get_mut(&space).unwrap();
        let Some((access, content)) = pages.get_mut(&page) else { return };
        if !access.contains(Access::WRITE) {
            assert!(it.write(at(page), &value.to_le_bytes()).is_err());
            return;
        }
        if it.write(at(page), &value.to_le_bytes()).is_err() {
            // Absent since a fork, or copy on write: what the memory map does at a fault.
            match it.page_state(at(page)) {
                PageState::Absent => it.map_anonymous(range(page, 1), *access, false).unwrap(),
                PageState::CopyOnWrite(_) => it.break_copy(at(page)).unwrap(),
                other => panic!("a store to page {page} is refused by {other:?}"),
            }
            it.write(at(page), &value.to_le_bytes()).unwrap();
        }
        match *content {
            Content::Shared(page) => {
                self.model.object.insert(page, value);
            }
            Content::Own(_) | Content::UntilStored(_) => *content = Content::Own(value),
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Fork { from, left_out, hot } => {
                let (Some(parent), Some(free)) = (&self.spaces[from], self.spaces.iter().position(Option::is_none))
                else {
                    return;
                };
                let left_out = range(left_out.0, left_out.1);
                let plan = ForkPlan { left_out: vec![left_out], hot: vec![range(hot.0, hot.1)], ..ForkPlan::default() };
                let child = parent.fork(&plan).unwrap();
                self.spaces[free] = Some(child);
                let mut pages = self.model.spaces[&from].clone();
                pages.retain(|page, _| !left_out.contains(at(*page)));
                self.model.spaces.insert(free, pages);
            }
            Op::End { space } => {
                if self.spaces.iter().flatten().count() > 1 {
                    self.spaces[space] = None;
                    self.model.spaces.remove(&space);
                }
            }
            Op::Anonymous { space, pages: (first, count), large } => {
                let Some(it) = &self.spaces[space] else { return };
                it.unmap(range(first, count));
                it.map_anonymous(range(first, count), RW, large).unwrap();
                let model = self.model.spaces.get_mut(&space).unwrap();
                for page in first..first + count {
                    model.insert(page, (RW, Content::Own(0)));
                }
            }
            Op::Object { space, pages: (first, count), private } => {
                let Some(it) = &self.spaces[space] else { return };
                let count = count.min(OBJECT_PAGES);
                it.unmap(range(first, count));
                it.map_object(range(first, count), &self.object, 0, RW, private).unwrap();
                let model = self.model.spaces.get_mut(&space).unwrap();
                for page in 0..count {
                    let content = if private { Content::UntilStored(page) } else { Content::Shared(page) };
                    model.insert(first + page, (RW, content));
                }
            }
            Op::Unmap { space, pages: (first, count) } => {
                let Some(it) = &self.spaces[space] else { return };
                it.unmap(range(first, count));
                let model = self.model.spaces.get_mut(&space).unwrap();
                for page in first..first + count {
                    model.remove(&page);
                }
            }
            Op::Protect { space, pages: (first, count), access } => {
                let Some(it) = &self.spaces[space] else { return };
                it.protect(range(first, count), access);
                let model = self.model.spaces.get_mut(&space).unwrap();
                model.range_mut(first..first + count).for_each(|(_, page)| page.0 = access);
            }
            Op::Store { space, page, value } => self.store(space, page, value),
            Op::Touch { space, pages: (first, count), value } => {
                (first..first + count).for_each(|page| self.store(space, page, value ^ page));
            }
            Op::Punch { pages: (first, count) } => self.punch(first, count),
            Op::Compress => _ = self.memory.compress_all(),
            Op::Watch { space, how } => {
                if let Some(it) = &self.spaces[space] {
                    it.watch(&it.filled_blocks(), how);
                }
            }
        }
    }

    fn punch(&mut self, first: u64, count: u64) {
        let (first, end) = (first % OBJECT_PAGES, (first % OBJECT_PAGES + count).min(OBJECT_PAGES));
        self.object.punch_hole(first * PAGE_SIZE, (end - first) * PAGE_SIZE);
        for page in first..end {
            self.model.object.remove(&page);
        }
        // The memory map maps such pages again as they are touched.
        for (space, pages) in &self.model.spaces {
            let it = self.spaces[*space].as_ref().unwrap();
            for (page, (access, content)) in pages {
                let (object_page, private) = match content {
                    Content::Shared(page) => (*page, false),
                    Content::UntilStored(page) => (*page, true),
                    Content::Own(_) => continue,
                };
                if it.page_state(at(*page)) == PageState::Absent {
                    let offset = object_page * PAGE_SIZE;
                    it.map_object(range(*page, 1), &self.object, offset, *access, private).unwrap();
                }
            }
        }
    }

    fn compare(&self) {
        for (space, pages) in &self.model.spaces {
            let it = self.spaces[*space].as_ref().unwrap();
            for page in 0..PAGES {
                let mut bytes = [0; 8];
                let read = it.read(at(page), &mut bytes);
                let Some((access, content)) = pages.get(&page) else {
                    assert!(read.is_err(), "page {page} of space {space} is not mapped");
                    continue;
                };
                match it.page_state(at(page)) {
                    // Never touched before a fork: zeros as soon as somebody looks.
                    PageState::Absent => assert_eq!(*content, Content::Own(0), "page {page} of space {space}"),
                    PageState::Mapped(granted) | PageState::CopyOnWrite(granted) => {
                        assert_eq!(granted, *access);
                        if access.contains(Access::READ) {
                            read.unwrap();
                            let expected = self.model.word(*content);
                            assert_eq!(u64::from_le_bytes(bytes), expected, "page {page} of space {space}");
                        }
                    }
                    PageState::Bus => panic!("no host file is mapped"),
                }
            }
        }
    }
}

fn pages() -> impl Strategy<Value = (u64, u64)> {
    let some = (0..PAGES, 1..40_u64).prop_map(|(first, count)| (first, count.min(PAGES - first)));
    let blocks = (0..3_u64, 1..=2_u64).prop_map(|(block, count)| (block * 512, count.min(3 - block) * 512));
    prop_oneof![3 => some, 2 => blocks]
}

fn op() -> impl Strategy<Value = Op> {
    let space = || 0..SPACES;
    let access = prop_oneof![Just(RW), Just(Access::READ), Just(Access::empty())];
    prop_oneof![
        3 => (space(), pages(), pages()).prop_map(|(from, left_out, hot)| Op::Fork { from, left_out, hot }),
        2 => space().prop_map(|space| Op::End { space }),
        2 => (space(), pages(), any::<bool>()).prop_map(|(space, pages, large)| Op::Anonymous { space, pages, large }),
        1 => (space(), pages(), any::<bool>()).prop_map(|(space, pages, private)| Op::Object { space, pages, private }),
        1 => (space(), pages()).prop_map(|(space, pages)| Op::Unmap { space, pages }),
        1 => (space(), pages(), access).prop_map(|(space, pages, access)| Op::Protect { space, pages, access }),
        4 => (space(), 0..PAGES, any::<u64>()).prop_map(|(space, page, value)| Op::Store { space, page, value }),
        3 => (space(), pages(), any::<u64>()).prop_map(|(space, pages, value)| Op::Touch { space, pages, value }),
        1 => pages().prop_map(|pages| Op::Punch { pages }),
        2 => Just(Op::Compress),
        1 => (space(), prop_oneof![Just(Watch::Sample), Just(Watch::Pages)])
            .prop_map(|(space, how)| Op::Watch { space, how }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_family_of_spaces_agrees_with_plain_maps(ops in prop::collection::vec(op(), 1..60)) {
        let mut family = Family::new();
        family.apply(&Op::Anonymous { space: 0, pages: (0, PAGES / 2), large: true });
        for op in &ops {
            family.apply(op);
        }
        family.compare();
        let Family { memory, object, spaces, .. } = family;
        drop(spaces);
        drop(object);
        prop_assert_eq!(memory.held(), 0, "frames, counts and tables come back");
    }
}

#[test]
fn touched_pages_of_a_large_space_are_shared_until_a_store() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let parent = memory.new_space().unwrap();
    parent.map_anonymous(range(0, 512), RW, true).unwrap();
    (0..512).for_each(|page| parent.write(at(page), &page.to_le_bytes()).unwrap());
    let before = memory.held();
    let child = parent.fork(&ForkPlan::default()).unwrap();
    assert!(memory.held() < before + 8 * PAGE_SIZE, "a fork takes tables alone");
    assert_eq!(parent.page_state(at(7)), PageState::CopyOnWrite(RW));
    child.break_copy(at(7)).unwrap();
    child.write(at(7), &1_u64.to_le_bytes()).unwrap();
    let mut bytes = [0; 8];
    parent.read(at(7), &mut bytes).unwrap();
    assert_eq!(u64::from_le_bytes(bytes), 7);
    // The child is gone: all is the parent's again, at one store.
    drop(child);
    parent.break_copy(at(8)).unwrap();
    assert_eq!(parent.page_state(at(400)), PageState::Mapped(RW));
}

#[test]
fn pages_that_were_stored_to_after_a_fork_are_copied_at_the_next() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let parent = memory.new_space().unwrap();
    parent.map_anonymous(range(0, 256), RW, false).unwrap();
    (0..256).for_each(|page| parent.write(at(page), &page.to_le_bytes()).unwrap());
    let first = parent.fork(&ForkPlan::default()).unwrap();
    parent.break_copy(at(100)).unwrap();
    for _ in 0..3 {
        let second = parent.fork(&ForkPlan::default()).unwrap();
        assert_eq!(parent.page_state(at(100)), PageState::Mapped(RW));
        assert_eq!(second.page_state(at(100)), PageState::Mapped(RW));
        assert_eq!(second.page_state(at(200)), PageState::CopyOnWrite(RW));
    }
    drop(first);
}

#[test]
fn a_small_space_is_copied_whole_and_untouched_pages_stay_behind() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let parent = memory.new_space().unwrap();
    parent.map_anonymous(range(0, 512), RW, false).unwrap();
    (10..20).for_each(|page| parent.write(at(page), &page.to_le_bytes()).unwrap());
    let child = parent.fork(&ForkPlan::default()).unwrap();
    assert_eq!(parent.page_state(at(15)), PageState::Mapped(RW));
    assert_eq!(child.page_state(at(15)), PageState::Mapped(RW));
    assert_eq!((parent.page_state(at(300)), child.page_state(at(300))), (PageState::Mapped(RW), PageState::Absent));
}

#[test]
fn stores_in_sequence_copy_growing_runs() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let parent = memory.new_space().unwrap();
    parent.map_anonymous(range(0, 512), RW, false).unwrap();
    (0..512).for_each(|page| parent.write(at(page), &page.to_le_bytes()).unwrap());
    let child = parent.fork(&ForkPlan::default()).unwrap();
    let mut faults = 0;
    for page in 0..512 {
        if matches!(child.page_state(at(page)), PageState::CopyOnWrite(_)) {
            child.break_copy(at(page)).unwrap();
            faults += 1;
        }
    }
    assert!(faults < 512 / 8, "{faults} faults for 512 pages");
    assert_eq!(BLOCK_SIZE, 512 * PAGE_SIZE);
}
