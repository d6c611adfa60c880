//! Random operations against a naive model: a table of pages, each with its rights and one byte of contents.

use super::*;
use crate::mm::{Advice, RemapRequest};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Pages that operations are about.
const PAGES: u64 = 24;

#[derive(Clone, Debug)]
enum Step {
    Map { at: u64, len: u64, access: Access },
    MapObject { at: u64, len: u64, offset: u64, access: Access, sharing: Sharing },
    Unmap { at: u64, len: u64 },
    Protect { at: u64, len: u64, access: Access },
    Discard { at: u64, len: u64 },
    Move { from: u64, len: u64, to: u64 },
    Write { at: u64, value: u8 },
    WriteObject { page: u64, value: u8 },
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::empty()), Just(Access::READ), Just(RW), Just(Access::READ | Access::EXEC)]
}

fn sharing() -> impl Strategy<Value = Sharing> {
    prop_oneof![Just(Sharing::Private), Just(Sharing::Shared)]
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..PAGES;
    let len = || 1..6_u64;
    prop_oneof![
        (at(), len(), access()).prop_map(|(at, len, access)| Step::Map { at, len, access }),
        (at(), len(), 0..4_u64, access(), sharing()).prop_map(|(at, len, offset, access, sharing)| Step::MapObject {
            at,
            len,
            offset,
            access,
            sharing
        }),
        (at(), len()).prop_map(|(at, len)| Step::Unmap { at, len }),
        (at(), len(), access()).prop_map(|(at, len, access)| Step::Protect { at, len, access }),
        (at(), len()).prop_map(|(at, len)| Step::Discard { at, len }),
        (at(), len(), at()).prop_map(|(from, len, to)| Step::Move { from, len, to }),
        (at(), any::<u8>()).prop_map(|(at, value)| Step::Write { at, value }),
        (at(), any::<u8>()).prop_map(|(at, value)| Step::Write { at, value }),
        (0..OBJECT_PAGES, any::<u8>()).prop_map(|(page, value)| Step::WriteObject { page, value }),
    ]
}

/// Pages of the object that is mapped.
const OBJECT_PAGES: u64 = 8;
const _: () = assert!(OBJECT_PAGES == 8, "the model's array has as many");

/// Where a page's contents are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Contents {
    Own(u8),
    /// Still the object's, until a store.
    Copied(u64),
    Shared(u64),
}

#[derive(Clone, Copy, Debug)]
struct Page {
    access: Access,
    contents: Contents,
    /// What discarding brings back.
    origin: Contents,
}

#[derive(Default)]
struct Model {
    pages: BTreeMap<u64, Page>,
    object: [u8; 8],
}

impl Model {
    fn value(&self, at: u64) -> Option<u8> {
        let page = self.pages.get(&at).filter(|page| !page.access.is_empty())?;
        Some(match page.contents {
            Contents::Own(value) => value,
            Contents::Copied(page) | Contents::Shared(page) => *self.object.get(usize::try_from(page).unwrap())?,
        })
    }

    fn store(&mut self, at: u64, value: u8) -> bool {
        let Some(page) = self.pages.get_mut(&at).filter(|page| page.access.contains(Access::WRITE)) else {
            return false;
        };
        match page.contents {
            Contents::Copied(number) | Contents::Shared(number) if number >= OBJECT_PAGES => return false,
            Contents::Shared(number) => self.object[usize::try_from(number).unwrap()] = value,
            _ => page.contents = Contents::Own(value),
        }
        true
    }

    fn map(&mut self, at: u64, len: u64, access: Access, contents: impl Fn(u64) -> Contents) {
        for number in 0..len {
            let contents = contents(number);
            self.pages.insert(at + number, Page { access, contents, origin: contents });
        }
    }

    fn is_mapped(&self, at: u64, len: u64) -> bool {
        (at..at + len).all(|page| self.pages.contains_key(&page))
    }
}

