//! mremap.

use super::*;
use crate::mm::RemapRequest;
use expect_test::expect;

fn request(from: u64, old: u64, new: u64) -> RemapRequest {
    RemapRequest {
        from: page(from),
        old_len: old * PAGE_SIZE,
        new_len: new * PAGE_SIZE,
        may_move: true,
        fixed: None,
        keep_old: false,
        may_lock: false,
    }
}

#[test]
fn a_mapping_grows_where_it_is_or_moves_with_its_contents() {
    let map = map();
    map.map(fixed(pages(0..2), RW)).unwrap();
    map.map(fixed(pages(4..5), Access::READ)).unwrap();
    map.write(page(1), b"moved").unwrap();
    assert_eq!(map.remap(request(0, 2, 4)), Ok(page(0)));
    assert_eq!(map.remap(RemapRequest { may_move: false, ..request(0, 4, 6) }), Err(Errno::ENOMEM));
    let to = map.remap(request(0, 4, 6)).unwrap();
    assert_eq!(byte(&map, UserAddr(to.0 + PAGE_SIZE)), Ok(b'm'));
    assert_eq!(byte(&map, UserAddr(to.0 + 5 * PAGE_SIZE)), Ok(0));
    assert_eq!(byte(&map, page(0)), Err(Errno::EFAULT));
    assert_eq!(map.usage().mapped, 7 * PAGE_SIZE);
}

#[test]
fn a_mapping_shrinks_and_moves_to_a_fixed_place() {
    let map = map();
    map.map(fixed(pages(0..4), RW)).unwrap();
    map.map(fixed(pages(10..12), Access::READ)).unwrap();
    map.write(page(2), b"third").unwrap();
    assert_eq!(map.remap(request(0, 4, 3)), Ok(page(0)));
    let fixed = RemapRequest { fixed: Some(page(11)), ..request(1, 2, 2) };
    assert_eq!(map.remap(fixed), Ok(page(11)));
    assert_eq!(byte(&map, page(12)), Ok(b't'));
    expect![[r#"
        0..1 rw-p
        10..11 r--p
        11..13 rw-p
    "#]]
    .assert_eq(&show(&map));
}

#[test]
fn contents_can_be_taken_out_and_the_place_kept() {
    let map = map();
    map.map(fixed(pages(0..2), RW)).unwrap();
    map.write(page(1), b"taken").unwrap();
    let to = map.remap(RemapRequest { keep_old: true, ..request(0, 2, 2) }).unwrap();
    assert_eq!(byte(&map, UserAddr(to.0 + PAGE_SIZE)), Ok(b't'));
    assert_eq!(byte(&map, page(1)), Ok(0));
    assert_eq!(map.usage().mapped, 4 * PAGE_SIZE);
}

#[test]
fn no_old_length_maps_shared_contents_again() {
    let map = map();
    let object = map.memory().new_object();
    object.set_size(4 * PAGE_SIZE);
    let content = object_content(&object, 0, Sharing::Shared);
    map.map(MapRequest { content: Ok(content), ..fixed(pages(0..4), RW) }).unwrap();
    let again = map.remap(request(1, 0, 2)).unwrap();
    map.write(page(2), b"both").unwrap();
    assert_eq!(byte(&map, UserAddr(again.0 + PAGE_SIZE)), Ok(b'b'));
    map.map(fixed(pages(8..9), RW)).unwrap();
    assert_eq!(map.remap(request(8, 0, 1)), Err(Errno::EINVAL));
}

#[test]
fn mremap_judges_as_linux_does() {
    let map = map();
    map.map(fixed(pages(0..8), RW)).unwrap();
    let check = |request: RemapRequest, expected| assert_eq!(map.remap(request), Err(expected), "{request:?}");
    check(RemapRequest { from: UserAddr(AT + 1), ..request(0, 1, 2) }, Errno::EINVAL);
    check(request(0, 1, 0), Errno::EINVAL);
    check(RemapRequest { may_move: false, fixed: Some(page(100)), ..request(0, 1, 2) }, Errno::EINVAL);
    check(RemapRequest { fixed: Some(page(1)), ..request(0, 2, 2) }, Errno::EINVAL);
    check(RemapRequest { fixed: Some(UserAddr(0x7fff_ffff_f000)), ..request(0, 1, 1) }, Errno::EINVAL);
    check(RemapRequest { keep_old: true, ..request(0, 1, 2) }, Errno::EINVAL);
    check(request(100, 1, 2), Errno::EFAULT);
    check(request(100, 1, 1), Errno::EFAULT);
    check(request(0, 16, 17), Errno::EFAULT);
    check(RemapRequest { new_len: 1 << 47, ..request(0, 1, 1) }, Errno::EINVAL);
    check(RemapRequest { new_len: 1 << 46, ..request(0, 1, 1) }, Errno::ENOMEM);
    assert_eq!(map.remap(request(0, 16, 1)), Ok(page(0)));
    assert_eq!(map.usage().mapped, PAGE_SIZE);
}
