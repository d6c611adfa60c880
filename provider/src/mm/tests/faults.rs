//! What the map says about faults, and how frames come.

use super::*;
use crate::mm::{EAGER_LIMIT, FaultSignal, VmaFlags};
use vmm::memory::PageState;

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
const MAPERR: i32 = 1;
const ACCERR: i32 = 2;
const ADRERR: i32 = 2;

fn fault(map: &MemoryMap, at: UserAddr, access: Access) -> Option<(i32, i32)> {
    map.resolve_fault(at, access).err().map(|FaultSignal { signal, code, address }| {
        assert_eq!(address, at);
        (signal, code)
    })
}

#[test]
fn the_map_tells_unmapped_from_forbidden() {
    let map = map();
    map.map(fixed(pages(0..1), Access::READ)).unwrap();
    map.map(fixed(pages(1..2), Access::empty())).unwrap();
    map.map(fixed(pages(2..3), RW)).unwrap();
    map.map(fixed(pages(3..4), Access::WRITE)).unwrap();
    assert_eq!(fault(&map, page(9), Access::READ), Some((SIGSEGV, MAPERR)));
    assert_eq!(fault(&map, page(0), Access::WRITE), Some((SIGSEGV, ACCERR)));
    assert_eq!(fault(&map, page(0), Access::EXEC), Some((SIGSEGV, ACCERR)));
    assert_eq!(fault(&map, page(0), Access::READ), None);
    assert_eq!(fault(&map, page(1), Access::READ), Some((SIGSEGV, ACCERR)));
    assert_eq!(fault(&map, page(2), Access::EXEC), Some((SIGSEGV, ACCERR)));
    // What may be written may be read.
    assert_eq!(fault(&map, page(3), Access::READ), None);
    assert_eq!(fault(&map, UserAddr(0x7fff_ffff_f000), Access::READ), Some((SIGSEGV, MAPERR)));
    assert_eq!(fault(&map, UserAddr(u64::MAX), Access::WRITE), Some((SIGSEGV, MAPERR)));
}

#[test]
fn small_mappings_get_frames_at_once_and_large_ones_at_faults() {
    let map = map();
    let small = UserRange { start: page(0), end: UserAddr(AT + (1 << 20)) };
    map.map(fixed(small, RW)).unwrap();
    assert_eq!(map.space().page_state(page(7)), PageState::Mapped(RW));
    let start = UserAddr(AT + (1 << 30));
    let large = UserRange { start, end: UserAddr(start.0 + EAGER_LIMIT + PAGE_SIZE) };
    map.map(fixed(large, RW)).unwrap();
    assert_eq!(map.space().assigned(large), 0);
    // Faults in sequence get runs that double.
    let at = |mib: u64| UserAddr(start.0 + (mib << 20));
    let assigned = |map: &MemoryMap| map.space().assigned(large) >> 20;
    assert_eq!(fault(&map, at(1), RW), None);
    assert_eq!(assigned(&map), 2);
    assert_eq!(fault(&map, at(2), RW), None);
    assert_eq!(assigned(&map), 6);
    assert_eq!(fault(&map, at(6), RW), None);
    assert_eq!(assigned(&map), 14);
    assert_eq!(fault(&map, at(40), RW), None);
    assert_eq!(assigned(&map), 16);
    let last = UserAddr(large.end.0 - 1);
    assert_eq!(fault(&map, last, RW), None);
    assert_eq!(byte(&map, last), Ok(0));
}

#[test]
fn private_pages_of_an_object_are_copied_at_the_first_store() {
    let map = map();
    let object = map.memory().new_object();
    object.write_at(0, &[7; 8192]).unwrap();
    let request =
        |access| MapRequest { content: Ok(object_content(&object, 0, Sharing::Private)), ..fixed(pages(0..2), access) };
    map.map(request(RW)).unwrap();
    map.write(page(0), b"mine").unwrap();
    let mut shown = [0; 4];
    object.read_at(0, &mut shown).unwrap();
    assert_eq!(shown, [7; 4]);
    assert_eq!(byte(&map, page(0)), Ok(b'm'));
    // What nobody has stored to shows the object as it is.
    object.write_at(PAGE_SIZE, b"later").unwrap();
    assert_eq!(byte(&map, page(1)), Ok(b'l'));
}

