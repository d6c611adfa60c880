//! Compression without a machine: what a page keeps, what the limit gains, what damage does.

use crate::addr::{BLOCK_SIZE, PAGE_SIZE, UserAddr, UserRange};
use crate::memory::space::{Access, PageState, Watch};
use crate::memory::{AddressSpace, Eagerness, FaultKind, ForkPlan, GuestMemory, MemoryError};
use std::sync::Arc;

const BASE: u64 = 0x4000_0000;
const RW: Access = Access::READ.union(Access::WRITE);

fn range(first: u64, pages: u64) -> UserRange {
    UserRange::new(UserAddr(BASE + first * PAGE_SIZE), pages * PAGE_SIZE).unwrap()
}

fn at(page: u64) -> UserAddr {
    UserAddr(BASE + page * PAGE_SIZE)
}

/// A page that compresses about four to one: a quarter of it is noise of `seed`'s.
fn quarter(seed: u64) -> [u8; 4096] {
    let mut page = [0; 4096];
    let mut noise = seed | 1;
    for (at, byte) in page.iter_mut().enumerate() {
        noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        *byte = if at % 4096 < 1000 { noise.to_be_bytes()[0] } else { seed.to_le_bytes()[0] };
    }
    page
}

fn noise(seed: u64) -> [u8; 4096] {
    let mut state = seed | 1;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state.to_be_bytes()[0]
    })
}

fn page(space: &AddressSpace, at: UserAddr) -> [u8; 4096] {
    let mut bytes = [0; 4096];
    space.read(at, &mut bytes).unwrap();
    bytes
}

fn filled(memory: &Arc<GuestMemory>, pages: u64, large: bool) -> Arc<AddressSpace> {
    let space = memory.new_space().unwrap();
    space.map_anonymous(range(0, pages), RW, large).unwrap();
    (0..pages).for_each(|page| space.write(at(page), &quarter(page)).unwrap());
    space
}

#[test]
fn everything_is_compressed_on_request_and_comes_back_with_its_bytes_and_rights() {
    for large in [false, true] {
        let memory = GuestMemory::detached(64 << 20).unwrap();
        let space = filled(&memory, 2048, large);
        space.protect(range(3, 1), Access::READ | Access::EXEC);
        space.protect(range(4, 1), Access::empty());
        let before = memory.held();
        let report = memory.compress();
        assert_eq!((report.pages, report.incompressible), (2048, 0));
        assert_eq!(report.held, (before, memory.held()));
        assert!(memory.held() < before / 3, "{} held of {before}", memory.held());
        let stats = memory.compression();
        assert_eq!((stats.pages, stats.bytes_before, space.compressed_pages()), (2048, 2048 * PAGE_SIZE, 2048));
        assert!(stats.ratio().unwrap() > 3.0 && stats.bytes_after <= stats.store_bytes);
        assert_eq!(space.compressed(range(10, 20)), 20 * PAGE_SIZE);
        assert_eq!(space.resident(range(0, 2048)), 0, "the host has its memory back");
        assert_eq!(space.contents(range(0, 2048)), 2048 * PAGE_SIZE);
        // What the memory map sees is what it saw before.
        assert_eq!(space.page_state(at(3)), PageState::Mapped(Access::READ | Access::EXEC));
        assert_eq!(space.page_state(at(4)), PageState::Mapped(Access::empty()));
        assert_eq!(space.write(at(3), &[1]).unwrap_err().kind, FaultKind::Entry);
        assert!(space.read(at(4), &mut [0]).is_err());
        space.protect(range(4, 1), RW);
        for number in 0..2048 {
            assert_eq!(page(&space, at(number)), quarter(number), "page {number}");
        }
        assert_eq!(memory.compression().refaults, 2048);
        assert_eq!((memory.compression().pages, memory.compression().store_bytes), (0, 0));
        drop(space);
        assert_eq!(memory.held(), 0);
    }
}

