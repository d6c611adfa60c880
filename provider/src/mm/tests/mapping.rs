//! mmap, munmap, mprotect, brk: what ends up where.

use super::*;
use expect_test::expect;

#[test]
fn neighbours_that_agree_are_one_mapping() {
    let map = map();
    map.map(fixed(pages(0..4), RW)).unwrap();
    map.map(fixed(pages(8..9), RW)).unwrap();
    map.map(fixed(pages(4..8), RW)).unwrap();
    expect![[r#"
        0..9 rw-p
    "#]]
    .assert_eq(&show(&map));
    map.protect(pages(2..3), Access::READ, Extend::No).unwrap();
    map.unmap(page(6), PAGE_SIZE).unwrap();
    expect![[r#"
        0..2 rw-p
        2..3 r--p
        3..6 rw-p
        7..9 rw-p
    "#]]
    .assert_eq(&show(&map));
    map.protect(pages(2..3), RW, Extend::No).unwrap();
    map.map(fixed(pages(6..7), RW)).unwrap();
    expect![[r#"
        0..9 rw-p
    "#]]
    .assert_eq(&show(&map));
    assert_eq!(map.usage().mapped, 9 * PAGE_SIZE);
    assert_eq!(map.usage().data, 9 * PAGE_SIZE);
}

#[test]
fn mappings_of_a_source_merge_only_where_offsets_continue() {
    let map = map();
    let object = map.memory().new_object();
    object.set_size(8 * PAGE_SIZE);
    let part = |at: u64, offset: u64| MapRequest {
        content: Ok(object_content(&object, offset * PAGE_SIZE, Sharing::Shared)),
        ..fixed(pages(at..at + 1), RW)
    };
    map.map(part(0, 0)).unwrap();
    map.map(part(1, 1)).unwrap();
    map.map(part(2, 5)).unwrap();
    expect![[r#"
        0..2 rw-s
        2..3 rw-s
    "#]]
    .assert_eq(&show(&map));
    map.write(page(2), b"shared").unwrap();
    let mut bytes = [0; 6];
    object.read_at(5 * PAGE_SIZE, &mut bytes).unwrap();
    assert_eq!(&bytes, b"shared");
}

#[test]
fn addresses_go_down_from_the_top_and_fill_holes_first() {
    let map = map();
    let len = 4 * PAGE_SIZE;
    let first = map.map(MapRequest::anonymous(len, RW)).unwrap();
    let second = map.map(MapRequest::anonymous(len, Access::READ)).unwrap();
    let third = map.map(MapRequest::anonymous(len, RW)).unwrap();
    assert_eq!(first.0, map.layout().mmap_base.0 - len);
    assert_eq!((second.0, third.0), (first.0 - len, first.0 - 2 * len));
    map.unmap(second, len).unwrap();
    let small = map.map(MapRequest::anonymous(PAGE_SIZE, Access::EXEC)).unwrap();
    assert_eq!(small.0, first.0 - PAGE_SIZE);
    let large = map.map(MapRequest::anonymous(len, Access::EXEC)).unwrap();
    assert_eq!(large.0, third.0 - len);
    map.unmap(first, len).unwrap();
    assert_eq!(map.map(MapRequest::anonymous(len, RW)).unwrap(), first);
}

#[test]
fn whole_large_pages_are_aligned() {
    let map = map();
    map.map(MapRequest::anonymous(PAGE_SIZE, RW)).unwrap();
    let at = map.map(MapRequest::anonymous(4 << 20, RW)).unwrap();
    assert!(at.0.is_multiple_of(2 << 20));
}

#[test]
fn hints_are_taken_if_free() {
    let map = map();
    let hinted = |hint: u64, len| MapRequest { hint: UserAddr(hint), ..MapRequest::anonymous(len, RW) };
    assert_eq!(map.map(hinted(AT + 17, PAGE_SIZE)), Ok(page(0)));
    assert_ne!(map.map(hinted(AT, PAGE_SIZE)), Ok(page(0)));
    assert_ne!(map.map(hinted(AT - PAGE_SIZE, 2 * PAGE_SIZE)), Ok(page(0)));
    assert_eq!(map.map(hinted(1, PAGE_SIZE)).map(|at| at.0), Ok(map.layout().mmap_base.0 - 4 * PAGE_SIZE));
    assert_eq!(map.map(hinted(4096, PAGE_SIZE)).map(|at| at.0), Ok(65536));
    let low = MapRequest { placement: Placement::Low, ..MapRequest::anonymous(PAGE_SIZE, RW) };
    let at = map.map(low).unwrap().0;
    assert!((0x4000_0000..0x8000_0000).contains(&at), "{at:#x}");
}

#[test]
fn mmap_judges_in_linuxs_order() {
    let map = map();
    map.map(fixed(pages(0..4), RW)).unwrap();
    let check = |request: MapRequest, expected| assert_eq!(map.map(request.clone()), Err(expected), "{request:?}");
    let bad = |errno| Err(errno);
    check(MapRequest { content: bad(Errno::ENODEV), ..MapRequest::anonymous(0, RW) }, Errno::EINVAL);
    check(MapRequest::anonymous(u64::MAX, RW), Errno::ENOMEM);
    check(MapRequest::anonymous(1 << 47, RW), Errno::ENOMEM);
    check(MapRequest { content: bad(Errno::EACCES), ..fixed(pages(0..1), RW) }, Errno::EACCES);
    check(MapRequest::anonymous(PAGE_SIZE, RW).fixed(UserAddr(AT + 1)), Errno::EINVAL);
    check(MapRequest::anonymous(PAGE_SIZE, RW).fixed(UserAddr(0x7fff_ffff_f000)), Errno::ENOMEM);
    check(MapRequest::anonymous(PAGE_SIZE, RW).fixed(UserAddr(0x1000)), Errno::EPERM);
    let place = MapRequest { placement: Placement::FixedNoReplace, ..fixed(pages(3..5), RW) };
    check(MapRequest { content: bad(Errno::ENODEV), ..place.clone() }, Errno::EEXIST);
    check(place, Errno::EEXIST);
    let low = MapRequest { may_map_low: true, ..MapRequest::anonymous(PAGE_SIZE, RW).fixed(UserAddr(0)) };
    assert_eq!(map.map(low), Ok(UserAddr(0)));
    assert_eq!(map.unmap(UserAddr(AT + 1), PAGE_SIZE), Err(Errno::EINVAL));
    assert_eq!(map.unmap(page(0), 0), Err(Errno::EINVAL));
    assert_eq!(map.unmap(UserAddr(1 << 47), PAGE_SIZE), Err(Errno::EINVAL));
    assert_eq!(map.unmap(page(100), PAGE_SIZE), Ok(()));
}

#[test]
fn a_fixed_mapping_replaces_what_was_there() {
    let map = map();
    map.map(fixed(pages(0..4), RW)).unwrap();
    map.write(page(1), b"old").unwrap();
    map.map(fixed(pages(1..2), RW)).unwrap();
    assert_eq!(byte(&map, page(1)), Ok(0));
    expect![[r#"
        0..4 rw-p
    "#]]
    .assert_eq(&show(&map));
}

#[test]
fn reservations_are_free() {
    let map = map();
    let tebibyte = 1 << 40;
    let held = map.memory().held();
    let reserved = map.map(MapRequest::anonymous(tebibyte, Access::empty())).unwrap();
    assert_eq!(map.memory().held(), held);
    let part = UserRange { start: UserAddr(reserved.0 + (77 << 30)), end: UserAddr(reserved.0 + (77 << 30) + 8192) };
    map.protect(part, RW, Extend::No).unwrap();
    map.write(part.start, b"used").unwrap();
    assert_eq!(byte(&map, part.start), Ok(b'u'));
    assert_eq!(byte(&map, part.end), Err(Errno::EFAULT));
    map.unmap(reserved, tebibyte).unwrap();
    assert_eq!(map.usage().mapped, 0);
}

#[test]
fn protecting_stops_at_holes_and_refusals() {
    let map = map();
    map.map(fixed(pages(0..2), RW)).unwrap();
    map.map(fixed(pages(3..4), RW)).unwrap();
    assert_eq!(map.protect(pages(0..4), Access::READ, Extend::No), Err(Errno::ENOMEM));
    expect![[r#"
        0..2 r--p
        3..4 rw-p
    "#]]
    .assert_eq(&show(&map));
    assert_eq!(map.protect(pages(2..3), Access::READ, Extend::No), Err(Errno::ENOMEM));
    assert_eq!(map.protect(pages(3..4), Access::READ, Extend::Down), Err(Errno::EINVAL));
    let object = map.memory().new_object();
    object.set_size(PAGE_SIZE);
    let read_only = Content { max_access: Access::READ, ..object_content(&object, 0, Sharing::Shared) };
    map.map(MapRequest { content: Ok(read_only), ..fixed(pages(4..5), Access::READ) }).unwrap();
    assert_eq!(map.protect(pages(3..5), RW | Access::EXEC, Extend::No), Err(Errno::EACCES));
    expect![[r#"
        0..2 r--p
        3..4 rwxp
        4..5 r--s
    "#]]
    .assert_eq(&show(&map));
}

#[test]
fn the_break_moves_by_bytes_and_pages_come_and_go() {
    let map = map();
    map.set_heap(page(0));
    assert_eq!(map.brk(UserAddr(0)), page(0));
    assert_eq!(map.brk(UserAddr(AT + 10)), UserAddr(AT + 10));
    map.write(page(0), b"heap").unwrap();
    assert_eq!(map.brk(UserAddr(AT + 5000)), UserAddr(AT + 5000));
    assert_eq!(byte(&map, page(0)), Ok(b'h'));
    assert_eq!(byte(&map, page(1)), Ok(0));
    assert_eq!(map.brk(UserAddr(AT + 4096)), UserAddr(AT + 4096));
    assert_eq!(byte(&map, page(1)), Err(Errno::EFAULT));
    assert_eq!(map.brk(page(0)), page(0));
    assert_eq!(map.brk(UserAddr(AT - 1)), page(0));
    map.map(fixed(pages(4..5), RW)).unwrap();
    // One page stays free before the next mapping.
    assert_eq!(map.brk(page(4)), page(0));
    assert_eq!(map.brk(page(3)), page(3));
    assert_eq!(map.brk(UserAddr(u64::MAX)), page(3));
    expect![[r#"
        0..3 rw-p
        4..5 rw-p
    "#]]
    .assert_eq(&show(&map));
}
