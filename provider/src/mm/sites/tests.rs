//! Patches in a memory map that no processor runs on.

use super::super::{Advice, Extend, Layout, MapRequest, MemoryLimits, Placement, Randomize, RemapRequest};
use super::*;
use vmm::memory::GuestMemory;

const CODE: UserAddr = UserAddr(0x7f00_0000_0000);
const RX: Access = Access::READ.union(Access::EXEC);
const RW: Access = Access::READ.union(Access::WRITE);
/// mov $39, %eax; syscall; ret
const GETPID: [u8; 8] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
/// xor %eax, %eax; syscall; cmp $-4096, %rax; ret
const READ: [u8; 11] = [0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0xc3];
/// Where the two lie.
const GETPID_AT: UserAddr = UserAddr(CODE.0 + 0x100);
const READ_AT: UserAddr = UserAddr(CODE.0 + 0x200);
/// Behind their SYSCALLs.
const GETPID_RETURN: u64 = GETPID_AT.0 + 7;
const READ_RETURN: u64 = READ_AT.0 + 4;

fn page(at: UserAddr) -> UserRange {
    UserRange { start: at.page(), end: UserAddr(at.page().0 + PAGE_SIZE) }
}

/// A map with a page of code, all one-byte instructions but for the two calls.
fn map() -> Arc<MemoryMap> {
    let memory = GuestMemory::detached(64 << 20).unwrap();
    let layout = Layout::new(8 << 20, Randomize::No);
    let map = MemoryMap::with_layout(&memory, MemoryLimits::default(), layout).unwrap();
    put_code(&map, CODE);
    map
}

fn put_code(map: &MemoryMap, at: UserAddr) {
    map.map(MapRequest::anonymous(PAGE_SIZE, RW).fixed(at)).unwrap();
    map.write(at, &[0x90; 4096]).unwrap();
    map.write(UserAddr(at.0 + 0x100), &GETPID).unwrap();
    map.write(UserAddr(at.0 + 0x200), &READ).unwrap();
    map.protect(page(at), RX, Extend::No).unwrap();
}

fn patched() -> Arc<MemoryMap> {
    let map = map();
    assert!(map.patch_call(GETPID_RETURN, 39) && map.patch_call(READ_RETURN, 0));
    map
}

fn bytes<const N: usize>(map: &MemoryMap, at: UserAddr) -> [u8; N] {
    let mut bytes = [0; N];
    map.read(at, &mut bytes).unwrap();
    bytes
}

fn is_patched(map: &MemoryMap) -> [bool; 2] {
    let jumps = [bytes::<1>(map, GETPID_AT), bytes::<1>(map, UserAddr(READ_AT.0 + 2))].map(|byte| byte == [0xe9]);
    let active = map.sites.table.read().active();
    assert_eq!(active, jumps.into_iter().filter(|jump| *jump).count());
    jumps
}

/// Where the jump at `at` leads.
fn target(map: &MemoryMap, at: UserAddr) -> u64 {
    let [_, displacement @ ..] = bytes::<5>(map, at);
    at.0.wrapping_add(5).wrapping_add_signed(i32::from_le_bytes(displacement).into())
}

#[test]
fn a_hot_site_is_patched_once() {
    let map = map();
    let hot = (0..heat::THRESHOLD).find(|_| map.note_call(GETPID_RETURN));
    assert_eq!(hot, Some(heat::THRESHOLD - 1));
    assert_eq!(map.code_version(), 0);
    assert!(map.patch_call(GETPID_RETURN, 39));
    assert!(!map.note_call(GETPID_RETURN));
    assert_ne!(map.code_version(), 0);
    assert_eq!(is_patched(&map), [true, false]);
    let trampoline = target(&map, GETPID_AT);
    assert_eq!(bytes::<5>(&map, UserAddr(trampoline)), GETPID[..5]);
}

