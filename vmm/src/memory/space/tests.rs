//! Random operations on an address space without a machine, compared with a map of pages; entries, and the ends of spaces
//! and pools.

use super::map::COPY_MAX;
use super::*;
use crate::addr::{BLOCK_SIZE, PAGE_SIZE};
use crate::memory::arena::Arena;
use crate::memory::tables::{index, load};
use crate::memory::{HostFile, MemoryObject};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::OwnedFd;

/// Three blocks of pages, and the object and the file that are mapped into them.
const BASE: u64 = 0x7e_0000_0000;
const PAGES: u64 = 3 * 512;
const OBJECT_PAGES: u64 = 700;
const FILE_PAGES: u64 = 40;

#[derive(Clone, Copy, Debug)]
enum Op {
    Anonymous { range: (u64, u64), access: Access, large: bool },
    Object { range: (u64, u64), offset: u64, access: Access, private: bool },
    File { range: (u64, u64), offset: u64, access: Access },
    Unmap { range: (u64, u64) },
    Protect { range: (u64, u64), access: Access },
    Move { range: (u64, u64), to: u64 },
    Break { page: u64 },
    Write { page: u64, value: u64 },
    Poke { page: u64, value: u64 },
    WriteObject { page: u64, value: u64 },
    Resize { pages: u64 },
    Punch { range: (u64, u64) },
}

/// What is done to the pages before an operation meets them.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Watch(Watch),
    Compress,
}

/// What a page's first word comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    Own(u64),
    Shared(u64),
    UntilStored(u64),
    FileUntilStored(u64),
}

#[derive(Clone, Copy, Debug)]
struct Page {
    access: Access,
    content: Content,
    /// The object's page behind it, also after a private copy was made.
    object: Option<u64>,
}

/// The naive version of everything.
#[derive(Debug, Default)]
struct Model {
    pages: BTreeMap<u64, Page>,
    object: BTreeMap<u64, u64>,
    object_pages: u64,
    /// Pages, absent ones too, that an object or a file was mapped at: the memory map unmaps such a range before it maps
    /// anonymous memory there.
    sourced: BTreeSet<u64>,
}

impl Model {
    fn word(&self, page: &Page) -> u64 {
        match page.content {
            Content::Own(value) => value,
            Content::Shared(at) | Content::UntilStored(at) => self.object.get(&at).copied().unwrap_or(0),
            Content::FileUntilStored(at) => file_word(at),
        }
    }

    fn is_copy(page: &Page) -> bool {
        matches!(page.content, Content::UntilStored(_) | Content::FileUntilStored(_))
    }

    fn state(&self, at: u64) -> PageState {
        match self.pages.get(&at) {
            None => PageState::Absent,
            Some(page) if Self::is_copy(page) => PageState::CopyOnWrite(page.access),
            Some(page) => PageState::Mapped(page.access),
        }
    }

    fn break_copy(&mut self, at: u64) {
        let Some(page) = self.pages.get(&at).copied() else { return };
        if Self::is_copy(&page) {
            let content = Content::Own(self.word(&page));
            self.pages.insert(at, Page { content, ..page });
        }
    }

    fn set(&mut self, at: u64, value: u64) {
        let Some(page) = self.pages.get_mut(&at) else { return };
        match page.content {
            Content::Shared(of) => _ = self.object.insert(of, value),
            _ => page.content = Content::Own(value),
        }
    }

    fn unmap(&mut self, (first, count): (u64, u64)) {
        self.pages.retain(|page, _| !(first..first + count).contains(page));
        self.sourced.retain(|page| !(first..first + count).contains(page));
    }

    fn absent(&self, (first, count): (u64, u64)) -> Vec<u64> {
        (first..first + count).filter(|at| !self.pages.contains_key(at)).collect()
    }
}

fn file_word(page: u64) -> u64 {
    0xf11e_0000 + page
}

fn at(page: u64) -> UserAddr {
    UserAddr(BASE + page * PAGE_SIZE)
}

fn range((first, count): (u64, u64)) -> UserRange {
    UserRange { start: at(first), end: at(first + count) }
}

fn access() -> impl Strategy<Value = Access> {
    (0..8_u8).prop_map(Access::from_bits_truncate)
}

