//! Resource limits, the overcommit heuristic, locked memory.

use super::*;
use crate::mm::{LockMode, VmaFlags};
use crate::task::Resource;

#[test]
fn the_address_space_limit_counts_what_is_mapped() {
    let map = map();
    map.limits().set(Resource::AddressSpace, 8 * PAGE_SIZE);
    map.map(fixed(pages(0..6), RW)).unwrap();
    assert_eq!(map.map(fixed(pages(6..9), RW)), Err(Errno::ENOMEM));
    // What is replaced does not count twice.
    map.map(fixed(pages(2..8), RW)).unwrap();
    map.set_heap(page(100));
    assert_eq!(map.brk(page(101)), page(100));
    map.unmap(page(0), 4 * PAGE_SIZE).unwrap();
    assert_eq!(map.brk(page(104)), page(104));
    assert_eq!(map.brk(page(105)), page(104));
}

#[test]
fn the_data_limit_counts_private_writable_memory() {
    let map = map();
    map.limits().set(Resource::Data, 4 * PAGE_SIZE);
    map.map(fixed(pages(0..8), Access::READ)).unwrap();
    map.map(fixed(pages(8..11), RW)).unwrap();
    assert_eq!(map.map(fixed(pages(11..13), RW)), Err(Errno::ENOMEM));
    assert_eq!(map.protect(pages(0..2), RW, Extend::No), Err(Errno::ENOMEM));
    assert_eq!(map.protect(pages(0..1), RW, Extend::No), Ok(()));
}

#[test]
fn a_request_for_more_than_all_memory_is_refused_unless_not_reserved() {
    let map = map_with(64 << 20);
    // Compressed, four times as much may fit.
    let len = 257 << 20;
    assert_eq!(map.map(MapRequest::anonymous(len, RW)), Err(Errno::ENOMEM));
    map.map(MapRequest::anonymous(len, Access::READ)).unwrap();
    let mut request = MapRequest::anonymous(len, RW);
    request.flags |= VmaFlags::NORESERVE;
    map.map(request).unwrap();
    // Each alone fits, and nobody adds up.
    for _ in 0..4 {
        map.map(MapRequest::anonymous(250 << 20, RW)).unwrap();
    }
}

#[test]
fn locked_memory_is_limited_and_counted() {
    let map = map();
    map.limits().set(Resource::LockedMemory, 4 * PAGE_SIZE);
    map.map(fixed(pages(0..8), RW)).unwrap();
    assert_eq!(map.lock(pages(0..3), LockMode::Now, false), Ok(()));
    assert_eq!(map.lock(pages(0..4), LockMode::OnFault, false), Ok(()));
    assert_eq!(map.lock(pages(4..5), LockMode::Now, false), Err(Errno::ENOMEM));
    assert_eq!(map.usage().locked, 4 * PAGE_SIZE);
    let mut request = fixed(pages(10..11), RW);
    request.flags |= VmaFlags::LOCKED;
    assert_eq!(map.map(request.clone()), Err(Errno::EAGAIN));
    request.may_lock = true;
    map.map(request).unwrap();
    assert_eq!(map.unlock(pages(0..8)), Ok(()));
    assert_eq!(map.unlock(pages(7..9)), Err(Errno::ENOMEM));
    assert_eq!(map.lock_all(true, false, LockMode::Now, false), Err(Errno::ENOMEM));
    assert_eq!(map.lock_all(true, true, LockMode::Now, true), Ok(()));
    assert_eq!(map.usage().locked, 9 * PAGE_SIZE);
    map.map(MapRequest { may_lock: true, ..fixed(pages(20..21), RW) }).unwrap();
    assert_eq!(map.usage().locked, 10 * PAGE_SIZE);
    map.unlock_all();
    assert_eq!(map.usage().locked, 0);
    expect_test::expect![[r#"
        0..8 rw-p
        10..11 rw-p
        20..21 rw-p
    "#]]
    .assert_eq(&show(&map));
}