fn run(steps: &[Step]) {
    let map = map_with(64 << 20);
    let object = map.memory().new_object();
    object.set_size(OBJECT_PAGES * PAGE_SIZE);
    let mut model = Model::default();
    for step in steps {
        apply(&map, &object, &mut model, step);
        for number in 0..PAGES + 6 {
            let expected = model.value(number);
            assert_eq!(byte(&map, page(number)).ok(), expected, "page {number} after {step:?}");
            let listed = map.mappings().iter().find(|info| info.range.contains(page(number))).map(|info| info.access);
            assert_eq!(listed, model.pages.get(&number).map(|page| page.access), "page {number} after {step:?}");
        }
        let mapped = u64::try_from(model.pages.len()).unwrap() * PAGE_SIZE;
        assert_eq!(map.usage().mapped, mapped);
    }
    map.unmap(page(0), (PAGES + 6) * PAGE_SIZE).unwrap();
    assert_eq!(map.usage(), crate::mm::MemoryUsage::default());
}

fn apply(map: &MemoryMap, object: &Arc<MemoryObject>, model: &mut Model, step: &Step) {
    match *step {
        Step::Map { at, len, access } => {
            map.map(fixed(pages(at..at + len), access)).unwrap();
            model.map(at, len, access, |_| Contents::Own(0));
        }
        Step::MapObject { at, len, offset, access, sharing } => {
            let content = Ok(object_content(object, offset * PAGE_SIZE, sharing));
            map.map(MapRequest { content, ..fixed(pages(at..at + len), access) }).unwrap();
            model.map(at, len, access, |number| match sharing {
                Sharing::Shared => Contents::Shared(offset + number),
                Sharing::Private => Contents::Copied(offset + number),
            });
        }
        Step::Unmap { at, len } => {
            map.unmap(page(at), len * PAGE_SIZE).unwrap();
            model.pages.retain(|page, _| !(at..at + len).contains(page));
        }
        Step::Protect { at, len, access } => {
            let result = map.protect(pages(at..at + len), access, Extend::No);
            assert_eq!(result.is_ok(), model.is_mapped(at, len));
            for number in at..at + len {
                let Some(page) = model.pages.get_mut(&number) else { break };
                page.access = access;
            }
        }
        Step::Discard { at, len } => {
            let result = map.advise(pages(at..at + len), Advice::Discard);
            assert_eq!(result.is_ok(), model.is_mapped(at, len));
            for number in at..at + len {
                if let Some(page) = model.pages.get_mut(&number) {
                    page.contents = page.origin;
                }
            }
        }
        Step::Move { from, len, to } => {
            let request = RemapRequest {
                from: page(from),
                old_len: len * PAGE_SIZE,
                new_len: len * PAGE_SIZE,
                may_move: true,
                fixed: Some(page(to)),
                keep_old: false,
                may_lock: false,
            };
            let before = map.mappings();
            let whole = before.iter().any(|info| info.range.contains(page(from)) && info.range.end >= page(from + len));
            let overlap = from < to + len && to < from + len;
            let result = map.remap(request);
            assert_eq!(result.is_ok(), whole && !overlap, "{step:?}: {result:?}");
            if result.is_ok() {
                let moved: Vec<_> = (0..len).map(|number| model.pages.remove(&(from + number)).unwrap()).collect();
                for (number, page) in (to..).zip(moved) {
                    model.pages.insert(number, page);
                }
            }
        }
        Step::Write { at, value } => {
            let stored = model.store(at, value);
            assert_eq!(map.write(page(at), &[value]).is_ok(), stored, "{step:?}");
        }
        Step::WriteObject { page, value } => {
            object.write_at(page * PAGE_SIZE, &[value]).unwrap();
            model.object[usize::try_from(page).unwrap()] = value;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn the_map_behaves_as_a_table_of_pages(steps in prop::collection::vec(step(), 1..48)) {
        run(&steps);
    }
}

#[test]
fn an_object_mapped_twice_over_itself_keeps_its_contents() {
    let whole = |at, len, offset| Step::MapObject { at, len, offset, access: Access::READ, sharing: Sharing::Private };
    run(&[Step::WriteObject { page: 3, value: 0 }, whole(0, 1, 2), whole(0, 4, 0)]);
}
