//! madvise, mincore, msync's walk.

use super::*;
use crate::mm::{Advice, VmaFlags, advised_range};
use expect_test::expect;

#[test]
fn discarded_private_memory_is_as_when_it_was_mapped() {
    let map = map();
    let object = map.memory().new_object();
    object.write_at(0, b"from the object").unwrap();
    let content = |sharing| Ok(object_content(&object, 0, sharing));
    map.map(fixed(pages(0..2), RW)).unwrap();
    map.map(MapRequest { content: content(Sharing::Private), ..fixed(pages(2..3), RW) }).unwrap();
    map.map(MapRequest { content: content(Sharing::Shared), ..fixed(pages(3..4), RW) }).unwrap();
    for number in [0, 2] {
        map.write(page(number), b"written").unwrap();
    }
    assert_eq!(map.advise(pages(0..4), Advice::Discard), Ok(()));
    assert_eq!((byte(&map, page(0)), byte(&map, page(2)), byte(&map, page(3))), (Ok(0), Ok(b'f'), Ok(b'f')));
    map.write(page(3), b"kept").unwrap();
    map.advise(pages(3..4), Advice::Discard).unwrap();
    assert_eq!(byte(&map, page(3)), Ok(b'k'));
}

#[test]
fn holes_are_reported_after_the_rest_was_advised() {
    let map = map();
    map.map(fixed(pages(0..1), RW)).unwrap();
    map.map(fixed(pages(2..3), RW)).unwrap();
    map.write(page(2), b"gone").unwrap();
    assert_eq!(map.advise(pages(0..4), Advice::Discard), Err(Errno::ENOMEM));
    assert_eq!(byte(&map, page(2)), Ok(0));
    assert_eq!(map.advise(pages(8..9), Advice::Hint), Err(Errno::ENOMEM));
    assert_eq!(advised_range(UserAddr(1), 1), Err(Errno::EINVAL));
    assert_eq!(advised_range(page(0), u64::MAX), Err(Errno::EINVAL));
    assert_eq!(map.residency(pages(0..2)), Err(Errno::ENOMEM));
    assert_eq!(map.residency(pages(2..3)), Ok(vec![1]));
}

#[test]
fn some_advice_is_for_some_mappings_only() {
    let map = map();
    let object = map.memory().new_object();
    object.write_at(0, &[5; 4096]).unwrap();
    let content = Ok(object_content(&object, 0, Sharing::Shared));
    map.map(MapRequest { content, ..fixed(pages(0..1), RW) }).unwrap();
    map.map(fixed(pages(1..3), Access::READ)).unwrap();
    let wipe = Advice::AnonymousFlags(VmaFlags::WIPEONFORK, VmaFlags::empty());
    assert_eq!(map.advise(pages(0..1), wipe), Err(Errno::EINVAL));
    assert_eq!(map.advise(pages(1..2), wipe), Ok(()));
    assert_eq!(map.advise(pages(0..1), Advice::Free), Err(Errno::EINVAL));
    assert_eq!(map.advise(pages(1..2), Advice::Remove), Err(Errno::EINVAL));
    assert_eq!(map.advise(pages(0..1), Advice::Remove), Ok(()));
    assert_eq!(byte(&map, page(0)), Ok(0));
    assert_eq!(map.advise(pages(1..2), Advice::Populate(Access::WRITE)), Err(Errno::EINVAL));
    assert_eq!(map.advise(pages(1..2), Advice::Populate(Access::READ)), Ok(()));
    assert_eq!(map.advise(pages(7..8), Advice::Populate(Access::READ)), Err(Errno::ENOMEM));
    expect![[r#"
        0..1 rw-s
        1..2 r--p
        2..3 r--p
    "#]]
    .assert_eq(&show(&map));
}