#[test]
fn pages_of_one_word_take_no_room_and_noise_stays_where_it_is() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let space = memory.new_space().unwrap();
    space.map_anonymous(range(0, 300), RW, false).unwrap();
    for number in 0..100 {
        space.write(at(number), &[7; 4096]).unwrap();
        space.write(at(100 + number), &[0; 4096]).unwrap();
        space.write(at(200 + number), &noise(number)).unwrap();
    }
    let report = memory.compress();
    assert_eq!((report.pages, report.incompressible), (200, 100));
    let stats = memory.compression();
    assert_eq!((stats.same_filled, stats.bytes_after, stats.store_bytes), (200, 0, 0));
    assert_eq!(space.resident(range(200, 100)), 100 * PAGE_SIZE);
    // They are passed over the next time, and tried again the time after.
    assert_eq!(memory.compress().incompressible, 0);
    assert_eq!(memory.compress().incompressible, 100);
    assert_eq!(page(&space, at(5)), [7; 4096]);
    assert_eq!(page(&space, at(105)), [0; 4096]);
    assert_eq!(page(&space, at(205)), noise(5));
}

#[test]
fn more_than_the_limit_can_be_written_if_it_compresses() {
    let memory = GuestMemory::detached(16 << 20).unwrap();
    let space = memory.new_space().unwrap();
    // In runs, as the memory map assigns them at faults.
    for first in (0..10_000).step_by(16) {
        space.map_anonymous(range(first, 16), RW, false).unwrap();
        (first..first + 16).for_each(|page| space.write(at(page), &quarter(page)).unwrap());
        assert!(memory.held() <= memory.limit());
    }
    for number in 0..10_000 {
        assert_eq!(page(&space, at(number)), quarter(number), "page {number}");
        assert!(memory.held() <= memory.limit());
    }
    assert!(memory.compression().refaults > 5_000);
    drop(space);
    assert_eq!(memory.held(), 0);
}

#[test]
fn pages_that_are_needed_together_are_not_taken_for_each_other() {
    const TOGETHER: u64 = 8;
    let memory = GuestMemory::detached(4 << 20).unwrap();
    let space = memory.new_space().unwrap();
    // Not neighbours, which come back in runs.
    let needed = |number: u64| number * 32;
    space.map_anonymous(range(0, needed(TOGETHER)), RW, false).unwrap();
    (0..TOGETHER).for_each(|number| space.write(at(needed(number)), &quarter(number)).unwrap());
    memory.compress();
    assert!(space.compressed(range(0, needed(TOGETHER))) >= TOGETHER * PAGE_SIZE);
    // Nothing is left for them but what they give up themselves.
    for number in 1000.. {
        if space.map_anonymous(range(number, 1), RW, false).is_err() {
            break;
        }
        space.write(at(number), &noise(number)).unwrap();
    }
    for number in 0..TOGETHER {
        assert_eq!(space.make_ready(at(needed(number))), Ok(true));
    }
    for number in 0..TOGETHER {
        assert_eq!(space.compressed(range(needed(number), 1)), 0, "page {number} was taken for another");
        assert_eq!(page(&space, at(needed(number))), quarter(number));
    }
}

#[test]
fn what_does_not_compress_meets_the_limit() {
    let memory = GuestMemory::detached(8 << 20).unwrap();
    let space = memory.new_space().unwrap();
    // A page that was assigned and never touched may be compressed, too: then it is the touch that fails.
    let store = |page: u64| match space.page_state(at(page)) {
        PageState::Absent => space.map_anonymous(range(page, 16), RW, false).map(|()| page),
        _ => space.make_ready(at(page)).map(|_| page),
    };
    let result = (0..4096).try_for_each(|page| {
        store(page)?;
        space.write(at(page), &noise(page)).map_err(|_| MemoryError::LimitReached)
    });
    assert_eq!(result, Err(MemoryError::LimitReached));
    assert!(memory.held() <= memory.limit() + (1 << 20), "a little more than the limit, for pages that come back");
    assert!(memory.compression().incompressible > 1000);
    assert_eq!(page(&space, at(9)), noise(9));
}