fn pages() -> impl Strategy<Value = (u64, u64)> {
    let single = (0..PAGES).prop_map(|first| (first, 1));
    let short = (0..PAGES, 1..20_u64).prop_map(|(first, count)| (first, count.min(PAGES - first)));
    let long = (0..PAGES, 1..PAGES).prop_map(|(first, count)| (first, count.min(PAGES - first)));
    let blocks = (0..3_u64, 1..=3_u64).prop_map(|(first, count)| (first * 512, count.min(3 - first) * 512));
    prop_oneof![single, short, long, blocks]
}

fn op() -> impl Strategy<Value = Op> {
    let object_range = (0..OBJECT_PAGES, 1..OBJECT_PAGES).prop_map(|(first, count)| (first, count));
    prop_oneof![
        4 => (pages(), access(), any::<bool>()).prop_map(|(range, access, large)| Op::Anonymous { range, access, large }),
        3 => (pages(), 0..OBJECT_PAGES, access(), any::<bool>())
            .prop_map(|(range, offset, access, private)| Op::Object { range, offset, access, private }),
        2 => (pages(), 0..FILE_PAGES, access()).prop_map(|(range, offset, access)| Op::File { range, offset, access }),
        4 => pages().prop_map(|range| Op::Unmap { range }),
        3 => (pages(), access()).prop_map(|(range, access)| Op::Protect { range, access }),
        3 => (pages(), 0..PAGES).prop_map(|(range, to)| Op::Move { range, to }),
        2 => (0..PAGES).prop_map(|page| Op::Break { page }),
        4 => (0..PAGES, 1..1000_u64).prop_map(|(page, value)| Op::Write { page, value }),
        1 => (0..PAGES, 1..1000_u64).prop_map(|(page, value)| Op::Poke { page, value }),
        2 => (0..OBJECT_PAGES, 1..1000_u64).prop_map(|(page, value)| Op::WriteObject { page, value }),
        1 => (0..OBJECT_PAGES).prop_map(|pages| Op::Resize { pages }),
        1 => object_range.prop_map(|range| Op::Punch { range }),
    ]
}

fn before() -> impl Strategy<Value = Before> {
    prop_oneof![
        4 => Just(Before::Nothing),
        1 => Just(Before::Watch(Watch::Sample)),
        1 => Just(Before::Watch(Watch::Pages)),
        2 => Just(Before::Compress),
    ]
}

/// The rights of the entry for `addr` as a processor sees them, walking from a root.
fn processor_view(arena: &Arena, root: Frame, addr: UserAddr) -> Option<(Frame, Access)> {
    let mut table = arena.table(root);
    for level in [3, 2, 1, 0] {
        let entry = load(&table[index(addr, level)]);
        if !entry.is_present() {
            return None;
        }
        if entry.is_leaf() {
            let mut access = Access::READ;
            access.set(Access::WRITE, entry.is_writable());
            access.set(Access::EXEC, entry.0 >> 63 == 0);
            let within = if entry.is_large() { index(addr, 0) } else { 0 };
            return Some((entry.frame().add(u32::try_from(within).unwrap()), access));
        }
        table = arena.table(entry.frame());
    }
    None
}