#[test]
fn a_site_that_suits_both_shapes_is_patched_once() {
    // mov $39, %eax; syscall; cmp $-4096, %rax; ret
    const BOTH: [u8; 14] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0xc3];
    const AT: UserAddr = UserAddr(CODE.0 + 0x300);
    let map = map();
    map.protect(page(CODE), RW, Extend::No).unwrap();
    map.write(AT, &BOTH).unwrap();
    map.protect(page(CODE), RX, Extend::No).unwrap();
    assert!(map.patch_call(AT.0 + 7, 39));
    let child = map.fork(UserAddr(0)).unwrap();
    for map in [map, child] {
        assert!(!map.patch_call(AT.0 + 7, 39), "another thread's call made it hot, too");
        assert_eq!(bytes::<9>(&map, UserAddr(AT.0 + 5)), BOTH[5..]);
        assert_eq!(map.way_on(AT.0 + 7), AT.0 + 7);
    }
}

#[test]
fn a_window_that_threads_return_to_has_a_breakpoint_there() {
    let map = patched();
    assert_eq!(bytes::<1>(&map, UserAddr(READ_RETURN)), [0xcc]);
    assert_eq!(map.behind_breakpoint(READ_RETURN + 1), Some(READ_RETURN));
    assert_eq!(map.behind_breakpoint(GETPID_RETURN + 1), None);
    let there = map.way_on(READ_RETURN);
    assert_eq!(bytes::<6>(&map, UserAddr(there)), READ[4..10]);
    assert_eq!(map.way_on(GETPID_RETURN), GETPID_RETURN);
}

#[test]
fn a_thread_that_meets_a_patch_before_it_is_done_is_led_on() {
    for _ in 0..100 {
        let map = map();
        std::thread::scope(|scope| {
            let returning = scope.spawn(|| {
                while bytes::<1>(&map, UserAddr(READ_RETURN)) != [0xcc] {
                    std::hint::spin_loop();
                }
                (map.behind_breakpoint(READ_RETURN + 1), map.way_on(READ_RETURN) != READ_RETURN)
            });
            assert!(map.patch_call(READ_RETURN, 0));
            assert_eq!(returning.join().unwrap(), (Some(READ_RETURN), true));
        });
    }
}

#[test]
fn registers_are_shown_as_the_program_knows_them() {
    let map = patched();
    let mut registers =
        Registers { rip: map.way_on(READ_RETURN), rcx: map.way_on(READ_RETURN), ..Registers::default() };
    assert!(map.show_place(&mut registers));
    assert_eq!((registers.rip, registers.rcx), (READ_RETURN, READ_RETURN));
    let mut registers = Registers { rip: target(&map, GETPID_AT) + 5, rcx: 7, ..Registers::default() };
    assert!(map.show_place(&mut registers));
    assert_eq!((registers.rip, registers.rcx), (GETPID_AT.0 + 5, 7));
    let elsewhere = Registers { rip: CODE.0, rcx: u64::MAX, ..Registers::default() };
    let mut registers = elsewhere;
    assert!(!map.show_place(&mut registers));
    assert_eq!(registers, elsewhere);
}

#[test]
fn nobody_but_the_program_reads_a_patch() {
    let map = patched();
    let mut page = [0; 4096];
    assert_eq!(map.read_as_others(CODE, &mut page), Ok(4096));
    assert_eq!(page[0x100..0x108], GETPID);
    assert_eq!(page[0x200..0x20b], READ);
    assert_eq!(is_patched(&map), [true, true]);
}

#[test]
fn trampolines_are_in_no_map_and_in_nobodys_way() {
    let plain = map();
    let map = patched();
    assert_eq!(map.mappings().len(), plain.mappings().len());
    assert_eq!(map.usage().mapped, plain.usage().mapped);
    let area = UserAddr(target(&map, GETPID_AT)).page();
    assert!(!map.is_mapped(page(area)));
    assert_eq!(map.read_as_others(area, &mut [0; 8]), Err(Errno::EFAULT));
    assert_eq!(map.map(MapRequest::anonymous(PAGE_SIZE, RW)), plain.map(MapRequest::anonymous(PAGE_SIZE, RW)));
    assert_eq!(is_patched(&map), [true, true]);
    // What wants the place gets it, empty.
    assert_eq!(map.map(MapRequest::anonymous(PAGE_SIZE, RW).fixed(area)), Ok(area));
    assert_eq!(bytes::<4096>(&map, area), [0; 4096]);
    assert_eq!(is_patched(&map), [false, false]);
    assert_eq!(bytes::<8>(&map, GETPID_AT), GETPID);
    // A thread that was in it goes on at its place.
    let mut registers = Registers { rip: area.0, ..Registers::default() };
    assert!(map.show_place(&mut registers));
    assert!([GETPID_AT.0, READ_AT.0 + 2].contains(&registers.rip));
    // Its sites may be patched again, with trampolines elsewhere.
    assert!(map.patch_call(GETPID_RETURN, 39));
    assert_ne!(UserAddr(target(&map, GETPID_AT)).page(), area);
}