#[test]
fn pages_that_are_shared_since_a_fork_are_stored_once_and_objects_are_left_alone() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let space = filled(&memory, 512, false);
    let object = memory.new_object();
    object.write_at(0, &[3; 8192]).unwrap();
    space.map_object(range(1000, 2), &object, 0, RW, false).unwrap();
    let other = space.fork(&ForkPlan::default()).unwrap();
    assert_eq!(memory.compress().pages, 1024, "once for each side's entry");
    assert_eq!(memory.compression().pages, 512, "and one page for both");
    assert_eq!((space.resident(range(0, 512)), space.resident(range(1000, 2))), (0, 8192));
    assert_eq!(page(&space, at(1001)), [3; 4096]);
    other.write(at(5), b"other").unwrap();
    assert_eq!(page(&space, at(5)), quarter(5));
    drop(space);
    assert_eq!(page(&other, at(511)), quarter(511));
}

#[test]
fn a_fork_shares_compressed_pages_and_each_side_brings_back_its_own() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let space = filled(&memory, 1024, true);
    memory.compress();
    let held = memory.held();
    let child = space.fork(&ForkPlan::default()).unwrap();
    assert!(memory.held() < held + 16 * PAGE_SIZE, "a fork takes tables alone");
    assert_eq!((child.compressed_pages(), memory.compression().pages), (1024, 1024));
    child.write(at(7), b"child").unwrap();
    assert_eq!(page(&space, at(7)), quarter(7));
    space.write(at(7), b"parent").unwrap();
    assert_eq!(&page(&child, at(7))[..5], b"child");
    drop(space);
    assert_eq!(page(&child, at(900)), quarter(900));
    drop(child);
    assert_eq!((memory.held(), memory.compression().pages), (0, 0));
}

#[test]
fn what_may_only_be_written_is_read_even_where_a_fork_shares_it() {
    let memory = GuestMemory::detached(16 << 20).unwrap();
    let space = filled(&memory, 2, false);
    space.protect(range(0, 2), Access::WRITE);
    memory.compress();
    // What was just brought back is not compressed again, but watched.
    assert_eq!(page(&space, at(1)), quarter(1));
    memory.compress();
    let child = space.fork(&ForkPlan { copies: Eagerness::Never, ..ForkPlan::default() }).unwrap();
    for side in [&space, &child] {
        assert_eq!(page(side, at(0)), quarter(0));
        assert_eq!(page(side, at(1)), quarter(1));
    }
}

#[test]
fn a_touched_page_is_not_compressed() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let space = filled(&memory, 1024, true);
    let blocks = space.filled_blocks();
    // Two blocks are watched as a whole; the first is touched, which makes it present for good.
    assert_eq!(space.watch(&blocks, Watch::Sample), 1024);
    assert_eq!(space.make_ready(at(100)), Ok(true));
    assert_eq!(space.make_ready(at(101)), Ok(false), "the block's one entry is present");
    // The other was not touched: it is split, and watched page by page.
    assert_eq!(space.watch(&blocks[1..], Watch::Sample), 512);
    assert_eq!(space.make_ready(at(600)), Ok(true));
    assert_eq!(space.make_ready(at(601)), Ok(false), "pages are roused in groups");
    let store = memory.store().unwrap();
    let mut outcome = crate::memory::space::Outcome::default();
    for block in blocks {
        space.pack(block, &store, &mut super::Codec::new(), &mut outcome).unwrap();
    }
    assert_eq!(outcome.packed, 512 - 16);
    assert_eq!(page(&space, at(800)), quarter(800));
}

#[test]
fn touches_in_sequence_bring_back_growing_runs() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let space = filled(&memory, 512, false);
    memory.compress();
    let faults = (0..512).filter(|&number| space.make_ready(at(number)) == Ok(true)).count();
    assert!(faults < 512 / 8, "{faults} faults for 512 pages");
    memory.compress();
    let faults = (0..512).rev().filter(|&number| space.make_ready(at(number)) == Ok(true)).count();
    assert_eq!(faults, 512, "one page alone where nothing is in sequence");
}

