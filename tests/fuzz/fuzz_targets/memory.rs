//! The memory map: calls with any arguments. The map's own list of mappings stays sorted, disjoint and consistent with its sums.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use provider::mm::{
    Advice, Extend, Layout, LockMode, MapRequest, MemoryLimits, MemoryMap, Placement, Randomize, RemapRequest,
    VmaFlags, advised_range,
};
use vmm::addr::{PAGE_SIZE, UserAddr, UserRange};
use vmm::memory::{Access, GuestMemory};

#[derive(Arbitrary, Debug)]
enum Call {
    Map { hint: Address, len: Length, access: u8, placement: u8, flags: u32 },
    Unmap { at: Address, len: Length },
    Protect { at: Address, len: Length, access: u8, down: bool },
    Remap { at: Address, old: Length, new: Length, to: Option<Address>, may_move: bool, keep: bool },
    Advise { at: Address, len: Length, what: u8 },
    Lock { at: Address, len: Length },
    Brk { to: Address },
    Fault { at: Address, access: u8 },
    Write { at: Address, bytes: [u8; 9] },
}

/// An address: anything, or a page near the others.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Address {
    Any(u64),
    Near(u8),
}

/// A length: anything, or a few pages.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Length {
    Any(u64),
    Pages(u8),
}

impl Address {
    fn get(self) -> UserAddr {
        match self {
            Self::Any(addr) => UserAddr(addr),
            Self::Near(page) => UserAddr(0x10_0000_0000 + u64::from(page) * PAGE_SIZE),
        }
    }
}

impl Length {
    fn get(self) -> u64 {
        match self {
            Self::Any(len) => len,
            Self::Pages(pages) => u64::from(pages) * PAGE_SIZE,
        }
    }
}

fn apply(map: &MemoryMap, call: &Call) {
    match *call {
        Call::Map { hint, len, access, placement, flags } => {
            let placements = [Placement::Anywhere, Placement::Low, Placement::Fixed, Placement::FixedNoReplace];
            let mut request = MapRequest::anonymous(len.get(), Access::from_bits_truncate(access));
            request.hint = hint.get();
            request.placement = placements[usize::from(placement % 4)];
            request.flags = VmaFlags::from_bits_truncate(flags);
            let _ = map.map(request);
        }
        Call::Unmap { at, len } => drop(map.unmap(at.get(), len.get())),
        Call::Protect { at, len, access, down } => {
            let range = UserRange::new(at.get().page(), len.get() & !(PAGE_SIZE - 1));
            let extend = if down { Extend::Down } else { Extend::No };
            if let Some(range) = range.filter(|range| !range.is_empty()) {
                let _ = map.protect(range, Access::from_bits_truncate(access), extend);
            }
        }
        Call::Remap { at, old, new, to, may_move, keep } => {
            let _ = map.remap(RemapRequest {
                from: at.get(),
                old_len: old.get(),
                new_len: new.get(),
                may_move,
                fixed: to.map(Address::get),
                keep_old: keep,
                may_lock: false,
            });
        }
        Call::Advise { at, len, what } => {
            let none = VmaFlags::empty();
            let advice = match what % 6 {
                0 => Advice::Discard,
                1 => Advice::Free,
                2 => Advice::Flags(VmaFlags::NOHUGEPAGE, VmaFlags::HUGEPAGE),
                3 => Advice::AnonymousFlags(VmaFlags::WIPEONFORK, none),
                4 => Advice::Populate(Access::WRITE),
                _ => Advice::DiscardLocked,
            };
            if let Ok(range) = advised_range(at.get(), len.get()) {
                let _ = map.advise(range, advice);
            }
        }
        Call::Lock { at, len } => {
            if let Ok(range) = advised_range(at.get(), len.get()) {
                let _ = map.lock(range, LockMode::Now, false);
            }
        }
        Call::Brk { to } => drop(map.brk(to.get())),
        Call::Fault { at, access } => drop(map.resolve_fault(at.get(), Access::from_bits_truncate(access))),
        Call::Write { at, bytes } => drop(map.write(at.get(), &bytes)),
    }
}

fuzz_target!(|calls: Vec<Call>| {
    let memory = GuestMemory::detached(32 << 20).expect("the host has memory for a small sandbox");
    let layout = Layout::new(8 << 20, Randomize::No);
    let map =
        MemoryMap::with_layout(&memory, MemoryLimits::default(), layout).expect("an empty map needs little memory");
    map.set_heap(UserAddr(0x10_0010_0000));
    for call in calls.iter().take(64) {
        apply(&map, call);
        let mappings = map.mappings();
        assert!(mappings.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "{mappings:?}");
        let mapped: u64 = mappings.iter().map(|mapping| mapping.range.len()).sum();
        assert_eq!(map.usage().mapped, mapped);
    }
});