#[test]
fn beyond_the_end_of_an_object_there_is_a_bus_error() {
    let map = map();
    let object = map.memory().new_object();
    object.write_at(0, &[1; 4097]).unwrap();
    let content = object_content(&object, 0, Sharing::Shared);
    map.map(MapRequest { content: Ok(content), ..fixed(pages(0..4), RW) }).unwrap();
    assert_eq!(fault(&map, UserAddr(page(1).0 + 100), Access::READ), None);
    assert_eq!(fault(&map, page(2), Access::READ), Some((SIGBUS, ADRERR)));
    assert_eq!(byte(&map, page(2)), Err(Errno::EFAULT));
    object.set_size(3 * PAGE_SIZE);
    assert_eq!(fault(&map, page(2), Access::WRITE), None);
    object.set_size(PAGE_SIZE);
    assert_eq!(fault(&map, page(1), Access::READ), Some((SIGBUS, ADRERR)));
    assert_eq!(byte(&map, page(0)), Ok(1));
}

#[test]
fn a_host_file_is_shown_copied_and_ends_in_a_bus_error() {
    let map = map();
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9; 6000], 0).unwrap();
    let host = Arc::new(vmm::memory::HostFile::new(file.try_clone().unwrap().into(), 1, 2, true));
    let content = |sharing| Content {
        backing: Backing::Source { source: Source::Host(Arc::clone(&host)), offset: 0 },
        sharing,
        max_access: Access::all(),
        label: Label::None,
    };
    map.map(MapRequest { content: Ok(content(Sharing::Shared)), ..fixed(pages(0..3), RW) }).unwrap();
    map.map(MapRequest { content: Ok(content(Sharing::Private)), ..fixed(pages(4..6), Access::READ) }).unwrap();
    assert_eq!((byte(&map, page(0)), byte(&map, UserAddr(page(1).0 + 2000))), (Ok(9), Ok(0)));
    map.write(page(0), b"to the file").unwrap();
    let mut start = [0; 11];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, 0).unwrap();
    assert_eq!(&start, b"to the file");
    assert_eq!(byte(&map, page(4)), Ok(b't'));
    map.protect(pages(4..6), RW, Extend::No).unwrap();
    map.write(page(4), b"not").unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, 0).unwrap();
    assert_eq!(&start, b"to the file");
    assert_eq!(byte(&map, page(2)), Err(Errno::EFAULT));
    assert_eq!(fault(&map, page(2), Access::READ), Some((SIGBUS, ADRERR)));
}

fn stack(map: &MemoryMap, range: UserRange) {
    let mut request = fixed(range, RW);
    request.flags |= VmaFlags::GROWSDOWN;
    map.map(request).unwrap();
}