#[test]
fn damage_in_the_store_is_a_bus_error_for_that_page_alone() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let space = filled(&memory, 512, false);
    memory.compress();
    let store = memory.store().unwrap();
    // The first slab holds some of the blocks. Damage half of it, here and there.
    let slab = super::slabs::range(0);
    let mut bytes = vec![0; 32 << 10];
    store.space().read(slab.start, &mut bytes).unwrap();
    (0..bytes.len() / 2).step_by(97).for_each(|at| bytes[at] ^= 0x55);
    store.space().write(slab.start, &bytes).unwrap();
    let mut damaged = 0;
    for number in 0..512 {
        let mut bytes = [0; 4096];
        match space.read(at(number), &mut bytes) {
            Ok(()) => assert_eq!(bytes, quarter(number), "page {number}"),
            Err(fault) => {
                assert_eq!((fault.kind, space.page_state(at(number))), (FaultKind::Bus, PageState::Bus));
                damaged += 1;
            }
        }
    }
    assert!((1..512).contains(&damaged), "{damaged} pages");
    assert_eq!(memory.compression().damaged, damaged);
    drop(store);
    drop(space);
    assert_eq!(memory.held(), 0);
}

#[test]
fn the_store_lies_in_the_space_it_was_given() {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let container = memory.new_space().unwrap();
    memory.keep_compressed_in(&container);
    let space = filled(&memory, 2048, true);
    memory.compress();
    let everything = UserRange::new(UserAddr(0), 1 << 40).unwrap();
    assert_eq!(container.assigned(everything), memory.compression().store_bytes);
    assert!(container.resident(everything) > 0);
    // Asked again, it does not compress itself.
    memory.compress();
    assert_eq!(container.compressed_pages(), 0);
    // The space goes on as long as there are pages in it, whoever lets it go.
    drop(container);
    assert_eq!(page(&space, at(77)), quarter(77));
    drop(space);
    assert_eq!(memory.held(), 0);
    assert_eq!(BLOCK_SIZE, 512 * PAGE_SIZE);
}

#[test]
fn transfers_take_compressed_pages_as_they_are() {
    use std::os::fd::AsFd;
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let space = filled(&memory, 2048, true);
    let file = tempfile::tempfile().unwrap();
    memory.compress();
    // More than is made ready at once.
    assert_eq!(space.write_to_host(file.as_fd(), Some(0), &[range(0, 1500), range(1500, 548)]), Ok(2048 * 4096));
    space.zero(range(0, 2048)).unwrap();
    memory.compress();
    assert_eq!(space.read_from_host(file.as_fd(), Some(0), &[range(0, 2048)]), Ok(2048 * 4096));
    (0..2048).for_each(|number| assert_eq!(page(&space, at(number)), quarter(number)));
    let object = memory.new_object();
    memory.compress();
    assert_eq!(space.write_to_object(&object, 0, range(0, 100)), Ok(100 * 4096));
    memory.compress();
    assert_eq!(space.read_from_object(&object, 0, range(200, 100)), Ok(100 * 4096));
    assert_eq!(page(&space, at(299)), quarter(99));
    memory.compress();
    assert_eq!(space.load_u32(at(300)), Ok(u32::from_le_bytes(quarter(300)[..4].try_into().unwrap())));
    memory.compress();
    let word = space.load_u32(at(300)).unwrap();
    assert_eq!(space.compare_exchange_u32(at(300), word, 5), Ok(word));
    memory.compress();
    space.protect(range(301, 1), Access::READ);
    space.poke(at(301), b"poked").unwrap();
    assert_eq!(&page(&space, at(301))[..6], &[b"poked"[..].to_vec(), vec![quarter(301)[5]]].concat()[..]);
}

#[test]
fn what_nobody_touches_is_compressed_in_the_background() {
    let memory = GuestMemory::detached(128 << 20).unwrap();
    let space = filled(&memory, 12_000, true);
    memory.compress_in_background(Box::new(|body| std::thread::Builder::new().spawn(body)));
    memory.start_compressor(std::time::Duration::from_millis(1));
    // No virtual CPU runs, so all of it is cold sooner or later.
    while space.compressed_pages() < 12_000 {
        std::thread::yield_now();
    }
    memory.stop_compressor();
    assert!(memory.held() < 20 << 20);
    assert_eq!(page(&space, at(11_999)), quarter(11_999));
}