#[test]
fn code_that_may_be_written_is_its_own_again() {
    for access in [RW, Access::all(), Access::READ, Access::empty()] {
        let map = patched();
        map.protect(page(CODE), access, Extend::No).unwrap();
        assert_eq!(map.sites.table.read().active(), 0);
        map.protect(page(CODE), RW, Extend::No).unwrap();
        assert_eq!((bytes::<8>(&map, GETPID_AT), bytes::<11>(&map, READ_AT)), (GETPID, READ));
        map.write(GETPID_AT, &[0xf4; 8]).unwrap();
        map.protect(page(CODE), RX, Extend::No).unwrap();
        assert_eq!(bytes::<8>(&map, GETPID_AT), [0xf4; 8]);
    }
}

#[test]
fn a_debuggers_store_meets_the_programs_own_code() {
    let map = patched();
    map.write_forced(UserAddr(GETPID_AT.0 + 4), &[0xcc]).unwrap();
    assert_eq!(is_patched(&map), [false, true]);
    assert_eq!(bytes::<8>(&map, GETPID_AT), [0xb8, 39, 0, 0, 0xcc, 0x0f, 0x05, 0xc3]);
    // Right beside it is no reason.
    map.write_forced(READ_AT, &[0x29]).unwrap();
    assert_eq!(is_patched(&map), [false, true]);
    // One that puts a breakpoint where ours was finds it reported.
    map.write_forced(UserAddr(READ_RETURN), &[0xcc]).unwrap();
    assert_eq!(is_patched(&map), [false, false]);
    assert_eq!(map.behind_breakpoint(READ_RETURN + 1), None);
}

#[test]
fn code_that_goes_takes_its_patches_along() {
    let map = patched();
    map.unmap(CODE, PAGE_SIZE).unwrap();
    assert_eq!(map.sites.table.read().active(), 0);
    put_code(&map, CODE);
    assert_eq!(is_patched(&map), [false, false]);
    // The same code at the same place: its trampoline is still there.
    let known = map.sites.table.read().made_before(&Trampoline {
        at: 0,
        window: GETPID_AT.0,
        original: [0xb8, 39, 0, 0, 0],
        moved: Moved::Before([0xb8, 39, 0, 0, 0].into()),
    });
    assert!(map.patch_call(GETPID_RETURN, 39));
    assert_eq!(Some(target(&map, GETPID_AT)), known);
}

#[test]
fn code_moves_without_patches() {
    let map = patched();
    let to = UserAddr(CODE.0 + (16 << 20));
    let request = RemapRequest {
        from: CODE,
        old_len: PAGE_SIZE,
        new_len: PAGE_SIZE,
        may_move: true,
        fixed: Some(to),
        keep_old: false,
        may_lock: false,
    };
    assert_eq!(map.remap(request), Ok(to));
    assert_eq!(map.sites.table.read().active(), 0);
    assert_eq!(bytes::<8>(&map, UserAddr(to.0 + 0x100)), GETPID);
    assert_eq!(bytes::<11>(&map, UserAddr(to.0 + 0x200)), READ);
}

#[test]
fn discarded_code_has_no_patches() {
    let map = patched();
    map.advise(page(CODE), Advice::Discard).unwrap();
    assert_eq!(is_patched(&map), [false, false]);
}

#[test]
fn a_forked_child_has_the_patches_and_goes_its_own_way() {
    let map = patched();
    let child = map.fork(UserAddr(0)).unwrap();
    assert_eq!(is_patched(&child), [true, true]);
    child.protect(page(CODE), RW, Extend::No).unwrap();
    assert_eq!(bytes::<8>(&child, GETPID_AT), GETPID);
    assert_eq!(is_patched(&map), [true, true]);
    assert_eq!(bytes::<5>(&map, UserAddr(target(&map, GETPID_AT))), GETPID[..5]);
    let grandchild = map.fork(UserAddr(0)).unwrap();
    drop(map);
    assert_eq!(is_patched(&grandchild), [true, true]);
}