/// The real thing beside the model.
struct Pair {
    memory: Arc<GuestMemory>,
    space: Arc<AddressSpace>,
    root: Root,
    object: Arc<MemoryObject>,
    file: Arc<HostFile>,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let memory = GuestMemory::detached(64 << 20).unwrap();
        let space = memory.new_space().unwrap();
        let root = space.make_root(Entry::EMPTY).unwrap();
        let object = memory.new_object();
        let mut file = tempfile::tempfile().unwrap();
        for page in 0..FILE_PAGES {
            let mut bytes = [0; 4096];
            bytes[..8].copy_from_slice(&file_word(page).to_le_bytes());
            file.write_all(&bytes).unwrap();
        }
        let file = Arc::new(HostFile::new(OwnedFd::from(file), 1, 1, false));
        Self { memory, space, root, object, file, model: Model::default() }
    }

    fn apply(&mut self, op: Op) {
        let model = &mut self.model;
        match op {
            Op::Anonymous { range: pages, access, large } => {
                if model.sourced.range(pages.0..pages.0 + pages.1).next().is_some() {
                    self.space.unmap(range(pages));
                    model.unmap(pages);
                }
                self.space.map_anonymous(range(pages), access, large).unwrap();
                for page in model.absent(pages) {
                    model.pages.insert(page, Page { access, content: Content::Own(0), object: None });
                }
            }
            Op::Object { range: pages, offset, access, private } => {
                // A mapping of an object covers what was absent, as the memory map sees to.
                self.space.unmap(range(pages));
                model.unmap(pages);
                model.sourced.extend(pages.0..pages.0 + pages.1);
                self.space.map_object(range(pages), &self.object, offset * PAGE_SIZE, access, private).unwrap();
                for page in pages.0..pages.0 + pages.1 {
                    let of = page - pages.0 + offset;
                    let content = if private { Content::UntilStored(of) } else { Content::Shared(of) };
                    if of < model.object_pages {
                        model.pages.insert(page, Page { access, content, object: Some(of) });
                    }
                }
            }
            Op::File { range: pages, offset, access } => {
                self.space.unmap(range(pages));
                model.unmap(pages);
                model.sourced.extend(pages.0..pages.0 + pages.1);
                self.space.map_file(range(pages), &self.file, offset * PAGE_SIZE, access, true).unwrap();
                let copied = access.contains(Access::WRITE) && pages.1 * PAGE_SIZE <= COPY_MAX;
                for page in pages.0..pages.0 + pages.1 {
                    let of = page - pages.0 + offset;
                    let content = if copied { Content::Own(file_word(of)) } else { Content::FileUntilStored(of) };
                    if of < FILE_PAGES {
                        model.pages.insert(page, Page { access, content, object: None });
                    }
                }
            }
            Op::Unmap { range: pages } => {
                self.space.unmap(range(pages));
                model.unmap(pages);
            }
            Op::Protect { range: pages, access } => {
                self.space.protect(range(pages), access);
                model.pages.range_mut(pages.0..pages.0 + pages.1).for_each(|(_, page)| page.access = access);
            }
            Op::Move { range: (first, count), to } => {
                let count = count.min(PAGES - to);
                if first < to + count && to < first + count {
                    return;
                }
                self.space.unmap(range((to, count)));
                model.unmap((to, count));
                self.space.move_pages(range((first, count)), at(to)).unwrap();
                for page in first..first + count {
                    if model.sourced.remove(&page) {
                        model.sourced.insert(page - first + to);
                    }
                    if let Some(moved) = model.pages.remove(&page) {
                        model.pages.insert(page - first + to, moved);
                    }
                }
            }
            Op::Break { page } => {
                self.space.break_copy(at(page)).unwrap();
                model.break_copy(page);
            }
            Op::Write { page, value } => {
                let fits = model.state(page);
                let writable = matches!(fits, PageState::Mapped(access) if access.contains(Access::WRITE));
                let result = self.space.write(at(page), &value.to_le_bytes());
                assert_eq!(result.is_ok(), writable, "store to page {page}, which is {fits:?}");
                if writable {
                    model.set(page, value);
                }
            }
            Op::Poke { page, value } => {
                model.break_copy(page);
                let result = self.space.poke(at(page), &value.to_le_bytes());
                assert_eq!(result.is_ok(), model.pages.contains_key(&page));
                model.set(page, value);
            }
            Op::WriteObject { page, value } => {
                assert_eq!(self.object.write_at(page * PAGE_SIZE, &value.to_le_bytes()), Ok(8));
                model.object.insert(page, value);
                model.object_pages = model.object_pages.max(page + 1);
            }
            Op::Resize { pages } => {
                self.object.set_size(pages * PAGE_SIZE);
                model.object_pages = pages;
                model.object.retain(|&page, _| page < pages);
                model.pages.retain(|_, page| page.object.is_none_or(|of| of < pages));
            }
            Op::Punch { range: (first, count) } => {
                self.object.punch_hole(first * PAGE_SIZE, count * PAGE_SIZE);
                let gone = first..(first + count).min(model.object_pages);
                model.object.retain(|page, _| !gone.contains(page));
                let lost = |page: &Page| {
                    page.object.is_some_and(|of| gone.contains(&of)) && !matches!(page.content, Content::Own(_))
                };
                model.pages.retain(|_, page| !lost(page));
            }
        }
    }

    /// Compresses or watches what there is. Nothing of that is seen but by a processor, which finds no entry.
    fn prepare(&self, before: Before) {
        match before {
            Before::Nothing => {}
            Before::Watch(how) => _ = self.space.watch(&self.space.filled_blocks(), how),
            Before::Compress => {
                self.memory.compress_all();
                let own = |page: &&Page| matches!(page.content, Content::Own(_));
                let own = self.model.pages.values().filter(own).count() as u64;
                assert!(self.space.compressed_pages() <= own, "shared pages and files' are not compressed");
            }
        }
    }

    /// Compares every page: what the monitor says, what it reads, and what a processor would find from a root.
    fn check(&self) {
        for page in 0..PAGES {
            let expected = self.model.state(page);
            let view = || processor_view(&self.memory.arena, self.root.frame, at(page)).map(|(_, access)| access);
            let first = view();
            assert_eq!(self.space.page_state(at(page)), expected, "state of page {page}");
            let mut bytes = [0; 8];
            let read = self.space.read(at(page), &mut bytes);
            let model = self.model.pages.get(&page);
            match model.filter(|page| !page.access.is_empty()) {
                None => assert!(read.is_err(), "page {page} is readable"),
                Some(page_model) => {
                    assert_eq!(read, Ok(()), "page {page}");
                    assert_eq!(u64::from_le_bytes(bytes), self.model.word(page_model), "contents of page {page}");
                }
            }
            let rights = match expected {
                PageState::Mapped(access) if !access.is_empty() => Some(access | Access::READ),
                PageState::CopyOnWrite(access) if !access.is_empty() => Some((access - Access::WRITE) | Access::READ),
                _ => None,
            };
            assert_eq!(view(), rights, "a processor's view of page {page}");
            assert!(first.is_none() || first == rights, "a processor's view of page {page} before it was read");
        }
        let assigned = self.space.assigned(range((0, PAGES)));
        assert_eq!(assigned, self.model.pages.len() as u64 * PAGE_SIZE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_space_agrees_with_a_map_of_pages(ops in prop::collection::vec((before(), op(), before()), 1..40)) {
        let mut pair = Pair::new();
        for (before, op, after) in ops {
            pair.prepare(before);
            pair.apply(op);
            pair.prepare(after);
            pair.check();
        }
        let Pair { memory, space, root, object, file, .. } = pair;
        drop((space, root, object, file));
        prop_assert_eq!(memory.held(), 0, "everything is given back in the end");
    }
}

const RW: Access = Access::READ.union(Access::WRITE);

#[test]
fn large_blocks_get_one_entry_and_split_when_cut() {
    let memory = GuestMemory::detached(16 << 20).unwrap();
    let space = memory.new_space().unwrap();
    let block = UserRange::new(UserAddr(BASE), BLOCK_SIZE).unwrap();
    let directory = |space: &AddressSpace| load(space.look().tables.block(&memory.arena, block.start).unwrap());
    space.map_anonymous(block, RW, true).unwrap();
    assert!(directory(&space).is_large());
    space.write(UserAddr(BASE + 5000), b"kept").unwrap();
    space.protect(UserRange::new(UserAddr(BASE + BLOCK_SIZE - PAGE_SIZE), PAGE_SIZE).unwrap(), Access::READ);
    assert!(directory(&space).is_table());
    let mut bytes = [0; 4];
    space.read(UserAddr(BASE + 5000), &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
    space.unmap(block);
    space.map_anonymous(block, RW, true).unwrap();
    assert!(directory(&space).is_large(), "an empty table gives way to a 2 MiB entry");
}

#[test]
fn a_mapping_that_is_not_touched_does_not_use_up_the_limit() {
    let memory = GuestMemory::detached(8 << 20).unwrap();
    let space = memory.new_space().unwrap();
    let part = |number: u64| UserRange::new(UserAddr(BASE + number * (4 << 20)), 4 << 20).unwrap();
    for number in 0..20_u64 {
        space.map_anonymous(part(number), RW, false).unwrap();
        space.write(part(number).start, &number.to_le_bytes()).unwrap();
        assert!(memory.held() <= memory.limit());
    }
    let touched = (0..20_u64).filter(|&number| {
        let mut bytes = [0; 8];
        space.read(part(number).start, &mut bytes).is_ok_and(|()| u64::from_le_bytes(bytes) == number)
    });
    assert_eq!(touched.count(), 20, "what was touched is never taken back");
}

#[test]
fn sparse_pages_share_extents_when_the_arena_is_full() {
    // An extent for each block would need 8,192 of them; the arena of this limit has 4,096 and a few.
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let space = memory.new_space().unwrap();
    for block in 0..6000_u64 {
        let page = UserRange::new(UserAddr(BASE + block * BLOCK_SIZE), PAGE_SIZE).unwrap();
        space.map_anonymous(page, RW, false).unwrap();
        space.write(page.start, &block.to_le_bytes()).unwrap();
    }
    for block in 0..6000_u64 {
        let mut bytes = [0; 8];
        space.read(UserAddr(BASE + block * BLOCK_SIZE), &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), block);
    }
}

#[test]
fn accesses_stop_at_the_first_page_that_forbids_them() {
    let memory = GuestMemory::detached(16 << 20).unwrap();
    let space = memory.new_space().unwrap();
    space.map_anonymous(range((0, 2)), RW, false).unwrap();
    space.map_anonymous(range((2, 1)), Access::READ, false).unwrap();
    let entry = |page, access| Fault { address: at(page), access, kind: FaultKind::Entry };
    let mut bytes = [0; 3 * 4096];
    assert_eq!(space.write(UserAddr(at(0).0 + 100), &bytes), Err(entry(2, Access::WRITE)));
    assert_eq!(space.read(UserAddr(at(0).0 + 1), &mut bytes), Err(entry(3, Access::READ)));
    assert_eq!(space.probe(range((0, 3)), Access::READ), Ok(()));
    assert_eq!(space.probe(range((1, 2)), Access::WRITE), Err(entry(2, Access::WRITE)));
    assert_eq!(space.probe(range((0, 1)), Access::EXEC), Err(entry(0, Access::EXEC)));
    assert_eq!(space.compare_exchange_u32(at(2), 0, 1), Err(entry(2, Access::WRITE)));
    assert_eq!(space.compare_exchange_u32(at(1), 0, 7), Ok(0));
    assert_eq!(space.load_u32(at(1)), Ok(7));
}

#[test]
fn addresses_beyond_the_user_half_fault_and_never_wrap() {
    let memory = GuestMemory::detached(16 << 20).unwrap();
    let space = memory.new_space().unwrap();
    let last = UserRange { start: UserAddr(USER_END - PAGE_SIZE), end: UserAddr(USER_END) };
    space.map_anonymous(last, RW, false).unwrap();
    let mut bytes = [0; 16];
    assert_eq!(space.read(UserAddr(USER_END - 8), &mut bytes).unwrap_err().address, UserAddr(USER_END));
    for start in [USER_END, 1 << 47, 1 << 63, u64::MAX - 3, u64::MAX] {
        assert_eq!(space.read(UserAddr(start), &mut bytes).unwrap_err().address, UserAddr(start));
        assert_eq!(space.poke(UserAddr(start), &bytes), Err(MemoryError::Io(libc::EFAULT)));
        assert_eq!(space.page_state(UserAddr(start)), PageState::Absent);
        assert_eq!(space.read(UserAddr(start), &mut []), Ok(()));
    }
}

#[test]
fn roots_see_what_is_mapped_after_they_were_made() {
    let memory = GuestMemory::detached(16 << 20).unwrap();
    let space = memory.new_space().unwrap();
    let root = space.make_root(Entry::table(Frame(1 << 20))).unwrap();
    let far = UserRange::new(UserAddr(0x1234_5600_0000), PAGE_SIZE).unwrap();
    space.map_anonymous(far, RW, false).unwrap();
    assert_eq!(processor_view(&memory.arena, root.frame, far.start).map(|(_, access)| access), Some(RW));
}
