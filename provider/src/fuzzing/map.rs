//! The memory map: calls with any arguments. The list of mappings stays sorted, disjoint and consistent with its sums.

use super::input::Input;
use crate::mm::{
    Advice, Extend, Layout, LockMode, MapRequest, MemoryLimits, MemoryMap, Placement, Randomize, RemapRequest,
    VmaFlags, advised_range,
};
use std::sync::Arc;
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::{Access, GuestMemory};

/// Calls of one input at the most.
const CALLS: usize = 16;

thread_local! {
    static MEMORY: Arc<GuestMemory> =
        GuestMemory::detached(32 << 20).expect("the host has memory for a small sandbox");
}

/// Makes calls on an empty map.
pub fn map(data: &[u8]) {
    MEMORY.with(|memory| {
        let held = memory.held();
        let layout = Layout::new(8 << 20, Randomize::No);
        let map =
            MemoryMap::with_layout(memory, MemoryLimits::default(), layout).expect("an empty map needs little memory");
        map.set_heap(UserAddr(0x10_0010_0000));
        let mut input = Input::new(data);
        for _ in 0..CALLS {
            if input.is_empty() {
                break;
            }
            call(&map, &mut input);
            let mappings = map.mappings();
            assert!(mappings.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "{mappings:?}");
        }
        let mapped: u64 = map.mappings().iter().map(|mapping| mapping.range.len()).sum();
        assert_eq!(map.usage().mapped, mapped);
        drop(map);
        assert_eq!(memory.held(), held, "a map gives back all memory");
    });
}

/// An address: mostly a page near the others, or anything.
fn address(input: &mut Input<'_>) -> UserAddr {
    match input.byte() {
        255 => UserAddr(input.word()),
        near => UserAddr(0x10_0000_0000 + u64::from(near) * PAGE_SIZE),
    }
}

/// A length: mostly a few pages, or anything.
fn length(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        255 => input.word(),
        254 => 4 << 20,
        pages => u64::from(pages) % 16 * PAGE_SIZE,
    }
}

fn access(input: &mut Input<'_>) -> Access {
    Access::from_bits_truncate(input.byte())
}

fn call(map: &MemoryMap, input: &mut Input<'_>) {
    match input.byte() % 10 {
        0 | 1 => {
            let placements = [Placement::Anywhere, Placement::Low, Placement::Fixed, Placement::FixedNoReplace];
            let mut request = MapRequest::anonymous(length(input), access(input));
            request.hint = address(input);
            request.placement = placements[usize::from(input.byte() % 4)];
            request.flags = VmaFlags::from_bits_truncate(u32::from(input.byte()) | u32::from(input.byte()) << 8);
            let _ = map.map(request);
        }
        2 => drop(map.unmap(address(input), length(input))),
        3 => {
            let range = UserRange::new(address(input).page(), length(input) & !(PAGE_SIZE - 1));
            let extend = if input.byte().is_multiple_of(4) { Extend::Down } else { Extend::No };
            if let Some(range) = range.filter(|range| !range.is_empty()) {
                let _ = map.protect(range, access(input), extend);
            }
        }
        4 => {
            let flags = input.byte();
            let request = RemapRequest {
                from: address(input),
                old_len: length(input),
                new_len: length(input),
                may_move: flags & 1 != 0,
                fixed: (flags & 2 != 0).then(|| address(input)),
                keep_old: flags & 4 != 0,
                may_lock: false,
            };
            let _ = map.remap(request);
        }
        5 => {
            let none = VmaFlags::empty();
            let advice = match input.byte() % 6 {
                0 => Advice::Discard,
                1 => Advice::Free,
                2 => Advice::Flags(VmaFlags::NOHUGEPAGE, VmaFlags::HUGEPAGE),
                3 => Advice::AnonymousFlags(VmaFlags::WIPEONFORK, none),
                4 => Advice::Populate(Access::WRITE),
                _ => Advice::DiscardLocked,
            };
            if let Ok(range) = advised_range(address(input), length(input)) {
                let _ = map.advise(range, advice);
            }
        }
        6 => {
            if let Ok(range) = advised_range(address(input), length(input)) {
                let _ = map.lock(range, LockMode::Now, false);
            }
        }
        7 => drop(map.brk(address(input))),
        8 => drop(map.resolve_fault(address(input), access(input))),
        _ => drop(map.write(address(input), input.bytes(9))),
    }
}