#[test]
fn a_child_without_the_code_has_no_patches_of_it() {
    let map = patched();
    map.advise(page(CODE), Advice::Flags(VmaFlags::DONTFORK, VmaFlags::empty())).unwrap();
    let child = map.fork(UserAddr(0)).unwrap();
    assert_eq!(child.sites.table.read().active(), 0);
    put_code(&child, CODE);
    assert_eq!(is_patched(&child), [false, false]);
    assert_eq!(is_patched(&map), [true, true]);
}

#[test]
fn who_is_watched_is_left_alone() {
    let map = patched();
    map.leave_code_alone();
    assert_eq!(is_patched(&map), [false, false]);
    assert_eq!((bytes::<8>(&map, GETPID_AT), bytes::<11>(&map, READ_AT)), (GETPID, READ));
    assert!(!map.patch_call(GETPID_RETURN, 39));
    assert!((0..2 * heat::THRESHOLD).all(|_| !map.note_call(0x1234)));
    assert!(!map.fork(UserAddr(0)).unwrap().patch_call(GETPID_RETURN, 39));
}

#[test]
fn only_private_code_that_cannot_be_written_is_patched() {
    let cases = [(Access::all(), Sharing::Private, false), (RX, Sharing::Private, true), (RX, Sharing::Shared, false)];
    for (access, sharing, may) in cases {
        let map = map();
        let at = UserAddr(CODE.0 + (1 << 20));
        put_code(&map, at);
        {
            let mut state = map.state.write();
            let [vma] = state.tree.carve(page(at)).try_into().unwrap();
            map.space.protect(page(at), access);
            state.tree.insert(Vma { access, sharing, ..vma });
        }
        assert_eq!(map.patch_call(at.0 + 0x107, 39), may, "{access:?} {sharing:?}");
    }
}

#[test]
fn what_is_no_call_is_not_patched() {
    let map = map();
    for address in [0, 1, 2, CODE.0, CODE.0 + 1, GETPID_RETURN - 1, GETPID_RETURN + 1, CODE.0 + PAGE_SIZE, u64::MAX] {
        assert!(!map.patch_call(address, 39), "{address:x}");
    }
    assert!(!map.patch_call(READ_RETURN, __NR_rt_sigreturn), "the way back from signal handlers");
    assert_eq!(is_patched(&map), [false, false]);
}

#[test]
fn a_window_over_two_pages_is_left_alone() {
    let map = map();
    let end = CODE.0 + PAGE_SIZE;
    map.map(MapRequest::anonymous(PAGE_SIZE, RW).fixed(UserAddr(end))).unwrap();
    map.protect(UserRange { start: CODE, end: UserAddr(end + PAGE_SIZE) }, RW, Extend::No).unwrap();
    for (at, may) in [(end - 4, false), (end - 5, true), (end - 6, true)] {
        map.protect(UserRange { start: CODE, end: UserAddr(end + PAGE_SIZE) }, RW, Extend::No).unwrap();
        map.write(UserAddr(CODE.0 + 0xf00), &[0x90; 0x200]).unwrap();
        map.write(UserAddr(at), &GETPID).unwrap();
        map.protect(UserRange { start: CODE, end: UserAddr(end + PAGE_SIZE) }, RX, Extend::No).unwrap();
        assert_eq!(map.patch_call(at + 7, 39), may);
    }
}

#[test]
fn the_heap_takes_the_place_of_trampolines() {
    let map = patched();
    let area = UserAddr(target(&map, GETPID_AT)).page();
    let start = UserAddr(area.0 - (1 << 20));
    map.set_heap(start);
    let end = UserAddr(start.0 + (4 << 20));
    assert_eq!(map.brk(end), end);
    assert_eq!(is_patched(&map), [false, false]);
    assert_eq!(bytes::<4096>(&map, area), [0; 4096]);
}

#[test]
fn a_hint_where_trampolines_lie_is_followed() {
    let map = patched();
    let area = UserAddr(target(&map, GETPID_AT)).page();
    let hinted = MapRequest { hint: area, placement: Placement::Anywhere, ..MapRequest::anonymous(PAGE_SIZE, RX) };
    assert_eq!(map.map(hinted), Ok(area));
    assert_eq!(is_patched(&map), [false, false]);
}
