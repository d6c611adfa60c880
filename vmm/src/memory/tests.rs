//! Limits, reuse, windows and transfers, without a machine.

use super::reclaim::Resolution;
use super::{Access, AddressSpace, FaultKind, GuestMemory, HostFile, IoError, MemoryError, PageState};
use crate::addr::{BLOCK_SIZE, PAGE_SIZE, UserAddr, UserRange};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

const BASE: u64 = 0x4000_0000;
const RW: Access = Access::READ.union(Access::WRITE);

fn memory(limit: u64) -> Arc<GuestMemory> {
    GuestMemory::detached(limit).unwrap()
}

fn range(start: u64, len: u64) -> UserRange {
    UserRange::new(UserAddr(start), len).unwrap()
}

fn word(space: &AddressSpace, at: u64) -> u64 {
    let mut bytes = [0; 8];
    space.read(UserAddr(at), &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

fn host_file(file: File, writable: bool) -> Arc<HostFile> {
    let metadata = file.metadata().unwrap();
    Arc::new(HostFile::new(file.into(), metadata.dev(), metadata.ino(), writable))
}

/// A host file of `pages` pages, each of which begins with its number plus one.
fn file(pages: u64) -> (File, Arc<HostFile>) {
    let mut file = tempfile::tempfile().unwrap();
    for page in 0..pages {
        file.seek(std::io::SeekFrom::Start(page * PAGE_SIZE)).unwrap();
        file.write_all(&(page + 1).to_le_bytes()).unwrap();
    }
    file.set_len(pages * PAGE_SIZE).unwrap();
    let host = host_file(file.try_clone().unwrap(), true);
    (file, host)
}

#[test]
fn frames_come_back_zeroed() {
    let memory = memory(16 << 20);
    let space = memory.new_space().unwrap();
    for large in [false, true] {
        for _ in 0..8 {
            let pages = range(BASE, 2 * BLOCK_SIZE);
            space.map_anonymous(pages, RW, large).unwrap();
            for page in (0..pages.len()).step_by(4096) {
                assert_eq!(word(&space, BASE + page), 0);
                space.write(UserAddr(BASE + page), &[0xff; 64]).unwrap();
            }
            // In pieces, so that small runs are reused too.
            space.unmap(range(BASE, PAGE_SIZE));
            space.map_anonymous(range(BASE, PAGE_SIZE), RW, false).unwrap();
            assert_eq!(word(&space, BASE), 0);
            space.unmap(pages);
        }
    }
}

#[test]
fn the_limit_counts_frames_and_spares_what_was_never_touched() {
    let memory = memory(8 << 20);
    let space = memory.new_space().unwrap();
    // Assigned ahead of use: more than a second mapping of the same size would leave.
    space.map_anonymous(range(BASE, 6 << 20), RW, false).unwrap();
    space.write(UserAddr(BASE), &[1]).unwrap();
    space.map_anonymous(range(2 * BASE, 6 << 20), RW, false).unwrap();
    assert_eq!(word(&space, BASE), 1, "touched pages stay");
    assert_eq!(space.page_state(UserAddr(BASE + PAGE_SIZE)), PageState::Absent, "untouched pages are taken back");
    // All of it in use: the limit holds, and what there is stays.
    for page in (0..6 << 20).step_by(4096) {
        space.write(UserAddr(2 * BASE + page), &[2]).unwrap();
    }
    let result = space.map_anonymous(range(3 * BASE, 6 << 20), RW, false);
    assert_eq!(result, Err(MemoryError::LimitReached));
    assert!(memory.held() <= memory.limit());
    assert_eq!(word(&space, 2 * BASE), 2);
}

#[test]
fn a_limit_can_be_lowered_to_what_is_held() {
    let memory = memory(64 << 20);
    let space = memory.new_space().unwrap();
    space.map_anonymous(range(BASE, 4 << 20), RW, false).unwrap();
    assert!(!memory.lower_limit(65 << 20) && !memory.lower_limit(1 << 20));
    assert_eq!(memory.limit(), 64 << 20);
    assert!(memory.lower_limit(8 << 20));
    assert_eq!(memory.limit(), 8 << 20);
    for page in (0..4 << 20).step_by(4096) {
        space.write(UserAddr(BASE + page), &[1]).unwrap();
    }
    for wanted in [6 << 20, 1 << 40] {
        assert_eq!(space.map_anonymous(range(2 * BASE, wanted), RW, false), Err(MemoryError::LimitReached));
    }
}

#[test]
fn reservations_beyond_the_limit_fail_without_a_trace() {
    let memory = memory(4 << 20);
    let space = memory.new_space().unwrap();
    let held = memory.held();
    assert_eq!(space.map_anonymous(range(BASE, 1 << 40), RW, false), Err(MemoryError::LimitReached));
    space.unmap(range(BASE, 1 << 40));
    assert!(memory.held() <= held + 64 * PAGE_SIZE, "only page tables stay");
}

#[test]
fn mappings_of_a_file_show_its_pages_and_writes_to_it() {
    let memory = memory(64 << 20);
    let space = memory.new_space().unwrap();
    let (host, mapped) = file(8);
    space.map_file(range(BASE, 8 * PAGE_SIZE), &mapped, 0, RW, false).unwrap();
    // Too large to be copied when it is mapped.
    space.map_file(range(2 * BASE, 4 << 20), &mapped, 0, RW, true).unwrap();
    assert_eq!(word(&space, BASE + 3 * PAGE_SIZE), 4);
    assert_eq!(space.page_state(UserAddr(2 * BASE)), PageState::CopyOnWrite(RW));
    space.write(UserAddr(BASE), &77u64.to_le_bytes()).unwrap();
    let mut bytes = [0; 8];
    host.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(u64::from_le_bytes(bytes), 77, "a shared mapping writes to the file");
    assert_eq!(word(&space, 2 * BASE), 77, "an unbroken private page shows it");
    space.break_copy(UserAddr(2 * BASE)).unwrap();
    space.write(UserAddr(2 * BASE), &78u64.to_le_bytes()).unwrap();
    assert_eq!(word(&space, BASE), 77, "a broken one is private");
    assert_eq!(space.page_state(UserAddr(2 * BASE + 8 * PAGE_SIZE)), PageState::Absent, "beyond the end is nothing");
}

#[test]
fn a_file_that_shrinks_is_a_bus_error_for_the_monitor_and_found_for_the_guest() {
    let memory = memory(64 << 20);
    let space = memory.new_space().unwrap();
    let (host, mapped) = file(8);
    space.map_file(range(BASE, 8 * PAGE_SIZE), &mapped, 0, RW, false).unwrap();
    assert_eq!(space.resolve_efault(), Resolution::Hopeless, "nothing is wrong with it yet");
    host.set_len(2 * PAGE_SIZE).unwrap();
    let fault = space.read(UserAddr(BASE + 5 * PAGE_SIZE), &mut [0; 8]).unwrap_err();
    assert_eq!((fault.address, fault.kind), (UserAddr(BASE + 5 * PAGE_SIZE), FaultKind::Bus));
    assert_eq!(space.resolve_efault(), Resolution::Retry);
    assert_eq!(space.page_state(UserAddr(BASE + 5 * PAGE_SIZE)), PageState::Absent);
    assert_eq!(word(&space, BASE + PAGE_SIZE), 2, "what the file still has stays");
}

#[test]
fn chunks_of_files_make_room_for_each_other() {
    // 4,096 extents beside the limit's own: fewer than the chunks that are shown one after the other.
    let memory = memory(4 << 20);
    let space = memory.new_space().unwrap();
    let host = tempfile::tempfile().unwrap();
    let chunks = 5000;
    host.set_len(chunks * BLOCK_SIZE).unwrap();
    host.write_all_at(&9u64.to_le_bytes(), 4999 * BLOCK_SIZE).unwrap();
    let mapped = host_file(host, false);
    for chunk in 0..chunks {
        space.map_file(range(BASE, PAGE_SIZE), &mapped, chunk * BLOCK_SIZE, Access::READ, false).unwrap();
        if chunk + 1 < chunks {
            space.unmap(range(BASE, PAGE_SIZE));
        }
    }
    assert_eq!(word(&space, BASE), 9);
    assert!(memory.window().len() < 5000, "idle chunks were given up");
}

#[test]
fn transfers_stop_at_the_first_page_that_does_not_permit_them() {
    let memory = memory(16 << 20);
    let space = memory.new_space().unwrap();
    let (host, _) = file(4);
    space.map_anonymous(range(BASE, 2 * PAGE_SIZE), RW, false).unwrap();
    let read = space.read_from_host(host.as_fd(), Some(0), &[range(BASE, 4 * PAGE_SIZE)]);
    assert_eq!(read, Ok(2 * 4096), "what can be taken is");
    assert_eq!(word(&space, BASE + PAGE_SIZE), 2);
    let none = space.read_from_host(host.as_fd(), Some(0), &[range(BASE + 2 * PAGE_SIZE, PAGE_SIZE)]);
    assert!(matches!(none, Err(IoError::Fault(fault)) if fault.address == UserAddr(BASE + 2 * PAGE_SIZE)));
    space.protect(range(BASE, PAGE_SIZE), Access::READ);
    let read_only = space.read_from_host(host.as_fd(), Some(0), &[range(BASE, PAGE_SIZE)]);
    assert!(matches!(read_only, Err(IoError::Fault(_))));
    assert_eq!(space.write_to_host(host.as_fd(), Some(0), &[range(BASE, PAGE_SIZE)]), Ok(4096));
}

#[test]
fn objects_are_the_same_bytes_for_everybody() {
    let memory = memory(64 << 20);
    let space = memory.new_space().unwrap();
    let object = memory.new_object();
    assert_eq!(object.write_at(3 * BLOCK_SIZE, b"far"), Ok(3));
    assert_eq!((object.size(), object.next_data(0)), (3 * BLOCK_SIZE + 3, Some(3 * BLOCK_SIZE)));
    assert_eq!(object.held(), PAGE_SIZE, "holes hold nothing");
    space.map_object(range(BASE, 4 * BLOCK_SIZE), &object, 0, RW, false).unwrap();
    space.write(UserAddr(BASE + 5), b"near").unwrap();
    let mut near = [0; 4];
    assert_eq!(object.read_at(5, &mut near), Ok(4));
    assert_eq!(&near, b"near");
    object.set_size(PAGE_SIZE);
    let beyond = space.read(UserAddr(BASE + PAGE_SIZE), &mut [0; 1]);
    assert_eq!(beyond.unwrap_err().address, UserAddr(BASE + PAGE_SIZE));
    drop(space);
    drop(object);
    assert!(memory.held() <= 64 * PAGE_SIZE, "frames come back with the last holder");
}