#[test]
fn a_stack_grows_to_its_limit_and_not_into_its_guard() {
    let map = map();
    let top = 4096;
    stack(&map, pages(top - 32..top));
    assert_eq!(fault(&map, page(top - 33), Access::WRITE), None);
    assert_eq!(fault(&map, page(top - 500), Access::WRITE), None);
    assert_eq!(byte(&map, page(top - 400)), Ok(0));
    // 8 MiB are 2048 pages.
    assert_eq!(fault(&map, page(top - 2049), Access::WRITE), Some((SIGSEGV, MAPERR)));
    assert_eq!(fault(&map, page(top - 2048), Access::WRITE), None);
    assert_eq!(map.mappings()[0].range, pages(top - 2048..top));

    let second = map_with(64 << 20);
    stack(&second, pages(2000..2010));
    second.map(fixed(pages(1000..1001), RW)).unwrap();
    // The guard keeps 256 pages free above the neighbour.
    assert_eq!(fault(&second, page(1256), Access::WRITE), Some((SIGSEGV, MAPERR)));
    assert_eq!(fault(&second, page(1257), Access::WRITE), None);
    let third = map_with(64 << 20);
    stack(&third, pages(2000..2010));
    third.map(fixed(pages(1000..1001), Access::empty())).unwrap();
    assert_eq!(fault(&third, page(1001), Access::WRITE), None);
    // Nothing that the map places itself comes near a stack.
    let hint = MapRequest { hint: page(900), ..MapRequest::anonymous(110 * PAGE_SIZE, RW) };
    assert_ne!(third.map(hint), Ok(page(900)));
}

#[test]
fn growing_reaches_down_when_protecting() {
    let map = map();
    stack(&map, pages(100..132));
    map.protect(pages(120..121), RW | Access::EXEC, Extend::Down).unwrap();
    assert_eq!(map.mappings()[0].range, pages(100..121));
    assert!(map.mappings()[0].access.contains(Access::EXEC));
}

#[test]
fn strings_are_read_to_the_page_before_a_hole() {
    let map = map();
    map.map(fixed(pages(0..1), RW)).unwrap();
    let at = UserAddr(page(1).0 - 6);
    map.write(at, b"hello\0").unwrap();
    assert_eq!(map.read_cstr(at, 4096), Ok(Some(b"hello".to_vec())));
    assert_eq!(map.read_cstr(at, 3), Ok(None));
    map.write(UserAddr(page(1).0 - 1), b"!").unwrap();
    assert_eq!(map.read_cstr(at, 4096), Err(Errno::EFAULT));
    assert_eq!(map.read_cstr(at, 6), Ok(None));
    assert_eq!(map.read_cstr(UserAddr(u64::MAX), 6), Err(Errno::EFAULT));
    let mut bytes = [0; 16];
    assert_eq!(map.read_partial(at, &mut bytes), Ok(6));
    assert_eq!(map.write_partial(UserAddr(u64::MAX - 3), &bytes), Err(Errno::EFAULT));
    assert_eq!(map.read(UserAddr(u64::MAX - 3), &mut []), Err(Errno::EFAULT));
    assert_eq!(map.read(UserAddr(0), &mut []), Ok(()));
    assert_eq!(map.load_u32(UserAddr(page(0).0 + 2)), Err(Errno::EINVAL));
    assert_eq!(map.load_u32(page(0)), Ok(0));
    assert_eq!(map.compare_exchange_u32(page(0), 0, 5), Ok(0));
    assert_eq!(map.load_u32(page(0)), Ok(5));
}

#[test]
fn a_process_that_exceeds_the_sandboxs_memory_is_killed() {
    let map = map_with(16 << 20);
    let range = UserRange { start: page(0), end: UserAddr(AT + (12 << 20)) };
    let other = UserRange { start: UserAddr(AT + (1 << 30)), end: UserAddr(AT + (1 << 30) + (12 << 20)) };
    map.map(fixed(range, RW)).unwrap();
    map.map(fixed(other, RW)).unwrap();
    // Noise, of which compression makes nothing less.
    let mut state = 1_u64;
    let mut noise = || -> Vec<u8> {
        let word = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32).to_le_bytes()[..4].to_vec()
        };
        (0..1024).flat_map(word).collect()
    };
    let mut touch = |range: UserRange| {
        (range.start.0..range.end.0).step_by(4096).map(UserAddr).find_map(|at| {
            map.resolve_fault(at, Access::WRITE).err().or_else(|| {
                map.write(at, &noise()).unwrap();
                None
            })
        })
    };
    assert_eq!(touch(range), None);
    assert_eq!(touch(other).map(|signal| signal.signal), Some(9));
}
